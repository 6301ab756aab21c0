"""Each fault, as a consumer sees it."""

from __future__ import annotations

import ctypes as c
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from virtual_camera.consumer import TIMEOUT, GenTLError, camera, opened

SMALL = {"SceneBands": 20, "SceneSamples": 32, "AcquisitionFrameRate": 500.0}
FRAME = 20 * 32 * 2
IO, NOT_AVAILABLE = -1010, -1014
ERROR_EVENT, MODULE_EVENT = 0, 5


def ids(camera, count):
    return [f.frame_id for f in camera.frames(count)]


def code_of(function, *args):
    with pytest.raises(GenTLError) as failed:
        function(*args)
    return failed.value.code


def test_every_nth_frame_is_lost(opened):
    with opened(**SMALL, FaultFrameLossEvery=4) as camera:
        camera.start()
        assert ids(camera, 9) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
        camera.stop()


def test_every_nth_buffer_is_incomplete(opened):
    with opened(**SMALL, FaultIncompleteEvery=3) as camera:
        camera.start()
        for frame in camera.frames(6):
            half = frame.frame_id % 3 == 2
            assert frame[7] == half
            assert (frame[9], frame[22]) == ((FRAME // 2, 10) if half else (FRAME, 20))
        camera.stop()


def test_frame_ids_of_16_bits_go_from_65535_to_1(opened):
    with opened(**SMALL, FaultFrameID16Bit=1, FaultFrameIDStart=65532) as camera:
        camera.start()
        assert ids(camera, 5) == [65533, 65534, 65535, 1, 2]
        camera.stop()


def test_a_gige_camera_counts_in_16_bits_unless_its_ids_are_extended(opened, monkeypatch):
    monkeypatch.setenv("SWATH_VIRTUAL_TLTYPE", "GEV")
    with opened(**SMALL, FaultFrameIDStart=65534) as camera:
        camera.start()
        assert ids(camera, 3) == [65535, 1, 2]
        camera.stop()
        camera.set("GevGVSPExtendedIDMode", "On")
        camera.start()
        assert ids(camera, 3) == [65535, 65536, 65537]
        camera.stop()


def test_the_timestamp_starts_again(opened):
    with opened(**SMALL, FaultTimestampResetAfter=4) as camera:
        time.sleep(0.05)
        camera.start()
        times = [f[28] for f in camera.frames(6)]
        camera.stop()
    assert times[3] > 40e6
    assert times[4] == 0
    assert times[5] == pytest.approx(2e6, abs=2)


def test_a_stall_loses_the_frames_of_its_time(opened):
    with opened(**SMALL, FaultStallAfter=3, FaultStallTime=0.1) as camera:
        camera.start()
        assert ids(camera, 5) == [0, 1, 2, 53, 54]
        camera.stop()


def event(camera, source, kind):
    return camera.library.handle("GCRegisterEvent", source, c.c_int32(kind))


def event_data(camera, handle, cmd):
    data, size = c.create_string_buffer(1024), c.c_size_t(1024)
    camera.library.EventGetData(handle, data, c.byref(size), c.c_uint64(5000))
    return camera.library.info("EventGetDataInfo", handle, data, size, c.c_int32(cmd))


def ask_again_and_again(camera):
    while True:
        camera.get("DeviceTemperature")


@pytest.mark.parametrize("fault", [{"FaultUnplugAfter": 3}, {"FaultUnplugAfterTime": 0.02}])
def test_an_unplugged_camera_tells_so_and_then_fails_every_call(opened, fault):
    with opened(**SMALL, **fault) as camera:
        lost = event(camera, camera.device, MODULE_EVENT)
        error = event(camera, camera.device, ERROR_EVENT)
        interface = camera.library.handle("DevGetParentIF", camera.device)
        lost_there = event(camera, interface, MODULE_EVENT)
        camera.start()
        with pytest.raises(GenTLError) as failed:
            ids(camera, 1000)
        assert failed.value.code == IO
        assert event_data(camera, lost, 0) == event_data(camera, lost_there, 0) == "9001"
        assert event_data(camera, error, 0) == IO
        assert code_of(camera.get, "Width") == IO
        assert code_of(camera.set, "AcquisitionStop", 1) == IO
        assert code_of(camera.library.info, "DevGetInfo", camera.device, c.c_int32(0)) == IO
        assert code_of(camera.library.DSQueueBuffer, camera.stream, camera.buffers[0]) == IO
        # what is the consumer's can still be taken back
        camera.close_stream()


def test_an_unplugged_camera_may_fall_silent_instead(opened):
    with opened(**SMALL, FaultUnplugAfter=2, FaultUnplugSilent=1) as camera:
        camera.start()
        assert ids(camera, 2) == [0, 1]
        assert code_of(ask_again_and_again, camera) == IO
        assert code_of(camera.take, 0.05) == TIMEOUT
        camera.close_stream()


def test_an_unplugged_camera_comes_back_after_a_while(producer, settings):
    settings(**SMALL, FaultUnplugAfter=2, FaultUnplugTime=0.3, FaultStrikes=1)
    with opened(producer) as one:
        first, other = one.ids()
        device = one.open(first)
        from virtual_camera.consumer import Camera

        lost = Camera(one.library, device)
        lost.start()
        with pytest.raises(GenTLError):
            ids(lost, 3)
        lost.close_stream()
        assert code_of(one.open, first) == -1004
        one.library.DevClose(device)
        assert one.ids() == [other]
        assert code_of(one.open, first) == -1007
        deadline = time.monotonic() + 5
        while one.ids() != [first, other]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # it struck once, as asked for
        again = Camera(one.library, one.open(first))
        again.start()
        assert ids(again, 5) == [0, 1, 2, 3, 4]
        again.stop()


CRASHING = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from virtual_camera.consumer import camera
with camera(Path({producer!r})) as one:
    one.start()
    for frame in one.frames(100):
        print(frame.frame_id, flush=True)
"""


def test_a_crash_takes_the_process_and_frees_the_camera(producer, settings):
    # Slow, so that the frame before the crash is told before it.
    settings(**{**SMALL, "AcquisitionFrameRate": 4.0}, FaultCrashAfter=3)
    tools = str(Path(sys.modules["virtual_camera"].__file__).parents[1])
    code = textwrap.dedent(CRASHING).format(paths=[tools], producer=str(producer))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert done.stdout.split()[-1] == "2"
    settings(**SMALL)
    with camera(producer) as one:
        one.start()
        assert ids(one, 3) == [0, 1, 2]
        one.stop()
