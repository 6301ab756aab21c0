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
from typing import Final

import imagecodecs
import numpy as np

from pipeline.coding.apart import Apart, Matrix, take_apart
from pipeline.coding.compiled import has_loops, row_kernels
from pipeline.coding.interface import (
    Aim,
    BlockShape,
    BlockStats,
    Encoded,
    Masks,
    Noise,
    Pixels,
    check_pixels,
)
from pipeline.coding.measure import measured
from pipeline.coding.pca_fit import LARGEST, Fit
from pipeline.coding.rans import Plan, Rows, decode_rows, encode_rows, plan_rows
from pipeline.coding.rebuild import (
    BASIS_BITS,
    STEP_BITS,
    Checked,
    Model,
    checked,
    corrected,
    rebuilt,
    settled,
    tops_of,
)
from pipeline.coding.sections import Sections, bad, deflated, section

#: d and components; then whether there is a residual, and the step.
HEAD: Final = "<HH"
STEP_HEAD: Final = "<BI"
#: For a ratio so many steps are tried on all spectra, more only if none was wide enough.
TRIALS: Final = 3
MOST_TRIALS: Final = 30
#: A block this close to the bytes it may have is not tried again; trials aim between.
CLOSE: Final = 0.96
AIMED: Final = 0.985
#: So many scores are not coded before it is known what that will take.
PLANNED: Final = 1 << 20
#: Coded rows are taken to be so much larger than their plan says.
SURE: Final = 1.002
#: Bytes of real scenes, for each that the fit estimates; by coding.
OFF: Final = {"packed": 1.0, "deflate": 1.1}
#: And as many more as this is to the columns: what is stored of each class and lane.
OFF_COLUMNS: Final = 230
#: Step of the scores of a bounded block, in intervals 2 d + 1.
FACTOR: Final = 1.5
#: libdeflate's; of residuals 6 takes 1 % less and twice the time.
LEVEL: Final = 3


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
        fit = Fit(matrix)
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
        found = checked(model, matrix, bound)
        head = struct.pack(HEAD, bound or 0, len(model.basis))
        parts = [head, matrix.apart, coded]
        if found.residual is not None:
            parts.append(self._rows(found.residual))
        data = b"".join(parts)
        stats = self._stats(pixels, matrix, found, fit.learned, len(model.basis))
        if len(model.basis):
            step = model.step / (1 << STEP_BITS)
            stats = replace(stats, steps=(step, step))
        return Encoded(data, stats)

    def _stats(
        self, pixels: Pixels, matrix: Matrix, found: Checked, learned: int, components: int
    ) -> BlockStats:
        if found.decoded is not None:
            whole = Apart(Sections(matrix.apart), self.shape, len(pixels)).matrix(found.decoded)
            return measured(pixels, whole, learned, components)
        return BlockStats(
            pixels.size,
            found.max_error,
            found.squared_error,
            found.angle,
            found.spectra,
            learned,
            components,
        )

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        take = Sections(data)
        bound, components = take.numbers(HEAD[1:])
        apart = Apart(take, self.shape, lines)
        means = take.array("<i4", apart.rows).astype(np.int32)
        zeros = take.inflated("u1", components)
        if components > apart.rows or (zeros > BASIS_BITS).any():
            raise bad("numbers out of their range")
        basis = self._taken(take, components, apart.rows).astype(np.int32)
        if basis.size and max(-int(basis.min()), int(basis.max())) > 1 << BASIS_BITS:
            raise bad("a basis out of its range")
        basis <<= zeros[:, None].astype(np.int32)
        bounded, step = take.numbers(STEP_HEAD[1:])
        if bounded > 1:
            raise bad("a residual neither there nor not")
        scores = self._taken(take, components, apart.columns)
        model = Model(basis, scores, step, means, tops_of(scores))
        if not model.exact():
            raise bad("numbers too large for an exact product")
        residual = self._taken(take, apart.rows, apart.columns) if bounded else None
        take.end()
        if self.numba and has_loops():
            return rebuilt(model, residual, bound, apart)
        rows = settled(model, self.shape)
        if residual is not None:
            rows = corrected(rows, residual, bound, self.shape.dtype)
        return apart.together(rows)

    def _model_bytes(self, model: Model, plan: Plan | None = None) -> bytes:
        return self._basis_bytes(model) + self._rows(model.scores, plan)

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

    def _rows(self, values: Rows, plan: Plan | None = None) -> bytes:
        if self.name == "packed":
            return encode_rows(values, plan)
        if not values.size:
            return b""
        high, unsigned = 8 * values.itemsize - 1, f"u{values.itemsize}"
        zigzag = ((values << 1) ^ (values >> high)).view(unsigned)
        size = 1 if zigzag.max() < 256 else 2 if zigzag.max() < 65536 else 4
        planes = zigzag.astype(f"<u{size}").view(np.uint8).reshape(values.size, size).T
        packed = imagecodecs.deflate_encode(np.ascontiguousarray(planes).tobytes(), LEVEL)
        return struct.pack("<B", size) + section(bytes(packed))

    def _taken(self, take: Sections, rows: int, n: int) -> Rows:
        if self.name == "packed":
            return decode_rows(take, rows, n, numba=self.numba, narrow=True)
        if not rows * n:
            return np.zeros((rows, n), np.int32)
        (size,) = take.numbers("B")
        if size not in (1, 2, 4):
            raise bad(f"{size} byte planes")
        planes = take.inflated_fast(size * rows * n).reshape(size, rows * n)
        values = np.empty((rows, n), np.int16 if size < 4 else np.int32)
        if kernels := row_kernels() if self.numba else None:
            join = kernels.join_narrow if size < 4 else kernels.join_planes
            join(planes, values.reshape(-1))
        else:
            z = np.zeros(rows * n, np.uint32)
            for i, plane in enumerate(planes):
                z |= plane.astype(np.uint32) << np.uint32(8 * i)
            joined = (z >> 1).astype(np.int32) ^ -(z & 1).astype(np.int32)
            values = joined.reshape(rows, n)
        return values

    def _within(self, fit: Fit, budget: float) -> tuple[Model, bytes]:
        """Find the smallest step whose bytes, counted, are within the budget."""
        aimed = max(AIMED * budget, 1.0)
        best: tuple[Model, bytes | Plan] | None = None
        tried = fit.step_for(aimed, OFF[self.name] + OFF_COLUMNS / max(fit.columns, 1))
        for trial in range(MOST_TRIALS):
            model = fit.model(tried)
            made, size = self._planned(model)
            close = CLOSE * budget < size <= budget
            if close and not isinstance(made, bytes):
                made = self._model_bytes(model, made)
                size = len(made)
            if size <= budget and (best is None or model.step < best[0].step):
                best = model, made
            if not len(model.basis) or (close and size <= budget):
                break
            if best is not None and trial >= TRIALS:
                break
            wanted = fit.step_for(aimed, size / fit.estimate(tried))
            tried = max(wanted, tried + 1 + (tried >> 9)) if size > budget else wanted
            if tried > LARGEST or (best is not None and tried >= best[0].step):
                break
        model, made = best or (model, made)
        return model, made if isinstance(made, bytes) else self._model_bytes(model, made)

    def _planned(self, model: Model) -> tuple[bytes | Plan, float]:
        """Give a model's bytes, or where that is quicker how they are made; and their number."""
        if self.name != "packed" or model.scores.size < PLANNED:
            made = self._model_bytes(model)
            return made, len(made)
        plan = plan_rows(model.scores)
        return plan, SURE * plan.size(model.scores.shape[1]) + len(self._basis_bytes(model))


def _units(counts: float) -> int:
    return max(1, round(counts * (1 << STEP_BITS)))
