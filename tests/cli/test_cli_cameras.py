from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest

from pipeline.cli.app import run
from pipeline.cli.cameras import as_toml

genicam = importlib.util.find_spec("genicam")
needs_genicam = pytest.mark.skipif(genicam is None, reason="no genicam wheel on this platform")


def viky() -> str:
    """The GenTL producer that comes with the genicam package."""
    assert genicam is not None
    assert genicam.origin is not None
    return str(Path(genicam.origin).parent / "viky.cti")


@needs_genicam
def test_cameras_are_listed_as_the_rig_file_names_them(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["cameras", "--producer", viky()]) == 0
    out = capfd.readouterr().out
    assert out.count("Viky\n") == 3
    assert '  serial = "1"\n  model = "Viky"\n  index = 1\n' in out
    assert run(["cameras", "--producer", viky(), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["cameras"]
    assert [camera["serial"] for camera in found] == ["0", "1", "2"]


@needs_genicam
def test_a_producer_that_is_none_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    assert run(["cameras"]) == 2
    assert "GENICAM_GENTL64_PATH is not set" in capfd.readouterr().err
    assert run(["cameras", "--producer", str(tmp_path / "no.cti")]) == 2
    assert "no.cti" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["42", 'a "b"', "back\\slash"])
def test_names_are_written_as_toml(text: str) -> None:
    assert tomllib.loads(f"x = {as_toml(text)}") == {"x": text}
