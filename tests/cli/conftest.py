"""A small rig, and one capture from it, for the tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.app import run

RIG = """\
[camera]
driver = "simulated"
exposure_ms = 1.0
fps = 400.0
samples = 24
bands = 20
wavelengths = { first = 400.0, last = 1000.0 }
[scan]
lines = 60
[stream]
block_lines = 8
[references]
white = "take"
black = "take"
lines = 8
panel = 0.95
[metadata]
target = "leaf"
"""


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    """A rig file in a folder of its own."""
    path = tmp_path / "rig.toml"
    path.write_text(RIG, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished capture of 60 lines, 24 samples and 20 bands; not to be changed."""
    folder = tmp_path_factory.mktemp("captured")
    (folder / "rig.toml").write_text(RIG, encoding="utf-8")
    file = folder / "leaf.hsi"
    assert run(["capture", str(folder / "rig.toml"), "--out", str(file)]) == 0
    return file
