"""The PCA's loops for numba: spectra for the moments, projection, rounding of scores.

The projection keeps the sums of 16 components over 16 samples in registers while it goes down the
bands, so that counts are widened on the fly and nothing but the counts is read from memory.
Imported only when a CPU backend with PCA is armed; knows arrays and numba's lowering.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.kernel_cache import compile_kernel

#: Components that are projected on together.
COMPONENTS: Final = 16
#: Samples that are worked on together.
WIDTH: Final = 16
#: Samples whose counts fill a cache line.
LINE: Final = 32
#: Added to |x| < 2²² and taken away, it rounds half to even.
ROUNDER: Final = np.float32(1.5 * 2**23)

I64, I32, F32 = ir.IntType(64), ir.IntType(32), ir.FloatType()
types: Any = numba.types
helper = numba.njit(nogil=True, error_model="numpy", _nrt=False)


@intrinsic
def _project_columns(  # type: ignore[no-untyped-def]
    typingctx, kept, line, sample, mean, basis, first, out
):
    """Project ``WIDTH`` samples of a line on ``COMPONENTS`` components, from number ``first`` on.

    ``out[line, first + k, sample + i] = Σ_b basis[b, first + k] · (kept[line, b, sample + i]
    − mean[b])``; kept (lines, bands, samples and what pads them), mean (bands,), basis (bands,
    components), both float32; products and sums may be fused.
    """
    signature = types.void(kept, line, sample, mean, basis, first, out)

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        arrays = {
            name: context.make_array(sig.args[i])(context, builder, args[i])
            for name, i in (("kept", 0), ("mean", 3), ("basis", 4), ("out", 6))
        }
        line, sample, first = args[1], args[2], args[5]
        _, bands, pitch = cgutils.unpack_tuple(builder, arrays["kept"].shape)
        _, _, samples = cgutils.unpack_tuple(builder, arrays["out"].shape)
        _, components = cgutils.unpack_tuple(builder, arrays["basis"].shape)
        counts = ir.VectorType(ir.IntType(sig.args[0].dtype.bitwidth), WIDTH)
        floats = ir.VectorType(F32, WIDTH)
        fused = ("contract",)
        start = builder.add(builder.mul(builder.mul(line, bands), pitch), sample)
        sums = [
            cgutils.alloca_once_value(builder, ir.Constant(floats, None)) for _ in range(COMPONENTS)
        ]
        for place in sums:
            builder.store(ir.Constant(floats, None), place)

        def splat(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(floats, ir.Undefined), value, I32(0))
            zeros = ir.Constant(ir.VectorType(I32, WIDTH), None)
            return builder.shuffle_vector(one, ir.Constant(floats, ir.Undefined), zeros)

        def prefetch(at: Any) -> None:
            kind = ir.FunctionType(ir.VoidType(), [at.type, I32, I32, I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            builder.call(function, [at, I32(0), I32(3), I32(1)])  # to read, keep it near, data

        def add_band(b: Any) -> None:
            row = builder.add(start, builder.mul(b, pitch))
            about = splat(builder.load(builder.gep(arrays["mean"].data, [b], inbounds=True)))
            at = builder.gep(arrays["kept"].data, [row], inbounds=True)
            at = builder.bitcast(at, counts.as_pointer())
            wide = builder.load(at, align=counts.element.width // 8)
            wide = builder.zext(wide, ir.VectorType(I32, WIDTH))
            value = builder.fsub(builder.sitofp(wide, floats), about)
            weights = builder.add(builder.mul(b, components), first)
            for k, place in enumerate(sums):
                at = builder.gep(
                    arrays["basis"].data, [builder.add(weights, I64(k))], inbounds=True
                )
                product = builder.fmul(splat(builder.load(at)), value, flags=fused)
                builder.store(builder.fadd(builder.load(place), product, flags=fused), place)

        # Rows are far apart: no processor guesses where the next are read. Of the next cache line
        # of each row, this call asks for those of half the bands, as evenly as it computes.
        half = builder.udiv(bands, I64(2))
        turn = builder.urem(builder.udiv(sample, I64(WIDTH)), I64(LINE // WIDTH))
        asked = builder.add(start, builder.mul(builder.mul(turn, half), pitch))
        asked = builder.add(asked, I64(LINE))
        with cgutils.for_range_slice(builder, I64(0), half, I64(1), intp=I64) as (pair, _):
            at = builder.add(asked, builder.mul(pair, pitch))
            at = builder.gep(arrays["kept"].data, [at])
            prefetch(builder.bitcast(at, ir.IntType(8).as_pointer()))
            b = builder.mul(pair, I64(2))
            add_band(b)
            add_band(builder.add(b, I64(1)))
        with cgutils.for_range_slice(
            builder, builder.mul(half, I64(2)), bands, I64(1), intp=I64
        ) as (b, _):
            add_band(b)
        for k, place in enumerate(sums):
            row = builder.add(builder.mul(line, components), builder.add(first, I64(k)))
            index = builder.add(builder.mul(row, samples), sample)
            at = builder.gep(arrays["out"].data, [index], inbounds=True)
            at = builder.bitcast(at, floats.as_pointer())
            builder.store(builder.load(place), at, align=4)
        return context.get_dummy_value()

    return signature, codegen


@helper
def _largest(row):  # type: ignore[no-untyped-def]
    """Give the greatest magnitude of a row; integers are compared, which vectors do at once."""
    top = np.int32(0)
    for s in range(row.size):
        top = max(top, np.int32(np.float32(row[s]).view(np.int32) & np.int32(0x7FFFFFFF)))
    return top


def project_lines(  # type: ignore[no-untyped-def]
    kept,  # counts (lines, bands, samples and what pads them)
    first,  # lines to work on: first … last − 1
    last,
    valid,  # uint8 (lines,): lost ones become 0
    mean,  # float32 (bands,)
    basis,  # float32 (bands, components), components a multiple of COMPONENTS
    fix,  # int32 (n, 4): bad pixels, as in tables.PassTables
    weight,  # float32 (n,)
    out,  # float32 (lines, components, samples)
    largest,  # int32 (components,): bit patterns of the greatest magnitudes so far
):
    """Project lines; bad pixels count as their neighbours along the spectrum have it."""
    bands, samples = kept.shape[1], out.shape[2]
    components = basis.shape[1]
    whole = samples - samples % WIDTH
    for n in range(first, last):
        if valid[n] == 0:
            out[n] = np.float32(0)
            continue
        for s in range(0, whole, WIDTH):
            for k in range(0, components, COMPONENTS):
                _project_columns(kept, n, s, mean, basis, k, out)
        for s in range(whole, samples):
            for k in range(components):
                total = np.float32(0)
                for b in range(bands):
                    total += basis[b, k] * (np.float32(kept[n, b, s]) - mean[b])
                out[n, k, s] = total
        for i in range(fix.shape[0]):
            b, s, lo, hi = fix[i]
            if lo < 0:
                continue
            v = np.float32(kept[n, lo, s])
            v += (np.float32(kept[n, hi, s]) - v) * weight[i]
            more = v - np.float32(kept[n, b, s])
            for k in range(components):
                out[n, k, s] += basis[b, k] * more
        for k in range(components):
            largest[k] = max(largest[k], _largest(out[n, k]))
    return 0


@helper
def _round_row(row, factor, out):  # type: ignore[no-untyped-def]
    for s in range(row.size):
        out[s] = np.int16((row[s] * factor + ROUNDER) - ROUNDER)


def round_scores(  # type: ignore[no-untyped-def]
    projected,  # float32 (lines, components, samples)
    first,  # lines to work on
    last,
    factor,  # float32 (K,)
    out,  # int16 (lines, K, samples)
):
    """Round scores to whole steps, half to even; they fit."""
    for n in range(first, last):
        for k in range(out.shape[1]):
            _round_row(projected[n, k], factor[k], out[n, k])
    return 0


@helper
def _centre_row(row, every, shift, out, top):  # type: ignore[no-untyped-def]
    """Take every ``every``-th count about the shift; remember the brightest of each spectrum."""
    if every == 1:  # the compiler makes vectors of loops without a stride only
        for i in range(out.size):
            out[i] = np.float32(row[i]) - shift
        for i in range(out.size):
            top[i] = max(top[i], row[i])
    else:
        for i in range(out.size):
            out[i] = np.float32(row[i * every]) - shift
            top[i] = max(top[i], row[i * every])


@helper
def _add_up(row):  # type: ignore[no-untyped-def]
    """Sum a row in float64, eight sums side by side."""
    a = b = c = d = e = f = g = h = 0.0
    whole = row.size // 8 * 8
    for i in range(0, whole, 8):
        a += row[i]
        b += row[i + 1]
        c += row[i + 2]
        d += row[i + 3]
        e += row[i + 4]
        f += row[i + 5]
        g += row[i + 6]
        h += row[i + 7]
    for i in range(whole, row.size):
        a += row[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


def gather_spectra(  # type: ignore[no-untyped-def]
    line,  # counts (bands, samples and what pads them)
    every,  # takes each every-th sample
    level,  # float32: spectra with a count at or above it become 0
    shift,  # float32 (bands,)
    fix,  # int32 (n, 4)
    weight,  # float32 (n,)
    top,  # as the counts, (width,), scratch
    out,  # float32 (bands, width): counts about the shift
    sums,  # float64 (bands,): gains the sum of each band
):
    """Gather the spectra that moments are formed of; gives how many are used."""
    bands, width = out.shape
    top[:] = 0
    for b in range(bands):
        _centre_row(line[b], every, shift[b], out[b], top)
    for i in range(fix.shape[0]):
        b, s, lo, hi = fix[i]
        if lo < 0 or s % every != 0:
            continue
        v = np.float32(line[lo, s])
        out[b, s // every] = v + (np.float32(line[hi, s]) - v) * weight[i] - shift[b]
    used = width
    for i in range(width):
        if np.float32(top[i]) >= level:
            # A bad pixel may be the bright one: then the spectrum has still to be looked at.
            # A whole count comes back whole when the shift is added again.
            bright = False
            for b in range(bands):
                bright = bright or out[b, i] + shift[b] >= level
            if bright:
                used -= 1
                for b in range(bands):
                    out[b, i] = np.float32(0)
    for b in range(bands):
        sums[b] += _add_up(out[b])
    return used


@functools.cache
def compile_pca(dtype: np.dtype[Any]) -> tuple[Callable[..., int], ...]:
    """Compile (or load from the cache) the loops for counts of a type.

    Returns
    -------
    project_lines, round_scores, gather_spectra : callable
    """
    n = numba.types
    counts = n.uint8 if dtype == np.uint8 else n.uint16
    flags = n.Array(n.uint8, 1, "C", readonly=True)
    table, row, cube = n.float32[:, ::1], n.float32[::1], n.float32[:, :, ::1]
    fixes = (n.int32[:, ::1], row)
    i8 = n.int64
    signatures: dict[Callable[..., int], Any] = {
        project_lines: i8(counts[:, :, ::1], i8, i8, flags, row, table, *fixes, cube, n.int32[::1]),
        round_scores: i8(cube, i8, i8, row, n.int16[:, :, ::1]),
        gather_spectra: i8(
            *(counts[:, ::1], i8, n.float32, row, *fixes, counts[::1], table, n.float64[::1])
        ),
    }
    return tuple(
        compile_kernel(loop, signature, nogil=True, error_model="numpy", _nrt=False)
        for loop, signature in signatures.items()
    )
