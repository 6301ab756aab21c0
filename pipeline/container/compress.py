"""Writes the coded form of a container or ENVI cube, block by block, beside everything else it has.

Several threads code blocks, which are written in order; memory is a few blocks whatever the size.
The source is only read; the new file has its name once it is whole. Knows the reader, codings,
records, headers and ZIP writing; nothing of how a coding works.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.backend import Wish, coding_on
from pipeline.coding.choose import make_coding
from pipeline.coding.interface import (
    DTYPES,
    MOST_PIXELS,
    BlockShape,
    BlockStats,
    Coding,
    Masks,
    Noise,
)
from pipeline.container.block_records import INDEX, Block, encode_index, pack_record
from pipeline.container.coded import MOST_BLOCKS
from pipeline.container.coded_header import coded_header, error_fields, masks_of, stated_error
from pipeline.container.in_order import default_threads, in_order
from pipeline.container.reader import Container
from pipeline.container.references import lost_lines
from pipeline.container.repack import checked_chunks
from pipeline.container.rewriting import begin_entries, copy_entries, new_file
from pipeline.container.sensor_noise import sensor_noise
from pipeline.container.sink_io import WriteBehind, bytes_of, crc32, write_at
from pipeline.container.whole_file import write_whole
from pipeline.container.zip_writer import ZipWriter
from pipeline.errors import ConfigError, ContainerError

#: Lines of a block, and pixels of one beyond which it has fewer lines.
BLOCK_LINES_DEFAULT: Final = 128
_BLOCK_PIXELS: Final = 1 << 26
#: Ending of the file while it grows.
_GROWING: Final = ".compressing"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a compressed file; lossless where nothing is.

    Attributes
    ----------
    coding : str or None
        Its name; None: ``smallest`` with a bound or without an error, else ``packed``.
    max_error : int or None
        Counts that a pixel may be off; 0 is lossless.
    ratio : float or None
        Raw bytes for a coded one, at least.
    noise : bool
        The step follows from the sensor's noise, which the references tell.
    block_lines : int or None
        Lines of a block; 128 by default.
    """

    coding: str | None = None
    max_error: int | None = None
    ratio: float | None = None
    noise: bool = False
    block_lines: int | None = None

    @property
    def lossless(self) -> bool:
        """Whether every bit has to come back."""
        return not self.max_error and self.ratio is None and not self.noise


@dataclass(frozen=True)
class Compressed:
    """What was written.

    Attributes
    ----------
    path : Path
    coding, file_type : str
    lines, block_lines : int
    raw_bytes, coded_bytes : int
        Of the pixels as they were, and of ``data.envi`` with all that decoding needs.
    stats : BlockStats
        Error over every pixel.
    warnings : list of str
    """

    path: Path
    coding: str
    file_type: str
    lines: int
    block_lines: int
    raw_bytes: int
    coded_bytes: int
    stats: BlockStats
    warnings: list[str]

    @property
    def ratio(self) -> float:
        """Raw bytes for a coded one."""
        return self.raw_bytes / max(self.coded_bytes, 1)


def compress(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    wanted: Wanted | None = None,
    *,
    threads: int = 0,
    backend: Wish = "cpu",
    progress: Progress | None = None,
) -> Compressed:
    """Write a cube of integers as a coded container.

    Parameters
    ----------
    path : path
        A container or ENVI file.
    out : path or None
        A new file; None: the source is replaced once the new one is whole.
    wanted : Wanted, optional
    threads : int
        That code blocks; 0: one a processor.
    backend : {"cpu", "cuda", "auto"}
        What codes them; bytes may differ, but not what is promised of them.
    progress : callable, optional
        Called with lines done and lines in all.

    Raises
    ------
    ConfigError
        When ``out`` exists, or the cube cannot be coded as asked.
    DeviceError
        When there is no GPU, or it fails.
    ContainerError
        When the source is not what it says, damaged, or no cube of integers.
    StorageError
        When the disk refuses; nothing is left of the new file.
    """
    target = Path(path) if out is None else new_file(out)
    with Container(path) as source:
        shape = _shape(source)
        coding = coding_on(_coding(source, shape, wanted or Wanted()), backend, writing=True)
        job = _Job(source, coding, threads or default_threads(), progress)
        candidates = None if out is None else [target]
        made = write_whole(target, _GROWING, job.write, candidates=candidates)
        header = source.header
        return Compressed(
            made,
            coding.name,
            coding.file_type,
            header.lines,
            coding.block_lines,
            header.lines * shape.line_bytes(),
            job.size,
            job.stats,
            _warnings(source, job.emptied),
        )


def _warnings(source: Container, emptied: int) -> list[str]:
    found = list(source.warnings)
    if emptied:
        found.append(
            f"{emptied} lines that were lost hold 0, as packed pixels have no room for another "
            "value; the ledger names them"
        )
    earlier = stated_error(source.header)
    if earlier:
        found.append(
            f"{source.path} was coded with an error of up to {earlier} counts before: the new "
            "file goes on to state it"
        )
    return found


def _shape(source: Container) -> BlockShape:
    header = source.header
    if not header.coded and header.file_type.casefold() == "pca":
        raise ContainerError(
            f"{source.path}: found PCA scores, allowed is a cube of integers (swath export decodes)"
        )
    dtype = source.dtype.newbyteorder("=")
    if dtype not in DTYPES:
        allowed = ", ".join(map(str, DTYPES))
        raise ContainerError(
            f"{source.path}: data type: found {dtype}, allowed for coding are {allowed}"
        )
    return BlockShape(header.bands, header.samples, dtype)


def _coding(source: Container, shape: BlockShape, wanted: Wanted) -> Coding:
    noise = sensor_noise(source) if wanted.noise else None
    coding = coding_for(wanted, shape, noise, masks_of(source.header, shape.dtype))
    if source.header.lines > coding.block_lines * MOST_BLOCKS:
        least = -(-source.header.lines // MOST_BLOCKS)
        raise ConfigError(f"block lines: found {coding.block_lines}, allowed are {least} and more")
    earlier = stated_error(source.header)
    if earlier and not wanted.lossless:
        raise ContainerError(
            f"{source.path}: was coded with an error of up to {earlier} counts before, so that "
            "a further one could not be known; allowed is lossless"
        )
    return coding


def coding_for(wanted: Wanted, shape: BlockShape, noise: Noise | None, masks: Masks) -> Coding:
    """Make the coding that is wanted.

    Parameters
    ----------
    noise : Noise or None
        Where ``wanted.noise``.

    Raises
    ------
    ConfigError
        When there is no such coding, or it cannot do what is wanted.
    """
    lines = wanted.block_lines
    pixels = shape.bands * shape.samples
    if lines is not None and not 1 <= lines <= max(MOST_PIXELS // pixels, 1):
        raise ConfigError(
            f"block lines: found {lines}, allowed are 1 to {max(MOST_PIXELS // pixels, 1)}"
        )
    if lines is None:
        lines = max(1, min(BLOCK_LINES_DEFAULT, _BLOCK_PIXELS // pixels))
    exact = wanted.ratio is None and noise is None
    return make_coding(
        wanted.coding or ("smallest" if exact else "packed"),
        shape,
        block_lines=lines,
        max_error=(wanted.max_error or 0) if exact else wanted.max_error,
        ratio=wanted.ratio,
        noise=noise,
        masks=masks,
    )


class _Job:
    """One file being written: its entries in order, and what is known of it at the end."""

    def __init__(
        self,
        source: Container,
        coding: Coding,
        threads: int,
        progress: Progress | None,
    ) -> None:
        self._source, self._coding, self._threads = source, coding, threads
        self._progress = progress or (lambda done, total: None)
        self.blocks: list[Block] = []
        self.size = 0
        self.emptied = 0
        self.stats = BlockStats(0)

    def write(self, fd: int, work: Path) -> None:
        """Write all entries into an open file."""
        out = ZipWriter(fd, work)
        header = coded_header(self._source.plain_header, self._coding)
        late = begin_entries(out, self._source, header)
        self._payload(out, fd)
        out.add(INDEX, encode_index(self.blocks))
        copy_entries(out, self._source, late)
        for name, value in error_fields(self._source.header, self._coding, self.stats).items():
            header.set(name, value)
        out.add("data.hdr", header.encode())
        out.end()

    def _payload(self, out: ZipWriter, fd: int) -> None:
        start = out.begin("data.envi")
        behind = WriteBehind(fd, start)
        lines, step = self._source.header.lines, self._coding.block_lines
        at, crc = start, 0
        done = 0
        lines, step = self._source.header.lines, self._coding.block_lines
        blocks = source_blocks(self._source, step)
        if self._coding.file_type == "PACKINTS":
            blocks = self._without_filling(blocks)
        tasks = (functools.partial(self._coding.encode, pixels) for pixels in blocks)
        for encoded in in_order(tasks, self._threads):
            data, count = encoded.data, min(step, lines - done)
            self.blocks.append(Block(done, count, at - start, len(data), crc32(data)))
            before = at
            for part in (pack_record(done, count, data), data):
                crc = crc32(part, crc)
                at += write_at(fd, part, at)
            behind.wrote(before, at - before)
            self.stats = self.stats + encoded.stats
            done += count
            self._progress(done, lines)
        self.size = at - start
        out.complete("data.envi", self.size, crc)

    def _without_filling(self, blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Give blocks whose lost lines hold 0: 12 bits have no room for the 65535 in them."""
        lost = lost_lines(self._source.ledger, self._source.header.lines)
        first = 0
        for pixels in blocks:
            part = lost[first : first + len(pixels)]
            if part.any():
                pixels = pixels.copy()
                pixels[part] = 0
                self.emptied += int(np.count_nonzero(part))
            first += len(pixels)
            yield pixels


def source_blocks(source: Container, step: int) -> Iterator[NDArray[Any]]:
    """Read a cube block by block, ``(lines, bands, samples)``, and check its bytes on the way.

    Raises
    ------
    ContainerError
        At the end, or before the first block, when the stored bytes do not match their CRC-32.
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
    for first in range(0, header.lines, step):
        box = cube.whole._replace(lines=(first, min(header.lines, first + step)))
        pixels = np.ascontiguousarray(cube.read(box).transpose(0, 2, 1))
        if expected is not None:
            crc = crc32(bytes_of(pixels), crc)
        yield pixels
    if expected is not None and crc != expected:
        raise ContainerError(
            f"{source.path}: data.envi: its bytes do not match its CRC-32; the file is damaged"
        )
