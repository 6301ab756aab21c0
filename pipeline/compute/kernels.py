"""The fused pixel pass as one serial numba kernel, compiled for the types that are asked for.

The loops over a row are kept apart, each with few enough arrays that LLVM can prove them distinct
and vectorise; a row stays in the first-level cache between them, so memory is read once. Lines of
one preview row are worked on together, which reads each row of the references once for all of
them. Imported only when a CPU backend is armed; knows arrays, and the limits of stored types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.compute.kernel_cache import compile_kernel
from pipeline.compute.tables import INVALID, LIMITS
from pipeline.reflectance import SCALE

F4 = np.float32
NOUGHT = F4(0.0)


class Rounding(NamedTuple):
    """How a reflectance becomes a stored value: one loop serves all types.

    ``rounder``, 1.5 · 2²³, added and taken away again rounds |x| < 2²² half to even in one fast
    vector instruction each; larger ones stay beyond the limits. With 0 nothing is rounded.
    """

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
        values = (SCALE, 1.5 * 2**23, *LIMITS[kind], INVALID[kind])
    return Rounding(*map(F4, values))


# Integer sums of 32 bits are cast back to 32 bits: numba would widen them to 64, at half the speed.


@numba.njit(nogil=True, error_model="numpy")
def _count_row(row, level, dark, dark_row, hit, low):  # type: ignore[no-untyped-def]
    """Add 1 per sample where the row is saturated, and where it is below dark."""
    if level >= 0:
        for s in range(row.size):
            hit[s] += np.uint16(np.int32(row[s]) >= level)
    if dark:
        for s in range(row.size):
            low[s] += np.uint16(F4(row[s]) < dark_row[s])


@numba.njit(nogil=True, error_model="numpy")
def _correct_row(row, dark_row, gain_row, to, total, out):  # type: ignore[no-untyped-def]
    """Correct a row, add it to the preview's sums; gives how many values were clipped."""
    clipped = np.int32(0)
    for s in range(row.size):
        v = (F4(row[s]) - dark_row[s]) * gain_row[s]
        total[s] += v if v == v else NOUGHT
        x = (v * to.scale + to.rounder) - to.rounder
        clipped = np.int32(clipped + np.int32((x < to.least) | (x > to.greatest)))
        y = min(max(x, to.least), to.greatest)
        out[s] = y if x == x else to.unknown
    return clipped


@numba.njit(nogil=True, error_model="numpy")
def _cells(total, strip, out):  # type: ignore[no-untyped-def]
    """Add up each ``strip`` neighbours; the last cell may have fewer."""
    whole = total.size // strip
    for p in range(whole):
        if strip == 4:
            out[p] = (total[4 * p] + total[4 * p + 1]) + (total[4 * p + 2] + total[4 * p + 3])
            continue
        value = NOUGHT
        for s in range(p * strip, (p + 1) * strip):
            value += total[s]
        out[p] = value
    if whole < out.size:
        value = NOUGHT
        for s in range(whole * strip, total.size):
            value += total[s]
        out[whole] = value


def pass_strips(  # type: ignore[no-untyped-def]
    raw,  # (lines, bands, samples)
    valid,  # uint8 (lines,)
    first,  # strips to work on: first … last − 1
    last,
    phase,  # lines that strip 0 already has from the block before
    strip,  # lines of a strip
    level,  # saturation, DN; −1: none
    dark,  # compare with black?
    store,  # keep the reflectance?
    preview,  # preview sums?
    mask,  # quality mask?
    to,  # Rounding
    black,  # float32 (bands, samples)
    gain,  # float32 (bands, samples)
    fix,  # int32 (n, 4)
    weight,  # float32 (n,)
    planes,  # uint8 (3, samples)
    out,  # (lines, bands, samples); (1, 1, samples) of scratch where it is not kept
    saturated,  # uint32 (lines,)
    below,  # uint32 (lines,)
    quality,  # uint8 (lines, 6, samples), or of size 0
    sums,  # float32 (strips, bands, cells), or of size 0
    counts,  # scratch of this thread: uint16 (2, strip, samples)
    total,  # float32 (samples,)
):
    """Work on a range of strips; see docs/compute.md for the semantics. Returns values clipped."""
    lines, bands, samples = raw.shape
    clipped = np.int64(0)
    for k in range(first, last):
        start = max(0, k * strip - phase)
        stop = min(lines, (k + 1) * strip - phase)
        counts[:] = np.uint16(0)
        for b in range(bands):
            total[:] = NOUGHT
            for n in range(start, stop):
                if valid[n] == 0:
                    if store:
                        for s in range(samples):
                            out[n, b, s] = to.unknown
                    continue
                row = raw[n, b]
                _count_row(row, level, dark, black[b], counts[0, n - start], counts[1, n - start])
                if store or preview:
                    kept = out[n, b] if store else out[0, 0]
                    clipped += _correct_row(row, black[b], gain[b], to, total, kept)
            if preview:
                _cells(total, strip, sums[k, b])
        for n in range(start, stop):
            if valid[n] == 0:
                continue
            # bad pixels: they count as nothing else, and take the value of their neighbours
            for i in range(fix.shape[0]):
                b, s, lo, hi = fix[i]
                count = raw[n, b, s]
                if level >= 0 and np.int32(count) >= level:
                    counts[0, n - start, s] -= np.uint16(1)
                if dark and F4(count) < black[b, s]:
                    counts[1, n - start, s] -= np.uint16(1)
                if lo < 0 or not (store or preview):
                    continue
                v = (F4(raw[n, lo, s]) - black[lo, s]) * gain[lo, s]
                w = (F4(raw[n, hi, s]) - black[hi, s]) * gain[hi, s]
                v = v + (w - v) * weight[i]
                if preview:
                    sums[k, b, s // strip] += v
                if store:
                    x = (v * to.scale + to.rounder) - to.rounder
                    clipped += np.int64((x < to.least) | (x > to.greatest))
                    out[n, b, s] = min(max(x, to.least), to.greatest)
        for n in range(start, stop):
            bright = np.int64(0)
            dim = np.int64(0)
            for s in range(samples):
                bright += counts[0, n - start, s]
                dim += counts[1, n - start, s]
            saturated[n] = np.uint32(bright)
            below[n] = np.uint32(dim)
            if mask:
                ok = np.uint8(valid[n] != 0)
                for s in range(samples):
                    quality[n, 0, s] = np.uint8(min(counts[0, n - start, s], np.uint16(255)))
                    quality[n, 1, s] = ok * planes[0, s]
                    quality[n, 2, s] = np.uint8(min(counts[1, n - start, s], np.uint16(255)))
                    quality[n, 3, s] = ok * planes[1, s]
                    quality[n, 4, s] = ok * planes[2, s]
                    quality[n, 5, s] = np.uint8(0 if ok else min(bands, 255))
    return clipped


@functools.cache
def compile_pass(dtype: np.dtype[Any], kind: str | None) -> Callable[..., int]:
    """Compile (or load from the cache) the kernel.

    Parameters
    ----------
    dtype : uint8 or uint16, of the raw counts
    kind : reflectance type; None compiles for a scratch row of float32
    """
    n = numba.types
    counts = n.uint8 if dtype == np.uint8 else n.uint16
    stored = {"int16": n.int16, "uint16": n.uint16}.get(kind or "", n.float32)
    i8, flag = n.int64, n.boolean
    signature = n.int64(
        # raw and valid are only read; a received block may be a read-only view
        n.Array(counts, 3, "C", readonly=True),
        n.Array(n.uint8, 1, "C", readonly=True),
        *(i8, i8, i8, i8, n.int32, flag, flag, flag, flag),
        n.NamedUniTuple(n.float32, len(Rounding._fields), Rounding),
        *(n.float32[:, ::1], n.float32[:, ::1], n.int32[:, ::1], n.float32[::1], n.uint8[:, ::1]),
        *(stored[:, :, ::1], n.uint32[::1], n.uint32[::1], n.uint8[:, :, ::1]),
        *(n.float32[:, :, ::1], n.uint16[:, :, ::1], n.float32[::1]),
    )
    return compile_kernel(pass_strips, signature, nogil=True, error_model="numpy")
