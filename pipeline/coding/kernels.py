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
    first_equal: Callable[..., int]
    same_spectra: Callable[..., int]
    measure: Callable[..., Any]
    gather: Callable[..., int]
    spread: Callable[..., int]


class RowKernels(NamedTuple):
    """The loops over the rows of a block's matrix."""

    code: Callable[..., int]
    restore: Callable[..., int]
    join_narrow: Callable[..., int]
    join_planes: Callable[..., int]


def hash_spectra(pixels, every, out):  # type: ignore[no-untyped-def]
    """Give each spectrum a number that equal ones share; (lines, bands, samples) → its pixels.

    Made of each ``every``-th band.
    """
    lines, bands, samples = pixels.shape
    for n in range(lines):
        row = out[n * samples : (n + 1) * samples]
        row[:] = np.uint64(14695981039346656037)
        for b in range(0, bands, every):
            for s in range(samples):
                row[s] = (row[s] ^ np.uint64(pixels[n, b, s])) * np.uint64(0x9E3779B97F4A7C15)
                row[s] ^= row[s] >> np.uint64(29)
    return 0


def first_equal(hashes, table, first):  # type: ignore[no-untyped-def]
    """Find for each number the first that equals it; gives how many are not the first themselves.

    ``table`` is scratch, int64, all −1: a power of two of places, twice as many as numbers.
    """
    found = 0
    last = np.uint64(table.size - 1)
    for i in range(hashes.size):
        h = hashes[i]
        at = (h ^ (h >> np.uint64(32))) & last
        while table[at] >= 0 and hashes[table[at]] != h:
            at = (at + np.uint64(1)) & last
        if table[at] < 0:
            table[at] = i
        else:
            found += 1
        first[i] = table[at]
    return found


def same_spectra(pixels, first, equal):  # type: ignore[no-untyped-def]
    """Tell for each pixel that is not its own first whether both spectra are the same."""
    lines, bands, samples = pixels.shape
    for n in range(lines):
        here = first[n * samples : (n + 1) * samples]
        to = equal[n * samples : (n + 1) * samples]
        some = 0
        for s in range(samples):
            to[s] = here[s] != n * samples + s
            some += to[s]
        if some == 0:
            continue
        for b in range(bands):
            for s in range(samples):
                if to[s]:
                    at = here[s]
                    to[s] = pixels[n, b, s] == pixels[at // samples, b, at % samples]
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
            back_back = aa[s] + 2.0 * ae[s] + ee[s]
            if aa[s] > 0.0 and back_back > 0.0:
                across = np.sqrt(max(aa[s] * ee[s] - ae[s] * ae[s], 0.0))
                angle += np.arctan2(across, aa[s] + ae[s])
                spectra += 1
            elif aa[s] > 0.0 or back_back > 0.0:
                angle += np.pi / 2
                spectra += 1
    return largest, squared, angle, spectra


def gather(pixels, own, bands, rows):  # type: ignore[no-untyped-def]
    """Give some spectra, by their numbers, in some bands, as rows: (bands, spectra)."""
    _, every, samples = pixels.shape
    flat = pixels.reshape(-1)
    places = np.empty(own.size, np.uintp)  # unsigned: none counts from the end
    for i in range(own.size):
        line = own[i] // samples
        places[i] = np.uintp((line * every - line) * samples + own[i])
    for r in range(rows.shape[0]):
        some, to = flat[bands[r] * samples :], rows[r]
        for i in range(own.size):
            to[i] = some[places[i]]
    return 0


def spread(rows, source, bands, pixels):  # type: ignore[no-untyped-def]
    """Give each pixel, in some bands, the spectrum of rows that is its source."""
    lines, _, samples = pixels.shape
    for n in range(lines):
        some = source[n * samples : (n + 1) * samples]
        for r in range(rows.shape[0]):
            row, to = rows[r], pixels[n, bands[r]]
            for s in range(samples):
                to[s] = row[np.uintp(some[s])]  # unsigned: none counts from the end
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


def join_planes(planes, out):  # type: ignore[no-untyped-def]
    """Give integers of byte planes, the lowest first: z even is z / 2, odd −(z + 1) / 2."""
    n = out.size
    for first in range(0, n, TILE):
        part = out[first : min(first + TILE, n)]
        z = np.zeros(part.size, np.uint32)
        for p in range(planes.shape[0]):
            plane, up = planes[p, first : first + part.size], np.uint32(8 * p)
            for i in range(part.size):
                z[i] |= np.uint32(plane[i]) << up
        for i in range(part.size):
            part[i] = np.int32(z[i] >> np.uint32(1)) ^ -np.int32(z[i] & np.uint32(1))
    return 0


@functools.cache
def compile_pixels(dtype: np.dtype[Any]) -> PixelKernels:
    """Compile the loops for pixels of a type, or load them from the cache."""
    n = numba.types
    kind = numba.from_dtype(np.dtype(dtype))
    cube = n.Array(kind, 3, "C", readonly=True)
    sums = n.Tuple((n.int64, n.float64, n.float64, n.int64))
    picks, rows = n.int64[::1], n.Array(kind, 2, "C")
    readable = n.Array(kind, 2, "C", readonly=True)
    return PixelKernels(
        compile_kernel(hash_spectra, n.int64(cube, n.int64, n.uint64[::1]), nogil=True),
        compile_kernel(first_equal, n.int64(n.uint64[::1], n.int64[::1], n.int64[::1]), nogil=True),
        compile_kernel(same_spectra, n.int64(cube, n.int64[::1], n.boolean[::1]), nogil=True),
        compile_kernel(
            measure, sums(cube, n.int32[:, ::1], n.float64[:, ::1]), nogil=True, fastmath=True
        ),
        compile_kernel(gather, n.int64(cube, picks, picks, rows), nogil=True),
        compile_kernel(spread, n.int64(readable, picks, picks, n.Array(kind, 3, "C")), nogil=True),
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
        *(
            compile_kernel(
                join_planes, i8(n.Array(n.uint8, 2, "C", readonly=True), out), nogil=True
            )
            for out in (n.int16[::1], row)
        ),
    )
