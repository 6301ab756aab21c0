"""The thread that owns the engine's socket: greets, receives into slots, grants, acknowledges.

Other threads reach it through a deque and a wake-up byte. Whatever the peer sends is checked
before anyone sees it; what does not hold is counted, and the driver is greeted anew, which makes
it send again. Knows slots, the messages and zmq; nothing of stages or files.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from typing import Final

import zmq

from pipeline.config import CurveConfig
from pipeline.errors import (
    CameraLostError,
    ProtocolError,
    StreamError,
    SwathError,
)
from pipeline.layout import LedgerRows
from pipeline.slots import Ring, Slot, SlotRing
from pipeline.stream.commands import Commands, Pending
from pipeline.stream.incoming import IncomingSeries, Turn
from pipeline.stream.link import HEARTBEAT_S, SILENT_S, Block, Rejected, log
from pipeline.stream.messages import (
    PROTOCOL,
    Ack,
    Answer,
    Credit,
    End,
    Heartbeat,
    Hello,
    Lines,
    Mapped,
    Message,
    Start,
    Welcome,
    decode,
    encode,
)
from pipeline.stream.shared import Borrowing
from pipeline.stream.transport import Transport

#: Silence of the driver, s, after which it is greeted again (it may be busy, or a new one).
_GREET_AGAIN_S: Final = 1.2
#: A refusal may be about an engine that has just died; after so long it is final.
_REFUSED_S: Final = SILENT_S + 1.0
#: Greetings in vain, for one and the same block, after which the driver counts as broken.
_MAX_VAIN: Final = 5
_BATCH: Final = 64
Received = Start | Block | End | None


class EngineIO:
    """Socket, thread and state of one :class:`~pipeline.stream.engine_link.EngineLink`."""

    def __init__(
        self,
        endpoint: str,
        curve: CurveConfig | None,
        session: str,
        resume: bool,
        maps: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self.ring: SlotRing | None = None
        self.received: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self.peer = Heartbeat()
        self.welcome: Welcome | None = None
        self.welcomed = threading.Event()
        self.welcomes = 0
        self.duplicates = 0
        self.heard = time.monotonic()
        self.rejected = Rejected(f"engine link {endpoint}")
        self.refusal = ""
        self._session = session
        self._resume = resume
        self._maps = maps and endpoint.startswith("ipc://")
        self._borrowing = Borrowing()
        self._fatal: SwathError | None = None
        self._commands = Commands()
        self._outbox: deque[Message] = deque()
        self._series: IncomingSeries | None = None
        self._parked: tuple[Lines, LedgerRows] | None = None
        self._greeting = 0
        self._greeted = -math.inf
        self._promised = 0
        self._refused_since = math.inf
        self._vain = 0
        self._doubt = ""
        self._next_heartbeat = 0.0
        self._closing = False
        self._thread: threading.Thread | None = None
        self.transport = Transport(endpoint, curve)

    @property
    def slots(self) -> Ring | None:
        """Where the blocks of the running series lie."""
        return self._borrowing.ring or self.ring

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None and not self._closing:
            self.heard = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="swath-link", daemon=True)
            self._thread.start()

    def check(self) -> None:
        """Raise what ended the link, if anything did."""
        if self._fatal is not None:
            raise self._fatal
        if self._closing:
            raise StreamError(f"{self.endpoint}: the link is closed")

    def command(self, pending: Pending) -> None:
        """Send a command now, and again at each welcome until it is answered."""
        self._commands.add(pending)
        try:
            self.check()  # after it was noted: who ends the link now fails it
        except SwathError:
            self._commands.forget(pending)
            raise
        self._outbox.append(pending.command)
        self.transport.wake()

    def forget(self, pending: Pending) -> None:
        """Wait no longer for an answer."""
        self._commands.forget(pending)

    def acked(self, ack: Ack) -> None:
        """Send an acknowledgement; from any thread."""
        self._borrowing.put(ack)
        self.transport.wake()

    def close(self) -> None:
        """Stop the thread and close everything; not to be called by the thread itself."""
        self._closing = True
        self.transport.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.transport.close()
        self._commands.fail(StreamError(f"{self.endpoint}: the link is closed"))
        while True:
            try:
                left = self.received.get_nowait()
            except queue.Empty:
                break
            if isinstance(left, Block):
                left.slot.release()
        self._borrowing.close()
        self.received.put(None)

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing and self._fatal is None:
                self._turn()
        except SwathError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, who waits must learn of it
            log.exception("engine link %s", self.endpoint)
            self._fail(StreamError(f"{self.endpoint}: the link failed: {error!r}"))

    def _turn(self) -> None:
        now = time.monotonic()
        wait_s = 0.0 if self._outbox else max(0.0, self._next_heartbeat - now)
        if self.transport.wait(wait_s, reading=self._parked is None):
            self._greet()
        elif not self.transport.up:
            self.welcomed.clear()
        if self._parked is not None:
            self._take_parked()
        if self._parked is None:
            for _ in range(_BATCH):
                if not self._receive() or self._parked is not None:
                    break
        self._keep_in_touch()
        self._acknowledge()
        while self._outbox:
            self._send(self._outbox.popleft())
        self._grant()

    def _acknowledge(self) -> None:
        """Send what was acknowledged, once the driver may use its slots again."""
        series = self._series
        for ack in self._borrowing.due():
            if series is not None and series.start.series == ack.series:
                series.acked(ack.seq, ack.end)
            self._send(ack)

    def _fail(self, error: SwathError) -> None:
        self._fatal = error
        self.welcomed.clear()
        self._commands.fail(error)
        self.received.put(None)

    def _keep_in_touch(self) -> None:
        now = time.monotonic()
        if now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_S
        if not self.transport.up:
            if self._parked is None:
                self.transport.reopen_if_given_up()
            return
        silent = now - self.heard > _GREET_AGAIN_S and self._parked is None
        if self._doubt and self.welcomed.is_set():
            self._ask_again()
        elif (silent or not self.welcomed.is_set()) and now - self._greeted > 0.9 * HEARTBEAT_S:
            self._greet()
        else:
            self._send(Heartbeat(free_slots=self.slots.free if self.slots else 0))

    def _greet(self) -> None:
        self._greeting += 1
        self._greeted = time.monotonic()
        self._doubt = ""
        self.welcomed.clear()
        self._send(
            Hello(
                protocol=PROTOCOL,
                session=self._session,
                resume=self._resume,
                greeting=self._greeting,
                maps=self._maps,
            )
        )

    def _grant(self) -> None:
        """Promise every free slot to the driver, several at a time where there are many."""
        ring = self.ring
        if ring is None or not self.welcomed.is_set():
            return
        blocks = ring.free - self._promised
        few = ring.count // 8
        if blocks < 1 or (blocks < few < self._promised):
            return
        if self._send(Credit(blocks=blocks, greeting=self._greeting)):
            self._promised += blocks

    def _send(self, message: Message) -> bool:
        """Send, unless there is no connection: then it is superfluous, or comes again later."""
        return self.transport.send(encode(message))

    def _receive(self) -> bool:
        """Read and handle one message; False when there is none."""
        try:
            head = self.transport.socket.recv(zmq.DONTWAIT)
        except zmq.Again:
            return False
        self.heard = time.monotonic()
        try:
            self._handle(decode(head))
        except ProtocolError as error:
            self._reject(error)
        if self._parked is None:
            self.transport.skip()
        return True

    def _reject(self, error: ProtocolError) -> None:
        self.rejected.add(error)
        # If it stood for a block, only a new greeting brings that back, and its credit.
        self._doubt = str(error)

    def _ask_again(self) -> None:
        """Greet because of what was refused, and give up when that has never helped."""
        if self._series is not None and self._series.end is None:
            self._vain += 1
        if self._vain > _MAX_VAIN:
            raise StreamError(
                f"{self.endpoint}: the driver keeps sending what cannot be taken: {self._doubt}"
            )
        self._greet()

    def _next_frame(self, what: str) -> bytes:
        if not self.transport.socket.get(zmq.RCVMORE):
            raise ProtocolError(f"{what}: a frame is missing")
        return self.transport.socket.recv()

    def _handle(self, message: Message) -> None:
        match message:
            case Lines():
                self._lines(message)
            case Heartbeat():
                self.peer = message
            case Welcome():
                self._on_welcome(message)
            case Start():
                self._on_start(message)
            case End():
                self._on_end(message)
            case Answer():
                self._commands.answered(message, lambda: self._next_frame("answer"))
            case _:
                raise ProtocolError(f"{type(message).__name__} is not for an engine")

    def _lines(self, header: Lines) -> None:
        if header.slot < 0:
            self._promised = max(0, self._promised - 1)
        if self._series is None:
            raise ProtocolError("lines: came before a start")
        turn = self._series.turn(header)
        if turn is Turn.GAP:
            if not self.welcomed.is_set():
                return  # sent before the driver saw our last hello: it will come again
            raise ProtocolError(f"lines: block {header.seq} came too early")
        if turn is not Turn.NEW:
            self.duplicates += 1
            if turn is Turn.STORED:
                self._outbox.append(Ack(series=header.series, seq=header.seq))
            return
        nbytes = self._series.nbytes(header.lines)
        if header.slot >= 0:
            self._borrow(self._series, header, nbytes)
            return
        if self.ring is None:
            raise ProtocolError("lines: came without credit")
        if nbytes > self.ring.slot_bytes:
            self._fail(
                StreamError(
                    f"lines: a block of {nbytes} bytes, the slots hold {self.ring.slot_bytes}"
                )
            )
            return
        self._parked = (header, self._series.rows(header, self._next_frame("lines")))
        self._take_parked()

    def _borrow(self, series: IncomingSeries, header: Lines, nbytes: int) -> None:
        """Take a block whose pixels lie in the driver's memory."""
        rows = series.rows(header, self._next_frame("lines"))
        if self.transport.socket.get(zmq.RCVMORE):
            raise ProtocolError(f"lines: block {header.seq}: a frame too many")
        self._pass_on(series, header, rows, self._borrowing.take(header, nbytes))

    def _take_parked(self) -> None:
        """Receive the pixels of the block whose turn it is; waits on if no slot is free."""
        ring, series = self.ring, self._series
        slot = ring.acquire() if ring is not None else None
        if slot is None or series is None or self._parked is None:
            return
        (header, rows), self._parked = self._parked, None
        try:
            self._pixels(series, header, rows, slot)
        except ProtocolError as error:
            slot.release()
            self._reject(error)
            self.transport.skip()

    def _pixels(self, series: IncomingSeries, header: Lines, rows: LedgerRows, slot: Slot) -> None:
        if not self.transport.socket.get(zmq.RCVMORE):
            raise ProtocolError("lines: the pixels are missing")
        nbytes = series.nbytes(header.lines)
        found = self.transport.socket.recv_into(slot.memory)
        if found != nbytes or self.transport.socket.get(zmq.RCVMORE):
            raise ProtocolError(f"lines: block {header.seq}: {found} bytes, {nbytes} are right")
        self._pass_on(series, header, rows, slot)

    def _pass_on(self, series: IncomingSeries, header: Lines, rows: LedgerRows, slot: Slot) -> None:
        """Hand a block with its pixels to whoever receives."""
        info = series.start.camera
        pixels = slot.array((header.lines, info.bands, info.samples), series.dtype)
        series.took(header, rows)
        self._vain = 0
        self.heard = time.monotonic()
        self.received.put(Block(slot, header, rows, pixels))

    def _on_welcome(self, welcome: Welcome) -> None:
        if welcome.protocol != PROTOCOL:
            self._fail(
                ProtocolError(
                    f"{self.endpoint}: the driver speaks protocol {welcome.protocol}, "
                    f"this engine {PROTOCOL}"
                )
            )
            return
        if welcome.greeting != self._greeting:
            return  # the answer to an earlier hello, a later one is on its way
        now = time.monotonic()
        if welcome.error:
            self.refusal = welcome.error
            self._refused_since = min(self._refused_since, now)
            if now - self._refused_since > _REFUSED_S:
                self._fail(StreamError(f"{self.endpoint}: {welcome.error}"))
            return
        self.refusal = ""
        self._refused_since = math.inf
        before, self.welcome = self.welcome, welcome
        if before is not None and before.instance != welcome.instance:
            self._commands.fail(CameraLostError(f"{self.endpoint}: the driver was restarted"))
        if self._series is not None and welcome.series != self._series.start.series:
            end = self._series.broken_off("the driver was restarted, or serves another engine")
            if end is not None:
                self.received.put(end)
        self._promised = 0
        self.welcomes += 1
        self.welcomed.set()
        self._outbox.extend(self._commands.unanswered())

    def _on_start(self, start: Start) -> None:
        if self._series is not None and self._series.start.series == start.series:
            self._answer_offer(start)  # sent again after a greeting
            return
        if self._series is not None and self._series.end is None:
            # Its end is missing: the next welcome tells whether the driver still knows it.
            raise ProtocolError(f"start: of series {start.series} within another one")
        joined = self._resume and self._series is None
        self._series = IncomingSeries(start, joined=joined)
        self._answer_offer(start)
        self.received.put(start)

    def _answer_offer(self, start: Start) -> None:
        """Map the memory that a start offers, or make ready for bytes."""
        memory = start.memory
        if memory is not None:
            able = self._maps and self._borrowing.map(memory)
            if able and self._borrowing.ring is not None:
                self._borrowing.ring.on_release = self.transport.wake
            token = memory.token if able else b""
            self._send(Mapped(series=start.series, greeting=self._greeting, token=token))
            if able:
                return
        self._borrowing.close()
        if self.ring is not None:
            self.ring.populate()

    def _on_end(self, end: End) -> None:
        if self._series is None:
            raise ProtocolError("end: came before a start")
        turn = self._series.ends(end)
        if turn is Turn.GAP:
            raise ProtocolError(f"end: after {end.blocks} blocks, some of them are missing")
        if turn is Turn.NEW:
            self.received.put(end)
        elif turn is Turn.STORED:
            self._outbox.append(Ack(series=end.series, seq=end.blocks, end=True))
