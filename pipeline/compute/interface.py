"""What a backend does for the stages, whether it computes on the CPU or a GPU.

A backend makes *operations*. Each is armed from a plan, makes its memory then, and works on the
block that was last given to :meth:`Backend.load`, so that a block travels to a GPU once however
many operations read it. Knows the tables only; numba and CuPy are imported by the backend chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.tables import INVALID, PassPlan


@dataclass(frozen=True)
class PassOutputs:
    """Where a pixel pass writes; made once, of ``block_lines`` lines; sizes 0 for what is off.

    Slots
    -----
    reflectance : (lines, bands, samples) of the plan's type
    saturated, below_dark : uint32, (lines,)
    quality : uint8, (lines, 6, samples)
    sums : float32, (rows, bands, cells)
        Sums over each preview cell of what this block adds to it; row 0 continues the last row of
        the block before when that was not complete.
    """

    reflectance: NDArray[Any]
    saturated: NDArray[np.uint32]
    below_dark: NDArray[np.uint32]
    quality: NDArray[np.uint8]
    sums: NDArray[np.float32]


class PixelPass(Protocol):
    """The fused kernel: one read of each raw pixel, outputs switched on by who asks for them."""

    outputs: PassOutputs

    def run(self, valid: NDArray[np.bool_], phase: int) -> int:
        """Work on the loaded block.

        Parameters
        ----------
        valid : ndarray of bool, (lines,)
        phase : int
            Lines that the first preview row already has, 0 … ``strip`` − 1.

        Returns
        -------
        int
            Reflectance values clipped.
        """


class GroupMath(Protocol):
    """The arithmetic of the PCA on groups of lines that it keeps."""

    def put(self, first: int, count: int, at: int) -> None:
        """Keep ``count`` lines of the loaded block, from line ``first``, as lines ``at`` …."""

    def moments(
        self, lines: NDArray[np.intp], every: int, level: float, shift: NDArray[np.float64]
    ) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Sum spectra, and their products, about a shift.

        Parameters
        ----------
        lines : which kept lines to learn from
        every : takes each ``every``-th sample of them
        level : spectra with a count at or above it are left out
        shift : (bands,) counts that are subtracted first; products are formed in float32 about it
            and added up in float64

        Returns
        -------
        n : spectra used
        first : (bands,) float64, Σ x
        second : (bands, bands) float64, Σ x·xᵀ
        """

    def project(
        self,
        lines: int,
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> None:
        """Write ``basis @ (counts − mean)``, (lines, K, samples), of the first ``lines`` kept."""


class Backend(Protocol):
    """CPU or GPU. ``why`` is one sentence on the choice."""

    name: str
    why: str

    def load(self, raw: NDArray[Any]) -> None:
        """Make a block the one that operations work on, until the next is loaded."""

    def pixel_pass(self, plan: PassPlan) -> PixelPass:
        """Arm the fused kernel."""

    def group_math(self, plan: PassPlan, lines: int) -> GroupMath:
        """Arm the PCA's arithmetic for groups of up to ``lines`` lines."""

    def close(self) -> None:
        """Give threads and memory back."""


def make_outputs(plan: PassPlan, empty: Any = np.empty) -> PassOutputs:
    """Make host arrays for a plan's outputs; ``empty`` may hand out pinned memory."""
    lines, bands, samples = plan.block_lines, plan.bands, plan.samples
    return PassOutputs(
        reflectance=empty(
            (lines if plan.reflectance else 0, bands, samples),
            np.dtype(plan.reflectance or "int16"),
        ),
        saturated=empty((lines,), np.dtype(np.uint32)),
        below_dark=empty((lines,), np.dtype(np.uint32)),
        quality=empty((lines if plan.quality else 0, 6, samples), np.dtype(np.uint8)),
        sums=empty(
            (plan.rows if plan.preview_factor else 0, bands, plan.cells), np.dtype(np.float32)
        ),
    )


def invalid_value(kind: str) -> Any:
    """Give what stands for an invalid pixel, as a scalar of the reflectance type."""
    return np.dtype(kind).type(INVALID[kind])
