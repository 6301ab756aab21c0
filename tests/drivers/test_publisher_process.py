"""The driver as a process: signals, and never outliving its parent or a silent engine."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.slots import SlotRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import End

DRIVER = """
import ctypes, os, sys, time
from pathlib import Path
from drivers import process
from drivers.run import run_driver
from drivers.simulated import SimulatedCamera
from pipeline.config import CameraConfig, Rig, StreamConfig
rig = Rig(stream=StreamConfig(timeout_s=2.0),
          camera=CameraConfig(driver="simulated", samples=16, bands=8, fps=200.0,
                              wavelengths="index"))
parent = {"mine": os.getppid(), "none": None}[sys.argv[1]]
for trouble in sys.argv[2:]:
    exec(trouble)
sys.exit(run_driver(rig, "tcp://127.0.0.1:*", base=Path("."), parent_pid=parent,
                    on_ready=lambda endpoint: print(endpoint, flush=True)))
"""
#: The camera takes longer to open than the engine may be silent.
SLOW = """
quick = SimulatedCamera.open
SimulatedCamera.open = lambda camera: time.sleep(3.0) or quick(camera)
"""
#: The camera hangs in a call that no signal ends, with or without the interpreter lock.
STUCK = """
process.HANG_S = process.LOCKED_S = 1.5
def hang(camera, into, timeout_s):
    libc, mutex = ctypes.{library}(None), ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    print("stuck", flush=True)
    libc.pthread_mutex_lock(mutex)
SimulatedCamera.fetch = hang
"""
PARENT = """
import subprocess, sys, time
driver = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]])
print(driver.pid, flush=True)
time.sleep(60)
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")


@contextlib.contextmanager
def running(parent, *troubles, through=()):
    process = subprocess.Popen(
        [sys.executable, "-c", *through, DRIVER, parent, *troubles],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if through:
            yield process, int(process.stdout.readline())
        else:
            yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def begin(engine):
    engine.connect()
    info = engine.command("arm")[0]
    line = info["camera"]["bands"] * info["camera"]["samples"] * 2
    engine.ring = SlotRing(8, info["block_lines"] * line)
    engine.command("series", series="a", kind="scan")


def drain(engine):
    """Take and acknowledge everything up to the end."""
    while True:
        got = engine.receive(5)
        if isinstance(got, Block):
            got.slot.release()
            engine.ack("a", got.header.seq)
        elif isinstance(got, End):
            engine.ack("a", 0, end=True)
            return got


@pytest.mark.parametrize(("parent", "number"), [("mine", signal.SIGTERM), ("none", signal.SIGINT)])
def test_a_signal_ends_the_series_whole_and_then_the_driver(parent, number):
    with running(parent) as (process, endpoint), EngineLink(endpoint) as engine:
        begin(engine)
        while not isinstance(got := engine.receive(5), Block):
            pass
        got.slot.release()
        engine.ack("a", got.header.seq)
        process.send_signal(number)
        end = drain(engine)
        assert end.reason == "driver"
        assert end.lost == 0
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_with_a_parent_sigint_is_ignored_and_a_silent_engine_ends_it():
    with running("mine") as (process, endpoint):
        with EngineLink(endpoint) as engine:
            begin(engine)
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert process.poll() is None
        gone = time.monotonic()
        assert process.wait(10) == 1
        assert 1.0 < time.monotonic() - gone < 5.0
        told = process.stderr.read()
        assert told == "swath: the engine was silent for 2 s; the camera was closed\n"


def test_a_camera_that_takes_its_time_to_open_is_no_silence_of_the_engine():
    with running("mine", SLOW) as (process, endpoint), EngineLink(endpoint) as engine:
        engine.connect()
        assert engine.command("arm", timeout_s=10)[0]["camera"]["bands"] == 8
        time.sleep(0.5)
        assert process.poll() is None
        engine.command("quit")
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_when_the_parent_is_gone_the_driver_says_so():
    with running("mine", through=[PARENT]) as (parent, _):
        assert parent.stdout.readline().startswith("tcp://")
        parent.kill()
        # The pipe ends when the driver does, which has it from its parent.
        told = parent.stderr.read()
    assert told == "swath: the process that started the driver is gone; the camera was closed\n"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("library", ["CDLL", "PyDLL"])
def test_a_camera_that_hangs_does_not_keep_the_driver_when_its_parent_is_gone(library):
    with running("mine", STUCK.format(library=library), through=[PARENT]) as (parent, pid):
        try:
            with EngineLink(parent.stdout.readline().strip()) as engine:
                begin(engine)
                assert parent.stdout.readline() == "stuck\n"
                parent.kill()
                parent.wait()
                deadline = time.monotonic() + 5
                while lives(pid) and time.monotonic() < deadline:
                    time.sleep(0.02)
                assert not lives(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_camera_that_hangs_for_longer_than_that_keeps_its_driver_while_the_parent_lives():
    trouble = STUCK.format(library="CDLL")
    with running("mine", trouble) as (process, endpoint), EngineLink(endpoint) as engine:
        begin(engine)
        assert process.stdout.readline() == "stuck\n"
        time.sleep(3.0)
        assert process.poll() is None


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_driver_dies_with_its_parent():
    parent = f"""
import os, subprocess, sys
p = subprocess.Popen([sys.executable, "-c", {DRIVER!r}, "mine"], stdout=subprocess.PIPE)
p.stdout.readline()
print(p.pid, flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, timeout=30, check=True
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lives(pid)
