"""How the CUDA backend moves blocks, on the CPU: order, pinned memory, nothing made late."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.compute.cuda import DEPTH, CudaBackend
from pipeline.compute.interface import PassOutputs
from pipeline.errors import DeviceError

sys.path.insert(0, str(Path(__file__).parent / "host_shim"))
import cupy_on_host
from cuda_cases import assert_equal, counts_of, expected, host_of, plan_of

#: From what happens at once, through what happens late, to streams that run ahead of the others.
SCHEDULES = ["eager", "lazy", "0", "1", "2", "01", "02", "random 1", "random 2", "random 3"]
Open = Callable[..., CudaBackend]


@dataclass
class Run:
    """What a capture of several blocks and groups gave."""

    passes: list[tuple[PassOutputs, int]]
    moments: list[Any]
    scores: list[NDArray[np.int16]]
    longer: list[NDArray[np.float32]]


def run_capture(backend: CudaBackend, *, pin: bool, seal: bool) -> Run:
    """Eight blocks, as the engine moves them: some under way, groups projected two blocks later.

    Moments are asked for as late as they may be, so that nothing but events holds work together.
    """
    rng = np.random.default_rng(5)
    lines, bands, samples, groups, k = 6, 11, 24, 3, 3
    plan = plan_of(rng, (lines, bands, samples))
    memory = np.zeros((DEPTH + 1) * lines * bands * samples * 2, np.uint8)
    slots = memory.view("u2").reshape(DEPTH + 1, lines, bands, samples)
    scores = np.zeros((8, lines, k, samples), "i2")
    operation = backend.pixel_pass(plan)
    math = backend.group_math(plan, lines, groups, k)
    if pin:
        backend.pin(memoryview(memory))
        backend.pin(memoryview(scores).cast("B"))
    host_of(backend).sealed = seal
    run = Run([], [], [], [])
    under_way: list[int] = []
    waiting: list[Any] = []
    raw = counts_of(rng, (8, lines, bands, samples))
    valid = rng.random((8, lines)) < 0.8
    valid[::2] = True
    valid[:, 0] = True

    def collect() -> None:
        under_way.pop(0)
        out, clipped = operation.wait()
        copies = {name: np.copy(made) for name, made in vars(out).items() if made is not None}
        run.passes.append((PassOutputs(**copies), clipped))

    def ask(learned: Any) -> None:
        thread = threading.Thread(target=lambda: run.moments.append(learned()))  # as the stage does
        thread.start()
        thread.join()

    def project(group: int) -> None:
        basis = np.random.default_rng(group).normal(size=(k, bands)).astype("f4") * (1 + 40 * group)
        waiting.append(
            math.project(
                *(group % groups, lines, valid[group], np.full(bands, 900, "f4"), basis),
                *(0.5, scores[group]),
            )
        )

    learned: list[Any] = []
    for n in range(8):
        slot = slots[n % (DEPTH + 1)]
        slot[...] = raw[n]
        backend.load(slot)
        if n % 3 == 0:
            math.put(n % groups, 0, lines, 0)
        operation.start(valid[n], n % 4)
        under_way.append(n)
        if n % 3:
            math.put(n % groups, 0, lines, 0)
        if len(learned) == groups:
            ask(learned.pop(0))
        chosen = np.flatnonzero(valid[n])[::2]
        learned.append(math.learn(n % groups, chosen, 1 + n % 2, 4000.0, np.full(bands, 1000.0)))
        if n >= 2:
            project(n - 2)
        if len(under_way) == DEPTH:
            collect()
            slots[(n - DEPTH + 1) % (DEPTH + 1)] = 0xFFFF  # collected: the slot is free
    while under_way:
        collect()
    project(6)
    project(7)
    while learned:
        ask(learned.pop(0))
    run.longer = [wait() for wait in waiting]
    run.scores = list(scores)
    host_of(backend).sealed = False
    for n, got in enumerate(run.passes):
        rows = -(-(lines + n % 4) // 4)
        assert_equal(got, expected(plan, raw[n], valid[n], n % 4), lines, rows)
    return run


@pytest.mark.parametrize("pin", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_whatever_runs_first_the_results_are_the_same_and_nothing_is_made_late(
    open_backend: Open, schedule: str, pin: bool
) -> None:
    first = open_backend()
    want = run_capture(first, pin=True, seal=False)
    backend = open_backend(schedule)
    got = run_capture(backend, pin=pin, seal=True)
    for name in ("scores", "longer"):
        for found, wanted in zip(getattr(got, name), getattr(want, name), strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert all(np.ptp(scores) for scores in got.scores)
    assert max(longer.max() for longer in got.longer) > 1
    for (n, sums, products), (m, *wanted) in zip(got.moments, want.moments, strict=True):
        assert n == m > 0
        np.testing.assert_array_equal(sums, wanted[0])
        np.testing.assert_array_equal(products, wanted[1])
    first.close()
    backend.close()


@pytest.mark.parametrize("pin", [True, False])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_groups_alone_are_in_order_as_well(
    open_backend: Open, rng: np.random.Generator, schedule: str, pin: bool
) -> None:
    """Nobody waits for a block here: what it was copied through must be free by itself."""
    bands, samples, blocks = 3, 16, 8
    plan = plan_of(rng, (2, bands, samples), bad_pixels=None)
    backend = open_backend(schedule)
    math = backend.group_math(plan, 2 * blocks, 1, 1)
    raw = counts_of(rng, (blocks, 2, bands, samples))
    if pin:
        backend.pin(memoryview(raw).cast("B"))
    host_of(backend).sealed = True
    for n in range(blocks):
        backend.load(raw[n])
        math.put(0, 0, 2, 2 * n)
    out = np.zeros((2 * blocks, 1, samples), "i2")
    axis = np.array([[0, 1, 0]], "f4")
    math.project(0, 2 * blocks, np.ones(2 * blocks, bool), np.zeros(bands, "f4"), axis, 1, out)()
    np.testing.assert_array_equal(out[:, 0], raw.reshape(-1, bands, samples)[:, 1])
    host_of(backend).sealed = False
    backend.close()


def test_pinned_memory_is_copied_from_straight_and_given_back(open_backend: Open) -> None:
    backend = open_backend()
    host = host_of(backend)
    run_capture(backend, pin=True, seal=True)
    assert len(host.registered) == 2
    block, scores = 6 * 11 * 24 * 2, 6 * 3 * 24 * 2
    straight = [
        (kind, size) for kind, start, size in host.copied if host.registered.hold(start, size)
    ]
    assert straight.count((cupy_on_host.H2D, block)) == 8
    assert straight.count((cupy_on_host.D2H, scores)) == 8
    assert backend.pinned_bytes == 4 * block + 8 * scores
    backend.close()
    backend.close()
    assert len(host.registered) == 0


def test_memory_that_cannot_be_pinned_is_no_error(open_backend: Open) -> None:
    backend = open_backend()
    host_of(backend).may_register = False
    run_capture(backend, pin=True, seal=True)
    assert backend.pinned_bytes == 0
    backend.close()


def test_pinning_the_same_memory_twice_is_done_once(open_backend: Open) -> None:
    backend = open_backend()
    memory = memoryview(bytearray(1 << 16))
    backend.pin(memory)
    backend.pin(memory[100:200])
    backend.pin(memory[:0])
    assert backend.pinned_bytes == 1 << 16
    assert backend.is_pinned(backend._starts[0] + 5, 10)
    assert not backend.is_pinned(backend._starts[0] - 1, 10)
    assert not backend.is_pinned(backend._starts[0] + (1 << 16) - 5, 10)
    backend.close()


def test_two_backends_in_turn_do_not_touch_each_other(
    tmp_path_factory: pytest.TempPathFactory, rng: np.random.Generator
) -> None:
    stand_in = cupy_on_host.make(tmp_path_factory.getbasetemp(), "lazy")
    pair = [CudaBackend(stand_in, cupy_on_host.SHAPE) for _ in range(2)]
    plans = [plan_of(rng, (4, 5, 16)) for _ in pair]
    operations = [b.pixel_pass(p) for b, p in zip(pair, plans, strict=True)]
    stand_in.host.sealed = True
    raw = counts_of(rng, (2, 4, 4, 5, 16))
    for n in range(4):
        for i in (0, 1):
            pair[i].load(raw[i, n])
            operations[i].start(np.ones(4, bool), 0)
        first = n % 2
        streams = stand_in.host.streams
        before = [len(stream.queue) for stream in streams]
        got = operations[first].wait()
        # waiting for one has moved nothing of the other
        other = slice(3, 6) if first == 0 else slice(0, 3)
        assert [len(stream.queue) for stream in streams][other] == before[other]
        want = expected(plans[first], raw[first, n], np.ones(4, bool), 0)
        assert_equal(got, want, 4, 1)
        assert_equal(
            operations[1 - first].wait(),
            expected(plans[1 - first], raw[1 - first, n], np.ones(4, bool), 0),
            *(4, 1),
        )
    stand_in.host.sealed = False
    for backend in pair:
        backend.close()


def test_scores_nobody_waited_for_are_not_lost(
    open_backend: Open, rng: np.random.Generator
) -> None:
    plan = plan_of(rng, (4, 5, 16))
    backend = open_backend("lazy")
    math = backend.group_math(plan, 4, 1, 1)
    backend.load(counts_of(rng, (4, 5, 16)))
    math.put(0, 0, 4, 0)
    outs = [np.zeros((4, 1, 16), "i2") for _ in range(2)]
    axis = np.zeros((1, 5), "f4")
    axis[0, 2] = 1
    waits = [
        math.project(0, 4, np.ones(4, bool), np.full(5, mean, "f4"), axis, 1.0, out)
        for mean, out in zip((0, 500), outs, strict=True)
    ]
    for wait in waits:
        wait()
    np.testing.assert_array_equal(outs[0] - outs[1], 500)


def test_more_blocks_than_there_is_room_for_are_refused(
    open_backend: Open, rng: np.random.Generator
) -> None:
    plan = plan_of(rng, (4, 5, 16))
    backend = open_backend()
    operation = backend.pixel_pass(plan)
    raw = counts_of(rng, (4, 5, 16))
    for _ in range(DEPTH):
        backend.load(raw)
        operation.start(np.ones(4, bool), 0)
    with pytest.raises(DeviceError, match="3 blocks are under way"):
        operation.start(np.ones(4, bool), 0)
    with pytest.raises(DeviceError, match="found a block of 3200 bytes, armed for 640"):
        backend.load(np.zeros((20, 5, 16), "u2"))
    with pytest.raises(DeviceError, match=r"found blocks of \(8, 5, 16\)"):
        backend.pixel_pass(plan_of(rng, (8, 5, 16)))
    with pytest.raises(DeviceError, match="found 2 lines to a preview row"):
        backend.pixel_pass(plan_of(rng, (4, 5, 16), preview_factor=2))


def test_errors_of_the_device_are_device_errors_and_closing_raises_none(
    open_backend: Open, rng: np.random.Generator
) -> None:
    plan = plan_of(rng, (4, 5, 16))
    backend = open_backend()
    operation = backend.pixel_pass(plan)
    math = backend.group_math(plan, 4, 1, 1)

    def fail(*arguments: object, **named: object) -> None:
        raise cupy_on_host.CudaError("an illegal memory access was encountered")

    raw, ones = counts_of(rng, (4, 5, 16)), np.ones(4, bool)
    backend.load(raw)
    operation.start(ones, 0)
    math.put(0, 0, 4, 0)
    results = operation._under_way[0][0]
    runtime = backend.device.runtime
    results.done.synchronize = fail
    with pytest.raises(DeviceError, match="while correcting a block: an illegal"):
        operation.wait()
    kernel, operation._kernel = operation._kernel, fail
    with pytest.raises(DeviceError, match="while correcting a block"):
        operation.start(ones, 0)
    operation._kernel = kernel
    runtime.memsetAsync = fail
    with pytest.raises(DeviceError, match="while adding up moments"):
        math.learn(0, np.arange(4), 1, np.inf, np.zeros(5))
    runtime.memcpyAsync = fail
    with pytest.raises(DeviceError, match="while sending a block"):
        backend.load(raw)
    with pytest.raises(DeviceError, match="while keeping lines"):
        math.put(0, 0, 4, 0)
    runtime.hostUnregister = fail
    backend.pin(memoryview(bytearray(64)))
    backend.device.stream.synchronize = fail
    backend.close()


def test_kernels_that_do_not_compile_show_the_compilers_words(
    open_backend: Open, rng: np.random.Generator
) -> None:
    backend = open_backend()
    nvrtc = backend.device.cupy.cuda.nvrtc

    def refuse(*arguments: object) -> None:
        raise subprocess.CalledProcessError(6, "nvrtc")

    nvrtc.compileProgram = refuse
    nvrtc.getProgramLog = lambda program: "line 7: expected a ;"
    backend.device._compiled.clear()
    with pytest.raises(DeviceError, match="line 7: expected a ;"):
        backend.pixel_pass(plan_of(rng, (4, 5, 16)))
