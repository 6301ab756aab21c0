"""``swath bad-pixels``: from a rig and from files, what it prints and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rigs import SIMULATED, write_rig

from pipeline.cli.app import run
from pipeline.container.envi import open_envi, write_envi


def test_a_rigs_camera_is_mapped_and_the_map_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rig = write_rig(tmp_path)
    defects = ["--set", "camera.defects={ dead = 3, hot = 2 }"]
    assert run(["bad-pixels", str(rig), "--json", *defects]) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert made["kinds"]["dead"] == 3
    assert made["kinds"]["hot"] >= 2
    assert made["bad"] == sum(made["kinds"].values()) == len(made["list"])
    assert open_envi(made["file"]).raw.shape == (20, 48, 1)
    named = ["--set", f"pipeline.bad_pixels={made['file']}"]
    assert run(["capture", str(rig), "--lines", "8", "--json", *defects, *named]) == 0
    assert run(["bad-pixels", str(rig), *named]) == 2
    assert "exists, and is never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "allowed is either a rig file, or --black FILE"),
        (["x.toml", "--white", "y.hdr"], "a rig file names its own references"),
        (["--black", "missing.hdr"], "missing.hdr"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["bad-pixels", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "status"),
    [
        *((f"{name} = {{{value}, 20}}", 2) for name in ("vroi", "hroi") for value in (1e9, "inf")),
        ("binning = {1e6, 1e6}", 2),
        ("binning = {20000, 1}", 2),
        *((f"binning = {value}", 0) for value in ("{nan, 1}", "{1, nan}", "{0, 1}")),
        *(
            (f"{name} = {value}", 0)
            for name in ("saturation level", "lines averaged")
            for value in ("nan", "inf", "1e400")
        ),
    ],
)
def test_numbers_of_a_header_that_no_camera_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, status: int
) -> None:
    black = write_envi(tmp_path, "black", np.full((1, 4, 3), 60, np.float32))
    black.write_text(black.read_text() + field + "\n")
    out = tmp_path / "bad.hdr"
    assert run(["bad-pixels", "--black", str(black), "--out", str(out)]) == status
    assert out.exists() == (status == 0)
    told = capsys.readouterr().err
    if status:
        assert str(black) in told
        assert "allowed are" in told


def test_a_map_is_found_by_the_name_it_was_given(tmp_path: Path) -> None:
    rig = write_rig(tmp_path)
    named = ["--set", f"pipeline.bad_pixels={tmp_path / 'bad-2.5ms'}"]
    assert run(["bad-pixels", str(rig), *named]) == 0
    assert (tmp_path / "bad-2.5ms.hdr").exists()
    assert run(["capture", str(rig), "--lines", "4", *named]) == 0


def test_a_map_that_calls_all_bad_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = write_rig(tmp_path)
    made = write_envi(tmp_path, "map", np.ones((20, 48, 1), np.uint8), {"coordinates": "sensor"})
    named = ["--set", f"pipeline.bad_pixels={made}"]
    assert run(["capture", str(rig), "--lines", "4", *named]) == 0
    assert "bad pixels: 100 % of all, more than any camera has" in capsys.readouterr().err
    write_envi(tmp_path, "map", np.ones((20, 48, 1), np.complex64))
    assert run(["capture", str(rig), "--lines", "4", *named]) == 2
    assert "found complex data" in capsys.readouterr().err


def test_a_refused_map_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rig = write_rig(tmp_path, SIMULATED.replace('black = "take"', ""))
    assert run(["bad-pixels", str(rig)]) == 2
    assert "[references] black: missing" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {rig.name}
