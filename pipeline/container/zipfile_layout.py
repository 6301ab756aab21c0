"""What is where in a ``.hsi`` (ZIP) file: entries, their payloads and what is odd about them.

Reads the central directory and the local headers, never a pixel: a payload is found by its
offset and mapped by whoever wants it. Accepts what people and their tools make of a container
(deflated entries, data descriptors, a folder around everything, ``__MACOSX/``, backslashes, any
case) and says so in ``warnings``; whatever else a file holds ends in ``ContainerError``. Knows
the ZIP records and the error tree; nothing of headers or of what the entries mean.
"""

from __future__ import annotations

import os
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from pipeline.container import zip_records as zr
from pipeline.container.entry_names import canonical_names
from pipeline.errors import ContainerError

#: A central directory of more bytes than this is hostile (two hundred thousand entries).
_MAX_DIRECTORY: Final = 16 << 20
#: DEFLATE cannot expand further than this (RFC 1951: 258 bytes from 2 bits), plus block heads.
_MAX_EXPANSION: Final = 1040
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One entry of the container.

    Attributes
    ----------
    name : str
        Canonical: slashes, without a common top folder, folders and fixed names spelt as D4.1
        spells them.
    offset, size : int
        Payload: its first byte in the file, and its length (bytes) once decoded.
    method, crc, flags : int
        ZIP compression method, CRC-32 of the decoded bytes, general-purpose flags.
    stored_size : int
        Length (bytes) in the file; equals ``size`` for a stored entry.
    original : str
        Name as spelt in the file.
    header_offset : int
        First byte of the local header.
    """

    name: str
    offset: int
    size: int
    method: int
    crc: int
    stored_size: int
    flags: int
    original: str
    header_offset: int

    @property
    def stored(self) -> bool:
        """Whether the payload can be mapped as it lies in the file."""
        return self.method == zr.STORED and not self.flags & zr.FLAG_ENCRYPTED


class Archive:
    """The entries of a container by canonical name, made by :func:`scan`.

    Attributes
    ----------
    path : Path
    entries : dict of str to Entry
        In the order of the central directory.
    warnings : list of str
        What is odd about the file, one sentence each; grows when an entry has to be decoded.
    directory_offset, directory_bytes : int
        Where the central directory lies in the file.
    shift : int
        Bytes before the ZIP file, not counted by the offsets in it.
    """

    def __init__(self, path: Path, entries: dict[str, Entry], warnings: list[str]) -> None:
        self.path = path
        self.entries = entries
        self.warnings = warnings
        self.directory_offset = 0
        self.directory_bytes = 0
        self.shift = 0
        self._decoded: dict[str, BinaryIO] = {}
        self._folded = {name.casefold(): entry for name, entry in reversed(entries.items())}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def data_offset(self) -> int | None:
        """First byte of ``data.envi``'s payload in the file; None when it is compressed."""
        entry = self.entry("data.envi")
        return entry.offset if entry.stored else None

    def get(self, name: str) -> Entry | None:
        """Find an entry by name, in any case if there is none in this one."""
        found = self.entries.get(name)
        return self._folded.get(name.casefold()) if found is None else found

    def entry(self, name: str) -> Entry:
        """Find an entry by name.

        Raises
        ------
        ContainerError
            When there is none.
        """
        found = self.get(name)
        if found is None:
            raise ContainerError(f"{self.path}: found no entry {name}")
        return found

    def read(self, name: str, *, limit: int = 1 << 30) -> bytes:
        """Read and check a whole small entry (header, table, picture).

        Raises
        ------
        ContainerError
            When it is missing, longer than ``limit`` bytes, damaged or cannot be decoded.
        """
        entry = self.entry(name)
        if entry.size > limit:
            raise ContainerError(
                f"{self.path}: {entry.name}: found {entry.size} bytes, allowed are {limit}"
            )
        data = b"".join(self.chunks(name))
        if zlib.crc32(data) != entry.crc:
            raise ContainerError(f"{self.path}: {entry.name}: its bytes do not match its CRC-32")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the decoded bytes of an entry, at most a few MiB at a time.

        Raises
        ------
        ContainerError
            When it is missing, encrypted, of another method than stored and deflated, or its
            length is not what the directory says.
        """
        entry = self.entry(name)
        where = f"{self.path}: {entry.name}"
        if entry.flags & zr.FLAG_ENCRYPTED:
            raise ContainerError(f"{where}: found it encrypted, allowed are plain entries")
        if entry.method not in (zr.STORED, zr.DEFLATED):
            raise ContainerError(
                f"{where}: found compression method {entry.method}, allowed are 0 (stored) "
                "and 8 (deflated)"
            )
        try:
            with self.path.open("rb") as file:
                file.seek(entry.offset)
                if entry.method == zr.STORED:
                    yield from _stored(file, entry, where)
                else:
                    yield from _inflated(file, entry, where)
        except OSError as error:
            raise ContainerError(f"{where}: cannot be read ({error.strerror})") from error

    def open_payload(self, name: str) -> tuple[BinaryIO, int, int]:
        """Give an open file, and offset and length (bytes) of the payload in it, for mapping.

        For a stored entry the file is the container, opened anew: the caller closes it. A
        deflated one is decoded into an unnamed temporary file, which the archive keeps until
        :meth:`close`, and ``warnings`` says so.

        Raises
        ------
        ContainerError
            As :meth:`chunks`, or when there is no room for the temporary file.
        """
        entry = self.entry(name)
        if entry.stored:
            try:
                return self.path.open("rb"), entry.offset, entry.size
            except OSError as error:
                raise ContainerError(f"{self.path}: cannot be read ({error.strerror})") from error
        if entry.name not in self._decoded:
            self._decoded[entry.name] = self._decode(entry)
        return self._decoded[entry.name], 0, entry.size

    def _decode(self, entry: Entry) -> BinaryIO:
        file = tempfile.TemporaryFile(prefix="swath-")  # noqa: SIM115 - lives until close()
        crc = 0
        try:
            for chunk in self.chunks(entry.name):
                crc = zlib.crc32(chunk, crc)
                file.write(chunk)
            file.flush()
            if crc != entry.crc:
                raise ContainerError(
                    f"{self.path}: {entry.name}: its bytes do not match its CRC-32"
                )
        except OSError as error:
            file.close()
            raise ContainerError(
                f"{self.path}: {entry.name}: its {entry.size} bytes cannot be decoded into "
                f"{tempfile.gettempdir()} ({error.strerror})"
            ) from error
        except ContainerError:
            file.close()
            raise
        self.warnings.append(
            f"{entry.name} is compressed: decoded to a temporary file (swath repack restores "
            "direct access)"
        )
        return file

    def close(self) -> None:
        """Let the temporary files go."""
        for file in self._decoded.values():
            file.close()
        self._decoded.clear()


def scan(path: str | os.PathLike[str]) -> Archive:
    """Find every entry of a container, in milliseconds whatever its size.

    Raises
    ------
    ContainerError
        When the file cannot be read, or is no ZIP file, or its directory is damaged.
    """
    file_path = Path(path)
    try:
        if not stat.S_ISREG(file_path.stat().st_mode):  # opening a pipe would wait for ever
            raise ContainerError(f"{file_path}: cannot be read (no regular file)")
        with file_path.open("rb") as file:
            return _scan(file, file_path)
    except OSError as error:
        raise ContainerError(f"{file_path}: cannot be read ({error.strerror})") from error


def _scan(file: BinaryIO, path: Path) -> Archive:
    size = os.fstat(file.fileno()).st_size
    where = str(path)
    count, start, length, shift = _directory(file, size, where)
    file.seek(start)
    directory = file.read(length)
    warnings: list[str] = []
    if shift:
        warnings.append(f"{shift} bytes stand before the ZIP file")
    records = []
    at = 0
    while at < len(directory):
        record, at = zr.unpack_central(directory, at, where)
        records.append(record)
    if len(records) != count & 0xFFFFFFFF and len(records) & 0xFFFF != count:
        raise ContainerError(f"{where}: found {len(records)} entries, its end says {count}")
    names = canonical_names([record.name for record in records], warnings)
    entries: dict[str, Entry] = {}
    for record, name in zip(records, names, strict=True):
        if name is None:
            continue
        entry = _locate(file, record, name, shift, start, where, warnings)
        if name in entries:
            warnings.append(f"{name} stands twice in the file: the last one counts")
            del entries[name]
        entries[name] = entry
    _check_overlaps(entries.values(), where)
    archive = Archive(path, entries, warnings)
    archive.directory_offset, archive.directory_bytes, archive.shift = start, length, shift
    return archive


def _check_overlaps(entries: Iterable[Entry], where: str) -> None:
    """Refuse entries that share bytes: no program writes them, and they multiply when decoded."""
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ContainerError(f"{where}: {entry.name}: found it to overlap with {before}")
        end, before = entry.offset + entry.stored_size, entry.name


def _directory(file: BinaryIO, size: int, where: str) -> tuple[int, int, int, int]:
    """Find the central directory: entries, first byte, bytes, bytes before the ZIP file."""
    tail_start = max(0, size - zr.END.size - 0xFFFF)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(zr.END_MAGIC)
    while at >= 0:
        if at + zr.END.size <= len(tail):
            _, disk, _, _, count, length, start, comment = zr.END.unpack_from(tail, at)
            if at + zr.END.size + comment <= len(tail):
                break
        at = tail.rfind(zr.END_MAGIC, 0, at)
    if at < 0:
        raise ContainerError(f"{where}: found no ZIP file, or one whose end is missing")
    if disk not in (0, zr.LIMIT16):
        raise ContainerError(f"{where}: found part {disk} of a ZIP file, allowed is a whole one")
    end = tail_start + at
    if end >= zr.LOCATOR64.size:
        file.seek(end - zr.LOCATOR64.size)
        magic, _, end64, _ = zr.LOCATOR64.unpack(file.read(zr.LOCATOR64.size))
        if magic == zr.LOCATOR64_MAGIC:
            found = _end64(file, (end64, end - zr.LOCATOR64.size - zr.END64.size), size)
            if found is None:
                raise ContainerError(f"{where}: found a ZIP64 locator that points nowhere")
            count, length, start, end = found
    shift = end - length - start
    if shift < 0 or length > _MAX_DIRECTORY:
        raise ContainerError(
            f"{where}: found a central directory of {length} bytes at {start}, "
            f"the file has {end} before its end"
        )
    return count, start + shift, length, shift


def _end64(
    file: BinaryIO, positions: tuple[int, int], size: int
) -> tuple[int, int, int, int] | None:
    for position in positions:
        if 0 <= position <= size - zr.END64.size:
            file.seek(position)
            fields = zr.END64.unpack(file.read(zr.END64.size))
            if fields[0] == zr.END64_MAGIC:
                return fields[7], fields[8], fields[9], position
    return None


def _locate(
    file: BinaryIO,
    record: zr.Record,
    name: str,
    shift: int,
    limit: int,
    where: str,
    warnings: list[str],
) -> Entry:
    position = record.header_offset + shift
    if position + zr.LOCAL.size > limit:
        raise ContainerError(f"{where}: {name}: found its header at {position}, behind the data")
    file.seek(position)
    head = file.read(zr.LOCAL.size)
    if len(head) == zr.LOCAL.size:
        *_, n, m = zr.LOCAL.unpack(head)
        head += file.read(n + m)
    local, length = zr.unpack_local(head, position, f"{where}: {name}")
    if position + length + record.stored_size > limit:
        raise ContainerError(
            f"{where}: {name}: found {record.stored_size} bytes at {position + length}, "
            f"the data end at {limit}"
        )
    if local.name != record.name:
        warnings.append(f"{name} is called {local.name!r} in its own header")
    if local.method != record.method:
        warnings.append(
            f"{name} has method {local.method} in its own header, {record.method} in the directory"
        )
    if record.flags & zr.FLAG_DESCRIPTOR:
        warnings.append(f"{name} has a data descriptor")
    if record.method == zr.STORED and record.size != record.stored_size:
        raise ContainerError(
            f"{where}: {name}: found {record.stored_size} bytes stored, "
            f"the directory says {record.size}"
        )
    if record.method == zr.DEFLATED and record.size > _MAX_EXPANSION * (record.stored_size + 8):
        raise ContainerError(
            f"{where}: {name}: found {record.stored_size} compressed bytes, "
            f"they cannot hold {record.size}"
        )
    return Entry(
        name,
        position + length,
        record.size,
        record.method,
        record.crc,
        record.stored_size,
        record.flags,
        record.name,
        position,
    )


def _stored(file: BinaryIO, entry: Entry, where: str) -> Iterator[bytes]:
    left = entry.size
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise ContainerError(f"{where}: found the file to end {left} bytes early")
        left -= len(chunk)
        yield chunk


def _inflated(file: BinaryIO, entry: Entry, where: str) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-15)
    left = entry.stored_size
    done = 0
    pending = b""
    while not decoder.eof:
        if not pending:
            pending = file.read(min(left, _CHUNK))
            left -= len(pending)
            if not pending:
                break
        try:
            chunk = decoder.decompress(pending, _CHUNK)
        except zlib.error as error:
            raise ContainerError(f"{where}: cannot be decoded ({error})") from error
        pending = decoder.unconsumed_tail
        done += len(chunk)
        if done > entry.size:
            raise ContainerError(f"{where}: decodes to more than its {entry.size} bytes")
        if chunk:
            yield chunk
    if done != entry.size:
        raise ContainerError(f"{where}: decodes to {done} bytes, the directory says {entry.size}")
