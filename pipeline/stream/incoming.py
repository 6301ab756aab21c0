"""The series that an engine receives: what a block must look like, and which one comes next.

Decides for each message whether it is new, seen before or out of order, and keeps which blocks
are not acknowledged yet. Has no socket, so that it can be tested alone. Knows layout, the error
tree and the messages.
"""

from __future__ import annotations

import enum
import threading
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, ContainerError, ProtocolError
from pipeline.layout import (
    LEDGER_DTYPE,
    LedgerRows,
    LineStatus,
    LossReason,
    envi_dtype,
    lost_count,
)
from pipeline.stream.link import block_bytes
from pipeline.stream.messages import PROTOCOL, End, Lines, Start

#: Largest extent of a line in one direction; no sensor comes near.
_LARGEST_EXTENT = 1 << 20
#: No capture has as many lines; sums with it stay in 64 bits.
_LAST_LINE = 1 << 60


class Turn(enum.Enum):
    """What a received message is: to be taken, known, known and stored, or out of order."""

    NEW = enum.auto()
    KNOWN = enum.auto()
    STORED = enum.auto()
    GAP = enum.auto()


class IncomingSeries:
    """One series, from its start to the acknowledgement of its end.

    Parameters
    ----------
    start : Start
        As received.
    joined : bool
        The engine came when the series was running: any block may be the first.

    Raises
    ------
    ProtocolError
        When the start is of another protocol, or describes lines that cannot be.
    """

    def __init__(self, start: Start, *, joined: bool) -> None:
        if start.protocol != PROTOCOL:
            raise ProtocolError(
                f"start: the driver speaks protocol {start.protocol}, this engine {PROTOCOL}"
            )
        info = start.camera
        for name, value in (("bands", info.bands), ("samples", info.samples)):
            if not 0 < value <= _LARGEST_EXTENT:
                raise ProtocolError(f"start: {name} = {value}, allowed are 1 to {_LARGEST_EXTENT}")
        if start.block_lines < 1:
            raise ProtocolError(f"start: block_lines = {start.block_lines}, allowed is 1 or more")
        try:
            self.dtype: np.dtype[Any] = envi_dtype(info.data_type, 0)
            block_bytes(info.bands, info.samples, info.data_type, start.block_lines)
        except (ConfigError, ContainerError) as error:
            raise ProtocolError(f"start: {error}") from None
        self.start = start
        self.end: End | None = None
        self.end_acked = False
        self.stored = 0
        self.lost = 0
        self._next: int | None = None if joined else 0
        self._open: set[int] = set()
        self._lock = threading.Lock()  # acknowledgements come from another thread

    def nbytes(self, lines: int) -> int:
        """Give the bytes of so many lines of pixels."""
        return lines * self.start.camera.bands * self.start.camera.samples * self.dtype.itemsize

    def turn(self, header: Lines) -> Turn:
        """Say what the block is, and check that its header can be true.

        Raises
        ------
        ProtocolError
            When it cannot.
        """
        if header.series != self.start.series:
            raise ProtocolError(f"lines: of series {header.series}, {self.start.series} is running")
        most = self.start.block_lines
        if not (0 <= header.lines <= most and header.rows >= header.lines):
            raise ProtocolError(
                f"lines: block {header.seq} of {header.lines} lines and {header.rows} rows, "
                f"allowed are up to {most} lines and no fewer rows"
            )
        if not (header.seq >= 0 and 0 <= header.first_line <= _LAST_LINE):
            raise ProtocolError(f"lines: block {header.seq} begins with line {header.first_line}")
        with self._lock:
            if self._next is None or header.seq == self._next:
                return Turn.NEW
            if header.seq > self._next:
                return Turn.GAP
            return Turn.KNOWN if header.seq in self._open else Turn.STORED

    def rows(self, header: Lines, data: bytes) -> LedgerRows:
        """Give the ledger rows of a block, in memory of their own.

        Raises
        ------
        ProtocolError
            When they do not fit the header, or hold what a ledger cannot.
        """
        if len(data) != header.rows * LEDGER_DTYPE.itemsize:
            raise ProtocolError(
                f"lines: {header.rows} ledger rows in {len(data)} bytes, "
                f"{header.rows * LEDGER_DTYPE.itemsize} are right"
            )
        rows = np.frombuffer(data, LEDGER_DTYPE).copy()
        stored = rows["line"][rows["line"] >= 0]
        if (
            len(stored) != header.lines
            or (stored != header.first_line + np.arange(header.lines)).any()
        ):
            raise ProtocolError(
                f"lines: the ledger rows of block {header.seq} are not of its {header.lines} "
                f"lines from {header.first_line} on"
            )
        if (rows["status"] > max(LineStatus)).any() or (rows["reason"] > max(LossReason)).any():
            raise ProtocolError(f"lines: unknown status or reason in the rows of {header.seq}")
        return rows

    def took(self, header: Lines, rows: LedgerRows) -> None:
        """Note a block as received, to be acknowledged."""
        with self._lock:
            self._next = header.seq + 1
            self._open.add(header.seq)
        self.stored += header.lines
        self.lost += lost_count(rows)

    def ends(self, end: End) -> Turn:
        """Say what the end is; it is noted when new."""
        if end.series != self.start.series:
            raise ProtocolError(f"end: of series {end.series}, {self.start.series} is running")
        if self.end is not None:
            return Turn.STORED if self.end_acked else Turn.KNOWN
        if self._next is not None and end.blocks != self._next:
            return Turn.GAP
        self.end = end
        return Turn.NEW

    def acked(self, seq: int, end: bool) -> None:
        """Note that a block, or the end, is stored."""
        with self._lock:
            if end:
                self.end_acked = True
            else:
                self._open.discard(seq)

    def broken_off(self, error: str) -> End | None:
        """Make the end of a series whose driver does not know it any more; None if it ended."""
        if self.end is not None:
            return None
        self.end = End(
            series=self.start.series,
            blocks=self._next or 0,
            stored=self.stored,
            lost=self.lost,
            reason="driver",
            error=error,
        )
        return self.end
