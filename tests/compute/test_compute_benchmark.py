"""Rates of single kernels; skipped in the suite, run with ``pytest --benchmark-only -n 0``.

Each kernel of a backend by itself, on rotating blocks of 12-bit counts that together take more
memory than a cache keeps to itself. Whole chains beside the limits of the machine: ``tools/bench``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.compute import Backend, choose_backend
from pipeline.compute.tables import PassPlan
from pipeline.compute.unpack import unpack
from pipeline.engine import preview_levels
from pipeline.errors import DeviceError
from pipeline.layout import PIXEL_FORMATS
from pipeline.reflectance import correction

LINES, BANDS, SAMPLES = 32, 224, 1024
BLOCKS = 24
ROUNDS, WARM = 24, 4
COMPONENTS, GROUP_LINES = 16, 128

#: Fields of the plan, by what the kernel makes of each raw pixel.
OUTPUTS: dict[str, dict[str, Any]] = {
    "counts": {"quality": False},
    "counts and quality": {},
    "counts, quality, preview": {"preview_factor": preview_levels(SAMPLES)[0]},
    "int16 reflectance": {"reflectance": "int16", "quality": False},
    "float32 reflectance": {"reflectance": "float32", "quality": False},
    "everything": {"reflectance": "int16", "preview_factor": preview_levels(SAMPLES)[0]},
}


@pytest.fixture(scope="module")
def blocks() -> list[np.ndarray]:
    """Smooth spectra over a dark of about 100, shot noise, a pixel in ten thousand saturated."""
    rng = np.random.default_rng(2)
    spectrum = 400 + 1200 * np.exp(-(((np.arange(BANDS) - 120) / 70) ** 2))[:, None]
    light = spectrum * rng.uniform(0.2, 1.2, (LINES, 1, SAMPLES))
    noise = rng.standard_normal((LINES, BANDS, SAMPLES), np.float32)
    first = np.clip(100 + light + noise * np.sqrt(light / 8), 0, 4095).astype(np.uint16)
    first[rng.random(first.shape, np.float32) < 1e-4] = 4095
    return [np.roll(first, number, axis=0) for number in range(BLOCKS)]


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    try:
        chosen = choose_backend(request.param, 0)
    except DeviceError as error:
        pytest.skip(str(error))
    yield chosen
    chosen.close()


def plan(**chosen: Any) -> PassPlan:
    rng = np.random.default_rng(1)
    black = rng.uniform(80, 120, (BANDS, SAMPLES))
    return PassPlan(
        bands=BANDS,
        samples=SAMPLES,
        dtype=np.dtype("u2"),
        block_lines=LINES,
        saturation_level=4095,
        correction=correction(black, black + 2500),
        bad_pixels=rng.random(black.shape) < 0.001,
        **chosen,
    )


def measure(benchmark: Any, work: Callable[[Any], Any], blocks: list[np.ndarray]) -> None:
    """Time ``work`` on one block after the other."""
    rotating = itertools.cycle(blocks)
    benchmark.extra_info["raw_bytes"] = blocks[0].nbytes
    benchmark.pedantic(
        work, setup=lambda: ((next(rotating),), {}), rounds=ROUNDS, warmup_rounds=WARM
    )


@pytest.mark.parametrize("outputs", list(OUTPUTS))
def test_rate_of_the_pixel_pass(
    benchmark: Any, backend: Backend, blocks: list[np.ndarray], outputs: str
) -> None:
    operation = backend.pixel_pass(plan(**OUTPUTS[outputs]))
    valid = np.ones(LINES, np.bool_)

    def work(raw: np.ndarray) -> None:
        backend.load(raw)
        operation.start(valid, 0)
        operation.wait()

    measure(benchmark, work, blocks)


def test_rate_of_keeping_lines_of_a_group(
    benchmark: Any, backend: Backend, blocks: list[np.ndarray]
) -> None:
    operation = backend.group_math(plan(), GROUP_LINES, 1, COMPONENTS)

    def work(raw: np.ndarray) -> None:
        backend.load(raw)
        operation.put(0, 0, LINES, 0)

    measure(benchmark, work, blocks)


@pytest.mark.parametrize("kernel", ["learn", "project"])
def test_rate_of_the_components(
    benchmark: Any, backend: Backend, blocks: list[np.ndarray], kernel: str
) -> None:
    operation = backend.group_math(plan(), GROUP_LINES, 1, COMPONENTS)
    for at in range(0, GROUP_LINES, LINES):
        backend.load(blocks[at // LINES])
        operation.put(0, 0, LINES, at)
    group = np.concatenate(blocks[: GROUP_LINES // LINES])
    mean = group.mean(axis=(0, 2))
    basis = np.linalg.qr(np.random.default_rng(3).random((BANDS, COMPONENTS)))[0].T
    valid = np.ones(GROUP_LINES, np.bool_)
    out = np.empty((GROUP_LINES, COMPONENTS, SAMPLES), np.int16)
    some = np.arange(GROUP_LINES, step=GROUP_LINES // 8)

    def learn() -> None:
        operation.learn(0, some, 1, 4095.0, mean)()

    def project() -> None:
        f4 = np.float32
        operation.project(0, GROUP_LINES, valid, mean.astype(f4), basis.astype(f4), 0.5, out)()

    benchmark.extra_info["raw_bytes"] = group.nbytes
    work = learn if kernel == "learn" else project
    benchmark.pedantic(work, rounds=ROUNDS, warmup_rounds=WARM)


@pytest.mark.parametrize("name", ["Mono10p", "Mono12p", "Mono12Packed"])
def test_rate_of_unpacking(benchmark: Any, name: str) -> None:
    fmt, pixels = PIXEL_FORMATS[name], BANDS * SAMPLES
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (LINES * BLOCKS, fmt.packed_bytes(pixels)), np.uint8)
    out = np.empty((LINES * BLOCKS, pixels), np.uint16)
    out[:] = 0
    pairs = itertools.cycle(zip(frames, out, strict=True))

    def work(frame: np.ndarray, line: np.ndarray) -> None:
        unpack(frame, fmt, pixels, line)

    benchmark.extra_info["raw_bytes"] = out[0].nbytes
    benchmark.pedantic(
        work, setup=lambda: (next(pairs), {}), rounds=20 * ROUNDS, warmup_rounds=WARM
    )


def test_rate_of_a_copy_for_comparison(benchmark: Any, blocks: list[np.ndarray]) -> None:
    into = itertools.cycle([block.copy() for block in blocks])
    measure(benchmark, lambda raw: np.copyto(next(into), raw), blocks)
