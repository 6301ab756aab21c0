"""Blocks in memory that both ends map: a number on the wire in place of the pixels.

Only between processes of one host, over ``ipc``, and only when the engine could map the driver's
slots; otherwise everything goes as bytes. An acknowledgement then says two things: the block is
stored, and nobody on the engine's side looks at its slot any more. docs/decisions/0007 tells why it
is done this way. Knows slots, the error tree and the messages; has no socket.
"""

from __future__ import annotations

import os
from collections import deque

from pipeline.errors import ProtocolError
from pipeline.slots import MappedRing, Slot, SlotRing
from pipeline.stream.link import log
from pipeline.stream.messages import Ack, Lines, Memory


class Lending:
    """The driver's side: whether its slots may go to the engine by number.

    A ring is lent to one session at a time. What was lent to a session that did not give it back
    is not used again, and the ring not lent to another, before no process maps it any more: an
    engine that was only stopped may still be looking.

    Parameters
    ----------
    able : bool
        Whether the endpoint is one of this host only.

    Attributes
    ----------
    ring : SlotRing or None
        Whose slots hold the blocks of the running series.
    active : bool
        The engine has mapped them.
    settled : bool
        False while an offer is not answered: until then nothing can be sent either way.
    """

    def __init__(self, able: bool) -> None:
        self.ring: SlotRing | None = None
        self.active = False
        self.settled = True
        self._able = able
        self._session = ""
        self._borrower = ""
        self._asked = False

    def greeted(self, session: str, maps: bool) -> None:
        """Begin anew with a session; ``maps``: whether its engine answers offers."""
        self._session, self._asked = session, maps
        self.active, self.settled = False, True

    def series(self, ring: SlotRing | None) -> None:
        """Begin a series whose blocks lie in ``ring``; None: never by number."""
        if ring is not self.ring:
            self.ring, self._borrower = ring, ""
        self.active, self.settled = False, True

    def free_again(self) -> bool:
        """Whether no process can see the slots: who had borrowed them is gone."""
        return self.ring is None or not self.ring.mapped_elsewhere

    def offer(self) -> Memory | None:
        """Give what a start offers, None where nothing can be shared."""
        ring = self.ring
        self.active, self.settled = False, True
        if not (self._able and self._asked and ring is not None and ring.fd >= 0):
            return None
        if self._borrower not in ("", self._session) and not self.free_again():
            return None
        self._borrower, self.settled = self._session, False
        return Memory(
            pid=os.getpid(),
            fd=ring.fd,
            count=ring.count,
            slot_bytes=ring.slot_bytes,
            token=ring.token,
        )

    def answered(self, token: bytes) -> None:
        """Take the engine's answer; no token: it cannot map."""
        if not self.settled and self.ring is not None:
            self.settled = True
            self.active = token == self.ring.token

    def lends(self, slot: Slot) -> bool:
        """Whether a block in this slot goes by its number."""
        return self.active and slot.ring is self.ring


class Borrowing:
    """The engine's side: the map, and acknowledgements that wait for slots; one thread but `put`.

    Attributes
    ----------
    ring : MappedRing or None
        The driver's slots, None while blocks come as bytes.
    """

    def __init__(self) -> None:
        self.ring: MappedRing | None = None
        self._held: dict[tuple[str, int], Slot] = {}
        self._given: deque[Ack] = deque()
        self._waiting: list[Ack] = []
        self._told = False

    def map(self, memory: Memory) -> bool:
        """Map what a driver offers, unless that is done; whether it could be."""
        if self.ring is not None and self.ring.token == memory.token:
            return True
        self.close()
        try:
            self.ring = MappedRing(
                memory.pid, memory.fd, memory.count, memory.slot_bytes, memory.token
            )
        except (OSError, ValueError, OverflowError) as error:
            if not self._told:
                self._told = True
                log.info("blocks come as bytes, the driver's memory cannot be mapped: %s", error)
            return False
        return True

    def take(self, header: Lines, nbytes: int) -> Slot:
        """Own the slot of a block, until it is released and acknowledged.

        Raises
        ------
        ProtocolError
            When there is no such slot, it is too small, or in use.
        """
        if self.ring is None or nbytes > self.ring.slot_bytes:
            raise ProtocolError(f"lines: block {header.seq} in a slot that is not mapped")
        try:
            slot = self.ring.take(header.slot)
        except ValueError as error:
            raise ProtocolError(f"lines: block {header.seq}: {error}") from None
        self._held[header.series, header.seq] = slot
        return slot

    def put(self, ack: Ack) -> None:
        """Leave an acknowledgement; from any thread."""
        self._given.append(ack)

    def due(self) -> list[Ack]:
        """Give the acknowledgements that can be sent: their slots are free.

        The end of a series waits for all of its blocks, as it lets go of each of them.
        """
        while self._given:
            self._waiting.append(self._given.popleft())
        due: list[Ack] = []
        waiting: list[Ack] = []
        for ack in self._waiting:
            key = (ack.series, ack.seq)
            if ack.end:
                wait = any(s == ack.series and slot.owners for (s, _), slot in self._held.items())
            else:
                slot = self._held.get(key)
                wait = slot is not None and slot.owners > 0
            (waiting if wait else due).append(ack)
            if not wait:
                self._let_go(ack)
        self._waiting = waiting
        return due

    def _let_go(self, ack: Ack) -> None:
        if ack.end:
            self._held = {key: s for key, s in self._held.items() if key[0] != ack.series}
        else:
            self._held.pop((ack.series, ack.seq), None)

    def close(self) -> None:
        """Let go of the map; who still has a view of it keeps it."""
        if self.ring is not None:
            self.ring.close()
            self.ring = None
