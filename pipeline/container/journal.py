"""The journal beside a partial file: what was written, and the checksums to prove it.

Records one after the other, each with its own checksum, so that a torn or damaged journal is
read as far as it is true:

    magic "SWJ1" · kind · stream · 0 · payload bytes · start · count · crc · payload · checksum

``BLOCK``  lines ``start`` … ``start + count`` of ``data.envi``; ``crc`` of their bytes; payload:
           ledger rows of the lines and of gaps.
``ROWS``   better rows for lines that a BLOCK has already (counts that were computed later).
``GROWN``  ``count`` bytes from byte ``start`` of the grown file number ``stream``; their ``crc``.
``SYNC``   lines up to ``start`` are on the disk.

Knows the ledger's row type and the error tree.
"""

from __future__ import annotations

import enum
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.container.sink_io import GrownFile, crc32, read_at
from pipeline.layout import LEDGER_DTYPE, LedgerRows

#: Its name in the folder beside a partial file.
JOURNAL: Final = "journal"
MAGIC: Final = b"SWJ1"
HEAD: Final = struct.Struct("<4s2BHIqII")
_CHECK: Final = struct.Struct("<I")
#: No record is longer; a larger number is damage (a block has at most some thousand rows).
_MAX_PAYLOAD: Final = 64 << 20
_SEARCH: Final = 1 << 20


class Kind(enum.IntEnum):
    """What a record says."""

    BLOCK = 1
    ROWS = 2
    GROWN = 3
    SYNC = 4


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One record as read back; see the module's text."""

    kind: Kind
    stream: int
    start: int
    count: int
    crc: int
    payload: bytes

    @property
    def rows(self) -> LedgerRows:
        """The payload as ledger rows."""
        return np.frombuffer(self.payload, LEDGER_DTYPE)


class Journal:
    """Writes the journal; any thread may.

    Raises
    ------
    StorageError
        From :meth:`make_room` and :meth:`add`; the journal is as it was before.
    """

    def __init__(self, path: Path) -> None:
        self._file = GrownFile(path)
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return self._file.size

    def make_room(self, payload_bytes: int, records: int = 1) -> None:
        """See to it that the next records fit, and a few small ones behind them."""
        with self._lock:
            self._file.make_room(payload_bytes + (records + 8) * (HEAD.size + _CHECK.size))

    def add(
        self,
        kind: Kind,
        start: int,
        count: int = 0,
        crc: int = 0,
        payload: bytes = b"",
        stream: int = 0,
    ) -> None:
        """Append one record."""
        head = HEAD.pack(MAGIC, kind, stream, 0, len(payload), start, count, crc)
        body = head + payload
        with self._lock:
            self._file.append(body + _CHECK.pack(crc32(body)))

    def sync(self) -> None:
        """Wait until all records are on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()


def read_journal(path: Path) -> Iterator[JournalRecord]:
    """Yield every record whose checksum holds; damage is skipped to the next one that does."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return
    try:
        yield from _records(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


class JournalTail:
    """Reads the journal of a capture that goes on.

    Raises
    ------
    OSError
        When there is none.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._at = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def take(self) -> list[JournalRecord]:
        """Give the records that are whole by now and were not given before."""
        found = []
        while (record := _record(self._fd, self._at, os.fstat(self._fd).st_size)) is not None:
            found.append(record)
            self._at += HEAD.size + len(record.payload) + _CHECK.size
        return found


def _records(fd: int, size: int) -> Iterator[JournalRecord]:
    at = 0
    while at + HEAD.size + _CHECK.size <= size:
        record = _record(fd, at, size)
        if record is not None:
            yield record
            at += HEAD.size + len(record.payload) + _CHECK.size
        else:
            found = _next_magic(fd, at + 1)
            if found is None:
                return
            at = found


def _record(fd: int, at: int, size: int) -> JournalRecord | None:
    head = read_at(fd, HEAD.size, at)
    if len(head) < HEAD.size:
        return None
    magic, kind, stream, _, length, start, count, crc = HEAD.unpack(head)
    if magic != MAGIC or length > min(_MAX_PAYLOAD, size - at) or kind not in iter(Kind):
        return None
    rest = read_at(fd, length + _CHECK.size, at + HEAD.size)
    if len(rest) < length + _CHECK.size:
        return None
    payload = rest[:length]
    if _CHECK.unpack(rest[length:])[0] != crc32(head + payload):
        return None
    if kind in (Kind.BLOCK, Kind.ROWS) and length % LEDGER_DTYPE.itemsize:
        return None
    return JournalRecord(Kind(kind), stream, start, count, crc, payload)


def _next_magic(fd: int, at: int) -> int | None:
    while True:
        part = read_at(fd, _SEARCH, at)
        found = part.find(MAGIC)
        if found >= 0:
            return at + found
        if len(part) < _SEARCH:
            return None
        at += len(part) - len(MAGIC) + 1
