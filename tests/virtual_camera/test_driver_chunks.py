"""Exposure, encoder and time of each frame from its chunks, whatever the transport."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.genicam import GenicamCamera
from pipeline.config import CameraConfig, Rig
from pipeline.layout import NO_VALUE

SMALL = {"SceneBands": 20, "SceneSamples": 32, "EncoderRate": 3000.0}


@pytest.fixture
def driver(producer, settings):
    made = []

    def make(camera=None, /, **features):
        settings(**SMALL, **features)
        given = {"pixel_format": "Mono12", "fps": 500.0, "exposure_ms": 0.5, "buffer_frames": 100}
        config = CameraConfig(
            driver="genicam", producer=str(producer), serial="VC0001", **(given | (camera or {}))
        )
        made.append(GenicamCamera(Rig(camera=config)))
        made[-1].open()
        made[-1].start("scan")
        return made[-1]

    yield make
    for one in made:
        one.close()


def take(driver, count):
    frames = []
    while len(frames) < count:
        frames.append(driver.fetch(None, 20))
        assert frames[-1] is not None
    return frames


@pytest.mark.parametrize("transport", ["GEV", "U3V", "Custom"])
def test_each_frame_has_its_own_exposure_and_encoder(driver, monkeypatch, transport):
    monkeypatch.setenv("SWATH_VIRTUAL_TLTYPE", transport)
    camera = driver()
    frames = take(camera, 5)
    camera.set_feature("ExposureTime", 700.0)
    while len(frames) < 200:
        frames += take(camera, 1)
        if frames[-1].exposure_ms == 0.7:
            break
    assert np.diff([f.encoder for f in frames]).tolist() == [6] * (len(frames) - 1)
    assert np.diff([f.device_time_ns for f in frames[:5]]).tolist() == [2_000_000] * 4
    # frames that were exposed before it was set still say so
    assert [f.exposure_ms for f in frames[:5]] == [0.5] * 5
    assert frames[-1].exposure_ms == 0.7
    first = 1 if transport == "GEV" else 0
    assert [f.frame_id for f in frames] == list(range(first, first + len(frames)))


def test_a_frame_without_chunks_does_not_get_those_of_the_frame_before(driver):
    frames = take(driver(FaultIncompleteEvery=3), 9)
    assert [f.encoder == NO_VALUE for f in frames] == [not f.complete for f in frames]
    assert not all(f.complete for f in frames)


def test_the_rig_file_can_switch_them_off(driver):
    camera = driver({"features": {"ChunkModeActive": False}})
    frames = take(camera, 3)
    assert {f.encoder for f in frames} == {NO_VALUE}
    assert {f.exposure_ms for f in frames} == {0.5}
    assert np.diff([f.device_time_ns for f in frames]).tolist() == [2_000_000] * 2


def test_chunks_that_cannot_be_switched_on_are_no_matter(driver):
    frames = take(driver(FaultRefuseFeature="ChunkModeActive"), 2)
    assert {f.encoder for f in frames} == {NO_VALUE}
    assert all(f.complete for f in frames)


def test_a_camera_without_a_temperature_for_now_is_asked_less_often(driver, monkeypatch):
    camera = driver()
    asked = []
    monkeypatch.setattr(camera._nodes, "number", lambda name: asked.append(name))
    camera._temperature_due_s = -math.inf
    frames = take(camera, 50)
    assert asked == ["DeviceTemperature"]
    assert math.isnan(frames[-1].temperature_c)
