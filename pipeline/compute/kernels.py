"""The fused pixel pass for numba: strips of lines, tiles of bands; each raw pixel is read once.

The lines of one preview row go through :mod:`pipeline.compute.row_kernels` together, which reads
each row of the references once for all of them. Threads take one tile of bands after another, and
go through it strip by strip, so that its references stay in a core's own cache. Imported only when
a CPU backend is armed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np

from pipeline.compute.cells import to_float32, to_int16
from pipeline.compute.interface import ALIGNMENT
from pipeline.compute.row_kernels import (
    F4,
    NOUGHT,
    STRIP,
    Rounding,
    correct_row,
    foresee_row,
    helper,
    mend_row,
)
from pipeline.compute.vector_ops import settle, take_number
from pipeline.kernel_cache import compile_kernel

#: Results of so many bytes or more are written past the caches, which would not hold them.
STREAMED_BYTES: Final = 4 << 20
#: Bands of a tile: with 1024 samples, 160 KiB of references.
TILE: Final = 16

_to_int16, _to_float32 = helper(to_int16), helper(to_float32)


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
    extra,  # float32 (n, 4) of this thread, before all 0
    out,  # (lines, bands, samples), or None: not stored
    factors,  # float32 (2, lines): scale and offset of each line; or None: 1 and 0
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
                        mended = foresee_row(
                            *(raw, layout, start, to, black, gain),
                            *(first, last, fix, weight, extra, factors),
                        )
                    if mended and first < last:
                        more, again = correct_row(
                            *(raw, layout, scratch, start, stop - start, b, level, to),
                            *(black, gain, dark, safe[b], bright, low, sums, row),
                            *(out, extra, fix, first, last, past, factors),
                        )
                        if again:
                            mend_row(
                                *(raw, layout, valid, start, stop, row, to, black, gain),
                                *(first, last, fix, weight, None, out, factors),
                            )
                    else:
                        more, _ = correct_row(
                            *(raw, layout, scratch, start, stop - start, b, level, to),
                            *(black, gain, dark, safe[b], bright, low, sums, row),
                            *(out, None, fix, first, last, past, factors),
                        )
                    clipped += more
                else:
                    for n in range(start, stop):
                        if valid[n] != 0:
                            more, _ = correct_row(
                                *(raw, layout, scratch, n, 1, b, level, to),
                                *(black, gain, dark, safe[b], bright, low, sums, row),
                                *(out, None, fix, first, last, past, factors),
                            )
                            clipped += more
                        elif out is not None:
                            out[n, b] = to.unknown
                if not mended:
                    clipped += mend_row(
                        *(raw, layout, valid, start, stop, row, to, black, gain),
                        *(first, last, fix, weight, sums, out, factors),
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


def take_factors(  # type: ignore[no-untyped-def]
    factors,  # float32 (2, lines), or (2, 1) for all lines
    bounds,  # float64 (n, 2): scale, and offset (DN)
    to,  # float32 (2, lines)
):
    """Copy a block's factors; gives which bounds all of them are within first, or n."""
    last = factors.shape[1] - 1
    scale, offset = np.float64(0), np.float64(0)
    for n in range(to.shape[1]):
        at = min(n, last)
        to[0, n], to[1, n] = factors[0, at], factors[1, at]
        scale = max(scale, np.float64(factors[0, at]))
        offset = max(offset, abs(np.float64(factors[1, at])))
    for i in range(bounds.shape[0]):
        if scale <= bounds[i, 0] and offset <= bounds[i, 1]:
            return i
    return bounds.shape[0]


def finish_lines(  # type: ignore[no-untyped-def]
    valid,  # uint8 (lines,)
    bands,
    bright,  # uint16 (threads, lines, samples); left zero
    low,  # the same
    planes,  # uint8 (3, samples)
    saturated,  # uint32 (lines,)
    below,  # uint32 (lines,)
    quality,  # uint8 (lines, 6, samples), or None
    shown,  # uint8 (lines,): what the planes that do not change from line to line show:
    # 0 nothing yet, 1 a line that is there, 2 one that is not
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
            if shown[n] != 2 - ok:
                for i in range(3):
                    plane = (1, 3, 4)[i]
                    for s in range(samples):
                        quality[n, plane, s] = ok * planes[i, s]
                quality[n, 5] = np.uint8(0 if ok else min(bands, 255))
                shown[n] = 2 - ok
        bright[0, n] = np.uint16(0)
        low[0, n] = np.uint16(0)


@functools.cache
def compile_pass(
    dtype: np.dtype[Any],
    kind: str | None,
    *,
    dark: bool,
    preview: str | None,
    packed: bool,
    factors: bool = False,
) -> Callable[..., int]:
    """Compile (or load from the cache) :func:`pass_bands`.

    Parameters
    ----------
    dtype : uint8 or uint16, of the raw counts
    kind : reflectance type; None when it is not stored
    dark : whether counts are compared with black
    preview : type of preview rows; None when there are none
    packed : whether blocks are as the camera packed them
    factors : whether lines have a scale and an offset
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
        *(n.int32[:, ::1], n.int32[::1], n.float32[::1]),
        *(n.int32[:, ::1], n.int32[::1]),
        *(counter, counter if dark else n.none),
        *(n.float32[:, :, ::1], i8, table) if preview else (n.none, i8, n.none),
        getattr(n, preview)[:, :, ::1] if preview else n.none,
        *(table, getattr(n, kind)[:, :, ::1] if kind else n.none),
        table if factors else n.none,
    )
    return compile_kernel(pass_bands, signature, nogil=True, error_model="numpy", _nrt=False)


@functools.cache
def compile_take() -> Callable[..., int]:
    """Compile (or load from the cache) :func:`take_factors`."""
    n = numba.types
    given = n.Array(n.float32, 2, "A", readonly=True)
    signature = n.int64(given, n.float64[:, ::1], n.float32[:, ::1])
    return compile_kernel(take_factors, signature, nogil=True, error_model="numpy", _nrt=False)


@functools.cache
def compile_finish(quality: bool) -> Callable[..., None]:
    """Compile (or load from the cache) :func:`finish_lines`."""
    n = numba.types
    counters = n.uint16[:, :, ::1]
    signature = n.void(
        *(n.Array(n.uint8, 1, "C", readonly=True), n.int64, counters, counters, n.uint8[:, ::1]),
        *(n.uint32[::1], n.uint32[::1], n.uint8[:, :, ::1] if quality else n.none, n.uint8[::1]),
    )
    return compile_kernel(finish_lines, signature, nogil=True, error_model="numpy", _nrt=False)
