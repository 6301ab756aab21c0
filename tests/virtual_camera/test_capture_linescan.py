"""A line-scan camera: a frame is many lines of one band, a lost frame as many lost lines."""

from __future__ import annotations

import numpy as np
import pytest
from capturing import SCENE_LINES, check, rig_file
from rigs import capture

import swath

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from pipeline.errors import ConfigError
from pipeline.layout import NO_VALUE, LineStatus, LossReason

HEIGHT, ROW = 16, 5
CAMERA = f"""
features = {{ DeviceScanType = "Linescan", Height = {HEIGHT} }}
fps = 4000.0
exposure_ms = 0.2
wavelengths = "index"
"""


@pytest.fixture
def captured(producer, settings, scene, tmp_path):
    def run(lines, first_id=0, flip="", **features):
        cube, playing = scene(lines=SCENE_LINES)
        # at this exposure the file comes as it is
        settings(
            **playing.features(),
            LinescanRow=ROW,
            SceneExposureTime=200.0,
            EncoderRate=0,
            **features,
        )
        result = capture(rig_file(tmp_path, producer, CAMERA + flip), lines=lines)
        seen = cube[:, ROW : ROW + 1]
        seen = seen[:, :, ::-1] if flip else seen
        return result, check(result.file, seen, first_id=first_id)

    return run


def test_every_line_of_a_frame_is_a_line_of_the_cube(captured):
    result, ledger = captured(500)
    assert (result.exit_status, result.lost, result.warnings) == (0, 0, [])
    assert ledger["frame_id"].tolist() == list(range(500))
    with swath.open(result.file) as container:
        assert container.header["fps"] == 4000.0
        assert container.raw.shape == (500, 21, 1)
    told = ledger["device_time_ns"] != NO_VALUE
    assert np.flatnonzero(told).tolist() == list(range(0, 500, HEIGHT))
    assert np.all(np.diff(ledger["device_time_ns"][told]) == HEIGHT * 250_000)
    assert np.all(ledger["exposure_ms"] == 0.2)


def test_samples_may_run_backwards(captured):
    result, _ = captured(100, flip='flip = ["spatial"]')
    assert result.lost == 0


def test_a_lost_or_torn_frame_is_as_many_lost_lines(captured):
    result, ledger = captured(500, FaultFrameLossEvery=5, FaultIncompleteEvery=7)
    lost = ledger[ledger["status"] == LineStatus.LOST]
    by_reason = {r: lost["frame_id"][lost["reason"] == r] // HEIGHT for r in set(lost["reason"])}
    frames = 500 // HEIGHT + 1
    gone = set(range(4, frames, 5))
    assert set(by_reason[LossReason.CAMERA].tolist()) == gone
    assert set(by_reason[LossReason.INCOMPLETE].tolist()) == set(range(6, frames, 7)) - gone
    assert result.lost == len(lost)
    assert ledger["frame_id"].tolist() == list(range(500))


def test_line_ids_go_on_over_the_wrap_of_16_bit_frame_ids(captured, monkeypatch):
    monkeypatch.setenv("SWATH_VIRTUAL_TLTYPE", "GEV")
    first = 65530 * HEIGHT
    result, ledger = captured(400, first_id=first, FaultFrameIDStart=65529, FaultFrameLossEvery=8)
    assert ledger["frame_id"].tolist() == list(range(first, first + 400))
    assert set(ledger["epoch"]) == {0}
    assert result.lost == 400 // HEIGHT // 8 * HEIGHT


@pytest.mark.parametrize(
    ("setting", "key"),
    [("vroi = [1, 2]", "vroi"), ("binning = [2, 1]", "binning"), ('spectral_axis = "width"', "")],
)
def test_what_needs_a_spectrum_is_refused(producer, settings, scene, tmp_path, setting, key):
    _, playing = scene()
    settings(**playing.features())
    with pytest.raises(ConfigError, match=rf"\[camera\] {key}.*line scan of one band"):
        capture(rig_file(tmp_path, producer, CAMERA + setting), lines=10)
