"""PCA with a basis for each block, one step for all components, and a bound if one is asked for.

The exact scatter matrix of a block's spectra is formed about a fixed shift; of its eigenvectors
those are kept whose scores, in whole steps, are worth their place. Basis and step are whole numbers
and sums of products stay below 2⁵³: a decoder's float64 matrix product is exact in any order, on
any machine. The residual against that decoder's pixels, if there is a bound, is coded too.
Knows blocks, sections and the entropy coder.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.apart import Apart, Matrix, take_apart
from pipeline.coding.interface import Aim, BlockShape, Encoded, Masks, Pixels
from pipeline.coding.measure import measured
from pipeline.coding.rans import decode_rows, encode_rows
from pipeline.coding.sections import Sections, bad, deflated, inflate, section

#: Bits after the point of a basis vector's elements.
BASIS_BITS: Final = 15
#: Scores are rounded to zero below this many steps from it, and by one less above: a bit costs what
#: 0.12 step² of error cost, and small scores are more often smaller than their interval's middle.
ROUND: Final = 0.4
#: Squared error in step² that a bit has to save (6 dB a bit, of step² / 12).
WORTH: Final = 0.1155
#: Bits that an element of a basis vector is stored with, beyond the spread of scores in steps.
SPARE_BITS: Final = 2
#: Trials of a step for a ratio.
TRIALS: Final = 12
#: Float64 holds whole numbers up to this exactly.
EXACT: Final = 1 << 53


@dataclass(frozen=True)
class PcaCoding:
    """PCA, ``pca version = 2``.

    Parameters
    ----------
    shape : BlockShape
    block_lines : int
    name : {"packed", "deflate"}
        How scores (and residuals) are coded: by the entropy coder, which NumPy decodes, or as byte
        planes with zlib.
    aim : Aim
        Bound, ratio or noise; only for writing.
    numba : bool
        ``False``: decodes with NumPy alone.
    """

    shape: BlockShape
    block_lines: int
    name: str = "packed"
    aim: Aim = field(default_factory=Aim)
    numba: bool = True

    file_type = "PCA"

    def fields(self) -> dict[str, object]:
        """Give the header fields; blocks say all else themselves."""
        return {"pca version": 2, "pca coding": self.name}

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block.

        The data: ``uint8`` 1 if there is a residual, ``uint16`` d, ``uint16`` components K,
        ``uint32`` step D; what is apart; the mean of each row of the matrix (int32); a zlib section
        of the zeros below each basis vector's elements (uint8 (K,)); then as coded rows the basis
        without these zeros (K, rows) and the scores (K, columns); with a residual its rows.
        """
        bound = self.aim.max_error
        matrix = take_apart(pixels, self.aim.masks if bound != 0 else Masks())
        fit = _Fit(matrix)
        budget = 0.0
        if bound is not None:
            step = max(1, round(1.5 * (2 * bound + 1)))
        elif self.aim.noise is not None:
            step = max(1, round(self.aim.noise.sigma(fit.level)))
        else:
            step = 1
        if self.aim.ratio is not None:
            budget = pixels.nbytes / self.aim.ratio - len(matrix.apart)
            step = fit.step_for(budget)
        model = fit.model(step)
        if self.aim.ratio is not None:
            model = self._within(fit, model, budget)
        decoded = clipped(model.rows(), self.shape)
        head = struct.pack("<BHHI", bound is not None, bound or 0, len(model.basis), model.step)
        parts = [head, matrix.apart, self._model_bytes(model)]
        if bound is not None:
            wide = 2 * bound + 1
            r = matrix.rows - decoded
            residual = np.sign(r) * ((np.abs(r) + bound) // wide)
            if matrix.masked is not None:
                residual[matrix.masked] = 0
            parts.append(self._rows(residual.astype(np.int32)))
            decoded = clipped(decoded + residual * wide, self.shape)
        whole = Apart(Sections(matrix.apart), self.shape, len(pixels)).together(decoded)
        stats = measured(pixels, whole, fit.learned, len(model.basis))
        return Encoded(b"".join(parts), stats)

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        take = Sections(data)
        bounded, bound, components, step = take.numbers("BHHI")
        apart = Apart(take, self.shape, lines)
        means = take.array("<i4", apart.rows).astype(np.int32)
        zeros = take.inflated("u1", components)
        if bounded > 1 or components > apart.rows or (zeros > BASIS_BITS).any():
            raise bad("numbers out of their range")
        basis = self._taken(take, components, apart.rows) << zeros[:, None].astype(np.int32)
        scores = self._taken(take, components, apart.columns)
        model = Model(basis, scores, step, means)
        if not model.exact():
            raise bad("numbers too large for an exact product")
        rows = clipped(model.rows(), self.shape)
        if bounded:
            residual = self._taken(take, apart.rows, apart.columns)
            if residual.size and np.abs(residual).max() * (2 * bound + 1) > 1 << 24:
                raise bad("residuals out of their range")
            rows = clipped(rows + residual * np.int32(2 * bound + 1), self.shape)
        take.end()
        return apart.together(rows)

    def _model_bytes(self, model: Model) -> bytes:
        lowest = np.bitwise_or.reduce(model.basis, axis=1)
        zeros = np.array([((v & -v).bit_length() - 1) if v else 0 for v in lowest.tolist()], "u1")
        basis = model.basis >> zeros[:, None].astype(np.int32)
        return b"".join(
            (
                model.means.astype("<i4").tobytes(),
                deflated(zeros),
                self._rows(basis.astype(np.int32)),
                self._rows(model.scores),
            )
        )

    def _rows(self, values: NDArray[np.int32]) -> bytes:
        if self.name == "packed":
            return encode_rows(values)
        import imagecodecs

        zigzag = ((values << 1) ^ (values >> 31)).view(np.uint32)
        size = 1 if zigzag.max(initial=0) < 256 else 2 if zigzag.max() < 65536 else 4
        planes = zigzag.astype(f"<u{size}").view(np.uint8).reshape(values.size, size).T
        packed = imagecodecs.zlib_encode(np.ascontiguousarray(planes).tobytes(), 6)
        return struct.pack("<B", size) + section(bytes(packed))

    def _taken(self, take: Sections, rows: int, n: int) -> NDArray[np.int32]:
        if self.name == "packed":
            return decode_rows(take, rows, n, numba=self.numba)
        (size,) = take.numbers("B")
        if size not in (1, 2, 4):
            raise bad(f"{size} byte planes")
        planes = inflate(take.section(), "u1", size * rows * n).reshape(size, rows, n)
        zigzag = np.zeros((rows, n), np.uint32)
        for i in range(size):
            zigzag |= planes[i].astype(np.uint32) << (8 * i)
        values: NDArray[np.int32] = (zigzag >> 1).astype(np.int32) ^ -(zigzag & 1).astype(np.int32)
        if values.size and max(-int(values.min()), int(values.max())) > 1 << 24:
            raise bad("values out of their range")
        return values

    def _within(self, fit: _Fit, model: Model, budget: float) -> Model:
        """Widen the step until the bytes, counted, are within the budget."""
        for _ in range(TRIALS):
            size = len(self._model_bytes(model)) + 9
            if size <= budget or not len(model.basis):
                break
            step = max(model.step + 1, int(model.step * (size / budget) ** 0.7))
            model = fit.model(step)
        return model


@dataclass(frozen=True)
class Model:
    """What a block is reconstructed from.

    Attributes
    ----------
    basis : ndarray of int32 (components, rows)
        In units of 2⁻¹⁵, -32768 … 32767.
    scores : ndarray of int32 (components, columns)
        In steps.
    step : int
        counts.
    means : ndarray of int32 (rows,)
        counts; what scores are about.
    """

    basis: NDArray[np.int32]
    scores: NDArray[np.int32]
    step: int
    means: NDArray[np.int32]

    def exact(self) -> bool:
        """Tell whether every sum of products is a whole number that float64 holds."""
        if not self.scores.size or not self.basis.size:
            return True
        top = max(int(self.scores.max()), -int(self.scores.min()))
        largest = max(int(self.basis.max()), -int(self.basis.min()))
        within = largest <= 1 << BASIS_BITS and int(np.abs(self.means).max()) <= 1 << 16
        return within and top * largest * self.step * len(self.basis) < EXACT >> 1

    def rows(self) -> NDArray[np.float64]:
        """Reconstruct the matrix: ``mean + ⌊(Σ basis · score · step + 2¹⁴) / 2¹⁵⌋``, whole."""
        about = (self.means.astype(np.float64) + 0.5)[:, None]
        if not len(self.basis):
            return np.zeros((len(self.means), self.scores.shape[1])) + np.floor(about)
        out: NDArray[Any] = (self.basis.T * (self.step / (1 << BASIS_BITS))) @ (
            self.scores.astype(np.float64)
        )
        out += about
        np.floor(out, out=out)
        return out


class _Fit:
    """A matrix's mean, scatter and eigenvectors, and what a step makes of them."""

    def __init__(self, matrix: Matrix) -> None:
        rows, masked = matrix.rows, matrix.masked
        self._size, self._columns = rows.shape
        whole = rows if masked is None else rows[:, ~masked.any(axis=0)]
        if not whole.shape[1]:
            whole = rows
        self.learned = whole.shape[1]
        if self._columns:
            self._means = np.rint(whole.mean(axis=1)).astype(np.int32)
        else:
            self._means = np.zeros(self._size, np.int32)
        self.level = float(self._means.mean()) if self._size else 0.0
        about = self._means[:, None].astype(np.float32)
        centred = rows.astype(np.float32) - about
        learned = centred if masked is None else whole.astype(np.float32) - about
        scatter = (learned @ learned.T).astype(np.float64)
        values, vectors = np.linalg.eigh(scatter) if self._size else (np.zeros(0), scatter)
        self._power = np.maximum(values[::-1], 0.0) / max(self.learned, 1)
        self._vectors = np.ascontiguousarray(vectors[:, ::-1].T)
        self._centred = centred
        self._projected = np.empty((0, self._columns), np.float32)

    def model(self, step: int) -> Model:
        """Quantise with a step; a larger one where products would not be exact."""
        while True:
            made = self._quantised(step)
            if made.exact():
                return made
            step *= 2

    def step_for(self, budget: float) -> int:
        """Guess the step at which scores and basis take so many bytes, from variances alone."""
        low, high = 0.0, 17.0
        for _ in range(20):
            middle = (low + high) / 2
            spread = np.sqrt(self._power) / 2**middle
            bits = np.log2(1 + 2.0 * spread**1.2)
            kept = spread > 0.3
            basis = np.minimum(np.log2(np.maximum(spread, 1)) + SPARE_BITS, BASIS_BITS)
            total = bits.sum() * self._columns + (basis * kept).sum() * self._size
            low, high = (middle, high) if total > 8 * budget else (low, middle)
        return max(1, round(2**high))

    def _scores(self, count: int) -> NDArray[np.float32]:
        have = len(self._projected)
        if count > have:
            more = self._vectors[have:count].astype(np.float32) @ self._centred
            self._projected = np.concatenate([self._projected, more]) if have else more
        return self._projected[:count]

    def _quantised(self, step: int) -> Model:
        # Beyond these no score reaches a step, but for single outliers.
        count = int((self._power > (0.15 * step) ** 2).sum())
        exact = self._scores(count) * np.float32(1 / step)
        scores = np.abs(exact)
        scores += np.float32(ROUND)
        np.floor(scores, out=scores)
        np.copysign(scores, exact, out=scores)
        spread = np.sqrt(self._power[:count]) / step
        bits = np.clip(np.ceil(np.log2(np.maximum(spread, 1e-3))) + SPARE_BITS + 2, 4, BASIS_BITS)
        saved = (exact * scores).sum(axis=1) * 2 - (scores * scores).sum(axis=1)
        hits = np.count_nonzero(scores, axis=1)
        cost = bits * self._size * 0.7 + hits * (
            2 + np.log2(np.maximum(self._columns / np.maximum(hits, 1), 1))
        )
        kept = np.flatnonzero((hits > 0) & (saved > WORTH * cost))
        units = (2.0 ** (BASIS_BITS - bits[kept]))[:, None]
        basis = np.rint(self._vectors[kept] * (1 << BASIS_BITS) / units) * units
        basis = np.clip(basis, -(1 << BASIS_BITS), (1 << BASIS_BITS) - units)
        return Model(basis.astype(np.int32), scores[kept].astype(np.int32), step, self._means)


def clipped(rows: NDArray[Any], shape: BlockShape) -> NDArray[np.int32]:
    """Clip reconstructed values to what the pixels' type holds."""
    info = np.iinfo(shape.dtype)
    out: NDArray[np.int32] = np.clip(rows, info.min, info.max).astype(np.int32)
    return out
