"""Triggers: by software, by the encoder on Line1, of frames, lines and whole acquisitions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from virtual_camera.consumer import TIMEOUT, GenTLError

SMALL = {"SceneBands": 20, "SceneSamples": 32}
ENCODER = 0x1005


def nothing_comes(camera):
    with pytest.raises(GenTLError) as failed:
        camera.take(0.03)
    assert failed.value.code == TIMEOUT


def positions(camera, count):
    """Encoder values of so many frames, and their times in ns."""
    found = []
    for frame in camera.frames(count):
        data = frame.data
        found.append((int(data[-16:-8].view("<i8")[0]), frame[28], frame.frame_id))
    return found


def test_each_software_trigger_gives_one_frame(opened):
    with opened(**SMALL, ExposureTime=100.0) as camera:
        camera.set_all(TriggerSelector="FrameStart", TriggerMode="On", TriggerSource="Software")
        camera.start()
        nothing_comes(camera)
        for expected in range(3):
            camera.set("TriggerSoftware", 1)
            assert next(camera.frames(1)).frame_id == expected
        nothing_comes(camera)
        camera.stop()


def test_a_trigger_during_exposure_is_missed_and_counted(opened):
    with opened(**SMALL, ExposureTime=200_000.0) as camera:
        camera.set("TriggerMode", "On")
        camera.start()
        camera.set("TriggerSoftware", 1)
        camera.set("TriggerSoftware", 1)
        assert next(camera.frames(1)).frame_id == 0
        assert camera.get("StatTriggersMissed") == 1
        camera.stop()


def test_an_acquisition_waits_for_its_start_trigger_then_runs_free(opened):
    with opened(**SMALL, AcquisitionFrameRate=500.0) as camera:
        camera.set_all(TriggerSelector="AcquisitionStart", TriggerMode="On")
        camera.start()
        nothing_comes(camera)
        camera.set("TriggerSoftware", 1)
        assert [f.frame_id for f in camera.frames(5)] == [0, 1, 2, 3, 4]
        camera.stop()


def on_encoder(camera, **features):
    camera.set_all(
        TriggerSelector="FrameStart",
        TriggerMode="On",
        TriggerSource="Line1",
        ChunkModeActive=1,
        **features,
    )
    camera.start(buffers=64)


def test_the_encoder_triggers_each_so_many_counts_with_jitter(opened, scene):
    cube, playing = scene()
    with opened(**playing.features(), ExposureTime=100.0, SceneExposureTime=100.0) as camera:
        on_encoder(camera, EncoderRate=4000.0, EncoderDivider=4, EncoderJitter=0.5)
        first = next(camera.frames(1)).data[: cube[0].nbytes].tobytes()
        found = positions(camera, 50)
        camera.stop()
    assert [p for p, _, _ in found] == [4 * (i + 2) for i in range(50)]
    steps = np.diff([ns for _, ns, _ in found])
    assert steps.mean() == pytest.approx(1e6, rel=0.02)
    assert 1e3 < steps.std() < 0.25e6
    # position 4 of 4 counts a line is line 1 of the scene
    assert first == cube[1].tobytes()


def test_the_stage_pauses_and_goes_back_and_only_new_positions_trigger(opened):
    with opened(**SMALL, ExposureTime=100.0) as camera:
        motion = {"EncoderReverseEvery": 10, "EncoderReverseCount": 5}
        on_encoder(camera, EncoderRate=2000.0, **motion)
        found = [p for p, _, _ in positions(camera, 30)]
        camera.stop()
        assert found == list(range(1, 31))
        camera.set("EncoderOutputMode", "Motion")
        on_encoder(camera, EncoderPauseEvery=6, EncoderPauseTime=0.05)
        found = positions(camera, 20)
        camera.stop()
    assert [p for p, _, _ in found] == [*range(1, 11), 9, 8, 7, 6, 5, *range(6, 11)]
    steps = np.diff([ns for _, ns, _ in found])
    assert (steps[5::6] > 45e6).all()
    assert np.delete(steps, slice(5, None, 6)).max() < 45e6


def test_triggers_faster_than_the_sensor_are_missed(opened):
    with opened(**SMALL, ExposureTime=1490.0) as camera:
        on_encoder(camera, EncoderRate=1000.0)
        found = [p for p, _, _ in positions(camera, 10)]
        assert camera.get("StatTriggersMissed") >= 9
        camera.stop()
    assert found == list(range(1, 20, 2))


def test_line_triggers_fill_a_frame_of_a_line_scan(opened):
    with opened(**SMALL, ExposureTime=100.0) as camera:
        camera.set_all(DeviceScanType="Linescan", Height=4, ChunkModeActive=1, EncoderRate=4000.0)
        camera.set_all(TriggerSelector="LineStart", TriggerMode="On", TriggerSource="Line1")
        camera.start()
        assert [p for p, _, _ in positions(camera, 4)] == [4, 8, 12, 16]
        camera.stop()


def test_line_start_is_a_trigger_of_line_scans_only(opened):
    with opened() as camera:
        with pytest.raises(GenTLError):
            camera.set("TriggerSelector", "LineStart")
        camera.set_all(DeviceScanType="Linescan", TriggerSelector="LineStart")


def test_stopping_ends_any_wait_for_a_trigger(opened):
    with opened(**SMALL, EncoderRate=0.0) as camera:
        for selector in ("FrameStart", "AcquisitionStart"):
            for source in ("Software", "Line1"):
                camera.set_all(TriggerSelector=selector, TriggerMode="On", TriggerSource=source)
                camera.start()
                time.sleep(0.005)
                camera.stop()
                camera.set("TriggerMode", "Off")
