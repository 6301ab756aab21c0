"""Loops over pixels for numba: errors, equal spectra, predictions. Knows arrays only.

What they compute is said where they are called (``apart``, ``measure``, ``predicted``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.kernel_cache import compile_kernel

#: Columns that rows are predicted in at once: 33 rows of them stay in a core's cache.
TILE = 2048
helper = numba.njit(nogil=True)


class PixelKernels(NamedTuple):
    """The loops that depend on the type of the pixels."""

    hash_spectra: Callable[..., int]
    measure: Callable[..., Any]
    centre: Callable[..., int]


class RowKernels(NamedTuple):
    """The loops over the rows of a block's matrix."""

    code: Callable[..., int]
    restore: Callable[..., int]
    residual: Callable[..., int]
    settle: Callable[..., int]
    join_planes: Callable[..., int]
    round_scores: Callable[..., int]


def hash_spectra(pixels, out):  # type: ignore[no-untyped-def]
    """Give each spectrum a number that equal ones share; (lines, bands, samples) → its pixels."""
    lines, bands, samples = pixels.shape
    for n in range(lines):
        row = out[n * samples : (n + 1) * samples]
        row[:] = np.uint64(14695981039346656037)
        for b in range(bands):
            for s in range(samples):
                row[s] = (row[s] ^ np.uint64(pixels[n, b, s])) * np.uint64(0x9E3779B97F4A7C15)
                row[s] ^= row[s] >> np.uint64(29)
    return 0


def measure(pixels, decoded, products):  # type: ignore[no-untyped-def]
    """Give largest and squared error, sum of angles and how many spectra have one.

    ``decoded`` has a row for each band, a column for each pixel.
    ``products`` is scratch, float64 (3, samples): of spectrum a and error e a·a, a·e, e·e.
    """
    lines, bands, samples = pixels.shape
    squared, angle, spectra = 0.0, 0.0, 0
    largest = np.int32(0)
    aa, ae, ee = products[0], products[1], products[2]
    for n in range(lines):
        products[:] = 0.0
        top = np.int32(0)
        for b in range(bands):
            back = decoded[b, n * samples : (n + 1) * samples]
            for s in range(samples):
                a = np.int32(pixels[n, b, s])
                e = back[s] - a
                top = max(top, abs(e))
                x, y = np.float64(a), np.float64(e)
                aa[s] += x * x
                ae[s] += x * y
                ee[s] += y * y
        largest = max(largest, top)
        for s in range(samples):
            squared += ee[s]
            if aa[s] > 0.0 and aa[s] + 2.0 * ae[s] + ee[s] > 0.0:
                across = np.sqrt(max(aa[s] * ee[s] - ae[s] * ae[s], 0.0))
                angle += np.arctan2(across, aa[s] + ae[s])
                spectra += 1
    return largest, squared, angle, spectra


def centre(rows, about, out):  # type: ignore[no-untyped-def]
    """Give rows about a shift each, float32."""
    for r in range(rows.shape[0]):
        shift, row, to = np.float32(about[r]), rows[r], out[r]
        for s in range(row.size):
            to[s] = np.float32(row[s]) - shift
    return 0


@helper
def _predict(decoded, r, first, end, weights, bits, sums):  # type: ignore[no-untyped-def]
    """Predict a row's columns from the rows before it: ``Σ weight · row``, rounded, ``>> bits``."""
    down = np.int32(bits[r])
    wide = end - first
    sums[:wide] = (np.int32(1) << down) >> np.int32(1)
    for i in range(min(weights.shape[0], r)):
        weight = weights[i, r]
        row = decoded[r - 1 - i, first:end]
        for s in range(wide):
            sums[s] += weight * row[s]
    for s in range(wide):
        sums[s] >>= down


@helper
def _quantise(row, shift, predicted, bound, coded):  # type: ignore[no-untyped-def]
    """Quantise ``row − shift`` against its prediction."""
    if bound == 0:
        for s in range(row.size):
            coded[s] = row[s] - shift - predicted[s]
    else:
        wide = np.float64(2 * bound + 1)
        for s in range(row.size):
            r = row[s] - shift - predicted[s]
            q = np.int32(np.float64(abs(r) + np.int32(bound)) / wide)
            coded[s] = -q if r < 0 else q


@helper
def _leave_out(kept, coded):  # type: ignore[no-untyped-def]
    """Code nothing where ``kept`` is 0: the prediction is as good as any."""
    for s in range(coded.size):
        coded[s] *= np.int32(kept[s])


@helper
def _restore(predicted, coded, bound, least, most, back):  # type: ignore[no-untyped-def]
    """Decode a row of its prediction and what is coded, clipped."""
    step = np.int32(2 * bound + 1)
    low, high = np.int32(least), np.int32(most)
    for s in range(back.size):
        back[s] = min(max(predicted[s] + coded[s] * step, low), high)


def code(  # type: ignore[no-untyped-def]
    rows, means, weights, bits, bound, kept, least, most, coded, decoded
):
    """Predict rows from decoded ones, quantise and decode them, tile of columns by tile.

    ``decoded`` is about the means. ``kept`` is 0 where nothing is to be coded; no rows: all is.
    """
    sums = np.empty(TILE, np.int32)
    for first in range(0, rows.shape[1], TILE):
        end = min(first + TILE, rows.shape[1])
        for r in range(rows.shape[0]):
            mean = means[r]
            _predict(decoded, r, first, end, weights, bits, sums)
            to = coded[r, first:end]
            _quantise(rows[r, first:end], mean, sums[: end - first], bound, to)
            if kept.shape[0]:
                _leave_out(kept[r, first:end], to)
            _restore(sums, to, bound, least - mean, most - mean, decoded[r, first:end])
    return 0


def restore(  # type: ignore[no-untyped-def]
    coded, means, weights, bits, bound, least, most, decoded
):
    """Decode rows, about their means, tile of columns by tile."""
    sums = np.empty(TILE, np.int32)
    for first in range(0, coded.shape[1], TILE):
        end = min(first + TILE, coded.shape[1])
        for r in range(coded.shape[0]):
            mean = means[r]
            _predict(decoded, r, first, end, weights, bits, sums)
            to = decoded[r, first:end]
            _restore(sums, coded[r, first:end], bound, least - mean, most - mean, to)
    return 0


def residual(rows, decoded, bound, kept, least, most, coded):  # type: ignore[no-untyped-def]
    """Quantise what decoded rows lack, and add it to them; ``kept`` as of ``code``."""
    for r in range(rows.shape[0]):
        _quantise(rows[r], np.int32(0), decoded[r], bound, coded[r])
        if kept.shape[0]:
            _leave_out(kept[r], coded[r])
        _restore(decoded[r], coded[r], bound, least, most, decoded[r])
    return 0


def settle(exact, about, least, most, first, out):  # type: ignore[no-untyped-def]
    """Round ``exact + about + 1/2`` down, and clip, into the columns of ``out`` from a first on."""
    low, high = np.int32(least), np.int32(most)
    for r in range(out.shape[0]):
        shift = np.float64(about[r]) + 0.5
        row, to = exact[r], out[r, first : first + exact.shape[1]]
        for s in range(row.size):
            # the float first: it may be beyond any integer
            v = min(max(np.floor(row[s] + shift), np.float64(low)), np.float64(high))
            to[s] = np.int32(v)
    return 0


def join_planes(planes, out):  # type: ignore[no-untyped-def]
    """Give integers of byte planes, the lowest first: z even is z / 2, odd −(z + 1) / 2."""
    for i in range(out.size):
        out[i] = planes[0, i]
    for p in range(1, planes.shape[0]):
        plane, up = planes[p], np.int32(8 * p)
        for i in range(out.size):
            out[i] |= np.int32(plane[i]) << up
    for i in range(out.size):
        z = np.uint32(out[i])
        out[i] = np.int32(z >> np.uint32(1)) ^ -np.int32(z & np.uint32(1))
    return 0


def round_scores(exact, scale, add, scores, saved, hits):  # type: ignore[no-untyped-def]
    """Round scores, in steps, toward zero from ``add`` more than they are.

    ``saved`` is the squared error, in steps, that each component's scores save; ``hits`` how many
    of them are not zero.
    """
    for k in range(exact.shape[0]):
        row, to = exact[k], scores[k]
        total, count = np.float32(0), 0
        for first in range(0, row.size, 512):
            part = np.float32(0)
            for s in range(first, min(first + 512, row.size)):
                v = row[s] * scale
                q = np.floor(abs(v) + add)
                part += q * (np.float32(2) * abs(v) - q)
                to[s] = np.int32(-q if v < np.float32(0) else q)
                count += q > np.float32(0)
            total += part
        saved[k], hits[k] = total, count
    return 0


@functools.cache
def compile_pixels(dtype: np.dtype[Any]) -> PixelKernels:
    """Compile the loops for pixels of a type, or load them from the cache."""
    n = numba.types
    kind = numba.from_dtype(np.dtype(dtype))
    cube = n.Array(kind, 3, "C", readonly=True)
    sums = n.Tuple((n.int64, n.float64, n.float64, n.int64))
    return PixelKernels(
        compile_kernel(hash_spectra, n.int64(cube, n.uint64[::1]), nogil=True),
        compile_kernel(
            measure, sums(cube, n.int32[:, ::1], n.float64[:, ::1]), nogil=True, fastmath=True
        ),
        compile_kernel(
            centre,
            n.int64(n.Array(kind, 2, "C", readonly=True), n.int32[::1], n.float32[:, ::1]),
            nogil=True,
        ),
    )


@functools.cache
def compile_rows() -> RowKernels:
    """Compile the loops over rows, or load them from the cache."""
    n = numba.types
    row, table, i8 = n.int32[::1], n.int32[:, ::1], n.int64
    bits, flags = n.Array(n.uint8, 1, "C", readonly=True), n.uint8[:, ::1]
    return RowKernels(
        compile_kernel(
            code, i8(table, row, table, bits, i8, flags, i8, i8, table, table), nogil=True
        ),
        compile_kernel(restore, i8(table, row, table, bits, i8, i8, i8, table), nogil=True),
        compile_kernel(residual, i8(table, table, i8, n.uint8[:, ::1], i8, i8, table), nogil=True),
        compile_kernel(settle, i8(n.float64[:, ::1], row, i8, i8, i8, table), nogil=True),
        compile_kernel(join_planes, i8(n.Array(n.uint8, 2, "C", readonly=True), row), nogil=True),
        compile_kernel(
            round_scores,
            i8(n.float32[:, ::1], n.float32, n.float32, table, n.float64[::1], n.int64[::1]),
            nogil=True,
            fastmath=True,
        ),
    )
