"""Puts stored entries into a file, one after the other, and the central directory at the end.

The counterpart of :mod:`zipfile_layout`. An entry whose length is not known beforehand gets a
local header of its final length, which is written again with CRC and sizes once they are known:
no data descriptors. Knows ZIP records and disk I/O; nothing of headers or lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from pipeline.container import zip_records as zr
from pipeline.container.sink_io import chunks_of, crc32, storage_error, write_at
from pipeline.errors import ContainerError

#: Where the payload of ``data.envi`` may start: a page, so that it can be mapped and pinned.
ALIGNMENT: Final = 4096


class ZipWriter:
    """Appends entries to an open file.

    Parameters
    ----------
    fd : int
        Open for reading and writing; stays the caller's.
    path : Path
        Its name, for messages.
    position : int
        Where the next entry goes; what lies behind it is overwritten.
    records : iterable of Record
        Entries that the file has already.

    Attributes
    ----------
    position : int
        Where the next entry goes.
    records : list of Record
        Entries of the directory to be.
    """

    def __init__(
        self, fd: int, path: Path, position: int = 0, records: Iterable[zr.Record] = ()
    ) -> None:
        self._fd = fd
        self._path = path
        self.position = position
        self.records = list(records)
        self._time = zr.dos_time()

    def __contains__(self, name: object) -> bool:
        return any(record.name == name for record in self.records)

    @property
    def names(self) -> list[str]:
        """Names of the entries so far."""
        return [record.name for record in self.records]

    def bytes_of(self, name: str) -> int:
        """Give what an entry of :meth:`add` takes, with its local header and in the directory."""
        record = next(record for record in self.records if record.name == name)
        wide = record.size >= zr.LIMIT32
        heads = len(zr.pack_local(record, zip64=wide)) + len(zr.pack_central(record))
        return heads + record.size

    def add(self, name: str, data: bytes) -> None:
        """Append a whole entry.

        Raises
        ------
        StorageError
            When the disk refuses; the file is as it was before.
        """
        self.add_chunks(name, (data,), len(data))

    def add_file(self, name: str, fd: int, size: int) -> None:
        """Append the first ``size`` bytes of an open file; raises as :meth:`add`."""
        self.add_chunks(name, chunks_of(fd, size), size)

    def add_chunks(self, name: str, chunks: Iterable[bytes], bound: int) -> None:
        """Append an entry of at most ``bound`` bytes that come in pieces; raises as :meth:`add`."""
        if name in self:
            raise ContainerError(f"{self._path}: {name}: found it twice, allowed is once")
        start = self.position
        wide = bound >= zr.LIMIT32
        record = zr.Record(name, start, 0, 0, 0, dos_time=self._time)
        try:
            head = zr.pack_local(record, zip64=wide)
            payload = start + write_at(self._fd, head, start)
            at = payload
            crc = 0
            for chunk in chunks:
                crc = crc32(chunk, crc)
                at += write_at(self._fd, chunk, at)
            record = replace(record, size=at - payload, stored_size=at - payload, crc=crc)
            write_at(self._fd, zr.pack_local(record, zip64=wide), start)
        except (OSError, ContainerError) as error:
            self.cut(start)
            if isinstance(error, OSError):
                raise storage_error(f"{self._path}: {name}", error) from error
            raise
        self.position = at
        self.records.append(record)

    def begin(self, name: str) -> int:
        """Write the local header of an entry that grows for as long as it likes.

        Returns
        -------
        int
            Where its payload starts: a multiple of 4096.
        """
        record = zr.Record(name, self.position, 0, 0, 0, dos_time=self._time)
        head = zr.pack_local(record, zip64=True, align=ALIGNMENT)
        self.position += write_at(self._fd, head, self.position)
        self.records.append(record)
        return self.position

    def complete(self, name: str, size: int, crc: int) -> None:
        """Give the entry of :meth:`begin` its size and CRC; the next one goes behind it."""
        index, record = next(
            (i, record) for i, record in enumerate(self.records) if record.name == name
        )
        record = replace(record, size=size, stored_size=size, crc=crc)
        head = zr.pack_local(record, zip64=True, align=ALIGNMENT)
        try:
            write_at(self._fd, head, record.header_offset)
        except OSError as error:
            raise storage_error(self._path, error) from error
        self.records[index] = record
        self.position = record.header_offset + len(head) + size

    def end(self) -> int:
        """Write the central directory and cut the file off behind it; returns its size.

        Raises
        ------
        StorageError
            When the disk refuses.
        """
        directory = b"".join(zr.pack_central(record) for record in self.records)
        tail = zr.pack_end(len(self.records), self.position, len(directory))
        try:
            size = self.position + write_at(self._fd, directory + tail, self.position)
            os.ftruncate(self._fd, size)
        except OSError as error:
            self.cut(self.position)
            raise storage_error(self._path, error) from error
        return size

    def cut(self, position: int) -> None:
        """Give back the room behind ``position``."""
        try:
            os.ftruncate(self._fd, position)
        except OSError:
            pass  # what lies behind is overwritten or cut at the end


def fresh(path: Path) -> int:
    """Create a file that must not exist yet, open for reading and writing.

    Raises
    ------
    FileExistsError, StorageError
        When it exists, or the folder refuses.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags, 0o644)
    except FileExistsError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error
