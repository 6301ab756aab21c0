"""The engine's end of the link, as the engine sees it: connect, command, receive, acknowledge.

The socket belongs to a thread of its own (:mod:`pipeline.stream.engine_io`), so heartbeats,
acknowledgements and answers never wait for whoever processes blocks. Knows slots, the messages
and the error tree; nothing of stages or files.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from numpy.typing import NDArray

from pipeline.config import CurveConfig
from pipeline.errors import StreamTimeoutError, SwathError
from pipeline.slots import Ring, SlotRing
from pipeline.stream.commands import Pending
from pipeline.stream.engine_io import EngineIO, Received
from pipeline.stream.link import Block
from pipeline.stream.messages import Ack, Command, End, Heartbeat, Start
from pipeline.stream.security import check_endpoint

#: How often who waits for an answer looks whether it can still come, s.
_LOOK_S: Final = 0.1


class EngineLink:
    """DEALER that connects; every method may be called by any thread.

    Blocks arrive in slots of :attr:`ring`; credit is granted as slots become free, so nothing is
    sent before a ring is set. From a driver on the same host they come in its own slots
    (``block.slot.ring`` is then another ring), and need no credit. After a reconnection (also of
    a restarted driver) the link says hello again by itself, and passes on each block once.

    Parameters
    ----------
    endpoint : str
        Where the driver is bound.
    curve : CurveConfig or None
        Own secret key and the driver's public key; needed beyond loopback.
    insecure : bool
        Allow tcp beyond loopback without keys.
    session : str or None
        Id of this engine; None makes a random one.
    resume : bool
        Go on with the series that runs in the driver, whoever began it.
    timeout_s : float
        Seconds that :meth:`connect` and :meth:`command` wait, where they are not told otherwise.
    ring : SlotRing, optional
        See :attr:`ring`.
    maps : bool
        Map the driver's slots where it is on this host, instead of receiving bytes.

    Raises
    ------
    ConfigError
        When the endpoint or its keys are not allowed.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        curve: CurveConfig | None = None,
        insecure: bool = False,
        session: str | None = None,
        resume: bool = False,
        timeout_s: float = 10.0,
        ring: SlotRing | None = None,
        maps: bool = True,
    ) -> None:
        check_endpoint(endpoint, curve, insecure)
        self.endpoint = endpoint
        self.session = session or uuid.uuid4().hex
        self.timeout_s = timeout_s
        self._ids = iter(range(1 << 62))
        self._lock = threading.Lock()
        self._io = EngineIO(endpoint, curve, self.session, resume, maps)
        self.ring = ring

    @property
    def ring(self) -> SlotRing | None:
        """Where blocks are received to; to be set before a series is asked for."""
        return self._io.ring

    @ring.setter
    def ring(self, ring: SlotRing | None) -> None:
        if self._io.ring is not None:
            self._io.ring.on_release = None
        self._io.ring = ring
        if ring is not None:
            ring.on_release = self._io.transport.wake
        self._io.transport.wake()

    @property
    def slots(self) -> Ring | None:
        """Where the blocks of the running series lie: the driver's own slots, or :attr:`ring`."""
        return self._io.slots

    @property
    def peer(self) -> Heartbeat:
        """The driver's last heartbeat."""
        return self._io.peer

    @property
    def driver(self) -> str:
        """Name of the driver, empty before the first connection."""
        return self._io.welcome.driver if self._io.welcome else ""

    @property
    def running_series(self) -> str:
        """Series that ran in the driver at the last (re)connection, empty when none did."""
        return self._io.welcome.series if self._io.welcome else ""

    @property
    def connected(self) -> bool:
        """Whether the driver has answered the last hello."""
        return self._io.welcomed.is_set()

    @property
    def peer_silent_s(self) -> float:
        """Seconds since the driver was heard, or since the link began to connect."""
        return time.monotonic() - self._io.heard

    @property
    def reconnects(self) -> int:
        """How often the driver was greeted again."""
        return max(0, self._io.welcomes - 1)

    @property
    def rejected(self) -> int:
        """Messages refused so far because they were not what they should be."""
        return self._io.rejected.count

    @property
    def duplicates(self) -> int:
        """Blocks that came again and were dropped."""
        return self._io.duplicates

    @property
    def trouble(self) -> str:
        """Why the driver does not answer, where that is known; else empty."""
        return self._io.refusal or self._io.transport.trouble

    def connect(self, timeout_s: float | None = None) -> None:
        """Find the driver and be welcomed by it.

        Raises
        ------
        StreamTimeoutError
            When no driver answers in time.
        StreamError
            When it refuses: another protocol, or another engine is connected.
        """
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        self._io.start()
        deadline = time.monotonic() + timeout_s
        while not self._io.welcomed.wait(0.02):
            self._io.check()
            if time.monotonic() > deadline:
                why = self.trouble
                raise StreamTimeoutError(
                    f"{self.endpoint}: no driver answered within {timeout_s:g} s"
                    + (f" ({why})" if why else "")
                )

    def command(
        self,
        name: str,
        /,
        timeout_s: float | None = None,
        watch: Callable[[], SwathError | None] | None = None,
        **args: Any,
    ) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """Have the driver do something, and wait for its answer.

        Sent again after a reconnection; the driver carries it out once. ``watch`` is asked now
        and then whether waiting still makes sense; the error that it gives is raised.

        Returns
        -------
        (dict, ndarray or None)
            What the command yields, and the array that came with it.

        Raises
        ------
        ConfigError, CameraError
            What the driver answered, by its exit status.
        CameraLostError
            When the driver was restarted meanwhile.
        StreamTimeoutError
            When it did not answer in time.
        """
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        self._io.check()
        with self._lock:
            pending = Pending(Command(id=next(self._ids), name=name, args=args))
            self._io.command(pending)
        deadline = time.monotonic() + timeout_s
        while not pending.done.wait(max(0.0, min(_LOOK_S, deadline - time.monotonic()))):
            error = None if watch is None else watch()
            if error is None and time.monotonic() >= deadline:
                error = StreamTimeoutError(
                    f"{self.endpoint}: the driver did not answer {name!r} within {timeout_s:g} s"
                )
            if error is not None:
                self._io.forget(pending)
                raise error
        if pending.error is not None:
            raise pending.error
        return pending.value, pending.array

    def receive(self, timeout_s: float = 0.0) -> Start | Block | End | None:
        """Give what arrived next, in order; None when nothing did in time.

        Who gets a block releases its slot, and acknowledges it once it is stored. A driver that
        is silent does not raise: see :attr:`peer_silent_s`. A series whose driver was restarted
        ends with reason ``driver``.

        Raises
        ------
        StreamError
            When the link cannot go on: refused, or the peer does not keep to the protocol.
        """
        try:
            received: Received = self._io.received.get(timeout_s > 0, max(timeout_s, 1e-6))
        except queue.Empty:
            self._io.check()
            return None
        if received is None:
            # The mark that close and fatal errors leave for whoever waits.
            self._io.check()
            return None
        return received

    def ack(self, series: str, seq: int, end: bool = False) -> None:
        """Tell the driver that a block, or with ``end`` the end of the series, is stored."""
        self._io.acked(Ack(series=series, seq=seq, end=end))

    def close(self) -> None:
        """Leave; slots of blocks that nobody received are released."""
        self._io.close()
        if self._io.ring is not None and self._io.ring.on_release == self._io.transport.wake:
            self._io.ring.on_release = None

    def __enter__(self) -> EngineLink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
