"""The driver's end of the link: it binds, and keeps each block until it is acknowledged.

Sends straight from the slots, without a copy, or only the slot's number to an engine on the same
host (:mod:`pipeline.stream.shared`). Blocks leave in order as the engine grants credit;
after a new ``hello`` the start, what is not acknowledged and the end are sent again. Everything
runs in the thread that calls :meth:`DriverLink.poll`, and nothing waits elsewhere. Knows slots,
the messages and zmq; nothing of cameras.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from pipeline.config import CurveConfig
from pipeline.errors import ConfigError, ProtocolError, StreamError
from pipeline.layout import LedgerRows
from pipeline.slots import Slot, SlotRing
from pipeline.stream.link import HEARTBEAT_S, SILENT_S, Rejected, log, set_options
from pipeline.stream.messages import (
    MAX_MESSAGE,
    PROTOCOL,
    Ack,
    Answer,
    Command,
    Credit,
    End,
    Heartbeat,
    Hello,
    Mapped,
    Message,
    Start,
    Welcome,
    decode,
    encode,
)
from pipeline.stream.outgoing import OutgoingSeries
from pipeline.stream.security import check_endpoint, secure_server
from pipeline.stream.shared import Lending

#: Largest frame that an engine has reason to send, bytes.
_LARGEST_COMMAND: Final = 1 << 20
#: Messages handled in one call of poll, so that a flood cannot keep the camera waiting.
_BATCH: Final = 64
#: Answers kept, for commands that come again because the answer was lost with a connection.
_ANSWERS_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """The engine wants something; to be answered with :meth:`DriverLink.answer`."""

    command: Command


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """An engine is there. ``resumed``: a running series goes on, else it was dropped: stop it."""

    session: str
    resumed: bool


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The engine is gone, or silent for 2 s; a running series waits for it in its slots."""


Event = CommandReceived | PeerJoined | PeerLost


class DriverLink:
    """ROUTER that binds; used by one thread.

    Parameters
    ----------
    endpoint : str
        ``ipc://PATH`` or ``tcp://HOST:PORT``; port ``*`` takes a free one.
    curve : CurveConfig or None
        Own secret key and allowed clients; needed beyond loopback.
    insecure : bool
        Allow tcp beyond loopback without keys.
    driver : str
        Name told to the engine.

    Attributes
    ----------
    endpoint : str
        Where it is really bound.
    status : Heartbeat
        What the next heartbeats say; set by the owner.
    connected : bool
        Whether an engine is there and was heard in the last 2 s.

    Raises
    ------
    ConfigError
        When the endpoint or its keys are not allowed.
    StreamError
        When the endpoint cannot be bound.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        curve: CurveConfig | None = None,
        insecure: bool = False,
        driver: str = "driver",
    ) -> None:
        check_endpoint(endpoint, curve, insecure)
        self.driver = driver
        self.status = Heartbeat()
        self.connected = False
        self._instance = uuid.uuid4().hex
        self._events: list[Event] = []
        self._rejected = Rejected(f"driver link {endpoint}")
        self._identity: bytes | None = None
        self._session = ""
        self._greeting = 0
        self._heard = self._polled = self._lenient_from = time.monotonic()
        self._next_heartbeat = 0.0
        self._credits = 0
        self._series = OutgoingSeries()
        self._lending = Lending(endpoint.startswith("ipc://"))
        self._last_command = -1
        self._answers: dict[int, list[bytes]] = {}
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._authenticator = None
        try:
            set_options(self._socket, endpoint, largest=_LARGEST_COMMAND, queued=1000)
            self._socket.set(zmq.ROUTER_MANDATORY, 1)
            # Credits bound what is queued; this must not be the tighter limit.
            self._socket.set(zmq.SNDHWM, 10000)
            self._authenticator = secure_server(self._socket, self._context, curve)
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise StreamError(f"{endpoint}: cannot be bound: {error.strerror}") from error
        except ConfigError:
            self.close()
            raise
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    @property
    def credits(self) -> int:
        """Blocks that would leave at once; further ones wait in their slots."""
        if not (self.connected and self._lending.settled):
            return 0
        if self._lending.active and self._lending.ring is not None:
            return self._lending.ring.count  # each has its place already
        return max(0, self._credits - self._series.unsent)

    @property
    def outstanding(self) -> int:
        """Blocks of the series that are not acknowledged, sent or not."""
        return self._series.outstanding

    @property
    def ended_acknowledged(self) -> bool:
        """Whether the engine has everything of the last series, its end included."""
        return self._series.end_acked

    @property
    def peer_silent_s(self) -> float:
        """Seconds since the engine was heard, less those in which nobody called poll."""
        return max(0.0, self._polled - max(self._heard, self._lenient_from))

    @property
    def rejected(self) -> int:
        """Messages refused so far because they were not what they should be."""
        return self._rejected.count

    def start(self, start: Start, ring: SlotRing | None = None) -> None:
        """Begin a series; sent now, and again after each reconnection.

        With the ``ring`` of its slots, an engine on this host is offered to map them.

        Raises
        ------
        ConfigError
            When a full block would be larger than a message may be.
        StreamError
            When the series before it is not complete, or has the same id.
        """
        self._series.begin(start)
        self._lending.series(ring)
        self._send_start(start)

    def send_block(
        self, first_line: int, lines: int, rows: LedgerRows, slot: Slot, nbytes: int
    ) -> int:
        """Queue one block of the running series; it leaves as soon as there is credit.

        Takes over one owner of ``slot`` and releases it when the block is acknowledged; until
        then the memory must not be changed.

        Parameters
        ----------
        first_line : int
            Index in the cube of the block's first line.
        lines : int
            Lines with pixels; as many rows have ``line`` ≥ 0.
        rows : LEDGER_DTYPE array
            Copied.
        slot : Slot
            Pixels (lines, bands, samples) from its first byte on.
        nbytes : int
            Bytes of those pixels.

        Returns
        -------
        int
            The block's sequence number, counted from 0 in each series.
        """
        seq = self._series.add(first_line, lines, rows, slot, nbytes)
        self._send_waiting()
        return seq

    def end(self, end: End) -> None:
        """End the running series: sent after its last block, and again until acknowledged."""
        self._series.finish(end)
        self._send_waiting()

    def abandon(self) -> None:
        """Drop the running series with all that is not acknowledged."""
        self._series.abandon()
        self._series.reap()

    def answer(self, answer: Answer, array: NDArray[Any] | None = None) -> None:
        """Answer a command; with ``array`` its dtype and shape are filled in."""
        if array is not None and array.nbytes > MAX_MESSAGE:
            error = f"an array of {array.nbytes} bytes is larger than a message may be"
            answer, array = Answer(id=answer.id, error=error), None
        frames = []
        if array is not None:
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            frames = [array.tobytes()]
            shape = list(array.shape)
            answer = msgspec.structs.replace(answer, dtype=array.dtype.str, shape=shape)
        frames.insert(0, encode(answer))
        self._answers[answer.id] = frames
        while len(self._answers) > _ANSWERS_KEPT:
            del self._answers[next(iter(self._answers))]
        self._send(frames)

    def poll(self, timeout_s: float = 0.0) -> list[Event]:
        """Do all that is due: read, acknowledge, resend, heartbeat.

        Waits up to ``timeout_s`` seconds for the first message, and may return sooner. To be
        called at least every half second; cheap enough to be called for every line.
        """
        now = time.monotonic()
        if now - self._polled > HEARTBEAT_S:
            # Its messages lie unread, as nobody called: that silence was not the engine's.
            self._lenient_from = now
        wait_s = max(0.0, min(timeout_s, self._next_heartbeat - now))
        if self._socket.poll(int(wait_s * 1000 + 0.999)):
            for _ in range(_BATCH):
                if not self._receive():
                    break
        self._series.reap()
        self._polled = now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_S
            self._send([encode(self.status)])
        if self.connected and self.peer_silent_s > SILENT_S:
            self.connected = False
            self._events.append(PeerLost())
        self._send_waiting()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Leave; slots of unacknowledged blocks are released once zmq is done with them."""
        if self._socket.closed:
            return
        self._socket.close(linger=0)
        self.connected = False
        self.abandon()
        deadline = time.monotonic() + 1.0
        while self._series.held and time.monotonic() < deadline:
            time.sleep(0.001)
            self._series.reap()
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.term()

    def _receive(self) -> bool:
        """Read and handle one message; False when there is none."""
        try:
            frames = self._socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        try:
            if len(frames) != 2:
                raise ProtocolError(f"a message of {len(frames) - 1} frames, one is allowed")
            self._handle(frames[0], decode(frames[1]))
        except ProtocolError as error:
            self._rejected.add(error)
        return True

    def _handle(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Hello):
            self._greet(identity, message)
            return
        if identity != self._identity:
            raise ProtocolError(f"{type(message).__name__} from a peer that did not say hello")
        self._heard = time.monotonic()
        if not self.connected:
            # It was only silent: the connection is the same and nothing on it was lost.
            self.connected = True
            self._events.append(PeerJoined(self._session, True))
        match message:
            case Ack():
                self._series.acknowledge(message, self._session)
            case Credit():
                if message.blocks < 0:
                    raise ProtocolError(f"credit: found {message.blocks} blocks")
                if message.greeting == self._greeting:
                    self._credits += message.blocks
                    self._send_waiting()
            case Command():
                self._command(message)
            case Mapped():
                running = self._series.running
                if message.greeting == self._greeting and running is not None:
                    if message.series == running.series:
                        self._lending.answered(message.token)
                    self._send_waiting()
            case Heartbeat():
                pass
            case _:
                raise ProtocolError(f"{type(message).__name__} is not for a driver")

    def _greet(self, identity: bytes, hello: Hello) -> None:
        if not hello.session:
            raise ProtocolError("hello: the session is empty")
        refusal = ""
        if hello.protocol != PROTOCOL:
            refusal = f"this driver speaks protocol {PROTOCOL}, the engine {hello.protocol}"
        elif hello.session != self._session and self._engine_is_there(identity):
            refusal = "another engine is connected to this driver, one at a time is allowed"
        if refusal:
            log.warning("driver link %s: engine refused: %s", self.endpoint, refusal)
            self._send([encode(self._welcome(hello, refusal))], identity)
            return
        same = hello.session == self._session
        if not (same or hello.resume):
            self.abandon()
        if not same:
            self._answers.clear()
            self._last_command = -1
        if not (same and self.connected):
            self._events.append(PeerJoined(hello.session, same or hello.resume))
        self._identity, self._session, self._greeting = identity, hello.session, hello.greeting
        self.connected = True
        self._heard = time.monotonic()
        self._credits = 0
        self._series.rewind()
        self._lending.greeted(hello.session, hello.maps)
        self._send([encode(self._welcome(hello))])
        if self._series.running is not None:
            self._send_start(self._series.running)

    def _welcome(self, hello: Hello, refusal: str = "") -> Welcome:
        running = None if refusal else self._series.running
        return Welcome(
            protocol=PROTOCOL,
            driver=self.driver,
            series=running.series if running is not None else "",
            greeting=hello.greeting,
            instance=self._instance,
            error=refusal,
        )

    def _engine_is_there(self, newcomer: bytes) -> bool:
        if self._identity in (None, newcomer) or self.peer_silent_s > SILENT_S:
            return False
        # A peer that is gone for good cannot be routed to: no need to wait for its silence.
        self._send([encode(self.status)])
        return self._identity is not None

    def _command(self, command: Command) -> None:
        if command.id in self._answers:
            self._send(self._answers[command.id])
        elif command.id > self._last_command:
            self._last_command = command.id
            self._events.append(CommandReceived(command))

    def _send_start(self, start: Start) -> None:
        self._send([encode(msgspec.structs.replace(start, memory=self._lending.offer()))])

    def _send_waiting(self) -> None:
        """Send blocks by their numbers, or while there is credit; then the end."""
        while (block := self._series.next_block()) is not None:
            by_number = self._lending.lends(block.slot)
            if not self._lending.settled or not (by_number or self._credits > 0):
                return
            head = block.head(by_number=by_number)
            if not self._send([head, block.rows], more=not by_number):
                return
            if by_number:
                self._series.sent(None, self._session)
                continue
            self._credits -= 1
            tracker = self._socket.send(block.pixels, zmq.DONTWAIT, copy=False, track=True)
            self._series.sent(tracker)
        if self._series.end_is_due and self._series.end is not None:
            self._series.end_sent = self._send([encode(self._series.end)])

    def _send(
        self, frames: list[bytes], identity: bytes | None = None, *, more: bool = False
    ) -> bool:
        """Send frames to the engine, or to ``identity``; False when that is not possible now."""
        to = self._identity if identity is None else identity
        if to is None:
            return False
        flags = zmq.DONTWAIT
        try:
            # Only the first frame can fail: what follows belongs to the same message.
            self._socket.send(to, flags | zmq.SNDMORE)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            if to == self._identity:
                self._identity = None
                self._credits = 0
                if self.connected:
                    self.connected = False
                    self._events.append(PeerLost())
            return False
        for frame in frames[:-1]:
            self._socket.send(frame, flags | zmq.SNDMORE)
        self._socket.send(frames[-1], flags | (zmq.SNDMORE if more else 0))
        return True
