"""The link at work: blocks, credits, acknowledgements, commands, the end; over real sockets."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from stream_bench import BLOCK_LINES, SLOT_BYTES, camera_info, check_block, pixels_of

from pipeline.errors import CameraError, ConfigError, StreamError, StreamTimeoutError
from pipeline.layout import ledger_rows
from pipeline.stream.driver_link import CommandReceived, PeerJoined, PeerLost
from pipeline.stream.messages import PROTOCOL, Answer, End, Heartbeat, Start


def received(bench, driver, engine):
    """Poll the driver until the engine has received something, and give that."""
    found = []

    def one():
        message = engine.receive()
        if message is not None:
            found.append(message)
        return bool(found)

    bench.pump(driver, one)
    return found[0]


@pytest.mark.parametrize("endpoint", [None, "tcp://127.0.0.1:*"])
def test_every_block_arrives_once_in_order_with_its_pixels_and_rows(bench, endpoint):
    driver = bench.driver(**({"endpoint": endpoint} if endpoint else {}))
    engine = bench.engine(driver.endpoint)
    bench.join(driver, engine)
    bench.start(driver)
    start = received(bench, driver, engine)
    assert isinstance(start, Start)
    assert start.camera == camera_info()
    for seq in range(40):
        bench.send(driver, seq)
        block = received(bench, driver, engine)
        check_block(block, seq)
        engine.ack("s1", seq)
        block.slot.release()
    bench.end(driver)
    end = received(bench, driver, engine)
    assert isinstance(end, End)
    assert end.blocks == 40
    assert not driver.ended_acknowledged
    engine.ack("s1", 40, end=True)
    bench.pump(driver, lambda: driver.ended_acknowledged and bench.driver_ring.free == 16)
    assert (engine.duplicates, engine.rejected, engine.reconnects) == (0, 0, 0)


def test_no_more_blocks_are_sent_than_the_engine_has_slots(bench):
    driver = bench.driver()
    engine = bench.engine(slots=3)
    bench.join(driver, engine)
    bench.start(driver)
    for seq in range(10):
        bench.send(driver, seq)
    assert isinstance(received(bench, driver, engine), Start)
    blocks = [received(bench, driver, engine) for _ in range(3)]
    for _ in range(20):
        driver.poll(0.005)
    assert engine.receive() is None
    assert (driver.credits, driver.outstanding, bench.driver_ring.free) == (0, 10, 6)
    blocks[0].slot.release()
    check_block(received(bench, driver, engine), 3)
    assert engine.ring.free == 0


def test_a_slot_is_kept_until_its_block_is_acknowledged(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    bench.send(driver, 0)
    bench.send(driver, 1)
    received(bench, driver, engine)
    blocks = [received(bench, driver, engine) for _ in range(2)]
    for block in blocks:
        block.slot.release()
    for _ in range(10):
        driver.poll(0.005)
    assert bench.driver_ring.free == 14
    engine.ack("s1", 1)
    bench.pump(driver, lambda: bench.driver_ring.free == 15)
    assert driver.outstanding == 1
    engine.ack("s1", 0)
    bench.pump(driver, lambda: bench.driver_ring.free == 16)


def test_rows_of_gaps_that_are_not_stored_travel_with_a_block(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    rows = ledger_rows(2)
    rows["line"] = [0, -1]
    rows["count"][1] = 5000
    rows["status"][1] = 1
    rows["reason"][1] = 1
    slot = bench.driver_ring.acquire()
    slot.array((1, 6, 50), np.uint16)[:] = 9
    driver.send_block(0, 1, rows, slot, 600)
    only_gap = ledger_rows(1)
    only_gap["status"] = 1
    driver.send_block(1, 0, only_gap, bench.driver_ring.acquire(), 0)
    received(bench, driver, engine)
    block = received(bench, driver, engine)
    assert block.rows.tobytes() == rows.tobytes()
    assert (block.pixels == 9).all()
    empty = received(bench, driver, engine)
    assert empty.pixels.shape == (0, 6, 50)
    assert empty.rows["count"].tolist() == [1]


def command_in_thread(engine, name, /, **args):
    result = []

    def run():
        try:
            result.append(engine.command(name, **args))
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def test_commands_are_answered_with_values_arrays_and_errors(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    answers = {
        "set": lambda i: driver.answer(Answer(id=i, value={"took": 2.5})),
        "reference": lambda i: driver.answer(Answer(id=i, value={"a": "b"}), array),
        "shutter": lambda i: driver.answer(Answer(id=i, error="there is no shutter")),
        "arm": lambda i: driver.answer(Answer(id=i, error="fps: found 0", exit_status=2)),
    }
    results = {}
    for name, answer in answers.items():
        thread, result = command_in_thread(engine, name, name="ExposureTime")
        while thread.is_alive():
            for event in driver.poll(0.01):
                assert isinstance(event, CommandReceived)
                assert event.command.args == {"name": "ExposureTime"}
                answer(event.command.id)
        results[name] = result[0]
    assert results["set"] == ({"took": 2.5}, None)
    value, found = results["reference"]
    assert value == {"a": "b"}
    assert found.dtype == np.dtype("<f4")
    assert np.array_equal(found, array)
    assert type(results["shutter"]) is CameraError
    assert "no shutter" in str(results["shutter"])
    assert type(results["arm"]) is ConfigError


def test_a_command_without_an_answer_ends_in_a_timeout(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    thread, result = command_in_thread(engine, "arm", timeout_s=0.1)
    thread.join()
    assert isinstance(result[0], StreamTimeoutError)
    assert "'arm'" in str(result[0])
    late = [e for e in driver.poll(0.5) if isinstance(e, CommandReceived)]
    driver.answer(Answer(id=late[0].command.id, value={"late": True}))
    thread, result = command_in_thread(engine, "stop")
    bench.pump(driver, lambda: not thread.is_alive())
    assert result == [({}, None)]


def test_connecting_to_nobody_ends_in_a_timeout(bench):
    engine = bench.engine()
    with pytest.raises(StreamTimeoutError, match=r"no driver answered within 0\.2 s"):
        engine.connect(0.2)


def test_an_engine_may_wait_for_a_driver_that_comes_later(bench):
    engine = bench.engine()
    thread = threading.Thread(target=engine.connect)
    thread.start()
    time.sleep(0.15)
    driver = bench.driver()
    bench.pump(driver, lambda: not thread.is_alive())
    assert engine.driver == "test"
    assert engine.connected


def test_heartbeats_carry_the_drivers_state_and_keep_both_sides_assured(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    driver.status = Heartbeat(frames=77, dropped=3, temperature_c=31.5)
    bench.pump(driver, lambda: engine.peer.frames == 77)
    assert engine.peer == Heartbeat(frames=77, dropped=3, temperature_c=31.5)
    end = time.monotonic() + 1.2
    bench.pump(driver, lambda: time.monotonic() > end)
    assert driver.peer_silent_s < 0.7
    assert engine.peer_silent_s < 0.7


def test_the_driver_learns_within_a_second_that_the_engine_died(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    engine.close()
    begin = time.monotonic()
    bench.pump(driver, lambda: PeerLost() in bench.events)
    assert time.monotonic() - begin < 1.0
    assert not driver.connected
    assert driver.credits == 0


def test_a_second_engine_is_refused_while_the_first_is_alive(bench, monkeypatch):
    monkeypatch.setattr("pipeline.stream.engine_io._REFUSED_S", 0.3)
    driver = bench.driver()
    first = bench.engine()
    bench.join(driver, first)
    second = bench.engine(resume=True)
    failed = []

    def connect():
        try:
            second.connect()
        except StreamError as error:
            failed.append(str(error))

    thread = threading.Thread(target=connect)
    thread.start()
    bench.pump(driver, lambda: not thread.is_alive())
    assert "another engine is connected" in failed[0]
    with pytest.raises(StreamError, match="another engine"):
        second.receive()
    thread, result = command_in_thread(first, "stop")
    bench.pump(driver, lambda: not thread.is_alive())
    assert result == [({}, None)]
    assert [e for e in bench.events if isinstance(e, PeerJoined)] == [
        PeerJoined(first.session, False)
    ]


@pytest.mark.parametrize("side", ["driver", "engine"])
def test_another_protocol_number_is_refused_by_both_ends(bench, monkeypatch, side):
    monkeypatch.setattr(f"pipeline.stream.{side}_link.PROTOCOL", 99, raising=False)
    if side == "engine":
        monkeypatch.setattr("pipeline.stream.engine_io.PROTOCOL", 99)
    driver = bench.driver()
    engine = bench.engine()
    thread = threading.Thread(target=lambda: failed.append(failure(engine)))
    failed: list[str] = []
    thread.start()
    bench.pump(driver, lambda: not thread.is_alive())
    mine, its = (1, 99) if side == "driver" else (99, 1)
    assert f"the driver speaks protocol {its}, this engine {mine}" in failed[0]
    assert not driver.connected


def failure(engine):
    try:
        engine.connect()
    except StreamError as error:
        return str(error)
    return ""


def test_a_block_too_large_for_a_message_is_refused_when_arming(bench):
    driver = bench.driver()
    with pytest.raises(ConfigError, match=r"block_lines: 64 lines .* allowed are at most 18 lines"):
        driver.start(
            Start(
                protocol=PROTOCOL,
                series="s",
                kind="scan",
                camera=camera_info(bands=448, samples=1024),
                block_lines=64,
            )
        )


def test_series_follow_each_other_and_ids_are_used_once(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    for series in ("a", "b"):
        bench.start(driver, series)
        assert received(bench, driver, engine).series == series
        with pytest.raises(StreamError, match="is not complete"):
            bench.start(driver, "c")
        bench.send(driver, 0)
        with received(bench, driver, engine).slot:
            engine.ack(series, 0)
        bench.end(driver, series)
        assert received(bench, driver, engine).blocks == 1
        engine.ack(series, 1, end=True)
        bench.pump(driver, lambda: driver.ended_acknowledged)
    with pytest.raises(StreamError, match="ids are used once"):
        bench.start(driver, "b")


def test_a_slot_smaller_than_a_block_ends_in_a_sentence(bench):
    driver = bench.driver()
    engine = bench.engine()
    engine.ring = bench.ring(4, 100)
    engine.ring.slot_bytes = 100  # a whole page would hold the block
    bench.join(driver, engine)
    bench.start(driver)
    received(bench, driver, engine)
    bench.send(driver, 0)
    with pytest.raises(StreamError, match=f"a block of {SLOT_BYTES} bytes, the slots hold 100"):
        received(bench, driver, engine)


def test_a_block_waits_when_others_took_the_slots_that_were_promised(bench):
    driver = bench.driver()
    engine = bench.engine(slots=2)
    bench.join(driver, engine)
    taken = [engine.ring.acquire(), engine.ring.acquire()]
    bench.start(driver)
    bench.send(driver, 0)
    received(bench, driver, engine)
    for _ in range(10):
        driver.poll(0.01)
    assert engine.receive() is None
    taken[0].release()
    block = received(bench, driver, engine)
    check_block(block, 0)
    assert block.pixels.shape[0] == BLOCK_LINES
    assert np.array_equal(block.pixels, pixels_of(0))
    taken[1].release()


def test_closing_gives_back_slots_that_nobody_received(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    for seq in range(3):
        bench.send(driver, seq)
    bench.pump(driver, lambda: engine.ring.free == 5)
    engine.close()
    driver.close()
    assert engine.ring.free == 8
    assert bench.driver_ring.free == 16
    with pytest.raises(StreamError, match="closed"):
        engine.command("arm")


def test_large_blocks_leave_their_slots_only_when_zmq_is_done_with_them(bench):
    shape = (4, 64, 2048)
    nbytes = 2 * int(np.prod(shape))  # 1 MiB: sent without a copy
    few = bench.ring(3, nbytes)
    driver = bench.driver()
    engine = bench.engine()
    engine.ring = bench.ring(2, nbytes)
    bench.join(driver, engine)
    driver.start(
        Start(
            protocol=PROTOCOL,
            series="s1",
            kind="scan",
            camera=camera_info(bands=64, samples=2048),
            block_lines=4,
        )
    )
    seen = []

    def take():
        while (item := engine.receive()) is not None:
            if not isinstance(item, Start):
                assert (item.pixels == item.header.seq).all()
                engine.ack("s1", item.header.seq)
                seen.append(item.header.seq)
                item.slot.release()
        return len(seen) == 60

    for seq in range(60):
        while (slot := few.acquire()) is None:
            driver.poll(0.005)
            take()
        slot.array(shape, np.uint16)[:] = seq
        rows = ledger_rows(4)
        rows["line"] = 4 * seq + np.arange(4)
        driver.send_block(4 * seq, 4, rows, slot, nbytes)
    bench.pump(driver, take)
    bench.pump(driver, lambda: few.free == 3)
    assert seen == list(range(60))
