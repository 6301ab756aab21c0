"""The entropy coder's loops for numba. Knows arrays; what they mean is said in ``rans``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.kernel_cache import compile_kernel

#: Values beyond half of this, in units of their class, always go beside the table.
WINDOW = 1024


class RansKernels(NamedTuple):
    """The compiled loops, and the histogram made by one."""

    spreads: Callable[..., int]
    histogram: Callable[..., Any]
    scaled: Callable[..., Any]
    symbols: Callable[..., int]
    encode: Callable[..., int]
    decode: Callable[..., int]
    values: Callable[..., int]


def add_up(values, every, out):  # type: ignore[no-untyped-def]
    """Give the sum of the magnitudes of each row, of each ``every``-th run of 256 values."""
    for r in range(values.shape[0]):
        total, row = np.int64(0), values[r]
        for first in range(0, row.size, 256 * every):
            # 256 magnitudes below 2²³ fit; of larger ones a poor table is chosen
            part = np.int32(0)
            for i in range(first, min(first + 256, row.size)):
                part += abs(np.int32(row[i]))
            total += part
        out[r] = total
    return 0


def count_values(values, classes, shift, every, counts):  # type: ignore[no-untyped-def]
    """Count values of each class in its units, those beyond the window at its ends.

    Counted is each ``every``-th run of 256 values. ``counts`` is (4, classes, window), to be added
    up: four in turn, as a count that was just written cannot be read at once.
    """
    half = np.int32(counts.shape[2] // 2)
    n = values.shape[1]
    for r in range(values.shape[0]):
        row, k = values[r], classes[r]
        a, b, c, d = counts[0, k], counts[1, k], counts[2, k], counts[3, k]
        down = shift[k]
        for first in range(0, n, 256 * every):
            end = min(first + 256, n)
            for i in range(first, end - 3, 4):
                a[max(min(row[i] >> down, half - 1), -half) + half] += 1
                b[max(min(row[i + 1] >> down, half - 1), -half) + half] += 1
                c[max(min(row[i + 2] >> down, half - 1), -half) + half] += 1
                d[max(min(row[i + 3] >> down, half - 1), -half) + half] += 1
            for i in range(first + (end - first) // 4 * 4, end):
                a[max(min(row[i] >> down, half - 1), -half) + half] += 1
    return 0


@numba.njit(nogil=True)
def _cost_of_unit(count, frequency, step):  # type: ignore[no-untyped-def]
    """Give the bits that one unit of frequency more, or less, costs; infinite if it cannot be."""
    if (step > 0 and count > 0) or (step < 0 and frequency > 1):
        return count * np.log2(frequency / (frequency + np.float64(step)))
    return np.inf


def scale_counts(counts, total, out):  # type: ignore[no-untyped-def]
    """Scale counts to frequencies of this sum; none that occurs becomes 0.

    What rounding leaves is given, or taken, where a unit changes the cost least.
    """
    everything = 0
    for i in range(counts.size):
        everything += counts[i]
    left = total
    for i in range(counts.size):
        out[i] = 0
        if counts[i] > 0:
            out[i] = max(np.int64(np.rint(counts[i] * (total / everything))), 1)
        left -= out[i]
    step = 1 if left > 0 else -1
    costs = np.empty(counts.size)
    for i in range(counts.size):
        costs[i] = _cost_of_unit(counts[i], out[i], step)
    while left != 0:
        best = int(np.argmin(costs))
        out[best] += step
        left -= step
        costs[best] = _cost_of_unit(counts[best], out[best], step)
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
        down, first, n = shift[k], least[k], np.uint32(count[k])
        row, to = values[r], symbols[r]
        for bit in range(down):
            plane = planes[at : at + row.size]
            for i in range(row.size):
                plane[i] = np.uint8((row[i] >> np.int32(bit)) & np.int32(1))
            at += row.size
        top = np.uint32(0)
        if down:
            for i in range(row.size):
                # below the first: a large number without a sign
                s = min(np.uint32(np.int32((row[i] >> down) - first)), n)
                top = max(top, s)
                to[i] = np.uint8(s)
        else:  # most rows; to shift by nothing would make 64 bits of each value
            for i in range(row.size):
                s = min(np.uint32(np.int32(row[i] - first)), n)
                top = max(top, s)
                to[i] = np.uint8(s)
        if top == n:
            for i in range(row.size):
                if to[i] == n:
                    if found < escaped.size:
                        escaped[found] = row[i]
                    found += 1
    return found


def encode_symbols(  # type: ignore[no-untyped-def]
    symbols, classes, frequency, starts, states, words
):
    """Code symbols, the last first; words fill ``words`` from its end. Gives their number.

    ``words`` has place for one more than there are symbols.
    """
    lanes = states.size
    n = symbols.shape[1]
    # Unsigned: numba looks whether other indices count from the end. And no branch takes a word or
    # not: which it is, nobody can foresee.
    at = np.uintp(words.size - 1)
    values = frequency.shape[1]
    inverse, limit = np.empty(values, np.float64), np.empty(values, np.uint32)
    rest = np.empty(values, np.uint32)
    for r in range(symbols.shape[0] - 1, -1, -1):
        size, start, row = frequency[classes[r]], starts[classes[r]], symbols[r]
        for i in range(values):
            # Above 1 / f by less than 2⁻⁵¹ of it: the product with a state below 2³² is never below
            # the quotient, nor above it by 1 / f, so that its whole part is that of the division.
            inverse[i] = (1.0 + 2.0**-52) / max(size[i], 1)
            limit[i] = (size[i] << np.uint32(20)) - np.uint32(1)  # of 2¹²: all bits
            rest[i] = np.uint32(4096) - size[i]
        for first in range((n - 1) // lanes * lanes, -1, -lanes):
            here = row[first : first + lanes]
            for back in range(here.size):
                lane = np.uintp(here.size - 1 - back)
                s, x = np.uintp(here[lane]), states[lane]
                words[at] = np.uint16(x)
                full = x > limit[s]
                at -= np.uintp(full)
                x >>= np.uint32(full) << np.uint32(4)
                quotient = np.uint32(np.int64(np.float64(x) * inverse[s]))
                # 4096 quotients, and what is left of x
                states[lane] = x + start[s] + quotient * rest[s]
    return words.size - 1 - np.int64(at)


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
                low = np.uint32(x < np.uint32(65536))
                # no branch: nobody can foresee it
                more = np.uint32(words[np.uintp(at)]) & (np.uint32(0) - low)
                states[lane] = (x << (low << np.uint32(4))) | more
                at += int(low)
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
def compile_rans(dtype: np.dtype[Any]) -> RansKernels:
    """Compile the loops for values of a type, or load them from the cache."""
    n = numba.types
    i8, read = n.int64, True

    def row(kind: Any) -> Any:
        return n.Array(kind, 1, "C", readonly=read)

    cube, table = n.Array(numba.from_dtype(dtype), 2, "C"), n.uint32[:, ::1]
    kinds, ints, symbols = row(n.uint8), row(n.int32), n.uint8[:, ::1]
    words, states = n.uint16[::1], n.uint32[::1]
    counting = compile_kernel(
        count_values, i8(cube, kinds, ints, i8, n.int64[:, :, ::1]), nogil=True
    )
    scaling = compile_kernel(scale_counts, i8(n.int64[::1], i8, n.int64[::1]), nogil=True)

    def histogram(values: Any, classes: Any, shift: Any, every: int) -> Any:
        counts = np.zeros((4, len(shift), WINDOW), np.int64)
        counting(values, classes, shift, every, counts)
        return counts.sum(axis=0)

    def scaled(counts: Any, total: int) -> Any:
        out = np.empty(len(counts), np.int64)
        scaling(counts, total, out)
        return out

    signatures: dict[Callable[..., Any], Any] = {
        find_symbols: i8(cube, kinds, ints, ints, ints, symbols, n.uint8[::1], n.int32[::1]),
        encode_symbols: i8(symbols, kinds, table, table, states, words),
        decode_symbols: i8(kinds, table, states, row(n.uint16), symbols),
        join_values: i8(symbols, kinds, ints, ints, ints, kinds, ints, cube),
    }
    return RansKernels(
        compile_kernel(add_up, i8(cube, i8, n.int64[::1]), nogil=True),
        histogram,
        scaled,
        *(compile_kernel(loop, kind, nogil=True) for loop, kind in signatures.items()),
    )
