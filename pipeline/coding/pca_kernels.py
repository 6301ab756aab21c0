"""The loops of the PCA codings for numba: scores, their cost, and what a decoder makes of them.

A matrix is worked on tile by tile, so that nothing but scores and residuals is kept of it. What the
loops compute is said where they are called (``pca_fit``, ``rebuild``). Knows arrays only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.kernel_cache import compile_kernel

#: Bins of the histogram that a component's cost is estimated from.
BINS = 256
#: Classes of spread, three for each factor of two; the first third is below one step.
CLASSES = 90
helper = numba.njit(nogil=True)
helper_fast = numba.njit(nogil=True, fastmath=True)


class FitKernels(NamedTuple):
    """The loops over scores, those that round by the type that they round to."""

    round_scores: dict[np.dtype[Any], Callable[..., int]]

    count_bits: Callable[..., tuple[float, int]]


class RebuildKernels(NamedTuple):
    """The loops that depend on the type of the pixels and of the residual."""

    rebuild: Callable[..., int]
    check: Callable[..., tuple[int, int]]


def centre(cube, first, every, about, out):  # type: ignore[no-untyped-def]
    """Give each ``every``-th column of a matrix from a first on, about a shift each, float32.

    Of a matrix as ``Matrix.cube``: column c is sample c mod samples of line c / samples.
    """
    samples, size = cube.shape[2], out.shape[1]
    at = 0
    while at < size:
        line, sample = (first + at * every) // samples, (first + at * every) % samples
        wide = min((samples - sample + every - 1) // every, size - at)
        for r in range(out.shape[0]):
            shift, to = np.float32(about[r]), out[r, at : at + wide]
            row = cube[line, r, sample:]
            if every == 1:
                for s in range(wide):
                    to[s] = np.float32(row[s]) - shift
            else:
                for s in range(wide):
                    to[s] = np.float32(row[s * every]) - shift
        at += wide
    return 0


def round_scores(  # type: ignore[no-untyped-def]
    exact, scale, add, first, scores, saved, hits, tops
):
    """Round scores, in steps, toward zero from ``add`` more than they are; see ``Fit``.

    They go to the columns of ``scores`` from a first on. Added to is ``saved``, the squared error,
    in steps, that each component's scores save, and ``hits``, how many of them are not zero;
    ``tops`` are their largest magnitudes.
    """
    for k in range(exact.shape[0]):
        row, to = exact[k], scores[k, first : first + exact.shape[1]]
        # the largest as an integer: LLVM makes no vectors of a loop with the largest of floats
        total, count, top = np.float32(0), np.float32(0), np.int32(0)
        for s in range(row.size):
            v = abs(row[s] * scale)
            q = np.floor(v + add)
            total += q * (np.float32(2) * v - q)
            count += min(q, np.float32(1))
            top = max(top, np.int32(q))
            to[s] = np.int32(np.copysign(q, row[s]))
        saved[k] += total
        hits[k] += np.int64(count)
        tops[k] = max(tops[k], np.int64(top))
    return 0


def count_bits(  # type: ignore[no-untyped-def]
    exact, scale, add, stored, size, columns, worth, coded
):
    """Estimate the bits of basis and scores from the scores of some spectra.

    Components of like spread share a table, in units of 1/8 to 1/16 of their mean magnitude and the
    bits below as they are, as the entropy coder has them. ``stored`` are the bits of a basis
    vector's elements, ``size`` its elements, ``coded`` what is left of a bit of them; a component
    is counted if what it saves is ``worth`` its cost (see ``Fit``).
    """
    n = exact.shape[1]
    more = columns / n
    bins = np.zeros((CLASSES, BINS), np.int64)
    total, last = 0.0, 0
    for k in range(exact.shape[0]):
        row = exact[k]
        saved, sum_of, hits = np.float32(0), np.float32(0), np.float32(0)
        for s in range(n):
            v = abs(row[s] * scale)
            q = np.floor(v + add)
            saved += q * (np.float32(2) * v - q)
            sum_of += q
            hits += np.float32(1) if q > np.float32(0) else np.float32(0)
        basis = coded * stored[k] * size
        if hits == 0 or saved * more <= worth * (basis + hits * more * (2.0 + np.log2(n / hits))):
            continue
        last = k + 1
        level = np.floor(3.0 * np.log2(sum_of / n))
        below = max(np.floor(level / 3.0) - 3.0, 0.0)
        total += basis + below * columns
        down = np.float32(2.0**-below)
        which = np.int64(min(max(level + CLASSES // 3, 0.0), CLASSES - 1.0))
        table = bins[which]
        for s in range(n):
            v = row[s] * scale
            q = np.floor(abs(v) + add)
            place = np.int64(np.floor((-q if v < np.float32(0) else q) * down)) + BINS // 2
            table[min(max(place, 0), BINS - 1)] += 1
    for table in bins:
        every = table.sum()
        for i in range(BINS):
            if table[i]:
                total += more * table[i] * np.log2(every / table[i])
    return total, last


@helper
def _settle(exact, shift, low, high):  # type: ignore[no-untyped-def]
    # clipped as a float first: it may be beyond any integer
    return np.int32(min(max(np.floor(exact + shift), low), high))


@helper
def _decode(exact, lead, line, few, weak, shift, low, high, out):  # type: ignore[no-untyped-def]
    """Round ``exact + lead · line + few · weak + shift`` down and clip.

    Of ``exact`` and ``line`` one is empty, or both: zeros.
    """
    if exact.size:
        for s in range(out.size):
            out[s] = _settle(exact[s] + np.float64(few[s]) * weak, shift, low, high)
    elif line.size:
        for s in range(out.size):
            out[s] = _settle(lead * line[s] + np.float64(few[s]) * weak, shift, low, high)
    else:
        for s in range(out.size):
            out[s] = _settle(np.float64(few[s]) * weak, shift, low, high)


def rebuild(  # type: ignore[no-untyped-def]
    exact, leads, line, rest, weak, about, least, most, first, residual, step, where, out
):
    """Round ``exact + rest · weak + about + 1/2`` down, clip, and put it into a cube's pixels.

    From a first pixel on. No rows of ``exact``: the products of ``leads`` and ``line``, or if that
    is empty zeros.
    ``out`` is (lines, bands, samples), ``where`` the band of each row. Where there is a residual
    (no rows: none) its columns, times ``step`` modulo 2³², are added, and the sum clipped.
    """
    low, high = np.float64(least), np.float64(most)
    below, above, wide = np.int32(least), np.int32(most), np.int32(step)
    samples, end = out.shape[2], rest.shape[1]
    buffer, nothing = np.empty(min(samples, end), np.int32), np.empty(0)
    at = 0
    while at < end:
        n, sample = (first + at) // samples, (first + at) % samples
        size = min(samples - sample, end - at)
        back, part = buffer[:size], line[at : at + size]
        for r in range(rest.shape[0]):
            shift = np.float64(about[r]) + 0.5
            row = exact[r, at : at + size] if exact.size else nothing
            _decode(row, leads[r], part, rest[r, at : at + size], weak, shift, low, high, back)
            to = out[n, where[r], sample : sample + size]
            if residual.shape[0]:
                more = residual[r, first + at : first + at + size]
                for s in range(size):
                    v = np.int32(back[s] + np.int32(np.int32(more[s]) * wide))
                    to[s] = min(max(v, below), above)
            else:
                for s in range(size):
                    to[s] = back[s]
        at += size
    return 0


@helper_fast
def _add_errors(row, back, aa, ae, ee):  # type: ignore[no-untyped-def]
    """Add a row to the products of spectra a and errors e, and give the largest error."""
    top = np.int32(0)
    for s in range(back.size):
        a = np.int32(row[s])
        e = np.int32(back[s] - a)
        top = max(top, abs(e))
        x, y = np.float64(a), np.float64(e)
        aa[s] += x * x
        ae[s] += x * y
        ee[s] += y * y
    return top


@helper
def _quantise(row, bound, back, coded):  # type: ignore[no-untyped-def]
    """Quantise what decoded values are off; gives the largest magnitude."""
    d, step = np.int32(bound), np.float64(2 * bound + 1)
    top = np.int32(0)
    for s in range(back.size):
        e = np.int32(np.int32(row[s]) - back[s])
        q = np.int32(np.float64(np.int32(abs(e) + d)) / step)
        q = -q if e < 0 else q
        top = max(top, abs(q))
        coded[s] = q
    return top


@helper
def _measure(aa, ae, ee, weights, totals):  # type: ignore[no-untyped-def]
    """Add squared errors, angles and how many spectra have one to the totals."""
    squared, angle, spectra = 0.0, 0.0, 0.0
    for s in range(aa.size):
        weight = weights[s]
        a_a, a_e, e_e = aa[s], ae[s], ee[s]
        squared += weight * e_e
        back_back = a_a + 2.0 * a_e + e_e
        if a_a > 0.0 and back_back > 0.0:
            spectra += weight
            across = a_a * e_e - a_e * a_e
            if across > 0.0:
                angle += weight * np.arctan2(np.sqrt(across), a_a + a_e)
            elif a_a + a_e < 0.0:
                angle += weight * np.pi
        elif a_a > 0.0 or back_back > 0.0:
            spectra += weight
            angle += weight * np.pi / 2
    totals[0] += squared
    totals[1] += angle
    totals[2] += spectra


def check(  # type: ignore[no-untyped-def]
    exact,
    leads,
    line,
    rest,
    weak,
    about,
    least,
    most,
    first,
    cube,
    bound,
    kept,
    weights,
    base,
    coded,
    decoded,
    products,
    totals,
):
    """Decode columns from a first on as ``rebuild`` does, quantise the residual and measure.

    ``cube`` is as of ``Matrix``. ``bound`` below 0: no residual. ``kept`` is 0 where none is coded,
    ``decoded`` where the decoded rows go; no rows: all is coded, they go nowhere. ``weights`` says
    for how many spectra a column stands, ``base`` the squares of what is not in the matrix.
    ``products`` is scratch, float64 (3, columns); to ``totals`` are added squared error, sum of
    angles and spectra that have one. Gives the largest error and the largest value of ``coded``,
    which may have overflown if this does not fit.
    """
    low, high = np.float64(least), np.float64(most)
    below, above, wide = np.int32(least), np.int32(most), np.int32(2 * bound + 1)
    samples, end = cube.shape[2], rest.shape[1]
    buffer, nothing = np.empty(min(samples, end), np.int32), np.empty(0)
    largest, top = np.int32(0), np.int32(0)
    at = 0
    while at < end:
        n, sample = (first + at) // samples, (first + at) % samples
        size = min(samples - sample, end - at)
        begin, until = first + at, first + at + size
        back, part = buffer[:size], line[at : at + size]
        aa, ae, ee = products[0, :size], products[1, :size], products[2, :size]
        for s in range(size):
            aa[s], ae[s], ee[s] = base[begin + s], 0.0, 0.0
        for r in range(rest.shape[0]):
            given = cube[n, r, sample : sample + size]
            shift = np.float64(about[r]) + 0.5
            row = exact[r, at : at + size] if exact.size else nothing
            _decode(row, leads[r], part, rest[r, at : at + size], weak, shift, low, high, back)
            if bound >= 0:
                to = coded[r, begin:until]
                top = max(top, _quantise(given, bound, back, to))
                if kept.shape[0]:
                    some = kept[r, begin:until]
                    for s in range(size):
                        to[s] *= some[s]
                for s in range(size):
                    v = np.int32(back[s] + np.int32(np.int32(to[s]) * wide))
                    back[s] = min(max(v, below), above)
            if decoded.shape[0]:
                decoded[r, begin:until] = back
            largest = max(largest, _add_errors(given, back, aa, ae, ee))
        _measure(aa, ae, ee, weights[begin:until], totals)
        at += size
    return largest, top


@functools.cache
def compile_fit() -> FitKernels:
    """Compile the loops over scores, or load them from the cache."""
    n = numba.types
    f4, f8, i8 = n.float32, n.float64, n.int64
    table, floats, counts = n.float32[:, ::1], n.float64[::1], n.int64[::1]
    rounding = {
        np.dtype(kind): compile_kernel(
            round_scores,
            i8(
                table,
                f4,
                f4,
                i8,
                n.Array(numba.from_dtype(np.dtype(kind)), 2, "C"),
                floats,
                counts,
                counts,
            ),
            nogil=True,
            fastmath=True,
        )
        for kind in (np.int16, np.int32)
    }
    return FitKernels(
        rounding,
        compile_kernel(
            count_bits,
            n.Tuple((f8, i8))(table, f4, f4, floats, i8, i8, f8, f8),
            nogil=True,
            fastmath=True,
        ),
    )


@functools.cache
def compile_centre(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Compile ``centre`` for pixels of a type, or load it from the cache."""
    n = numba.types
    cube = n.Array(numba.from_dtype(np.dtype(dtype)), 3, "C", readonly=True)
    made: Callable[..., int] = compile_kernel(
        centre, n.int64(cube, n.int64, n.int64, n.int32[::1], n.float32[:, ::1]), nogil=True
    )
    return made


@functools.cache
def compile_rebuild(dtype: np.dtype[Any], residual: np.dtype[Any]) -> RebuildKernels:
    """Compile the loops for pixels and a residual of these types, or load them from the cache."""
    n = numba.types
    pixel, more = numba.from_dtype(np.dtype(dtype)), numba.from_dtype(np.dtype(residual))
    i8, exact, about, line = n.int64, n.float64[:, ::1], n.int32[::1], n.float64[::1]
    few = n.float32[:, ::1]
    cube = n.Array(pixel, 3, "C")
    given = n.Array(pixel, 3, "C", readonly=True)
    coded, decoded = n.Array(more, 2, "C"), n.int32[:, ::1]
    weights = n.float64[::1]
    return RebuildKernels(
        compile_kernel(
            rebuild,
            i8(
                exact, line, line, few, n.float64, about, i8, i8, i8, coded, i8, n.int64[::1], cube
            ),
            nogil=True,
        ),
        compile_kernel(
            check,
            n.UniTuple(i8, 2)(
                exact, line, line, few, n.float64, about, i8, i8, i8, given, i8, n.uint8[:, ::1],
                weights, weights, coded, decoded, n.float64[:, ::1], n.float64[::1],
            ),
            nogil=True,
        ),
    )  # fmt: skip
