"""What a capture refuses, or says, of watched columns, references after the scan, bad pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rigs import SIMULATED, capture, replay_rig, write_rig

import swath
from pipeline.bad_pixel_map import BadPixelMap
from pipeline.bad_pixels import Kind
from pipeline.compute.tables import PassPlan, pass_tables
from pipeline.container.envi import write_envi
from pipeline.errors import ConfigError
from pipeline.events import Arming, Event
from pipeline.line_factors import Watched, blind
from pipeline.reflectance import Correction

NONE = SIMULATED.replace('white = "take"', "").replace('black = "take"', "")


@pytest.mark.parametrize(
    ("text", "setting", "sentence"),
    [
        (NONE, "references.white_after=take", 'white_after = "take": there is no white of before'),
        (NONE, "references.black_after=take", 'black_after = "take": there is no black of before'),
        (NONE, "references.dark_columns=[1,2]", "need a white and a black to be held against"),
        (NONE, "pipeline.bad_pixels=find", 'bad_pixels = "find": needs a black reference'),
        (SIMULATED, "references.panel_strip=[40,60]", r"panel_strip: found \[40, 60\], allowed"),
        (SIMULATED, "references.panel_strip=[9,3]", "panel_strip: first 9 lies behind last 3"),
        (SIMULATED, "camera.defects.dead=900", "defects: found 900, allowed are up to 240"),
        (SIMULATED, "camera.masked_columns=48", "leave none of 48 samples"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(
    tmp_path: Path, text: str, setting: str, sentence: str
) -> None:
    rig = write_rig(tmp_path, text)
    with pytest.raises(ConfigError, match=sentence):
        capture(rig, setting, lines=4)
    assert not list(tmp_path.glob("out/*.hsi*"))


def test_a_replay_has_no_panel_that_could_be_moved(tmp_path: Path) -> None:
    first = capture(write_rig(tmp_path), lines=8)
    rig = replay_rig(tmp_path, Path(first.file), extra='[references]\nwhite_after = "take"\n')
    with pytest.raises(ConfigError, match="has no panel that the program could move"):
        capture(rig)


def test_stored_reflectance_says_that_it_is_not_corrected_for_drift(tmp_path: Path) -> None:
    rig = write_rig(tmp_path)
    result = capture(rig, "pipeline.store=reflectance", "references.white_after=take", lines=16)
    assert any('only store = "raw" is corrected for drift' in text for text in result.warnings)
    with swath.open(result.file) as cube:
        assert str(cube.header["drift correction"]).startswith("none")
        assert "white_after" in cube.references


def test_lines_whose_strip_cannot_be_are_counted(tmp_path: Path) -> None:
    # plants where the panel should be, seen through a strip of panel when the white was taken
    rig = write_rig(tmp_path)
    result = capture(rig, "references.panel_strip=[1,4]", lines=32)
    assert any("lines have a panel_strip" in text for text in result.warnings)


def test_a_map_serves_another_binning_and_roi_and_is_refused_for_another_sensor(
    tmp_path: Path,
) -> None:
    rig = write_rig(tmp_path)
    kinds = np.zeros((20, 48), np.uint8)
    kinds[4, 10], kinds[5, 11], kinds[19, 40] = Kind.DEAD, Kind.HOT, Kind.NOISY
    header, data = BadPixelMap(kinds).files("a test")
    (tmp_path / "map.hdr").write_bytes(header)
    (tmp_path / "map.envi").write_bytes(data)
    named = f"pipeline.bad_pixels={tmp_path / 'map.hdr'}"
    events: list[Event] = []
    result = capture(
        rig,
        named,
        "camera.binning=[2,2]",
        "camera.hroi=[3,24]",
        "camera.exposure_ms=0.5",
        lines=8,
        events=events,
    )
    with swath.open(result.file) as cube:
        expected = np.zeros((10, 22), np.uint8)
        expected[2, 3], expected[9, 18] = Kind.DEAD, Kind.NOISY
        np.testing.assert_array_equal(cube.bad_pixels, expected)
        assert cube.header.strings("bad pixels") == ["1 dead", "1 noisy"]
        assert (cube.ledger["bad"] == 2).all()
    said = [event.text for event in events if isinstance(event, Arming)]
    assert any("of a bad bin 38 % of the pixels are bad" in text for text in said)
    with pytest.raises(ConfigError, match="the map has 20 rows × 48 columns, the camera's sensor"):
        capture(rig, named, "camera.bands=24", lines=8)


def test_a_map_of_another_camera_is_refused_by_its_serial_number(tmp_path: Path) -> None:
    rig = write_rig(tmp_path)
    header, data = BadPixelMap(np.zeros((20, 48), np.uint8), "SIM000007").files("a test")
    (tmp_path / "map.hdr").write_bytes(header)
    (tmp_path / "map.envi").write_bytes(data)
    with pytest.raises(ConfigError, match="is of camera SIM000007, this one is SIM000001"):
        capture(rig, f"pipeline.bad_pixels={tmp_path / 'map.hdr'}", lines=8)


def test_a_vendors_picture_of_bad_elements_is_taken_as_it_is(tmp_path: Path) -> None:
    rig = write_rig(tmp_path)
    flags = np.zeros((20, 48, 1), np.int16)
    flags[3, 7] = 23
    write_envi(tmp_path, "elements", flags)
    result = capture(rig, f"pipeline.bad_pixels={tmp_path / 'elements.hdr'}", lines=8)
    with swath.open(result.file) as cube:
        assert cube.bad_pixels is not None
        assert cube.bad_pixels[3, 7] == Kind.LISTED
        assert cube.header.strings("bad pixels") == ["1 listed"]
        plain = cube.read()
        between = (plain[:, 7, 2] + plain[:, 7, 4]) / 2
        np.testing.assert_allclose(plain[:, 7, 3], between, rtol=1e-5)


def test_masked_columns_read_as_0_and_are_of_low_signal() -> None:
    gain = np.full((5, 8), 1e-3, np.float32)
    corr = blind(Correction(np.zeros((5, 8), np.float32), gain), Watched(dark_columns=(7, 8)))
    assert (corr.gain[:, 6:] == 0).all()
    plan = PassPlan(
        bands=5,
        samples=8,
        dtype=np.dtype("u2"),
        block_lines=4,
        saturation_level=4095,
        correction=corr,
    )
    np.testing.assert_array_equal(pass_tables(plan).planes[1], [0, 0, 0, 0, 0, 0, 5, 5])
