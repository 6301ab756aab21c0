"""The rows of a GPU: copies over the bus and within the device, the same stages beside them.

Without a GPU every row says so, and none has a figure. Blocks lie in host slots that the engine has
pinned, as those of a capture, and go through it as many at a time as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import cuda_codings, extras
from bench.data import Blocks, Recording
from bench.kernels import COMPONENTS, feed, lines_per_s
from bench.limits import in_threads
from bench.measure import Row, Run, Spread, alternate, compare, spread
from bench.settings import Settings
from pipeline.coding.cuda import Coder
from pipeline.compute import choose_backend
from pipeline.config import PcaConfig
from pipeline.engine import make_engine, preview_levels
from pipeline.errors import DeviceError

SECTION = "CUDA"
#: Blocks of this size where the options do not say, MiB.
BLOCK_MIB = 16.0
#: Blocks that lie on the device at once while only copies are measured.
SLOTS = 4
#: Bytes of a copy within the device, at most, and how often it and a kernel are repeated.
DEVICE_BYTES, DEVICE_TIMES = 2 << 30, 20
#: Bytes of a block that is to be larger than the device's caches.
LARGE_BYTES = 256 << 20
TO_DEVICE, TO_HOST = "pinned copy to the device", "pinned copy to the host"
BOTH, WITHIN = "both directions at once", "copy within the device"

#: What is armed, the limit, what part of it must be reached, and whether output counts as well.
CHAINS: tuple[tuple[str, dict[str, Any], str, float, bool], ...] = (
    (
        f"host to host, whole chain, {COMPONENTS} components, scores and previews back",
        {"pca": PcaConfig(components=COMPONENTS)},
        TO_DEVICE,
        0.85,
        False,
    ),
    (
        "host to host, int16 reflectance back as well, in and out",
        {"reflectance": "int16"},
        BOTH,
        0.7,
        True,
    ),
)
FUSED = "fused kernel on the device, read and written"
TOGETHER = "two engines at once, together"
LATER = "two engines at once, p99 of a block's time"


class BusCopy:
    """Copies between pinned host memory and the device, queued without waiting: GB/s.

    Parameters
    ----------
    device : pipeline.compute.cuda_device.Device
    blocks : sequence of ndarray
        Pinned.
    to_device, to_host : bool
        Which ways, at once on two streams.
    """

    def __init__(
        self, device: Any, blocks: Sequence[NDArray[Any]], *, to_device: bool, to_host: bool
    ) -> None:
        self._device, self._blocks = device, blocks
        self._size = blocks[0].nbytes
        self._to_device, self._to_host = to_device, to_host
        self._places = [device.empty((self._size,), np.uint8) for _ in range(2 * SLOTS)]
        device.settle()

    def __call__(self) -> float:
        """Copy every block once each way."""
        from pipeline.compute.cuda_device import DEVICE_TO_HOST, HOST_TO_DEVICE

        device, size = self._device, self._size
        began = time.perf_counter()
        for number, block in enumerate(self._blocks):
            if self._to_device:
                place = self._places[number % SLOTS].data.ptr
                device.copy(place, block.ctypes.data, size, HOST_TO_DEVICE, device.stream_in)
            if self._to_host:
                place = self._places[SLOTS + number % SLOTS].data.ptr
                other = self._blocks[number - len(self._blocks) // 2]
                device.copy(other.ctypes.data, place, size, DEVICE_TO_HOST, device.stream_out)
        device.settle()
        moved = size * len(self._blocks) * (self._to_device + self._to_host)
        return moved / (time.perf_counter() - began) / 1e9


class DeviceCopy:
    """A copy within the device's memory: GB/s read and written."""

    def __init__(self, device: Any, nbytes: int = DEVICE_BYTES) -> None:
        self._device = device
        self._from, self._to = (device.empty((nbytes,), np.uint8) for _ in range(2))
        device.settle()

    def __call__(self) -> float:
        """Copy some times."""
        from pipeline.compute.cuda_device import DEVICE_TO_DEVICE

        device, size = self._device, int(self._from.nbytes)
        began = time.perf_counter()
        for _ in range(DEVICE_TIMES):
            to, source = self._to.data.ptr, self._from.data.ptr
            device.copy(to, source, size, DEVICE_TO_DEVICE, device.stream)
        device.settle()
        return 2 * size * DEVICE_TIMES / (time.perf_counter() - began) / 1e9


def rows(settings: Settings) -> Iterator[Row]:
    """Measure every geometry; without a GPU, say so."""
    try:
        backend = choose_backend("cuda")
    except DeviceError:
        yield from missing()
        return
    try:
        device: Any = backend.device  # type: ignore[attr-defined]
        for number, geometry in enumerate(settings.geometries):
            recording = Recording(geometry, settings.different_lines)
            lines = geometry.block_lines(settings.block_mib or BLOCK_MIB)
            with Blocks(recording, lines, settings.buffer_bytes) as blocks:
                if number == 0:
                    yield from _limit_rows(backend, blocks, settings)
                yield _fused_row(device, recording, settings)
                yield from _chain_rows(device, recording, blocks, settings)
                yield from _pair_rows(recording, blocks, settings)
            watched = Recording(geometry, settings.different_lines, watched=True)
            yield from _extras_rows(watched, settings)
        coder = Coder(device.cupy, device.shape)
        yield from cuda_codings.rows(settings, SECTION, coder)
    finally:
        backend.close()


def missing() -> Iterator[Row]:
    """Give the rows of a machine without a GPU."""
    asked = [(FUSED, WITHIN, 0.75, False)]
    asked += [(step, limit, required, False) for step, _, limit, required, _ in CHAINS]
    asked += [(TOGETHER, "one engine", 0.95, False), (LATER, "one engine", 2.0, True)]
    for step, limit, required, at_most in asked:
        yield Row(
            section=SECTION,
            step=step,
            limit=limit,
            required=required,
            at_most=at_most,
            note="no GPU here",
        )
    yield from extras.missing(SECTION)
    yield from cuda_codings.missing(SECTION)


def _copies(device: Any, blocks: Blocks) -> dict[str, Run]:
    return {
        name: BusCopy(device, blocks.raw, to_device=down, to_host=up)
        for name, down, up in (
            (TO_DEVICE, True, False),
            (TO_HOST, False, True),
            (BOTH, True, True),
        )
    }


def _limit_rows(backend: Any, blocks: Blocks, settings: Settings) -> Iterator[Row]:
    # a backend of its own, which gives the memory back: it can be pinned by one at a time
    holder = choose_backend("cuda")
    try:
        holder.pin(blocks.ring.memory)
        within = DeviceCopy(backend.device, min(DEVICE_BYTES, 2 * settings.buffer_bytes))
        runs: dict[str, Run] = {**_copies(backend.device, blocks), WITHIN: within}
        for name, run in runs.items():
            run()
            rate = spread([run() for _ in range(settings.rounds)])
            yield Row(section="limits", step=name, rate=rate)
    finally:
        holder.close()


def _fused_row(device: Any, recording: Recording, settings: Settings) -> Row:
    """Measure the kernel by itself, on a block that is larger than the device's caches."""
    geometry = recording.geometry
    lines = max(1, min(LARGE_BYTES, settings.buffer_bytes) // geometry.line_bytes)
    backend: Any = choose_backend("cuda")
    try:
        plan = recording.plan(lines, reflectance="int16").pass_plan(
            preview_factor=preview_levels(geometry.samples)[-1]
        )
        kernel = FusedKernel(backend, plan, recording)
        copy = DeviceCopy(device, min(DEVICE_BYTES, 2 * settings.buffer_bytes))
        rate, limit, ratio = compare(kernel, copy, settings.rounds)
    finally:
        backend.close()
    return Row(
        section=SECTION,
        step=FUSED,
        geometry=str(geometry),
        block_mib=lines * geometry.line_bytes / 2**20,
        rate=rate,
        # half of the bytes are written
        lines_per_s=lines_per_s(rate, geometry) / 2,
        limit=WITHIN,
        limit_rate=limit,
        ratio=ratio,
        required=0.75,
    )


def _extras_rows(recording: Recording, settings: Settings) -> Iterator[Row]:
    """Measure the kernel by itself with each of the extras, beside the correction alone."""
    geometry = recording.geometry
    lines = max(1, min(LARGE_BYTES, settings.buffer_bytes) // geometry.line_bytes)
    kernels: dict[str, FusedKernel] = {}
    with ExitStack() as stack:
        for step, plan in extras.plans(recording, lines, backend="cuda"):
            backend: Any = choose_backend("cuda")
            stack.callback(backend.close)
            kernels[step] = FusedKernel(backend, plan.pass_plan(), recording)
        alone = kernels.pop(extras.CORRECTION)
        for step, kernel in kernels.items():
            rate, limit, ratio = compare(kernel, alone, settings.rounds)
            yield Row(
                section=SECTION,
                step=step,
                geometry=str(geometry),
                block_mib=lines * geometry.line_bytes / 2**20,
                rate=rate,
                lines_per_s=lines_per_s(rate, geometry) / 2,
                limit=extras.CORRECTION,
                limit_rate=limit,
                ratio=ratio,
                required=extras.REQUIRED if step == extras.EXTRAS else None,
            )


class FusedKernel:
    """The pixel pass of a CUDA backend without its copies: GB/s of counts read and int16 written.

    What else it writes (counts, quality, preview sums) is left out of the account.
    """

    def __init__(self, backend: Any, plan: Any, recording: Recording) -> None:
        self._device = backend.device
        self._operation = backend.pixel_pass(plan)
        chosen = np.arange(plan.block_lines) % len(recording.lines)
        raw = np.take(recording.lines, chosen, axis=0)
        self._moved = 2 * raw.nbytes
        backend.load(raw)
        self._device.settle()

    def __call__(self) -> float:
        """Launch it some times on the block that lies there."""
        operation = self._operation
        began = time.perf_counter()
        for _ in range(DEVICE_TIMES):
            operation.again()
        self._device.settle()
        return self._moved * DEVICE_TIMES / (time.perf_counter() - began) / 1e9


def _chain_rows(
    device: Any, recording: Recording, blocks: Blocks, settings: Settings
) -> Iterator[Row]:
    copies = _copies(device, blocks)
    for step, chosen, limit_name, required, output in CHAINS:
        times = 2 if output else 1
        plan = recording.plan(blocks.block_lines, backend="cuda", **chosen)
        with make_engine(plan) as engine:
            engine.pin(blocks.ring.memory)

            def subject() -> float:
                return times * blocks.nbytes / feed(engine, blocks.raw) / 1e9  # noqa: B023

            rate, bound, ratio = compare(subject, copies[limit_name], settings.rounds)
        yield Row(
            section=SECTION,
            step=step,
            geometry=str(recording.geometry),
            block_mib=blocks.mib,
            rate=rate,
            lines_per_s=lines_per_s(rate, recording.geometry) / times,
            limit=limit_name,
            limit_rate=bound,
            ratio=ratio,
            required=required,
        )


def _pair_rows(recording: Recording, blocks: Blocks, settings: Settings) -> Iterator[Row]:
    """Measure two engines in one process, as two cameras on one GPU have, beside one alone."""
    plan = recording.plan(blocks.block_lines, backend="cuda", pca=PcaConfig(components=COMPONENTS))
    half = len(blocks.raw) // 2
    halves = blocks.raw[:half], blocks.raw[half : 2 * half]
    moved = 2 * half * blocks.raw[0].nbytes
    cut = half * blocks.ring.slot_bytes
    late: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        engines = [stack.enter_context(make_engine(plan)) for _ in halves]
        engines[0].pin(blocks.ring.memory[:cut])
        engines[1].pin(blocks.ring.memory[cut:])

        def one() -> float:
            ages: list[float] = []
            seconds = feed(engines[0], halves[0] * 2, ages=ages)
            late[0].append(float(np.quantile(ages, 0.99)))
            return moved / seconds / 1e9

        def two() -> float:
            ages: tuple[list[float], list[float]] = ([], [])
            failed: list[BaseException] = []

            def work(number: int) -> None:
                try:
                    feed(engines[number], halves[number], ages=ages[number])
                except BaseException as error:
                    failed.append(error)

            seconds = in_threads(work, 2)
            if failed:
                raise failed[0]
            late[1].append(max(float(np.quantile(some, 0.99)) for some in ages))
            return moved / seconds / 1e9

        together, alone = alternate((two, one), settings.rounds)
    base: dict[str, Any] = {
        "section": SECTION,
        "geometry": str(recording.geometry),
        "block_mib": blocks.mib,
        "limit": "one engine",
    }
    rate = spread(together)
    yield Row(
        **base,
        step=TOGETHER,
        rate=rate,
        lines_per_s=lines_per_s(rate, recording.geometry),
        limit_rate=spread(alone),
        ratio=_ratio(together, alone),
        required=0.95,
    )
    slow, quick = ([1e3 * value for value in some[-settings.rounds :]] for some in reversed(late))
    yield Row(
        **base,
        step=LATER,
        unit="ms",
        rate=spread(slow),
        limit_rate=spread(quick),
        ratio=_ratio(slow, quick),
        required=2.0,
        at_most=True,
    )


def _ratio(subject: Sequence[float], limit: Sequence[float]) -> Spread:
    return spread([a / b for a, b in zip(subject, limit, strict=True)])
