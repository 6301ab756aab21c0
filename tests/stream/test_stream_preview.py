"""The preview: strips arrive whole, slow readers miss some and know it, nobody makes it wait."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, ProtocolError, StreamError
from pipeline.stream.preview import PreviewPublisher, PreviewSubscriber, decode_strip


def strip(number: int, shape=(4, 3, 50), dtype="<i2") -> np.ndarray:
    return np.random.default_rng(number).integers(0, 99, shape).astype(dtype)


def until(condition, timeout_s=5.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def publisher(ipc):
    with PreviewPublisher(ipc) as publisher:
        yield publisher


@pytest.mark.parametrize("dtype", ["|u1", ">u2", "<i2", "<f4"])
def test_a_strip_arrives_with_its_place_number_and_age(publisher, dtype):
    with PreviewSubscriber(publisher.endpoint) as reader:
        until(lambda: publisher.has_readers)
        sent = strip(1, dtype=dtype)
        scaled = {"scale": 1e4, "data_ignore": -32768}
        assert publisher.publish(sent, capture="c", line=80, step=8, until=110, **scaled)
        got = reader.receive(5)
    assert np.array_equal(got.pixels, sent)
    assert got.header.shape == (4, 3, 50)
    assert (got.header.number, got.header.line, got.header.step) == (0, 80, 8)
    assert got.header.until == 110
    assert (got.header.capture, got.header.scale, got.header.data_ignore) == ("c", 1e4, -32768)
    assert got.missed == 0
    assert 0 <= got.age_s < 5


def test_without_readers_nothing_is_sent_and_strips_are_still_numbered(publisher):
    assert not publisher.publish(strip(0), capture="c", line=0)
    with PreviewSubscriber(publisher.endpoint) as reader:
        until(lambda: publisher.has_readers)
        publisher.publish(strip(1), capture="c", line=4)
        assert reader.receive(5).header.number == 1
    until(lambda: not publisher.has_readers)
    assert publisher.published == 2


def test_a_slow_reader_misses_strips_knows_how_many_and_delays_nobody(publisher):
    big = (64, 3, 2000)
    with (
        PreviewSubscriber(publisher.endpoint) as slow,
        PreviewSubscriber(publisher.endpoint) as quick,
    ):
        until(lambda: publisher.has_readers)
        time.sleep(0.1)  # both have subscribed: XPUB tells only of the first
        got = []
        done = threading.Event()

        def read():
            while not (done.is_set() and got and got[-1].header.number == 79):
                if (one := quick.receive(0.02)) is not None:
                    got.append(one)

        thread = threading.Thread(target=read)
        thread.start()
        longest = 0.0
        for number in range(80):
            begin = time.monotonic()
            publisher.publish(strip(number, big), capture="c", line=number)
            longest = max(longest, time.monotonic() - begin)
            time.sleep(0.002)
        publisher.published = 79
        done.set()
        end = time.monotonic() + 5
        while thread.is_alive() and time.monotonic() < end:
            publisher.published = 79
            publisher.publish(strip(79, big), capture="c", line=79)
            thread.join(0.05)
        assert not thread.is_alive()
        assert longest < 0.5
        late = []
        while (one := slow.receive(0.1)) is not None:
            late.append(one)
    assert len(late) < 80
    for one in late + got:
        assert np.array_equal(one.pixels, strip(one.header.number, big))
    numbers = [one.header.number for one in late]
    expected = [b - a - 1 for a, b in itertools.pairwise(numbers)]
    assert [one.missed for one in late[1:]] == [max(0, n) for n in expected]


def test_who_wants_only_the_newest_gets_the_newest(publisher):
    with PreviewSubscriber(publisher.endpoint, newest=True) as reader:
        until(lambda: publisher.has_readers)
        for number in range(20):
            publisher.publish(strip(number), capture="c", line=number)
            time.sleep(0.005)
        time.sleep(0.1)
        first = reader.receive(1)
        assert first.header.number == 19
        assert np.array_equal(first.pixels, strip(19))
        assert reader.receive() is None
        publisher.published = 25
        publisher.publish(strip(25), capture="c", line=25)
        assert reader.receive(5).missed == 5


def test_strips_that_cannot_be_are_refused_before_they_leave(publisher):
    with PreviewSubscriber(publisher.endpoint):
        until(lambda: publisher.has_readers)
        for bad in (np.zeros((2, 2), "u1"), np.zeros((1, 1, 1), "f8")):
            with pytest.raises(StreamError, match="preview: found"):
                publisher.publish(bad, capture="c", line=0)


def test_a_reader_survives_a_publisher_that_sends_noise(ipc):
    context = zmq.Context()
    with context.socket(zmq.PUB) as noise, PreviewSubscriber(ipc) as reader:
        noise.linger = 0
        noise.bind(ipc)
        end = time.monotonic() + 5
        while reader.rejected < 2:
            assert time.monotonic() < end
            noise.send(b"\x05\0\0\0 no strip")
            noise.send_multipart([b"a", b"b"])
            assert reader.receive(0.02) is None
    context.term()


@given(st.binary(max_size=120))
@settings(max_examples=100, deadline=None)
def test_decoding_noise_gives_our_own_error(frame):
    with pytest.raises(ProtocolError):
        decode_strip(frame)


def test_the_preview_follows_the_rules_for_endpoints():
    with pytest.raises(ConfigError, match="insecure"):
        PreviewPublisher("tcp://*:5555")
    with pytest.raises(ConfigError, match="insecure"):
        PreviewSubscriber("tcp://192.0.2.1:5555")
