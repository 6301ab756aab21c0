"""Coded cubes: blocks of lines that are decoded when a box of them is read.

Reads the header of a coded ``data.envi`` and its table of blocks; decodes only the blocks that are
asked for and keeps the last few. Damage to one block is an error that names its lines, and costs no
other. Knows records, codings, headers, cubes and where entries lie; nothing of how a coded file is
written.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import MOST_PIXELS, BlockShape, Coding
from pipeline.container.block_records import (
    INDEX,
    INDEX_ROW_BYTES,
    RECORD,
    Block,
    decode_index,
    unpack_record,
    walk,
)
from pipeline.container.coded_header import BLOCK_LINES, decoded_type
from pipeline.container.cube import Array, Box, Cube
from pipeline.container.header import Header
from pipeline.container.in_order import default_threads, in_order
from pipeline.container.sink_io import crc32, read_at
from pipeline.container.zipfile_layout import Archive
from pipeline.errors import ConfigError, ContainerError

if TYPE_CHECKING:
    from pipeline.coding.backend import Wish

#: Blocks of a cube at most: what a table of them has to find memory for.
MOST_BLOCKS: Final = 1 << 21
#: Bytes of a table of blocks at most.
_MAX_TABLE: Final = 1 << 27
#: Decoded blocks that are kept: the one at hand, its neighbour where a read begins inside it, and
#: the next one, which is decoded ahead.
_KEPT: Final = 3


class CodedPayload:
    """The blocks of a coded ``data.envi``; may be read by several threads.

    Parameters
    ----------
    fd : int
        An open file, which is closed with the payload.
    start, size : int
        Where the payload begins in it, and its bytes.
    header : Header
        Of ``data.envi``.
    index : bytes or None
        The table of blocks; it is made from the records where there is none, or it is damaged.
    where : str
        What messages call it.

    Attributes
    ----------
    coding : Coding
    block_lines, lines, count : int
        Lines of a block and in all, number of blocks.
    blocks : dict of int to Block
        Those that were found, by number.
    size : int
        Bytes of the payload.
    warnings : list of str

    Raises
    ------
    ContainerError
        When the header does not describe a coded cube.
    """

    def __init__(
        self, fd: int, start: int, size: int, header: Header, index: bytes | None, where: str
    ) -> None:
        self._close = weakref.finalize(self, os.close, fd)
        self._fd, self._start, self._where = fd, start, where
        self.size = size
        self.warnings: list[str] = []
        self.lines = header.lines
        self.coding, self.block_lines = _coding(header, where)
        self.count = -(-self.lines // self.block_lines)
        self.blocks = self._from_table(index) or self._from_records()
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Future[Array]] = OrderedDict()
        self._end = -1
        self._ahead: threading.Thread | None = None

    def decode_on(self, backend: Wish) -> None:
        """Decode from now on with what is asked for; raises as ``coding_on``."""
        from pipeline.coding.backend import coding_on  # with imagecodecs: not for plain files

        self.coding = coding_on(self.coding, backend)

    def lines_of(self, number: int) -> tuple[int, int]:
        """Give the first line of a block, and the first behind it."""
        first = number * self.block_lines
        return first, min(self.lines, first + self.block_lines)

    def check(self, number: int) -> bytes:
        """Read the coded bytes of a block.

        Raises
        ------
        ContainerError
            Naming block and lines: there are none, or they do not match their checksum.
        """
        block = self.blocks.get(number)
        if block is None:
            raise self._error(number, "found no record of it")
        try:
            left = max(min(block.size, self.size - block.offset - RECORD.size), 0)
            data = read_at(self._fd, left, self._start + block.offset + RECORD.size)
        except OSError as error:
            raise self._error(number, f"cannot be read ({error.strerror})") from error
        if len(data) < block.size:
            raise self._error(number, f"found {len(data)} of its {block.size} bytes")
        crc = crc32(data)
        if crc != block.crc:
            raise self._error(
                number, f"found CRC-32 {crc:08x} of its bytes, its record says {block.crc:08x}"
            )
        return data

    def decode(self, number: int) -> Array:
        """Decode a block, ``(lines, bands, samples)``; raises as :meth:`check`."""
        data = self.check(number)
        first, stop = self.lines_of(number)
        shape = (stop - first, self.coding.shape.bands, self.coding.shape.samples)
        try:
            pixels = self.coding.decode(data, shape[0])
        except ContainerError as error:
            raise self._error(number, str(error)) from error
        except MemoryError:
            raise self._error(number, f"{shape} pixels do not fit into memory") from None
        if pixels.shape != shape or pixels.dtype != self.coding.shape.dtype:
            raise self._error(number, f"decodes to {pixels.shape} of {pixels.dtype}, not {shape}")
        pixels.flags.writeable = False
        return pixels

    def block(self, number: int) -> Array:
        """Give a block as :meth:`decode` does, from those that are kept where it is among them."""
        with self._lock:
            known = self._kept.get(number)
            if known is not None:
                self._kept.move_to_end(number)
            else:
                mine: Future[Array] = Future()
                self._kept[number] = mine
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        if known is not None:
            return known.result()
        try:
            pixels = self.decode(number)
        except BaseException as error:
            with self._lock:
                if self._kept.get(number) is mine:
                    del self._kept[number]
            mine.set_exception(error)
            raise
        mine.set_result(pixels)
        return pixels

    def went_on(self, first: int, stop: int) -> None:
        """Be told which lines were read; where they go on from those before, decode a block ahead.

        Its error, if it is damaged, is left to who asks for it.
        """
        number = (stop - 1) // self.block_lines + 1
        with self._lock:
            goes_on, self._end = first == self._end, stop
            busy = self._ahead is not None and self._ahead.is_alive()
            if not goes_on or busy or number >= self.count or number in self._kept:
                return
            self._ahead = threading.Thread(
                target=self._decode_ahead, args=(number,), name="swath-ahead", daemon=True
            )
            self._ahead.start()

    def _decode_ahead(self, number: int) -> None:
        with contextlib.suppress(ContainerError):
            self.block(number)

    def without_record(self) -> list[tuple[int, int]]:
        """Give the runs of lines (first, number) whose blocks were not found at all."""
        runs = []
        before = -1
        for number in (*sorted(self.blocks), self.count):
            if number > before + 1:
                first, last = (before + 1) * self.block_lines, number * self.block_lines
                runs.append((first, min(last, self.lines) - first))
            before = number
        return runs

    def record_holds(self, number: int) -> bool:
        """Say whether the record of a block that was found is what the table says of it."""
        block = self.blocks[number]
        head = read_at(self._fd, RECORD.size, self._start + block.offset)
        return unpack_record(head, block.offset) == block

    def close(self) -> None:
        """Let go of the file."""
        if self._ahead is not None:
            self._ahead.join()
        self._close()

    def _error(self, number: int, text: str) -> ContainerError:
        first, stop = self.lines_of(number)
        return ContainerError(
            f"{self._where}: block {number} (lines {first} to {stop - 1}): {text}"
        )

    def _from_table(self, index: bytes | None) -> dict[int, Block]:
        """Take the table's word where it fits the cube; else nothing."""
        if index is None:
            return {}
        if index.count(b"\n") != self.count + 1:
            self.warnings.append("the table of blocks does not fit the cube, records are used")
            return {}
        try:
            blocks = decode_index(index)
        except ContainerError as error:
            self.warnings.append(f"{error}; the blocks are found by their records")
            return {}
        end = 0
        found = {}
        for number, block in enumerate(blocks):
            if not self._fits(block, number) or block.offset < end or block.end > self.size:
                break
            found[number], end = block, block.end
        if len(found) != self.count:
            self.warnings.append("the table of blocks does not fit the cube, records are used")
            return {}
        return found

    def _from_records(self) -> dict[int, Block]:
        found: dict[int, Block] = {}
        for block in walk(lambda count, at: read_at(self._fd, count, self._start + at), self.size):
            number = block.first_line // self.block_lines
            if self._fits(block, number):
                found.setdefault(number, block)
        return found

    def _fits(self, block: Block, number: int) -> bool:
        if not 0 <= number < self.count:
            return False
        first, stop = self.lines_of(number)
        return block.first_line == first and block.lines == stop - first


def open_payload(path: Path, header: Header) -> CodedPayload:
    """Open the coded cube of a plain file by its records.

    Raises
    ------
    ContainerError
        When it cannot be read, or the header does not describe it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ContainerError(f"{path}: cannot be read ({error.strerror})") from error
    start = header.header_offset
    return CodedPayload(fd, start, os.fstat(fd).st_size - start, header, None, str(path))


def open_entry(archive: Archive, header: Header) -> CodedPayload:
    """Open ``data.envi`` of a container; raises as :func:`open_payload`."""
    file, start, size = archive.open_payload("data.envi")
    fd = os.dup(file.fileno())
    if archive.entry("data.envi").stored:  # else the archive keeps what it decoded
        file.close()
    index, fault = None, ""
    if INDEX in archive:
        try:
            index = archive.read(INDEX, limit=min((header.lines + 1) * INDEX_ROW_BYTES, _MAX_TABLE))
        except ContainerError as error:
            fault = f"{error}; the blocks are found by their records"
    payload = CodedPayload(fd, start, size, header, index, f"{archive.path}: data.envi")
    if fault:
        payload.warnings.append(fault)
    return payload


def _coding(header: Header, where: str) -> tuple[Coding, int]:
    from pipeline.coding.choose import coding_of  # with imagecodecs: not for plain files

    lines, samples, bands = header.shape
    block_lines = header.get(BLOCK_LINES)
    if not isinstance(block_lines, int) or block_lines < 1:
        raise ContainerError(
            f"{where}: {BLOCK_LINES}: found {block_lines!r}, allowed is a positive integer"
        )
    if lines < 1:
        raise ContainerError(f"{where}: lines: found 0, allowed are cubes of at least one line")
    if lines > block_lines * MOST_BLOCKS:
        raise ContainerError(
            f"{where}: found {-(-lines // block_lines)} blocks, allowed are {MOST_BLOCKS} at most"
        )
    pixels = min(block_lines, lines) * samples * bands
    if pixels > MOST_PIXELS:
        raise ContainerError(
            f"{where}: found blocks of {pixels} pixels, allowed are {MOST_PIXELS} at most"
        )
    try:
        shape = BlockShape(bands, samples, decoded_type(header))
        return coding_of(header.file_type, header, shape, block_lines), block_lines
    except (ContainerError, ConfigError) as error:
        raise ContainerError(f"{where}: {error}") from error


class Decoded(Cube):
    """The pixels of a coded ``data.envi``, decoded block by block as they are read."""

    def __init__(
        self,
        payload: CodedPayload,
        *,
        wavelengths: NDArray[np.float64] | None = None,
        fwhm: NDArray[np.float64] | None = None,
    ) -> None:
        shape = payload.coding.shape
        super().__init__(
            (payload.lines, shape.samples, shape.bands),
            shape.dtype,
            name="the stored cube",
            origins=(range(payload.lines), range(shape.samples), range(shape.bands)),
            wavelengths=wavelengths,
            fwhm=fwhm,
        )
        self._payload = payload

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`.

        Raises
        ------
        ContainerError
            When a block that the box needs is damaged.
        """
        (first, last), samples, bands = box
        size = last - first, bands[1] - bands[0], samples[1] - samples[0]
        out = np.empty(size, self.dtype)
        if last <= first:
            return out.transpose(0, 2, 1)

        def put(number: int) -> None:
            begin, end = self._payload.lines_of(number)
            part = slice(max(first, begin), min(last, end))
            pixels = self._payload.block(number)[part.start - begin : part.stop - begin]
            out[part.start - first : part.stop - first] = pixels[:, slice(*bands), slice(*samples)]

        step = self._payload.block_lines
        numbers = range(first // step, -(-last // step))
        if len(numbers) == 1:
            put(numbers[0])
        else:
            tasks = (functools.partial(put, number) for number in numbers)
            for _ in in_order(tasks, min(default_threads(), len(numbers))):
                pass
        self._payload.went_on(first, last)
        return out.transpose(0, 2, 1)
