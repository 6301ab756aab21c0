"""The unpacking loops for numba, compiled when a camera's format is first met.

Each goes over whole groups: the fewest pixels that fill whole bytes. Knows nothing but arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from pipeline.compute.kernel_cache import compile_kernel

U2 = np.uint16


def lsb10(data, groups, out):  # type: ignore[no-untyped-def]
    """Unpack Mono10p: 4 pixels in 5 bytes."""
    for g in range(groups):
        a, b, c = U2(data[5 * g]), U2(data[5 * g + 1]), U2(data[5 * g + 2])
        d, e = U2(data[5 * g + 3]), U2(data[5 * g + 4])
        out[4 * g] = a | (b & U2(0x03)) << 8
        out[4 * g + 1] = b >> 2 | (c & U2(0x0F)) << 6
        out[4 * g + 2] = c >> 4 | (d & U2(0x3F)) << 4
        out[4 * g + 3] = d >> 6 | e << 2


def lsb12(data, groups, out):  # type: ignore[no-untyped-def]
    """Unpack Mono12p: 2 pixels in 3 bytes."""
    for g in range(groups):
        a, b, c = U2(data[3 * g]), U2(data[3 * g + 1]), U2(data[3 * g + 2])
        out[2 * g] = a | (b & U2(0x0F)) << 8
        out[2 * g + 1] = b >> 4 | c << 4


def gige10(data, groups, out):  # type: ignore[no-untyped-def]
    """Unpack Mono10Packed: 2 pixels in 3 bytes."""
    for g in range(groups):
        a, b, c = U2(data[3 * g]), U2(data[3 * g + 1]), U2(data[3 * g + 2])
        out[2 * g] = a << 2 | b & U2(0x03)
        out[2 * g + 1] = c << 2 | b >> 4 & U2(0x03)


def gige12(data, groups, out):  # type: ignore[no-untyped-def]
    """Unpack Mono12Packed: 2 pixels in 3 bytes."""
    for g in range(groups):
        a, b, c = U2(data[3 * g]), U2(data[3 * g + 1]), U2(data[3 * g + 2])
        out[2 * g] = a << 4 | b & U2(0x0F)
        out[2 * g + 1] = c << 4 | b >> 4


LOOPS = {("lsb", 10): lsb10, ("lsb", 12): lsb12, ("gige", 10): gige10, ("gige", 12): gige12}


def compile_unpack(packing: str, bits: int) -> Callable[[Any, int, Any], None]:
    """Compile (or load from the cache) the loop of one layout."""
    n = numba.types
    signature = n.void(n.Array(n.uint8, 1, "C", readonly=True), n.int64, n.uint16[::1])
    return compile_kernel(LOOPS[packing, bits], signature, nogil=True)
