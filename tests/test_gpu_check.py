"""The program that checks a GPU, rehearsed on the stand-in for one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.coding import cuda_decode
from pipeline.compute import cpu_pass
from pipeline.compute.cuda import CudaBackend
from pipeline.errors import DeviceError

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path[:0] = [str(TOOLS), str(Path(__file__).parent / "compute" / "host_shim")]

import cupy_on_host  # noqa: E402
import gpu_cases  # noqa: E402
import gpu_check  # noqa: E402
import gpu_codings  # noqa: E402
from bench.data import Geometry  # noqa: E402
from bench.settings import Settings  # noqa: E402

needs_compiler = pytest.mark.skipif(
    cupy_on_host.compiler() is None, reason="no g++ here to compile the .cu files"
)


@pytest.fixture
def opened(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(cpu_pass.importlib.util, "find_spec", lambda name: None)

    def open_() -> CudaBackend:
        stand_in = cupy_on_host.make(tmp_path_factory.getbasetemp(), "random 4")
        return CudaBackend(stand_in, cupy_on_host.SHAPE, threads=1)

    return open_


@needs_compiler
def test_every_check_passes_on_the_stand_in(opened: Any) -> None:
    outcomes = list(gpu_check.checks(opened, quick=True))
    assert len(outcomes) == 2 * 8 + 2 + 5
    assert [outcome for outcome in outcomes if not outcome.passed] == []


@needs_compiler
def test_a_kernel_that_is_wrong_is_found_and_the_other_checks_go_on(
    opened: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = gpu_cases.expected

    def wrong(*arguments: Any) -> Any:
        out, clipped = right(*arguments)
        out.saturated[1] += 1
        return out, clipped

    monkeypatch.setattr(gpu_cases, "expected", wrong)
    monkeypatch.setattr(gpu_cases, "SMALL", gpu_cases.SMALL[:1])
    found = {outcome.name: outcome.passed for outcome in gpu_check.checks(opened, quick=True)}
    passed = [name for name, passed in found.items() if passed]
    assert passed[0] == "components, 5 × 9 × 40"
    assert all(name.startswith("coding ") for name in passed[1:])
    assert "FAILED, Arrays are not equal saturated" in capsys.readouterr().out


@needs_compiler
def test_a_coding_that_is_wrong_is_found(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = cuda_decode.Stream.fields

    def wrong(stream: Any, place: Any) -> Any:
        out = numbers(stream, place)
        out["low_from"] = out["low_from"] + np.uint64(8)
        return out

    monkeypatch.setattr(cuda_decode.Stream, "fields", wrong)
    case = dict(gpu_codings.cases(opened, quick=True))["coding packed, max error 0, 5 × 9 × 40"]
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        case()


@needs_compiler
def test_the_sweep_tries_every_share(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "SWEEP_TIMES", 1)
    settings = replace(Settings(), geometries=(Geometry(16, 17),), buffer_bytes=1 << 12)
    rows = list(gpu_check.sweep(opened, settings))
    assert len(rows) == len(gpu_check.SHARES) + 2
    assert all(row.rate is not None and row.rate.median > 0 for row in rows)


def test_the_table_comes_last_and_an_error_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = gpu_check.Row(
        section="CUDA",
        step="fused kernel",
        geometry="640 × 224",
        rate=gpu_check.spread([3000.0] * 7),
        limit="copy",
        limit_rate=gpu_check.spread([4000.0] * 7),
        ratio=gpu_check.spread([0.75] * 7),
        required=0.75,
    )

    def measured(settings: Settings) -> Any:
        yield row
        raise DeviceError("CUDA failed while projecting: out of memory")

    monkeypatch.setattr(gpu_check.cuda, "rows", measured)

    class Opened:
        device = type("Device", (), {"name": "some GPU"})

        def close(self) -> None: ...

    assert gpu_check.main(["--only", "rates"], Opened) == 1  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    words = "ok fused kernel 640 × 224 3,000 GB/s 4,000 0.750 0.75"
    assert lines[-2].split() == words.split()
    assert lines[-1] == "FAIL rates: CUDA failed while projecting: out of memory"


def test_without_a_gpu_the_status_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def none() -> CudaBackend:
        raise DeviceError("no CUDA device: the driver finds none")

    assert gpu_check.main([], none) == 2
    assert "no GPU to check: no CUDA device" in capsys.readouterr().err


def test_large_blocks_are_what_the_plan_says() -> None:
    plan, raw = gpu_cases.large(64, 8, 40)
    assert raw.shape == (plan.block_lines, plan.bands, plan.samples) == (40, 8, 64)
    assert np.ptp(raw) > 0
