"""JPEG XL and JPEG 2000: each band of a block one lossless image, through imagecodecs.

The codings that D4.1 names. A band's codestream is one that any decoder of that standard opens, but
for the offset of signed pixels. Knows blocks and sections.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import BlockShape, BlockStats, Encoded, Pixels, check_pixels
from pipeline.coding.sections import Sections, bad, section

#: libjxl's effort: of five real cubes its own default, 7, makes one 3 % smaller and four not by
#: 0.5 %, in more than twice the time.
EFFORT: Final = 5
#: Bits of the four forms of a size in a JPEG XL codestream (ISO 18181-1, SizeHeader).
SIZE_BITS: Final = (9, 13, 18, 30)
#: Width to height of its ratios 1 … 7.
RATIOS: Final = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


@dataclass(frozen=True)
class ImageCoding:
    """Lossless images; a section (``uint32`` bytes, codestream) for each band.

    Signed pixels are stored with their highest bit inverted, so that their order is kept.

    Parameters
    ----------
    shape : BlockShape
    block_lines : int
    file_type : {"JPEGXL", "JPEG2000"}
    """

    shape: BlockShape
    block_lines: int
    file_type: str

    @property
    def name(self) -> str:
        """The file type in lower case."""
        return self.file_type.lower()

    def fields(self) -> dict[str, object]:
        """Give no header fields: the codestreams say all."""
        return {}

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block; see ``Coding``."""
        pixels = check_pixels(pixels, self.shape, self.block_lines)
        images = _unsigned(pixels)
        coded = []
        for band in range(self.shape.bands):
            image = np.ascontiguousarray(images[:, band])
            if self.file_type == "JPEGXL":
                data = imagecodecs.jpegxl_encode(image, lossless=True, effort=EFFORT, numthreads=1)
            else:
                data = imagecodecs.jpeg2k_encode(
                    image, reversible=True, codecformat="J2K", numthreads=1
                )
            coded.append(section(bytes(data)))
        return Encoded(b"".join(coded), BlockStats(pixels.size, spectra=_spectra(pixels)))

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        take = Sections(data)
        shape = self.shape
        out = np.empty((lines, shape.bands, shape.samples), shape.dtype)
        unsigned = out.view(f"u{shape.dtype.itemsize}")
        size_of = jpegxl_size if self.file_type == "JPEGXL" else jpeg2000_size
        decode = (
            imagecodecs.jpegxl_decode if self.file_type == "JPEGXL" else imagecodecs.jpeg2k_decode
        )
        for band in range(shape.bands):
            stream = bytes(take.section())
            # Before anything is decoded: a damaged size asks for any amount of memory.
            size = size_of(stream)
            if size != (lines, shape.samples):
                raise bad(f"an image of {size} lines and samples in band {band}")
            try:
                image = decode(stream, numthreads=1)
            except Exception as error:
                raise bad(f"a {self.file_type} image that cannot be decoded ({error})") from None
            if image.dtype != unsigned.dtype or image.size != lines * shape.samples:
                raise bad(f"an image of {image.shape} {image.dtype} in band {band}")
            unsigned[:, band] = image.reshape(lines, shape.samples)
        take.end()
        return _signed(unsigned, shape)


def jpeg2000_size(stream: bytes) -> tuple[int, int]:
    """Read lines and samples of a JPEG 2000 codestream of one component (its SIZ marker)."""
    if stream[:4] != b"\xff\x4f\xff\x51" or len(stream) < 42:
        raise bad("no JPEG 2000 codestream")
    width, height, left, top = struct.unpack_from(">4I", stream, 8)
    (components,) = struct.unpack_from(">H", stream, 40)
    if components != 1:
        raise bad(f"a JPEG 2000 image of {components} components")
    return height - top, width - left


def jpegxl_size(stream: bytes) -> tuple[int, int]:
    """Read lines and samples of a JPEG XL file whose codestream is in one piece."""
    at = stream.find(b"jxlc") + 4 if stream[:4] == b"\0\0\0\x0c" else 0
    if stream[at : at + 2] != b"\xff\x0a" or at == 3:
        raise bad("no JPEG XL codestream")
    bits = int.from_bytes(stream[at + 2 : at + 14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def size() -> int:
        return 8 * (take(5) + 1) if small else 1 + take(SIZE_BITS[take(2)])

    height = size()
    ratio = take(3)
    if ratio:
        wide, high = RATIOS[ratio - 1]
        return height, height * wide // high
    return height, size()


def _unsigned(pixels: Pixels) -> NDArray[Any]:
    raw = np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")
    return raw ^ _highest(pixels.dtype) if pixels.dtype.kind == "i" else raw


def _signed(raw: NDArray[Any], shape: BlockShape) -> Pixels:
    return (raw ^ _highest(shape.dtype) if shape.dtype.kind == "i" else raw).view(shape.dtype)


def _highest(dtype: np.dtype[Any]) -> Any:
    return np.array(1 << (8 * dtype.itemsize - 1), f"u{dtype.itemsize}")


def _spectra(pixels: Pixels) -> int:
    return int(pixels.any(axis=1).sum())
