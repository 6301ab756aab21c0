"""Frames come by the camera's clock, whether anybody takes them; none is lost without its id."""

from __future__ import annotations

import time

import pytest

SMALL = {"SceneBands": 20, "SceneSamples": 32}
DELIVERED, UNDERRUN = 1, 2


def test_clock_times_rate_is_delivered_and_lost_with_the_ids_of_the_lost_skipped(opened):
    with opened(**SMALL, AcquisitionFrameRate=500.0) as camera:
        camera.start(buffers=4)
        first = [(f.frame_id, f[28]) for f in camera.frames(5)]
        time.sleep(0.2)
        later = [(f.frame_id, f[28]) for f in camera.frames(40)]
        camera.set("AcquisitionStop", 1)
        made, lost = camera.get("StatFrames"), camera.get("StatFramesLost")
        delivered, underrun = camera.counter(DELIVERED), camera.counter(UNDERRUN)
        camera.stop()
    taken = first + later
    ids = [frame_id for frame_id, _ in taken]
    skipped = ids[-1] - ids[0] + 1 - len(ids)
    assert made == delivered + underrun
    assert underrun == lost
    assert lost >= skipped >= 50
    assert ids == sorted(set(ids))
    # each frame's time is its id's place on the clock, lost ones before it or not
    for frame_id, ns in taken:
        assert ns - taken[0][1] == pytest.approx((frame_id - ids[0]) * 2e6, abs=2)


def test_nothing_is_lost_while_buffers_are_queued(opened):
    with opened(**SMALL, ExposureTime=500.0, AcquisitionFrameRate=1000.0) as camera:
        camera.start(buffers=310)
        assert [f.frame_id for f in camera.frames(300)] == list(range(300))
        assert camera.counter(UNDERRUN) == 0
        camera.stop()


def test_at_rate_zero_frames_wait_for_buffers(opened):
    with opened(**SMALL, AcquisitionFrameRate=0.0) as camera:
        camera.start(buffers=2)
        for _ in camera.frames(3):
            time.sleep(0.02)
        assert [f.frame_id for f in camera.frames(500)] == list(range(3, 503))
        assert camera.counter(UNDERRUN) == 0
        camera.stop()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"ExposureTime": 1000.0}, 1e6 / (1000.0 + 20 * 0.5)),
        ({"ExposureTime": 50.0, "SensorRowTime": 2.0}, 1e6 / (50.0 + 40.0)),
        ({"ExposureTime": 90.0, "Height": 10}, 1e6 / (90.0 + 5.0)),
        ({"ExposureTime": 90.0, "BinningVertical": 2}, 1e6 / (90.0 + 10.0)),
        ({"DeviceScanType": "Linescan", "ExposureTime": 99.5, "Height": 50}, 1e4 / 50),
    ],
)
def test_the_largest_rate_is_what_exposure_and_readout_leave(opened, features, expected):
    with opened(**SMALL, **features) as camera:
        assert camera.get("AcquisitionFrameRate", "_Max") == pytest.approx(expected)
        camera.set("AcquisitionFrameRate", camera.get("AcquisitionFrameRate", "_Max"))
        if "DeviceScanType" in features:
            assert camera.get("AcquisitionLineRate") == pytest.approx(1e4)


def test_a_longer_exposure_slows_the_frames_down(opened):
    with opened(**SMALL, ExposureTime=100.0, AcquisitionFrameRate=5000.0) as camera:
        camera.set("ExposureTime", 9990.0)
        assert camera.get("AcquisitionFrameRate") == pytest.approx(100.0)
        camera.set("AcquisitionFrameRateEnable", 0)
        camera.set("ExposureTime", 990.0)
        camera.start()
        times = [f[28] for f in camera.frames(3)]
        assert times[2] - times[0] == pytest.approx(2e6, abs=2)
        camera.stop()


def test_ticks_nanoseconds_and_the_latch_are_one_clock(opened, monkeypatch):
    monkeypatch.setenv("SWATH_VIRTUAL_TICK_HZ", "1000000")
    with opened(**SMALL) as camera:
        assert camera.get("GevTimestampTickFrequency") == 1_000_000
        assert camera.library.info("DevGetInfo", camera.device, 9) == 1_000_000
        camera.set("TimestampReset", 1)
        camera.start()
        for frame in camera.frames(2):
            assert frame[3] == frame[28] // 1000
            camera.set("TimestampLatch", 1)
            assert frame[3] < camera.get("TimestampLatchValue") < 10_000_000
        camera.stop()


def test_with_ptp_the_clock_shows_utc_once_it_is_a_slave(opened):
    with opened(**SMALL, PtpEnable=1) as camera:
        states = []
        deadline = time.monotonic() + 5
        while (state := camera.get("PtpStatus")) != "Slave" and time.monotonic() < deadline:
            states.append(state)
            time.sleep(0.02)
        assert {"Initializing", "Listening", "Uncalibrated"} >= set(states)
        before = time.time_ns()
        camera.start()
        frame = next(camera.frames(1))
        assert before - 10**8 < frame[28] < time.time_ns()
        camera.stop()


def test_an_acquisition_of_a_few_frames_ends_itself(opened):
    with opened(**SMALL, ExposureTime=500.0, AcquisitionFrameRate=1000.0) as camera:
        camera.set_all(AcquisitionMode="MultiFrame", AcquisitionFrameCount=3)
        camera.start()
        assert [f.frame_id for f in camera.frames(3)] == [0, 1, 2]
        time.sleep(0.02)
        assert camera.get("StatFrames") == 3
        camera.set("AcquisitionStart", 1)
        assert [f.frame_id for f in camera.frames(3)] == [0, 1, 2]
        camera.stop()


def test_a_scene_that_is_played_once_ends(opened, scene):
    _, playing = scene(lines=5)
    with opened(**playing.features(), SceneLoop=0, SceneFirstLine=1) as camera:
        camera.set("AcquisitionFrameRate", 500.0)
        camera.start()
        assert [f.frame_id for f in camera.frames(4)] == [0, 1, 2, 3]
        time.sleep(0.03)
        assert camera.get("StatFrames") == 4
        camera.stop()


def test_temperatures_drift_slowly_and_differ_by_place(opened):
    with opened() as camera:
        sensor = camera.get("DeviceTemperature")
        camera.set("DeviceTemperatureSelector", "Mainboard")
        board = camera.get("DeviceTemperature")
    assert 30.5 <= sensor <= 31.5
    assert board - sensor == pytest.approx(6.0, abs=0.125)
    assert sensor * 16 == int(sensor * 16)
