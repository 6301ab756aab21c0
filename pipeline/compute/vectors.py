"""Steps of the compiled loops over vectors: loads and stores, and arithmetic that LLVM has by name.

Each emits instructions where the builder stands. Knows LLVM and numba's way to call its intrinsics;
nothing of rows, bands or corrections.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils

from pipeline.compute.interface import ALIGNMENT

#: How far ahead counts are fetched, bytes: processors stop guessing at the end of a page.
AHEAD: Final = 4096
LOCALITY: Final = 3
#: Samples of a preview cell.
CELL: Final = 4
#: Added to |x| < 2²², it leaves x, rounded half to even, in the low bits of the float's pattern.
ROUNDER: Final = 1.5 * 2**23

#: The float's pattern, from which the rounded number is told.
_ROUNDER_BITS: Final = 0x4B400000

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32 = ir.FloatType()


class Vectors:
    """Emits instructions with a builder."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, data: Any, index: Any) -> Any:
        """Point at an element."""
        return self.builder.gep(data, [index], inbounds=True)

    def place(self, kind: Any) -> Any:
        """Make a variable that is 0; set here, too, as the call may stand in a loop."""
        place = cgutils.alloca_once_value(self.builder, ir.Constant(kind, None))
        self.builder.store(ir.Constant(kind, None), place)
        return place

    def whole(self, number: Any) -> Any:
        """Round a float to an int32, half to even; it is far from the ends of its range."""
        builder = self.builder
        bits = builder.bitcast(builder.fadd(number, ir.Constant(F32, ROUNDER)), I32)
        return builder.sub(bits, ir.Constant(I32, _ROUNDER_BITS))

    def one_more(self, words: Any, where: Any) -> Any:
        """Add 1 where a flag is set."""
        more = self.builder.add(words, ir.Constant(words.type, [1] * words.type.count))
        return self.builder.select(where, more, words)

    def moved(self, words: Any, way: str, amount: Any) -> Any:
        """Add to words, or subtract, unless ``amount`` is negative; they stay within their type."""
        builder, kind = self.builder, words.type
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind, kind]),
            f"llvm.{way}.sat.v{kind.count}i16",
        )
        amount = builder.trunc(self.larger(amount, ir.Constant(I32, 0)), I16)
        return builder.call(function, [words, spread(builder, amount, kind)])

    def larger(self, one: Any, other: Any) -> Any:
        """Give the larger of two signed integers."""
        return self.builder.select(self.builder.icmp_signed(">", one, other), one, other)

    def cells(self, width: int, total: Any) -> Any:
        """Add up each 4 neighbours."""
        builder = self.builder
        size = width
        while size > max(width // CELL, 1):
            halves = (
                builder.shuffle_vector(
                    total,
                    ir.Constant(total.type, ir.Undefined),
                    ir.Constant(ir.VectorType(I32, size // 2), list(range(odd, size, 2))),
                )
                for odd in (0, 1)
            )
            total = builder.fadd(*halves)
            size //= 2
        return total

    def prefetch(self, base: Any, i: Any, count_type: Any) -> None:
        """Have counts brought near that are wanted some rows later; beyond the end does no harm."""
        builder = self.builder
        ahead = AHEAD * 8 // count_type.width
        at = builder.gep(base, [builder.add(i, I64(ahead))])
        at = builder.bitcast(at, I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [at.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [at, I32(0), I32(LOCALITY), I32(1)])

    def load(self, base: Any, i: Any, kind: Any) -> Any:
        """Load a vector of a kind from an element on; aligned as its elements are."""
        builder = self.builder
        place = builder.bitcast(self.at(base, i), kind.as_pointer())
        return builder.load(place, align=_bytes(kind.element))

    def store(self, value: Any, base: Any, i: Any, *, past: bool = False) -> None:
        """Store a vector from an element on; past the caches it begins at a cache line."""
        builder = self.builder
        place = builder.bitcast(self.at(base, i), value.type.as_pointer())
        if not past:
            builder.store(value, place, align=_bytes(value.type.element))
            return
        store = builder.store(value, place, align=ALIGNMENT)
        store.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))

    def reduce(self, name: str, vector: Any) -> Any:
        """Give one number of a vector of integers, by the name of LLVM's reduction."""
        kind = vector.type
        suffix = f"v{kind.count}i{kind.element.width}"
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind.element, [kind]),
            f"llvm.vector.reduce.{name}.{suffix}",
        )
        return self.builder.call(function, [vector])


def spread(builder: Any, number: Any, kind: Any) -> Any:
    """Give a vector of one number."""
    none = ir.Constant(kind, ir.Undefined)
    vector = builder.insert_element(none, number, I32(0))
    everywhere = ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(vector, none, everywhere)


@functools.cache
def _bytes(kind: Any) -> int:
    """Bytes of an element: what loads and stores may rely on."""
    return 4 if isinstance(kind, ir.FloatType) else int(kind.width) // 8
