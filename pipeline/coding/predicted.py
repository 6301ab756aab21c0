"""The coding for no error or a tight bound: each band predicted from the bands before it.

Block by block, the weights of up to 32 previous bands that predict a band best (least squares) are
found and stored as whole numbers; what remains is quantised inside the loop, so that the bound d
holds for the decoder's own pixels, and entropy coded. With d = 0 nothing is lost. The arithmetic is
that of 32-bit integers: any machine decodes the same bytes. After J. Mielikainen and P. Toivanen,
"Clustered DPCM for the lossless compression of hyperspectral images" (2003), with one cluster.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.apart import Apart, Matrix, take_apart
from pipeline.coding.compiled import compile_rows, row_kernels
from pipeline.coding.interface import BlockShape, BlockStats, Encoded, Masks, Pixels, check_pixels
from pipeline.coding.measure import measured
from pipeline.coding.rans import decode_rows, encode_rows
from pipeline.coding.sections import Sections, bad, deflated

#: Previous bands at most.
PREVIOUS: Final = 32
#: Distinct spectra for each of them, so that the weights are not dearer than what they save.
SPECTRA: Final = 150
#: Spectra that weights are learned from: more than of 32 weights can be told apart.
LEARN: Final = 8192
#: Bits after the point of a weight at most.
FINEST: Final = 14
#: What rounding weights may add to the variance of what remains.
ROUNDING: Final = 0.005
#: What is added to the diagonal of the normal equations, of their trace.
RIDGE: Final = 1e-9


@dataclass(frozen=True)
class PredictedCoding:
    """Prediction from previous bands with a bound.

    Parameters
    ----------
    shape : BlockShape
    block_lines : int
    max_error : int
        The bound d, counts.
    masks : Masks
        What comes back exactly whatever the bound.
    numba : bool
        ``False``: decodes with NumPy alone.
    """

    shape: BlockShape
    block_lines: int
    max_error: int = 0
    masks: Masks = field(default_factory=Masks)
    numba: bool = True

    name = "predicted"
    file_type = "PREDICTED"

    def fields(self) -> dict[str, object]:
        """Give the header fields; blocks say all else themselves."""
        return {"predicted version": 1}

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block.

        The data: ``uint16`` d and previous bands P; what is apart; for each row of the matrix the
        mean (int32) and, in a zlib section, the bits after the point of its weights (uint8);
        weights as P entropy coded rows, the nearest band's first; residuals as entropy coded rows.
        """
        pixels = check_pixels(pixels, self.shape, self.block_lines)
        matrix = take_apart(pixels, self.masks if self.max_error else Masks())
        coded = _Predictor(matrix, self.max_error, *_range(self.shape)).code()
        data = b"".join(
            (
                struct.pack("<HH", self.max_error, coded.weights.shape[0]),
                matrix.apart,
                coded.means.astype("<i4").tobytes(),
                deflated(coded.bits),
                encode_rows(coded.weights),
                encode_rows(coded.residuals),
            )
        )
        whole = Apart(Sections(matrix.apart), self.shape, len(pixels)).matrix(coded.decoded)
        stats: BlockStats = measured(pixels, whole, coded.learned)
        return Encoded(data, stats)

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        take = Sections(data)
        bound, previous = take.numbers("HH")
        if previous > PREVIOUS:
            raise bad(f"{previous} previous bands")
        apart = Apart(take, self.shape, lines)
        means = take.array("<i4", apart.rows).astype(np.int32)
        bits = take.inflated("u1", apart.rows)
        if (np.abs(means.astype(np.int64)) > 1 << 16).any() or (bits > FINEST).any():
            raise bad("means or weights out of their range")
        weights = decode_rows(take, previous, apart.rows, numba=self.numba)
        residuals = decode_rows(take, apart.rows, apart.columns, numba=self.numba)
        take.end()
        least, most = _range(self.shape)
        restore = _restorer(self.numba)
        rows = np.zeros((apart.rows, apart.columns), np.int32)
        for r in range(apart.rows):
            first = max(0, r - previous)
            used = weights[: r - first, r][::-1].copy()
            restore(
                rows,
                r,
                first,
                used,
                int(bits[r]),
                residuals[r],
                bound,
                least - means[r],
                most - means[r],
            )
        return apart.together(rows + means[:, None])


@dataclass
class _Coded:
    """What the predictor gives: see ``PredictedCoding.encode``."""

    means: NDArray[np.int32]
    bits: NDArray[np.uint8]
    weights: NDArray[np.int32]
    residuals: NDArray[np.int32]
    decoded: NDArray[np.int32]
    learned: int


class _Predictor:
    """Predicts and quantises the rows of a matrix, one after the other."""

    def __init__(self, matrix: Matrix, bound: int, least: int, most: int) -> None:
        self._kernels = compile_rows()
        self._matrix, self._bound, self._range = matrix, bound, (least, most)
        self._size, self._columns = matrix.rows.shape
        self._previous = min(PREVIOUS, self._columns // SPECTRA, max(self._size - 1, 0))
        # Of the spectra that have all their values, evenly chosen.
        whole = matrix.learnable()
        every = max(1, len(whole) // LEARN)
        self._chosen = whole[every // 2 :: every]

    def code(self) -> _Coded:
        size, columns, previous = self._size, self._columns, self._previous
        rows, masked = self._matrix.rows.astype(np.int32), self._matrix.masked
        means = np.rint(rows.mean(axis=1)).astype(np.int32) if columns else np.zeros(size, np.int32)
        out = _Coded(
            means,
            np.zeros(size, np.uint8),
            np.zeros((previous, size), np.int32),
            np.empty((size, columns), np.int32),
            np.empty((size, columns), np.int32),
            len(self._chosen),
        )
        learned = len(self._chosen)
        floats = np.empty((size, learned), np.float64)
        tops = np.zeros(size, np.int64)
        moments = np.zeros((size, size))
        sums = np.empty(columns, np.int32)
        none = np.empty(0, np.uint8)
        for r in range(size):
            first = max(0, r - previous)
            row = rows[r] - means[r]
            weights = np.zeros(r - first, np.int32)
            if r > first and learned:
                wanted = self._learned(row)
                about = floats[first:r] @ wanted
                weights, bits = _weights(
                    moments[first:r, first:r], about, float(wanted @ wanted), learned, tops[first:r]
                )
                out.bits[r] = bits
            self._kernels.predict(out.decoded, first, weights, int(out.bits[r]), sums)
            least, most = (limit - int(means[r]) for limit in self._range)
            kept = none if masked is None else (~masked[r]).view(np.uint8)
            tops[r] = self._kernels.quantise(
                row, sums, self._bound, kept, least, most, out.residuals[r], out.decoded[r]
            )
            out.weights[: r - first, r] = weights[::-1]
            floats[r] = self._learned(out.decoded[r])
            low = max(0, r + 1 - previous)
            moments[low : r + 1, r] = floats[low : r + 1] @ floats[r]
            moments[r, low : r + 1] = moments[low : r + 1, r]
        out.decoded += means[:, None]
        return out

    def _learned(self, row: NDArray[np.int32]) -> NDArray[np.float64]:
        return row[self._chosen].astype(np.float64)


def _weights(
    moments: NDArray[np.float64],
    about: NDArray[Any],
    power: float,
    learned: int,
    tops: NDArray[np.int64],
) -> tuple[NDArray[np.int32], int]:
    """Find the weights, and as many bits after their point as are worth storing.

    ``tops`` are the largest magnitudes of the rows: the sum of products must stay within int32.
    """
    trace = float(np.trace(moments))
    if trace <= 0:
        return np.zeros(len(about), np.int32), 0
    system = moments + (RIDGE * trace + 1e-3) * np.eye(len(about))
    exact = np.linalg.solve(system, about.astype(np.float64))
    left = power - 2 * float(exact @ about) + float(exact @ moments @ exact)
    # rounding each weight to 2^-bits adds trace · 2^(-2 bits) / 12
    left = max(left, learned / 12)
    enough = int(np.ceil(0.5 * np.log2(max(trace / (12 * ROUNDING * left), 1.0))))
    for bits in range(min(enough, FINEST), -1, -1):
        weights = np.rint(exact * (1 << bits))
        if (
            float(np.abs(weights) @ tops) + (1 << bits) < 1 << 31
            and np.abs(weights).max() < 1 << 22
        ):
            return weights.astype(np.int32), bits
    return np.zeros(len(about), np.int32), 0


def _range(shape: BlockShape) -> tuple[int, int]:
    info = np.iinfo(shape.dtype)
    return int(info.min), int(info.max)


def _restorer(numba: bool) -> Any:
    """Give the loop that decodes a row: numba's, or NumPy's."""
    kernels = row_kernels() if numba else None
    if kernels is None:
        return restore_row

    def restore(
        rows: Any, r: int, first: int, weights: Any, bits: int, residuals: Any, bound: int,
        least: int, most: int,
    ) -> None:  # fmt: skip
        sums = np.empty(rows.shape[1], np.int32)
        kernels.predict(rows, first, weights, bits, sums)
        kernels.restore(sums, residuals, bound, least, most, rows[r])

    return restore


def restore_row(
    rows: NDArray[np.int32],
    r: int,
    first: int,
    weights: NDArray[np.int32],
    bits: int,
    residuals: NDArray[np.int32],
    bound: int,
    least: int,
    most: int,
) -> None:
    """Decode a row with NumPy alone; sums are modulo 2³², as those of the loops are."""
    sums = weights @ rows[first:r] + np.int32((1 << bits) >> 1)
    step = np.int32(2 * bound + 1)
    rows[r] = np.clip((sums >> bits) + residuals * step, least, most)
