"""The values of a bad pixel in four lines at once, as vector instructions of LLVM.

Beside the pass, which works on 128 pixels in as many instructions as one line's replacement takes,
what is done pixel by pixel shows. Knows numba's lowering; where counts come from is the caller's.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.compute.vectors import F32, I32, spread

types: Any = numba.types

_LINES = 4
_FLOATS, _WORDS = ir.VectorType(F32, _LINES), ir.VectorType(I32, _LINES)


@intrinsic
def between_in_lines(context, below, above, tables, weight, factors, first, to):  # type: ignore[no-untyped-def]
    """Give the values between a bad pixel's neighbours in four lines.

    Parameters
    ----------
    below, above : tuple of 4 uint8 or uint16
        Counts of the neighbours in these lines.
    tables : tuple of 4 float32
        Black and gain of the one below, then of the one above.
    weight : float32
        Of the one above.
    factors : float32 (2, lines), or None
        Scale and offset of each line.
    first : int64
        The first of the lines.
    to : row_kernels.Rounding

    Returns
    -------
    values : tuple of 4 float32
        Before the scales of the lines.
    beyond : bool
        Whether one of them is beyond the limits of what is stored.
    """

    def generate(target, builder, signature, given):  # type: ignore[no-untyped-def]
        return _Between(target, builder, signature, given).emit()

    values = types.UniTuple(types.float32, _LINES)
    found = types.Tuple((values, types.boolean))
    return found(below, above, tables, weight, factors, first, to), generate


class _Between:
    """Emits the instructions of one call."""

    def __init__(self, target: Any, builder: Any, signature: Any, given: Any) -> None:
        self.target, self.builder, self.signature = target, builder, signature
        self.below, self.above, tables, self.weight, factors, first, to = given
        self.tables, self.to = (cgutils.unpack_tuple(builder, each) for each in (tables, to))
        self.of_lines: list[Any] = []
        kind = signature.args[4]
        if not isinstance(kind, types.NoneType):
            table = target.make_array(kind)(target, builder, factors)
            _, lines = cgutils.unpack_tuple(builder, table.shape)
            for at in (first, builder.add(first, lines)):
                place = builder.gep(table.data, [at], inbounds=True)
                place = builder.bitcast(place, _FLOATS.as_pointer())
                self.of_lines.append(builder.load(place, align=4))

    def emit(self) -> Any:
        """Both neighbours, the line between them, and what is left of it when it is stored."""
        builder = self.builder
        low = self._value(self.below, *self.tables[:2])
        high = self._value(self.above, *self.tables[2:])
        step = builder.fmul(builder.fsub(high, low), spread(builder, self.weight, _FLOATS))
        value = builder.fadd(low, step)
        scale, rounder, least, greatest, _ = (spread(builder, x, _FLOATS) for x in self.to)
        if self.of_lines:
            scale = builder.fmul(self.of_lines[0], scale)
        stored = builder.fadd(builder.fmul(value, scale), rounder)
        stored = builder.fsub(stored, rounder)
        beyond = builder.or_(
            builder.fcmp_ordered("<", stored, least), builder.fcmp_ordered(">", stored, greatest)
        )
        bits = builder.bitcast(beyond, ir.IntType(_LINES))
        is_beyond = builder.icmp_unsigned("!=", bits, ir.IntType(_LINES)(0))
        values = [builder.extract_element(value, I32(i)) for i in range(_LINES)]
        kinds = self.signature.return_type.types
        found = (self.target.make_tuple(builder, kinds[0], values), is_beyond)
        return self.target.make_tuple(builder, self.signature.return_type, found)

    def _value(self, counts: Any, black: Any, gain: Any) -> Any:
        """Give the reflectances of counts before the scales of the lines."""
        builder = self.builder
        words: Any = ir.Constant(_WORDS, ir.Undefined)
        for i, count in enumerate(cgutils.unpack_tuple(builder, counts)):
            words = builder.insert_element(words, builder.zext(count, I32), I32(i))
        value = builder.sitofp(words, _FLOATS)
        if self.of_lines:
            value = builder.fsub(value, self.of_lines[1])
        value = builder.fsub(value, spread(builder, black, _FLOATS))
        return builder.fmul(value, spread(builder, gain, _FLOATS))
