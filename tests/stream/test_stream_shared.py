"""Blocks as numbers of slots: who may use a slot when, and what happens when somebody is gone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import zmq
from stream_bench import BLOCK_LINES, SLOT_BYTES, check_block, pixels_of

from pipeline.slots import MappedRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import (
    PROTOCOL,
    Credit,
    End,
    Hello,
    Lines,
    Mapped,
    Start,
    Welcome,
    decode,
    encode,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps memory by /proc")


def next_block(bench, driver, engine) -> Block:
    """Wait for the next block; starts are passed over."""
    found = []

    def here():
        message = engine.receive()
        if isinstance(message, Block):
            found.append(message)
        return bool(found)

    bench.pump(driver, here)
    return found[0]


def finish(bench, driver, engine) -> None:
    """End the series, and let the engine acknowledge that."""
    bench.end(driver)

    def ended():
        message = engine.receive()
        if isinstance(message, End):
            engine.ack(message.series, message.blocks, end=True)
        return driver.ended_acknowledged

    bench.pump(driver, ended)


def settle(bench, driver, free: int) -> None:
    bench.pump(driver, lambda: bench.driver_ring.free == free)


@pytest.fixture
def pair(bench):
    driver, engine = bench.driver(), bench.engine(slots=1)
    bench.join(driver, engine)
    bench.start(driver, shared=True)
    return driver, engine


def test_a_block_is_the_drivers_own_memory_and_needs_no_credit(bench, pair):
    driver, engine = pair
    for seq in range(10):  # the engine's own ring has one slot
        bench.send(driver, seq)
    blocks = [next_block(bench, driver, engine) for _ in range(10)]
    for seq, block in enumerate(blocks):
        check_block(block, seq)
        assert isinstance(block.slot.ring, MappedRing)
        assert block.slot.index == block.header.slot
    assert engine.ring.free == 1
    first = bench.driver_ring._slots[blocks[0].slot.index]
    first.memory[:2] = b"\x01\x02"
    assert blocks[0].pixels[0, 0, 0] == 0x0201
    assert driver.credits == bench.driver_ring.count


def test_the_driver_has_its_slot_back_when_it_is_acknowledged_and_released(bench, pair):
    driver, engine = pair
    for seq in range(3):
        bench.send(driver, seq)
    one, two, three = (next_block(bench, driver, engine) for _ in range(3))
    two.slot.retain()  # the stages
    for block in (one, two):
        engine.ack("s1", block.header.seq)
        block.slot.release()
    three.slot.release()
    settle(bench, driver, 16 - 2)
    for _ in range(5):
        driver.poll(0.02)
    assert bench.driver_ring.free == 16 - 2  # two is still looked at, three not acknowledged
    check_block(two, 1)
    two.slot.release()
    settle(bench, driver, 16 - 1)
    engine.ack("s1", 2)
    settle(bench, driver, 16)
    finish(bench, driver, engine)


def test_the_end_is_acknowledged_when_no_block_is_looked_at(bench, pair):
    driver, engine = pair
    bench.send(driver, 0)
    block = next_block(bench, driver, engine)
    engine.ack("s1", 0)
    bench.end(driver)
    bench.pump(driver, lambda: isinstance(engine.receive(), End))
    engine.ack("s1", 1, end=True)
    for _ in range(10):
        driver.poll(0.02)
    assert not driver.ended_acknowledged
    assert bench.driver_ring.free == 15
    block.slot.release()
    bench.pump(driver, lambda: driver.ended_acknowledged)
    settle(bench, driver, 16)


@pytest.mark.parametrize("why", ["cannot", "will not", "another host"])
def test_where_nothing_can_be_shared_blocks_come_as_bytes(bench, monkeypatch, why):
    def refused(*args):
        raise PermissionError(13, "Permission denied")

    if why == "cannot":
        monkeypatch.setattr("pipeline.stream.shared.MappedRing", refused)
    driver = bench.driver(endpoint="tcp://127.0.0.1:*") if why == "another host" else bench.driver()
    engine = bench.engine(driver.endpoint, maps=why != "will not")
    bench.join(driver, engine)
    bench.start(driver, shared=True)
    for seq in range(3):
        bench.send(driver, seq)
        block = next_block(bench, driver, engine)
        check_block(block, seq)
        assert block.slot.ring is engine.ring
        engine.ack("s1", seq)
        block.slot.release()
    finish(bench, driver, engine)
    assert bench.driver_ring.free == 16


def test_the_next_series_uses_the_same_map(bench, pair):
    driver, engine = pair
    rings = []
    for series in ("s1", "s2"):
        if series == "s2":
            bench.start(driver, series, shared=True)
        bench.send(driver, 0)
        block = next_block(bench, driver, engine)
        check_block(block, 0)
        rings.append(block.slot.ring)
        engine.ack(series, 0)
        block.slot.release()
        bench.end(driver, series)

        def ended(series=series):
            message = engine.receive()
            if isinstance(message, End):
                engine.ack(series, message.blocks, end=True)
            return driver.ended_acknowledged

        bench.pump(driver, ended)
    assert rings[0] is rings[1]


def test_an_engine_that_greets_again_gets_each_block_once(bench, pair):
    driver, engine = pair
    for seq in range(4):
        bench.send(driver, seq)
    blocks = [next_block(bench, driver, engine) for _ in range(4)]
    engine.ack("s1", 0)
    blocks[0].slot.release()
    settle(bench, driver, 13)
    welcomes = engine._io.welcomes
    engine._io._doubt = "as if something had been refused"
    bench.pump(driver, lambda: engine._io.welcomes > welcomes and engine.duplicates >= 3)
    bench.send(driver, 4)
    blocks.append(next_block(bench, driver, engine))
    for seq, block in enumerate(blocks[1:], 1):
        check_block(block, seq)
        engine.ack("s1", seq)
        block.slot.release()
    finish(bench, driver, engine)
    settle(bench, driver, 16)


def test_slots_of_an_engine_that_may_still_look_are_left_alone(bench, pair):
    driver, engine = pair
    for seq in range(3):
        bench.send(driver, seq)
    held = next_block(bench, driver, engine)
    engine.close()  # the link is gone, but somebody there still has the pixels
    heir = bench.engine(resume=True)
    bench.join(driver, heir)
    for seq in range(3):
        block = next_block(bench, driver, heir)
        check_block(block, seq)
        assert block.slot.ring is heir.ring  # bytes: the ring is not lent twice
        heir.ack("s1", seq)
        block.slot.release()
    for _ in range(5):
        driver.poll(0.02)
    assert driver.outstanding == 0
    assert bench.driver_ring.free == 13
    check_block(held, 0)
    held.slot.release()
    del held
    gc.collect()
    settle(bench, driver, 16)
    finish(bench, driver, heir)
    bench.start(driver, "s2", shared=True)
    bench.send(driver, 0)
    block = next_block(bench, driver, heir)
    assert isinstance(block.slot.ring, MappedRing)  # now it can be lent again
    block.slot.release()


BORROWER = """
import sys, time
from pipeline.slots import SlotRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
link = EngineLink(sys.argv[1], timeout_s=20, ring=SlotRing(4, int(sys.argv[2])))
link.connect()
held = []
while len(held) < 3:
    item = link.receive(1.0)
    if isinstance(item, Block):
        held.append(item)
print("by number:", all(block.header.slot >= 0 for block in held), flush=True)
time.sleep(60)
"""


def test_a_killed_engine_gives_its_slots_back_and_its_heir_borrows_them(bench):
    driver = bench.driver()
    command = [sys.executable, "-c", BORROWER, driver.endpoint, str(SLOT_BYTES)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        bench.pump(driver, lambda: driver.connected, timeout_s=20)
        bench.start(driver, shared=True)
        for seq in range(3):
            bench.send(driver, seq)
        while bench.driver_ring.free == 16 or driver.credits == 0:
            driver.poll(0.01)
        deadline = time.monotonic() + 10
        os.set_blocking(child.stdout.fileno(), False)
        said = ""
        while not said and time.monotonic() < deadline:
            driver.poll(0.01)
            said = child.stdout.readline()
        assert said == "by number: True\n"
        assert bench.driver_ring.mapped_elsewhere
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert not bench.driver_ring.mapped_elsewhere
    heir = bench.engine(resume=True)
    bench.join(driver, heir)
    for seq in range(3):
        block = next_block(bench, driver, heir)
        check_block(block, seq)
        assert isinstance(block.slot.ring, MappedRing)
        heir.ack("s1", seq)
        block.slot.release()
    settle(bench, driver, 16)
    finish(bench, driver, heir)


LENDER = """
import sys
sys.path.insert(0, sys.argv[2])
from stream_bench import Bench
bench = Bench(sys.argv[1])
driver = bench.driver()
while not driver.credits:
    driver.poll(0.1)
bench.start(driver, shared=True)
for seq in range(3):
    bench.send(driver, seq)
while True:
    driver.poll(0.1)
"""


def test_a_killed_driver_takes_no_memory_from_who_still_reads(bench, ipc):
    shared_memory = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    here = str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", LENDER, ipc, here])
    engine = bench.engine(timeout_s=20.0)
    try:
        engine.connect()
        held = []
        deadline = time.monotonic() + 20
        while len(held) < 3 and time.monotonic() < deadline:
            item = engine.receive(0.5)
            held += [item] if isinstance(item, Block) else []
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert [block.header.slot >= 0 for block in held] == [True] * 3
    for seq, block in enumerate(held):
        check_block(block, seq)
        engine.ack("s1", seq)
        block.slot.release()
    left = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    assert left <= shared_memory


@pytest.mark.parametrize(
    ("frames", "changes"),
    [
        (1, {"slot": 16}),
        (1, {"slot": 2**40}),
        (1, {"slot": 3, "lines": BLOCK_LINES, "rows": BLOCK_LINES, "seq": 1}),
        (2, {"slot": 4, "seq": 1}),
        (0, {"slot": 4, "seq": 1}),
    ],
    ids=["no such slot", "absurd", "in use", "a frame too many", "no rows"],
)
def test_a_number_that_cannot_be_is_refused_and_the_driver_asked_again(bench, ipc, frames, changes):
    ring = bench.driver_ring
    memory = {
        "pid": os.getpid(), "fd": ring.fd, "count": ring.count,
        "slot_bytes": ring.slot_bytes, "token": ring.token,
    }  # fmt: skip
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.linger, router.rcvtimeo = 0, 5000
    router.bind(ipc)
    engine = bench.engine()
    engine._io.start()

    def hear(kind):
        while True:
            peer, *rest = router.recv_multipart()
            message = decode(rest[0])
            if isinstance(message, kind):
                return peer, message

    try:
        peer, hello = hear(Hello)
        assert hello.maps
        welcome = Welcome(protocol=PROTOCOL, driver="x", greeting=hello.greeting, instance="i")
        router.send_multipart([peer, encode(welcome)])
        hear(Credit)
        router.send_multipart([peer, a_start_with(memory)])
        assert hear(Mapped)[1].token == ring.token
        rows = rows_of(0)
        slot = ring._slots[3]
        slot.array((BLOCK_LINES, 6, 50), "u2")[:] = pixels_of(0)
        head = Lines(series="s1", seq=0, first_line=0, lines=BLOCK_LINES, rows=BLOCK_LINES, slot=3)
        router.send_multipart([peer, encode(head), rows])
        wrong = msgspec.structs.replace(head, **changes)
        seq = wrong.seq
        wrong = msgspec.structs.replace(wrong, seq=1, first_line=BLOCK_LINES)
        assert seq in (0, 1)
        router.send_multipart([peer, encode(wrong), *[rows_of(1)] * frames])
        hear(Hello)  # what is refused has to come again
        assert engine.rejected == 1
        assert isinstance(engine.receive(2.0), Start)
        block = engine.receive(2.0)
        check_block(block, 0)
        block.slot.release()
    finally:
        engine.close()
        router.close()
        context.term()


def rows_of(seq: int) -> bytes:
    from pipeline.layout import ledger_rows

    rows = ledger_rows(BLOCK_LINES)
    rows["line"] = range(seq * BLOCK_LINES, (seq + 1) * BLOCK_LINES)
    return rows.tobytes()


def a_start_with(memory: dict) -> bytes:
    from stream_bench import camera_info

    from pipeline.stream.messages import Memory

    return encode(
        Start(
            protocol=PROTOCOL,
            series="s1",
            kind="scan",
            camera=camera_info(),
            block_lines=BLOCK_LINES,
            memory=Memory(**memory),
        )
    )


def test_an_engine_that_is_not_asked_gets_no_offer(bench, ipc):
    """A hello without ``maps`` is one of an engine that does not know of numbers."""
    driver = bench.driver()
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(ipc)
    try:
        old = encode(Hello(protocol=PROTOCOL, session="old", greeting=1))
        dealer.send(old)
        dealer.send(encode(Credit(blocks=1, greeting=1)))
        bench.pump(driver, lambda: driver.credits > 0)
        bench.start(driver, shared=True)
        bench.send(driver, 0)
        found = []
        while not any(isinstance(message, Lines) for message, *_ in found):
            driver.poll(0.01)
            while dealer.poll(10):
                head, *rest = dealer.recv_multipart()
                found.append((decode(head), *rest))
        starts = [message for message, *_ in found if isinstance(message, Start)]
        assert [start.memory for start in starts] == [None]
        lines, _, pixels = next(one for one in found if isinstance(one[0], Lines))
        assert lines.slot == -1
        assert pixels == pixels_of(0).tobytes()
    finally:
        dealer.close()
        context.term()


def test_an_engine_without_a_ring_can_receive(ipc, bench):
    driver = bench.driver()
    engine = EngineLink(ipc, timeout_s=8.0)
    bench.links.append(engine)
    engine._io.start()
    bench.pump(driver, lambda: engine.connected and driver.connected)
    bench.start(driver, shared=True)
    bench.send(driver, 0)
    block = next_block(bench, driver, engine)
    check_block(block, 0)
    block.slot.release()
