"""Unpacking of camera formats: packed bytes of a frame to one count per element.

The bit layouts are those of :class:`pipeline.layout.PixelFormat` (GenICam PFNC 2.x; GigE Vision 1.2
for the ``Packed`` ones): Mono10p and Mono12p put pixels one after another bit by bit, least
significant first; Mono10Packed and Mono12Packed put two pixels in three bytes, their high bits in
the outer bytes and the low bits of both in the middle one. numba where it is installed, else NumPy,
with equal results. Knows layout and errors only.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CameraError
from pipeline.layout import PixelFormat

#: Pixels that take a whole number of bytes together, and how many bytes, by bits of the p formats.
GROUPS: Final = {10: (4, 5), 12: (2, 3)}

Packed = NDArray[np.uint8]
Counts = NDArray[np.uint16]


def unpack(
    data: Packed, fmt: PixelFormat, pixels: int, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Unpack a frame.

    Parameters
    ----------
    data : ndarray of uint8, (n,)
        The frame's bytes; more than needed (padding) are left alone.
    fmt : PixelFormat
    pixels : int
        How many to unpack; odd numbers too.
    out : ndarray of ``fmt.dtype``, (pixels,), C-contiguous, optional
        Where to put them.

    Returns
    -------
    ndarray of ``fmt.dtype``, (pixels,)
        ``out``, or a new array.

    Raises
    ------
    CameraError
        When the frame has fewer bytes than the pixels need, or ``out`` does not fit.
    """
    need = fmt.packed_bytes(pixels)
    if data.dtype != np.uint8 or data.ndim != 1 or data.size < need:
        raise CameraError(
            f"frame of {fmt.name}: found {data.size} {data.dtype} in {data.ndim} axes, "
            f"{pixels} pixels need {need} bytes"
        )
    if out is None:
        out = np.empty(pixels, fmt.dtype)
    elif out.dtype != fmt.dtype or out.shape != (pixels,) or not out.flags.carray:
        raise CameraError(
            f"frame of {fmt.name}: found a place for {out.dtype} {out.shape}, "
            f"needed is {fmt.dtype} ({pixels},), contiguous, aligned and writeable"
        )
    source = np.ascontiguousarray(data[:need])
    if fmt.packing == "none":
        out[:] = source.view(fmt.dtype.newbyteorder("<"))
        return out
    _unpacker(fmt.packing, fmt.bits)(source, out)
    return out


@functools.cache
def _unpacker(packing: str, bits: int) -> Callable[[Packed, Counts], None]:
    """Choose what unpacks this layout; compiled on first use, and cached on disk."""
    if packing == "lsb" and bits not in GROUPS:
        raise CameraError(
            f"packed pixels of {bits} bits: allowed are {', '.join(map(str, GROUPS))}"
        )
    if importlib.util.find_spec("numba") is None:
        return functools.partial(_numpy_lsb if packing == "lsb" else _numpy_gige, bits)
    from pipeline.compute.unpack_kernels import compile_unpack

    return compile_unpack(packing, bits)


def _numpy_lsb(bits: int, data: Packed, out: Counts) -> None:
    """Unpack pixels that follow each other bit by bit, least significant first."""
    pixels, size = GROUPS[bits]
    groups = -(-len(out) // pixels)
    whole = np.zeros(groups * size, np.uint8)
    whole[: len(data)] = data[: len(whole)]
    byte = whole.reshape(groups, size).astype(np.uint16)
    mask = (1 << bits) - 1
    for i in range(pixels):
        first, shift = divmod(i * bits, 8)
        # a pixel of at most 12 bits lies in two bytes: its shift is a multiple of 2 or 4
        value = ((byte[:, first] | byte[:, first + 1] << 8) >> shift) & mask
        out[i::pixels] = value[: len(out[i::pixels])]


def _numpy_gige(bits: int, data: Packed, out: Counts) -> None:
    """Unpack two pixels from three bytes: high bits outside, low bits of both in the middle."""
    groups = -(-len(out) // 2)
    byte = data[: 3 * groups].reshape(groups, 3).astype(np.uint16)
    low = bits - 8
    mask = (1 << low) - 1
    out[0::2] = byte[:, 0] << low | (byte[:, 1] & mask)
    odd = out[1::2]
    odd[:] = (byte[:, 2] << low | (byte[:, 1] >> 4 & mask))[: len(odd)]
