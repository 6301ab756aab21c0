"""Unpacking for numba: whole frames, and rows and pixels for other kernels to call.

A layout is handed over as its number in ``LAYOUTS`` and looked at once a row, so that one compiled
kernel serves all. Nothing is read or written out of bounds: vectors go as far as their loads stay
inside, single pixels do the rest. Knows nothing but arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np

from pipeline.compute.vector_ops import STEP, gige_layout, lsb_layout, settle, unpack_step
from pipeline.kernel_cache import compile_kernel

#: The layouts' numbers, by packing and bits; the arithmetic of :func:`pixel_at` relies on them.
LAYOUTS: Final = {("lsb", 10): 0, ("lsb", 12): 1, ("gige", 10): 2, ("gige", 12): 3}
#: A frame of so many pixels (256 KiB of counts) or more is written past the caches: it goes to a
#: slot that another thread or process reads, and a plain store first reads the memory that it
#: overwrites. Counts that the same core reads at once are better off in its cache.
STREAMED: Final = 1 << 17

_LSB10, _LSB12, _GIGE10, _GIGE12 = _BY_NUMBER = (
    lsb_layout(10),
    lsb_layout(12),
    gige_layout(10),
    gige_layout(12),
)
_GROUP: Final = tuple(len(layout.places) for layout in _BY_NUMBER)  # pixels
_SIZE: Final = tuple(layout.size for layout in _BY_NUMBER)  # bytes of a group
_SPAN: Final = tuple(layout.step_span for layout in _BY_NUMBER)  # bytes that a step reads
_ALIGNED: Final = 2 * STEP  # bytes that a streamed step writes, at a multiple of as many

_lsb10, _lsb12 = unpack_step(_LSB10, stream=False), unpack_step(_LSB12, stream=False)
_gige10, _gige12 = unpack_step(_GIGE10, stream=False), unpack_step(_GIGE12, stream=False)
_stream_lsb10, _stream_lsb12 = unpack_step(_LSB10, stream=True), unpack_step(_LSB12, stream=True)
_stream_gige10 = unpack_step(_GIGE10, stream=True)
_stream_gige12 = unpack_step(_GIGE12, stream=True)


@numba.njit(nogil=True, error_model="numpy")
def pixel_at(layout, packed, i):  # type: ignore[no-untyped-def]
    """Unpack one pixel; for kernels.

    Parameters
    ----------
    layout : int, of ``LAYOUTS``
    packed : ndarray of uint8, (n,)
        A line, or frame, packed by itself.
    i : int
        Number of the pixel; nothing checks that it is there.

    Returns
    -------
    uint16
    """
    bits = 10 + 2 * (layout & 1)
    if layout < 2:
        bit = i * bits
        word = packed[bit >> 3] | packed[(bit >> 3) + 1] << 8
        return np.uint16(word >> (bit & 7) & ((1 << bits) - 1))
    at, odd, low = 3 * (i >> 1), i & 1, bits - 8
    return np.uint16(packed[at + 2 * odd] << low | packed[at + 1] >> 4 * odd & ((1 << low) - 1))


@numba.njit(nogil=True, error_model="numpy")
def _singly(layout, packed, first, out, start, stop):  # type: ignore[no-untyped-def]
    """Unpack ``out[start:stop]`` pixel by pixel; ``out[0]`` is pixel ``first``."""
    for i in range(start, stop):
        out[i] = pixel_at(layout, packed, first + i)


@numba.njit(nogil=True, error_model="numpy")
def _steps(layout, packed, at, pixels):  # type: ignore[no-untyped-def]
    """Give how many steps from byte ``at`` load nothing beyond the end, and their bytes."""
    step_bytes = STEP // _GROUP[layout] * _SIZE[layout]
    room = (packed.size - at - _SPAN[layout]) // step_bytes + 1
    return max(0, min(pixels // STEP, room)), step_bytes


@numba.njit(nogil=True, error_model="numpy")
def unpack_row(layout, packed, first, out):  # type: ignore[no-untyped-def]
    """Unpack consecutive pixels of a line; for kernels.

    Parameters
    ----------
    layout : int, of ``LAYOUTS``
    packed : ndarray of uint8, (n,), C-contiguous
        A line, or frame, packed by itself.
    first : int
        Number of the first pixel to unpack. It may lie anywhere; where a group begins is fastest.
    out : ndarray of uint16, (pixels,), C-contiguous
        Filled. Nothing checks that ``packed`` has as many pixels from ``first`` on.
    """
    done = min(-first & (_GROUP[layout] - 1), out.size)  # groups have 2 or 4 pixels
    _singly(layout, packed, first, out, 0, done)
    at = (first + done) // _GROUP[layout] * _SIZE[layout]
    steps, size = _steps(layout, packed, at, out.size - done)
    if layout == 0:
        for k in range(steps):
            _lsb10(packed, at + k * size, out, done + k * STEP)
    elif layout == 1:
        for k in range(steps):
            _lsb12(packed, at + k * size, out, done + k * STEP)
    elif layout == 2:
        for k in range(steps):
            _gige10(packed, at + k * size, out, done + k * STEP)
    else:
        for k in range(steps):
            _gige12(packed, at + k * size, out, done + k * STEP)
    _singly(layout, packed, first, out, done + steps * STEP, out.size)


@numba.njit(nogil=True, error_model="numpy")
def _stream(layout, packed, out):  # type: ignore[no-untyped-def]
    """Unpack most of a large frame past the caches; gives how many pixels are done."""
    done = (-np.int64(out.ctypes.data) & (_ALIGNED - 1)) // out.itemsize
    if done % _GROUP[layout] or done > out.size:
        return 0  # no step of whole groups ever writes to a multiple
    _singly(layout, packed, 0, out, 0, done)
    at = done // _GROUP[layout] * _SIZE[layout]
    steps, size = _steps(layout, packed, at, out.size - done)
    if layout == 0:
        for k in range(steps):
            _stream_lsb10(packed, at + k * size, out, done + k * STEP)
    elif layout == 1:
        for k in range(steps):
            _stream_lsb12(packed, at + k * size, out, done + k * STEP)
    elif layout == 2:
        for k in range(steps):
            _stream_gige10(packed, at + k * size, out, done + k * STEP)
    else:
        for k in range(steps):
            _stream_gige12(packed, at + k * size, out, done + k * STEP)
    settle()
    return done + steps * STEP


def unpack_frame(layout, packed, out):  # type: ignore[no-untyped-def]
    """Unpack a frame; ``out`` as :func:`unpack_row` has it, from its first pixel."""
    done = _stream(layout, packed, out) if out.size >= STREAMED else 0
    unpack_row(layout, packed, done, out[done:])


def compile_unpack(packing: str, bits: int) -> Callable[[Any, Any], None]:
    """Compile (or load from the cache) what unpacks a frame.

    Returns
    -------
    callable
        ``unpack(packed, out)``: uint8 (n,) and uint16 (pixels,), C-contiguous and aligned.
    """
    return functools.partial(_compiled(), LAYOUTS[packing, bits])


@functools.cache
def _compiled() -> Callable[..., None]:
    n = numba.types
    packed = n.Array(n.uint8, 1, "C", readonly=True)
    signature = n.void(n.int64, packed, n.uint16[::1])
    return compile_kernel(unpack_frame, signature, nogil=True, error_model="numpy")
