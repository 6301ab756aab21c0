"""The CPU backend: the numba kernel over ranges of lines, run by one small pool; NumPy without it.

Kernels are serial and release the interpreter lock; the pool belongs to the engine (no prange: its
idle-spinning pool eats a core). NumPy does the same work, slower, for raw types other than uint8
and uint16 and where numba is not installed, with equal results. Knows the tables and the interface.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import GroupMath, PassOutputs, invalid_value, make_outputs
from pipeline.compute.tables import LIMITS, PassPlan, PassTables, pass_tables
from pipeline.reflectance import SCALE

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

    def __init__(self, threads: int, why: str) -> None:
        self.threads = threads or min(max(available_cores() - 1, 1), MAX_THREADS)
        self.why = why
        self._raw: NDArray[Any] = np.empty((0, 0, 0), np.uint16)
        self._pool = (
            ThreadPoolExecutor(self.threads - 1, thread_name_prefix="compute")
            if self.threads > 1
            else None
        )

    @property
    def raw(self) -> NDArray[Any]:
        """The loaded block."""
        return self._raw

    def load(self, raw: NDArray[Any]) -> None:
        """Take a block, without a copy."""
        self._raw = raw

    def each(self, work: Callable[[int, int, int], int], count: int) -> int:
        """Share ``work(first, last, thread)`` over ``range(count)``; give the sum of its results.

        The calling thread takes the last part itself. An error of any part is raised once all
        have ended.
        """
        parts = min(self.threads, count)
        if self._pool is None or parts < 2:
            return work(0, count, 0)
        edges = [count * i // parts for i in range(parts + 1)]
        others = [self._pool.submit(work, edges[i], edges[i + 1], i) for i in range(parts - 1)]
        try:
            total = work(edges[parts - 1], edges[parts], parts - 1)
        finally:
            wait(others)
        return total + sum(part.result() for part in others)

    def pixel_pass(self, plan: PassPlan) -> CpuPixelPass:
        """Arm the fused kernel."""
        return CpuPixelPass(plan, self)

    def group_math(self, plan: PassPlan, lines: int) -> GroupMath:
        """Arm the PCA's arithmetic."""
        return CpuGroupMath(plan, lines, self)

    def close(self) -> None:
        """End the pool and let the last block go."""
        self._raw = np.empty((0, 0, 0), np.uint16)
        if self._pool is not None:
            self._pool.shutdown()


class CpuPixelPass:
    """The pixel pass on the CPU; see :class:`pipeline.compute.interface.PixelPass`."""

    def __init__(self, plan: PassPlan, backend: CpuBackend) -> None:
        self.plan = plan
        self.tables = pass_tables(plan)
        self.outputs = make_outputs(plan)
        self.compiled = False
        self._backend = backend
        self._valid = np.empty(plan.block_lines, np.uint8)
        self._kernel = self._compile()

    def run(self, valid: NDArray[np.bool_], phase: int) -> int:
        """Work on the loaded block; see :meth:`pipeline.compute.interface.PixelPass.run`."""
        raw = self._backend.raw
        flags = self._valid[: len(raw)]
        flags[:] = valid
        strips = -(-(len(raw) + phase) // self.plan.strip)
        kernel = self._kernel

        def work(first: int, last: int, thread: int) -> int:
            return kernel(raw, flags, first, last, phase, thread)

        return self._backend.each(work, strips)

    def _compile(self) -> Callable[..., int]:
        plan, tables = self.plan, self.tables
        native = plan.dtype.isnative and plan.dtype in (np.dtype("u1"), np.dtype("u2"))
        if not native or importlib.util.find_spec("numba") is None:
            return NumpyPass(plan, tables, self.outputs).strips
        from pipeline.compute.kernels import compile_pass, rounding

        compiled = compile_pass(plan.dtype, plan.reflectance)
        self.compiled = True
        to, out = rounding(plan.reflectance), self.outputs
        threads = self._backend.threads
        counts = np.empty((threads, 2, plan.strip, plan.samples), np.uint16)
        totals = np.empty((threads, plan.samples), np.float32)
        unkept = np.empty((threads, 1, 1, plan.samples), np.float32)

        def strips(
            raw: NDArray[Any], valid: NDArray[np.uint8], first: int, last: int, phase: int, t: int
        ) -> int:
            return compiled(
                *(raw, valid, first, last, phase, plan.strip, tables.level, tables.dark),
                *(plan.reflectance is not None, plan.preview_factor > 0, plan.quality, to),
                *(tables.black, tables.gain, tables.fix, tables.fix_weight, tables.planes),
                out.reflectance if plan.reflectance else unkept[t],
                *(out.saturated, out.below_dark, out.quality, out.sums, counts[t], totals[t]),
            )

        return strips


class NumpyPass:
    """The same pass with NumPy, for any raw type; makes temporary arrays of a strip."""

    def __init__(self, plan: PassPlan, tables: PassTables, outputs: PassOutputs) -> None:
        self._plan, self._tables, self._out = plan, tables, outputs

    def strips(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.uint8],
        first: int,
        last: int,
        phase: int,
        thread: int,
    ) -> int:
        """Work on strips ``first`` … ``last`` − 1; gives the number of values clipped."""
        size = self._plan.strip
        clipped = 0
        for k in range(first, last):
            start, stop = max(0, k * size - phase), min(len(raw), (k + 1) * size - phase)
            ok = valid[start:stop] != 0
            self._count(raw[start:stop], ok, slice(start, stop))
            if self._plan.reflectance or self._plan.preview_factor:
                clipped += self._correct(raw[start:stop], ok, slice(start, stop), k)
        return clipped

    def _count(self, raw: NDArray[Any], ok: NDArray[np.bool_], lines: slice) -> None:
        tables, out = self._tables, self._out
        seen = ok[:, None, None] & np.ones(raw.shape, np.bool_)
        seen[:, tables.fix[:, 0], tables.fix[:, 1]] = False
        bright = np.zeros((len(raw), raw.shape[2]), np.int64)
        dim = bright.copy()
        if tables.level >= 0:
            bright = np.count_nonzero(seen & (raw >= tables.level), axis=1)
        if tables.dark:
            dim = np.count_nonzero(seen & (raw.astype(np.float32) < tables.black), axis=1)
        out.saturated[lines] = bright.sum(axis=1)
        out.below_dark[lines] = dim.sum(axis=1)
        if self._plan.quality:
            mask = out.quality[lines]
            mask[:] = 0
            mask[:, 0] = np.minimum(bright, 255)
            mask[:, 2] = np.minimum(dim, 255)
            mask[:, [1, 3, 4]] = tables.planes * ok[:, None, None]
            mask[~ok, 5] = min(raw.shape[1], 255)

    def _correct(self, raw: NDArray[Any], ok: NDArray[np.bool_], lines: slice, strip: int) -> int:
        tables, out, kind = self._tables, self._out, self._plan.reflectance
        with np.errstate(over="ignore", invalid="ignore"):
            value = (raw.astype(np.float32) - tables.black) * tables.gain
            keep = tables.fix[:, 2] >= 0
            band, sample, low, high = tables.fix[keep].T
            below = value[:, low, sample]
            above = value[:, high, sample]
            value[:, band, sample] = below + (above - below) * tables.fix_weight[keep]
        value[~ok] = np.nan
        if self._plan.preview_factor:
            starts = np.arange(0, raw.shape[2], self._plan.preview_factor)
            filled = np.where(np.isnan(value), np.float32(0), value)
            out.sums[strip] = np.add.reduceat(filled.sum(axis=0), starts, axis=1)
        if kind is None:
            return 0
        if kind == "float32":
            out.reflectance[lines] = value
            return 0
        least, greatest = LIMITS[kind]
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(value * np.float32(SCALE))
            clipped = np.count_nonzero((scaled < least) | (scaled > greatest))
        unknown = np.isnan(scaled)
        scaled[unknown] = 0
        stored = np.clip(scaled, least, greatest).astype(out.reflectance.dtype)
        stored[unknown] = invalid_value(kind)
        out.reflectance[lines] = stored
        return int(clipped)


class CpuGroupMath:
    """The PCA's arithmetic on the CPU; see :class:`pipeline.compute.interface.GroupMath`."""

    def __init__(self, plan: PassPlan, lines: int, backend: CpuBackend) -> None:
        tables = pass_tables(plan)
        self._backend = backend
        self._fix, self._weight = tables.fix, tables.fix_weight
        self._kept = np.empty((lines, plan.bands, plan.samples), plan.dtype)
        self._work = np.empty((backend.threads, plan.bands, plan.samples), np.float32)
        self._product = np.empty((plan.bands, plan.bands), np.float32)

    def put(self, first: int, count: int, at: int) -> None:
        """Copy lines of the loaded block."""
        self._kept[at : at + count] = self._backend.raw[first : first + count]

    def moments(
        self, lines: NDArray[np.intp], every: int, level: float, shift: NDArray[np.float64]
    ) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Add up spectra and their products line by line."""
        bands = self._kept.shape[1]
        first, second = np.zeros(bands), np.zeros((bands, bands))
        shift_f4 = shift.astype(np.float32)[:, None]
        used = 0
        for line in lines:
            spectra = self._counts(int(line), 0)[:, ::every]
            bad = ~(spectra < level).all(axis=0)
            spectra -= shift_f4
            spectra[:, bad] = 0
            used += int(spectra.shape[1] - np.count_nonzero(bad))
            first += spectra.sum(axis=1, dtype=np.float64)
            second += np.matmul(spectra, spectra.T, out=self._product)
        return used, first, second

    def project(
        self,
        lines: int,
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> None:
        """Project line by line, lines shared over the threads."""

        def work(first: int, last: int, thread: int) -> int:
            for line in range(first, last):
                counts = self._counts(line, thread)
                counts -= mean[:, None]
                np.matmul(basis, counts, out=out[line])
            return 0

        self._backend.each(work, lines)

    def _counts(self, line: int, thread: int) -> NDArray[np.float32]:
        """One line as float32, bad pixels taken from their neighbours along the spectrum."""
        counts: NDArray[np.float32] = self._work[thread]
        counts[:] = self._kept[line]
        if len(self._fix):
            band, sample, low, high = self._fix.T
            low, high = np.where(low < 0, band, low), np.where(high < 0, band, high)
            below, above = counts[low, sample], counts[high, sample]
            counts[band, sample] = below + (above - below) * self._weight
        return counts
