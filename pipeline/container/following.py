"""Codes the blocks of a capture while it runs, from what it has written so far.

Lines are taken from the partial file once the journal says that they are in it; they are never
written a second time. Of the blocks that are whole and not coded yet, the newest comes first: its
lines are still in the page cache, while older ones would have to come from a disk that is busy.
Whatever goes wrong here costs the blocks that are not coded, and the capture nothing. Knows
journal, spool and how blocks are coded; nothing of processes.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.container.block_codings import BlockCodings
from pipeline.container.journal import JournalTail, Kind
from pipeline.container.sink_io import bytes_of, crc32
from pipeline.container.spool import Ahead, SpoolWriter
from pipeline.errors import StorageError
from pipeline.layout import LineStatus

#: Bytes that stay free on the disk beside those of the lines to come.
_SPARE: Final = 64 << 20


@dataclass(frozen=True)
class Followed:
    """A capture that is followed.

    Attributes
    ----------
    partial, journal, spool : Path
        The growing file, its journal, and the file for coded blocks, which exists.
    start : int
        First byte of the first line in the growing file.
    lines : int
        Expected in all, for whose raw bytes the disk keeps room; 0: not known.
    """

    partial: Path
    journal: Path
    spool: Path
    start: int
    lines: int = 0


class Follower:
    """Codes one block at a time.

    Parameters
    ----------
    capture : Followed
    codings : BlockCodings

    Raises
    ------
    OSError
        When there is no such capture.
    """

    def __init__(self, capture: Followed, codings: BlockCodings) -> None:
        self._capture, self._codings = capture, codings
        self._line_bytes = codings.shape.line_bytes()
        self._fd = os.open(capture.partial, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._tail = JournalTail(capture.journal)
        self._spool = SpoolWriter(capture.spool)
        self._empties = codings.coding.file_type == "PACKINTS"
        self._lost: set[int] = set()
        self._lines = 0
        self._pushed = 0
        self._waiting: list[int] = []  # first lines of whole blocks that are not coded

    def step(self) -> bool:
        """Code one block; False when there is none.

        Raises
        ------
        ConfigError
            When the pixels cannot be coded as asked.
        StorageError
            When the disk has no room for it.
        SwathError
            When a pixel would be off by more than the bound.
        """
        self._look()
        if not self._waiting:
            return False
        first, count = self._waiting.pop(), self._codings.block_lines
        pixels = self._pixels(first, count)
        crc = crc32(bytes_of(pixels))
        lost = [line - first for line in range(first, first + count) if line in self._lost]
        pixels[lost] = 0
        encoded = self._codings.encode(first, pixels)
        self._check_room(len(encoded.data))
        self._spool.add(first, count, Ahead(crc, lost, encoded))
        return True

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._fd)
        self._tail.close()
        self._spool.close()

    def _look(self) -> None:
        """Learn from the journal which lines are in the file."""
        for record in self._tail.take():
            if record.kind is not Kind.BLOCK:
                continue
            self._lines = record.start + record.count
            if self._empties:
                rows = record.rows
                gone = rows[(rows["line"] >= 0) & (rows["status"] == LineStatus.LOST)]
                self._lost.update(gone["line"].tolist())
        step = self._codings.block_lines
        while self._pushed + step <= self._lines:
            self._waiting.append(self._pushed)
            self._pushed += step

    def _pixels(self, first: int, count: int) -> NDArray[Any]:
        """Copy lines out of the file, by a map: reading would lock the file on some systems."""
        shape = self._codings.shape
        dtype = shape.dtype.newbyteorder("<")
        at, size = self._capture.start + first * self._line_bytes, count * self._line_bytes
        before = at % mmap.ALLOCATIONGRANULARITY
        place = {"access": mmap.ACCESS_READ, "offset": at - before}
        with mmap.mmap(self._fd, before + size, **place) as mapped:
            flat = np.frombuffer(mapped, dtype, size // dtype.itemsize, before)
            pixels = flat.reshape(count, shape.bands, shape.samples).astype(shape.dtype)
            del flat
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, at, size, os.POSIX_FADV_DONTNEED)
        return pixels

    def _check_room(self, size: int) -> None:
        """Refuse what would take room that the lines to come need."""
        if not hasattr(os, "fstatvfs"):
            return
        found = os.fstatvfs(self._fd)
        needed = max(self._capture.lines - self._lines, 0) * self._line_bytes + _SPARE
        if found.f_bavail * found.f_frsize - size < needed:
            raise StorageError(
                f"{self._capture.spool}: no more blocks are coded ahead, the disk's room is left "
                "to the lines to come"
            )
