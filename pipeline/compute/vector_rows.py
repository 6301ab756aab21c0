"""The inner loop of the pixel pass on the CPU, as vector instructions of LLVM.

One numba intrinsic that works on the same row (band) of one to four lines at once: correction,
counts below dark, preview sums and quantising, each raw pixel read once and everything between kept
in registers. numba cannot say that arrays do not overlap, so LLVM would not fuse such a loop by
itself; written with LLVM's own vector types it runs on any processor LLVM knows, with as many
registers as that has. What limits it is the number of instructions, so a row that needs no care
(its gains are known, and no count it has leads beyond the limits of the stored type) is spared the
limits and the search for NaN. Knows numba's lowering and the limits of stored types, nothing of
strips.
"""

from __future__ import annotations

from typing import Any, Final

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.compute.tables import INVALID, LIMITS
from pipeline.compute.vectors import CELL, F32, I16, I32, I64, ROUNDER, Vectors, spread
from pipeline.reflectance import SCALE

#: Samples that are worked on together: first so many at a time, then what is left with fewer.
WIDTHS: Final = (32, 4, 1)
#: Lines for which the values of bad pixels are worked out together.
LINES: Final = 4
types: Any = numba.types


@intrinsic
def work_on_rows(  # type: ignore[no-untyped-def]
    typingctx,
    raw,
    raw_lines,
    raw_band,
    black,
    gain,
    dark,
    low,
    sums,
    strip,
    out,
    lines,
    band,
    extra,
    fix,
    first,
    last,
    care,
    past,
    factors,
):
    """Work on row ``band`` of some lines.

    Parameters
    ----------
    raw : uint8 or uint16 (raw lines, raw bands, samples)
    raw_lines : tuple of 1 to 4 int64
    raw_band : int64
        Where the counts of these lines and this band stand in ``raw``.
    black, gain : float32 (bands, samples)
    dark : uint16 (bands, samples)
        The least counts that are not below black; with ``factors`` 1 more. 0 where none is.
    low : uint16 (lines, samples), or None
        Gains 1 where a count is below ``dark``.
    sums : float32 (strips, bands, cells), or None
        Row ``band`` of ``strip`` gains the corrected values of each 4 neighbours, those that are
        not a number left out.
    strip : int64
    out : int16, uint16 or float32 (lines, bands, samples), or None
        Where the quantised values go.
    lines : tuple, of as many
    band : int64
    extra : float32 (n, 4), or None
        Values of the bad pixels before the scale of the line, in each of four lines; their gain
        is 0.
    fix : int32 (n, 4)
        The bad pixels, by samples within a band: the second column is the sample.
    first, last : int
        Which of them are of this row.
    care : True, or None
        None when no gain of this row is NaN, and no value can leave the limits: then it is faster.
    past : True, or None
        Whether ``out`` is written past the caches, which does not first read the memory that is
        overwritten; its rows begin at cache lines then, and :func:`vector_ops.settle` must follow.
    factors : float32 (2, lines), or None
        Scale and offset of each of ``lines``.

    Returns
    -------
    changed : int32
        Not 0 when a value was changed to the limit of its type, before rounding (with ``care``).
    brightest : int32
        Largest count.
    """
    signature = types.UniTuple(types.int32, 2)(
        *(raw, raw_lines, raw_band, black, gain, dark, low, sums, strip),
        *(out, lines, band, extra, fix, first, last, care, past, factors),
    )

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return _Rows(context, builder, sig, args).emit()

    return signature, codegen


class _Rows(Vectors):
    """Emits the instructions of one call."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        super().__init__(builder)
        self.context, self.sig = context, sig
        kinds = dict(zip(_NAMES, sig.args, strict=True))
        values = dict(zip(_NAMES, args, strict=True))
        self.lines, raw_lines = (
            [builder.extract_value(values[name], i) for i in range(kinds[name].count)]
            for name in ("lines", "raw_lines")
        )
        self.past = not isinstance(kinds["past"], types.NoneType)
        self.care = not isinstance(kinds["care"], types.NoneType)
        raw = context.make_array(kinds["raw"])(context, builder, values["raw"])
        _, raw_bands, self.samples = cgutils.unpack_tuple(builder, raw.shape)
        self.raw = [self._row(raw.data, n, raw_bands, values["raw_band"]) for n in raw_lines]
        self.count_type = ir.IntType(kinds["raw"].dtype.bitwidth)
        table = context.make_array(kinds["black"])(context, builder, values["black"])
        bands, _ = cgutils.unpack_tuple(builder, table.shape)
        self.black, self.gain, self.dark = (
            self._row(self._data(kinds[name], values[name]), values["band"])
            for name in ("black", "gain", "dark")
        )
        self.low: list[Any] | None = None
        self.sums = self.out = self.extra = self.scales = self.offsets = None
        self.shifts = self.times = None
        self.kind = ""
        if not isinstance(kinds["sums"], types.NoneType):
            table = context.make_array(kinds["sums"])(context, builder, values["sums"])
            _, _, cells = cgutils.unpack_tuple(builder, table.shape)
            row = builder.add(builder.mul(values["strip"], bands), values["band"])
            self.sums = self.at(table.data, builder.mul(row, cells))
        if not isinstance(kinds["low"], types.NoneType):
            data = self._data(kinds["low"], values["low"])
            self.low = [self._row(data, n) for n in self.lines]
        if not isinstance(kinds["factors"], types.NoneType):
            table = context.make_array(kinds["factors"])(context, builder, values["factors"])
            _, count = cgutils.unpack_tuple(builder, table.shape)
            self.scales, self.offsets = (
                [builder.load(self.at(table.data, builder.add(n, first))) for n in self.lines]
                for first in (I64(0), count)
            )
            self.shifts = [self.whole(offset) for offset in self.offsets]
        if not isinstance(kinds["extra"], types.NoneType):
            self.extra = self._data(kinds["extra"], values["extra"])
            self.fix = self._data(kinds["fix"], values["fix"])
            self.fixes = [
                builder.sext(values[name], I64) if kinds[name].bitwidth < 64 else values[name]
                for name in ("first", "last")
            ]
            self.next_fix = cgutils.alloca_once(builder, I64)
            builder.store(self.fixes[0], self.next_fix)
        if not isinstance(kinds["out"], types.NoneType):
            data = self._data(kinds["out"], values["out"])
            self.out = [self._row(data, n, bands, values["band"]) for n in self.lines]
            self.kind = str(kinds["out"].dtype)
            self.times = self._times()

    def _data(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value).data

    def _row(self, data: Any, line: Any, bands: Any = None, band: Any = None) -> Any:
        """Point at a row: ``data[line, band]``, or ``data[line]``."""
        builder = self.builder
        if bands is not None:
            line = builder.add(builder.mul(line, bands), band)
        return self.at(data, builder.mul(line, self.samples))

    def _times(self) -> list[Any] | None:
        """Give what the values of each line are multiplied by, in one step, to be stored."""
        if self.kind == "float32":
            return self.scales
        scale = F32(float(SCALE))
        if self.scales is None:
            return [scale] * len(self.lines)
        return [self.builder.fmul(of_line, scale) for of_line in self.scales]

    def emit(self) -> Any:
        """Whole vectors, then what is left with narrower ones."""
        builder = self.builder
        found = []
        start: Any = I64(0)
        for width in WIDTHS:
            stop = builder.and_(self.samples, ir.Constant(I64, -width))
            changed = self.place(ir.VectorType(I32, width))
            brightest = self.place(ir.VectorType(self.count_type, width))
            if self.extra is None:
                self._loop(width, start, stop, changed, brightest)
            else:
                self._loop_with_extra(width, start, stop, changed, brightest)
            found.append(
                (
                    self.reduce("or", builder.load(changed)),
                    builder.zext(self.reduce("umax", builder.load(brightest)), I32),
                )
            )
            start = stop
        changed, brightest = found[0]
        for more, larger in found[1:]:
            changed = builder.or_(changed, more)
            is_larger = builder.icmp_unsigned(">", larger, brightest)
            brightest = builder.select(is_larger, larger, brightest)
        return cgutils.pack_array(builder, [changed, brightest])

    def _loop(self, width: int, start: Any, stop: Any, changed: Any, brightest: Any) -> None:
        with cgutils.for_range_slice(self.builder, start, stop, I64(width), intp=I64) as (i, _):
            self._step(width, i, changed, brightest, None)

    def _loop_with_extra(
        self, width: int, start: Any, stop: Any, changed: Any, brightest: Any
    ) -> None:
        """Go from one step with a bad pixel to the next.

        Between them runs a loop of its own: one that looked at each step whether it has a bad pixel
        would be compiled into one that is slower everywhere.
        """
        builder = self.builder
        at = cgutils.alloca_once(builder, I64)
        builder.store(start, at)
        parts, special, after = (builder.append_basic_block(f"extra.{n}") for n in range(3))
        builder.branch(parts)
        builder.position_at_end(parts)
        sample = self._sample_of(builder.load(self.next_fix))
        step = builder.and_(sample, ir.Constant(I64, -width))
        is_none = builder.icmp_signed(">=", step, stop)
        until = builder.select(is_none, stop, step)
        self._loop(width, builder.load(at), until, changed, brightest)
        builder.cbranch(is_none, after, special)
        builder.position_at_end(special)
        self._step(width, step, changed, brightest, self._extra_of(width, step))
        builder.store(builder.add(step, I64(width)), at)
        builder.branch(parts)
        builder.position_at_end(after)

    def _sample_of(self, number: Any) -> Any:
        """Give the sample of a bad pixel of this row, or one beyond the row after the last."""
        builder = self.builder
        is_one = builder.icmp_signed("<", number, self.fixes[1])
        # the one before the last is read where there is none, so that nothing beyond is
        number = builder.select(is_one, number, builder.sub(self.fixes[1], I64(1)))
        place = self.at(self.fix, builder.add(builder.mul(number, I64(4)), I64(1)))
        return builder.select(is_one, builder.sext(builder.load(place), I64), self.samples)

    def _extra_of(self, width: int, step: Any) -> list[Any]:
        """Give what is added to each line in a step, and go on to the next step's bad pixels.

        Each value is read as it was written. A vector read where one of its numbers was written
        just before would wait until that, and all results before it, have reached memory.
        """
        builder = self.builder
        floats, words = ir.VectorType(F32, width), ir.VectorType(I32, width)
        places = [self.place(floats) for _ in self.lines]
        lanes = ir.Constant(words, list(range(width)))
        one, after = (builder.append_basic_block(f"extra.{name}") for name in ("one", "after"))
        builder.branch(one)
        builder.position_at_end(one)
        number = builder.load(self.next_fix)
        lane = builder.trunc(builder.sub(self._sample_of(number), step), I32)
        is_here = builder.icmp_signed("==", lanes, spread(builder, lane, words))
        for n, place in enumerate(places):
            index = builder.add(builder.mul(number, I64(LINES)), I64(n))
            value = spread(builder, builder.load(self.at(self.extra, index)), floats)
            builder.store(builder.select(is_here, value, builder.load(place)), place)
        number = builder.add(number, I64(1))
        builder.store(number, self.next_fix)
        end = builder.add(step, I64(width))
        builder.cbranch(builder.icmp_signed("<", self._sample_of(number), end), one, after)
        builder.position_at_end(after)
        return [builder.load(place) for place in places]

    def _step(
        self, width: int, i: Any, changed: Any, brightest: Any, extra: list[Any] | None
    ) -> None:
        """Work on ``width`` samples of each line.

        All is read before anything is written: rows of lines tend to lie a whole number of pages
        apart, and processors take a load for one that needs the store before it where the last 12
        bits of their addresses agree.
        """
        builder = self.builder
        floats, words = ir.VectorType(F32, width), ir.VectorType(I16, width)
        black, gain = (self.load(p, i, floats) for p in (self.black, self.gain))
        dark = None if self.low is None else self.load(self.dark, i, words)
        if width == WIDTHS[0]:
            for base in self.raw:
                self.prefetch(base, i, self.count_type)
        raw = [self.load(base, i, ir.VectorType(self.count_type, width)) for base in self.raw]
        lows = [self.load(base, i, words) for base in self.low or ()] if self.care else []
        if dark is not None and self.low is not None and not self.care:
            self._count_low(i, raw, dark, self.low)
        cell = builder.udiv(i, I64(CELL))
        sums = None
        if self.sums is not None:
            sums = self.load(self.sums, cell, ir.VectorType(F32, max(width // CELL, 1)))
        total = None
        all_changed, largest = builder.load(changed), builder.load(brightest)
        stored = []
        for n, counts in enumerate(raw):
            is_larger = builder.icmp_unsigned(">", counts, largest)
            largest = builder.select(is_larger, counts, largest)
            value = builder.sitofp(builder.zext(counts, ir.VectorType(I32, width)), floats)
            if lows:  # black may be beyond all counts
                level = value
                if self.shifts is not None:
                    whole = builder.sitofp(self.shifts[n], F32)
                    level = builder.fsub(value, spread(builder, whole, floats))
                lows[n] = self.one_more(lows[n], builder.fcmp_ordered("<", level, black))
            if self.sums is None and self.out is None:
                continue
            if self.offsets is not None:
                value = builder.fsub(value, spread(builder, self.offsets[n], floats))
            value = builder.fmul(builder.fsub(value, black), gain)
            if extra is not None:
                value = builder.fadd(value, extra[n])
            known = builder.fcmp_ordered("ord", value, value) if self.care else None
            if self.sums is not None:
                counted = value
                if self.scales is not None:
                    counted = builder.fmul(value, spread(builder, self.scales[n], floats))
                if known is not None:
                    counted = builder.select(known, counted, ir.Constant(floats, None))
                total = counted if total is None else builder.fadd(total, counted)
            if self.out is not None:
                quantised, cut = self._quantise(n, width, value, known)
                stored.append(quantised)
                if cut is not None:
                    all_changed = builder.or_(all_changed, cut)
        builder.store(all_changed, changed)
        builder.store(largest, brightest)
        for base, quantised in zip(self.out or (), stored, strict=True):
            self.store(quantised, base, i, past=self.past and width == WIDTHS[0])
        for base, low in zip(self.low or (), lows, strict=False):
            self.store(low, base, i)
        if total is not None:
            self.store(builder.fadd(sums, self.cells(width, total)), self.sums, cell)

    def _count_low(self, i: Any, raw: list[Any], dark: Any, low: list[Any]) -> None:
        """Add 1 where a count is below ``dark``; few steps have any, so first look whether one has.

        Reading, comparing and writing the counters of four lines is a fifth of a step's work.
        """
        builder, words = self.builder, dark.type
        counts = [c if c.type == words else builder.zext(c, words) for c in raw]
        lowest = counts[0]
        for other in counts[1:]:
            is_lower = builder.icmp_unsigned("<", other, lowest)
            lowest = builder.select(is_lower, other, lowest)
        bound = dark
        if self.shifts is not None:  # as far up as it goes for any line; not down, which is rare
            most = self.shifts[0]
            for shift in self.shifts[1:]:
                most = self.larger(shift, most)
            bound = self.moved(dark, "uadd", builder.sub(most, ir.Constant(I32, 1)))
        bits = ir.IntType(words.count)
        found = builder.bitcast(builder.icmp_unsigned("<", lowest, bound), bits)
        with builder.if_then(builder.icmp_unsigned("!=", found, bits(0)), likely=False):
            for n, (count, base) in enumerate(zip(counts, low, strict=True)):
                if self.shifts is not None:
                    more = builder.sub(ir.Constant(I32, 1), self.shifts[n])
                    count = self.moved(count, "uadd", more)
                    count = self.moved(count, "usub", builder.neg(more))
                is_low = builder.icmp_unsigned("<", count, dark)
                self.store(self.one_more(self.load(base, i, words), is_low), base, i)

    def _quantise(self, n: int, width: int, value: Any, known: Any) -> tuple[Any, Any]:
        """Give what is stored of line ``n``, and bits that are set where a limit was met."""
        builder = self.builder
        floats, words = ir.VectorType(F32, width), ir.VectorType(I32, width)
        scaled = value
        if self.times is not None:
            scaled = builder.fmul(value, spread(builder, self.times[n], floats))
        if self.kind == "float32":
            return scaled, None
        least, greatest, rounder = (
            ir.Constant(floats, [float(x)] * width) for x in (*LIMITS[self.kind], ROUNDER)
        )
        if known is None:
            bits = builder.bitcast(builder.fadd(scaled, rounder), words)
            return builder.trunc(bits, ir.VectorType(I16, width)), None
        inside = builder.select(builder.fcmp_ordered(">", scaled, least), scaled, least)
        inside = builder.select(builder.fcmp_ordered("<", inside, greatest), inside, greatest)
        cut = builder.xor(builder.bitcast(scaled, words), builder.bitcast(inside, words))
        bits = builder.bitcast(builder.fadd(inside, rounder), words)
        stored = builder.trunc(bits, ir.VectorType(I16, width))
        invalid = ir.Constant(stored.type, [int(INVALID[self.kind])] * width)
        stored = builder.select(known, stored, invalid)
        return stored, builder.select(known, cut, ir.Constant(words, None))


_NAMES: Final = (
    *("raw", "raw_lines", "raw_band", "black", "gain", "dark"),
    *("low", "sums", "strip", "out", "lines", "band", "extra", "fix"),
    *("first", "last"),
    *("care", "past", "factors"),
)
