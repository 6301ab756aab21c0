"""``swath bad-pixels``: from a rig and from files, what it prints and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rigs import SIMULATED, write_rig

from pipeline.cli.app import run
from pipeline.container.envi import open_envi


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


def test_a_refused_map_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rig = write_rig(tmp_path, SIMULATED.replace('black = "take"', ""))
    assert run(["bad-pixels", str(rig)]) == 2
    assert "[references] black: missing" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {rig.name}
