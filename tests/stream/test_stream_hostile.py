"""Messages that are not what they should be: refused, counted, and the stream goes on."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_bench import BLOCK_LINES, camera_info, check_block

from pipeline.errors import ProtocolError, StreamError
from pipeline.layout import LEDGER_DTYPE, ledger_rows
from pipeline.stream.commands import array_of
from pipeline.stream.incoming import IncomingSeries, Turn
from pipeline.stream.link import Block
from pipeline.stream.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Command,
    Credit,
    End,
    Heartbeat,
    Hello,
    Lines,
    Start,
    Welcome,
    decode,
    encode,
)


def a_start(**changes) -> Start:
    values = {
        "protocol": PROTOCOL,
        "series": "s1",
        "kind": "scan",
        "camera": camera_info(),
        "block_lines": BLOCK_LINES,
    }
    return Start(**(values | changes))


def hostile_message(rng) -> list[bytes]:
    """Random frames: noise, damaged messages, whole ones with impossible values, or too many."""
    big = int(rng.choice([-1, 0, 1, 7, 2**31, 2**62, -(2**62)]))
    whole = [
        Ack(series="s1", seq=big),
        Credit(blocks=-abs(big), greeting=1),
        Command(id=-1, name="x" * 50, args={"a": [1, {"b": None}]}),
        Lines(series="s1", seq=big, first_line=big, lines=1, rows=1),
        Lines(series="other", seq=0, first_line=0, lines=1, rows=1),
        Lines(series="s1", seq=0, first_line=0, lines=big, rows=big),
        a_start(series="s9", protocol=7),
        a_start(series="s9", camera=camera_info(bands=big)),
        a_start(series="s9", camera=camera_info(data_type=77)),
        a_start(series="s9", block_lines=10**6),
        End(series="s1", blocks=big if big < 1 else -1, stored=0, lost=0, reason="done"),
        End(series="other", blocks=0, stored=0, lost=0, reason="done"),
        Answer(id=big, dtype="O", shape=[big]),
        Welcome(protocol=PROTOCOL, driver="", greeting=-1),
        Hello(protocol=99, session="?"),
    ]
    data = bytearray(encode(whole[rng.integers(len(whole))]))
    kind = rng.integers(4)
    if kind == 0:
        data = bytearray(rng.bytes(int(rng.integers(0, 300))))
    elif kind == 1:
        for _ in range(3):
            data[rng.integers(len(data))] = rng.integers(256)
    elif kind == 2:
        data = data[: rng.integers(len(data))]
    return [bytes(data)] + [rng.bytes(int(rng.integers(0, 90))) for _ in range(rng.integers(0, 4))]


@pytest.fixture
def strangers():
    context = zmq.Context()
    sockets = [context.socket(zmq.DEALER) for _ in range(2)]
    for one in sockets:
        one.linger = 0
    yield sockets
    for one in sockets:
        one.close()
    context.term()


@pytest.mark.parametrize("seed", [11, 12])
def test_a_running_stream_survives_noise_thrown_at_both_ends(bench, monkeypatch, strangers, seed):
    print(f"seed {seed}")
    monkeypatch.setattr("pipeline.stream.engine_io.HEARTBEAT_S", 0.05)
    rng = np.random.default_rng(seed)
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    for one in strangers:
        one.connect(driver.endpoint)
    bench.start(driver)
    found = []

    def take():
        while (message := engine.receive()) is not None:
            if isinstance(message, Start):
                assert message.series == "s1"
                continue
            found.append(message)
            if isinstance(message, Block):
                check_block(message, len(found) - 1)
                engine.ack("s1", message.header.seq)
                message.slot.release()
            else:
                engine.ack("s1", message.blocks, end=True)
        return bool(found) and isinstance(found[-1], End)

    for seq in range(100):
        bench.send(driver, seq, meanwhile=take)
        for one in strangers:
            one.send_multipart(hostile_message(rng))
        for _ in range(2):
            if driver._identity is not None:
                driver._send(hostile_message(rng))
        take()
    bench.end(driver)
    bench.pump(driver, take)
    bench.pump(driver, lambda: driver.ended_acknowledged and bench.driver_ring.free == 16)
    assert len(found) == 101
    assert driver.rejected > 50
    assert engine.rejected > 50
    assert engine.ring.free == 8


def test_frames_beyond_the_limit_cut_off_their_sender_only(bench, strangers):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    strangers[0].connect(driver.endpoint)
    strangers[0].send(bytes(2 << 20))
    for _ in range(20):
        driver.poll(0.01)
    assert driver.rejected == 0
    assert driver.connected
    assert engine.connected


def test_a_driver_that_once_sends_too_much_is_connected_to_again(bench, monkeypatch):
    monkeypatch.setattr("pipeline.stream.transport._REOPEN_S", 0.2)
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    driver._send([bytes(17 << 20)])
    bench.pump(driver, lambda: engine.reconnects == 1)
    bench.send(driver, 0)
    bench.pump(driver, lambda: engine.ring.free == 7)
    assert isinstance(engine.receive(), Start)
    check_block(engine.receive(), 0)


def test_a_driver_that_only_sends_what_cannot_be_taken_ends_the_link(bench, monkeypatch):
    monkeypatch.setattr("pipeline.stream.engine_io.HEARTBEAT_S", 0.02)
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    rows = ledger_rows(BLOCK_LINES)  # without line numbers
    driver.send_block(0, BLOCK_LINES, rows, bench.driver_ring.acquire(), 2400)

    def failed():
        try:
            engine.receive()
        except StreamError as error:
            return "keeps sending what cannot be taken" in str(error)
        return False

    bench.pump(driver, failed)
    assert engine.ring.free == 8


@given(st.binary(max_size=200))
@settings(max_examples=80, deadline=None)
def test_decoding_noise_gives_a_message_or_our_own_error(data):
    try:
        decode(data)
    except ProtocolError:
        pass


integers = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 6)


@given(
    seq=integers,
    first=integers,
    lines=integers,
    rows=integers,
    data=st.binary(max_size=3 * LEDGER_DTYPE.itemsize),
)
@settings(max_examples=80, deadline=None)
def test_block_headers_and_rows_of_any_kind_end_in_our_own_error(seq, first, lines, rows, data):
    series = IncomingSeries(a_start(), joined=False)
    header = Lines(series="s1", seq=seq, first_line=first, lines=lines, rows=rows)
    try:
        turn = series.turn(header)
        found = series.rows(header, data)
    except ProtocolError:
        return
    assert turn is (Turn.NEW if seq == 0 else Turn.GAP)
    assert len(found) == rows


@given(
    dtype=st.sampled_from(["<u2", "|u1", "<f8", "O", "", "f4,f4", "{"]), shape=st.lists(integers)
)
@settings(max_examples=100, deadline=None)
def test_arrays_of_any_description_end_in_our_own_error(dtype, shape):
    try:
        found = array_of(Answer(id=1, dtype=dtype, shape=shape), bytes(24))
    except ProtocolError:
        return
    assert found.nbytes == 24


def test_messages_come_out_as_they_went_in():
    for message in (
        Hello(protocol=1, session="a", resume=True, greeting=4),
        Welcome(protocol=1, driver="d", series="s", greeting=4, instance="i"),
        Credit(blocks=3, greeting=4),
        Ack(series="s", seq=2**40, end=True),
        Command(id=1, name="set", args={"name": "Gain", "value": 1.5}),
        Answer(id=1, value={"x": [1, None, "µ"]}, shape=[1, 2]),
        a_start(camera=camera_info(features={"Gain": 2.0}, header=[("a", "b")], hroi=(1, 9))),
        Lines(series="s", seq=0, first_line=0, lines=1, rows=2),
        End(series="s", blocks=1, stored=2, lost=3, reason="camera", error="gone"),
        Heartbeat(frames=1, dropped=2, free_slots=3, temperature_c=4.5),
    ):
        assert decode(encode(message)) == message
        unknown = msgspec.msgpack.encode(msgspec.to_builtins(message) | {"later": 1})
        assert decode(unknown) == message
