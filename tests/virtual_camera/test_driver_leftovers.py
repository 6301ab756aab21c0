"""The driver on a camera as others left it, on libraries that are none, on impossible values."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers import genicam
from drivers.genicam import GenicamCamera, list_cameras
from pipeline.config import CameraConfig, Rig
from pipeline.errors import CameraError, CameraLostError, ConfigError

SMALL = {"SceneBands": 20, "SceneSamples": 32}


@pytest.fixture
def driver(producer, settings):
    made = []

    def make(camera=None, /, **features):
        settings(**SMALL, **features)
        given = {"pixel_format": "Mono12", "fps": 500.0, "exposure_ms": 0.5}
        config = CameraConfig(
            driver="genicam", producer=str(producer), serial="VC0001", **(given | (camera or {}))
        )
        made.append(GenicamCamera(Rig(camera=config)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def take(camera, count):
    camera.start("scan")
    ids = []
    deadline = time.monotonic() + 20
    while len(ids) < count:
        assert time.monotonic() < deadline
        frame = camera.fetch(None, 0.1)
        if frame is not None:
            ids.append(frame.frame_id)
    return ids


@pytest.mark.parametrize(
    "left",
    [{"AcquisitionMode": "SingleFrame"}, {"AcquisitionMode": "MultiFrame"}],
    ids=["SingleFrame", "MultiFrame"],
)
def test_a_camera_that_was_left_at_few_frames_runs_on(driver, left):
    camera = driver(**left)
    camera.open()
    assert len(take(camera, 30)) == 30


def test_a_region_that_was_left_is_not_kept(driver):
    info = driver(Width=10, OffsetX=4, Height=5, OffsetY=3).open()
    assert (info.bands, info.samples, info.hroi, info.vroi) == (20, 32, None, None)


def test_a_line_scan_keeps_the_lines_of_its_frame(driver):
    camera = driver({"features": {"DeviceScanType": "Linescan", "Height": 7}}, Width=10)
    info = camera.open()
    assert (info.bands, info.samples) == (1, 32)
    assert camera._nodes.number("Height") == 7


def test_a_free_camera_that_stops_sending_is_lost(driver, monkeypatch):
    monkeypatch.setattr(genicam, "STOPPED_S", 0.3)
    camera = driver(FaultStallAfter=10, FaultStallTime=3600.0)
    camera.open()
    assert take(camera, 10) == list(range(10))

    def wait():
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert camera.fetch(None, 0.05) is None

    with pytest.raises(CameraLostError, match="sends no frames any more, for 0 s, though it runs"):
        wait()


@pytest.mark.parametrize("how", ["trigger", "feature"])
def test_a_camera_that_is_triggered_may_wait(driver, monkeypatch, how):
    monkeypatch.setattr(genicam, "STOPPED_S", 0.1)
    triggered = {"TriggerSelector": "FrameStart", "TriggerMode": "On", "TriggerSource": "Software"}
    camera = driver({"features": triggered} if how == "feature" else None)
    if how == "trigger":
        rig = camera._rig
        camera._rig = Rig(camera=rig.camera, scan=type(rig.scan)(trigger="line"))
    camera.open()
    camera.start("scan")
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        assert camera.fetch(None, 0.05) is None


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"features": {"": 1}}, r"\[camera\] features: found '', allowed are names of"),
        ({"features": {"Gain\0x": 12.0}}, r"\[camera\] features: found 'Gain\\x00x', allowed"),
        ({"features": {"AcquisitionStop": "x"}}, r"found 'x', AcquisitionStop .*allows true"),
        (
            {"buffer_frames": 10**12},
            r"\[camera\] buffer_frames: found 1000000000000, which take .* GB; allowed are \d+, a "
            "quarter of what is free",
        ),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(driver, camera, message):
    with pytest.raises(ConfigError, match=message):
        driver(camera).open()


HOLD = """
import sys
from pathlib import Path
from virtual_camera.consumer import camera
with camera(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_camera_that_another_process_has_is_said_to_be_in_use(driver, producer):
    camera = driver()
    paths = os.pathsep.join([str(Path(genicam.__file__).parents[1] / "tools"), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(producer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(CameraError, match=r"cannot be opened: it is in use by another program"):
            camera.open()


def broken(producer: Path, folder: Path, how: str) -> Path:
    """Make a file that is no producer."""
    file = folder / f"{how}.cti"
    data = producer.read_bytes()
    if how == "short":
        file.write_bytes(data[:40])
    elif how == "headers only":
        file.write_bytes(data[:4096])
    elif how == "half":
        file.write_bytes(data[: len(data) // 2])
    elif how == "another library":
        other = next(line.split()[2] for line in loaded(producer) if "libstdc++" in line)
        shutil.copy(other, file)
    return file


def loaded(producer: Path) -> list[str]:
    said = subprocess.run(["ldd", producer], capture_output=True, text=True, check=True)
    return said.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into ELF files")
@pytest.mark.parametrize("how", ["short", "headers only", "half", "another library"])
def test_a_library_that_cannot_be_a_producer_is_refused_and_not_loaded(
    producer, tmp_path, monkeypatch, how
):
    file = broken(producer, tmp_path, how)
    with pytest.raises(ConfigError, match=re.escape(f"{file}: cannot be loaded: it is ")):
        list_cameras(str(file))
    # One that lies on the search path is no reason not to find the others.
    monkeypatch.setenv("GENICAM_GENTL64_PATH", f"{tmp_path}{os.pathsep}{producer.parent}")
    said: list[str] = []
    assert [c["serial"] for c in list_cameras(warnings=said)] == ["VC0001", "VC0002"]
    assert len(said) == 1
    assert said[0].startswith(f"producer {file}: cannot be loaded: it is ")
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="names none that can be loaded"):
        list_cameras()


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(ConfigError, match=r"producer: x{200}…: no such file"):
        list_cameras("x" * 5000)
