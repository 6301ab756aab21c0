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
import os, sys
from pathlib import Path
from drivers.publisher import run_driver
from pipeline.config import CameraConfig, Rig, StreamConfig
rig = Rig(stream=StreamConfig(timeout_s=2.0),
          camera=CameraConfig(driver="simulated", samples=16, bands=8, fps=200.0,
                              wavelengths="index"))
parent = {"mine": os.getppid(), "none": None}[sys.argv[1]]
sys.exit(run_driver(rig, "tcp://127.0.0.1:*", base=Path("."), parent_pid=parent,
                    on_ready=lambda endpoint: print(endpoint, flush=True)))
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")


@contextlib.contextmanager
def running(parent):
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, parent],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
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
        assert process.stderr.read() == ""


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

    def lives():
        try:
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    deadline = time.monotonic() + 5
    while lives() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lives()
