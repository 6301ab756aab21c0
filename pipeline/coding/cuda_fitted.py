"""What the host decides while a GPU codes a block: eigenvectors, and the components to keep.

The same rules as the CPU's encoder has, from sums that a GPU made. No decoder depends on them: what
is decided here is in the block. Knows arrays; nothing of CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.cuda_blocks import EXACT, MOST_MEAN
from pipeline.coding.pca_fit import WEAKEST, chosen_basis, guessed_step, stored_bits


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
        count = len(saved)
        bits = stored_bits(self.power[:count], step)
        saved, hits = np.asarray(saved, np.float64), np.asarray(hits, np.int64)
        return chosen_basis(self.vectors[:count], bits, self.columns, saved, hits)

    def guess(self, budget: float) -> int:
        """Guess the step, in 1/16 counts, that leaves so many bytes."""
        return max(1, round(2 ** guessed_step(self.power, self.columns, budget)))


def is_exact(basis: NDArray[np.int32], top: int, step: int, means: NDArray[np.int32]) -> bool:
    """Tell whether products with scores of this magnitude at most are exact."""
    if not basis.size:
        return True
    largest = int(np.abs(basis).max())
    within = int(np.abs(means).max()) <= MOST_MEAN
    return within and top * largest * step * len(basis) < EXACT
