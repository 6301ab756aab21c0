"""The publisher with an engine on the same host, which sees the driver's slots themselves."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from test_publisher import LINE_BYTES, ScriptedCamera, Series, check_consistent, pixel

from drivers.publisher import Publisher
from pipeline.config import CameraConfig, Rig, StreamConfig
from pipeline.slots import MappedRing, SlotRing
from pipeline.stream.driver_link import DriverLink
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import End, Start
from pipeline.stream.security import private_endpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps memory by /proc")


class Local:
    """A publisher in a thread behind an ipc endpoint, and the engines that come to it."""

    def __init__(self, camera: ScriptedCamera) -> None:
        self.endpoint, self._cleanup = private_endpoint()
        stream = StreamConfig(block_lines=4, max_latency_ms=30, timeout_s=2.0)
        rig = Rig(camera=CameraConfig(driver="simulated"), stream=stream)
        self.publisher = Publisher(camera, rig, DriverLink(self.endpoint, driver="scripted"))
        self.thread = threading.Thread(target=self.publisher.run, daemon=True)
        self.thread.start()
        self.engines: list[EngineLink] = []

    def engine(self, *, arm: bool = True) -> EngineLink:
        engine = EngineLink(self.endpoint, timeout_s=8.0, ring=SlotRing(8, 4 * LINE_BYTES))
        self.engines.append(engine)
        engine.connect()
        if arm:
            engine.command("arm")
        return engine

    def close(self) -> None:
        try:
            self.engines[-1].command("quit", timeout_s=2.0)
        finally:
            for engine in self.engines:
                engine.close()
            self.thread.join(10)
            self._cleanup()
        assert not self.thread.is_alive()


@pytest.fixture
def local():
    made = []

    def make(camera):
        made.append(Local(camera))
        return made[-1]

    yield make
    for one in made:
        one.close()


def collect(engine: EngineLink, series: Series, keep: int = 0) -> list[Block]:
    """Take a series to its end; the first ``keep`` blocks are acknowledged and not let go."""
    held: list[Block] = []
    deadline = time.monotonic() + 10
    while series.end is None:
        assert time.monotonic() < deadline
        got = engine.receive(1.0)
        if isinstance(got, Start):
            series.start = got
        elif isinstance(got, Block):
            assert isinstance(got.slot.ring, MappedRing)
            series.blocks.append(got.header)
            series.rows.append(got.rows)
            series.pixels.append(got.pixels.copy())
            engine.ack(got.header.series, got.header.seq)
            if len(held) < keep:
                held.append(got)
            else:
                got.slot.release()
        elif isinstance(got, End):
            series.end = got
            engine.ack(got.series, got.blocks, end=True)
    return held


def test_lines_arrive_whole_and_in_order(local):
    rig = local(ScriptedCamera([*range(1, 60), *range(63, 100)]))
    engine = rig.engine()
    for number in range(3):
        engine.command("series", series=f"s{number}", kind="scan", lines=99)
        series = Series()
        collect(engine, series)
        check_consistent(series)
        assert series.end.stored == 99
        assert series.end.lost == 3
    ring, deadline = rig.publisher._armed.ring, time.monotonic() + 10
    while ring.free < ring.count:  # the last acknowledgements are on their way
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_an_engine_that_left_still_reads_is_not_written_again(local):
    rig = local(ScriptedCamera(range(1, 10_000)))
    first = rig.engine()
    first.command("series", series="s1", kind="scan", lines=0)
    held = []
    while len(held) < 3:
        got = first.receive(1.0)
        held += [got] if isinstance(got, Block) else []
    pixels = [block.pixels for block in held]
    first.close()  # without a word, and with blocks in hand

    second = rig.engine(arm=False)
    second.command("series", series="s2", kind="scan", lines=400)
    series = Series()
    collect(second, series)
    check_consistent(series)
    assert series.end.stored == 400
    for block, own in zip(held, pixels, strict=True):
        ids = block.rows["frame_id"][block.rows["line"] >= 0]
        assert np.array_equal(own[:, 0, 0], pixel(ids))
    assert not any(block.slot.ring.token == rig.publisher._armed.ring.token for block in held)


def test_the_next_series_waits_for_blocks_that_are_still_looked_at(local):
    rig = local(ScriptedCamera(range(1, 1000)))
    engine = rig.engine()
    engine.command("series", series="s1", kind="scan", lines=40)
    series = Series()
    held = collect(engine, series, keep=2)
    let_go = threading.Event()

    def release():
        let_go.set()
        for block in held:
            block.slot.release()

    timer = threading.Timer(0.3, release)
    timer.start()
    engine.command("series", series="s2", kind="scan", lines=40)
    assert let_go.is_set(), "the slots were used before they were free"
    timer.join()
    after = Series()
    collect(engine, after)
    check_consistent(after)
