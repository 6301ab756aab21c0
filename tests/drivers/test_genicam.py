"""The GenICam driver against viky, the real GenTL producer that comes with the genicam package."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.gaps import FrameIds
from drivers.genicam import GenicamCamera, list_cameras
from pipeline.config import CameraConfig, Rig
from pipeline.errors import CameraError, CameraLostError, ConfigError
from pipeline.layout import NO_VALUE

VIKY = str(Path(importlib.util.find_spec("genicam").origin).parent / "viky.cti")
SETTINGS = {
    "producer": VIKY,
    "serial": "1",
    "pixel_format": "Mono8",
    "fps": 200.0,
    "hroi": (1, 160),
    "vroi": (1, 120),
}


def rig_of(**camera):
    settings = {k: v for k, v in (SETTINGS | camera).items() if v is not None}
    return Rig(camera=CameraConfig(driver="genicam", **settings))


@pytest.fixture
def opened():
    cameras = []

    def make(**camera):
        cameras.append(GenicamCamera(rig_of(**camera)))
        return cameras[-1], cameras[-1].open()

    yield make
    for one in cameras:
        one.close()


def take(camera, info, count):
    into = np.zeros((info.bands, info.samples), np.uint8)
    frames = []
    deadline = time.monotonic() + 5
    while len(frames) < count and time.monotonic() < deadline:
        frame = camera.fetch(into, 0.05)
        if frame is not None:
            frames.append(frame)
    return frames, into


def test_the_camera_says_what_it_is_and_what_it_took(opened):
    _, info = opened(features={"BouncingBallSize": 30})
    assert (info.bands, info.samples, info.data_type, info.bit_depth) == (120, 160, 1, 8)
    assert (info.sensor_rows, info.sensor_columns) == (800, 800)
    assert (info.hroi, info.vroi) == ((1, 160), (1, 120))
    assert (info.vendor, info.model, info.serial) == ("Machine Vision Games Ltd.", "Viky", "1")
    assert info.fps == 200.0
    assert info.exposure_ms is None
    assert info.temperature_c is None
    assert info.saturation_level == 255
    assert info.open_loop
    assert not info.has_shutter
    assert info.settings_differ == {}
    assert info.features["BouncingBallSize"] == 30
    assert info.features["PixelFormat"] == "Mono8"
    assert len(info.features) > 10
    json.dumps(msgspec.to_builtins(info))


def test_frames_come_with_ids_one_after_the_other(opened):
    camera, info = opened()
    camera.start("scan")
    before = time.time_ns()
    frames, pixels = take(camera, info, 10)
    camera.stop()
    assert [f.frame_id for f in frames] == list(range(1, 11))
    assert all(f.complete for f in frames)
    assert all(before <= f.host_time_ns <= time.time_ns() for f in frames)
    assert {f.device_time_ns for f in frames} == {NO_VALUE}
    assert 100 < pixels.mean() < 256
    camera.start("black")
    assert take(camera, info, 1)[0][0].frame_id == 1


def test_without_a_place_for_it_a_frame_is_dropped_but_told(opened):
    camera, _ = opened()
    camera.start("scan")
    ids = [f.frame_id for f in (camera.fetch(None, 0.5) for _ in range(5))]
    assert ids == [1, 2, 3, 4, 5]


def test_frames_lost_while_nobody_fetches_show_in_the_ids(opened):
    camera, info = opened(buffer_frames=8)
    camera.start("scan")
    take(camera, info, 3)
    time.sleep(0.2)
    frames, _ = take(camera, info, 20)
    ids = FrameIds(camera.frame_id_max, camera.frame_id_first)
    missing = sum(ids.step(f.frame_id).missing for f in frames)
    assert missing >= 10
    assert frames[-1].frame_id - frames[0].frame_id + 1 == len(frames) + missing


def test_the_frame_is_oriented_as_the_rig_file_says(opened):
    size = {"hroi": (1, 160), "vroi": (1, 120)}
    camera, info = opened(**size)
    camera.start("scan")
    upright = take(camera, info, 1)[1]
    camera.close()
    turned = {"hroi": (1, 120), "vroi": (1, 160), "spectral_axis": "width", "flip": ["spectral"]}
    camera, info = opened(**turned)
    assert (info.bands, info.samples) == (160, 120)
    camera.start("scan")
    assert np.array_equal(take(camera, info, 1)[1], upright.T[::-1])


def test_an_incomplete_buffer_is_told_with_its_id_and_given_back(opened):
    camera, info = opened()
    queued = []
    buffer = SimpleNamespace(
        frame_id=41,
        is_complete=lambda: False,
        raw_buffer=bytes(160 * 120),
        parent=SimpleNamespace(queue_buffer=queued.append),
    )
    camera._monitor = SimpleNamespace(update_event_data=lambda ms: None, buffer=buffer)
    into = np.full((info.bands, info.samples), 7, np.uint8)
    frame = camera.fetch(into, 0.1)
    assert (frame.frame_id, frame.complete) == (41, False)
    assert queued == [buffer]
    assert (into == 7).all()
    buffer.is_complete = lambda: True
    assert camera.fetch(into, 0.1).complete
    assert (into == 0).all()


def test_a_producer_that_fails_is_a_lost_camera(opened):
    from genicam.gentl import GenericException

    def fail(ms):
        raise GenericException("GenTL exception: gone (ID: -1006)", "file", 1)

    camera, _ = opened()
    camera._monitor = SimpleNamespace(update_event_data=fail)
    with pytest.raises(CameraLostError, match=r"Viky .*gone"):
        camera.fetch(None, 0.1)


def test_no_frame_in_time_is_none(opened):
    camera, _ = opened(fps=1.0)
    camera.start("scan")
    began = time.monotonic()
    while camera.fetch(None, 0.01) is not None:
        pass
    assert time.monotonic() - began < 3
    with pytest.raises(CameraError, match="fetch before start"):
        camera.stop() or camera.fetch(None, 0.01)


def test_a_feature_is_set_while_armed(opened):
    camera, _ = opened()
    assert camera.set_feature("AcquisitionFrameRate", 50) == 50.0
    with pytest.raises(ConfigError, match="from 1 to 200"):
        camera.set_feature("AcquisitionFrameRate", 1e6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exposure_ms": 2.5}, r"\[camera\] exposure_ms: .*no feature ExposureTime"),
        ({"gain": 1.0}, r"\[camera\] gain: .*no feature Gain"),
        ({"fps": 330.0}, r"\[camera\] fps: found 330.0, .*from 1 to 200"),
        ({"pixel_format": None}, r"pixel_format: missing, .*'RGBa8'; allowed are Mono8"),
        ({"pixel_format": "RGBa8"}, r"pixel_format: found 'RGBa8', allowed are Mono8"),
        ({"pixel_format": "Mono12"}, r"pixel_format: found 'Mono12', allowed are Mono8"),
        ({"hroi": (1, 900)}, r"\[camera\] hroi: found 900, .*to 800"),
        ({"hroi": (5, 204)}, r"\[camera\] hroi: .*no feature OffsetX"),
        ({"features": {"Bogus": 1}}, r"features: Bogus: .*no feature Bogus"),
        ({"serial": "9"}, r"serial = '9': no such camera, there are: .*serial '0'.*serial '2'"),
        ({"serial": None, "model": "Viky"}, r"model = 'Viky': fits 3 cameras"),
        ({"serial": None, "index": 3}, r"index = '3': no such camera"),
        ({"producer": "/no/where.cti"}, r"\[camera\] producer: /no/where.cti: no such file"),
    ],
)
def test_what_the_camera_cannot_do_is_refused_by_name(opened, settings, message):
    with pytest.raises(ConfigError, match=message):
        opened(**settings)


def test_a_refused_camera_can_be_opened_with_better_settings(opened):
    with pytest.raises(ConfigError):
        opened(exposure_ms=1.0)
    assert opened()[1].serial == "1"


def test_a_camera_in_use_is_named(opened):
    camera, _ = opened()
    with pytest.raises(CameraError, match=r"Viky .*cannot be opened: .*in use"):
        camera._devices.open(1, 4)


def test_a_camera_that_nobody_named_is_the_first_with_a_warning(opened):
    _, info = opened(serial=None)
    assert info.serial == "0"
    assert "took" in info.warnings[0]


def test_a_file_that_is_no_producer_is_refused(opened, tmp_path):
    fake = tmp_path / "fake.cti"
    fake.write_bytes(b"not a library")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        opened(producer=str(fake))


def test_cameras_are_listed_by_path_by_name_and_from_the_search_path(monkeypatch):
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    listed = list_cameras(VIKY)
    assert [c["serial"] for c in listed] == ["0", "1", "2"]
    assert all(c["model"] == "Viky" and c["accessible"] for c in listed)
    assert list_cameras("viky.cti") == listed
    with pytest.raises(ConfigError, match="GENICAM_GENTL64_PATH is not set"):
        list_cameras()
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"/nowhere{os.pathsep}{Path(VIKY).parent}")
    assert list_cameras() == listed


def test_the_signal_handler_is_the_one_before(opened):
    before = signal.getsignal(signal.SIGINT)
    camera, _ = opened()
    assert signal.getsignal(signal.SIGINT) is before
    camera.close()
    assert signal.getsignal(signal.SIGINT) is before


def test_harvesters_prints_nothing_and_leaves_the_warning_filters_alone():
    code = (
        "import numpy, warnings; before = list(warnings.filters)\n"
        "from drivers.genicam import GenicamCamera\n"
        "assert warnings.filters == before, warnings.filters\n"
        "from pipeline.config import CameraConfig, Rig\n"
        "import sys\n"
        "c = GenicamCamera(Rig(camera=CameraConfig(driver='genicam', producer=sys.argv[1],"
        " index=0, pixel_format='Mono8', fps=200.0)))\n"
        "c.open(); c.start('scan'); assert c.fetch(None, 1.0).frame_id == 1; c.stop(); c.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, VIKY],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
