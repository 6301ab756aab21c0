"""Rates of the kernels; skipped in the suite, run with ``pytest --benchmark-only -n 0``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.compute.unpack import unpack
from pipeline.config import PcaConfig
from pipeline.engine import Engine, EnginePlan, make_engine
from pipeline.errors import DeviceError
from pipeline.layout import PIXEL_FORMATS
from pipeline.reflectance import correction

LINES, BANDS, SAMPLES = 32, 224, 640

CHAINS: dict[str, dict[str, Any]] = {
    "counts": {"preview": False},
    "counts and preview": {},
    "reflectance and all": {"reflectance": "int16"},
    "pca of 16": {"preview": False, "quality": False, "pca": PcaConfig()},
}


@pytest.fixture(params=["cpu", "cuda"])
def armed(request: pytest.FixtureRequest, chain: str) -> Iterator[Engine]:
    rng = np.random.default_rng(1)
    black = rng.uniform(80, 120, (BANDS, SAMPLES))
    plan = EnginePlan(
        bands=BANDS,
        samples=SAMPLES,
        dtype=np.dtype("u2"),
        block_lines=LINES,
        saturation_level=4095,
        correction=correction(black, black + 2500),
        bad_pixels=rng.random(black.shape) < 0.001,
        backend=request.param,
        **CHAINS[chain],
    )
    try:
        engine = make_engine(plan)
    except DeviceError as error:
        pytest.skip(str(error))
    with engine:
        yield engine


@pytest.mark.parametrize("chain", list(CHAINS))
def test_rate_of_the_stages(benchmark: Any, armed: Engine, chain: str) -> None:
    raw = np.random.default_rng(2).integers(60, 4096, (LINES, BANDS, SAMPLES)).astype("u2")
    benchmark.extra_info["raw_bytes"] = raw.nbytes
    benchmark.pedantic(armed.process, (raw,), rounds=24, warmup_rounds=4)


@pytest.mark.parametrize("name", ["Mono10p", "Mono12p", "Mono12Packed"])
def test_rate_of_unpacking(benchmark: Any, name: str) -> None:
    fmt, pixels = PIXEL_FORMATS[name], BANDS * SAMPLES
    frame = np.random.default_rng(3).integers(0, 256, fmt.packed_bytes(pixels)).astype("u1")
    out = np.empty(pixels, "u2")
    benchmark.extra_info["raw_bytes"] = out.nbytes
    benchmark(unpack, frame, fmt, pixels, out)


def test_rate_of_a_copy_for_comparison(benchmark: Any) -> None:
    raw = np.zeros((LINES, BANDS, SAMPLES), "u2")
    benchmark.extra_info["raw_bytes"] = raw.nbytes
    benchmark(np.copyto, np.empty_like(raw), raw)
