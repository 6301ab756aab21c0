"""The CPU backend: what it works on, and the threads that share the work.

Kernels are serial and release the interpreter lock; the threads belong to the engine (not prange,
whose idle pool eats a core). Knows the pass and the PCA's arithmetic beside it.
"""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cpu_groups import CpuGroupMath
from pipeline.compute.cpu_pass import CpuPixelPass
from pipeline.compute.crew import Crew
from pipeline.compute.tables import PassPlan

#: More threads than this gain nothing: memory is the limit.
MAX_THREADS: Final = 4


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class CpuBackend:
    """Computes on the CPU.

    Parameters
    ----------
    threads : int
        Threads at work, the caller's included; 0: one for each core but one, at most 4.
    why : str
        What led to this backend.
    """

    name = "cpu"
    #: While one thread does what cannot be shared for a block, the others work on the next.
    depth = 2

    def __init__(self, threads: int, why: str) -> None:
        self.threads = threads or min(max(available_cores() - 1, 1), MAX_THREADS)
        self.why = why
        self._raw: NDArray[Any] = np.empty((0, 0, 0), np.uint16)
        self._crew = Crew(self.threads, "compute")
        self.each, self.post = self._crew.each, self._crew.post

    @property
    def raw(self) -> NDArray[Any]:
        """The loaded block."""
        return self._raw

    def load(self, raw: NDArray[Any]) -> None:
        """Take a block, without a copy."""
        self._raw = raw

    def pixel_pass(self, plan: PassPlan) -> CpuPixelPass:
        """Arm the fused kernel."""
        return CpuPixelPass(plan, self)

    def group_math(
        self, plan: PassPlan, lines: int, groups: int, components: int = 16
    ) -> CpuGroupMath:
        """Arm the PCA's arithmetic."""
        return CpuGroupMath(plan, lines, groups, components, self)

    def pin(self, memory: memoryview) -> None:
        """Nothing to do: all memory is near."""

    def unpin(self, memory: memoryview) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """End the threads and let the last block go."""
        self._raw = np.empty((0, 0, 0), np.uint16)
        self._crew.close()
