"""Raw counts that have fewer bits than their words: stored without the empty bits.

D4.1 speaks of it for cameras of 12 bits. The layout is that of TIFF and imagecodecs' packints:
pixel after pixel, the highest bit first, without a gap up to the end of the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs
import numpy as np

from pipeline.coding.interface import BlockShape, BlockStats, Encoded, Pixels
from pipeline.coding.sections import bad
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class PackintsCoding:
    """Packed unsigned counts.

    Parameters
    ----------
    shape : BlockShape
    block_lines : int
    bits : int
        Of a pixel, 1 to those of the type.

    Raises
    ------
    ConfigError
        When the type is signed or has not more bits.
    """

    shape: BlockShape
    block_lines: int
    bits: int = 12

    name = "packints"
    file_type = "PACKINTS"

    def __post_init__(self) -> None:
        dtype = self.shape.dtype
        if dtype.kind != "u" or not 1 <= self.bits < 8 * dtype.itemsize:
            raise ConfigError(
                f"packints: found {self.bits} bits in {dtype},"
                f" allowed are 1 to 15 bits in uint16 and 1 to 7 in uint8"
            )

    def fields(self) -> dict[str, object]:
        """Give the header fields."""
        return {"packints bits": self.bits}

    def encode(self, pixels: Pixels) -> Encoded:
        """Pack a block; see ``Coding``."""
        if (top := int(pixels.max())) >> self.bits:
            raise ConfigError(
                f"packints: found a count of {top}, allowed are {self.bits} bits:"
                f" 0 to {(1 << self.bits) - 1}"
            )
        flat = np.ascontiguousarray(pixels).reshape(-1)
        data = bytes(imagecodecs.packints_encode(flat, self.bits))
        spectra = int(pixels.any(axis=1).sum())
        return Encoded(data, BlockStats(pixels.size, spectra=spectra))

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Unpack a block; see ``Coding``."""
        shape = self.shape
        pixels = lines * shape.bands * shape.samples
        if len(data) != (size := -(-pixels * self.bits // 8)):
            raise bad(f"{len(data)} bytes where {size} should be")
        out = imagecodecs.packints_decode(bytes(data), shape.dtype.str, self.bits)
        return np.ascontiguousarray(out[:pixels].reshape(lines, shape.bands, shape.samples))
