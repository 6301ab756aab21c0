"""One band of the pixel pass for numba: a row of up to four lines, and its bad pixels.

Around the inner loop (:mod:`pipeline.compute.vector_rows`) stands what depends on the row: whether
it needs care, which of its samples are bad, what is rare enough to be counted one by one. Knows
packed pixels, nothing of tiles or threads.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numba
import numpy as np

from pipeline.compute.tables import INVALID, LIMITS
from pipeline.compute.unpack_kernels import pixel_at, unpack_row
from pipeline.compute.vector_bad import between_in_lines
from pipeline.compute.vector_rows import work_on_rows
from pipeline.compute.vectors import ROUNDER
from pipeline.reflectance import SCALE

F4 = np.float32
NOUGHT = F4(0.0)
#: Lines of a strip: those of one row of the finest preview.
STRIP: Final = 4

# Reference counts are off (nothing here owns memory): two threads would fight over them.
helper = numba.njit(nogil=True, error_model="numpy", _nrt=False)
# What every row goes through: a call would pass some sixty values over the stack.
inlined = numba.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)


class Rounding(NamedTuple):
    """How a reflectance becomes a stored value: one loop serves all types."""

    scale: np.float32
    rounder: np.float32
    least: np.float32
    greatest: np.float32
    unknown: np.float32


def rounding(kind: str | None) -> Rounding:
    """Give the numbers for a reflectance type (any, where it is not stored)."""
    if kind is None or kind == "float32":
        values = (1.0, 0.0, -np.inf, np.inf, np.nan)
    else:
        values = (SCALE, ROUNDER, *LIMITS[kind], INVALID[kind])
    return Rounding(*map(F4, values))


@inlined
def _value(count, black, gain, factors, n):  # type: ignore[no-untyped-def]
    """Give the reflectance of a count of line ``n``, before the scale of that line."""
    if factors is None:
        return (F4(count) - black) * gain
    return ((F4(count) - factors[1, n]) - black) * gain


@inlined
def _times(scale, factors, n):  # type: ignore[no-untyped-def]
    """Give what a value of line ``n`` is multiplied by, in one step, to be stored."""
    return scale if factors is None else factors[0, n] * scale


@inlined
def _was_counted(count, black, factors, n):  # type: ignore[no-untyped-def]
    """Tell whether a bad pixel of line ``n`` was counted as below black, in a row with care."""
    if factors is None:
        return F4(count) < black
    return F4(count) - np.rint(factors[1, n]) < black


@helper
def _count_bright(row, level, hit):  # type: ignore[no-untyped-def]
    """Add 1 per sample where the row is saturated."""
    for s in range(row.size):
        hit[s] += np.uint16(np.int32(row[s]) >= level)


@helper
def _count_clipped(row, black, gain, to, factors, n):  # type: ignore[no-untyped-def]
    """Count the values of a row that are beyond the limits once they are rounded."""
    clipped = np.int32(0)
    scale = _times(to.scale, factors, n)
    for s in range(row.size):
        v = _value(row[s], black[s], gain[s], factors, n)
        x = (v * scale + to.rounder) - to.rounder
        # integer sums of 32 bits are cast back to 32 bits: numba would widen them to 64
        clipped = np.int32(clipped + np.int32((x < to.least) | (x > to.greatest)))
    return clipped


@inlined
def _rows(  # type: ignore[no-untyped-def]
    counts,
    r,
    rb,
    m,
    black,
    gain,
    dark,
    low,
    sums,
    k,
    out,
    n,
    b,
    extra,
    fix,
    first,
    last,
    care,
    past,
    factors,
):
    """Work on row ``b`` of lines ``n`` … ``n + m - 1``, whose counts begin at ``r``, ``rb``."""
    if m == 4:
        at, to = (r, r + 1, r + 2, r + 3), (n, n + 1, n + 2, n + 3)
        if care:
            return work_on_rows(
                *(counts, at, rb, black, gain, dark, low, sums, k),
                *(out, to, b, None, fix, first, last, True, None, factors),
            )
        if not past:
            return work_on_rows(
                *(counts, at, rb, black, gain, dark, low, sums, k),
                *(out, to, b, None, fix, first, last, None, None, factors),
            )
        return work_on_rows(
            *(counts, at, rb, black, gain, dark, low, sums, k),
            *(out, to, b, extra, fix, first, last, None, True, factors),
        )
    changed = np.int32(0)
    brightest = np.int32(0)
    done = 0
    if m > 1 and not care:
        changed, brightest = work_on_rows(
            *(counts, (r, r + 1), rb, black, gain, dark, low, sums, k),
            *(out, (n, n + 1), b, None, fix, first, last, None, None, factors),
        )
        done = 2
    while done < m:
        if care:
            more, larger = work_on_rows(
                *(counts, (r + done,), rb, black, gain, dark, low, sums, k),
                *(out, (n + done,), b, None, fix, first, last, True, None, factors),
            )
        else:
            more, larger = work_on_rows(
                *(counts, (r + done,), rb, black, gain, dark, low, sums, k),
                *(out, (n + done,), b, None, fix, first, last, None, None, factors),
            )
        changed |= more
        brightest = max(brightest, larger)
        done += 1
    return changed, brightest


@inlined
def correct_row(  # type: ignore[no-untyped-def]
    raw,
    layout,
    scratch,
    n,
    m,
    b,
    level,
    to,
    black,
    gain,
    dark,
    safe,
    bright,
    low,
    sums,
    k,
    out,
    extra,
    fix,
    first,
    last,
    past,
    factors,
):
    """Work on row ``b`` of ``m`` consecutive lines that are there.

    Gives values clipped, and whether the row was stored a second time, without what is extra.
    """
    if raw.ndim == 3:
        counts, r, rb = raw, n, b
    else:
        for j in range(m):
            unpack_row(layout, raw[n + j], b * scratch.shape[2], scratch[j, 0])
        counts, r, rb = scratch, 0, 0
    care = safe < 0
    changed, brightest = _rows(
        *(counts, r, rb, m, black, gain, dark, low, sums, k, out, n, b),
        *(extra, fix, first, last, care, past, factors),
    )
    clipped = np.int64(0)
    # bad pixels are neither bright nor dark (with care: else ``dark`` is 0 there)
    if level >= 0 and brightest >= level:
        for j in range(m):
            _count_bright(counts[r + j, rb], level, bright[n + j])
            for i in range(first, last):
                s = fix[i, 1]
                bright[n + j, s] -= np.uint16(np.int32(counts[r + j, rb, s]) >= level)
    if care and low is not None:
        for j in range(m):
            for i in range(first, last):
                s = fix[i, 1]
                low[n + j, s] -= np.uint16(
                    _was_counted(counts[r + j, rb, s], black[b, s], factors, n + j)
                )
    again = not care and brightest > safe and out is not None
    if again:  # with care; counted and summed up it is already
        changed, _ = _rows(
            *(counts, r, rb, m, black, gain, dark, None, None, k, out, n, b),
            *(None, fix, first, last, True, False, factors),
        )
    if changed != 0:
        for j in range(m):
            clipped += _count_clipped(counts[r + j, rb], black[b], gain[b], to, factors, n + j)
    return clipped, again


@helper
def _count_at(raw, layout, samples, n, b, s):  # type: ignore[no-untyped-def]
    """Give one count."""
    if raw.ndim == 3:  # unsigned: numba looks whether other indices count from the end
        return raw[np.uintp(n), np.uintp(b), np.uintp(s)]
    return pixel_at(layout, raw[n], b * samples + s)


@inlined
def _count_in_lines(raw, layout, samples, n, b, s):  # type: ignore[no-untyped-def]
    """Give one count of each line of a strip."""
    return (
        _count_at(raw, layout, samples, n, b, s),
        _count_at(raw, layout, samples, n + 1, b, s),
        _count_at(raw, layout, samples, n + 2, b, s),
        _count_at(raw, layout, samples, n + 3, b, s),
    )


@inlined
def _neighbours(fix, i, black, gain):  # type: ignore[no-untyped-def]
    """Give sample and bands of a bad pixel's neighbours along the spectrum, and their tables."""
    s, lo, hi = np.uintp(fix[i, 1]), fix[i, 2], np.uintp(fix[i, 3])
    at = np.uintp(max(lo, 0))
    return s, lo, hi, black[at, s], gain[at, s], black[hi, s], gain[hi, s]


@inlined
def _between(raw, layout, samples, n, by, w, factors):  # type: ignore[no-untyped-def]
    """Give the value between a bad pixel's neighbours, before the scale of the line."""
    s, lo, hi, black_lo, gain_lo, black_hi, gain_hi = by
    below = _value(_count_at(raw, layout, samples, n, lo, s), black_lo, gain_lo, factors, n)
    above = _value(_count_at(raw, layout, samples, n, hi, s), black_hi, gain_hi, factors, n)
    return below + (above - below) * w


@inlined
def _stored(v, scale, to):  # type: ignore[no-untyped-def]
    """Give a value as it is stored, and 1 where that is the limit instead."""
    x = (v * scale + to.rounder) - to.rounder
    return min(max(x, to.least), to.greatest), np.int64((x < to.least) | (x > to.greatest))


@helper
def mend_row(  # type: ignore[no-untyped-def]
    raw,
    layout,
    valid,
    start,
    stop,
    k,
    to,
    black,
    gain,
    first,
    last,
    fix,
    weight,
    sums,
    out,
    factors,
):
    """Bad pixels of a row take the value between their neighbours. Returns values clipped."""
    clipped = np.int64(0)
    for i in range(first, last):
        if fix[i, 2] < 0:
            continue
        b, s = fix[i, 0], fix[i, 1]
        by = _neighbours(fix, i, black, gain)
        for n in range(start, stop):
            if valid[n] == 0:
                continue
            v = _between(raw, layout, black.shape[1], n, by, weight[i], factors)
            if sums is not None:
                sums[k, b, s // STRIP] += v * _times(F4(1.0), factors, n)
            if out is not None:
                out[n, b, s], beyond = _stored(v, _times(to.scale, factors, n), to)
                clipped += beyond
    return clipped


@inlined
def foresee_row(  # type: ignore[no-untyped-def]
    raw, layout, start, to, black, gain, first, last, fix, weight, extra, factors
):
    """Put the values of a row's bad pixels into ``extra``; tells whether all are in the limits."""
    inside = True
    samples = black.shape[1]
    for i in range(first, last):
        s, lo, hi, black_lo, gain_lo, black_hi, gain_hi = _neighbours(fix, i, black, gain)
        if lo < 0:  # its values stay 0
            continue
        values, beyond = between_in_lines(
            _count_in_lines(raw, layout, samples, start, lo, s),
            _count_in_lines(raw, layout, samples, start, hi, s),
            (black_lo, gain_lo, black_hi, gain_hi),
            *(weight[i], factors, start, to),
        )
        inside = inside and not beyond
        for j in range(STRIP):
            extra[i, j] = values[j]
    return inside
