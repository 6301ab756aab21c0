"""Vector instructions that no loop in Python expresses, for the kernels of numba.

Written as LLVM's own vectors, which it lowers to what the processor has: on x86 one byte shuffle
and one shift for many pixels. Imported by the modules with kernels only; knows the bit layouts of
packed pixels, nothing of lines or frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

#: Pixels that one step unpacks: 64 bytes, what the widest registers and a cache line hold.
STEP: Final = 32
#: A step loads so many pixels at a time, each time so many bytes (a few more than they take):
#: shuffles within 16 bytes are one instruction everywhere.
_LOAD, _LOAD_BYTES = 8, 16
#: How far ahead a step asks for its input, bytes: some hundred ns at memory's rate. The processor's
#: own guess ends with the page, and input from memory then comes at two thirds of the rate.
_AHEAD = 4096
#: Columns that are added up together: first so many at a time, then what is left with fewer.
_COLUMNS = (16, 4, 1)

_BYTE, _WORD, _INDEX = ir.IntType(8), ir.IntType(16), ir.IntType(32)


class Place(NamedTuple):
    """Where the bits of a pixel lie: ``(w >> shift & mask) | (w >> low_shift & low_mask)``.

    ``w`` is made of two bytes of the pixel's group, number ``first`` and, above it, ``second``.
    """

    first: int
    second: int
    shift: int
    mask: int
    low_shift: int = 0
    low_mask: int = 0


class Layout(NamedTuple):
    """A bit layout: the places of the pixels of a group, and the bytes that a group takes."""

    places: tuple[Place, ...]
    size: int

    @property
    def step_bytes(self) -> int:
        """Packed bytes of one step."""
        return STEP // len(self.places) * self.size

    @property
    def step_span(self) -> int:
        """Bytes that one step reads, from its first."""
        return self.step_bytes * (STEP - _LOAD) // STEP + _LOAD_BYTES


def lsb_layout(bits: int) -> Layout:
    """Give the layout of pixels that follow each other bit by bit, least significant first."""
    pixels = 8 // math.gcd(8, bits)
    starts = [divmod(i * bits, 8) for i in range(pixels)]
    mask = (1 << bits) - 1
    places = tuple(Place(byte, byte + 1, shift, mask) for byte, shift in starts)
    return Layout(places, pixels * bits // 8)


def gige_layout(bits: int) -> Layout:
    """Give the layout of two pixels in three bytes, the low bits of both in the middle one."""
    low = bits - 8
    mask, high = (1 << low) - 1, 0xFF << low
    return Layout((Place(1, 0, 8 - low, high, 0, mask), Place(1, 2, 8 - low, high, 4, mask)), 3)


def unpack_step(layout: Layout, stream: bool) -> Callable[..., None]:
    """Make the step that unpacks ``STEP`` pixels, to be called from kernels of numba.

    Parameters
    ----------
    layout : Layout
    stream : bool
        Write past the caches. Where a step writes, memory must then be aligned to 64 bytes, and
        :func:`settle` be called before others read it.

    Returns
    -------
    callable
        ``step(packed, at, out, to)`` reads ``layout.step_span`` bytes of ``packed``, uint8 (n,)
        C-contiguous, from byte ``at``, where a group must begin, and writes the ``STEP`` counts of
        the first ``layout.step_bytes`` to ``out``, uint16 (n,) C-contiguous, from element ``to``.
        Nothing checks the bounds; numba refuses arrays of other kinds when it compiles.
    """

    @intrinsic
    def step(context, packed, at, out, to):  # type: ignore[no-untyped-def]
        for array, dtype in ((packed, types.uint8), (out, types.uint16)):
            if (array.dtype, array.ndim, array.layout) != (dtype, 1, "C"):
                raise TypingError(f"unpack_step: found {array}, needed is a contiguous {dtype} row")

        def generate(target, builder, signature, values):  # type: ignore[no-untyped-def]
            kinds = signature.args
            source = target.make_array(kinds[0])(target, builder, values[0]).data
            source = builder.gep(builder.bitcast(source, _BYTE.as_pointer()), [values[1]])
            place = target.make_array(kinds[2])(target, builder, values[2]).data
            place = builder.gep(place, [values[3]])
            _ask_for(builder, _offset(builder, source, _AHEAD))
            counts = _arithmetic(builder, layout, _words(builder, layout, source))
            place = builder.bitcast(place, counts.type.as_pointer())
            store = builder.store(counts, place, align=2 * STEP if stream else 2)
            if stream:
                store.set_metadata("nontemporal", builder.module.add_metadata([_INDEX(1)]))
            return target.get_dummy_value()

        return types.void(packed, types.intp, out, types.intp), generate

    return step  # type: ignore[no-any-return]


@intrinsic
def settle(context):  # type: ignore[no-untyped-def]
    """Wait until what was streamed can be read by every thread."""

    def generate(target, builder, signature, values):  # type: ignore[no-untyped-def]
        builder.fence("seq_cst")
        return target.get_dummy_value()

    return types.void(), generate


@intrinsic
def take_number(context, counter):  # type: ignore[no-untyped-def]
    """Give the number in ``counter``, int64 (1,), and raise it: no two threads get the same."""
    if (counter.dtype, counter.ndim) != (types.int64, 1):
        raise TypingError(f"take_number: found {counter}, needed is int64 (1,)")

    def generate(target, builder, signature, values):  # type: ignore[no-untyped-def]
        place = target.make_array(signature.args[0])(target, builder, values[0]).data
        return builder.atomic_rmw("add", place, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), generate


@intrinsic
def add_columns(context, counts, line, bands, first, last):  # type: ignore[no-untyped-def]
    """Add up columns ``first`` … ``last`` − 1 of some bands of a line, and find the largest count.

    ``counts``: uint8 or uint16 (lines, bands, samples); ``bands``: int64 (n,), up to 2048. Gives
    int64 and int32. Each row is a cache line and a page of its own, most of them far away: as few
    instructions as this lets a processor fetch a dozen of them at once, which asking ahead did not.
    """

    def generate(target, builder, signature, values):  # type: ignore[no-untyped-def]
        return _Columns(target, builder, signature, values).emit()

    whole = types.int64
    given = types.Tuple((types.int64, types.int32))
    return given(counts, whole, bands, whole, whole), generate


class _Columns:
    """Emits the instructions of :func:`add_columns`."""

    def __init__(self, target: Any, builder: Any, signature: Any, values: Any) -> None:
        self.target, self.builder, self.signature = target, builder, signature
        kind = signature.args[0]
        array = target.make_array(kind)(target, builder, values[0])
        _, bands, self.samples = cgutils.unpack_tuple(builder, array.shape)
        self.count_type, self.data = ir.IntType(kind.dtype.bitwidth), array.data
        self.row = builder.mul(values[1], bands)
        which = target.make_array(signature.args[2])(target, builder, values[2])
        self.bands, (self.rows,) = which.data, cgutils.unpack_tuple(builder, which.shape)
        self.first, self.last = values[3:]

    def emit(self) -> Any:
        """As many columns together as there are, all bands of them one after another."""
        builder, whole = self.builder, ir.IntType(64)
        total, largest = (cgutils.alloca_once(builder, kind) for kind in (whole, _INDEX))
        builder.store(whole(0), total)
        builder.store(_INDEX(0), largest)
        start = self.first
        for width in _COLUMNS:
            many = builder.and_(builder.sub(self.last, start), whole(-width))
            stop = builder.add(start, many)
            with cgutils.for_range_slice(builder, start, stop, whole(width), intp=whole) as (s, _):
                added, most = self._add_bands(width, s)
                builder.store(builder.add(builder.load(total), builder.zext(added, whole)), total)
                most, before = builder.zext(most, _INDEX), builder.load(largest)
                is_larger = builder.icmp_unsigned(">", most, before)
                builder.store(builder.select(is_larger, most, before), largest)
            start = stop
        found = builder.load(total), builder.load(largest)
        return self.target.make_tuple(builder, self.signature.return_type, found)

    def _add_bands(self, width: int, sample: Any) -> tuple[Any, Any]:
        """Give sum and largest count of ``width`` columns from ``sample``."""
        builder, whole = self.builder, ir.IntType(64)
        kinds = ir.VectorType(_INDEX, width), ir.VectorType(self.count_type, width)
        total, largest = (cgutils.alloca_once(builder, kind) for kind in kinds)
        for place, kind in zip((total, largest), kinds, strict=True):
            builder.store(ir.Constant(kind, None), place)
        with cgutils.for_range(builder, self.rows, intp=whole) as loop:
            band = builder.load(builder.gep(self.bands, [loop.index]))
            at = builder.mul(builder.add(self.row, band), self.samples)
            place = builder.gep(self.data, [builder.add(at, sample)])
            place = builder.bitcast(place, kinds[1].as_pointer())
            counts = builder.load(place, align=self.count_type.width // 8)
            most = builder.load(largest)
            is_larger = builder.icmp_unsigned(">", counts, most)
            builder.store(builder.select(is_larger, counts, most), largest)
            more = builder.zext(counts, kinds[0])
            builder.store(builder.add(builder.load(total), more), total)
        return self._reduce("add", builder.load(total)), self._reduce("umax", builder.load(largest))

    def _reduce(self, name: str, vector: Any) -> Any:
        kind = vector.type
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(kind.element, [kind]),
            f"llvm.vector.reduce.{name}.v{kind.count}i{kind.element.width}",
        )
        return self.builder.call(function, [vector])


def _offset(builder: Any, pointer: Any, count: int) -> Any:
    return builder.gep(pointer, [ir.IntType(64)(count)])


def _indices(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INDEX, len(values)), values)


def _words(builder: Any, layout: Layout, source: Any) -> Any:
    """Load the bytes of a step, and put the two bytes of each pixel into a word of its own."""
    group = len(layout.places)
    order = []
    for pixel in range(_LOAD):
        place = layout.places[pixel % group]
        order += [pixel // group * layout.size + byte for byte in (place.first, place.second)]
    loaded = ir.VectorType(_BYTE, _LOAD_BYTES)
    parts = []
    for i in range(STEP // _LOAD):
        pointer = _offset(builder, source, i * _LOAD // group * layout.size)
        value = builder.load(builder.bitcast(pointer, loaded.as_pointer()), align=1)
        parts.append(builder.shuffle_vector(value, value, _indices(order)))
    while len(parts) > 1:
        both = _indices(list(range(2 * parts[0].type.count)))
        parts = [builder.shuffle_vector(*two, both) for two in zip(*[iter(parts)] * 2, strict=True)]
    return builder.bitcast(parts[0], ir.VectorType(_WORD, STEP))


def _arithmetic(builder: Any, layout: Layout, words: Any) -> Any:
    """Shift and mask each word as its place says."""

    def constants(name: str) -> Any:
        values = [getattr(place, name) for place in layout.places]
        return ir.Constant(words.type, values * (STEP // len(values)))

    counts = builder.and_(builder.lshr(words, constants("shift")), constants("mask"))
    if any(place.low_mask for place in layout.places):
        low = builder.and_(builder.lshr(words, constants("low_shift")), constants("low_mask"))
        counts = builder.or_(counts, low)
    return counts


def _ask_for(builder: Any, pointer: Any) -> None:
    """Prefetch a cache line for reading; an address beyond the memory does no harm."""
    kinds = [pointer.type, _INDEX, _INDEX, _INDEX]
    function = builder.module.declare_intrinsic(
        "llvm.prefetch", [pointer.type], ir.FunctionType(ir.VoidType(), kinds)
    )
    builder.call(function, [pointer, _INDEX(0), _INDEX(2), _INDEX(1)])
