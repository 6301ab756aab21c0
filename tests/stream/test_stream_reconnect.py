"""The link when something breaks: cut connections, engines and drivers that die and come back."""

from __future__ import annotations

import socket
import threading
import time

import numpy as np
import pytest
from stream_bench import check_block

from pipeline.errors import CameraLostError
from pipeline.stream.driver_link import CommandReceived, PeerJoined, PeerLost
from pipeline.stream.link import Block
from pipeline.stream.messages import Answer, End, Start


class CuttableCable:
    """A tcp relay whose connections can be cut at any byte."""

    def __init__(self, endpoint: str) -> None:
        self._to = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.carried = 0
        self.plugged = True
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.plugged:
                near.close()
                continue
            far = socket.create_connection(self._to)
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._carry, args=pair))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1000):
                sink.sendall(data)
                self.carried += len(data)
        except OSError:
            pass
        finally:
            hang_up(source, sink)

    def cut(self) -> None:
        hang_up(*self._open)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()


def hang_up(*sockets) -> None:
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.fixture
def cable():
    made = []

    def make(endpoint):
        made.append(CuttableCable(endpoint))
        return made[-1]

    yield make
    for one in made:
        one.close()


def receive_all(engine, found, acknowledge=lambda seq: True):
    """Give a function that takes what the engine has, and says whether the end was there."""

    def take():
        while (message := engine.receive()) is not None:
            found.append(message)
            if isinstance(message, Block):
                check_block(message, message.header.seq)
                if acknowledge(message.header.seq):
                    engine.ack(message.header.series, message.header.seq)
                message.slot.release()
            elif isinstance(message, End):
                engine.ack(message.series, message.blocks, end=True)
        return bool(found) and isinstance(found[-1], End)

    return take


def seqs(found):
    return [m.header.seq for m in found if isinstance(m, Block)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_connection_cut_anywhere_loses_and_repeats_no_block(bench, cable, seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    driver = bench.driver(endpoint="tcp://127.0.0.1:*")
    wire = cable(driver.endpoint)
    engine = bench.engine(wire.endpoint)
    bench.join(driver, engine)
    bench.start(driver)
    found = []
    take = receive_all(engine, found)
    cuts = set(rng.choice(np.arange(3, 55), 4, replace=False).tolist())
    for seq in range(60):
        bench.send(driver, seq, meanwhile=take)
        if seq in cuts:
            at = wire.carried + int(rng.integers(0, 6000))
            patience = time.monotonic() + 0.05
            while wire.carried < at and time.monotonic() < patience:
                driver.poll(0.001)
                take()
            wire.cut()
        take()
    bench.end(driver)
    bench.pump(driver, take)
    bench.pump(driver, lambda: driver.ended_acknowledged and bench.driver_ring.free == 16)
    assert isinstance(found[0], Start)
    assert seqs(found) == list(range(60))
    assert len(found) == 62
    assert engine.reconnects >= 2
    assert engine.ring.free == 8


def test_acknowledgements_lost_with_the_connection_are_given_again(bench, cable):
    driver = bench.driver(endpoint="tcp://127.0.0.1:*")
    wire = cable(driver.endpoint)
    engine = bench.engine(wire.endpoint)
    bench.join(driver, engine)
    bench.start(driver)
    found = []
    take = receive_all(engine, found, acknowledge=lambda seq: False)
    for seq in range(5):
        bench.send(driver, seq)
    bench.pump(driver, lambda: take() or len(seqs(found)) == 5)
    wire.plugged = False
    wire.cut()
    bench.pump(driver, lambda: PeerLost() in bench.events)
    for seq in (0, 1, 2):
        engine.ack("s1", seq)
    bench.pump(driver, lambda: not engine._io._outbox)
    assert driver.outstanding == 5
    wire.plugged = True
    bench.pump(driver, lambda: driver.outstanding == 2 and engine.duplicates == 5)
    engine.ack("s1", 3)
    engine.ack("s1", 4)
    bench.pump(driver, lambda: driver.outstanding == 0)
    assert seqs(found) == list(range(5))


def test_blocks_wait_in_their_slots_for_an_engine_that_comes_back_with_resume(bench):
    driver = bench.driver()
    first = bench.engine()
    bench.join(driver, first)
    bench.start(driver)
    found = []
    take = receive_all(first, found, acknowledge=lambda seq: seq < 2)
    for seq in range(4):
        bench.send(driver, seq)
    bench.pump(driver, lambda: take() or (len(seqs(found)) == 4 and driver.outstanding == 2))
    first.close()
    bench.pump(driver, lambda: not driver.connected)
    for seq in range(4, 10):
        bench.send(driver, seq)
    assert driver.outstanding == 8
    second = bench.engine(resume=True)
    found = []
    take = receive_all(second, found)
    bench.end(driver)
    second._io.start()
    bench.pump(driver, take)
    assert isinstance(found[0], Start)
    assert seqs(found) == list(range(2, 10))
    assert found[-1].blocks == 10
    bench.pump(driver, lambda: driver.ended_acknowledged and bench.driver_ring.free == 16)
    assert bench.events[-1] == PeerJoined(second.session, True)


def test_an_engine_without_resume_ends_the_series_of_the_one_before(bench):
    driver = bench.driver()
    first = bench.engine()
    bench.join(driver, first)
    bench.start(driver)
    for seq in range(12):
        bench.send(driver, seq)
    first.close()
    second = bench.engine()
    bench.join(driver, second)
    assert bench.events[-1] == PeerJoined(second.session, False)
    assert driver.outstanding == 0
    bench.pump(driver, lambda: bench.driver_ring.free == 16)
    bench.start(driver, "s2")
    bench.send(driver, 0)
    found = []
    take = receive_all(second, found)
    bench.end(driver, "s2")
    bench.pump(driver, take)
    assert [found[0].series, seqs(found)] == ["s2", [0]]


def test_the_series_of_a_driver_that_was_restarted_ends_with_what_came(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    found = []
    take = receive_all(engine, found)
    for seq in range(3):
        bench.send(driver, seq)
    bench.pump(driver, lambda: take() or len(seqs(found)) == 3)
    failed = []
    thread = threading.Thread(target=lambda: failed.append(error_of(engine)))
    thread.start()
    while not any(isinstance(e, CommandReceived) for e in driver.poll(0.01)):
        pass
    driver.close()
    again = bench.driver()
    bench.pump(again, lambda: not thread.is_alive())
    bench.pump(again, take)
    end = found[-1]
    assert (end.reason, end.blocks, end.stored) == ("driver", 3, 12)
    assert isinstance(failed[0], CameraLostError)
    assert engine.reconnects == 1
    bench.start(again, "s2")
    bench.send(again, 0)
    bench.end(again, "s2")
    found.clear()
    bench.pump(again, take)
    assert seqs(found) == [0]


def error_of(engine):
    try:
        engine.command("series")
    except CameraLostError as error:
        return error
    return None


def test_a_command_sent_again_after_a_cut_is_carried_out_once(bench, cable):
    driver = bench.driver(endpoint="tcp://127.0.0.1:*")
    wire = cable(driver.endpoint)
    engine = bench.engine(wire.endpoint)
    bench.join(driver, engine)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(engine.command("arm")))
    thread.start()
    commands = []
    while not commands:
        commands = [e for e in driver.poll(0.01) if isinstance(e, CommandReceived)]
    wire.cut()
    driver.answer(Answer(id=commands[0].command.id, value={"armed": True}))
    bench.pump(driver, lambda: not thread.is_alive())
    assert answers == [({"armed": True}, None)]
    assert not any(isinstance(e, CommandReceived) for e in bench.events)


def test_a_driver_that_is_busy_for_seconds_is_greeted_again_and_loses_nothing(bench):
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    bench.start(driver)
    for seq in range(3):
        bench.send(driver, seq)
    time.sleep(1.9)  # a camera that takes long to open
    assert engine.peer_silent_s > 1.2
    assert not engine.connected
    found = []
    take = receive_all(engine, found)
    for seq in range(3, 20):
        bench.send(driver, seq, meanwhile=take)
        take()
    assert PeerLost() not in bench.events
    bench.end(driver)
    bench.pump(driver, take)
    assert seqs(found) == list(range(20))
    assert engine.connected


def test_an_engine_that_is_silent_counts_as_lost_until_it_is_heard_again(bench, monkeypatch):
    monkeypatch.setattr("pipeline.stream.driver_link.SILENT_S", 0.6)
    driver = bench.driver()
    engine = bench.engine()
    bench.join(driver, engine)
    pause = threading.Event()
    turn = engine._io._turn
    monkeypatch.setattr(engine._io, "_turn", lambda: pause.wait(5) or turn())
    bench.events.clear()
    bench.pump(driver, lambda: PeerLost() in bench.events)
    monkeypatch.setattr(engine._io, "_turn", turn)
    pause.set()
    bench.pump(driver, lambda: driver.connected and engine.connected)
    assert bench.events == [PeerLost(), PeerJoined(engine.session, True)]
