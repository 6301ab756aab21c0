"""``swath cameras --features``: what a camera can do, in words of the rig file."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from pipeline.cli import app
from pipeline.cli.cameras import feature_line


def run(capfd, *arguments):
    status = app.run(["cameras", *map(str, arguments)])
    said = capfd.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("name", ["VC0002", "virtual 2", "1"])
def test_features_come_with_value_range_unit_and_choices(producer, settings, capfd, name):
    settings()
    status, said, _ = run(capfd, "--producer", producer, "--features", name)
    assert status == 0
    lines = [line.strip() for line in said.splitlines()]
    assert 'serial = "VC0002"' in lines
    assert "Gain = 0.0  (0 to 24; dB)" in lines
    assert 'DeviceModelName = "VC-17"  (cannot be set now)' in lines
    assert 'ExposureMode = "Timed"  (Timed)' in lines
    (format_line,) = (line for line in lines if line.startswith("PixelFormat = "))
    assert "Mono12Packed" in format_line


def test_json_has_them_as_numbers(producer, settings, capfd):
    settings()
    _, said, _ = run(capfd, "--producer", producer, "--features", "VC0001", "--json")
    (camera,) = json.loads(said)["cameras"]
    assert camera["features"]["ExposureTime"]["min"] == 1
    assert camera["features"]["ExposureTime"]["unit"] == "us"
    assert camera["features"]["Width"]["value"] == 1024


def test_an_unknown_camera_is_told_with_those_that_are_there(producer, settings, capfd):
    settings()
    status, _, complaint = run(capfd, "--producer", producer, "--features", "X9")
    assert status == 2
    assert "--features: serial = 'X9': no such camera, there are: swath VC-10" in complaint


def test_a_step_is_told():
    told = {"value": 8, "writable": True, "min": 8, "max": 64, "step": 8}
    assert feature_line("Width", told) == "Width = 8  (8 to 64 in steps of 8)"
