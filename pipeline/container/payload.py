"""The payload of ``data.envi`` while it grows: whole lines at the end of a file, or nothing.

A block that the disk takes only in part is cut off behind its last whole line. Keeps the CRC-32
of all lines along the way. Knows disk I/O; nothing of ZIP files or the ledger.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.container.sink_io import WriteBehind, crc32, crc32_joined, read_at, write_at


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a block.

    Attributes
    ----------
    lines : int
        Whole lines that are in the file.
    crc : int
        CRC-32 of their bytes.
    total_crc : int
        CRC-32 of all lines up to here.
    error : OSError or None
        What the disk said, where it did not take all.
    """

    lines: int
    crc: int
    total_crc: int
    error: OSError | None = None


class Payload:
    """Lines at the end of an open file; one thread writes.

    Parameters
    ----------
    fd : int
        Stays the caller's.
    start : int
        First byte of the first line.
    line_bytes : int
    kept : int
        Bytes of the last lines that stay in the page cache, for who reads them soon.

    Attributes
    ----------
    lines, crc : int
        Kept lines, and the CRC-32 of their bytes.
    """

    def __init__(self, fd: int, start: int, line_bytes: int, kept: int = 0) -> None:
        self._fd = fd
        self._behind = WriteBehind(fd, start, kept)
        self.start = start
        self.line_bytes = line_bytes
        self.lines = 0
        self.crc = 0

    @property
    def size(self) -> int:
        """Bytes of the kept lines."""
        return self.lines * self.line_bytes

    def put(self, views: Sequence[memoryview], count: int) -> Put:
        """Write ``count`` lines behind the kept ones; :meth:`keep` makes them count."""
        start = at = self.start + self.size
        crc = 0
        try:
            for view in views:
                crc = crc32(view, crc)
                at += write_at(self._fd, view, at)
        except OSError as error:
            return self._part(views, count, error)
        self._behind.wrote(start, at - start)
        return Put(count, crc, crc32_joined(self.crc, crc, at - start))

    def _part(self, views: Sequence[memoryview], count: int, error: OSError) -> Put:
        start = self.start + self.size
        try:
            there = max(os.fstat(self._fd).st_size - start, 0)
            lines = min(there // self.line_bytes, count)
            os.ftruncate(self._fd, start + lines * self.line_bytes)
        except OSError:
            lines = 0
        left = size = lines * self.line_bytes
        crc = 0
        for view in views:
            part = view[:left]
            left -= len(part)
            crc = crc32(part, crc)
        return Put(lines, crc, crc32_joined(self.crc, crc, size), error)

    def keep(self, put: Put) -> None:
        """Count what was put among the lines."""
        self.lines += put.lines
        self.crc = put.total_crc

    def forget(self) -> None:
        """Cut off what was put and is not kept."""
        try:
            os.ftruncate(self._fd, self.start + self.size)
        except OSError:
            pass  # overwritten by the next block, or by what follows the payload

    def read(self, first_line: int, lines: int) -> bytes:
        """Read kept lines again.

        Raises
        ------
        OSError
            When the disk does not give them all.
        """
        size = lines * self.line_bytes
        data = read_at(self._fd, size, self.start + first_line * self.line_bytes)
        if len(data) != size:
            raise OSError(errno.EIO, f"{len(data)} of {size} bytes could be read back")
        return data
