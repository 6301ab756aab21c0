"""The pixel pass on the GPU: tables, places for results, and one launch a block.

Knows the tables, the interface and cuda_device; the arithmetic is in ``pixel_pass.cu``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cuda_device import PADDING, STRIP, Shape, address, device_errors
from pipeline.compute.interface import PassOutputs
from pipeline.compute.tables import NEUTRAL, PassPlan, PassTables, pass_tables
from pipeline.errors import DeviceError

if TYPE_CHECKING:
    from pipeline.compute.cuda import CudaBackend

KINDS: Final = {None: 0, "int16": 1, "uint16": 2, "float32": 3}
#: Most strips of lines that a thread works on for one row of the tables; STRIPS in the source.
STRIPS: Final = 4
#: Most bands of a block of threads: its counters are bytes.
BANDS: Final = 240
#: Blocks of threads for each multiprocessor, of which three are at work: as many are kept where a
#: block takes more strips, and as many where it takes more bands, so that the end is level.
BLOCKS_BY_STRIPS, BLOCKS_BY_BANDS = 4, 16

#: ``struct Pass`` of the source.
PASS: Final = np.dtype(
    [(name, "u8") for name in ("raw", "black", "gain", "place", "fix", "weight", "planes", "out")]
    + [(name, "u8") for name in ("sums", "totals", "clipped", "quality", "factors")]
    + [("bright", "u8"), ("dim", "u8")]
    + [("tickets", "u8"), ("cutting", "u8"), ("pitch", "i8")]
    + [(name, "i4") for name in ("bands", "samples", "most_lines", "strips_each", "bands_each")]
    + [(name, "i4") for name in ("fixes", "level", "dark", "kind", "preview", "mask")],
    align=True,
)


def share_out(
    tiles: int, strips: int, bands: int, processors: int, shape: Shape
) -> tuple[int, int]:
    """Choose strips and bands of a block of threads: as many as leave work for the whole GPU.

    With more strips the tables are read less often, with more bands less is left to add up.
    """
    rows = -(-bands // shape.rows)
    work = tiles * strips * rows
    strips_each = min(STRIPS, strips, max(work // (BLOCKS_BY_STRIPS * processors), 1))
    spare = work // (strips_each * BLOCKS_BY_BANDS * processors)
    bands_each = min(max(BANDS // shape.rows, 1), rows, max(spare, 1))
    return strips_each, bands_each * shape.rows


@dataclass
class Results:
    """Where a block's results are on the device and, pinned, on the host."""

    call: NDArray[Any]  # (1,) PASS
    out: Any
    small: Any
    small_host: NDArray[np.uint8]
    totals: NDArray[np.uint32]  # (tiles, 2, lines), a view of small_host
    clipped: NDArray[np.uint32]  # (tiles · strip groups,), likewise
    valid: Any
    valid_host: NDArray[np.uint8]
    factors: Any
    factors_host: NDArray[np.float32]
    computed: Any
    done: Any
    outputs: PassOutputs


class CudaPixelPass:
    """The pixel pass on the GPU; see :class:`pipeline.compute.interface.PixelPass`.

    Parameters
    ----------
    plan : PassPlan
    backend : CudaBackend
    strips_each, bands_each : int, optional
        Strips of lines and bands of a block of threads; chosen by default.
    """

    def __init__(
        self, plan: PassPlan, backend: CudaBackend, strips_each: int = 0, bands_each: int = 0
    ) -> None:
        device = backend.device
        self.plan, self._backend = plan, backend
        tables = pass_tables(plan)
        self._tiles = -(-plan.samples // device.shape.span)
        strips = (plan.block_lines + STRIP - 2) // STRIP + 1
        chosen = share_out(self._tiles, strips, plan.bands, device.processors, device.shape)
        self.strips_each = strips_each or chosen[0]
        self.bands_each = bands_each or chosen[1]
        self._strips = strips
        self._groups = -(-strips // self.strips_each)
        self._kernel = backend.kernels(plan)["pass_pixels"]
        self._packed_kernel = (
            backend.kernels(plan, packed=True)["pass_pixels"] if plan.packed else None
        )
        self._tables = self._upload(tables)
        self._call = self._common(tables)
        self._all_valid = device.upload(np.ones(plan.block_lines, np.uint8))
        self._results = [self._make_results() for _ in range(backend.depth)]
        self._under_way: deque[tuple[Results, int, int]] = deque()
        self._turn = 0

    def start(
        self,
        valid: NDArray[np.bool_],
        phase: int,
        factors: NDArray[np.float32] | None = None,
    ) -> None:
        """Queue the work on the block loaded last, and the copies of its results."""
        if len(self._under_way) == len(self._results):
            raise DeviceError(
                f"CUDA: {len(self._results)} blocks are under way, wait for one first"
            )
        with device_errors("correcting a block"):
            self._start(valid, phase, factors)

    def wait(self) -> tuple[PassOutputs, int]:
        """Wait for the results of the block that was started first."""
        results, lines, blocks = self._under_way.popleft()
        with device_errors("correcting a block"):
            results.done.synchronize()
        out, totals = results.outputs, results.totals[:, :, :lines]
        np.add.reduce(totals[:, 0], axis=0, dtype=np.uint32, out=out.saturated[:lines])
        np.add.reduce(totals[:, 1], axis=0, dtype=np.uint32, out=out.below_dark[:lines])
        return out, int(results.clipped[:blocks].sum())

    def warm(self) -> None:
        """Launch each kernel once on the armed shape."""
        plan = self.plan
        for packed in (False, True) if self._packed_kernel else (False,):
            place = self._backend.place
            place.lines, place.packed = plan.block_lines, packed
            self.start(np.ones(plan.block_lines, np.bool_), 0)
            self.wait()

    def again(self) -> None:
        """Queue the kernel by itself on the block loaded last, without copies: to be measured."""
        self._launch(self._results[self._turn], self._all_valid, 0)

    def _launch(self, results: Results, flags: Any, phase: int) -> int:
        """Queue the kernel on the block loaded last; gives the number of blocks of threads."""
        plan, device = self.plan, self._backend.device
        place = self._backend.await_block()
        strips = -(-(place.lines + phase) // STRIP)
        groups = -(-strips // self.strips_each)
        call = results.call
        call["raw"], call["pitch"] = place.raw.data.ptr, self._pitch(place.packed)
        kernel = self._packed_kernel if place.packed else self._kernel
        if kernel is None:
            raise DeviceError("CUDA: found a packed block, armed for counts")
        kernel(
            (self._tiles, groups, -(-plan.bands // self.bands_each)),
            (device.shape.threads,),
            (call, flags, np.int32(place.lines), np.int32(strips), np.int32(phase)),
            stream=device.stream,
        )
        self._backend.mark_read()
        return self._tiles * groups

    def _start(
        self, valid: NDArray[np.bool_], phase: int, factors: NDArray[np.float32] | None
    ) -> None:
        backend, device = self._backend, self._backend.device
        results = self._results[self._turn]
        self._turn = (self._turn + 1) % len(self._results)
        lines = backend.place.lines
        flags = self._all_valid
        if not valid.all():
            flags = results.valid
            results.valid_host[:lines] = valid
            backend.send_along(flags.data.ptr, address(results.valid_host), lines)
        if self.plan.factors:
            results.factors_host[:, :lines] = NEUTRAL if factors is None else factors
            size = results.factors_host.nbytes
            backend.send_along(results.factors.data.ptr, address(results.factors_host), size)
        blocks = self._launch(results, flags, phase)
        results.computed.record(device.stream)
        device.stream_out.wait_event(results.computed)
        backend.copy_out(
            address(results.small_host), results.small.data.ptr, results.small_host.nbytes
        )
        if self.plan.reflectance:
            kept = results.outputs.reflectance[:lines]
            backend.copy_out(address(kept), results.out.data.ptr, kept.nbytes)
        results.done.record(device.stream_out)
        self._under_way.append((results, lines, blocks))

    def _pitch(self, packed: bool) -> int:
        plan = self.plan
        pixels = plan.bands * plan.samples
        if packed and plan.packed is not None:
            return plan.packed.packed_bytes(pixels)
        return pixels * plan.dtype.itemsize

    def _upload(self, tables: PassTables) -> dict[str, Any]:
        """Bring the tables to the device, as the kernel wants them."""
        most = float(np.finfo(np.float32).max)
        place = np.full(tables.black.shape, -1, np.int32)
        place[tables.fix[:, 0], tables.fix[:, 1]] = np.arange(len(tables.fix))
        host: dict[str, NDArray[Any]] = {
            # finite, so that times 0 it is 0; where it was not, the gain is NaN anyway
            "black": np.nan_to_num(tables.black, nan=-most, posinf=most, neginf=-most),
            "gain": tables.gain,
            "place": place,
            "fix": tables.fix,
            "weight": tables.fix_weight,
            "planes": tables.planes,
        }
        return {name: self._backend.device.upload(table) for name, table in host.items()}

    def _common(self, tables: PassTables) -> NDArray[Any]:
        """Make what is the same in all calls: tables, counters, switches."""
        plan, device = self.plan, self._backend.device
        counters = self._strips * STRIP * plan.samples
        tickets = self._tiles * self._groups
        self._counters = device.empty((2 * counters + 2 * tickets,), np.uint32)
        start = self._counters.data.ptr
        call = np.zeros(1, PASS)
        for name, table in self._tables.items():
            call[name] = table.data.ptr
        call["bright"], call["dim"] = start, start + 4 * counters
        call["tickets"], call["cutting"] = start + 8 * counters, start + 8 * counters + 4 * tickets
        call["bands"], call["samples"], call["most_lines"] = (
            plan.bands,
            plan.samples,
            plan.block_lines,
        )
        call["strips_each"], call["bands_each"] = self.strips_each, self.bands_each
        call["fixes"], call["level"], call["dark"] = len(tables.fix), tables.level, tables.dark
        call["kind"], call["mask"] = KINDS[plan.reflectance], plan.quality
        call["preview"] = plan.preview_factor > 0
        return call

    def _make_results(self) -> Results:
        plan, device = self.plan, self._backend.device
        lines, bands, samples = plan.block_lines, plan.bands, plan.samples
        # all that is small lies together, so that one copy brings it out
        parts = {
            "sums": ((plan.rows if plan.preview_factor else 0, bands, plan.cells), np.float32),
            "totals": ((self._tiles, 2, lines), np.uint32),
            "clipped": ((self._tiles * self._groups,), np.uint32),
            "quality": ((lines if plan.quality else 0, 6, samples), np.uint8),
        }
        starts, size = {}, 0
        for name, (shape, kind) in parts.items():
            starts[name] = size
            size += -(-int(np.prod(shape)) * np.dtype(kind).itemsize // PADDING) * PADDING
        small, small_host = device.empty((size,), np.uint8), device.pinned((size,), np.uint8)
        views = {
            name: np.frombuffer(small_host, kind, int(np.prod(shape)), starts[name]).reshape(shape)
            for name, (shape, kind) in parts.items()
        }
        stored = np.dtype(plan.reflectance or "int16")
        shape = (lines if plan.reflectance else 0, bands, samples)
        out = device.empty(shape, stored)
        rows = (2, lines if plan.factors else 0)
        factors = device.upload(np.repeat(NEUTRAL, rows[1], axis=1))
        factors_host = device.pinned(rows, np.float32)
        call = self._call.copy()
        call["out"] = out.data.ptr
        call["factors"] = factors.data.ptr if plan.factors else 0
        for name, start in starts.items():
            call[name] = small.data.ptr + start
        outputs = PassOutputs(
            *(device.pinned(shape, stored), np.zeros(lines, np.uint32), np.zeros(lines, np.uint32)),
            *(views["quality"], views["sums"]),
        )
        return Results(
            *(call, out, small, small_host, views["totals"], views["clipped"]),
            *(device.empty((lines,), np.uint8), device.pinned((lines,), np.uint8)),
            *(factors, factors_host),
            *(device.event(), device.event(), outputs),
        )
