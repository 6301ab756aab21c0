"""The entropy coder's loops for numba. Knows arrays; what they mean is said in ``rans``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.kernel_cache import compile_kernel

#: Values beyond half of this, in units of their class, always go beside the table.
WINDOW = 4096


class RansKernels(NamedTuple):
    """The compiled loops, and the histogram made by one."""

    spreads: Callable[..., int]
    histogram: Callable[..., Any]
    symbols: Callable[..., int]
    encode: Callable[..., int]
    decode: Callable[..., int]
    values: Callable[..., int]


def add_up(values, out):  # type: ignore[no-untyped-def]
    """Give the sum of the magnitudes of each row."""
    for r in range(values.shape[0]):
        total, row = np.int64(0), values[r]
        for first in range(0, row.size, 256):
            part = np.int32(0)  # 256 magnitudes below 2²³ fit
            for i in range(first, min(first + 256, row.size)):
                part += abs(row[i])
            total += part
        out[r] = total
    return 0


def count_values(values, classes, shift, counts):  # type: ignore[no-untyped-def]
    """Count the values of each class in its units, those beyond the window at its ends.

    ``counts`` is (4, classes, window), to be added up: four in turn, as a count that was just
    written cannot be read at once.
    """
    half = np.int32(counts.shape[2] // 2)
    n = values.shape[1]
    for r in range(values.shape[0]):
        row, k = values[r], classes[r]
        a, b, c, d = counts[0, k], counts[1, k], counts[2, k], counts[3, k]
        down = shift[k]
        for i in range(0, n - 3, 4):
            a[max(min(row[i] >> down, half - 1), -half) + half] += 1
            b[max(min(row[i + 1] >> down, half - 1), -half) + half] += 1
            c[max(min(row[i + 2] >> down, half - 1), -half) + half] += 1
            d[max(min(row[i + 3] >> down, half - 1), -half) + half] += 1
        for i in range(n // 4 * 4, n):
            a[max(min(row[i] >> down, half - 1), -half) + half] += 1
    return 0


def find_symbols(  # type: ignore[no-untyped-def]
    values, classes, shift, least, count, symbols, planes, escaped
):
    """Give values their symbols and low bits, a byte each; escaped ones as far as there is room.

    Gives how many are escaped.
    """
    found, at = 0, np.int64(0)
    for r in range(values.shape[0]):
        k = classes[r]
        down, first, n = shift[k], least[k], count[k]
        row = values[r]
        for bit in range(down):
            plane = planes[at : at + row.size]
            for i in range(row.size):
                plane[i] = np.uint8((row[i] >> np.int32(bit)) & np.int32(1))
            at += row.size
        for i in range(values.shape[1]):
            s = (values[r, i] >> down) - first
            if s < 0 or s >= n:
                s = n
                if found < escaped.size:
                    escaped[found] = values[r, i]
                found += 1
            symbols[r, i] = s
    return found


def encode_symbols(  # type: ignore[no-untyped-def]
    symbols, classes, frequency, starts, states, words
):
    """Code symbols, the last first; words fill ``words`` from its end. Gives their number."""
    lanes = states.size
    n = symbols.shape[1]
    at = words.size
    for r in range(symbols.shape[0] - 1, -1, -1):
        size = frequency[classes[r]]
        start = starts[classes[r]]
        for first in range((n - 1) // lanes * lanes, -1, -lanes):
            for lane in range(min(lanes, n - first) - 1, -1, -1):
                s = symbols[r, first + lane]
                f = np.uint64(size[s])
                x = np.uint64(states[lane])
                if x >= f << np.uint64(20):
                    at -= 1
                    words[at] = np.uint16(x & np.uint64(0xFFFF))
                    x >>= np.uint64(16)
                small = np.uint32(x)
                quotient = small // np.uint32(f)
                states[lane] = np.uint32(
                    (quotient << np.uint32(12)) + (small - quotient * np.uint32(f)) + start[s]
                )
    return words.size - at


def decode_symbols(classes, slots, states, words, symbols):  # type: ignore[no-untyped-def]
    """Decode symbols; gives how many words were taken, or -1 if they ended too early."""
    lanes = states.size
    n = symbols.shape[1]
    at = 0
    for r in range(symbols.shape[0]):
        table = slots[classes[r]]
        for first in range(0, n, lanes):
            here = min(lanes, n - first)
            if words.size - at < here:
                # The end is near: look at each.
                for lane in range(here):
                    x = states[lane]
                    slot = table[x & np.uint32(0xFFF)]
                    symbols[r, first + lane] = slot & np.uint32(0xFF)
                    x = ((slot >> np.uint32(20)) + np.uint32(1)) * (x >> np.uint32(12)) + (
                        (slot >> np.uint32(8)) & np.uint32(0xFFF)
                    )
                    if x < np.uint32(65536):
                        if at == words.size:
                            return -1
                        x = (x << np.uint32(16)) | np.uint32(words[at])
                        at += 1
                    states[lane] = x
                continue
            for lane in range(here):
                x = states[lane]
                slot = table[x & np.uint32(0xFFF)]
                symbols[r, first + lane] = slot & np.uint32(0xFF)
                x = ((slot >> np.uint32(20)) + np.uint32(1)) * (x >> np.uint32(12)) + (
                    (slot >> np.uint32(8)) & np.uint32(0xFFF)
                )
                low = x < np.uint32(65536)
                x = (x << np.uint32(16)) | np.uint32(words[at]) if low else x
                at += low
                states[lane] = x
    return at


def join_values(  # type: ignore[no-untyped-def]
    symbols, classes, shift, least, count, planes, escaped, values
):
    """Make values of symbols, low bits and escapes; gives how many escapes there are."""
    at, found = np.int64(0), np.int64(0)
    n = symbols.shape[1]
    for r in range(symbols.shape[0]):
        k = classes[r]
        up, first, escape = shift[k], least[k], count[k]
        row, to = symbols[r], values[r]
        beside = 0
        for i in range(n):
            to[i] = (np.int32(row[i]) + first) << up
            beside += np.int32(row[i]) == escape
        for bit in range(up):
            plane = planes[at : at + n]
            for i in range(n):
                to[i] |= np.int32(plane[i]) << np.int32(bit)
            at += n
        if beside:
            for i in range(n):
                if np.int32(row[i]) == escape:
                    if found < escaped.size:
                        to[i] = escaped[found]
                    found += 1
    return found


@functools.cache
def compile_rans() -> RansKernels:
    """Compile the loops, or load them from the cache."""
    n = numba.types
    i8, read = n.int64, True

    def row(kind: Any) -> Any:
        return n.Array(kind, 1, "C", readonly=read)

    cube, table = n.int32[:, ::1], n.uint32[:, ::1]
    kinds, ints, symbols = row(n.uint8), row(n.int32), n.uint8[:, ::1]
    words, states = n.uint16[::1], n.uint32[::1]
    counting = compile_kernel(count_values, i8(cube, kinds, ints, n.int64[:, :, ::1]), nogil=True)

    def histogram(values: Any, classes: Any, shift: Any) -> Any:
        counts = np.zeros((4, len(shift), WINDOW), np.int64)
        counting(values, classes, shift, counts)
        return counts.sum(axis=0)

    signatures: dict[Callable[..., Any], Any] = {
        find_symbols: i8(cube, kinds, ints, ints, ints, symbols, n.uint8[::1], n.int32[::1]),
        encode_symbols: i8(symbols, kinds, table, table, states, words),
        decode_symbols: i8(kinds, table, states, row(n.uint16), symbols),
        join_values: i8(symbols, kinds, ints, ints, ints, kinds, ints, cube),
    }
    return RansKernels(
        compile_kernel(add_up, i8(cube, n.int64[::1]), nogil=True),
        histogram,
        *(compile_kernel(loop, kind, nogil=True) for loop, kind in signatures.items()),
    )
