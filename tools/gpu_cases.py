"""What gpu_check.py compares on a GPU: real widths against NumPy, streams of blocks under load.

The tests' own shapes are small, so that they run anywhere; here are lines of 1024 × 448, packed
ones, and two backends that hand blocks in from two threads. A case raises AssertionError or says
what it saw. Knows the compute backends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compute import PassPlan
from pipeline.compute.cpu import CpuBackend
from pipeline.compute.cuda import CudaBackend
from pipeline.compute.interface import PassOutputs
from pipeline.compute.unpack import unpack
from pipeline.layout import PIXEL_FORMATS
from pipeline.reflectance import correction

LEVEL = 4095
STEP = 0.5
#: Lines, bands, samples; the last of each is no whole number of vectors wide.
REAL = ((18, 448, 1024), (36, 224, 640), (33, 211, 1001))
SMALL = ((5, 9, 40), (6, 7, 13))
OUTPUTS = ("reflectance", "saturated", "below_dark", "quality")
Open = Callable[[], CudaBackend]
Case = Callable[[], str]


def cases(opened: Open, *, quick: bool = False) -> Iterator[tuple[str, Case]]:
    """Give names and cases."""
    shapes = SMALL if quick else REAL
    for shape in shapes:
        words = " × ".join(map(str, shape))
        for kind in ("int16", "uint16", "float32"):
            yield f"pixel pass to {kind}, {words}", lambda s=shape, k=kind: pass_case(opened, s, k)
        for name in ("Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed"):
            yield f"packed {name}, {words}", lambda s=shape, n=name: packed_case(opened, s, n)
        yield f"components, {words}", lambda s=shape: components_case(opened, s)
    blocks = 12 if quick else 200
    for engines in (1, 2):
        yield (
            f"{blocks} blocks in a stream, {engines} at once",
            lambda n=engines: stream_case(opened, shapes[0], n, blocks),
        )


def plan_of(shape: tuple[int, int, int], **more: Any) -> PassPlan:
    """Make a plan with references in which something is wrong here and there."""
    lines, bands, samples = shape
    rng = np.random.default_rng(7)
    black = rng.uniform(40, 120, (bands, samples))
    white = black + rng.uniform(100, 3500, (bands, samples))
    white[rng.random(white.shape) < 0.01] = 0
    settings: dict[str, Any] = {
        "dtype": np.dtype(np.uint16),
        "saturation_level": LEVEL,
        "correction": correction(black, white),
        "bad_pixels": rng.random((bands, samples)) < 0.003,
        "reflectance": "int16",
        "preview_factor": 4,
    }
    return PassPlan(bands=bands, samples=samples, block_lines=lines, **settings | more)


def counts_of(shape: tuple[int, ...], seed: int, most: int = LEVEL) -> NDArray[np.uint16]:
    """Make counts with both ends of their range among them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most + 1, shape, dtype=np.uint16)
    counts[..., 5::29] = most
    counts[..., 7::31] = 0
    return counts


def large(samples: int, bands: int, lines: int) -> tuple[PassPlan, NDArray[np.uint16]]:
    """Make a plan and one block for measuring, without the extremes."""
    some = np.random.default_rng(3).integers(200, 2500, (16, bands, samples), dtype=np.uint16)
    raw = np.take(some, np.arange(lines) % len(some), axis=0)
    return plan_of((lines, bands, samples)), raw


def expected(
    plan: PassPlan, raw: NDArray[Any], valid: NDArray[np.bool_], phase: int
) -> tuple[PassOutputs, int]:
    """Give what the CPU makes of a block."""
    backend = CpuBackend(1, "the reference")
    operation = backend.pixel_pass(plan)
    backend.load(raw)
    operation.start(valid, phase)
    try:
        return operation.wait()
    finally:
        backend.close()


def compare(got: tuple[PassOutputs, int], want: tuple[PassOutputs, int], rows: int) -> None:
    """Assert that two outputs are equal, and preview sums nearly."""
    assert got[1] == want[1], f"clipped: found {got[1]}, the CPU {want[1]}"
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(got[0], name), getattr(want[0], name), err_msg=name)
    sums = want[0].sums[:rows]
    scale = 1e-6 * float(np.abs(sums).max(initial=1.0)) * 16
    np.testing.assert_allclose(got[0].sums[:rows], sums, rtol=1e-5, atol=scale, err_msg="sums")


def pass_case(opened: Open, shape: tuple[int, int, int], kind: Any) -> str:
    """Every output of the pixel pass, lost lines among them, in all phases of a preview row."""
    plan = plan_of(shape, reflectance=kind)
    backend = opened()
    try:
        operation = backend.pixel_pass(plan)
        for phase in range(4):
            raw = counts_of(shape, phase)
            valid = np.arange(shape[0]) % 5 != phase
            backend.load(raw)
            operation.start(valid, phase)
            rows = -(-(shape[0] + phase) // 4)
            compare(operation.wait(), expected(plan, raw, valid, phase), rows)
    finally:
        backend.close()
    return "equal to the CPU"


def packed_case(opened: Open, shape: tuple[int, int, int], name: str) -> str:
    """Random bytes as packed lines, beside the counts that they unpack to."""
    fmt, pixels = PIXEL_FORMATS[name], shape[1] * shape[2]
    plan = plan_of(shape, packed=fmt, saturation_level=(1 << fmt.bits) - 1)
    rng = np.random.default_rng(11)
    packed = rng.integers(0, 256, (shape[0], fmt.packed_bytes(pixels)), dtype=np.uint8)
    raw = np.stack([unpack(line, fmt, pixels).reshape(shape[1:]) for line in packed])
    valid = np.ones(shape[0], np.bool_)
    backend = opened()
    try:
        operation = backend.pixel_pass(plan)
        math = backend.group_math(plan, shape[0], 1, 4)
        backend.load(packed)
        operation.start(valid, 1)
        math.put(0, 0, shape[0], 0)
        compare(operation.wait(), expected(plan_of(shape, saturation_level=plan.saturation_level),
                                           raw, valid, 1), -(-(shape[0] + 1) // 4))  # fmt: skip
        from_packed = scores_of(math, shape)
        backend.load(raw)
        math.put(0, 0, shape[0], 0)
        np.testing.assert_array_equal(from_packed, scores_of(math, shape), err_msg="scores")
    finally:
        backend.close()
    return "equal to the CPU on the counts"


def scores_of(math: Any, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Project a group on a fixed basis of four; scores in steps."""
    lines, bands, samples = shape
    basis = np.linalg.qr(np.random.default_rng(13).normal(size=(bands, 4)))[0].T
    out = np.empty((lines, 4, samples), np.int16)
    about = np.full(bands, 1000, np.float32)
    valid = np.ones(lines, np.bool_)
    longer = math.project(0, lines, valid, about, basis.astype(np.float32), STEP, out)()
    return out * np.asarray(longer)[:, None]


def components_case(opened: Open, shape: tuple[int, int, int]) -> str:
    """Moments and scores beside float64; float32 without TF32 keeps far closer than TF32 could."""
    lines, bands, samples = shape
    plan = plan_of(shape, bad_pixels=None)
    raw = counts_of(shape, 5)
    spectra = raw.astype(np.float64).transpose(0, 2, 1).reshape(-1, bands) - 1000
    backend = opened()
    try:
        math = backend.group_math(plan, lines, 1, 4)
        backend.load(raw)
        math.put(0, 0, lines, 0)
        used, first, second = math.learn(0, np.arange(lines), 1, np.inf, np.full(bands, 1000.0))()
        out = scores_of(math, shape)
    finally:
        backend.close()
    assert used == len(spectra), f"found {used} spectra, there are {len(spectra)}"
    wanted = spectra.T @ spectra
    error = float(np.abs(second - wanted).max() / np.abs(wanted).max())
    assert error < 1e-5, f"moments are off by {error:.1e} of the largest"
    np.testing.assert_allclose(first, spectra.sum(axis=0), rtol=1e-9, atol=1e-3)
    basis = np.linalg.qr(np.random.default_rng(13).normal(size=(bands, 4)))[0].astype(np.float32)
    scores = (spectra @ basis.astype(np.float64)).reshape(lines, samples, 4).transpose(0, 2, 1)
    off = float(np.abs(out - scores / STEP).max())
    bound = 0.5 + 1e-6 * LEVEL * bands**0.5 / STEP
    assert off <= bound, f"scores are off by {off:.3f} steps, allowed are {bound:.3f}"
    return f"moments to {error:.1e} of the largest, scores to {off:.3f} steps"


def stream_case(opened: Open, shape: tuple[int, int, int], engines: int, blocks: int) -> str:
    """Blocks in pinned memory, as many under way as there may be, each compared when it is out."""
    plan = plan_of(shape)
    memory = np.stack([counts_of(shape, seed) for seed in range(4)])
    valid = np.ones(shape[0], np.bool_)
    wanted = [expected(plan, raw, valid, 0) for raw in memory]
    failed: list[BaseException] = []
    backends = [opened() for _ in range(engines)]

    def work(backend: CudaBackend, seed: int) -> None:
        try:
            _stream(backend, plan, memory, wanted, np.random.default_rng(seed), blocks)
        except BaseException as error:
            failed.append(error)

    try:
        backends[0].pin(memoryview(memory).cast("B"))
        pinned = backends[0].pinned_bytes
        threads = [
            threading.Thread(target=work, args=(backend, seed))
            for seed, backend in enumerate(backends)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for backend in backends:
            backend.close()
    if failed:
        raise failed[0]
    return f"every block equal, {pinned / 2**20:.0f} MiB pinned"


def _stream(
    backend: CudaBackend,
    plan: PassPlan,
    memory: NDArray[np.uint16],
    wanted: list[tuple[PassOutputs, int]],
    rng: np.random.Generator,
    blocks: int,
) -> None:
    lines, bands, samples = memory.shape[1:]
    operation = backend.pixel_pass(plan)
    math = backend.group_math(plan, lines, 3, 4)
    basis = np.linalg.qr(rng.normal(size=(bands, 4)))[0].T.astype(np.float32)
    valid, about = np.ones(lines, np.bool_), np.full(bands, 1000, np.float32)
    seen: dict[int, NDArray[np.int16]] = {}
    under_way: list[int] = []
    projected: list[tuple[int, NDArray[np.int16], Callable[[], Any]]] = []
    for n in range(blocks + backend.depth):
        if n < blocks:
            which = int(rng.integers(len(memory)))
            backend.load(memory[which])
            operation.start(valid, 0)
            math.put(n % 3, 0, lines, 0)
            out = np.empty((lines, 4, samples), np.int16)
            wait = math.project(n % 3, lines, valid, about, basis, STEP, out)
            projected.append((which, out, wait))
            under_way.append(which)
        if n >= backend.depth - 1 and under_way:
            which = under_way.pop(0)
            compare(operation.wait(), wanted[which], -(-lines // 4))
            which, out, wait = projected.pop(0)
            wait()
            # whatever else is going on, the same block gives the same scores
            np.testing.assert_array_equal(out, seen.setdefault(which, out), err_msg="scores")
