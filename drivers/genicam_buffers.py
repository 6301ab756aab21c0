"""GenTL buffers as arrays, and what a buffer says about its frame.

The layout of pixels in memory: padding at the end of rows, byte order, offset. harvesters strips
no padding and unpacks some formats wrong, so it is done here, on the raw buffer. A buffer is
anything with the attributes of ``genicam.gentl.Buffer``. Knows NumPy, the pixel formats and the
errors that genicam raises for what a producer does not tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from genicam.gentl import GenericException
from numpy.typing import NDArray

from pipeline.layout import NO_VALUE, PixelFormat

#: GenTL PIXELENDIANNESS_BIG.
_BIG_ENDIAN = 2


def info(buffer: Any, name: str, default: int) -> int:
    """Read one number about a buffer; ``default`` where the producer does not tell it."""
    try:
        return int(getattr(buffer, name))
    except (GenericException, AttributeError, TypeError, ValueError):
        return default


class PixelReader:
    """Reads the pixels of buffers of one geometry and format.

    Parameters
    ----------
    width, height : int
        Of the frame, pixels.
    pixel_format : PixelFormat
        Of the buffers.
    """

    def __init__(self, width: int, height: int, pixel_format: PixelFormat) -> None:
        self.width = width
        self.height = height
        self.format = pixel_format
        self._unpacked: NDArray[np.generic] | None = None
        if pixel_format.packing != "none":
            from pipeline.compute.unpack import unpack

            self._unpack = unpack
            self._unpacked = np.empty((height, width), pixel_format.dtype)
            # The first call may compile: better now than while frames arrive.
            blank = np.zeros(pixel_format.packed_bytes(width), np.uint8)
            unpack(blank, pixel_format, width, self._unpacked[0])

    def whole(self, buffer: Any) -> bool:
        """Tell whether the buffer holds all of a frame of this geometry."""
        height = info(buffer, "height", self.height)
        delivered = info(buffer, "delivered_image_height", height)
        if info(buffer, "width", self.width) != self.width or height != self.height:
            return False
        filled = info(buffer, "size_filled", len(buffer.raw_buffer))
        start, row_bytes = self._layout(buffer)
        # The last row needs no padding behind it.
        needed = start + row_bytes * (self.height - 1) + self.format.packed_bytes(self.width)
        if self._unpacked is not None and not info(buffer, "padding_x", 0):
            needed = start + self.format.packed_bytes(self.width * self.height)
        whole = delivered in (0, self.height) and filled >= needed
        return whole and len(buffer.raw_buffer) >= needed

    def view(self, buffer: Any) -> NDArray[np.generic]:
        """View the pixels, (height, width); packed ones are unpacked into memory of the reader.

        The view is valid until the buffer is queued, or the next one is read.
        """
        start, row_bytes = self._layout(buffer)
        raw = buffer.raw_buffer
        if self._unpacked is None:
            big = info(buffer, "pixel_endianness", 1) == _BIG_ENDIAN
            dtype = self.format.dtype.newbyteorder(">" if big else "<")
            shape = (self.height, self.width)
            return np.ndarray(shape, dtype, raw, start, (row_bytes, dtype.itemsize))
        data = np.frombuffer(raw, np.uint8, offset=start)
        if not info(buffer, "padding_x", 0):
            pixels = self.width * self.height
            packed = data[: self.format.packed_bytes(pixels)]
            self._unpack(packed, self.format, pixels, self._unpacked.reshape(-1))
            return self._unpacked
        used = self.format.packed_bytes(self.width)
        for y in range(self.height):
            packed = data[y * row_bytes : y * row_bytes + used]
            self._unpack(packed, self.format, self.width, self._unpacked[y])
        return self._unpacked

    def _layout(self, buffer: Any) -> tuple[int, int]:
        """Give the offset of the first pixel and the bytes from row to row."""
        row_bytes = self.format.packed_bytes(self.width) + info(buffer, "padding_x", 0)
        return info(buffer, "image_offset", 0), row_bytes


def device_time_ns(buffer: Any, tick_hz: int = 0, chunk: int = NO_VALUE) -> int:
    """Give the camera's own time of a frame, ns; ``NO_VALUE`` where it does not say.

    GenTL's ``timestamp_ns`` where a producer has it, else ticks and their frequency.

    Parameters
    ----------
    buffer : genicam.gentl.Buffer
    tick_hz : int
        Frequency of the camera's clock where the producer does not tell it; 0: not known.
    chunk : int
        The timestamp of the frame's chunk, ticks, for producers whose buffers have none.
    """
    ns = info(buffer, "timestamp_ns", 0)
    if ns > 0:
        return ns
    ticks = info(buffer, "timestamp", 0)
    if ticks <= 0:
        ticks = chunk
    if ticks < 0:
        return NO_VALUE
    if ticks == 0 and chunk != 0:
        return NO_VALUE  # GenTL has no other word for a time that is not known
    try:
        frequency = int(buffer.parent.parent.timestamp_frequency) or tick_hz
    except (GenericException, AttributeError, TypeError, ValueError):
        frequency = tick_hz
    return ticks * 1_000_000_000 // frequency if frequency > 0 else NO_VALUE
