"""The header of a capture: what the camera, the rig file and a replayed source say."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.config import CameraConfig, Rig, ScanConfig
from pipeline.container.header import Header
from pipeline.describe import (
    Times,
    camera_file,
    capture_header,
    default_bands,
    file_name,
    parse_fields,
)
from pipeline.errors import ConfigError
from pipeline.spectral import SpectralAxis
from pipeline.stream.messages import CameraInfo

INFO = CameraInfo(
    driver="simulated",
    sensor_type="cam",
    bands=3,
    samples=4,
    data_type=12,
    bit_depth=12,
    saturation_level=4095,
    exposure_ms=2.0,
    fps=100.0,
    binning=(2, 1),
    hroi=(1, 4),
    vroi=(3, 5),
    temperature_c=31.5,
    serial="A1",
)
AXIS = SpectralAxis(np.array([460.0, 550.0, 640.0]), np.array([5.0, 5.0, 5.0]))
TIMES = Times(
    dt.datetime(2026, 1, 2, 3, 4, 5, 600000, dt.UTC), dt.datetime(2026, 1, 2, 3, 5, tzinfo=dt.UTC)
)


def header(info: CameraInfo = INFO, axis: SpectralAxis = AXIS, **tables: Any) -> Header:
    rig = Rig(camera=CameraConfig(driver="simulated"), **tables)
    made = capture_header(
        rig, info, axis, TIMES, lines=7, read_procedures=["microservice:reflectance"], warnings=[]
    )
    return Header.parse(made.encode())


def test_everything_known_is_written_with_its_type() -> None:
    metadata = {
        "target": "shelf-03",
        "problem": ["crop-disease"],
        "target_info": ["greens", "row 4"],
        "humidity": 55.5,
        "pressure": 1013,
        "light condition": "LED",
        "my own": 3,
    }
    got = header(metadata=metadata, scan=ScanConfig(pixel_mm=0.06, speed_mm_s=20.0))
    assert list(got)[:8] == [
        "samples",
        "lines",
        "bands",
        "header offset",
        "file type",
        "data type",
        "interleave",
        "byte order",
    ]
    expected = {
        "lines": 7,
        "acquisition time": "2026-01-02T03:04:05.600000Z",
        "start time": "03:04:05",
        "stop time": "03:05:00",
        "exposure": 2.0,
        "fps": 100.0,
        "binning": [2, 1],
        "hroi": [1, 4],
        "vroi": [3, 5],
        "temperature": 31.5,
        "serial number": "A1",
        "bit depth": 12,
        "saturation level": 4095,
        "wavelength": [460.0, 550.0, 640.0],
        "wavelength units": "Nanometers",
        "fwhm": [5.0, 5.0, 5.0],
        "default bands": [3, 2, 1],
        "read procedures": ["microservice:reflectance"],
        "pixel size": [6e-05, 0.0002],
        "target": "shelf-03",
        "problem": ["crop-disease"],
        "target info": ["greens", "row 4"],
        "humidity": 55.5,
        "pressure": 1013.0,
        "light condition": "LED",
        "my own": "3",
    }
    assert {name: got[name] for name in expected} == expected


def test_a_camera_text_that_the_syntax_cannot_hold_is_replaced_with_a_warning() -> None:
    warnings: list[str] = []
    info = msgspec.structs.replace(INFO, sensor_type="a {b}\nc")
    rig = Rig(camera=CameraConfig(driver="simulated"))
    made = capture_header(rig, info, AXIS, TIMES, lines=0, read_procedures=[], warnings=warnings)
    assert "{" not in str(made["sensor type"])
    assert any("sensor type" in text for text in warnings)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"target": "a{b"}, r"\[metadata\] target"),
        ({"problem": ["a,b"]}, r"\[metadata\] problem"),
        ({"lines": 5}, "container's own"),
        ({"humidity": "wet"}, r"\[metadata\] humidity"),
    ],
)
def test_metadata_of_the_user_that_cannot_be_written_is_refused(
    metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        header(metadata=metadata)


def test_fields_of_a_replayed_source_win_and_bad_ones_cost_a_warning() -> None:
    info = msgspec.structs.replace(
        INFO, header=[("exposure", "9.5"), ("Odd One", "x = y"), ("samples", "99")]
    )
    got = header(info)
    assert got["exposure"] == 9.5
    assert got["samples"] == 4
    assert "Odd One" in list(got)
    warnings: list[str] = []
    kept = parse_fields([("good", "1"), ("bad", "{1, 2"), ("fine", "2")], "here", warnings)
    assert list(kept) == ["good", "fine"]
    assert len(warnings) == 1
    assert "'bad'" in warnings[0]


@pytest.mark.parametrize(
    ("nm", "bands", "expected"),
    [
        ([460, 550, 640, 900], 4, [3, 2, 1]),
        ([900, 1000, 1100, 1200], 4, [4, 3, 2]),
        (None, 1, [1, 1, 1]),
        (None, 100, [76, 51, 26]),
    ],
)
def test_default_bands(nm: list[float] | None, bands: int, expected: list[int]) -> None:
    axis = None if nm is None else np.array(nm, float)
    assert default_bands(axis, bands) == expected


def test_names_from_templates_keep_only_safe_characters() -> None:
    rig = Rig(
        camera=CameraConfig(driver="simulated"), metadata={"target": "../a b/ü", "series": "s1"}
    )
    name = file_name("{target}-{series}-{start:%Y%m%dT%H%M%S}", rig, TIMES.start)
    assert name == "a-b-s1-20260102T030405"
    for template in ("{nothing}", "{", "{start.__class__.__mro__[9]}"):
        with pytest.raises(ConfigError, match=r"\[output\] name"):
            file_name(template, rig, TIMES.start)


def test_the_cameras_file_is_named_by_its_sensor_type() -> None:
    assert camera_file("FX10 e, v2") == "FX10 e, v2"
    assert "/" not in camera_file("a/../b:c")
    assert camera_file(" . ") == "camera"
