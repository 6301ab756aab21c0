"""A coded container without a directory: its entries from the beginning, as far as they go.

For a file whose end was cut off or whose directory is damaged. Each entry that is taken matches
its checksum, but for ``data.envi``, whose blocks have their own. Knows ZIP records, headers and
coded payloads; changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from pipeline.container import zip_records as zr
from pipeline.container.block_records import INDEX, RECORD, Block, unpack_record, walk
from pipeline.container.coded import CodedPayload
from pipeline.container.envi import MAX_HEADER
from pipeline.container.header import Header
from pipeline.container.partial import NOTE, read_note
from pipeline.container.sink_io import COPY_BYTES, chunks_of, crc32, read_at
from pipeline.errors import ContainerError

#: More entries than this were not written by us.
_MAX_ENTRIES: Final = 10_000


class CutFile:
    """What can be read of a coded container without its directory; a context manager.

    Attributes
    ----------
    path : Path
    header : Header
        Of ``data.envi``, as it was known when its writing began where the last one is missing.
    coded : CodedPayload
    entries : list of str
        Other entries that are whole.
    problems : list of str
    """

    def __init__(
        self, path: Path, fd: int, found: dict[str, tuple[int, int]], start: int, size: int
    ) -> None:
        self.path = path
        self.problems: list[str] = []
        self._fd, self._found = fd, found
        self.header = self._header()
        self.entries = [name for name in found if name not in ("data.hdr", NOTE, INDEX)]
        index = self._read(INDEX) if INDEX in found else None
        where = f"{path}: data.envi"
        self.coded = CodedPayload(os.dup(fd), start, size, self.header, index, where)

    @property
    def files(self) -> list[Path]:
        """The file alone."""
        return [self.path]

    def __enter__(self) -> CutFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.coded.close()
        os.close(self._fd)

    def chunks(self, name: str) -> tuple[Iterator[bytes], int]:
        """Give the bytes of a whole entry in pieces, and their number."""
        start, size = self._found[name]
        return chunks_of(self._fd, size, start), size

    def _read(self, name: str) -> bytes:
        start, size = self._found[name]
        return read_at(self._fd, min(size, MAX_HEADER), start)

    def _header(self) -> Header:
        if "data.hdr" in self._found:
            return Header.parse(self._read("data.hdr"), where=f"{self.path}: data.hdr")
        if NOTE not in self._found:
            raise ContainerError(f"{self.path}: found neither data.hdr nor {NOTE}")
        return read_note(self._read(NOTE), f"{self.path}: {NOTE}").header


def open_cut(path: Path) -> CutFile | None:
    """Open a container by its local headers; None where it is none with a coded cube."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        found, payload = _walk(fd)
        if payload is None or unpack_record(read_at(fd, RECORD.size, payload[0]), 0) is None:
            first, end = _first_record(fd), os.fstat(fd).st_size
            if first is not None and (payload is None or first.first_line == 0):
                payload = first.offset, end - first.offset
                found.pop(INDEX, None)  # its offsets may be from another record on
        if payload is not None:
            cut = CutFile(path, fd, found, *payload)
            if cut.header.coded:
                return cut
    except (ContainerError, OSError):
        pass
    os.close(fd)
    return None


def _walk(fd: int) -> tuple[dict[str, tuple[int, int]], tuple[int, int] | None]:
    """Give first byte and size of each whole entry, and of what there is of ``data.envi``."""
    found: dict[str, tuple[int, int]] = {}
    payload = None
    end = os.fstat(fd).st_size
    at = 0
    while 0 <= at < end and len(found) < _MAX_ENTRIES:
        record, length = _local(fd, at)
        if record is None:
            # Behind a damaged header the next one; none is looked for inside the cube.
            at = -1 if payload is not None else _next_local(fd, at + 1, end)
            continue
        start, size = at + length, record.stored_size
        if record.name == "data.envi":
            payload = start, min(size, end - start)
        elif record.method == zr.STORED and start + size <= end and _crc(fd, size, start, record):
            found[record.name] = start, size
        at = start + size
    return found, payload


def _first_record(fd: int) -> Block | None:
    """Give the first record of the file, its offset from the first byte.

    It tells where the cube begins when the local header of ``data.envi`` is damaged: of that, one
    byte is enough.
    """
    return next(walk(lambda count, at: read_at(fd, count, at), os.fstat(fd).st_size), None)


def _local(fd: int, at: int) -> tuple[zr.Record | None, int]:
    head = read_at(fd, zr.LOCAL.size, at)
    if len(head) < zr.LOCAL.size or head[:4] != zr.LOCAL_MAGIC:
        return None, 0
    *_, n, m = zr.LOCAL.unpack(head)
    try:
        return zr.unpack_local(head + read_at(fd, n + m, at + zr.LOCAL.size), at, "")
    except ContainerError:
        return None, 0


def _next_local(fd: int, at: int, end: int) -> int:
    while at < end:
        piece = read_at(fd, COPY_BYTES, at)
        place = piece.find(zr.LOCAL_MAGIC)
        if place >= 0:
            return at + place
        at += max(len(piece) - 3, 1)
    return -1


def _crc(fd: int, size: int, start: int, record: zr.Record) -> bool:
    crc = 0
    for chunk in chunks_of(fd, size, start):
        crc = crc32(chunk, crc)
    return crc == record.crc
