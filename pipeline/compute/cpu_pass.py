"""The pixel pass on the CPU: the numba kernel with bands shared out over threads, or NumPy.

NumPy does the same work, slower, for raw types other than uint8 and uint16 and where numba is not
installed, with equal results. Knows the tables, the interface and unpacking.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cells import shares
from pipeline.compute.interface import PAGE, PassOutputs, aligned, invalid_value, make_outputs
from pipeline.compute.tables import LIMITS, NEUTRAL, PassPlan, PassTables, pass_tables
from pipeline.compute.unpack import unpack
from pipeline.reflectance import SCALE

if TYPE_CHECKING:
    from pipeline.compute.cpu import CpuBackend

#: Lines of a strip that the compiled kernels know; row_kernels.STRIP.
STRIP: Final = 4
#: Most pixels of a row without a value that are put right one by one.
MAX_BLANKS: Final = 16
#: Greatest scale and offset (as a part of saturation) of lines for which the counts that need no
#: care are worked out: lines without factors; a steady lamp; all that is believed.
FACTORS: Final = ((1.0, 0.0), (1.25, 1 / 256), (2.0, 1 / 16))


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
        self.compiled = has_kernels(plan)
        self._backend = backend
        tables = pass_tables(plan)
        kind = CompiledPass if self.compiled else NumpyPass
        # of the blocks under way, and of the one whose result is in use
        self._passes = [kind(plan, tables, backend) for _ in range(backend.depth + 1)]
        self._turn = 0
        self._started: deque[Callable[[], tuple[PassOutputs, int]]] = deque()

    def start(
        self,
        valid: NDArray[np.bool_],
        phase: int,
        factors: NDArray[np.float32] | None = None,
    ) -> None:
        """Work on the loaded block; see :class:`pipeline.compute.interface.PixelPass`."""
        of_block = self._passes[self._turn]
        self._turn = (self._turn + 1) % len(self._passes)
        self._started.append(of_block.start(self._backend.raw, valid, phase, factors))

    def wait(self) -> tuple[PassOutputs, int]:
        """Join in, and give what :meth:`start` has made."""
        return self._started.popleft()()


class CompiledPass:
    """The pass with numba: threads take tiles of bands, then come the lines' totals.

    Has the outputs of one block; tables are shared with those of the others.
    """

    def __init__(self, plan: PassPlan, tables: PassTables, backend: CpuBackend) -> None:
        from pipeline.compute.kernels import compile_finish, compile_pass, compile_take
        from pipeline.compute.row_kernels import rounding

        self._plan, self._tables, self._backend = plan, tables, backend
        preview = plan.preview_type
        # Complete rows need no memory of their own where nobody asks for their sums: one for each
        # thread stays in its cache.
        spare = backend.threads if preview and not plan.coarser else 0
        self.outputs = make_outputs(plan, spare=spare)
        self._spare = plan.rows if spare else -1
        self._pass = {
            packed: compile_pass(
                plan.dtype,
                plan.reflectance,
                dark=tables.dark,
                preview=preview,
                packed=packed,
                factors=plan.factors,
            )
            for packed in ([False, True] if plan.packed else [False])
        }
        self._finish = compile_finish(plan.quality)
        self._to = rounding(plan.reflectance)
        self._layout = 0
        if plan.packed is not None:
            from pipeline.compute.unpack_kernels import LAYOUTS

            self._layout = LAYOUTS[plan.packed.packing, plan.packed.bits]
        self._derived = derived_tables(tables, plan)
        threads, samples = backend.threads, plan.samples
        word = np.dtype(np.uint16)
        counters = (threads, plan.block_lines, samples)
        # apart from the results, and from each other: their lines would drive each other out
        self._low = aligned(counters, word, PAGE // 4)
        self._bright = aligned(counters, word, 3 * PAGE // 4)
        self._scratch = aligned((threads, plan.strip, 1, samples), word)
        self._extra = aligned((threads, len(tables.fix), plan.strip), np.dtype(np.float32))
        self._valid = np.empty(plan.block_lines, np.uint8)
        self._shown = np.zeros(plan.block_lines, np.uint8)
        self._tile = np.zeros(1, np.int64)
        self._factors = np.zeros(2 * plan.block_lines, np.float32) if plan.factors else None
        self._take = compile_take()

    def start(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.bool_],
        phase: int,
        factors: NDArray[np.float32] | None = None,
    ) -> Callable[[], tuple[PassOutputs, int]]:
        """Begin to work on a block; gives what waits, and gives outputs and values clipped."""
        plan, tables, out, derived = self._plan, self._tables, self.outputs, self._derived
        kernel = self._pass[raw.ndim == 2]
        flags = self._valid[: len(raw)]
        flags[:] = valid
        self._tile[0] = 0
        preview = plan.preview_type is not None
        safe, of_lines = derived.safe[0], None
        if self._factors is not None:
            of_lines = self._factors[: 2 * len(raw)].reshape(2, len(raw))
            safe = derived.safe[
                self._take(NEUTRAL if factors is None else factors, derived.bounds, of_lines)
            ]

        def share(t: int) -> int:
            return kernel(
                *(raw, self._layout, self._scratch[t], flags, self._tile, phase, tables.level),
                *(self._to, *derived.values, safe, tables.fix, derived.fix_from, tables.fix_weight),
                *(derived.blank, derived.blank_from),
                *(self._bright[t], self._low[t] if tables.dark else None),
                out.sums if preview else None,
                self._spare + t if self._spare >= 0 else -1,
                *(derived.share, out.means) if preview else (None, None),
                *(self._extra[t], out.reflectance if plan.reflectance else None, of_lines),
            )

        join = self._backend.post(share)

        def wait() -> tuple[PassOutputs, int]:
            clipped = join()
            self._finish(
                *(flags, plan.bands, self._bright, self._low, tables.planes),
                *(out.saturated, out.below_dark, out.quality if plan.quality else None),
                self._shown,
            )
            return out, clipped

        return wait


@dataclass(frozen=True)
class DerivedTables:
    """What the compiled kernel reads beside the tables; see ``kernels.pass_bands``."""

    values: tuple[NDArray[Any], ...]  # black, gain, dark
    safe: tuple[NDArray[np.int32], ...]  # for lines whose factors lie within each of FACTORS
    fix_from: NDArray[np.int32]
    blank: NDArray[np.int32]
    blank_from: NDArray[np.int32]
    share: NDArray[np.float32]
    bounds: NDArray[np.float64]  # greatest scale and offset (DN) of each of ``safe`` but the last


def derived_tables(tables: PassTables, plan: PassPlan) -> DerivedTables:
    """Work out what the compiled kernel reads beside the tables."""
    gain, blank = without_blanks(tables)
    safe = [safe_counts(tables.black, gain, plan.reflectance)]
    bounds = [(scale, part * plan.saturation_level) for scale, part in FACTORS]
    if plan.factors:
        safe += [safe_counts(tables.black, gain, plan.reflectance, *bound) for bound in bounds[1:]]
        safe.append(np.full_like(safe[0], -1))
    values = (
        aligned_copy(table) for table in (tables.black, gain, dark_counts(tables, plan.factors))
    )
    fix_from, blank_from = (
        np.searchsorted(of[:, 0], np.arange(plan.bands + 1)).astype(np.int32)
        for of in (tables.fix, blank)
    )
    return DerivedTables(
        tuple(values),
        tuple(safe),
        fix_from,
        blank,
        blank_from,
        shares(tables.cells),
        np.array(bounds, np.float64),
    )


def aligned_copy(table: NDArray[Any]) -> NDArray[Any]:
    """Copy a table to where vectors find it best."""
    copy = aligned(table.shape, table.dtype)
    copy[...] = table
    return copy


def dark_counts(tables: PassTables, factors: bool) -> NDArray[np.uint16]:
    """Give the least counts that are not below black, (bands, samples); 0 for bad pixels.

    With factors 1 more: what they are compared with is a count without the offset of its line,
    which may be negative, plus 1. So 0 stays what no count is below.
    """
    least = np.ceil(np.clip(np.nan_to_num(tables.black), 0, 65535 - factors)).astype(np.uint16)
    least += np.uint16(factors)
    least[tables.fix[:, 0], tables.fix[:, 1]] = 0
    return least


def without_blanks(tables: PassTables) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Give the gain without the NaN of single pixels, and the pixels to be blanked instead.

    One NaN would make its whole row one that needs care. A gain of 0 adds nothing to a preview,
    and what it stores is put right pixel by pixel: by the replacement of bad pixels, or from the
    list, int32 (n, 2) of band and sample. Rows with many of them stay as they are.
    """
    blank = np.isnan(tables.gain) & np.isfinite(tables.black)
    blank &= np.count_nonzero(blank, axis=1, keepdims=True) <= MAX_BLANKS
    gain = np.where(blank, np.float32(0), tables.gain)
    replaced = tables.fix[tables.fix[:, 2] >= 0]
    blank[replaced[:, 0], replaced[:, 1]] = False
    return gain, np.ascontiguousarray(np.argwhere(blank), np.int32)


def safe_counts(
    black: NDArray[np.float32],
    gain: NDArray[np.float32],
    kind: str | None,
    scale: float = 1.0,
    offset: float = 0.0,
) -> NDArray[np.int32]:
    """Give the count of each band up to which no sample's value leaves the limits of its type.

    In lines whose scale is not above ``scale``, and whose offset is between ± ``offset`` (DN). −1
    where that cannot be said: a gain is NaN or negative, a count of 0 leads below the least value,
    or black is beyond all counts.
    """
    zero, slope = black.astype(np.float64), gain.astype(np.float64) * scale
    known = np.isfinite(slope) & (slope >= 0) & (zero <= 65534)
    safe = np.full(slope.shape, 65535.0)
    if kind in LIMITS:
        least, greatest = LIMITS[kind]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # one count less, for the roundings of float32
            safe = np.floor(greatest / (SCALE * slope) + zero - offset) - 1
            known &= -(zero + offset) * slope * SCALE > least + 1
    safe = np.where(known, np.clip(safe, -1, 65535), -1)
    return np.asarray(safe.min(axis=1), np.int32)


class NumpyPass:
    """The same pass with NumPy, for any raw type; makes temporary arrays of a strip.

    Leaves the means of preview rows to who takes the sums.
    """

    def __init__(self, plan: PassPlan, tables: PassTables, backend: CpuBackend) -> None:
        self._plan, self._tables, self._backend = plan, tables, backend
        self.outputs = make_outputs(plan, means=False)
        self._factors: NDArray[np.float32] | None = None

    def start(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.bool_],
        phase: int,
        factors: NDArray[np.float32] | None = None,
    ) -> Callable[[], tuple[PassOutputs, int]]:
        """Work on a block, strips shared out over the threads; gives what gives the results."""
        clipped = self.run(raw, valid, phase, factors)
        return lambda: (self.outputs, clipped)

    def run(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.bool_],
        phase: int,
        factors: NDArray[np.float32] | None = None,
    ) -> int:
        """Do it; gives the number of values clipped."""
        raw = counts_of(raw, self._plan)
        self._factors = factors if self._plan.factors else None

        def work(first: int, last: int, thread: int) -> int:
            return self.strips(raw, valid, first, last, phase)

        return self._backend.each(work, -(-(len(raw) + phase) // self._plan.strip))

    def strips(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.bool_],
        first: int,
        last: int,
        phase: int,
    ) -> int:
        """Work on strips ``first`` … ``last`` − 1; gives the number of values clipped."""
        size = self._plan.strip
        clipped = 0
        for k in range(first, last):
            start, stop = max(0, k * size - phase), min(len(raw), (k + 1) * size - phase)
            ok = valid[start:stop]
            self._count(raw[start:stop], ok, slice(start, stop))
            if self._plan.reflectance or self._plan.preview_factor:
                clipped += self._correct(raw[start:stop], ok, slice(start, stop), k)
        return clipped

    def _count(self, raw: NDArray[Any], ok: NDArray[np.bool_], lines: slice) -> None:
        tables, out = self._tables, self.outputs
        seen = ok[:, None, None] & np.ones(raw.shape, np.bool_)
        seen[:, tables.fix[:, 0], tables.fix[:, 1]] = False
        bright = np.zeros((len(raw), raw.shape[2]), np.int64)
        dim = bright.copy()
        if tables.level >= 0:
            bright = np.count_nonzero(seen & (raw >= tables.level), axis=1)
        if tables.dark:
            counts = raw.astype(np.float32)
            if self._factors is not None:
                counts -= np.rint(self._factors[1, lines, None, None])
            dim = np.count_nonzero(seen & (counts < tables.black), axis=1)
        out.saturated[lines] = bright.sum(axis=1)
        out.below_dark[lines] = dim.sum(axis=1)
        if self._plan.quality:
            mask = out.quality[lines]
            mask[:] = 0
            mask[:, 0] = np.minimum(bright, 255)
            mask[:, 2] = np.minimum(dim, 255)
            mask[:, [1, 3, 4]] = tables.planes * ok[:, None, None]
            mask[~ok, 5] = min(raw.shape[1], 255)

    def _shifted(self, raw: NDArray[Any], lines: slice) -> NDArray[np.float32]:
        """Give the counts without the offsets of their lines."""
        counts = raw.astype(np.float32)
        if self._factors is not None:
            counts -= self._factors[1, lines, None, None]
        return counts

    def _correct(self, raw: NDArray[Any], ok: NDArray[np.bool_], lines: slice, strip: int) -> int:
        tables, out, kind = self._tables, self.outputs, self._plan.reflectance
        with np.errstate(over="ignore", invalid="ignore"):
            value = (self._shifted(raw, lines) - tables.black) * tables.gain
            keep = tables.fix[:, 2] >= 0
            band, sample, low, high = tables.fix[keep].T
            below = value[:, low, sample]
            above = value[:, high, sample]
            value[:, band, sample] = below + (above - below) * tables.fix_weight[keep]
        value[~ok] = np.nan
        # what is stored is multiplied once: the scales of the lines, and that of the type
        scale = np.ones((len(raw), 1, 1), np.float32)
        if self._factors is not None:
            scale = self._factors[0, lines, None, None]
        if self._plan.preview_factor:
            starts = np.arange(0, raw.shape[2], self._plan.preview_factor)
            filled = np.where(np.isnan(value), np.float32(0), value * scale)
            out.sums[strip] = np.add.reduceat(filled.sum(axis=0), starts, axis=1)
        if kind is None:
            return 0
        if kind == "float32":
            out.reflectance[lines] = value * scale
            return 0
        least, greatest = LIMITS[kind]
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.rint(value * (scale * np.float32(SCALE)))
            clipped = np.count_nonzero((scaled < least) | (scaled > greatest))
        unknown = np.isnan(scaled)
        scaled[unknown] = 0
        stored = np.clip(scaled, least, greatest).astype(out.reflectance.dtype)
        stored[unknown] = invalid_value(kind)
        out.reflectance[lines] = stored
        return int(clipped)
