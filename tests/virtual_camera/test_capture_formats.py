"""The main job for every pixel format and binning: the raw cube equals what the camera played.

From the rig file come binning, region, pixel format, exposure and gain; what they do to the counts
is computed in NumPy (``expected.py``).
"""

from __future__ import annotations

import numpy as np
import pytest
from capturing import SCENE_LINES, check, rig_file
from expected import FORMATS, in_format, seen
from rigs import capture

import swath

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from pipeline.layout import PIXEL_FORMATS

EXPOSURE_MS, GAIN_DB = 1.5, 6.0
SETTINGS = f"""
pixel_format = "{{name}}"
binning = {{binning}}
hroi = [2, 9]
vroi = [3, 5]
exposure_ms = {EXPOSURE_MS}
gain = {GAIN_DB}
fps = 400.0
"""
#: Every format whole and binned both ways; binning one way happens before the pixels get theirs.
CASES = [(name, (n, n)) for name in FORMATS for n in (1, 2)]
CASES += [(name, (2, 1)) for name in ("Mono8", "Mono12", "Mono12p")]


def expected(cube, name, binning):
    """What the camera delivers of each line of the scene, (lines, bands, samples)."""
    scale = EXPOSURE_MS * 10 ** (GAIN_DB / 20)  # the scene was exposed for 1 ms, without gain
    lines = [seen(line, 12, binning=binning, scale=scale) for line in cube]
    return in_format(np.array(lines)[:, 2:5, 1:9], 12, name).astype(PIXEL_FORMATS[name].dtype)


@pytest.mark.parametrize(("name", "binning"), CASES)
def test_the_raw_cube_is_what_the_camera_played(producer, settings, scene, tmp_path, name, binning):
    cube, playing = scene(lines=SCENE_LINES, bits=12)
    settings(**playing.features())
    rig = rig_file(tmp_path, producer, SETTINGS.format(name=name, binning=list(binning)))
    result = capture(rig, lines=30)
    assert (result.exit_status, result.lost, result.warnings) == (0, 0, [])
    ledger = check(result.file, expected(cube, name, binning))
    assert ledger["frame_id"].tolist() == list(range(30))
    assert np.all(ledger["exposure_ms"] == EXPOSURE_MS)
    with swath.open(result.file) as container:
        header = container.header
        assert container.raw.shape == (30, 8, 3)
        assert header["binning"] == list(binning)
        assert header["bit depth"] == FORMATS[name][0]
        assert (header["hroi"], header["vroi"]) == ([2, 9], [3, 5])
        assert header["exposure"] == EXPOSURE_MS
        assert header["fps"] == 400.0
        assert header["gain"] == GAIN_DB
        assert header["serial number"] == "VC0001"


def test_a_spectrum_along_the_width_is_turned_and_flipped(producer, settings, scene, tmp_path):
    cube, playing = scene(lines=SCENE_LINES)
    settings(**playing.features())
    camera = 'spectral_axis = "width"\nflip = ["spectral", "spatial"]\nexposure_ms = 1.0\n'
    result = capture(rig_file(tmp_path, producer, camera), lines=30)
    check(result.file, cube.transpose(0, 2, 1)[:, ::-1, ::-1])
