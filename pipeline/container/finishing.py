"""The last steps of a container: what follows ``data.envi``, the directory, the final name.

Writer and recovery end here alike. What can be left out never costs the file: an entry that
does not fit on the disk, or a field that a header cannot hold, is left out and named in the
header's ``errors``. Knows headers, the ledger's text, ZIP writing and disk I/O.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.container.header import Header, sanitise
from pipeline.container.ledger import CSV_HEADER, encode_csv
from pipeline.container.sink_io import (
    fdatasync,
    names,
    rename_new,
    storage_error,
    sync_folder,
)
from pipeline.container.zip_writer import ZipWriter
from pipeline.errors import ContainerError, StorageError
from pipeline.layout import LedgerRows

LEDGER: Final = "Metadata/lines.csv"
#: Room (bytes) to keep for one row of ``Metadata/lines.csv``; typical rows have about 110.
CSV_ROW_BYTES: Final = 200


class GrownEnvi(NamedTuple):
    """An ENVI entry whose rows are appended while recording.

    Attributes
    ----------
    grown : str
        Name under which :meth:`ContainerWriter.append` takes its bytes.
    header : Header
        Its header; ``lines`` is filled in from what was appended.
    """

    grown: str
    header: Header

    @property
    def row_bytes(self) -> int:
        """Bytes of one line."""
        return self.header.samples * self.header.bands * self.header.dtype.itemsize


@dataclass
class Tail:
    """What follows ``data.envi``.

    Attributes
    ----------
    header : Header
        Of ``data.envi``, complete but for ``lines`` and ``errors``.
    fallback : Header
        The provisional one, should ``header`` be of no use.
    lines : int
    rows : iterable of ledger rows, in pieces
    row_count : int
        Number of all of them.
    grown : list of (entry, header, file descriptor, bytes)
        Entry without ending.
    last : mapping of entry to bytes or file
    errors : list of str
        What is to be said in the header's ``errors``; grows.
    before_header : callable
        Called before ``data.hdr`` is written (gives back the room kept for it).
    """

    header: Header
    fallback: Header
    lines: int
    rows: Iterable[LedgerRows] = ()
    row_count: int = 0
    grown: list[tuple[str, Header, int, int]] = field(default_factory=list)
    last: Mapping[str, bytes | Path] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    before_header: Callable[[], None] = lambda: None


def write_tail(out: ZipWriter, tail: Tail) -> None:
    """Write all entries behind ``data.envi``, the header of which comes last, and the directory.

    Raises
    ------
    StorageError
        Only when header or directory do not fit.
    """

    def attempt(name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, it must not cost the lines
            tail.errors.append(f"{name} is left out: {error}")

    bound = len(CSV_HEADER) + tail.row_count * 2 * CSV_ROW_BYTES
    attempt(LEDGER, lambda: out.add_chunks(LEDGER, _csv(tail.rows), bound))
    for entry, header, fd, size in tail.grown:
        attempt(entry, lambda e=entry, h=header, f=fd, s=size: _add_envi(out, tail, e, h, f, s))  # type: ignore[misc]
    for name, content in tail.last.items():
        attempt(name, lambda n=name, c=content: _add_item(out, n, c))  # type: ignore[misc]
    tail.before_header()
    out.add("data.hdr", final_header(tail))
    out.end()


def _csv(pieces: Iterable[LedgerRows]) -> Iterator[bytes]:
    yield CSV_HEADER
    for rows in pieces:
        yield encode_csv(rows, first=False)


def _add_envi(out: ZipWriter, tail: Tail, entry: str, header: Header, fd: int, size: int) -> None:
    row_bytes = GrownEnvi("", header).row_bytes
    if f"{entry}.envi" in out or f"{entry}.hdr" in out or size < row_bytes:
        return
    lines = size // row_bytes
    own = header.copy()
    own.set("lines", lines)
    text, problems = encode_safely(own, header)
    tail.errors.extend(f"{entry}: {problem}" for problem in problems)
    start, before = out.position, len(out.records)
    try:
        out.add_file(f"{entry}.envi", fd, lines * row_bytes)
        out.add(f"{entry}.hdr", text)
    except StorageError:
        # Pixels without their header, or the other way round, are of no use to anyone.
        del out.records[before:]
        out.position = start
        out.cut(start)
        raise


def _add_item(out: ZipWriter, name: str, content: bytes | Path) -> None:
    if not isinstance(content, Path):
        out.add(name, content)
        return
    try:
        fd = os.open(content, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ContainerError(f"{content}: cannot be read ({error.strerror})") from error
    try:
        out.add_file(name, fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def final_header(tail: Tail) -> bytes:
    """Encode ``data.hdr`` with ``lines`` and ``errors`` filled in; never fails on a value."""
    header = tail.header.copy()
    # What the writer wrote is law: the header cannot say otherwise.
    for name in ("samples", "bands", "data type", "byte order", "interleave"):
        if name in tail.fallback:
            header.set(name, tail.fallback[name])
    header.set("header offset", 0)
    header.set("lines", tail.lines)
    text, problems = encode_safely(header, tail.fallback)
    tail.errors.extend(problems)
    if not tail.errors:
        return text
    said = header.strings("errors") or []
    said = [item for item in said if item.casefold() not in ("", "none")]
    header.set("errors", [sanitise(item, True) for item in (*said, *tail.errors)])
    return encode_safely(header, tail.fallback)[0]


def encode_safely(header: Header, fallback: Header) -> tuple[bytes, list[str]]:
    """Encode a header such that it parses again, leaving out what does not.

    Returns
    -------
    text : bytes
    problems : list of str
        One sentence for each field left out.
    """
    try:
        text = header.encode()
        Header.parse(text)
    except Exception:
        pass
    else:
        return text, []
    kept = Header()
    for name in ("samples", "lines", "bands", "data type", "interleave", "byte order"):
        source = header if name in header else fallback
        if name in source:
            kept.set(name, source[name])
    problems = []
    for name in header:
        trial = kept.copy()
        try:
            trial.set(name, header[name])
            Header.parse(trial.encode())
        except Exception as error:
            problems.append(f"field {name} is left out ({type(error).__name__}: {error})")
        else:
            kept = trial
    return kept.encode(), problems


def publish(fd: int, partial: Path, beside: Path, final: Path) -> Path:
    """Make a whole partial file the finished one: fsync, rename without replacing, fsync.

    Returns
    -------
    Path
        ``final``, or ``NAME-2.hsi`` … where it is taken.

    Raises
    ------
    StorageError
        When the disk refuses; the partial file is still there.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        raise storage_error(partial, error) from error
    target = rename_new(partial, names(final))
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(target, error) from error
    shutil.rmtree(beside, ignore_errors=True)
    return target


def settle(fd: int, path: Path) -> None:
    """Wait for the data of a file; raises StorageError."""
    try:
        fdatasync(fd)
    except OSError as error:
        raise storage_error(path, error) from error
