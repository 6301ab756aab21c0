"""What a decoder makes of basis and scores, exactly: pixels, and for a writer how wrong they are.

Basis and step are whole numbers and sums of products stay below 2⁵³: a float64 matrix product is
exact in any order, on any machine. So is one in float32, twice as fast, of the components whose
sums stay below 2²⁴: the weak ones, which are most. Knows models and matrices of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.apart import Apart, Matrix
from pipeline.coding.compiled import compile_rebuild
from pipeline.coding.interface import BlockShape, Pixels
from pipeline.coding.rans import Rows
from pipeline.coding.room import room

#: Bits after the point of a basis vector's elements.
BASIS_BITS: Final = 15
#: Bits after the point of a step.
STEP_BITS: Final = 4
#: Columns that are reconstructed together: their sums stay in the cache.
TILE: Final = 1024
#: Float64 holds whole numbers up to this exactly.
EXACT: Final = 1 << 53
#: And float32 those of so many bits.
SINGLE_BITS: Final = 24


_NONE: Final = np.empty((0, 1), np.int16)


class Tile(NamedTuple):
    """Sums of products of some columns.

    Attributes
    ----------
    first : int
        The number of the first of the columns.
    sums : ndarray of float64 (rows, columns)
        Of the strong components, counts; no rows where there is one or none.
    leads, line : ndarray of float64 (rows,) and (columns,)
        Where there is one, their products are the sums; else ``line`` is empty.
    rest : ndarray of float32 (rows, columns)
        Of the weak ones, not scaled, their basis without its zeros.
    """

    first: int
    sums: NDArray[np.float64]
    leads: NDArray[np.float64]
    line: NDArray[np.float64]
    rest: NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """What a block is reconstructed from.

    Attributes
    ----------
    basis : ndarray of int32 (components, rows)
        In units of 2⁻¹⁵, -32768 … 32767.
    scores : ndarray of int32 or int16 (components, columns)
        In steps.
    step : int
        In units of 1/16 count.
    means : ndarray of int32 (rows,)
        counts; what scores are about.
    tops : ndarray of int64 (components,)
        Largest magnitudes of the scores.
    """

    basis: NDArray[np.int32]
    scores: Rows
    step: int
    means: NDArray[np.int32]

    tops: NDArray[np.int64]

    def exact(self) -> bool:
        """Tell whether every sum of products is a whole number that float64 holds."""
        if not self.scores.size or not self.basis.size:
            return True
        top = int(self.tops.max())
        largest = max(int(self.basis.max()), -int(self.basis.min()))
        within = largest <= 1 << BASIS_BITS and int(np.abs(self.means).max()) <= 1 << 16
        return within and top * largest * self.step * len(self.basis) < EXACT >> 1

    def split(self) -> tuple[int, int]:
        """Tell from which component on sums of products are whole numbers that float32 holds.

        Returns
        -------
        first : int
            The components from this one on.
        zeros : int
            Bits that are zero below all their basis vectors' elements.
        """
        ored = np.bitwise_or.reduce(self.basis, axis=1, initial=0)
        lowest = np.minimum.accumulate(np.where(ored, ored & -ored, 1 << BASIS_BITS)[::-1])
        # of each row by itself: the largest elements of basis vectors are in different rows
        products = np.cumsum((np.abs(self.basis) * self.tops[:, None])[::-1], axis=0)
        products = products.max(axis=1, initial=0)
        within = products < lowest.astype(np.int64) << SINGLE_BITS
        count = len(within) if within.all() else int(within.argmin())
        zeros = int(lowest[count - 1]).bit_length() - 1 if count else 0
        return len(within) - count, zeros

    def tiles(self, first: int) -> Iterator[Tile]:
        """Give ``Σ basis · score · step / 2¹⁹``, exact, of some columns after others.

        The components before ``first`` in float64, those from it on in float32. The arrays are used
        again for the next columns.
        """
        columns = self.scores.shape[1]
        _, zeros = self.split()
        strong = self.basis[:first].T * self.scale
        weak = (self.basis[first:] >> zeros).T.astype(np.float32)
        # one strong component alone: its products are not worth an array
        leads = np.ascontiguousarray(strong[:, 0]) if first == 1 else np.zeros(len(strong))
        wide, nothing = 0, np.zeros(0)
        for at in range(0, columns, TILE):
            if wide != min(TILE, columns - at):
                wide = min(TILE, columns - at)
                some = np.empty((first, wide))
                few = np.empty((weak.shape[1], wide), np.float32)
                sums = np.empty((len(self.means) if first > 1 else 0, wide))
                rest = np.empty((len(self.means), wide), np.float32)
            np.copyto(some, self.scores[:first, at : at + wide])
            if first > 1:
                np.matmul(strong, some, out=sums)
            np.copyto(few, self.scores[first:, at : at + wide])
            np.matmul(weak, few, out=rest)
            yield Tile(at, sums, leads, some[0] if first == 1 else nothing, rest)

    @property
    def scale(self) -> float:
        """What a product of basis and score is worth, in counts."""
        return self.step / (1 << (BASIS_BITS + STEP_BITS))


def tops_of(scores: Rows) -> NDArray[np.int64]:
    """Give the largest magnitude of each component's scores."""
    if not scores.size:
        return np.zeros(len(scores), np.int64)
    most, least = scores.max(axis=1).astype(np.int64), scores.min(axis=1).astype(np.int64)
    tops: NDArray[np.int64] = np.maximum(most, -least)
    return tops


def settled(model: Model, shape: BlockShape) -> NDArray[np.int32]:
    """Reconstruct with NumPy: ``mean + ⌊Σ basis · score · step / 2¹⁹ + ½⌋``, clipped."""
    info = np.iinfo(shape.dtype)
    out = np.empty((len(model.means), model.scores.shape[1]), np.int32)
    for first, sums, leads, line, _ in model.tiles(len(model.basis)):
        strong = sums if len(sums) else leads[:, None] * line if len(line) else 0.0
        exact = strong + (model.means[:, None] + 0.5)
        out[:, first : first + TILE] = np.clip(np.floor(exact), info.min, info.max)
    return out


def corrected(rows: NDArray[np.int32], residual: Rows, bound: int, dtype: Any) -> NDArray[np.int32]:
    """Add a residual, in intervals of ``2 bound + 1``, to decoded rows, and clip them."""
    info = np.iinfo(dtype)
    # modulo 2³², whatever a damaged block holds
    rows += residual.astype(np.int32) * np.int32(2 * bound + 1)
    return np.clip(rows, info.min, info.max, out=rows)


def rebuilt(model: Model, residual: Rows | None, bound: int, apart: Apart) -> Pixels:
    """Reconstruct a block with the compiled loops: (lines, bands, samples).

    The same as ``settled`` and ``corrected``, put together by ``apart``.
    """
    info = np.iinfo(apart.shape.dtype)
    more = _NONE if residual is None else residual
    kernel = compile_rebuild(apart.shape.dtype, more.dtype).rebuild
    out, where = apart.target()
    split, zeros = model.split()
    weak = model.scale * (1 << zeros)
    for first, sums, leads, line, rest in model.tiles(split):
        kernel(
            sums, leads, line, rest, weak, model.means, info.min, info.max, first, more,
            2 * bound + 1, where, out,
        )  # fmt: skip
    return apart.finish(out)


@dataclass(frozen=True)
class Checked:
    """What a block's decoder will give, measured, and the residual of it.

    Attributes
    ----------
    residual : ndarray of int16 or int32 (rows, columns) or None
    decoded : ndarray of int32 (rows, columns) or None
        Where values are masked: their errors are for the caller to leave out.
    max_error, squared_error, angle, spectra
        As of ``BlockStats``; of all spectra.
    """

    residual: Rows | None
    decoded: NDArray[np.int32] | None
    max_error: int
    squared_error: float
    angle: float
    spectra: int


def checked(model: Model, matrix: Matrix, bound: int | None) -> Checked:
    """Decode a model as a decoder does, quantise the residual, and measure what is left."""
    if bound is None:
        return _checked(model, matrix, -1, _NONE)[0]
    made, top = _checked(model, matrix, bound, room("residual", matrix.shape, np.int16))
    if top > np.iinfo(np.int16).max:  # of 16 bits, about means far off
        made, _ = _checked(model, matrix, bound, np.empty(matrix.shape, np.int32))
    return made


def _checked(model: Model, matrix: Matrix, bound: int, coded: Rows) -> tuple[Checked, int]:
    """Do it with an array for the residual; gives the largest value it had to hold, too."""
    info = np.iinfo(matrix.cube.dtype)
    masked = matrix.masked
    kept = np.empty((0, 1), np.uint8) if masked is None else (~masked).view(np.uint8)
    decoded = np.empty((0, 1) if masked is None else matrix.shape, np.int32)
    totals, largest, most = np.zeros(3), 0, 0
    products = np.empty((3, TILE))
    kernel = compile_rebuild(matrix.cube.dtype, coded.dtype).check
    split, zeros = model.split()
    weak = model.scale * (1 << zeros)
    for first, sums, leads, line, rest in model.tiles(split):
        error, top = kernel(
            sums, leads, line, rest, weak, model.means, info.min, info.max, first, matrix.cube,
            bound, kept, matrix.weights, matrix.base, coded, decoded, products, totals,
        )  # fmt: skip
        largest, most = max(largest, error), max(most, top)
    found = Checked(
        None if bound < 0 else coded,
        None if masked is None else decoded,
        int(largest),
        float(totals[0]),
        float(totals[1]),
        int(totals[2]),
    )
    return found, most
