"""Lines become blocks: where the next frame's pixels go, and what stands in for lost ones.

One :class:`Blocks` serves one series. It hands out the place of the next line in a slot, keeps
lost lines in their order among the stored ones, and seals a block when it is full or old enough.
Knows slots, gaps and the ledger row; nothing of the camera's calls or of the link.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.camera import Frame
from drivers.gaps import FrameIds, Loss, Losses
from pipeline.layout import NO_VALUE, LedgerRows, LossReason, ledger_rows
from pipeline.slots import Slot, SlotRing


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """What a series looks like, fixed before its first line.

    Attributes
    ----------
    bands, samples : int
        Of a line.
    dtype : numpy.dtype
        Of a pixel, little-endian.
    block_lines : int
        The most lines of a block.
    max_latency_s : float
        A block leaves when its first content is this old.
    fill : bool
        Lost lines keep their place, with ``fill_value`` as pixels.
    max_gap_lines : int
        Longer gaps are not filled.
    target : int
        Lines of the scene to count, lost ones included; 0: no end.
    first_line, epoch : int
        Index in the cube of the first line, and its epoch.
    """

    bands: int
    samples: int
    dtype: np.dtype[np.generic]
    block_lines: int
    max_latency_s: float
    fill: bool
    fill_value: int
    max_gap_lines: int
    target: int = 0
    first_line: int = 0
    epoch: int = 0

    @property
    def line_bytes(self) -> int:
        """Bytes of the pixels of one line."""
        return self.bands * self.samples * self.dtype.itemsize


@dataclass(slots=True)
class Block:
    """A block in the making: its slot, the pixels in it and the ledger rows so far.

    Attributes
    ----------
    slot : Slot
        Owned once by this block.
    pixels : ndarray, (block_lines, bands, samples)
        View of the slot; the first ``lines`` of them count.
    first_line : int
        Index in the cube.
    opened_s : float
        ``time.monotonic()`` of its first content.
    """

    slot: Slot
    pixels: NDArray[np.generic]
    first_line: int
    lines: int = 0
    rows: list[LedgerRows] = field(default_factory=list)
    opened_s: float = 0.0

    @property
    def ledger(self) -> LedgerRows:
        """All rows of the block in order."""
        return np.concatenate(self.rows) if len(self.rows) != 1 else self.rows[0]


@dataclass(slots=True)
class Series:
    """One running series: the blocks it makes, its frame ids and how it came to its end.

    Attributes
    ----------
    seconds : float
        How long to acquire; 0: no limit.
    after_host_time_ns : int
        Host time of the newest frame, at first of the last line of the epoch before; 0: there was
        none.
    after_device_time_ns : int
        The camera's own time of the newest frame of this series; ``NO_VALUE``: not known.
    sent : int
        Blocks that left.
    acquiring, end_sent : bool
        Whether frames are still taken, and whether the end message has left.
    reason, error : str
        Of the end.
    """

    name: str
    blocks: Blocks
    ids: FrameIds
    seconds: float = 0.0
    after_host_time_ns: int = 0
    after_device_time_ns: int = NO_VALUE
    began_s: float = field(default_factory=time.monotonic)
    sent: int = 0
    acquiring: bool = True
    end_sent: bool = False
    reason: str = ""
    error: str = ""


class Blocks:
    """Assembles the blocks of one series; used by one thread.

    Attributes
    ----------
    sealed : deque of Block
        Blocks that are ready to leave, oldest first; whoever sends one takes over its slot.
    counted : int
        Lines of the scene so far, lost ones included, also those that have no place yet.
    stored, lost : int
        Lines with pixels, and lost lines, in blocks so far; filled lines are both.
    epoch : int
        Of what comes next; the owner counts on when a camera begins to count its frames anew.
    """

    def __init__(
        self,
        ring: SlotRing,
        plan: SeriesPlan,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.sealed: deque[Block] = deque()
        self.counted = 0
        self.stored = 0
        self.lost = 0
        self.epoch = plan.epoch
        self._ring = ring
        self._clock = clock
        self._line = plan.first_line
        self._open: Block | None = None
        self._losses = self._no_losses()
        # A line that was fetched before it was known that others are missing before it waits
        # here until they have their place; losses behind it wait for themselves.
        self._held: LedgerRows | None = None
        self._held_pixels = np.empty((plan.bands, plan.samples), plan.dtype)
        self._behind = self._no_losses()

    def is_full(self) -> bool:
        """Tell whether as many lines as asked for are counted."""
        return 0 < self.plan.target <= self.counted

    def row(self) -> NDArray[np.generic] | None:
        """Give the place of the next line, (bands, samples); None while there is no room."""
        if not self._settle():
            return None
        block = self._room()
        return None if block is None else block.pixels[block.lines]

    def places(self) -> NDArray[np.generic] | None:
        """Give the places of the next lines, (places, bands, samples), as :meth:`row` does one."""
        if self.row() is None or self._open is None:
            return None
        first, last = self._open.lines, self.plan.block_lines
        if self.plan.target:
            last = min(last, first + self.plan.target - self.counted)
        return self._open.pixels[first:last]

    def took_many(self, rows: LedgerRows) -> None:
        """Count lines in the first of :meth:`places`, all complete, with nothing missing."""
        assert self._open is not None
        rows["epoch"] = self.epoch
        self.counted += len(rows)
        self._append(self._open, rows)

    def took(self, frame: Frame, frame_id: int, missing: int = 0) -> None:
        """Count the frame whose pixels lie in the place that :meth:`row` just gave.

        Parameters
        ----------
        frame : Frame
            What the camera said about it.
        frame_id : int
            Unwrapped.
        missing : int
            Frames that the camera lost before it.
        """
        block = self._open
        assert block is not None
        if missing:
            self.lose(missing, LossReason.CAMERA, frame_id - missing, frame.host_time_ns)
        if self.is_full():
            return
        if not frame.complete:
            self.lose(1, LossReason.INCOMPLETE, frame_id, frame.host_time_ns)
        elif self._losses:
            np.copyto(self._held_pixels, block.pixels[block.lines])
            self._held = self._frame_row(frame, frame_id)
            self.counted += 1
        else:
            self.counted += 1
            self._append(block, self._frame_row(frame, frame_id))
            return
        self._settle()

    def dropped(self, frame: Frame, frame_id: int, missing: int = 0) -> None:
        """Count a frame for which there was no room, and what is missing before it."""
        self.lose(missing, LossReason.CAMERA, frame_id - missing, frame.host_time_ns)
        self.lose(1, LossReason.NO_ROOM, frame_id, frame.host_time_ns)

    def lose(self, count: int, reason: LossReason, frame_id: int, host_time_ns: int) -> None:
        """Count lost lines, but not beyond the number of lines asked for."""
        if self.plan.target:
            count = min(count, self.plan.target - self.counted)
        if count <= 0:
            return
        self.counted += count
        waiting = self._losses if self._held is None else self._behind
        waiting.add(Loss(count, reason, frame_id, host_time_ns, self.epoch))

    def due_s(self) -> float | None:
        """Give the seconds until the open block is too old; None when nothing is in it."""
        if self._open is None or not self._open.rows:
            return None
        return self._open.opened_s + self.plan.max_latency_s - self._clock()

    def seal(self) -> None:
        """Close the open block as it is, if there is anything in it."""
        if self._open is not None and self._open.rows:
            self.sealed.append(self._open)
            self._open = None

    def finish(self) -> bool:
        """Bring all that waits into blocks and seal the last; False while there is no room."""
        if not self._settle():
            return False
        self.seal()
        if self._open is not None:
            self._open.slot.release()
            self._open = None
        return True

    def discard(self) -> None:
        """Give all slots back; nothing of this series will be sent any more."""
        if self._open is not None:
            self._open.slot.release()
            self._open = None
        while self.sealed:
            self.sealed.popleft().slot.release()

    def _settle(self) -> bool:
        """Write what waits for its place; False when there is no room for all of it."""
        while self._losses or self._held is not None:
            block = self._room()
            if block is None:
                return False
            if self._losses and self._losses.filled:
                room = self.plan.block_lines - block.lines
                rows = self._losses.take_filled(room, self._line)
                block.pixels[block.lines : block.lines + len(rows)] = self.plan.fill_value
                self.lost += len(rows)
                self._append(block, rows)
            elif self._losses:
                while self._losses:
                    rows = self._losses.take_gap()
                    self.lost += int(rows["count"][0])
                    self._append(block, rows, stored=False)
            elif self._held is not None:
                block.pixels[block.lines] = self._held_pixels
                held, self._held = self._held, None
                self._losses, self._behind = self._behind, self._losses
                self._append(block, held)
        return True

    def _room(self) -> Block | None:
        """Give the open block, a new one if need be; None without a free slot."""
        if self._open is None:
            slot = self._ring.acquire(0)
            if slot is None:
                return None
            plan = self.plan
            shape = (plan.block_lines, plan.bands, plan.samples)
            self._open = Block(slot, slot.array(shape, plan.dtype), self._line)
        return self._open

    def _append(self, block: Block, rows: LedgerRows, *, stored: bool = True) -> None:
        if not block.rows:
            block.opened_s = self._clock()
        block.rows.append(rows)
        if not stored:
            return
        rows["line"] = np.arange(self._line, self._line + len(rows))
        self._line += len(rows)
        self.stored += len(rows)
        block.lines += len(rows)
        if block.lines == self.plan.block_lines:
            self.seal()

    def _frame_row(self, frame: Frame, frame_id: int) -> LedgerRows:
        rows = ledger_rows(1)
        row = rows[0]
        row["frame_id"] = frame_id
        row["device_time_ns"] = frame.device_time_ns
        row["host_time_ns"] = frame.host_time_ns
        row["encoder"] = frame.encoder
        row["exposure_ms"] = frame.exposure_ms
        row["temperature_c"] = frame.temperature_c
        row["epoch"] = self.epoch
        return rows

    def _no_losses(self) -> Losses:
        plan = self.plan
        return Losses(fill=plan.fill, max_gap_lines=plan.max_gap_lines)
