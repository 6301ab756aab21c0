"""What of an interrupted capture is proven to be on the disk.

Reads a partial file and the journal beside it and finds the last line that holds: by block
checksums where there is a journal, else by the file's size less a tail of zeros. Changes
nothing. Knows ZIP records, journal, the note of the capture; nothing of how a file is finished.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.container import zip_records as zr
from pipeline.container.header import Header
from pipeline.container.journal import JOURNAL, JournalRecord, Kind, read_journal
from pipeline.container.ledger_store import LedgerStore
from pipeline.container.partial import NOTE, StreamNote, read_note
from pipeline.container.sink_io import COPY_BYTES, chunks_of, crc32, read_at
from pipeline.errors import ContainerError
from pipeline.layout import LineStatus, LossReason, ledger_rows

#: More entries than this before ``data.envi`` were not written by us.
_MAX_FIRST: Final = 10_000
_ROWS_AT_ONCE: Final = 4096
_NO_START: Final = "found no start of data.envi, so no line; nothing was changed"


@dataclass
class Salvage:
    """What :func:`salvage` found.

    Attributes
    ----------
    note : StreamNote
        The provisional header and what grew.
    records : list of Record
        Entries before ``data.envi`` that are whole, then that of ``data.envi``.
    start : int
        First byte of the payload.
    lines : int
        That hold.
    crc : int
        CRC-32 of their bytes.
    damaged : int
        Of them, lines whose checksum fails though they had been synced; lost in the ledger.
    journalled : bool
        Whether checksums proved the lines.
    grown : dict of stream number to bytes
        That hold of each grown file.
    warnings : list of str
    """

    note: StreamNote
    records: list[zr.Record]
    start: int
    lines: int = 0
    crc: int = 0
    damaged: int = 0
    journalled: bool = False
    grown: dict[int, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def line_bytes(self) -> int:
        """Stored bytes of a line."""
        header = self.note.header
        return header.samples * header.bands * header.dtype.itemsize

    @property
    def is_pca(self) -> bool:
        """Whether the lines are scores, of no use without their bases."""
        return self.note.header.file_type.casefold() == "pca"


def salvage(fd: int, partial: Path, beside: Path, ledger: LedgerStore) -> Salvage:
    """Find what holds; the ledger rows of it go into ``ledger``.

    Raises
    ------
    ContainerError
        When no line holds, the file is no partial container, or it is a PCA file without what
        decodes it.
    """
    records, start = _leading(fd, partial)
    note, warnings = _note(fd, partial, beside, records)
    found = Salvage(note, records, start, warnings=warnings)
    journal = beside / JOURNAL
    proof = _Proof(fd, found, ledger)
    if journal.exists():
        proof.learn(read_journal(journal), beside)
        if proof.blocks:
            found.journalled = True
            proof.check(read_journal(journal))
    if not found.journalled:
        if found.is_pca:
            raise ContainerError(
                f"{partial}: PCA scores cannot be decoded without the bases and the journal in "
                f"{beside.name}/, found none; nothing was changed"
            )
        _by_size(fd, found)
        found.warnings.append(
            f"no journal in {beside.name}/: lines are taken by size, the ledger is empty"
        )
    if not found.lines:
        raise ContainerError(f"{partial}: found no whole line to recover; nothing was changed")
    return found


def _leading(fd: int, partial: Path) -> tuple[list[zr.Record], int]:
    """Walk the local headers up to ``data.envi``: records, and where its payload starts."""
    records: list[zr.Record] = []
    at = 0
    size = os.fstat(fd).st_size
    while len(records) < _MAX_FIRST and at < size:
        head = read_at(fd, zr.LOCAL.size, at)
        if len(head) == zr.LOCAL.size and head[:4] == zr.LOCAL_MAGIC:
            *_, n, m = zr.LOCAL.unpack(head)
            head += read_at(fd, n + m, at + zr.LOCAL.size)
        try:
            local, length = zr.unpack_local(head, at, str(partial))
        except ContainerError as error:
            raise ContainerError(f"{partial}: {_NO_START}") from error
        record = zr.Record(
            local.name, at, local.size, local.stored_size, local.crc, dos_time=local.dos_time
        )
        records.append(record)
        if local.name == "data.envi":
            return records, at + length
        at += length + local.stored_size
    raise ContainerError(f"{partial}: {_NO_START}")


def _note(
    fd: int, partial: Path, beside: Path, records: list[zr.Record]
) -> tuple[StreamNote, list[str]]:
    """Read the note; leaves out of ``records`` what is not whole."""
    data = None
    warnings = []
    for record in list(records[:-1]):
        start = record.header_offset + _head_length(fd, record)
        crc = 0
        for chunk in chunks_of(fd, record.size, start):
            crc = crc32(chunk, crc)
        if crc != record.crc:
            records.remove(record)
            warnings.append(f"{record.name} is damaged and left out")
        elif record.name == NOTE:
            data = read_at(fd, record.size, start)
    if data is None:
        try:
            data = (beside / "stream.json").read_bytes()
        except OSError as error:
            raise ContainerError(
                f"{partial}: found neither {NOTE} nor {beside.name}/stream.json, one is needed "
                "to know what a line is; nothing was changed"
            ) from error
    return read_note(data, f"{partial}: {NOTE}"), warnings


def _head_length(fd: int, record: zr.Record) -> int:
    head = read_at(fd, zr.LOCAL.size, record.header_offset)
    *_, n, m = zr.LOCAL.unpack(head)
    return zr.LOCAL.size + int(n) + int(m)


class _Proof:
    """Goes through the journal twice: what was synced and grown, then block by block."""

    def __init__(self, fd: int, found: Salvage, ledger: LedgerStore) -> None:
        self._fd = fd
        self._found = found
        self._ledger = ledger
        self._size = os.fstat(fd).st_size
        self._synced = 0
        self._limit: int | None = None
        self.blocks = 0

    def learn(self, records: Iterator[JournalRecord], beside: Path) -> None:
        """First pass: the last sync, the number of blocks, how much of what grew holds."""
        growing = list(self._found.note.growing.items())
        held = dict.fromkeys(range(len(growing)), 0)
        files = {number: _open(beside / file) for number, (_, (file, _)) in enumerate(growing)}
        broken = set()
        try:
            for record in records:
                if record.kind is Kind.SYNC:
                    self._synced = max(self._synced, record.start)
                elif record.kind is Kind.BLOCK:
                    self.blocks += record.count > 0
                elif record.kind is Kind.GROWN and record.stream in held:
                    number, fd = record.stream, files[record.stream]
                    holds = fd >= 0 and number not in broken and record.start == held[number]
                    if not holds or _crc(fd, record.start, record.count) != record.crc:
                        broken.add(number)
                    else:
                        held[number] += record.count
        finally:
            for fd in files.values():
                if fd >= 0:
                    os.close(fd)
        self._found.grown = held
        if self._found.is_pca:
            self._limit = self._decodable(growing, held)

    def _decodable(
        self, growing: list[tuple[str, tuple[str, Header]]], held: dict[int, int]
    ) -> int:
        groups = []
        for number, (entry, (_, header)) in enumerate(growing):
            if entry in ("Reference/pca_basis", "Reference/pca_mean"):
                row = header.samples * header.bands * header.dtype.itemsize
                groups.append(held[number] // row)
        block = self._found.note.header.ints("pca block lines")
        return min(groups) * block[0] if len(groups) == 2 and block else 0

    def check(self, records: Iterator[JournalRecord]) -> None:
        """Second pass: take block after block as long as its checksum holds.

        Blocks that had been synced and fail nevertheless (a damaged disk, a damaged journal)
        are passed over when a later one holds: their lines stay, lost in the ledger.
        """
        ended = False
        for record in records:
            if record.kind is Kind.BLOCK and not ended:
                ended = not self._take(record)
            elif record.kind is Kind.ROWS and len(record.rows) == record.count:
                self._amend(record)

    def _amend(self, record: JournalRecord) -> None:
        if record.start < 0 or record.start + record.count > self._found.lines:
            return
        rows = record.rows
        if self._found.damaged:
            known = self._ledger.rows(record.start, record.count)
            gone = (known["status"] == LineStatus.LOST) & (known["reason"] == LossReason.STORAGE)
            rows = np.where(gone, known, rows)
        self._ledger.amend(record.start, rows)

    def _take(self, record: JournalRecord) -> bool:
        """Take a block; False when nothing behind it counts any more."""
        found, lines = self._found, self._found.lines
        rows = record.rows
        stored = int(np.count_nonzero(rows["line"] >= 0))
        if record.count == 0:
            if record.start == lines and not stored:
                self._ledger.append(rows)
            return True
        if record.start < lines or stored != record.count:
            return True
        end = record.start + record.count
        within = end <= self._synced
        if record.start > lines and record.start > self._synced:
            return False
        if self._limit is not None and end > self._limit:
            return False
        if found.start + end * found.line_bytes > self._size:
            return False
        offset = found.start + record.start * found.line_bytes
        size = record.count * found.line_bytes
        if _crc(self._fd, offset, size) != record.crc:
            return within
        if record.start > lines:
            self._pass_over(record.start)
        found.crc = _crc(self._fd, offset, size, found.crc)
        self._ledger.append(rows)
        found.lines = end
        return True

    def _pass_over(self, start: int) -> None:
        found = self._found
        count = start - found.lines
        offset = found.start + found.lines * found.line_bytes
        found.crc = _crc(self._fd, offset, count * found.line_bytes, found.crc)
        for at in range(found.lines, start, _ROWS_AT_ONCE):
            rows = ledger_rows(min(_ROWS_AT_ONCE, start - at))
            rows["line"] = np.arange(at, at + len(rows))
            rows["status"] = LineStatus.LOST
            rows["reason"] = LossReason.STORAGE
            self._ledger.append(rows)
        found.damaged += count
        found.lines = start


def _by_size(fd: int, found: Salvage) -> None:
    """Count lines by the file's size; a tail of zeros is no data.

    Where finishing had begun, the local header says how long the payload is and its CRC.
    """
    size = os.fstat(fd).st_size - found.start
    record = found.records[-1]
    if 0 < record.size <= size and record.size % found.line_bytes == 0:
        crc = _crc(fd, found.start, record.size)
        if crc == record.crc:
            found.lines, found.crc = record.size // found.line_bytes, crc
            return
        size = record.size
    lines = size // found.line_bytes
    zeros = _trailing_zeros(fd, found.start, size)
    data = size - zeros
    if zeros >= found.note.header.dtype.itemsize:
        # The zeros may begin inside a line: it is not whole. One whose last pixel is a true
        # zero goes with them, as nothing tells them apart.
        lines = min(lines, data // found.line_bytes)
    found.lines = lines
    found.crc = _crc(fd, found.start, lines * found.line_bytes)


def _trailing_zeros(fd: int, start: int, size: int) -> int:
    zeros = 0
    while zeros < size:
        step = min(COPY_BYTES, size - zeros)
        part = read_at(fd, step, start + size - zeros - step)
        kept = len(part.rstrip(b"\0"))
        zeros += len(part) - kept
        if kept:
            break
    return zeros


def _crc(fd: int, offset: int, size: int, crc: int = 0) -> int:
    for chunk in chunks_of(fd, size, offset):
        crc = crc32(chunk, crc)
    return crc


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return -1
