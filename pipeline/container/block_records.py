"""The records of a coded ``data.envi``, and the table of them: where each block of lines lies.

A record is 32 bytes that say which lines follow, then the coded bytes. Each part has a checksum of
its own, so that damage is found, named, and costs no other block; the table can be made again from
the records. Knows bytes and the error tree; nothing of codings, headers or files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.container.sink_io import crc32
from pipeline.errors import ContainerError

#: The entry that holds the table.
INDEX: Final = "Metadata/blocks.csv"
INDEX_HEADER: Final = b"first_line,lines,offset,bytes,crc32\n"
#: Bytes of a row of the table at most.
INDEX_ROW_BYTES: Final = 80
MAGIC: Final = b"SWB1"
#: magic, lines, first line, bytes of the data, CRC-32 of the data, CRC-32 of the 28 bytes before.
RECORD: Final = struct.Struct("<4sIQQII")
_ROW: Final = re.compile(rb"(\d{1,19}),(\d{1,10}),(\d{1,19}),(\d{1,19}),([0-9a-f]{8})\Z")
#: Bytes that are looked through at once for the next record.
_SCAN_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """One record.

    Attributes
    ----------
    first_line, lines : int
    offset : int
        Of the record, from the first byte of ``data.envi``.
    size : int
        Bytes of the coded data, behind the 32 of the record.
    crc : int
        CRC-32 of them.
    """

    first_line: int
    lines: int
    offset: int
    size: int
    crc: int

    @property
    def end(self) -> int:
        """First byte behind the record."""
        return self.offset + RECORD.size + self.size

    def __str__(self) -> str:
        return f"lines {self.first_line} to {self.first_line + self.lines - 1}"


def pack_record(first_line: int, lines: int, data: bytes) -> bytes:
    """Give the 32 bytes that stand before a block's data."""
    head = RECORD.pack(MAGIC, lines, first_line, len(data), crc32(data), 0)[:-4]
    return head + struct.pack("<I", crc32(head))


def unpack_record(head: bytes, offset: int) -> Block | None:
    """Read the 32 bytes at ``offset``; None where they are no record."""
    if len(head) < RECORD.size:
        return None
    magic, lines, first_line, size, crc, check = RECORD.unpack_from(head)
    if magic != MAGIC or crc32(head[: RECORD.size - 4]) != check:
        return None
    return Block(first_line, lines, offset, size, crc)


def encode_index(blocks: Iterable[Block]) -> bytes:
    """Write the table as CSV: one row a block, checksums as eight hexadecimal digits."""
    return INDEX_HEADER + b"".join(map(encode_row, blocks))


def encode_row(block: Block) -> bytes:
    """Write one row of the table."""
    values = block.first_line, block.lines, block.offset, block.size, block.crc
    return b"%d,%d,%d,%d,%08x\n" % values


def decode_index(data: bytes) -> list[Block]:
    """Read the table.

    Raises
    ------
    ContainerError
        When it is none.
    """
    if not data.startswith(INDEX_HEADER):
        raise ContainerError(
            f"{INDEX}: found {data[:40]!r}, allowed is {INDEX_HEADER.decode().strip()}"
        )
    blocks = []
    for number, row in enumerate(data[len(INDEX_HEADER) :].splitlines(), 2):
        found = _ROW.match(row)
        if found is None:
            raise ContainerError(f"{INDEX}:{number}: found {row[:40]!r}, which is no row")
        first, lines, offset, size = (int(text) for text in found.groups()[:4])
        blocks.append(Block(first, lines, offset, size, int(found[5], 16)))
    return blocks


def walk(read: Callable[[int, int], bytes], size: int) -> Iterator[Block]:
    """Find the records one after the other; behind damage, the next that is whole.

    Parameters
    ----------
    read : callable
        Takes a number of bytes and where they begin; gives fewer only at the end.
    size : int
        Bytes of ``data.envi``.

    Yields
    ------
    Block
        Their order and lines are not checked; the last may be cut off.
    """
    at = 0
    while at + RECORD.size <= size:
        found = unpack_record(read(RECORD.size, at), at)
        if found is not None:
            yield found
            at = found.end
        else:
            at = _next_magic(read, at + 1, size)


def _next_magic(read: Callable[[int, int], bytes], at: int, size: int) -> int:
    while at + RECORD.size <= size:
        piece = read(min(_SCAN_BYTES, size - at), at)
        place = piece.find(MAGIC)
        if place >= 0:
            return at + place
        if len(piece) < RECORD.size:
            break
        at += len(piece) - len(MAGIC) + 1
    return size
