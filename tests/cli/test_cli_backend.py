"""``--backend``: the same pixels from a GPU, and a sentence where there is none."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cli.app import run
from pipeline.coding import backend as backends
from pipeline.coding import cuda
from pipeline.container.block_records import MAGIC, RECORD
from pipeline.container.reader import open_container

sys.path.insert(0, str(Path(__file__).parents[1] / "compute" / "host_shim"))
import cupy_on_host

MISSING = "no CUDA: CuPy is not installed"


@pytest.fixture
def coded(captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    file = tmp_path / "coded.hsi"
    assert run(["compress", str(captured), str(file), "--block-lines", "16"]) == 0
    capfd.readouterr()
    return file


@pytest.fixture
def gpu(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the stand-in for CuPy be what CUDA finds."""
    if cupy_on_host.compiler() is None:
        pytest.skip("no g++ here to compile the .cu files for the CPU")
    # one for each test, of this stand-in
    monkeypatch.setattr(backends, "_coder", functools.cache(backends._coder.__wrapped__))
    stand_in = cupy_on_host.make(tmp_path_factory.getbasetemp())
    monkeypatch.setattr(cuda, "import_cupy", lambda: stand_in)
    monkeypatch.setattr(cuda.Coder.__init__, "__defaults__", (None, cupy_on_host.SHAPE, 2))
    return stand_in


@pytest.mark.parametrize("backend", ["auto", "cuda"])
def test_a_gpu_decodes_to_the_same_file(
    coded: Path, captured: Path, tmp_path: Path, gpu: Any, backend: str
) -> None:
    again = tmp_path / "again.hsi"
    assert run(["decompress", str(coded), str(again), "--backend", backend]) == 0
    assert "put_together" in gpu.host.launched
    assert run(["validate", str(again)]) == 0
    with open_container(captured) as a, open_container(again) as b:
        assert np.array_equal(a.raw, b.raw)


@pytest.mark.parametrize("aim", [["--lossless"], ["--ratio", "5"]])
def test_a_gpu_codes_what_the_cpu_decodes(
    captured: Path, tmp_path: Path, gpu: Any, aim: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "by-gpu.hsi"
    command = ["compress", str(captured), str(coded), *aim, "--block-lines", "16", "--json"]
    assert run([*command, "--backend", "cuda"]) == 0
    assert "encode_symbols" in gpu.host.launched
    said = json.loads(capfd.readouterr().out)
    assert run(["compare", str(captured), str(coded), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["max_error"] == said["max_error"]
    assert found["rmse"] == pytest.approx(said["rmse"])
    assert found["equal"] == (aim == ["--lossless"])


def test_what_no_gpu_codes_is_said(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.hsi"
    command = ["compress", str(captured), str(out), "--coding", "predicted", "--backend"]
    assert run([*command, "cuda"]) == 2
    assert "found cuda for coding predicted, allowed: packed and smallest" in capfd.readouterr().err
    assert not out.exists()
    assert run([*command, "auto"]) == 0


def test_a_gpu_decodes_what_is_exported(coded: Path, tmp_path: Path, gpu: Any) -> None:
    for name, backend in (("a", "cpu"), ("b", "cuda")):
        assert run(["export", str(coded), str(tmp_path / name), "--backend", backend]) == 0
        assert bool(gpu.host.launched) == (backend == "cuda")
    found = [(tmp_path / name / "data.img").read_bytes() for name in "ab"]
    assert found[0] == found[1]


def test_a_damaged_block_costs_its_lines_and_no_others(
    coded: Path, tmp_path: Path, gpu: Any
) -> None:
    data = bytearray(coded.read_bytes())
    data[data.index(MAGIC, data.index(MAGIC) + 1) + RECORD.size + 20] ^= 1
    coded.write_bytes(data)
    files = [tmp_path / f"{backend}.hsi" for backend in ("cpu", "cuda")]
    for file in files:
        assert run(["decompress", str(coded), str(file), "--backend", file.stem]) == 3
    with open_container(files[0]) as a, open_container(files[1]) as b:
        assert np.array_equal(a.raw, b.raw)
        assert a.header["lines lost"] == 16


def test_what_no_gpu_decodes_is_said(
    captured: Path, tmp_path: Path, gpu: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "images.hsi"
    assert run(["compress", str(captured), str(coded), "--coding", "jpegxl"]) == 0
    assert run(["decompress", str(coded), str(tmp_path / "a.hsi"), "--backend", "auto"]) == 0
    capfd.readouterr()
    assert run(["decompress", str(coded), str(tmp_path / "b.hsi"), "--backend", "cuda"]) == 2
    assert "backend: found cuda for decoding jpegxl, allowed: packed" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["decompress", "export", "compress"])
def test_without_a_gpu_it_is_one_sentence(
    coded: Path, tmp_path: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pipeline.coding.cuda")
    if "cupy" in sys.modules:
        pytest.skip("there is a CuPy here")
    out = tmp_path / "out.hsi"
    assert run([command, str(coded), str(out), "--backend", "cuda"]) != 0
    err = capfd.readouterr().err
    assert MISSING in err
    assert len(err.strip().splitlines()) == 1
    assert not out.exists()
    assert run([command, str(coded), str(out), "--backend", "auto"]) == 0
