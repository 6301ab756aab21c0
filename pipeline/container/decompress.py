"""Writes a coded container as a plain one again, and of a damaged one what is whole.

A block that is cut or does not match its checksum costs its own lines: they keep their place,
filled, and ledger and header call them lost. A file whose directory or end is missing is read from
its beginning. Knows coded payloads, the reader, the ledger, headers and ZIP writing.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.container.coded import CodedPayload
from pipeline.container.coded_header import plain_header, stated_error
from pipeline.container.cut_file import CutFile, open_cut
from pipeline.container.finishing import LEDGER, encode_safely
from pipeline.container.header import sanitise
from pipeline.container.in_order import default_threads, in_order
from pipeline.container.ledger import encode_csv
from pipeline.container.partial import NOTE, stream_json
from pipeline.container.reader import Container
from pipeline.container.rewriting import (
    begin_entries,
    copy_entries,
    damaged_entries,
    new_file,
    without_partner,
)
from pipeline.container.scaling import ignore_value
from pipeline.container.sink_io import WriteBehind, bytes_of, crc32, write_at
from pipeline.container.whole_file import write_whole
from pipeline.container.zip_writer import ZipWriter
from pipeline.errors import ContainerError, StorageError
from pipeline.layout import LineStatus, LossReason, fill_value

if TYPE_CHECKING:
    from pipeline.coding.backend import Wish

_GROWING: Final = ".decompressing"
#: Blocks that the header's ``errors`` names.
_NAMED: Final = 20


@dataclass
class Decompressed:
    """What was written.

    Attributes
    ----------
    path : Path
    lines : int
        In all, those that are missing included.
    raw_bytes, coded_bytes : int
    max_error : int or None
        Counts that a pixel may be off from what was coded, as the file states; None where it
        does not.
    missing : list of (first line, lines)
        Lines that could not be decoded, in order.
    problems : list of str
        One sentence on each damage.
    """

    path: Path
    lines: int
    raw_bytes: int
    coded_bytes: int
    max_error: int | None
    missing: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def missing_lines(self) -> int:
        """Number of lines that could not be decoded."""
        return sum(count for _, count in self.missing)


def decompress(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    threads: int = 0,
    backend: Wish = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Decompressed:
    """Write the cube of a coded container as plain pixels (BIL), with all other entries.

    Parameters
    ----------
    path : path
        A coded container, whole or damaged, or the header of an unpacked one.
    out : path
        A new container.
    threads : int
        That decode blocks; 0: one a processor.
    backend : {"cpu", "cuda", "auto"}
        What decodes them; the pixels are the same.
    progress : callable, optional
        Called with lines done and lines in all.

    Raises
    ------
    ConfigError
        When ``out`` exists, the backend has nothing for this coding, or the source has the name of
        the file that grows beside ``out``.
    DeviceError
        When there is no GPU, or it fails.
    ContainerError
        When the file is not coded, or no block of it can be decoded.
    StorageError
        When the disk refuses; nothing is left of the new file.
    """
    target = new_file(out)
    threads = threads or default_threads()
    with _opened(Path(path)) as source:
        payload = source.coded
        if payload is None:
            raise ContainerError(f"{source.path}: found plain pixels, there is nothing to decode")
        payload.decode_on(backend)
        job = _Job(source, payload, threads, progress)
        job.check_room(target.parent)
        made = write_whole(target, _GROWING, job.write, sources=source.files, candidates=[target])
        return Decompressed(
            made,
            payload.lines,
            payload.lines * payload.coding.shape.line_bytes(),
            payload.size,
            stated_error(source.header),
            job.missing,
            job.problems,
        )


def _opened(path: Path) -> Container | CutFile:
    """Open a container, or what can be read of it from its beginning."""
    try:
        source = Container(path)
        try:
            payload = source.coded
            if payload is not None and not any(map(payload.record_holds, payload.blocks)):
                raise ContainerError(f"{path}: data.envi: found no block where it should begin")
        except BaseException:
            source.close()
            raise
    except ContainerError as error:
        cut = open_cut(path)
        if cut is None:
            raise
        cut.problems.insert(0, str(error).removeprefix(f"{path}: "))
        return cut
    return source


class _Job:
    def __init__(
        self,
        source: Container | CutFile,
        payload: CodedPayload,
        threads: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._source, self._payload, self._threads = source, payload, threads
        self._progress = progress or (lambda done, total: None)
        self.problems = [] if isinstance(source, Container) else list(source.problems)
        self.problems += payload.warnings
        self.missing: list[tuple[int, int]] = []

    def check_room(self, folder: Path) -> None:
        """Refuse what the disk cannot hold before anything is written; raises StorageError."""
        payload = self._payload
        needed = payload.lines * payload.coding.shape.line_bytes()
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise StorageError(
                f"{folder}: found {free / 1e9:.2f} GB free, the pixels take {needed / 1e9:.2f} GB"
            )

    def write(self, fd: int, work: Path) -> None:
        """Write all entries into an open file."""
        out = ZipWriter(fd, work)
        header = plain_header(self._source.header, self._payload.coding)
        source = self._source
        lost = header.whole("lines lost") or 0
        if isinstance(source, Container):
            left_out = self._left_out(source)
            late = begin_entries(out, source, header, left_out)
            self._pixels(out, fd)
            if self.missing and LEDGER in late and LEDGER not in left_out:
                late.remove(LEDGER)
                lost -= self._ledger(out, source)
            copy_entries(out, source, late, left_out)
        else:
            out.add(NOTE, stream_json(header, {}))
            names = set(source.entries) - without_partner(source.entries)
            for name in (name for name in source.entries if name in names):
                out.add_chunks(name, *source.chunks(name))
            self._pixels(out, fd)
        if self.missing:
            header.set("lines lost", max(lost, 0) + self.missing_lines)
        if self.problems:
            told = [text for text in header.strings("errors") or [] if text.casefold() != "none"]
            more = len(self.problems) - _NAMED
            told += self.problems[:_NAMED] + ([f"and {more} more"] if more > 0 else [])
            header.set("errors", [sanitise(text, True) for text in told if text])
        out.add("data.hdr", encode_safely(header, header)[0])
        out.end()

    def _left_out(self, source: Container) -> set[str]:
        """Give the entries that are damaged, and those that are of no use without them."""
        archive = source.archive
        if archive is None:
            return set()
        damaged = damaged_entries(archive)
        if LEDGER not in damaged:
            try:
                _ = source.ledger
            except ContainerError as error:
                damaged[LEDGER] = f"{LEDGER} is left out: {error}"
        self.problems += damaged.values()
        kept = set(archive.entries) - {*damaged}
        return {*damaged, *(without_partner(kept) - {"data.envi", "data.hdr"})}

    @property
    def missing_lines(self) -> int:
        """Number of lines that could not be decoded."""
        return sum(count for _, count in self.missing)

    def _ledger(self, out: ZipWriter, source: Container) -> int:
        """Write the ledger with the missing lines lost; give how many of them were lost before."""
        rows = source.ledger.copy()
        before = 0
        for first, count in self.missing:
            gone = (rows["line"] >= first) & (rows["line"] < first + count)
            before += int(np.count_nonzero(rows["status"][gone] == LineStatus.LOST))
            rows["status"][gone] = LineStatus.LOST
            rows["reason"][gone] = LossReason.STORAGE
        out.add(LEDGER, encode_csv(rows))
        return before

    def _pixels(self, out: ZipWriter, fd: int) -> None:
        payload = self._payload
        start = at = out.begin("data.envi")
        behind = WriteBehind(fd, start)
        crc = 0
        tasks = (functools.partial(self._decoded, number) for number in range(payload.count))
        for number, found in enumerate(in_order(tasks, self._threads)):
            first, stop = payload.lines_of(number)
            if isinstance(found, ContainerError):
                self._lose(first, stop - first, found)
                found = self._filling(stop - first)
            data = bytes_of(found.astype(found.dtype.newbyteorder("<"), copy=False))
            crc = crc32(data, crc)
            count = write_at(fd, data, at)
            behind.wrote(at, count)
            at += count
            self._progress(stop, payload.lines)
        if self.missing_lines == payload.lines:
            raise ContainerError(f"{self._source.path}: found no block that can be decoded")
        out.complete("data.envi", at - start, crc)

    def _decoded(self, number: int) -> NDArray[Any] | ContainerError:
        try:
            return self._payload.decode(number)
        except ContainerError as error:
            return error

    def _lose(self, first: int, count: int, error: ContainerError) -> None:
        self.problems.append(str(error).removeprefix(f"{self._source.path}: "))
        if self.missing and sum(self.missing[-1]) == first:
            first, before = self.missing.pop()
            count += before
        self.missing.append((first, count))

    def _filling(self, lines: int) -> NDArray[Any]:
        """Give what stands for lost lines: the data ignore value, else as for a capture."""
        shape = self._payload.coding.shape
        header = self._source.header
        value = ignore_value(header, shape.dtype)
        if value is None:
            depth = header.whole("bit depth")
            value = fill_value(depth) if depth is not None and shape.dtype == "u2" else 0
        return np.full((lines, shape.bands, shape.samples), value, shape.dtype)
