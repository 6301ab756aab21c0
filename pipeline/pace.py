"""The pace of a scan: where it stands, how fast it goes and how long it will take, as events."""

from __future__ import annotations

import time

from pipeline.container.writer import ContainerWriter
from pipeline.events import EventBus, Progress
from pipeline.session import Session

#: Time between two progress events, s.
PROGRESS_S = 0.25
#: The rate is that of the last so many seconds.
WINDOW_S = 3.0


class Pace:
    """Emits progress at a steady pace.

    Parameters
    ----------
    bus : EventBus
    writer : ContainerWriter
        Knows bytes and free space.
    session : Session
        Knows ring and driver.
    total : int or None
        Lines that the scan will have, where that is known.
    """

    def __init__(
        self, bus: EventBus, writer: ContainerWriter, session: Session, total: int | None
    ) -> None:
        self._bus = bus
        self._writer = writer
        self._session = session
        self._total = total
        self._began = self._last = time.monotonic()
        self._window: list[tuple[float, int]] = [(self._began, 0)]

    def tick(self, lines: int, lost: int, *, force: bool = False) -> None:
        """Tell where the scan stands, if it is time: lines (lost ones included) and losses."""
        now = time.monotonic()
        if not force and now - self._last < PROGRESS_S:
            return
        self._last = now
        window = [w for w in self._window if now - w[0] < WINDOW_S]
        self._window = window[-16:] or [(self._began, 0)]
        then, before = self._window[0]
        self._window.append((now, lines))
        rate = (lines - before) / (now - then) if now > then else 0.0
        eta = (self._total - lines) / rate if self._total and rate > 0 else None
        ring = self._session.link.slots
        self._bus.emit(
            Progress(
                lines=lines,
                total=self._total,
                lost=lost,
                seconds=now - self._began,
                lines_per_second=rate,
                bytes=self._writer.bytes,
                free_seconds=self._writer.free_seconds(rate),
                free_slots=None if ring is None else ring.free,
                eta_s=eta,
                temperature_c=self._session.link.peer.temperature_c,
            )
        )
