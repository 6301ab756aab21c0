"""The pixel pass on the CPU: the numba kernel with bands shared out over threads, or NumPy.

NumPy does the same work, slower, for raw types other than uint8 and uint16 and where numba is not
installed, with equal results. Knows the tables, the interface and unpacking.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import PassOutputs, aligned, invalid_value, make_outputs
from pipeline.compute.tables import LIMITS, PassPlan, PassTables, pass_tables
from pipeline.compute.unpack import unpack
from pipeline.reflectance import SCALE

if TYPE_CHECKING:
    from pipeline.compute.cpu import CpuBackend

#: Lines of a strip that the compiled kernels know; kernels.STRIP.
STRIP: Final = 4


def has_kernels(plan: PassPlan) -> bool:
    """Tell whether there are compiled kernels for a plan: numba, and uint8 or uint16 counts."""
    native = plan.dtype.isnative and plan.dtype in (np.dtype("u1"), np.dtype("u2"))
    return native and plan.strip == STRIP and importlib.util.find_spec("numba") is not None


def counts_of(raw: NDArray[Any], plan: PassPlan) -> NDArray[Any]:
    """Give the counts of a block that may be packed: (lines, bands, samples)."""
    if plan.packed is None or raw.ndim == 3:
        return raw
    counts = np.empty((len(raw), plan.bands, plan.samples), plan.dtype)
    for line, packed in zip(counts, raw, strict=True):
        unpack(packed, plan.packed, line.size, line.reshape(-1))
    return counts


class CpuPixelPass:
    """The pixel pass on the CPU; see :class:`pipeline.compute.interface.PixelPass`."""

    def __init__(self, plan: PassPlan, backend: CpuBackend) -> None:
        self.plan = plan
        self.outputs = make_outputs(plan)
        self.compiled = has_kernels(plan)
        self._backend = backend
        self._valid = np.empty(plan.block_lines, np.uint8)
        self._clipped = 0
        tables = pass_tables(plan)
        if self.compiled:
            self._run = CompiledPass(plan, tables, self.outputs, backend).run
        else:
            self._run = NumpyPass(plan, tables, self.outputs, backend).run

    def start(self, valid: NDArray[np.bool_], phase: int) -> None:
        """Work on the loaded block; see :class:`pipeline.compute.interface.PixelPass`."""
        raw = self._backend.raw
        flags = self._valid[: len(raw)]
        flags[:] = valid
        self._clipped = self._run(raw, flags, phase)

    def wait(self) -> tuple[PassOutputs, int]:
        """Give what :meth:`start` has made."""
        return self.outputs, self._clipped


class CompiledPass:
    """The pass with numba: bands shared out over the threads, then the lines' totals."""

    def __init__(
        self, plan: PassPlan, tables: PassTables, outputs: PassOutputs, backend: CpuBackend
    ) -> None:
        from pipeline.compute.kernels import compile_finish, compile_pass, rounding

        self._plan, self._tables, self._out, self._backend = plan, tables, outputs, backend
        preview = plan.preview_factor > 0
        kinds = [False, True] if plan.packed else [False]
        self._pass = {
            packed: compile_pass(
                plan.dtype, plan.reflectance, dark=tables.dark, preview=preview, packed=packed
            )
            for packed in kinds
        }
        self._finish = compile_finish(plan.quality)
        self._to = rounding(plan.reflectance)
        self._safe = safe_counts(tables, plan.reflectance)
        starts = np.searchsorted(tables.fix[:, 0], np.arange(plan.bands + 1))
        self._fix_from = starts.astype(np.int32)
        self._layout = 0
        if plan.packed is not None:
            from pipeline.compute.unpack_kernels import LAYOUTS

            self._layout = LAYOUTS[plan.packed.packing, plan.packed.bits]
        threads, samples = backend.threads, plan.samples
        self._black, self._gain, self._dark = (
            aligned_copy(table) for table in (tables.black, tables.gain, dark_counts(tables))
        )
        word = np.dtype(np.uint16)
        self._bright = aligned((threads, plan.block_lines, samples), word)
        self._low = aligned((threads, plan.block_lines, samples), word)
        self._scratch = aligned((threads, plan.strip, 1, samples), word)

    def run(self, raw: NDArray[Any], valid: NDArray[np.uint8], phase: int) -> int:
        """Work on a block; gives the number of values clipped."""
        plan, tables, out = self._plan, self._tables, self._out
        kernel = self._pass[raw.ndim == 2]
        preview = plan.preview_factor > 0

        def work(first: int, last: int, t: int) -> int:
            return kernel(
                *(raw, self._layout, self._scratch[t], valid, first, last, phase, tables.level),
                *(self._to, self._black, self._gain, self._dark, self._safe),
                *(tables.fix, self._fix_from, tables.fix_weight),
                *(self._bright[t], self._low[t] if tables.dark else None),
                out.sums if preview else None,
                out.reflectance if plan.reflectance else None,
            )

        clipped = self._backend.each(work, plan.bands)
        self._finish(
            *(valid, plan.bands, self._bright, self._low, tables.planes),
            *(out.saturated, out.below_dark, out.quality if plan.quality else None),
        )
        return clipped


def aligned_copy(table: NDArray[Any]) -> NDArray[Any]:
    """Copy a table to where vectors find it best."""
    copy = aligned(table.shape, table.dtype)
    copy[...] = table
    return copy


def dark_counts(tables: PassTables) -> NDArray[np.uint16]:
    """Give the least counts that are not below black, (bands, samples)."""
    return np.ceil(np.clip(np.nan_to_num(tables.black), 0, 65535)).astype(np.uint16)


def safe_counts(tables: PassTables, kind: str | None) -> NDArray[np.int32]:
    """Give the count of each band up to which no sample's value leaves the limits of its type.

    −1 where that cannot be said: a gain is NaN or negative, a count of 0 leads below the least
    value, or black is beyond all counts.
    """
    black, gain = tables.black.astype(np.float64), tables.gain.astype(np.float64)
    known = np.isfinite(gain) & (gain >= 0) & (black <= 65535)
    safe = np.full(gain.shape, 65535.0)
    if kind in LIMITS:
        least, greatest = LIMITS[kind]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # one count less, for the roundings of float32
            safe = np.floor(greatest / (SCALE * gain) + black) - 1
            known &= -black * gain * SCALE > least + 1
    safe = np.where(known, np.clip(safe, -1, 65535), -1)
    return np.asarray(safe.min(axis=1), np.int32)


class NumpyPass:
    """The same pass with NumPy, for any raw type; makes temporary arrays of a strip."""

    def __init__(
        self, plan: PassPlan, tables: PassTables, outputs: PassOutputs, backend: CpuBackend
    ) -> None:
        self._plan, self._tables, self._out, self._backend = plan, tables, outputs, backend

    def run(self, raw: NDArray[Any], valid: NDArray[np.uint8], phase: int) -> int:
        """Work on a block, strips shared out over the threads; gives the values clipped."""
        raw = counts_of(raw, self._plan)

        def work(first: int, last: int, thread: int) -> int:
            return self.strips(raw, valid, first, last, phase)

        return self._backend.each(work, -(-(len(raw) + phase) // self._plan.strip))

    def strips(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.uint8],
        first: int,
        last: int,
        phase: int,
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
