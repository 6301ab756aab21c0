"""What a backend does for the stages, whether it computes on the CPU or a GPU.

A backend makes *operations*. Each is armed from a plan, makes its memory then, and works on the
block that was last given to :meth:`Backend.load`, so that a block travels to a GPU once however
many operations read it. Work is started first and waited for later: a GPU has several blocks under
way, the CPU does everything at the start. Knows the tables only; numba and CuPy are imported by the
backend chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.tables import INVALID, PassPlan

#: Bytes of a cache line, and of the widest vectors.
ALIGNMENT: Final = 64
#: Bytes of a page of memory, on x86-64 and most others.
PAGE: Final = 4096
#: Number of spectra, Σ x, Σ x·xᵀ.
Moments = tuple[int, NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class PassOutputs:
    """Where a pixel pass writes; made once, of ``block_lines`` lines; sizes 0 for what is off.

    Slots
    -----
    reflectance : (lines, bands, samples) of the plan's type
    saturated, below_dark : uint32, (lines,)
    quality : uint8, (lines, 6, samples)
        Not to be changed by who takes it: what does not differ from line to line is written once.
    sums : float32, (rows, bands, cells)
        Sums over each preview cell of what this block adds to it; row 0 continues the last row of
        the block before when that was not complete. Not of complete rows, where there are means and
        no ``coarser`` previews.
    means : int16 or float32, (rows, bands, cells)
        Finished preview rows, where all lines of a row are in this block: see ``cells``. None where
        the backend leaves them to who takes the sums.
    """

    reflectance: NDArray[Any]
    saturated: NDArray[np.uint32]
    below_dark: NDArray[np.uint32]
    quality: NDArray[np.uint8]
    sums: NDArray[np.float32]
    means: NDArray[Any] | None = None


class PixelPass(Protocol):
    """The fused kernel: one read of each raw pixel, outputs switched on by who asks for them."""

    def start(
        self,
        valid: NDArray[np.bool_],
        phase: int,
        factors: NDArray[np.float32] | None = None,
    ) -> None:
        """Begin to work on the block loaded last.

        Parameters
        ----------
        valid : ndarray of bool, (lines,)
        phase : int
            Lines that the first preview row already has, 0 … ``strip`` − 1.
        factors : ndarray of float32, (2, lines), optional
            Scale and offset of each line, where the plan has ``factors``; copied.
        """

    def wait(self) -> tuple[PassOutputs, int]:
        """Wait for the block that was started first and not yet waited for.

        Returns
        -------
        outputs : PassOutputs
            Valid until as many further blocks are started as the backend is deep.
        clipped : int
            Reflectance values clipped.
        """


class GroupMath(Protocol):
    """The arithmetic of the PCA on groups of lines that it keeps, several at a time."""

    def put(self, group: int, first: int, count: int, at: int) -> None:
        """Keep ``count`` lines of the loaded block, from line ``first``, as lines ``at`` …."""

    def learn(
        self,
        group: int,
        lines: NDArray[np.intp],
        every: int,
        level: float,
        shift: NDArray[np.float64],
    ) -> Callable[[], Moments]:
        """Sum spectra, and their products, about a shift.

        Parameters
        ----------
        group : which of those kept
        lines : which of its lines to learn from
        every : takes each ``every``-th sample of them
        level : spectra with a count at or above it are left out
        shift : (bands,) counts that are subtracted first; products are formed in float32 about it
            and added up in float64

        Returns
        -------
        callable
            Gives the number of spectra used, Σ x (bands,) and Σ x·xᵀ (bands, bands), float64; may
            take its time, and may be called by another thread while the engine goes on.
        """

    def project(
        self,
        group: int,
        lines: int,
        valid: NDArray[np.bool_],
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        step: float,
        out: NDArray[np.int16],
    ) -> Callable[[], NDArray[np.float32]]:
        """Write the scores of the first ``lines`` lines of a group.

        ``out[n, k, s] = rint(basis[k] · (counts[n, :, s] − mean) / (step · longer[k]))``, and 0 in
        lines that are not valid; ``longer[k]`` is the least power of two, 1 or more, with which
        every score of a valid line fits in −32767 … 32767.

        Parameters
        ----------
        group, lines : which
        valid : ndarray of bool, (lines,)
        mean : (bands,)
        basis : (K, bands)
        step : counts per unit of a score
        out : (lines, K, samples), C-contiguous

        Returns
        -------
        callable
            Waits until ``out`` is written, and gives ``longer``, (K,).
        """


class Backend(Protocol):
    """CPU or GPU.

    Attributes
    ----------
    name : str
    why : str
        One sentence on the choice.
    depth : int
        Blocks that may be under way at once: loaded, started and not yet waited for.
    """

    name: str
    why: str
    depth: int

    def load(self, raw: NDArray[Any]) -> None:
        """Make a block the one that operations work on, until the next is loaded.

        It must stay as it is until what is started on it has been waited for.
        """

    def pixel_pass(self, plan: PassPlan) -> PixelPass:
        """Arm the fused kernel."""

    def group_math(self, plan: PassPlan, lines: int, groups: int, components: int) -> GroupMath:
        """Arm the PCA's arithmetic for ``groups`` groups of up to ``lines`` lines each."""

    def each(self, work: Callable[[int, int, int], int], count: int) -> int:
        """Share host work, ``work(first, last, thread)``, over the backend's threads.

        Returns
        -------
        int
            The sum of the results.
        """

    def pin(self, memory: memoryview) -> None:
        """Make host memory that blocks come from fast to reach, once; nothing on the CPU."""

    def unpin(self, memory: memoryview) -> None:
        """Let memory go that was pinned; no block in it is under way."""

    def close(self) -> None:
        """Give threads and memory back."""


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any], at: int | None = None) -> NDArray[Any]:
    """Make an array of zeros that begins at a multiple of 64 bytes, as widest vectors want it.

    NumPy promises 16: each second load of such a vector would then touch two cache lines.

    Parameters
    ----------
    shape, dtype
    at : int, optional
        Begins so many bytes after the beginning of a page. Lines to be read begin with a page. Had
        results begin a few cache lines after one, then a load would seem to need a store of a few
        steps before, of which a processor first compares the last 12 bits of the address, and
        wait for it: that costs up to half of the pass.
    """
    count = math.prod(shape) * dtype.itemsize
    step = ALIGNMENT if at is None else PAGE
    memory = np.zeros(count + 2 * step, np.uint8)
    start = -memory.ctypes.data % step + (at or 0)
    return memory[start : start + count].view(dtype).reshape(shape)


def _on_page(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    return aligned(shape, dtype, 0)


def make_outputs(
    plan: PassPlan, empty: Any = _on_page, *, means: bool = True, spare: int = 0
) -> PassOutputs:
    """Make host arrays for a plan's outputs.

    Parameters
    ----------
    plan : PassPlan
    empty : callable
        ``empty(shape, dtype)``; may hand out pinned memory.
    means : bool
        Whether the backend finishes preview rows.
    spare : int
        Further rows of sums.
    """
    lines, bands, samples = plan.block_lines, plan.bands, plan.samples
    cells = (plan.rows if plan.preview_factor else 0, bands, plan.cells)
    return PassOutputs(
        reflectance=empty(
            (lines if plan.reflectance else 0, bands, samples),
            np.dtype(plan.reflectance or "int16"),
        ),
        saturated=empty((lines,), np.dtype(np.uint32)),
        below_dark=empty((lines,), np.dtype(np.uint32)),
        quality=empty((lines if plan.quality else 0, 6, samples), np.dtype(np.uint8)),
        sums=empty((cells[0] + spare, *cells[1:]), np.dtype(np.float32)),
        means=empty(cells, np.dtype(plan.preview_type or "int16")) if means else None,
    )


def invalid_value(kind: str) -> Any:
    """Give what stands for an invalid pixel, as a scalar of the reflectance type."""
    return np.dtype(kind).type(INVALID[kind])
