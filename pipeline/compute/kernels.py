"""The fused pixel pass for numba: strips of lines, tiles of bands; each raw pixel is read once.

The lines of one preview row go through the inner loop (:mod:`pipeline.compute.vector_rows`)
together, which reads each row of the references once for all of them. Threads take one tile of
bands after another, and go through it strip by strip, so that its references stay in a core's own
cache. What is rare (saturated or clipped values, lost lines, bad pixels) is dealt with
row by row, in plain loops. Imported only when a CPU backend is armed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numba
import numpy as np

from pipeline.compute.cells import to_float32, to_int16
from pipeline.compute.interface import ALIGNMENT
from pipeline.compute.kernel_cache import compile_kernel
from pipeline.compute.tables import INVALID, LIMITS
from pipeline.compute.unpack_kernels import pixel_at, unpack_row
from pipeline.compute.vector_ops import settle, take_number
from pipeline.compute.vector_rows import ROUNDER, WIDTHS, work_on_rows
from pipeline.reflectance import SCALE

F4 = np.float32
I8: Any = np.int64
NOUGHT = F4(0.0)
#: Lines of a strip: those of one row of the finest preview.
STRIP: Final = 4
#: Results of so many bytes or more are written past the caches, which would not hold them.
STREAMED_BYTES: Final = 4 << 20
#: Samples that are worked on together.
TOGETHER: Final = WIDTHS[0]
#: Bands of a tile: with 1024 samples, 160 KiB of references.
TILE: Final = 16

# Reference counts are off (nothing here owns memory): two threads would fight over them.
helper = numba.njit(nogil=True, error_model="numpy", _nrt=False)
_to_int16, _to_float32 = helper(to_int16), helper(to_float32)


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


@helper
def _count_bright(row, level, hit):  # type: ignore[no-untyped-def]
    """Add 1 per sample where the row is saturated."""
    for s in range(row.size):
        hit[s] += np.uint16(np.int32(row[s]) >= level)


@helper
def _count_clipped(row, black, gain, to):  # type: ignore[no-untyped-def]
    """Count the values of a row that are beyond the limits once they are rounded."""
    clipped = np.int32(0)
    for s in range(row.size):
        v = (F4(row[s]) - black[s]) * gain[s]
        x = (v * to.scale + to.rounder) - to.rounder
        # integer sums of 32 bits are cast back to 32 bits: numba would widen them to 64
        clipped = np.int32(clipped + np.int32((x < to.least) | (x > to.greatest)))
    return clipped


@helper
def _rows(  # type: ignore[no-untyped-def]
    counts, r, rb, m, black, gain, dark, low, sums, k, out, n, b, extra, fix, i, last, care, past
):
    """Work on row ``b`` of lines ``n`` … ``n + m - 1``, whose counts begin at ``r``, ``rb``."""
    samples = black.shape[1]
    if m == 4:
        at, to = (r, r + 1, r + 2, r + 3), (n, n + 1, n + 2, n + 3)
        if care:
            return work_on_rows(
                *(counts, at, rb, black, gain, dark, low, sums, k),
                *(out, to, b, 0, samples, None, True, None),
            )
        if not past:
            return work_on_rows(
                *(counts, at, rb, black, gain, dark, low, sums, k),
                *(out, to, b, 0, samples, None, None, None),
            )
        brightest, done = np.int32(0), I8(0)
        while extra is not None and i < last:  # only where it must be, as it costs a quarter
            special = I8(fix[i, 1]) // TOGETHER * TOGETHER
            _, larger = work_on_rows(
                *(counts, at, rb, black, gain, dark, low, sums, k),
                *(out, to, b, done, special, None, None, True),
            )
            brightest = max(brightest, larger)
            done = min(special + TOGETHER, samples)
            _, larger = work_on_rows(
                *(counts, at, rb, black, gain, dark, low, sums, k),
                *(out, to, b, special, done, extra, None, True),
            )
            brightest = max(brightest, larger)
            while i < last and fix[i, 1] < done:
                i += 1
        changed, larger = work_on_rows(
            *(counts, at, rb, black, gain, dark, low, sums, k),
            *(out, to, b, done, samples, None, None, True),
        )
        return changed, max(brightest, larger)
    changed = np.int32(0)
    brightest = np.int32(0)
    done = 0
    if m > 1 and not care:
        changed, brightest = work_on_rows(
            *(counts, (r, r + 1), rb, black, gain, dark, low, sums, k),
            *(out, (n, n + 1), b, 0, samples, None, None, None),
        )
        done = 2
    while done < m:
        if care:
            more, larger = work_on_rows(
                *(counts, (r + done,), rb, black, gain, dark, low, sums, k),
                *(out, (n + done,), b, 0, samples, None, True, None),
            )
        else:
            more, larger = work_on_rows(
                *(counts, (r + done,), rb, black, gain, dark, low, sums, k),
                *(out, (n + done,), b, 0, samples, None, None, None),
            )
        changed |= more
        brightest = max(brightest, larger)
        done += 1
    return changed, brightest


@helper
def _run(  # type: ignore[no-untyped-def]
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
        *(extra, fix, first, last, care, past),
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
                low[n + j, s] -= np.uint16(F4(counts[r + j, rb, s]) < black[b, s])
    again = not care and brightest > safe and out is not None
    if again:  # with care; counted and summed up it is already
        changed, _ = _rows(
            *(counts, r, rb, m, black, gain, dark, None, None, k, out, n, b),
            *(None, fix, first, last, True, False),
        )
    if changed != 0:
        for j in range(m):
            clipped += _count_clipped(counts[r + j, rb], black[b], gain[b], to)
    return clipped, again


@helper
def _count_at(raw, layout, samples, n, b, s):  # type: ignore[no-untyped-def]
    """Give one count."""
    if raw.ndim == 3:
        return raw[n, b, s]
    return pixel_at(layout, raw[n], b * samples + s)


@helper
def _neighbours(row, black, gain):  # type: ignore[no-untyped-def]
    """Give sample and bands of a bad pixel's neighbours along the spectrum, and their tables."""
    _, s, lo, hi = row
    return s, lo, hi, black[lo, s], gain[lo, s], black[hi, s], gain[hi, s]


@helper
def _between(raw, layout, samples, n, by, w):  # type: ignore[no-untyped-def]
    """Give the value between a bad pixel's neighbours."""
    s, lo, hi, black_lo, gain_lo, black_hi, gain_hi = by
    below = (F4(_count_at(raw, layout, samples, n, lo, s)) - black_lo) * gain_lo
    above = (F4(_count_at(raw, layout, samples, n, hi, s)) - black_hi) * gain_hi
    return below + (above - below) * w


@helper
def _stored(v, to):  # type: ignore[no-untyped-def]
    """Give a value as it is stored, and 1 where that is the limit instead."""
    x = (v * to.scale + to.rounder) - to.rounder
    return min(max(x, to.least), to.greatest), np.int64((x < to.least) | (x > to.greatest))


@helper
def _mend(  # type: ignore[no-untyped-def]
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
):
    """Bad pixels of a row take the value between their neighbours. Returns values clipped."""
    clipped = np.int64(0)
    for i in range(first, last):
        b, s, lo, _ = fix[i]
        if lo < 0:
            continue
        by = _neighbours(fix[i], black, gain)
        for n in range(start, stop):
            if valid[n] == 0:
                continue
            v = _between(raw, layout, black.shape[1], n, by, weight[i])
            if sums is not None:
                sums[k, b, s // STRIP] += v
            if out is not None:
                out[n, b, s], beyond = _stored(v, to)
                clipped += beyond
    return clipped


@helper
def _foresee(  # type: ignore[no-untyped-def]
    raw, layout, start, to, black, gain, first, last, fix, weight, extra
):
    """Put the values of a row's bad pixels into ``extra``; tells whether all are in the limits."""
    inside = True
    for i in range(first, last):
        _, s, lo, _ = fix[i]
        if lo < 0:
            continue
        by = _neighbours(fix[i], black, gain)
        for j in range(STRIP):
            v = _between(raw, layout, black.shape[1], start + j, by, weight[i])
            extra[j, s] = v
            inside = inside and _stored(v, to)[1] == 0
    return inside


@helper
def _forget(first, last, fix, extra):  # type: ignore[no-untyped-def]
    """Make ``extra`` zero again."""
    for i in range(first, last):
        for j in range(STRIP):
            extra[j, fix[i, 1]] = NOUGHT


@helper
def _means(sums, share, lines, first, last, means):  # type: ignore[no-untyped-def]
    """Give the means of a complete preview row."""
    if means.itemsize == 2:
        _to_int16(sums, share, lines, first, last, means)
    else:
        _to_float32(sums, share, lines, first, last, means)


def pass_bands(  # type: ignore[no-untyped-def]
    raw,  # (lines, bands, samples), or uint8 (lines, bytes) when packed
    layout,  # of the packed lines
    scratch,  # uint16 (4, 1, samples) of this thread, for packed lines
    valid,  # uint8 (lines,)
    turn,  # int64 (1,): the tile that is taken next
    phase,  # lines that strip 0 already has from the block before
    level,  # saturation, DN; −1: none
    to,  # Rounding
    black,  # float32 (bands, samples)
    gain,  # float32 (bands, samples)
    dark,  # uint16 (bands, samples): the least counts that are not below black; 0 at bad pixels
    safe,  # int32 (bands,): up to this count no value is clipped; −1: a row that needs care
    fix,  # int32 (n, 4), by bands
    fix_from,  # int32 (bands + 1,): where in fix each band begins
    weight,  # float32 (n,)
    blank,  # int32 (n, 2), by bands: pixels that give nothing, though their gain here is 0
    blank_from,  # int32 (bands + 1,): where in blank each band begins
    bright,  # uint16 (lines, samples) of this thread, zero before
    low,  # the same, or None: nothing is compared with black
    sums,  # float32 (strips, bands, cells), or None: no preview
    spare,  # row of sums for those that are complete; −1: each has its own
    share,  # float32 (bands, cells): see cells; or None: no preview
    means,  # int16 or float32 (strips, bands, cells), of complete strips; or None
    extra,  # float32 (4, samples) of this thread, zero
    out,  # (lines, bands, samples), or None: not stored
):
    """Work on tiles until none is left; see docs/compute.md. Returns values clipped."""
    lines, bands = valid.size, black.shape[0]
    past = False
    if out is not None:
        row_bytes = out.shape[2] * out.itemsize
        past = out.size * out.itemsize >= STREAMED_BYTES and row_bytes % ALIGNMENT == 0
        past = past and out.ctypes.data % ALIGNMENT == 0
    clipped = np.int64(0)
    tile = take_number(turn) * TILE
    while tile < bands:
        tile_end = min(tile + TILE, bands)
        for k in range((lines + phase + STRIP - 1) // STRIP):
            start = max(0, k * STRIP - phase)
            stop = min(lines, (k + 1) * STRIP - phase)
            complete = stop - start == STRIP
            row = k
            if spare >= 0 and complete:
                row = spare
            there = np.int64(0)
            for n in range(start, stop):
                there += np.int64(valid[n] != 0)
            for b in range(tile, tile_end):
                if sums is not None:
                    sums[row, b] = NOUGHT
                first, last = fix_from[b], fix_from[b + 1]
                mended = first == last
                if there == stop - start:
                    # What is written past the caches should not be touched again: a store there
                    # waits for memory. So bad pixels take their value before it is written.
                    if past and not mended and complete and safe[b] >= 0:
                        mended = _foresee(
                            *(raw, layout, start, to, black, gain),
                            *(first, last, fix, weight, extra),
                        )
                    if mended and first < last:
                        more, again = _run(
                            *(raw, layout, scratch, start, stop - start, b, level, to),
                            *(black, gain, dark, safe[b], bright, low, sums, row),
                            *(out, extra, fix, first, last, past),
                        )
                        if again:
                            _mend(
                                *(raw, layout, valid, start, stop, row, to, black, gain),
                                *(first, last, fix, weight, None, out),
                            )
                    else:
                        more, _ = _run(
                            *(raw, layout, scratch, start, stop - start, b, level, to),
                            *(black, gain, dark, safe[b], bright, low, sums, row),
                            *(out, None, fix, first, last, past),
                        )
                    clipped += more
                else:
                    for n in range(start, stop):
                        if valid[n] != 0:
                            more, _ = _run(
                                *(raw, layout, scratch, n, 1, b, level, to),
                                *(black, gain, dark, safe[b], bright, low, sums, row),
                                *(out, None, fix, first, last, past),
                            )
                            clipped += more
                        elif out is not None:
                            out[n, b] = to.unknown
                if first < last:
                    _forget(first, last, fix, extra)
                    if not mended:
                        clipped += _mend(
                            *(raw, layout, valid, start, stop, row, to, black, gain),
                            *(first, last, fix, weight, sums, out),
                        )
                if out is not None:
                    for i in range(blank_from[b], blank_from[b + 1]):
                        for n in range(start, stop):
                            out[n, b, blank[i, 1]] = to.unknown
            if means is not None and complete:
                _means(sums[row], share, F4(there), tile, tile_end, means[k])
        tile = take_number(turn) * TILE
    if past:
        settle()
    return clipped


def finish_lines(  # type: ignore[no-untyped-def]
    valid,  # uint8 (lines,)
    bands,
    bright,  # uint16 (threads, lines, samples); left zero
    low,  # the same
    planes,  # uint8 (3, samples)
    saturated,  # uint32 (lines,)
    below,  # uint32 (lines,)
    quality,  # uint8 (lines, 6, samples), or None
):
    """Bring the threads' counters together: totals of lines, and the quality mask."""
    threads, _, samples = bright.shape
    for n in range(valid.size):
        for t in range(1, threads):
            for s in range(samples):
                bright[0, n, s] += bright[t, n, s]
                bright[t, n, s] = 0
            for s in range(samples):
                low[0, n, s] += low[t, n, s]
                low[t, n, s] = 0
        high = np.int64(0)
        dim = np.int64(0)
        for s in range(samples):
            high += bright[0, n, s]
        for s in range(samples):
            dim += low[0, n, s]
        saturated[n] = np.uint32(high)
        below[n] = np.uint32(dim)
        if quality is not None:
            ok = np.uint8(valid[n] != 0)
            for s in range(samples):
                quality[n, 0, s] = np.uint8(min(bright[0, n, s], np.uint16(255)))
            for s in range(samples):
                quality[n, 2, s] = np.uint8(min(low[0, n, s], np.uint16(255)))
            for i in range(3):
                plane = (1, 3, 4)[i]
                for s in range(samples):
                    quality[n, plane, s] = ok * planes[i, s]
            quality[n, 5] = np.uint8(0 if ok else min(bands, 255))
        bright[0, n] = np.uint16(0)
        low[0, n] = np.uint16(0)


@functools.cache
def compile_pass(
    dtype: np.dtype[Any], kind: str | None, *, dark: bool, preview: str | None, packed: bool
) -> Callable[..., int]:
    """Compile (or load from the cache) :func:`pass_bands`.

    Parameters
    ----------
    dtype : uint8 or uint16, of the raw counts
    kind : reflectance type; None when it is not stored
    dark : whether counts are compared with black
    preview : type of preview rows; None when there are none
    packed : whether blocks are as the camera packed them
    """
    n = numba.types
    counts = n.uint8 if dtype == np.uint8 else n.uint16
    raw = n.Array(n.uint8, 2, "C", readonly=True)
    if not packed:  # a received block may be a read-only view
        raw = n.Array(counts, 3, "C", readonly=True)
    i8 = n.int64
    table, counter = n.float32[:, ::1], n.uint16[:, ::1]
    signature = n.int64(
        *(raw, i8, n.uint16[:, :, ::1], n.Array(n.uint8, 1, "C", readonly=True)),
        *(n.int64[::1], i8, n.int32, n.NamedUniTuple(n.float32, len(Rounding._fields), Rounding)),
        *(table, table, counter, n.int32[::1]),
        *(n.int32[:, ::1], n.int32[::1], n.float32[::1], n.int32[:, ::1], n.int32[::1]),
        *(counter, counter if dark else n.none),
        *(n.float32[:, :, ::1], i8, table) if preview else (n.none, i8, n.none),
        getattr(n, preview)[:, :, ::1] if preview else n.none,
        *(table, getattr(n, kind)[:, :, ::1] if kind else n.none),
    )
    return compile_kernel(pass_bands, signature, nogil=True, error_model="numpy", _nrt=False)


@functools.cache
def compile_finish(quality: bool) -> Callable[..., None]:
    """Compile (or load from the cache) :func:`finish_lines`."""
    n = numba.types
    counters = n.uint16[:, :, ::1]
    signature = n.void(
        *(n.Array(n.uint8, 1, "C", readonly=True), n.int64, counters, counters, n.uint8[:, ::1]),
        *(n.uint32[::1], n.uint32[::1], n.uint8[:, :, ::1] if quality else n.none),
    )
    return compile_kernel(finish_lines, signature, nogil=True, error_model="numpy", _nrt=False)
