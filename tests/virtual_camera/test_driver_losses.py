"""The driver on a camera that refuses, goes away and comes back: what it raises, and what not."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.genicam import GenicamCamera
from pipeline.config import CameraConfig, Rig
from pipeline.errors import CameraError, CameraLostError, ConfigError

SMALL = {"SceneBands": 20, "SceneSamples": 32}
UNPLUGGED = {"FaultUnplugAfter": 5, "FaultUnplugTime": 0.2, "FaultStrikes": 1}
KINDS = [{}, {"FaultUnplugSilent": 1}, {"FaultUnplugKeepsInfo": 1}]


def rig(producer, **camera):
    given = {"pixel_format": "Mono12", "fps": 500.0, "exposure_ms": 0.5, "serial": "VC0001"}
    return Rig(camera=CameraConfig(driver="genicam", producer=str(producer), **(given | camera)))


@pytest.fixture
def drivers(producer, settings):
    """Make drivers of the camera with features as at power-on; closes them."""
    made = []

    def make(camera=None, /, **features):
        settings(**SMALL, **features)
        made.append(GenicamCamera(rig(producer, **(camera or {}))))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until_lost(driver, seconds=20):
    """Fetch until the camera is lost; the ids of the frames before, and the error."""
    taken = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            frame = driver.fetch(None, 0.02)
        except CameraLostError as error:
            return taken, str(error)
        if frame is not None:
            taken.append(frame.frame_id)
    raise AssertionError("it was never lost")


def opened_when_back(driver, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return driver.open()
        except ConfigError as error:
            if "no such camera" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS, ids=["loud", "silent", "keeps info"])
def test_an_unplugged_camera_is_lost_and_found_again_by_the_same_driver(drivers, kind):
    driver = drivers(**UNPLUGGED, **kind)
    driver.open()
    driver.start("scan")
    taken, text = until_lost(driver)
    assert taken == [0, 1, 2, 3, 4][: len(taken)]
    assert text.startswith("camera swath VC-10 (index 0, serial 'VC0001'")
    assert "GenTL" not in text
    with pytest.raises(CameraLostError, match="set ExposureTime: "):
        driver.set_feature("ExposureTime", 700.0)
    with pytest.raises(CameraLostError, match="cannot stop"):
        driver.stop()
    with pytest.raises(CameraLostError, match="cannot start"):
        driver.start("scan")
    driver.close()
    driver.close()
    assert opened_when_back(driver).serial == "VC0001"
    driver.start("scan")
    assert driver.fetch(None, 5).frame_id == 0
    driver.stop()


def test_the_frame_in_hand_when_it_goes_is_kept(drivers):
    driver = drivers()
    info = driver.open()
    driver.start("scan")
    driver._monitor.update_event_data(1000)
    buffer = driver._monitor.buffer
    queue = type(buffer.parent).queue_buffer

    def gone(stream, one):
        from genicam.gentl import IoException

        raise IoException("GenTL exception: gone (ID: -1010)", "file", 1)

    into = np.zeros((info.bands, info.samples), np.uint16)
    try:
        type(buffer.parent).queue_buffer = gone
        assert driver._take(buffer, into, 0).complete
    finally:
        type(buffer.parent).queue_buffer = queue
    assert into.any()
    with pytest.raises(CameraLostError, match="gone"):
        driver.fetch(into, 0.02)


@pytest.mark.parametrize(
    ("feature", "key"),
    [
        ("ExposureTime", "exposure_ms"),
        ("AcquisitionFrameRate", "fps"),
        ("Gain", "gain"),
        ("PixelFormat", "pixel_format"),
        ("Width", "hroi"),
        ("BinningVertical", "binning"),
    ],
)
def test_a_refused_feature_names_its_key(drivers, feature, key):
    camera = {"gain": 3.0, "hroi": (1, 16), "binning": (2, 1)}
    driver = drivers(camera, FaultRefuseFeature=feature)
    with pytest.raises(CameraError, match=rf"^\[camera\] {key}: {feature} = .*refuses"):
        driver.open()
    driver = drivers(camera)
    assert driver.open().serial == "VC0001"


def test_a_refused_feature_of_a_running_camera_is_no_loss(drivers):
    driver = drivers(FaultRefuseFeature="Gain")
    driver.open()
    driver.start("scan")
    with pytest.raises(CameraError, match=r"^set Gain: Gain = 3.0: .*refuses") as refused:
        driver.set_feature("Gain", 3.0)
    assert not isinstance(refused.value, CameraLostError)
    assert driver.fetch(None, 5) is not None
    driver.stop()


ENDING = """
import sys
from drivers.genicam import GenicamCamera
from pipeline.errors import CameraLostError
from pipeline.rigfile import load_rig
driver = GenicamCamera(load_rig(sys.argv[1]))
driver.open()
driver.start("scan")
try:
    while True:
        driver.fetch(None, 0.02)
except CameraLostError:
    pass
if sys.argv[2] == "close":
    driver.close()
"""


@pytest.mark.parametrize("kind", KINDS[:2], ids=["loud", "silent"])
@pytest.mark.parametrize("last", ["close", "nothing"])
def test_a_process_that_lost_its_camera_ends_without_a_word(
    producer, settings, tmp_path, kind, last
):
    settings(**SMALL, **UNPLUGGED, **kind)
    file = tmp_path / "rig.toml"
    file.write_text(
        f'[camera]\ndriver = "genicam"\nproducer = "{producer}"\nserial = "VC0001"\n'
        'pixel_format = "Mono12"\nfps = 500.0\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(file), last],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
