"""The small change of coded blocks: little-endian numbers and byte strings, read without trust.

A block's data is a run of fields: fixed numbers, arrays, and sections (a ``uint32`` byte count,
then the bytes; most of them zlib streams). Knows bytes and the error tree, nothing of codings.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ContainerError


class Sections:
    """Takes one field after the other from the bytes of a block.

    Parameters
    ----------
    data : bytes-like

    Raises
    ------
    ContainerError
        From any method, when the bytes end too early or are not what they should be.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self._at = 0

    def numbers(self, layout: str) -> tuple[int, ...]:
        """Take numbers; ``layout`` as of ``struct`` without the byte order."""
        return struct.unpack("<" + layout, self._bytes(struct.calcsize("<" + layout)))

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        """Take an array of ``count`` numbers."""
        return np.frombuffer(self._bytes(count * np.dtype(dtype).itemsize), dtype)

    def section(self) -> memoryview:
        """Take a section."""
        (size,) = self.numbers("I")
        return self._bytes(size)

    def inflated(self, dtype: str, count: int) -> NDArray[Any]:
        """Take a zlib section that holds exactly ``count`` numbers."""
        return inflate(self.section(), dtype, count, count)

    def inflated_some(self, dtype: str, most: int) -> NDArray[Any]:
        """Take a zlib section that holds ``most`` numbers or fewer."""
        return inflate(self.section(), dtype, 0, most)

    def inflated_fast(self, size: int) -> NDArray[np.uint8]:
        """Take a zlib section of exactly so many bytes; for the large ones."""
        data, out = bytes(self.section()), bytearray(size)
        try:
            found = imagecodecs.deflate_decode(data, out=out)
        except (imagecodecs.DeflateError, ValueError) as error:
            raise bad(f"a deflate stream that does not inflate ({error})") from None
        if len(found) != size:
            raise bad(f"a deflate stream of {len(found)} bytes where {size} should be")
        return np.frombuffer(out, np.uint8)

    def end(self) -> None:
        """Check that all bytes were taken."""
        if self._at != len(self._data):
            raise bad(f"{len(self._data) - self._at} bytes after its end")

    def _bytes(self, count: int) -> memoryview:
        if count > len(self._data) - self._at:
            raise bad(f"{len(self._data)} bytes where {self._at + count} or more should be")
        self._at += count
        return self._data[self._at - count : self._at]


def bad(found: str) -> ContainerError:
    """Make the error for bytes that are no block of a coding."""
    return ContainerError(f"coded block: found {found}; it is damaged or of another coding")


def inflate(data: memoryview, dtype: str, least: int, most: int) -> NDArray[Any]:
    """Inflate a zlib stream that must give so many numbers."""
    item = np.dtype(dtype).itemsize
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(data, most * item + 1)
    except zlib.error as error:
        raise bad(f"a deflate stream that does not inflate ({error})") from None
    if not inflater.eof or inflater.unused_data or not least * item <= len(out) <= most * item:
        raise bad(f"a deflate stream of another size than {most * item} bytes")
    if len(out) % item:
        raise bad(f"a deflate stream of {len(out)} bytes for numbers of {item}")
    return np.frombuffer(out, dtype)


def section(data: bytes | NDArray[Any]) -> bytes:
    """Give a section of these bytes, or of an array's."""
    raw = data if isinstance(data, bytes) else data.tobytes()
    return struct.pack("<I", len(raw)) + raw


def deflated(array: NDArray[Any], level: int = 6) -> bytes:
    """Give a zlib section of an array."""
    return section(zlib.compress(np.ascontiguousarray(array).tobytes(), level))
