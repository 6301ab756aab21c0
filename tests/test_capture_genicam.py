"""A real GenTL producer (viky, of the genicam wheel) through driver process, wire and sink."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from rigs import capture, write_rig

import swath
from pipeline.container.validate import validate
from pipeline.layout import LineStatus

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")


def test_viky_is_captured_with_frame_ids_and_every_feature(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("genicam")
    assert spec is not None
    assert spec.origin is not None
    producer = Path(spec.origin).parent / "viky.cti"
    rig = write_rig(
        tmp_path,
        f"""
[camera]
driver = "genicam"
producer = "{producer}"
serial = "2"
pixel_format = "Mono8"
fps = 100.0
hroi = [1, 120]
vroi = [1, 100]
wavelengths = {{ first = 400.0, last = 1000.0 }}
[stream]
block_lines = 16
[output]
folder = "out"
name = "viky"
""",
    )
    result = capture(rig, lines=80)
    assert result.exit_status in (0, 3)  # a busy machine may make viky lose frames
    assert [str(f) for f in validate(result.file) if f.level == "error"] == []
    with swath.open(result.file) as cube:
        assert cube.raw.shape == (80, 120, 100)
        assert cube.header.dtype == np.uint8
        assert cube.header["bit depth"] == 8
        assert cube.header["serial number"] == "2"
        assert cube.header["fps"] == pytest.approx(100.0)
        assert cube.ledger["frame_id"].tolist() == list(range(1, 81))
        kept = cube.ledger["status"] == LineStatus.OK
        assert np.count_nonzero(~kept) == result.lost
        assert np.ptp(np.asarray(cube.raw)[kept]) > 0
        sensor = cube.header["sensor type"]
        described = json.loads(cube.entry(f"Metadata/{sensor}.json"))
        assert {"Width", "Height", "PixelFormat"} <= set(described["features"])
