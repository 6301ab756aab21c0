"""The records of a ZIP file: how each is laid out, packed and unpacked.

Local header, central directory record and end records, with ZIP64 (PKWARE APPNOTE 6.3.10,
4.3.7, 4.3.12, 4.3.14–16, 4.5.3). Everything here is written stored (method 0). Knows the error
tree; nothing of files on a disk, and nothing of what the entries mean.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Final

from pipeline.errors import ContainerError

STORED: Final = 0
DEFLATED: Final = 8

LOCAL: Final = struct.Struct("<4s5H3I2H")
CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
END: Final = struct.Struct("<4s4H2IH")
END64: Final = struct.Struct("<4sQ2H2I4Q")
LOCATOR64: Final = struct.Struct("<4sIQI")
LOCAL_MAGIC: Final = b"PK\x03\x04"
CENTRAL_MAGIC: Final = b"PK\x01\x02"
END_MAGIC: Final = b"PK\x05\x06"
END64_MAGIC: Final = b"PK\x06\x06"
LOCATOR64_MAGIC: Final = b"PK\x06\x07"

FLAG_ENCRYPTED: Final = 0x0001
FLAG_DESCRIPTOR: Final = 0x0008
FLAG_UTF8: Final = 0x0800
#: Entries and offsets from here on need ZIP64; the value itself is the mark for "see ZIP64".
LIMIT32: Final = 0xFFFFFFFF
LIMIT16: Final = 0xFFFF
ZIP64_ID: Final = 0x0001
#: The alignment record that Android's zipalign introduced: a 16-bit alignment, then zeros.
ALIGNMENT_ID: Final = 0xD935
#: "made by" Unix, so that the permissions in the external attributes count (rw-r--r--).
_MADE_BY: Final = (3 << 8) | 45
_MODE: Final = 0o100644 << 16


@dataclass(frozen=True)
class Record:
    """One entry as the central directory has it, and what its local header adds.

    Attributes
    ----------
    name : str
        As spelt in the file.
    header_offset, size, stored_size : int
        Bytes: where the local header starts, length decoded, length in the file.
    crc : int
        CRC-32 of the decoded bytes.
    method, flags : int
        Compression method and general-purpose flags.
    dos_time : int
        MS-DOS date and time, date in the high half.
    extra : bytes
        Extra field (of the central record, without what ZIP64 needs, when packing).
    """

    name: str
    header_offset: int
    size: int
    stored_size: int
    crc: int
    method: int = STORED
    flags: int = FLAG_UTF8
    dos_time: int = 0
    extra: bytes = b""


def dos_time(seconds: float | None = None) -> int:
    """Give the MS-DOS date and time (UTC here, for want of a zone) of a POSIX time."""
    t = time.gmtime(seconds)
    year = min(max(t.tm_year, 1980), 2107)
    return ((year - 1980) << 25 | t.tm_mon << 21 | t.tm_mday << 16) | (
        t.tm_hour << 11 | t.tm_min << 5 | t.tm_sec // 2
    )


def alignment_padding(position: int, alignment: int) -> bytes:
    """Make the extra record after which ``position`` plus its length is a multiple.

    A record needs at least 6 bytes (id, length, the alignment itself), so that the padding is
    6 … ``alignment`` + 5 bytes long.
    """
    length = -(position + 6) % alignment
    return struct.pack("<3H", ALIGNMENT_ID, 2 + length, alignment) + bytes(length)


def pack_local(record: Record, *, zip64: bool = False, align: int = 0) -> bytes:
    """Pack a local header; with ``zip64`` its sizes stand in the ZIP64 record alone.

    ``align`` adds padding, as a well-formed extra record, so that the payload starts on a
    multiple of it. The length depends on name, ``zip64``, ``align`` and ``header_offset`` only:
    a header can be packed again with other sizes and CRC and written over the first one.
    """
    name = record.name.encode("utf-8")
    extra = b""
    size, stored = record.size, record.stored_size
    if zip64:
        extra = struct.pack("<2H2Q", ZIP64_ID, 16, size, stored)
        size = stored = LIMIT32
    elif max(size, stored) >= LIMIT32:
        raise ContainerError(f"{record.name}: found {size} bytes, allowed without ZIP64 are 4 GiB")
    if align:
        end = record.header_offset + LOCAL.size + len(name) + len(extra)
        extra += alignment_padding(end, align)
    head = LOCAL.pack(
        LOCAL_MAGIC,
        45 if zip64 else 20,
        record.flags,
        record.method,
        record.dos_time & 0xFFFF,
        record.dos_time >> 16,
        record.crc,
        stored,
        size,
        len(name),
        len(extra),
    )
    return head + name + extra


def pack_central(record: Record) -> bytes:
    """Pack a central directory record, with a ZIP64 record for what does not fit 32 bits."""
    name = record.name.encode("utf-8")
    wide = [
        value if value >= LIMIT32 else None
        for value in (record.size, record.stored_size, record.header_offset)
    ]
    values = [value for value in wide if value is not None]
    extra = record.extra
    if values:
        extra = struct.pack(f"<2H{len(values)}Q", ZIP64_ID, 8 * len(values), *values) + extra
    size, stored, offset = (
        LIMIT32 if big is not None else value
        for big, value in zip(
            wide, (record.size, record.stored_size, record.header_offset), strict=True
        )
    )
    head = CENTRAL.pack(
        CENTRAL_MAGIC,
        _MADE_BY,
        45 if values else 20,
        record.flags,
        record.method,
        record.dos_time & 0xFFFF,
        record.dos_time >> 16,
        record.crc,
        stored,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        _MODE,
        offset,
    )
    return head + name + extra


def pack_end(entries: int, directory_offset: int, directory_bytes: int) -> bytes:
    """Pack what ends a ZIP file: the ZIP64 end and its locator where needed, and the end."""
    out = b""
    if entries >= LIMIT16 or max(directory_offset, directory_bytes) >= LIMIT32:
        out += END64.pack(
            END64_MAGIC, END64.size - 12, _MADE_BY, 45, 0, 0, entries, entries,
            directory_bytes, directory_offset,
        )  # fmt: skip
        out += LOCATOR64.pack(LOCATOR64_MAGIC, 0, directory_offset + directory_bytes, 1)
    return out + END.pack(
        END_MAGIC,
        0,
        0,
        min(entries, LIMIT16),
        min(entries, LIMIT16),
        min(directory_bytes, LIMIT32),
        min(directory_offset, LIMIT32),
        0,
    )


def extra_records(extra: bytes) -> list[tuple[int, bytes]]:
    """Split an extra field into (id, data); a torn rest (zipalign's bare zeros) is left out."""
    found = []
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            break
        found.append((kind, extra[at + 4 : at + 4 + length]))
        at += 4 + length
    return found


def wide_values(extra: bytes, values: list[int], where: str) -> list[int]:
    """Replace each value that is 0xFFFFFFFF by what the ZIP64 record says, in order.

    Raises
    ------
    ContainerError
        When the record is shorter than the values that need it.
    """
    if LIMIT32 not in values:
        return values
    data = next((data for kind, data in extra_records(extra) if kind == ZIP64_ID), None)
    if data is None:
        return values  # a size of exactly 4 GiB − 1 without ZIP64 is legal
    at = 0
    out = []
    for value in values:
        if value == LIMIT32:
            if at + 8 > len(data):
                raise ContainerError(
                    f"{where}: found a ZIP64 record of {len(data)} bytes, its sizes need more"
                )
            (value,) = struct.unpack_from("<Q", data, at)
            at += 8
        out.append(value)
    return out


def unpack_name(raw: bytes, flags: int) -> str:
    """Decode an entry's name: UTF-8 where it says so or is valid, else code page 437."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def unpack_central(directory: bytes, at: int, where: str) -> tuple[Record, int]:
    """Unpack the central record at ``at``; returns it and where the next one starts.

    Raises
    ------
    ContainerError
        When there is none, or it is cut off.
    """
    if at + CENTRAL.size > len(directory):
        raise ContainerError(f"{where}: found a central directory that ends inside a record")
    (magic, _, _, flags, method, tm, date, crc, stored, size, n, m, k, disk, _, _, offset) = (
        CENTRAL.unpack_from(directory, at)
    )
    if magic != CENTRAL_MAGIC:
        raise ContainerError(f"{where}: found no central directory record at its byte {at}")
    start = at + CENTRAL.size
    end = start + n + m + k
    if end > len(directory):
        raise ContainerError(f"{where}: found a central directory that ends inside a record")
    name = unpack_name(directory[start : start + n], flags)
    extra = directory[start + n : start + n + m]
    size, stored, offset = wide_values(extra, [size, stored, offset], f"{where}: {name}")
    if disk not in (0, LIMIT16):
        raise ContainerError(f"{where}: {name}: found disk {disk}, allowed is a single file")
    return Record(name, offset, size, stored, crc, method, flags, date << 16 | tm, extra), end


def unpack_local(data: bytes, offset: int, where: str) -> tuple[Record, int]:
    """Unpack a local header whose first bytes are ``data``; returns it and its length.

    ``data`` must reach over name and extra field (:data:`LOCAL` says how long they are).

    Raises
    ------
    ContainerError
        When it is no local header, or cut off.
    """
    if len(data) < LOCAL.size or data[:4] != LOCAL_MAGIC:
        raise ContainerError(f"{where}: found no local header at byte {offset}")
    _, _, flags, method, tm, date, crc, stored, size, n, m = LOCAL.unpack_from(data)
    length = LOCAL.size + n + m
    if len(data) < length:
        raise ContainerError(f"{where}: found a local header at byte {offset} that is cut off")
    name = unpack_name(data[LOCAL.size : LOCAL.size + n], flags)
    extra = data[LOCAL.size + n : length]
    size, stored = wide_values(extra, [size, stored], f"{where}: {name}")
    return Record(name, offset, size, stored, crc, method, flags, date << 16 | tm, extra), length
