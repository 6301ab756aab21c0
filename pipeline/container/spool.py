"""Blocks that were coded while their capture still ran, in a file beside it.

Each is a record as in a coded ``data.envi`` (:mod:`pipeline.container.block_records`), in any
order. Before the coded bytes it says which lines they were made from: the checksum of their raw
bytes, and which of them were lost; and what the coding measured. Knows records and disk I/O;
nothing of how blocks come to be, or of the file that they end in.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.coding.interface import BlockStats, Encoded
from pipeline.container.block_records import RECORD, Block, pack_record, walk
from pipeline.container.sink_io import WriteBehind, crc32, read_at, storage_error, write_at

#: Its name in the folder beside a partial file.
SPOOL: Final = "coded-blocks"
_LENGTH: Final = struct.Struct("<I")


class _About(msgspec.Struct):
    """What stands before the coded bytes of a block."""

    crc: int
    lost: list[int]
    stats: BlockStats


@dataclass(frozen=True)
class Ahead:
    """A block that was coded ahead.

    Attributes
    ----------
    crc : int
        CRC-32 of the raw lines that it was coded from.
    lost : list of int
        Lines of the block, from 0, that were lost and coded as 0.
    encoded : Encoded
    """

    crc: int
    lost: list[int]
    encoded: Encoded


class SpoolWriter:
    """Appends blocks to a file that exists; one process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._behind = WriteBehind(self._fd, 0)
        self._at = 0

    def add(self, first_line: int, lines: int, block: Ahead) -> None:
        """Append a block.

        Raises
        ------
        StorageError
            When the disk refuses; the blocks before it stay.
        """
        about = _About(block.crc, block.lost, block.encoded.stats)
        head = msgspec.msgpack.encode(about, enc_hook=_plain)
        data = b"".join((_LENGTH.pack(len(head)), head, block.encoded.data))
        at = self._at
        try:
            for part in (pack_record(first_line, lines, data), data):
                at += write_at(self._fd, part, at)
        except OSError as error:
            os.ftruncate(self._fd, self._at)
            raise storage_error(self._path, error) from error
        self._behind.wrote(self._at, at - self._at)
        self._at = at

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Spool:
    """The blocks of a file that is open, and goes on to be its owner's.

    Parameters
    ----------
    fd : int
    key : bytes
        Of how they were coded; blocks that are to be coded otherwise are none of these.
    """

    def __init__(self, fd: int, key: bytes) -> None:
        self._fd = fd
        self.key = key
        size = os.fstat(fd).st_size
        found = walk(lambda count, at: read_at(fd, count, at), size)
        self._blocks = {block.first_line: block for block in found if block.end <= size}

    def take(self, first_line: int, lines: int) -> Ahead | None:
        """Give the block of these lines; None where there is none that holds."""
        block = self._blocks.get(first_line)
        return self._read(block) if block is not None and block.lines == lines else None

    def clear(self) -> None:
        """Let go of all blocks, and give their room back."""
        self._blocks.clear()
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)

    def _read(self, block: Block) -> Ahead | None:
        data = read_at(self._fd, block.size, block.offset + RECORD.size)
        if len(data) != block.size or crc32(data) != block.crc or block.size < _LENGTH.size:
            return None
        start = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        try:
            about = msgspec.msgpack.decode(data[_LENGTH.size : start], type=_About)
        except (msgspec.MsgspecError, ValueError):
            return None
        return Ahead(about.crc, about.lost, Encoded(data[start:], about.stats))


def _plain(value: Any) -> Any:
    """Give a NumPy number as Python's own."""
    return value.item()
