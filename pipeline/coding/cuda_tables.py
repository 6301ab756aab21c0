"""What the host decides while a GPU codes a block: tables of its histograms, components to keep.

The same rules as the CPU's encoder has, from sums that a GPU made. No decoder depends on them: what
is decided here is in the block. Knows tables and arrays; nothing of CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.cuda_blocks import BASIS_BITS, EXACT, MOST_MEAN
from pipeline.coding.rans import Tables

#: Tables of a stream at most, symbols of one, slots that frequencies add up to, low bits.
CLASSES: Final = 64
SYMBOLS: Final = 256
SLOTS: Final = 4096
MOST_SHIFT: Final = 20
#: Classes for a factor of two of spread: as many as there may be tables for.
PER_OCTAVE: Final = (3, 2, 1)
#: Values are coded in units of 1/8 to 1/16 of their spread.
FINE: Final = 3
#: Of so many values, one that is alone goes beside the table.
RARE: Final = 8192
#: Bits after the point of a step, spread of the weakest component that is looked at in steps, bits
#: of a basis vector's elements beyond the spread, what of them remains coded, and squared error in
#: step² that a bit has to save.
STEP_BITS: Final = 4
WEAKEST: Final = 0.4
SPARE_BITS: Final = 6
CODED_BITS: Final = 0.7
WORTH: Final = 0.2
#: Widest step, in 1/16 counts.
LARGEST: Final = 1 << 22


def classes_of(totals: NDArray[np.uint64], n: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Sort rows into classes by their spread.

    Parameters
    ----------
    totals : ndarray (rows,)
        Sums of magnitudes.
    n : int
        Values of a row.

    Returns
    -------
    classes : ndarray (rows,)
    shift : ndarray (classes,)
        Low bits.
    """
    spread = totals / n
    for each in PER_OCTAVE:
        octave = np.log2(np.maximum(spread, 1e-4))
        level = np.where(spread > 0, np.floor(each * octave), -14 * each)
        levels, which = np.unique(np.maximum(level, -14 * each), return_inverse=True)
        if len(levels) <= CLASSES:
            break
    shift = np.clip(np.floor(levels / each) - FINE, 0, MOST_SHIFT)
    return which.astype(np.uint8), shift.astype(np.int32)


def tables_of(counts: NDArray[Any], shift: NDArray[np.int32]) -> Tables:
    """Make tables of how often each value occurs in each class, (classes, window)."""
    least, count = np.zeros((2, len(shift)), np.int32)
    frequency = np.zeros((len(shift), SYMBOLS), np.uint32)
    for k, found in enumerate(counts.astype(np.int64)):
        total = int(found.sum())
        kept = np.flatnonzero(found * RARE > total)
        if not len(kept):
            kept = np.array([int(found.argmax())])
        first = int(kept[0])
        last = min(int(kept[-1]), first + SYMBOLS - 2)
        inside = found[first : last + 1]
        least[k], count[k] = first - counts.shape[1] // 2, last + 1 - first
        frequency[k, : count[k] + 1] = _scaled(np.append(inside, total - int(inside.sum())))
    return Tables(shift, least, count, frequency)


def _scaled(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scale counts to frequencies that add up to ``SLOTS``; what occurs has 1 at the least."""
    exact = counts * (SLOTS / counts.sum())
    out = np.where(counts > 0, np.maximum(np.rint(exact), 1), 0).astype(np.int64)
    while (more := SLOTS - int(out.sum())) != 0:
        # where a unit more or less changes the cost least
        able = np.flatnonzero(counts > 0 if more > 0 else out > 1)
        order = able[np.argsort(((out - exact) if more > 0 else (exact - out))[able])]
        out[order[: abs(more)]] += 1 if more > 0 else -1
    return out


@dataclass(frozen=True)
class Fitted:
    """What a block's pixels were found to be.

    Attributes
    ----------
    means : ndarray of int32 (rows,)
    power : ndarray (rows,)
        Mean square of the scores, counts², the largest first.
    vectors : ndarray (rows, rows)
        Their eigenvectors, in rows.
    columns : int
    learned : int
        Spectra that they were learned from.
    """

    means: NDArray[np.int32]
    power: NDArray[np.float64]
    vectors: NDArray[np.float64]
    columns: int
    learned: int

    @classmethod
    def of(
        cls, means: NDArray[np.int32], scatter: NDArray[np.float64], columns: int, learned: int
    ) -> Fitted:
        """Find the eigenvectors of sums of products."""
        values, vectors = np.linalg.eigh(scatter)
        power = np.maximum(values[::-1], 0.0) / max(learned, 1)
        return cls(means, power, np.ascontiguousarray(vectors[:, ::-1].T), columns, learned)

    def count(self, step: float) -> int:
        """Give how many components are to be looked at with a step in counts."""
        return int((self.power > (WEAKEST * step) ** 2).sum())

    def keep(
        self, step: float, saved: NDArray[Any], hits: NDArray[Any]
    ) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
        """Choose the components that are worth their place, and round their basis.

        Parameters
        ----------
        step : float
            counts.
        saved, hits : ndarray
            Of each component the squared error that its scores save, in steps, and how many of
            them are not 0.
        """
        count, size = len(saved), len(self.means)
        spread = np.sqrt(self.power[:count]) / step
        bits = np.clip(np.ceil(np.log2(np.maximum(spread, 1e-3))) + SPARE_BITS, 4, BASIS_BITS)
        rare = np.log2(np.maximum(self.columns / np.maximum(hits, 1), 1))
        kept = np.flatnonzero(
            (hits > 0) & (saved > WORTH * (bits * size * CODED_BITS + hits * (2 + rare)))
        )
        one = 1 << BASIS_BITS
        units = (2.0 ** (BASIS_BITS - bits[kept]))[:, None]
        basis = np.rint(self.vectors[kept] * one / units) * units
        return kept, np.clip(basis, -one, one - units).astype(np.int32)

    def guess(self, budget: float) -> int:
        """Guess the step that leaves so many bytes: log2 (3 spread / step) bits a score."""
        spread = 3.0 * np.sqrt(self.power) * (1 << STEP_BITS)
        low, high = 0.0, float(np.log2(LARGEST))
        for _ in range(12):
            middle = (low + high) / 2
            bits = self.columns * np.log2(np.maximum(spread / 2**middle, 1.0)).sum()
            low, high = (middle, high) if bits > 8 * budget else (low, middle)
        return max(1, round(2**high))


def is_exact(basis: NDArray[np.int32], top: int, step: int, means: NDArray[np.int32]) -> bool:
    """Tell whether products with scores of this magnitude at most are exact."""
    if not basis.size:
        return True
    largest = int(np.abs(basis).max())
    within = int(np.abs(means).max()) <= MOST_MEAN
    return within and top * largest * step * len(basis) < EXACT
