"""Coded storage modes: no line is lost to them, and the file is coded when the scan has ended."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from rigs import SIMULATED, capture, replay_rig, write_rig

import pipeline.container.coding_job as coding_job
import swath
from pipeline.cli.app import run
from pipeline.cli.display import summary
from pipeline.coded_capture import code_capture
from pipeline.config import PcaConfig
from pipeline.container.block_codings import Wanted
from pipeline.container.coded_header import stated_error
from pipeline.container.compress import compress
from pipeline.container.envi import write_envi
from pipeline.container.validate import validate
from pipeline.errors import ConfigError
from pipeline.events import Event, Finished
from pipeline.rigfile import load_rig

MODES = [
    ("pca", ["pipeline.pca.lossless=true"]),
    ("pca", ["pipeline.pca.max_error=3"]),
    ("pca", ["pipeline.pca.ratio=8"]),
    ("pca", ["pipeline.pca.noise=true"]),
    ("pca", ["pipeline.pca.coding=packed", "pipeline.pca.max_error=2"]),
    ("packints", []),
]


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scan, stored raw."""
    return Path(capture(write_rig(tmp_path_factory.mktemp("raw")), lines=100).file)


@pytest.mark.parametrize(
    ("store", "keys"), MODES, ids=lambda x: x if isinstance(x, str) else x[-1:]
)
def test_a_coded_capture_is_whole_and_says_how_far_it_is_off(
    tmp_path: Path,
    spooled: Path,
    store: str,
    keys: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_rig(tmp_path)
    events: list[Event] = []
    settings = [f"pipeline.store={store}", "pipeline.pca.block_lines=32", *keys]
    result = capture(path, *settings, events=events, lines=100)
    assert (result.exit_status, result.lines, result.lost) == (0, 100, 0)
    assert "100 lines were spooled raw and coded when the scan had ended" in result.coded
    assert [f.text for f in validate(result.file) if f.level == "error"] == []
    assert os.listdir(tmp_path / "out") == ["leaf.hsi"]
    with swath.open(result.file) as coded, swath.open(spooled) as plain:
        error = np.abs(coded.read(procedures=False).astype(int) - plain.raw)
        stated = stated_error(coded.header)
        assert error.max() == stated
        assert coded.header.coded
        assert coded.read_procedures == plain.read_procedures
        assert coded.references.keys() == plain.references.keys()
        assert np.isfinite(coded.read(slice(40, 50))).all()
        assert coded.preview().header.bands == plain.preview().header.bands
        assert len(coded.ledger) == 100
    bounds = {"lossless": 0, "max_error=3": 3, "max_error=2": 2}
    bound = next((most for name, most in bounds.items() if keys and name in keys[-1]), None)
    if bound is not None:
        assert stated <= bound
    done = events[-1]
    assert isinstance(done, Finished)
    assert done.store == store
    assert f"  {result.coded}" in summary(done)
    assert Path(result.file).stat().st_size == result.bytes == done.bytes
    capfd.readouterr()
    Path(f"{result.file}.partial.d").mkdir()  # as when it could not be removed
    assert run(["recover", result.file]) == 0
    assert "not coded" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "keys",
    [["pipeline.store=pca", "pipeline.pca.lossless=true"], ["pipeline.store=packints"]],
    ids=["lossless", "packints"],
)
def test_lines_that_were_lost_stay_lost_in_the_coded_file(tmp_path: Path, keys: list[str]) -> None:
    text = SIMULATED + "[camera.faults]\nlose_lines = [20, 21]\n"
    path = write_rig(tmp_path, text)
    result = capture(path, *keys, lines=60)
    assert (result.exit_status, result.lost) == (3, 2)
    with swath.open(result.file) as cube:
        assert cube.lost == 2
        assert np.isnan(cube.read(slice(19, 21))).all()
        assert np.isfinite(cube.read(slice(0, 19))).all()


def test_a_disk_that_fills_up_while_coding_leaves_the_raw_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(coding_job, "write_at", full)
    events: list[Event] = []
    path = write_rig(tmp_path)
    keys = ["pipeline.store=pca", "pipeline.pca.lossless=true"]
    result = capture(path, *keys, events=events, lines=60)
    assert (result.exit_status, result.lines, result.coded) == (1, 60, "")
    assert "is whole, with raw lines, and was not coded" in result.message
    assert "the disk is full" in result.message
    assert os.listdir(tmp_path / "out") == ["leaf.hsi"]
    assert [f.text for f in validate(result.file) if f.level == "error"] == []
    with swath.open(result.file) as cube:
        assert cube.raw.shape == (60, 48, 20)
    done = events[-1]
    assert isinstance(done, Finished)
    assert (done.store, done.exit_status) == ("raw", 1)


@pytest.mark.parametrize(
    ("keys", "dtype", "fault"),
    [
        (["pipeline.store=packints"], "f4", "found pixels of float32"),
        (["pipeline.store=pca", "pipeline.pca.lossless=true"], "f4", "found pixels of float32"),
        (["pipeline.store=packints"], "u2", "delivers 14 bits"),
        (["pipeline.store=pca", "pipeline.pca.coding=magic"], "u2", "magic"),
        (["pipeline.store=pca", "pipeline.pca.noise=true"], "u2", "black reference"),
    ],
)
def test_what_cannot_be_coded_is_refused_when_arming(
    tmp_path: Path, keys: list[str], dtype: str, fault: str
) -> None:
    cube = np.ones((20, 6, 5), dtype)
    source = write_envi(tmp_path, "cube", cube, {"wavelength units": "Index", "bit depth": 14})
    with pytest.raises(ConfigError, match=fault):
        capture(replay_rig(tmp_path, source), *keys)
    assert not list((tmp_path / "out").glob("*"))


def test_a_ratio_that_a_scan_does_not_come_down_to_is_said(tmp_path: Path, spooled: Path) -> None:
    copy = tmp_path / "scan.hsi"
    copy.write_bytes(spooled.read_bytes())
    said, _ = code_capture(copy, Wanted(ratio=5000.0))
    assert " : 1 where 5000 : 1 were asked for, max error " in said
    copy.write_bytes(spooled.read_bytes())
    said, _ = code_capture(copy, Wanted(ratio=2.0))
    assert "asked for" not in said


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (["max_error=2", "ratio=4"], "max_error and ratio, allowed is one"),
        (["lossless=true", "noise=true"], "lossless and noise, allowed is one"),
        (["coding=int16", "max_error=2"], "whose error has no bound"),
        (["max_error=-1"], "max_error"),
        (["max_error=70000"], "max_error"),
        (["ratio=0.5"], "ratio"),
        (["ratio=1e5"], "ratio: found 100000.*, allowed is a number from 1 to 10000"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, keys: list[str], fault: str
) -> None:
    path = write_rig(tmp_path)
    with pytest.raises(ConfigError, match=fault):
        load_rig(path, tuple(f"pipeline.pca.{key}" for key in keys))


def test_scores_remain_what_pca_is_without_an_aim() -> None:
    assert not PcaConfig().coded
    assert not PcaConfig(coding="int16").coded
    assert PcaConfig(max_error=0).coded
    assert PcaConfig(coding="packed").coded


def test_lines_are_corrected_by_the_columns_they_watch_when_they_are_coded(tmp_path: Path) -> None:
    watched = ["references.panel_strip=[1,6]", "references.dark_columns=[43,48]"]
    raw = capture(write_rig(tmp_path), *watched, lines=40)
    compress(raw.file, tmp_path / "coded.hsi")
    with swath.open(raw.file) as plain, swath.open(tmp_path / "coded.hsi") as coded:
        assert coded.header.coded
        assert np.array_equal(coded.read(), plain.read(), equal_nan=True)
        part = {"lines": slice(7, 9), "samples": slice(20, 30), "bands": [3]}
        assert np.array_equal(coded.read(**part), plain.read(**part), equal_nan=True)
