"""Blocks, references and what the CPU makes of them, for the tests of the CUDA backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cupy_on_host
import numpy as np
from numpy.typing import NDArray

from pipeline.compute import PassPlan
from pipeline.compute.cpu import CpuBackend
from pipeline.compute.cuda import CudaBackend
from pipeline.compute.interface import PassOutputs
from pipeline.layout import PixelFormat
from pipeline.reflectance import correction


def pack(counts: NDArray[Any], fmt: PixelFormat) -> NDArray[np.uint8]:
    """Pack each line by itself, bit by bit."""
    lines = []
    for line in counts.reshape(len(counts), -1).astype(int):
        bits = (line[:, None] >> np.arange(fmt.bits)) & 1
        if fmt.packing == "gige":
            bits = np.pad(bits, ((0, len(bits) % 2), (0, 0))).reshape(-1, 2, fmt.bits)
            few, none = fmt.bits - 8, np.zeros((len(bits), 12 - fmt.bits), int)
            first, second = bits[:, 0], bits[:, 1]
            middle = [first[:, :few], none, second[:, :few], none]
            bits = np.concatenate([first[:, few:], *middle, second[:, few:]], axis=1)
        lines.append(np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little"))
    return np.stack(lines)


def plan_of(
    rng: np.random.Generator, shape: tuple[int, int, int], bits: int = 12, **more: Any
) -> PassPlan:
    lines, bands, samples = shape
    black = rng.uniform(40, 120, (bands, samples))
    white = black + rng.uniform(100, 3500, (bands, samples))
    white[rng.random(white.shape) < 0.05] = 0
    settings: dict[str, Any] = {
        "dtype": np.dtype("u2"),
        "saturation_level": (1 << bits) - 1,
        "correction": correction(black, white),
        "bad_pixels": rng.random((bands, samples)) < 0.1,
        "reflectance": "int16",
        "preview_factor": 4,
        "coarser": True,
    }
    return PassPlan(bands=bands, samples=samples, block_lines=lines, **settings | more)


def counts_of(rng: np.random.Generator, shape: tuple[int, ...], bits: int = 12) -> NDArray[Any]:
    counts = rng.integers(0, 1 << bits, shape).astype("u2")
    counts[rng.random(shape) < 0.1] = (1 << bits) - 1
    return counts


def expected(
    plan: PassPlan, raw: NDArray[Any], valid: NDArray[np.bool_], phase: int
) -> tuple[PassOutputs, int]:
    backend = CpuBackend(1, "a test")
    operation = backend.pixel_pass(replace(plan, packed=None))
    backend.load(raw)
    operation.start(valid, phase)
    return operation.wait()


def assert_equal(
    got: tuple[PassOutputs, int], want: tuple[PassOutputs, int], lines: int, rows: int
) -> None:
    assert got[1] == want[1]
    for name in ("reflectance", "saturated", "below_dark", "quality"):
        found, wanted = getattr(got[0], name)[:lines], getattr(want[0], name)[:lines]
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    wanted = want[0].sums[:rows]
    scale = 1e-6 * np.abs(wanted).max(initial=1) * 16
    np.testing.assert_allclose(got[0].sums[:rows], wanted, rtol=1e-5, atol=scale)


def host_of(backend: CudaBackend) -> cupy_on_host.Host:
    host: cupy_on_host.Host = backend.device.cupy.host
    return host
