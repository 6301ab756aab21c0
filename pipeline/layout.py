"""Shapes, sample types, pixel-format bit layouts and the ledger row.

The common ground of container, stream, compute and drivers. Knows NumPy and the error tree,
nothing else of the project. A block is ``(lines, bands, samples)``, C-contiguous (BIL order).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ContainerError

#: ENVI ``data type`` code → NumPy type string without byte order (D4.1, 2.4).
ENVI_TYPES: Final[dict[int, str]] = {
    1: "u1",
    2: "i2",
    3: "i4",
    4: "f4",
    5: "f8",
    6: "c8",
    9: "c16",
    12: "u2",
    13: "u4",
    14: "i8",
    15: "u8",
}

#: Axis order in the file for each interleave, named by the axes of a (line, sample, band) cube.
INTERLEAVES: Final[dict[str, tuple[int, int, int]]] = {
    "bil": (0, 2, 1),
    "bip": (0, 1, 2),
    "bsq": (2, 0, 1),
}


def envi_dtype(code: int, byte_order: int) -> np.dtype[np.generic]:
    """Give the NumPy dtype of an ENVI ``data type`` and ``byte order`` (0 little, 1 big endian).

    Raises
    ------
    ContainerError
        When the code or byte order is not one of D4.1, section 2.4.
    """
    if code not in ENVI_TYPES:
        allowed = ", ".join(map(str, ENVI_TYPES))
        raise ContainerError(f"data type: found {code}, allowed are {allowed}")
    if byte_order not in (0, 1):
        raise ContainerError(f"byte order: found {byte_order}, allowed are 0 and 1")
    return np.dtype(("<", ">")[byte_order] + ENVI_TYPES[code])


def envi_code(dtype: np.dtype[np.generic] | str) -> int:
    """Give the ENVI ``data type`` code of a NumPy dtype, whatever its byte order.

    Raises
    ------
    ContainerError
        When ENVI has no code for it.
    """
    dt = np.dtype(dtype)
    text = dt.kind + str(dt.itemsize)
    for code, name in ENVI_TYPES.items():
        if name == text:
            return code
    allowed = ", ".join(ENVI_TYPES.values())
    raise ContainerError(f"data type: found {dt}, ENVI can hold {allowed}")


@dataclass(frozen=True)
class PixelFormat:
    """One PFNC monochrome pixel format.

    Attributes
    ----------
    name : str
        PFNC name.
    bits : int
        Significant bits of a pixel.
    packing : {"none", "lsb", "gige"}
        ``none``: one pixel per 8- or 16-bit little-endian word. ``lsb``: pixels follow each
        other bit by bit, least significant bit first (the ``p`` formats). ``gige``: two pixels
        in three bytes, high bits in the outer bytes, the low bits of both in the middle one
        (Mono10Packed, Mono12Packed).
    """

    name: str
    bits: int
    packing: str

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype of an unpacked pixel: ``uint8`` up to 8 bits, else ``uint16``."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    @property
    def saturation_level(self) -> int:
        """The largest count (DN) the format can hold."""
        return (1 << self.bits) - 1

    def packed_bytes(self, pixels: int) -> int:
        """Bytes that ``pixels`` consecutive pixels take in a frame buffer without padding."""
        if self.packing == "none":
            return pixels * self.dtype.itemsize
        if self.packing == "gige":
            return (pixels + 1) // 2 * 3
        return (pixels * self.bits + 7) // 8


#: The formats that swath unpacks (GenICam PFNC 2.x, GigE Vision 1.2 for the ``Packed`` ones).
PIXEL_FORMATS: Final[dict[str, PixelFormat]] = {
    f.name: f
    for f in (
        PixelFormat("Mono8", 8, "none"),
        PixelFormat("Mono10", 10, "none"),
        PixelFormat("Mono10p", 10, "lsb"),
        PixelFormat("Mono10Packed", 10, "gige"),
        PixelFormat("Mono12", 12, "none"),
        PixelFormat("Mono12p", 12, "lsb"),
        PixelFormat("Mono12Packed", 12, "gige"),
        PixelFormat("Mono14", 14, "none"),
        PixelFormat("Mono16", 16, "none"),
    )
}


class LineStatus(enum.IntEnum):
    """What became of a line; the names (``_`` as blank) stand in the ledger's CSV."""

    OK = 0
    LOST = 1
    INCOMPLETE = 2
    NOT_INSPECTED = 3

    @property
    def text(self) -> str:
        """The word in ``Metadata/lines.csv``."""
        return self.name.lower().replace("_", " ")


class LossReason(enum.IntEnum):
    """Why a line is lost; the names (``_`` as blank) stand in the ledger's CSV."""

    NONE = 0
    CAMERA = 1  # the frame id jumped: lost in the camera or on its cable
    NO_ROOM = 2  # the driver had no free slot or no credit
    INCOMPLETE = 3  # the camera delivered only a part of the frame
    CAMERA_RESTART = 4  # between two epochs; the number follows from time and rate
    STORAGE = 5  # the disk refused it

    @property
    def text(self) -> str:
        """The word in ``Metadata/lines.csv``."""
        return "" if self is LossReason.NONE else self.name.lower().replace("_", " ")


#: One row of the ledger: the same on the wire, in the journal and (as text) in the CSV.
#: ``line``: 0-based index in the cube, -1 for a gap that is not stored. ``count``: lines the row
#: stands for. ``device_time_ns``, ``encoder``: ``NO_VALUE`` where the camera does not say.
#: ``host_time_ns``: UTC since 1970. ``saturated``, ``bad``, ``below_dark``: pixels of the line.
LEDGER_DTYPE: Final = np.dtype(
    [
        ("line", "<i8"),
        ("frame_id", "<u8"),
        ("device_time_ns", "<i8"),
        ("host_time_ns", "<i8"),
        ("encoder", "<i8"),
        ("exposure_ms", "<f8"),
        ("count", "<u4"),
        ("epoch", "<u4"),
        ("temperature_c", "<f4"),
        ("saturated", "<u4"),
        ("bad", "<u4"),
        ("below_dark", "<u4"),
        ("status", "u1"),
        ("reason", "u1"),
        ("_pad", "V6"),
    ]
)
NO_VALUE: Final = np.iinfo(np.int64).min
LedgerRows = NDArray[np.void]


def ledger_rows(count: int) -> LedgerRows:
    """Make ``count`` empty ledger rows: no line, status ok, unknown times and encoder."""
    rows = np.zeros(count, LEDGER_DTYPE)
    rows["line"] = -1
    rows["count"] = 1
    rows["device_time_ns"] = NO_VALUE
    rows["encoder"] = NO_VALUE
    rows["exposure_ms"] = np.nan
    rows["temperature_c"] = np.nan
    return rows


def lost_count(rows: LedgerRows) -> int:
    """Lines that the rows call lost, the ones of gaps that are not stored included."""
    return int(rows["count"][rows["status"] == LineStatus.LOST].sum(dtype=np.int64))


def fill_value(bit_depth: int) -> int:
    """Give the raw count that stands for a lost line: 65535 below 16 bits in uint16, else 0."""
    return 65535 if 8 < bit_depth < 16 else 0
