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
from pipeline.coding.room import room
from pipeline.coding.sections import Sections, bad, deflated

#: Previous bands at most.
PREVIOUS: Final = 32
#: Distinct spectra for each of them, so that the weights are not dearer than what they save.
SPECTRA: Final = 150
#: Spectra that weights are learned from: more than of 32 weights can be told apart.
LEARN: Final = 8192
#: Bits after the point of a weight at most.
FINEST: Final = 14
#: Sums of products stay below this: what is left of int32 holds a value about its mean.
MOST_SUM: Final = (1 << 31) - (1 << 18)
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
        weights = decode_rows(take, previous, apart.rows, numba=self.numba).astype(
            np.int32, copy=False
        )
        residuals = decode_rows(take, apart.rows, apart.columns, numba=self.numba)
        residuals = residuals.astype(np.int32, copy=False)
        take.end()
        rows = np.empty((apart.rows, apart.columns), np.int32)
        kernels = row_kernels() if self.numba else None
        restore = kernels.restore if kernels else restore_rows
        restore(residuals, means, weights, bits, bound, *_range(self.shape), rows)
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
    """Finds the weights of all rows of a matrix, then predicts and quantises them.

    Rows are predicted from decoded ones, whose errors, even over 2 d + 1 counts, are taken as noise
    of their own: they add to the moments' diagonal.
    """

    def __init__(self, matrix: Matrix, bound: int, least: int, most: int) -> None:
        self._rows = matrix.rows_as(np.int32)
        self._masked, self._bound, self._range = matrix.masked, bound, (least, most)
        self._size, columns = matrix.shape
        self._previous = min(PREVIOUS, columns // SPECTRA, max(self._size - 1, 0))
        # Of the spectra that have all their values, evenly chosen.
        whole = matrix.learnable()
        every = max(1, len(whole) // LEARN)
        self._chosen = whole[every // 2 :: every]
        self._means = np.zeros(self._size, np.int32)
        if columns:
            self._means[:] = np.rint(self._rows.mean(axis=1))

    def code(self) -> _Coded:
        size, previous = self._size, self._previous
        out = _Coded(
            self._means,
            np.zeros(size, np.uint8),
            np.zeros((previous, size), np.int32),
            room("predicted", self._rows.shape, np.int32),
            room("residuals", self._rows.shape, np.int32),
            len(self._chosen),
        )
        self._learn(out)
        kept = np.empty((0, 1), np.uint8) if self._masked is None else (~self._masked).view("u1")
        compile_rows().code(
            self._rows, self._means, out.weights, out.bits, self._bound, kept, *self._range,
            out.residuals, out.decoded,
        )  # fmt: skip
        out.decoded += self._means[:, None]
        return out

    def _learn(self, out: _Coded) -> None:
        """Find weights and their bits."""
        if not self._previous or not len(self._chosen):
            return
        about = np.take(self._rows, self._chosen, axis=1) - self._means[:, None].astype(np.float64)
        moments = about @ about.T
        # of each row, summed: of its quantiser, but not more than there is to quantise
        most = len(self._chosen) * ((2 * self._bound + 1) ** 2 - 1) / 12
        noise = np.minimum(moments.diagonal(), most)
        tops = self._tops()
        for r in range(1, self._size):
            before = slice(max(0, r - self._previous), r)
            weights, out.bits[r], left = _weights(
                moments[before, before] + np.diag(noise[before]),
                moments[before, r],
                float(moments[r, r]),
                len(self._chosen),
                tops[before],
            )
            out.weights[: len(weights), r] = weights[::-1]
            noise[r] = min(left, most)

    def _tops(self) -> NDArray[Any]:
        """Give the largest magnitude that each decoded row can have, about its mean."""
        least, most = self._rows.min(axis=1) - self._bound, self._rows.max(axis=1) + self._bound
        if self._masked is not None:  # decoded as predicted
            some = self._masked.any(axis=1)
            least, most = (
                np.where(some, limit, end)
                for limit, end in zip(self._range, (least, most), strict=True)
            )
        out: NDArray[Any] = np.maximum(most - self._means, self._means - least).astype(np.float64)
        return out


def _weights(
    moments: NDArray[Any],
    about: NDArray[Any],
    power: float,
    learned: int,
    tops: NDArray[Any],
) -> tuple[NDArray[np.int32], int, float]:
    """Find the weights, as many bits after their point as are worth storing, and what remains.

    ``tops`` are the largest magnitudes of the rows: the sum of products must stay within int32,
    and so must what a prediction differs from a value about its mean.
    """
    trace = float(np.trace(moments))
    if trace <= 0:
        return np.zeros(len(about), np.int32), 0, power
    system = moments + (RIDGE * trace + 1e-3) * np.eye(len(about))
    exact = np.linalg.solve(system, about)
    left = power - 2 * float(exact @ about) + float(exact @ moments @ exact)
    # rounding each weight to 2^-bits adds trace · 2^(-2 bits) / 12
    left = max(left, learned / 12)
    enough = int(np.ceil(0.5 * np.log2(max(trace / (12 * ROUNDING * left), 1.0))))
    for bits in range(min(enough, FINEST), -1, -1):
        weights = np.rint(exact * (1 << bits))
        if (
            float(np.abs(weights) @ tops) + (1 << bits) < MOST_SUM
            and np.abs(weights).max() < 1 << 22
        ):
            return weights.astype(np.int32), bits, left
    return np.zeros(len(about), np.int32), 0, power


def _range(shape: BlockShape) -> tuple[int, int]:
    info = np.iinfo(shape.dtype)
    return int(info.min), int(info.max)


def restore_rows(
    residuals: NDArray[np.int32],
    means: NDArray[np.int32],
    weights: NDArray[np.int32],
    bits: NDArray[np.uint8],
    bound: int,
    least: int,
    most: int,
    rows: NDArray[np.int32],
) -> None:
    """Decode rows, about their means, with NumPy alone; as the loop ``kernels.restore``.

    Sums of products are modulo 2³², as those of the loop are; what is coded is added in full.
    """
    step = np.int64(2 * bound + 1)
    for r in range(len(rows)):
        last = rows[max(0, r - len(weights)) : r][::-1]
        down = int(bits[r])
        sums = weights[: len(last), r] @ last + np.int32((1 << down) >> 1)
        rows[r] = np.clip((sums >> down) + residuals[r] * step, least - means[r], most - means[r])
