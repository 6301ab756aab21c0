"""Brings a container into the project's form, and adds entries without moving the cube.

Rewriting is done beside the file and takes its place only when whole. Adding appends behind the
old directory, which stays valid until the new one is written: a marker file says where to cut
should that be interrupted. Knows ZIP layout and writing; headers only as bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.container import zip_records as zr
from pipeline.container.block_records import INDEX
from pipeline.container.finishing import LEDGER
from pipeline.container.partial import NOTE
from pipeline.container.sink_io import (
    crc32,
    fdatasync,
    lock_file,
    names,
    storage_error,
    sync_folder,
    write_at,
)
from pipeline.container.whole_file import write_whole
from pipeline.container.zip_writer import ZipWriter
from pipeline.container.zipfile_layout import Archive, scan
from pipeline.errors import ConfigError, ContainerError

_MARKER: Final = ".appending"
#: Entries of ``Metadata/`` that only the end of the cube knows, in their order behind it.
_LATE: Final = (INDEX, LEDGER)


def repack(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Write a container anew: stored, aligned, canonical names, ``data.envi`` in its place.

    Parameters
    ----------
    path : path
        Any container that :func:`scan` accepts.
    out : path, optional
        A new file; without it the container itself is replaced once the new one is whole.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    ConfigError
        When ``out`` exists, or the source has the name of the file that grows beside it.
    ContainerError
        When the container cannot be read or an entry is damaged.
    StorageError
        When the disk refuses; the container is as it was.
    """
    source = Path(path)
    target = source if out is None else Path(out)
    if out is not None and target.exists():
        raise ConfigError(f"{target}: exists, allowed is the name of a new file")
    with scan(source) as archive:
        archive.entry("data.envi")
        archive.entry("data.hdr")
        return write_whole(
            target,
            ".repacking",
            lambda fd, work: _copy(archive, fd, work),
            sources=[source],
            candidates=None if out is None else names(target),
        )


def _copy(archive: Archive, fd: int, work: Path) -> None:
    early, late = entry_order(archive)
    out = ZipWriter(fd, work)
    for name in early:
        out.add_chunks(name, checked_chunks(archive, name), archive.entries[name].size)
    at = start = out.begin("data.envi")
    crc = 0
    for chunk in checked_chunks(archive, "data.envi"):
        crc = crc32(chunk, crc)
        at += write_at(fd, chunk, at)
    out.complete("data.envi", at - start, crc)
    for name in (*late, "data.hdr"):
        out.add_chunks(name, checked_chunks(archive, name), archive.entries[name].size)
    out.end()


def entry_order(archive: Archive) -> tuple[list[str], list[str]]:
    """Give the entries that stand before ``data.envi``, and those behind but for ``data.hdr``."""
    names = list(archive.entries)
    early = [n for n in names if n.startswith(("Metadata/", "Reference/")) and n not in _LATE]
    late = [n for n in names if n not in early and n not in ("data.envi", "data.hdr")]
    late.sort(key=lambda name: _LATE.index(name) if name in _LATE else len(_LATE))
    early.sort(key=lambda name: name != NOTE)
    return early, late


def checked_chunks(archive: Archive, name: str) -> Iterator[bytes]:
    """Yield the decoded bytes of an entry; at their end, raise where the CRC-32 does not match."""
    crc = 0
    for chunk in archive.chunks(name):
        crc = crc32(chunk, crc)
        yield chunk
    if crc != archive.entry(name).crc:
        raise ContainerError(f"{archive.path}: {name}: its bytes do not match its CRC-32")


def append_exploration(
    path: str | os.PathLike[str], name: str, data: bytes, *, replace: bool = False
) -> None:
    """Add an entry to ``Exploration/``; nothing that is in the file moves.

    Parameters
    ----------
    path : path
        A container in the project's form.
    name : str
        Below ``Exploration/``, or with it.
    data : bytes
    replace : bool
        Whether an entry of this name gives way (its bytes stay in the file, unnamed).

    Raises
    ------
    ContainerError
        When the name is not one below ``Exploration/``, or is taken, or the file is no
        container, or another process adds to it.
    StorageError
        When the disk refuses; the container is as it was.
    """
    source = Path(path)
    entry = "Exploration/" + name.removeprefix("Exploration/")
    parts = entry.split("/")
    if len(parts) < 2 or any(p in ("", ".", "..") for p in parts) or "\\" in entry:
        raise ContainerError(f"{name!r}: found no name of a file below Exploration/")
    undo_append(source)
    with scan(source) as archive:
        records = _central_records(archive)
        taken = archive.get(entry)
    if taken is not None:
        if not replace:
            raise ContainerError(f"{source}: {entry}: is there already")
        records = [record for record in records if record.name != taken.original]
    try:
        _append(source, records, entry, data)
    except OSError as error:
        undo_append(source)
        raise storage_error(source, error) from error
    except BaseException:
        undo_append(source)
        raise


def _append(source: Path, records: list[zr.Record], entry: str, data: bytes) -> None:
    marker = source.with_name(source.name + _MARKER)
    fd = os.open(source, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        if not lock_file(fd):
            raise ContainerError(f"{source}: another process is adding to it")
        size = os.fstat(fd).st_size
        with marker.open("x") as note:
            note.write(str(size))
            note.flush()
            os.fsync(note.fileno())
        sync_folder(source.parent)
        out = ZipWriter(fd, source, size, records)
        out.add(entry, data)
        fdatasync(fd)
        out.end()
        os.fsync(fd)
    finally:
        os.close(fd)
    marker.unlink()
    sync_folder(source.parent)


def _central_records(archive: Archive) -> list[zr.Record]:
    """Read the central directory again as it stands, to be written again behind the new entry."""
    with archive.path.open("rb") as file:
        file.seek(archive.directory_offset)
        directory = file.read(archive.directory_bytes)
    records = []
    at = 0
    while at < len(directory):
        record, at = zr.unpack_central(directory, at, str(archive.path))
        kept = b"".join(
            kind.to_bytes(2, "little") + len(body).to_bytes(2, "little") + body
            for kind, body in zr.extra_records(record.extra)
            if kind != zr.ZIP64_ID
        )
        record = replace(
            record,
            header_offset=record.header_offset + archive.shift,
            flags=record.flags | zr.FLAG_UTF8,
            extra=kept,
        )
        records.append(record)
    return records


def _ends_at(file: BinaryIO, size: int) -> bool:
    """Say whether a ZIP file of so many bytes ends there: nothing else may be cut."""
    start = max(0, size - zr.END.size - 0xFFFF)
    file.seek(start)
    tail = file.read(size - start)
    at = tail.rfind(zr.END_MAGIC)
    while at >= 0:
        if at + zr.END.size <= len(tail):
            *_, comment = zr.END.unpack_from(tail, at)
            if at + zr.END.size + comment == len(tail):
                return True
        at = tail.rfind(zr.END_MAGIC, 0, at)
    return False


def undo_append(path: Path) -> bool:
    """Take back an addition that was interrupted; False where there is none.

    Raises
    ------
    ContainerError
        When the marker beside the file is damaged.
    """
    marker = path.with_name(path.name + _MARKER)
    try:
        text = marker.read_text()
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise ContainerError(f"{marker}: cannot be read ({error})") from error
    try:
        size = int(text)
        if text:
            with path.open("r+b") as file:
                if not lock_file(file.fileno()):
                    raise ContainerError(f"{path}: another process is adding to it")
                if 0 < size < os.fstat(file.fileno()).st_size:
                    if not _ends_at(file, size):
                        raise ContainerError(
                            f"{marker}: found {size}, where no ZIP file ends; nothing was changed"
                        )
                    file.truncate(size)
                    os.fsync(file.fileno())
    except ValueError:
        pass  # cut short before the file was touched
    except OSError as error:
        raise storage_error(path, error) from error
    marker.unlink(missing_ok=True)
    return True
