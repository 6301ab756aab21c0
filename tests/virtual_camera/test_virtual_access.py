"""One process has a device; all see who is there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from virtual_camera.consumer import GenTLError, opened

ACCESS_DENIED, IN_USE = -1005, -1004
STATUS = 5
READWRITE, NOACCESS, OPEN_READWRITE = 1, 3, 5

HOLDING = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from virtual_camera.consumer import opened
with opened(Path(sys.argv[1])) as one:
    device = one.open(one.ids()[0])
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(producer, settings):
    """Another process that has the first device open, until its input ends."""
    settings()
    tools = str(Path(sys.modules["virtual_camera"].__file__).parents[1])
    command = [sys.executable, "-c", HOLDING, str(producer), tools]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


def test_a_second_process_is_denied_the_device_and_told_before(producer, other):
    with opened(producer) as one:
        first, second = one.ids()
        assert [one.info(i, STATUS) for i in (first, second)] == [NOACCESS, READWRITE]
        with pytest.raises(GenTLError, match="open in another process") as failed:
            one.open(first)
        assert failed.value.code == ACCESS_DENIED
        one.library.DevClose(one.open(second))


def test_the_device_is_free_as_soon_as_its_process_is_killed(producer, other):
    with opened(producer) as one:
        first = one.ids()[0]
        other.kill()
        other.wait()
        assert one.info(first, STATUS) == READWRITE
        one.library.DevClose(one.open(first))


def test_the_device_is_free_after_closing_it(producer, other):
    other.stdin.close()
    deadline = time.monotonic() + 10
    with opened(producer) as one:
        while one.info(one.ids()[0], STATUS) == NOACCESS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        one.library.DevClose(one.open(one.ids()[0]))


def test_a_device_cannot_be_opened_twice_in_one_process(producer, settings):
    settings()
    with opened(producer) as one:
        first = one.ids()[0]
        device = one.open(first)
        assert one.info(first, STATUS) == OPEN_READWRITE
        with pytest.raises(GenTLError) as failed:
            one.open(first)
        assert failed.value.code == IN_USE
        one.library.DevClose(device)
        assert one.info(first, STATUS) == READWRITE
        one.library.DevClose(one.open(first))


@pytest.mark.parametrize("count", ["0", "1", "5"])
def test_there_are_as_many_devices_as_asked_for(producer, settings, monkeypatch, count):
    settings()
    monkeypatch.setenv("SWATH_VIRTUAL_DEVICES", count)
    with opened(producer) as one:
        ids = one.ids()
        assert ids == [f"swath_VC{i + 1:04d}" for i in range(int(count))]
        serials = [one.info(i, 7) for i in ids]
        assert len(set(serials)) == int(count)


def test_both_devices_acquire_at_once(producer, settings):
    from virtual_camera.consumer import Camera

    settings(AcquisitionFrameRate=0.0)
    with opened(producer) as one:
        cameras = [Camera(one.library, one.open(i)) for i in one.ids()]
        for camera in cameras:
            camera.start(buffers=2)
        for camera, width in zip(cameras, (1024, 640), strict=True):
            frames = [(f.frame_id, f[10]) for f in camera.frames(5)]
            assert frames == [(i, width) for i in range(5)]
        for camera in cameras:
            camera.stop()


LEAVING = """
import ctypes, sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from virtual_camera.consumer import Camera, opened
producer = opened(Path(sys.argv[1]))
one = producer.__enter__()
camera = Camera(one.library, one.open(one.ids()[0]))
camera.start()
print(next(camera.frames(1)).frame_id, flush=True)
ctypes.CDLL(None).exit(0)  # with nothing closed before
"""


def test_a_process_may_end_in_the_middle_of_an_acquisition(producer, settings):
    settings(AcquisitionFrameRate=0.0)
    tools = str(Path(sys.modules["virtual_camera"].__file__).parents[1])
    command = [sys.executable, "-c", LEAVING, str(producer), tools]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
