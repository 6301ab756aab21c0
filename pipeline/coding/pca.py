"""PCA with a basis for each block, one step for all components, and a bound if one is asked for.

The exact scatter matrix of a block's spectra is formed about a fixed shift; of its eigenvectors
those are kept whose scores, in whole steps, are worth their place. Basis and step are whole numbers
and sums of products stay below 2⁵³: a decoder's float64 matrix product is exact in any order, on
any machine. The residual against that decoder's pixels, if there is a bound, is coded too.
Knows blocks, sections and the entropy coder.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pipeline.coding.apart import Apart, Matrix, take_apart
from pipeline.coding.compiled import compile_pixels, compile_rows, row_kernels
from pipeline.coding.interface import Aim, BlockShape, Encoded, Masks, Noise, Pixels, check_pixels
from pipeline.coding.measure import measured
from pipeline.coding.rans import decode_rows, encode_rows
from pipeline.coding.sections import Sections, bad, deflated, section

#: Bits after the point of a basis vector's elements.
BASIS_BITS: Final = 15
#: Bits after the point of a step.
STEP_BITS: Final = 4
#: A score goes to the next whole step from this fraction of it on: a bit costs what 0.12 step² of
#: error cost, and small scores are more often below their interval's middle than above.
ROUND_UP: Final = 0.6
#: Squared error in step² that a bit has to save. 6 dB a bit, of step² / 12, make 0.12; with a
#: little more PSNR stays and angles gain.
WORTH: Final = 0.2
#: Bits that an element of a basis vector is stored with, beyond the spread of scores in steps.
SPARE_BITS: Final = 6
#: d and components; then whether there is a residual, and the step.
HEAD: Final = "<HH"
STEP_HEAD: Final = "<BI"
#: For a ratio a step is tried on so many spectra (their tables and lanes take about so many bytes),
#: then on all, more often only if no step was wide enough.
SAMPLE: Final = 3200
SAMPLE_BYTES: Final = 150
SAMPLE_TRIALS: Final = 6
TRIALS: Final = 3
MOST_TRIALS: Final = 30
#: Widest step that is tried.
LARGEST: Final = 1 << 22
#: A block this close to the bytes it may have is not tried again; trials aim between.
CLOSE: Final = 0.95
AIMED: Final = 0.98
#: How far from it the size of a sample may be.
ASTRAY: Final = 0.015
#: Step of the scores of a bounded block, in intervals 2 d + 1.
FACTOR: Final = 1.5
#: libdeflate's; of residuals 6 takes 1 % less and twice the time.
LEVEL: Final = 3
#: Spectra whose mean is what scores are about; it needs not be the mean of all.
MEAN_OF: Final = 4096
#: Spread of the weakest component that is looked at, in steps.
WEAKEST: Final = 0.4
#: Columns that are reconstructed together: their sums stay in the cache.
TILE: Final = 1024
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

        The data: ``uint16`` d and components K; what is apart; the mean of each row of the matrix
        (int32); a zlib section of the zeros below each basis vector's elements (uint8 (K,)); the
        basis without these zeros as coded rows (K, rows); ``uint8`` 1 if there is a residual and
        ``uint32`` step D in 1/16 counts; the scores as coded rows (K, columns); the residual's
        rows, if there is one.
        """
        pixels = check_pixels(pixels, self.shape, self.block_lines)
        bound = self.aim.max_error
        matrix = take_apart(pixels, self.aim.masks if bound != 0 else Masks())
        fit = _Fit(matrix)
        if bound is not None:
            model = fit.model(_units(FACTOR * (2 * bound + 1)))
            coded = self._model_bytes(model)
        elif self.aim.ratio is not None:
            around = struct.calcsize(HEAD) + len(matrix.apart)
            model, coded = self._within(fit, pixels.nbytes / self.aim.ratio - around)
        else:
            noise = self.aim.noise or Noise(1.0)
            model = fit.model(_units(noise.sigma(fit.level)))
            coded = self._model_bytes(model)
        decoded = settled(model, self.shape)
        head = struct.pack(HEAD, bound or 0, len(model.basis))
        parts = [head, matrix.apart, coded]
        if bound is not None:
            parts.append(self._rows(_residual(matrix, decoded, bound, self.shape)))
        whole = Apart(Sections(matrix.apart), self.shape, len(pixels)).matrix(decoded)
        stats = measured(pixels, whole, fit.learned, len(model.basis))
        if len(model.basis):
            step = model.step / (1 << STEP_BITS)
            stats = replace(stats, steps=(step, step))
        return Encoded(b"".join(parts), stats)

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        take = Sections(data)
        bound, components = take.numbers(HEAD[1:])
        apart = Apart(take, self.shape, lines)
        means = take.array("<i4", apart.rows).astype(np.int32)
        zeros = take.inflated("u1", components)
        if components > apart.rows or (zeros > BASIS_BITS).any():
            raise bad("numbers out of their range")
        basis = self._taken(take, components, apart.rows) << zeros[:, None].astype(np.int32)
        bounded, step = take.numbers(STEP_HEAD[1:])
        if bounded > 1:
            raise bad("a residual neither there nor not")
        scores = self._taken(take, components, apart.columns)
        model = Model(basis, scores, step, means)
        if not model.exact():
            raise bad("numbers too large for an exact product")
        rows = settled(model, self.shape, numba=self.numba)
        if bounded:
            residual = self._taken(take, apart.rows, apart.columns)
            rows = _corrected(rows, residual, bound, self.shape)
        take.end()
        return apart.together(rows)

    def _model_bytes(self, model: Model) -> bytes:
        return self._basis_bytes(model) + self._rows(model.scores)

    def _basis_bytes(self, model: Model) -> bytes:
        lowest = np.bitwise_or.reduce(model.basis, axis=1)
        zeros = np.array([((v & -v).bit_length() - 1) if v else 0 for v in lowest.tolist()], "u1")
        basis = model.basis >> zeros[:, None].astype(np.int32)
        return b"".join(
            (
                model.means.astype("<i4").tobytes(),
                deflated(zeros),
                self._rows(basis.astype(np.int32)),
                struct.pack(STEP_HEAD, self.aim.max_error is not None, model.step),
            )
        )

    def _rows(self, values: NDArray[np.int32]) -> bytes:
        if self.name == "packed":
            return encode_rows(values)
        if not values.size:
            return b""
        zigzag = ((values << 1) ^ (values >> 31)).view(np.uint32)
        size = 1 if zigzag.max() < 256 else 2 if zigzag.max() < 65536 else 4
        planes = zigzag.astype(f"<u{size}").view(np.uint8).reshape(values.size, size).T
        packed = imagecodecs.deflate_encode(np.ascontiguousarray(planes).tobytes(), LEVEL)
        return struct.pack("<B", size) + section(bytes(packed))

    def _taken(self, take: Sections, rows: int, n: int) -> NDArray[np.int32]:
        if self.name == "packed":
            return decode_rows(take, rows, n, numba=self.numba)
        if not rows * n:
            return np.zeros((rows, n), np.int32)
        (size,) = take.numbers("B")
        if size not in (1, 2, 4):
            raise bad(f"{size} byte planes")
        planes = take.inflated_fast(size * rows * n).reshape(size, rows * n)
        values: NDArray[np.int32] = np.empty((rows, n), np.int32)
        if kernels := row_kernels() if self.numba else None:
            kernels.join_planes(planes, values.reshape(-1))
        else:
            z = np.zeros(rows * n, np.uint32)
            for i, plane in enumerate(planes):
                z |= plane.astype(np.uint32) << np.uint32(8 * i)
            values = ((z >> 1).astype(np.int32) ^ -(z & 1).astype(np.int32)).reshape(rows, n)
        if values.size and max(-int(values.min()), int(values.max())) > 1 << 24:
            raise bad("values out of their range")
        return values

    def _within(self, fit: _Fit, budget: float) -> tuple[Model, bytes]:
        """Find the smallest step whose bytes, counted, are within the budget."""
        every, step = max(1, fit.columns // SAMPLE), fit.guess(budget)
        for _ in range(SAMPLE_TRIALS):
            model = fit.model(round(step), every)
            scores = max(len(self._rows(model.scores)) - SAMPLE_BYTES, 0)
            size = len(self._basis_bytes(model)) + SAMPLE_BYTES + every * scores
            aimed = max(AIMED * budget, 1.0)
            if abs(size - aimed) < ASTRAY * aimed:
                break
            step = min(max(step * size / aimed, 1.0), LARGEST)
        best: tuple[Model, bytes] | None = None
        tried = round(step)
        for trial in range(MOST_TRIALS):
            model = fit.model(tried)
            coded = self._model_bytes(model)
            size = len(coded)
            if size <= budget and (best is None or model.step < best[0].step):
                best = model, coded
            if not len(model.basis) or CLOSE * budget < size <= budget:
                break
            if best is not None and trial >= TRIALS:
                break
            wanted = max(1, round(tried * size / max(AIMED * budget, 1.0)))
            tried = max(wanted, tried + 1) if size > budget else wanted
            if tried > LARGEST or (best is not None and tried >= best[0].step):
                break
        return best or (model, coded)


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
        In units of 1/16 count.
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

    def about_means(self, first: int, end: int) -> NDArray[np.float64]:
        """Give ``Σ basis · score · step / 2¹⁹``, exact: (rows, columns first … end − 1)."""
        scale = self.step / (1 << (BASIS_BITS + STEP_BITS))
        out: NDArray[Any] = (self.basis.T * scale) @ self.scores[:, first:end].astype(np.float64)
        return out


class _Fit:
    """A matrix's mean, scatter and eigenvectors, and what a step makes of them."""

    def __init__(self, matrix: Matrix) -> None:
        rows = matrix.rows
        self._size, self.columns = rows.shape
        self._means = np.zeros(self._size, np.int32)
        if self.columns:
            # Of masked values the matrix holds their band's mean.
            some = rows[:, :: max(1, self.columns // MEAN_OF)]
            self._means[:] = np.rint(some.mean(axis=1))
        self.level = float(self._means.mean()) if self._size else 0.0
        centred = np.empty(rows.shape, np.float32)
        compile_pixels(rows.dtype).centre(rows, self._means, centred)
        chosen = matrix.learnable()
        learned = centred if len(chosen) == self.columns else centred[:, chosen]
        self.learned = learned.shape[1]
        scatter = (learned @ learned.T).astype(np.float64)
        values, vectors = np.linalg.eigh(scatter) if self._size else (np.zeros(0), scatter)
        self._power = np.maximum(values[::-1], 0.0) / max(self.learned, 1)
        self._vectors = np.ascontiguousarray(vectors[:, ::-1].T)
        self._centred = centred
        self._projected = np.empty((0, self.columns), np.float32)

    def model(self, step: int, every: int = 1) -> Model:
        """Quantise with a step; a larger one where products would not be exact.

        Of the scores, those of each ``every``-th spectrum.
        """
        while True:
            made = self._quantised(step, every)
            if made.exact():
                return made
            step *= 2

    def guess(self, budget: float) -> float:
        """Guess the step that leaves so many bytes: log2 (3 spread / step) bits a score."""
        spread = 3.0 * np.sqrt(self._power) * (1 << STEP_BITS)
        low, high = 0.0, float(np.log2(LARGEST))
        for _ in range(12):
            middle = (low + high) / 2
            bits = self.columns * np.log2(np.maximum(spread / 2**middle, 1.0)).sum()
            low, high = (middle, high) if bits > 8 * budget else (low, middle)
        return float(2**high)

    def _scores(self, count: int) -> NDArray[np.float32]:
        have = len(self._projected)
        if count > have:
            more = self._vectors[have:count].astype(np.float32) @ self._centred
            self._projected = np.concatenate([self._projected, more]) if have else more
        return self._projected[:count]

    def _quantised(self, whole: int, every: int) -> Model:
        step = whole / (1 << STEP_BITS)
        # What is weaker has a score of a step here and there, too few to be worth a basis vector.
        count = int((self._power > (WEAKEST * step) ** 2).sum())
        exact = np.ascontiguousarray(self._scores(count)[:, ::every])
        scores = np.empty(exact.shape, np.int32)
        saved, hits = np.empty(count), np.empty(count, np.int64)
        scale, add = np.float32(1 / step), np.float32(1 - ROUND_UP)
        compile_rows().round_scores(exact, scale, add, scores, saved, hits)
        saved *= every
        hits *= every
        spread = np.sqrt(self._power[:count]) / step
        bits = np.clip(np.ceil(np.log2(np.maximum(spread, 1e-3))) + SPARE_BITS, 4, BASIS_BITS)
        cost = bits * self._size * 0.7 + hits * (
            2 + np.log2(np.maximum(self.columns / np.maximum(hits, 1), 1))
        )
        kept = np.flatnonzero((hits > 0) & (saved > WORTH * cost))
        units = (2.0 ** (BASIS_BITS - bits[kept]))[:, None]
        basis = np.rint(self._vectors[kept] * (1 << BASIS_BITS) / units) * units
        basis = np.clip(basis, -(1 << BASIS_BITS), (1 << BASIS_BITS) - units)
        return Model(basis.astype(np.int32), scores[kept], whole, self._means)


def _units(counts: float) -> int:
    return max(1, round(counts * (1 << STEP_BITS)))


def settled(model: Model, shape: BlockShape, *, numba: bool = True) -> NDArray[np.int32]:
    """Reconstruct: ``mean + ⌊Σ basis · score · step / 2¹⁹ + ½⌋``, clipped to the pixels' type."""
    info, columns = np.iinfo(shape.dtype), model.scores.shape[1]
    kernels = row_kernels() if numba else None
    out = np.empty((len(model.means), columns), np.int32)
    for first in range(0, columns, TILE):
        end = min(first + TILE, columns)
        exact = model.about_means(first, end)
        if kernels:
            kernels.settle(exact, model.means, int(info.min), int(info.max), first, out)
        else:
            exact += model.means[:, None] + 0.5
            out[:, first:end] = np.clip(np.floor(exact), info.min, info.max)
    return out


def _residual(
    matrix: Matrix, decoded: NDArray[np.int32], bound: int, shape: BlockShape
) -> NDArray[np.int32]:
    """Quantise the residual of decoded rows, and correct them as a decoder does."""
    info = np.iinfo(shape.dtype)
    kept = np.empty((0, 1), np.uint8)
    if matrix.masked is not None:
        kept = (~matrix.masked).view(np.uint8)
    coded = np.empty_like(decoded)
    limits = int(info.min), int(info.max)
    compile_rows().residual(matrix.rows.astype(np.int32), decoded, bound, kept, *limits, coded)
    return coded


def _corrected(
    rows: NDArray[np.int32], residual: NDArray[np.int32], bound: int, shape: BlockShape
) -> NDArray[np.int32]:
    info = np.iinfo(shape.dtype)
    rows += residual * np.int32(2 * bound + 1)  # modulo 2³², whatever a damaged block holds
    return np.clip(rows, info.min, info.max, out=rows)
