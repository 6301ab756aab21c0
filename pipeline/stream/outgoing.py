"""The series that a driver sends: which blocks wait, which are under way, when slots are free.

The counterpart of :mod:`pipeline.stream.incoming`. Has no socket: the link asks for what is to be
sent next, and tells what was acknowledged. Knows slots, layout, the error tree and the messages.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec
import zmq

from pipeline.errors import ProtocolError, StreamError
from pipeline.layout import LedgerRows
from pipeline.slots import Slot
from pipeline.stream.link import block_bytes
from pipeline.stream.messages import Ack, End, Lines, Start, encode


@dataclass(slots=True)
class OutgoingBlock:
    """One block: its frames, its slot, and who still has the memory.

    ``lent``: the session that it went to by its number and that has not given it back, else empty.
    """

    header: Lines
    rows: bytes
    slot: Slot
    pixels: memoryview
    trackers: list[zmq.MessageTracker] = field(default_factory=list)
    lent: str = ""

    def head(self, *, by_number: bool) -> bytes:
        """Encode its first frame; ``by_number``: the pixels stay where they are."""
        slot = self.slot.index if by_number else -1
        return encode(msgspec.structs.replace(self.header, slot=slot))

    @property
    def sending(self) -> bool:
        """Whether zmq still has the memory."""
        return not all(tracker.done for tracker in self.trackers)

    def release(self) -> bool:
        """Release the slot if nobody has its memory any more; whether it was."""
        if self.sending or (self.lent and self.slot.ring.mapped_elsewhere):
            return False
        self.slot.release()
        return True


class OutgoingSeries:
    """At most one series, from its start to the acknowledgement of its end.

    Attributes
    ----------
    start, end : Start, End or None
        As sent, or to be sent; None before.
    end_sent, end_acked : bool
        How far the end is.
    """

    def __init__(self) -> None:
        self.start: Start | None = None
        self.end: End | None = None
        self.end_sent = self.end_acked = False
        self._next_seq = 0
        self._blocks: dict[int, OutgoingBlock] = {}  # not acknowledged, in order of seq
        self._unsent: deque[int] = deque()
        self._acked: list[OutgoingBlock] = []  # done with, but somebody may still have the memory

    @property
    def running(self) -> Start | None:
        """The start of the series that is not complete, None when none is."""
        return None if self.end_acked else self.start

    @property
    def unsent(self) -> int:
        """Blocks that wait for credit, or to be sent again."""
        return len(self._unsent)

    @property
    def outstanding(self) -> int:
        """Blocks that are not acknowledged, sent or not."""
        return len(self._blocks)

    @property
    def held(self) -> bool:
        """Whether zmq still has memory of blocks that are done."""
        return any(block.sending for block in self._acked)

    @property
    def end_is_due(self) -> bool:
        """Whether the end is what comes next."""
        if self.end is None or self.end_sent or self.end_acked:
            return False
        return self.next_block() is None

    def begin(self, start: Start) -> None:
        """Begin a series; see :meth:`DriverLink.start` for what it raises."""
        info = start.camera
        block_bytes(info.bands, info.samples, info.data_type, start.block_lines)
        if self.start is not None:
            if not self.end_acked:
                raise StreamError(f"series {start.series}: {self.start.series} is not complete")
            if start.series == self.start.series:
                raise StreamError(f"series {start.series}: was already sent, ids are used once")
        self.start, self.end = start, None
        self.end_sent = self.end_acked = False
        self._next_seq = 0

    def add(self, first_line: int, lines: int, rows: LedgerRows, slot: Slot, nbytes: int) -> int:
        """Append a block, which takes over one owner of the slot; gives its sequence number."""
        if self.start is None or self.end is not None:
            slot.release()
            raise StreamError("a block was sent outside a series")
        seq = self._next_seq
        self._next_seq += 1
        head = Lines(
            series=self.start.series, seq=seq, first_line=first_line, lines=lines, rows=len(rows)
        )
        self._blocks[seq] = OutgoingBlock(head, rows.tobytes(), slot, slot.memory[:nbytes])
        self._unsent.append(seq)
        return seq

    def finish(self, end: End) -> None:
        """Set the end, with the number of blocks filled in."""
        if self.start is None or end.series != self.start.series:
            raise StreamError(f"series {end.series}: was not started")
        self.end = msgspec.structs.replace(end, blocks=self._next_seq)

    def next_block(self) -> OutgoingBlock | None:
        """Give the block that is to be sent next; None when all are sent."""
        while self._unsent:
            block = self._blocks.get(self._unsent[0])
            if block is not None:
                return block
            self._unsent.popleft()  # acknowledged since it was queued to be sent again
        return None

    def sent(self, tracker: zmq.MessageTracker | None, lent: str = "") -> None:
        """Note that the block of :meth:`next_block` is under way, or lent to a session."""
        block = self._blocks[self._unsent.popleft()]
        if tracker is not None:
            block.trackers.append(tracker)
        block.lent = lent or block.lent

    def rewind(self) -> None:
        """Queue everything that is not acknowledged to be sent again."""
        self._unsent = deque(self._blocks)
        self.end_sent = False

    def acknowledge(self, ack: Ack, session: str) -> None:
        """Take an acknowledgement of a session; one for a series that is over is ignored.

        Raises
        ------
        ProtocolError
            When it is for an end that was not sent.
        """
        if self.start is None or ack.series != self.start.series:
            return
        if ack.end:
            if self.end is None:
                raise ProtocolError(f"series {ack.series}: its end was acknowledged, not sent")
            # The end is acknowledged after all that is before it.
            self.end_acked = True
            self._give_back(session, *self._blocks.values())
            self._drop_blocks()
        elif ack.seq in self._blocks:
            block = self._blocks.pop(ack.seq)
            self._give_back(session, block)
            self._acked.append(block)

    def abandon(self) -> None:
        """Drop the series with all that is not acknowledged."""
        self._drop_blocks()
        self.start = self.end = None
        self.end_sent = self.end_acked = False

    def reap(self) -> None:
        """Release the slots that nobody has any more."""
        if self._acked:
            self._acked = [block for block in self._acked if not block.release()]

    @staticmethod
    def _give_back(session: str, *blocks: OutgoingBlock) -> None:
        """Note that a session looks at none of these any more; others that had them may."""
        for block in blocks:
            if block.lent == session:
                block.lent = ""

    def _drop_blocks(self) -> None:
        self._acked.extend(self._blocks.values())
        self._blocks.clear()
        self._unsent.clear()
