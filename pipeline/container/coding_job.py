"""One coded file being written: the entries of its source in their order, and the blocks.

Several threads code blocks, which are written in order; memory is a few blocks whatever the size.
The source is only read. Knows the reader, how blocks are coded, records, headers and ZIP writing;
nothing of what the file is called.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import BlockStats, Encoded
from pipeline.container.block_codings import BlockCodings
from pipeline.container.block_records import INDEX, Block, encode_index, pack_record
from pipeline.container.coded_header import coded_header, final_fields
from pipeline.container.in_order import in_order
from pipeline.container.partial import NOTE
from pipeline.container.reader import Container
from pipeline.container.references import lost_lines
from pipeline.container.repack import checked_chunks
from pipeline.container.rewriting import begin_entries, copy_entries
from pipeline.container.sink_io import WriteBehind, bytes_of, crc32, crc32_joined, write_at
from pipeline.container.spool import Ahead, Spool
from pipeline.container.zip_writer import ZipWriter
from pipeline.errors import ContainerError, StorageError

#: Entries that are made with the blocks; all others are the source's.
_OWN: Final = ("data.envi", "data.hdr", NOTE, INDEX)
#: How often a file that misses its ratio is written anew with fewer bytes for each block, and how
#: many fewer than it missed.
_MORE_TRIALS: Final = 2
_CAUTION: Final = 0.995

Progress = Callable[[int, int], None]


class OtherLinesError(ContainerError):
    """Blocks that were coded before are of other lines than the file's."""


@dataclass
class Written:
    """What is in a coded file.

    Attributes
    ----------
    blocks : list of Block
    payload : int
        Bytes of ``data.envi``.
    size : int
        Bytes of the file without the entries that it took over from its source.
    emptied : int
        Lost lines that were set to 0.
    ahead : int
        Lines whose blocks were coded beforehand.
    stats : BlockStats
        Error over every pixel.
    """

    blocks: list[Block] = field(default_factory=list)
    payload: int = 0
    size: int = 0
    emptied: int = 0
    ahead: int = 0
    stats: BlockStats = field(default_factory=lambda: BlockStats(0))


class CodingJob:
    """Writes the coded form of a cube.

    Parameters
    ----------
    source : Container
        Holds a cube of integers, BIL or any other.
    codings : BlockCodings
    threads : int
        That code blocks.
    progress : callable
        Called with lines done and lines in all.
    spool : Spool, optional
        Blocks that were coded in the same way before.

    Attributes
    ----------
    lines : int
    written : Written
        By the last call of :meth:`write`.
    """

    def __init__(
        self,
        source: Container,
        codings: BlockCodings,
        threads: int,
        progress: Progress,
        spool: Spool | None = None,
    ) -> None:
        self._source, self._codings, self._threads = source, codings, threads
        self._progress = progress
        self._spool = spool
        self.lines = source.header.lines
        self.written = Written()

    def write(self, fd: int, work: Path) -> None:
        """Write all entries into an open file, anew where they miss the ratio that is wanted.

        Raises
        ------
        ContainerError
            When the source is damaged.
        StorageError, OSError
            When the disk refuses.
        """
        codings = self._codings
        if self._spool is None or not self._with_spool(self._spool, fd, work):
            self._write(codings, fd, work)
        ratio = codings.wanted.ratio
        if ratio is None:
            return
        allowed = self._source.header.lines * codings.shape.line_bytes() / ratio
        for _ in range(_MORE_TRIALS):
            before = self.written
            left = allowed - (before.size - before.payload)
            if before.size <= allowed or left <= 0:
                return
            codings = codings.tighter(_CAUTION * left / before.payload)
            os.ftruncate(fd, 0)
            self._write(codings, fd, work)
            if self.written.payload >= before.payload:
                return

    def _with_spool(self, spool: Spool, fd: int, work: Path) -> bool:
        """Write the file with the blocks that are coded; False when it has to be done without.

        They may be of other lines, or take the room that the file needs.
        """
        try:
            self._write(self._codings, fd, work, spool)
        except (OtherLinesError, OSError, StorageError):
            spool.clear()
            os.ftruncate(fd, 0)
            return False
        return True

    def _write(
        self, codings: BlockCodings, fd: int, work: Path, spool: Spool | None = None
    ) -> None:
        self.written = Written()
        out = ZipWriter(fd, work)
        source = self._source.header
        header = coded_header(self._source.plain_header, codings.coding)
        late = begin_entries(out, self._source, header)
        self._payload(codings, out, fd, spool)
        out.add(INDEX, encode_index(self.written.blocks))
        copy_entries(out, self._source, late)
        for name, value in final_fields(source, codings.coding, self.written.stats).items():
            header.set(name, value)
        out.add("data.hdr", header.encode())
        size = out.end()
        self.written.size = size - sum(map(out.bytes_of, set(out.names) - set(_OWN)))

    def _payload(self, codings: BlockCodings, out: ZipWriter, fd: int, spool: Spool | None) -> None:
        written = self.written
        start = out.begin("data.envi")
        behind = WriteBehind(fd, start)
        at, crc, done = start, 0, 0
        lines = self._source.header.lines
        for encoded in in_order(self._tasks(codings, spool), self._threads):
            data, count = encoded.data, min(codings.block_lines, lines - done)
            written.blocks.append(Block(done, count, at - start, len(data), crc32(data)))
            before = at
            for part in (pack_record(done, count, data), data):
                crc = crc32(part, crc)
                at += write_at(fd, part, at)
            behind.wrote(before, at - before)
            written.stats = written.stats + encoded.stats
            done += count
            self._progress(done, lines)
        written.payload = at - start
        out.complete("data.envi", written.payload, crc)

    def _tasks(self, codings: BlockCodings, spool: Spool | None) -> Iterator[Callable[[], Encoded]]:
        """Give what codes each block, in order, or has coded it before."""
        lost: NDArray[np.bool_] | None = None
        if codings.coding.file_type == "PACKINTS":
            # 12 bits have no room for the 65535 in them.
            lost = lost_lines(self._source.ledger, self._source.header.lines)

        def empty(first: int, count: int) -> list[int]:
            return [] if lost is None else np.flatnonzero(lost[first : first + count]).tolist()

        def ahead(first: int, count: int) -> Ahead | None:
            found = None if spool is None else spool.take(first, count)
            return found if found is not None and found.lost == empty(first, count) else None

        first = 0
        for block in source_blocks(self._source, codings.block_lines, ahead):
            if isinstance(block, Ahead):
                count = min(codings.block_lines, self._source.header.lines - first)
                self.written.ahead += count
                self.written.emptied += len(block.lost)
                yield functools.partial(_coded, block)
            else:
                count = len(block)
                if emptied := empty(first, count):
                    block = block.copy()
                    block[emptied] = 0
                    self.written.emptied += len(emptied)
                yield functools.partial(codings.encode, first, block)
            first += count


def _coded(block: Ahead) -> Encoded:
    """Give what was coded before, as a task."""
    return block.encoded


def source_blocks(
    source: Container, step: int, ahead: Callable[[int, int], Ahead | None]
) -> Iterator[NDArray[Any] | Ahead]:
    """Read a cube block by block, ``(lines, bands, samples)``, and check its bytes on the way.

    Parameters
    ----------
    source : Container
    step : int
        Lines of every block but the last.
    ahead : callable
        Takes first line and lines of a block; gives what was coded of it before, which is then
        given in place of its pixels, or None. Asked only where the checksum of the whole proves
        that the lines are the same.

    Raises
    ------
    ContainerError
        At the end, or before the first block, when the stored bytes do not match their CRC-32.
    OtherLinesError
        At the end, when they may have, but what was coded before was of other lines.
    """
    cube, header = source.stored, source.header
    entry = None if source.archive is None else source.archive.entry("data.envi")
    expected = None
    if entry is not None and entry.stored and not header.coded:
        plain = header.interleave == "bil" and header.dtype.isnative and not header.header_offset
        if plain and entry.size == header.data_bytes:
            expected = entry.crc
        elif source.archive is not None:
            for _ in checked_chunks(source.archive, "data.envi"):
                pass
    crc = 0
    before = False
    for first in range(0, header.lines, step):
        last = min(header.lines, first + step)
        found = None if expected is None else ahead(first, last - first)
        if found is not None:
            crc = crc32_joined(crc, found.crc, (last - first) * header.data_bytes // header.lines)
            before = True
            yield found
            continue
        box = cube.whole._replace(lines=(first, last))
        pixels = np.ascontiguousarray(cube.read(box).transpose(0, 2, 1))
        if expected is not None:
            crc = crc32(bytes_of(pixels), crc)
        yield pixels
    if expected is not None and crc != expected:
        text = f"{source.path}: data.envi: its bytes do not match its CRC-32"
        if before:
            raise OtherLinesError(f"{text}, or blocks were coded of other lines")
        raise ContainerError(f"{text}; the file is damaged")
