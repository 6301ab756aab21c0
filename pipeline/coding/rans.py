"""Entropy coding of rows of integers: interleaved rANS with static tables.

Each row (a component's scores, a band's residuals) belongs to one of a few classes of like spread;
a class has one table of frequencies, measured and stored. Many lanes are coded side by side, so
that NumPy decodes one value of each lane at a time; with numba it is a loop. The coder is that of
J. Duda, "Asymmetric numeral systems" (2013), with states of 32 bits that give and take 16 at once,
as in F. Giesen's "Interleaved entropy coders" (2014). Knows arrays and sections.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.compiled import compile_rans, rans_kernels
from pipeline.coding.room import room
from pipeline.coding.sections import Sections, bad, deflated, section

if TYPE_CHECKING:
    from pipeline.coding.rans_kernels import RansKernels

#: Bits of the frequencies of a table: they add up to ``1 << BITS``.
BITS: Final = 12
#: States begin at, and never fall below this.
LOW: Final = 1 << 16
#: Symbols of a table at most, the escape included.
SYMBOLS: Final = 256
#: Tables of a stream at most.
CLASSES: Final = 64
#: Lanes; many for NumPy's sake, but each costs about 2 bytes.
LANES: Final = (32, 256)
#: Values from which on there are many lanes.
MANY: Final = 1 << 20
#: Classes per factor of two of spread: as many as there may be tables for.
PER_OCTAVE: Final = (3, 2, 1)
#: Least spread that is told from none.
LEAST_SPREAD: Final = 1e-4
#: Values are coded in units of 1/8 to 1/16 of their spread, the bits below as they are: over so
#: narrow a unit a Gaussian is flat to 0.001 bits.
FINE: Final = 3
#: Low bits at most.
MOST_SHIFT: Final = 20
#: Of so many values, one that is alone goes beside the table.
RARE: Final = 1 << (BITS + 1)

#: Bits of a value beside the table, as zlib leaves them.
ESCAPE_BITS: Final = 20
#: Tables are measured on a share of longer rows.
SAMPLE: Final = 1 << 15

Ints = NDArray[np.int32]
Rows = NDArray[np.int32] | NDArray[np.int16]


@dataclass(frozen=True)
class Tables:
    """The tables of all classes.

    Attributes
    ----------
    shift : ndarray of int32 (classes,)
        Low bits that are stored as they are.
    least : ndarray of int32 (classes,)
        ``value >> shift`` of symbol 0.
    count : ndarray of int32 (classes,)
        Symbols without the escape, which is symbol ``count``.
    frequency : ndarray of uint32 (classes, SYMBOLS)
    """

    shift: Ints
    least: Ints
    count: Ints
    frequency: NDArray[np.uint32]

    def starts(self) -> NDArray[np.uint32]:
        """Give the sums of the frequencies before each symbol."""
        return (np.cumsum(self.frequency, axis=1) - self.frequency).astype(np.uint32)

    def slots(self) -> NDArray[np.uint32]:
        """Give what a decoder looks up, (classes, 1 << BITS).

        ``frequency − 1`` in the highest 12 bits, the place within the symbol's slots in the next
        12, the symbol in the lowest 8.
        """
        out = np.empty((len(self.shift), 1 << BITS), np.uint32)
        symbols = np.arange(SYMBOLS, dtype=np.uint32)
        places = np.arange(1 << BITS, dtype=np.uint32)
        for row, frequency, start in zip(out, self.frequency, self.starts(), strict=True):
            symbol = np.repeat(symbols, frequency)
            row[:] = (frequency[symbol] - 1) << 20 | (places - start[symbol]) << 8 | symbol
        return out

    def to_bytes(self) -> bytes:
        """Give the class count, shift, least and count of each, and a zlib section of frequencies.

        The frequencies of all classes follow each other, the escape's last in each.
        """
        head = struct.pack("<B", len(self.shift))
        for shift, least, count in zip(self.shift, self.least, self.count, strict=True):
            head += struct.pack("<BiB", shift, least, count)
        used = [row[: n + 1] for row, n in zip(self.frequency, self.count, strict=True)]
        return head + deflated(np.concatenate([*used, np.zeros(0, np.uint32)]).astype("<u2"))


def read_tables(data: Sections) -> Tables:
    """Read what ``Tables.to_bytes`` wrote."""
    (classes,) = data.numbers("B")
    heads = [data.numbers("BiB") for _ in range(classes)]
    shift, least, count = np.array(heads, np.int32).reshape(classes, 3).T.copy()
    if (
        classes > CLASSES
        or (shift > MOST_SHIFT).any()
        or (np.abs(least.astype(np.int64)) > 1 << 24).any()
    ):
        raise bad("tables of another make")
    given = data.inflated("<u2", int(count.sum()) + classes)
    frequency = np.zeros((classes, SYMBOLS), np.uint32)
    at = 0
    for row, n in zip(frequency, count, strict=True):
        row[: n + 1] = given[at : at + n + 1]
        at += n + 1
    if (frequency.sum(axis=1) != 1 << BITS).any():
        raise bad("frequencies of another sum")
    return Tables(shift, least, count, frequency)


@dataclass(frozen=True)
class Plan:
    """How rows are coded.

    Attributes
    ----------
    classes : ndarray of uint8 (rows,)
    tables : Tables
    counts : ndarray of int64 (classes, window)
        How often each value occurs among those that were counted; see ``tables_of``.
    """

    classes: NDArray[np.uint8]
    tables: Tables
    counts: NDArray[np.int64]

    def size(self, n: int) -> float:
        """Estimate the bytes of the coded rows, of so many values each."""
        tables, values = self.tables, n * len(self.classes)
        bits = 0.0
        for k, found in enumerate(self.counts):
            count = int(tables.count[k])
            first = self.counts.shape[1] // 2 + int(tables.least[k])
            inside = found[first : first + count]
            cost = BITS - np.log2(np.maximum(tables.frequency[k, : count + 1], 1))
            beside = int(found.sum()) - int(inside.sum())
            bits += float(inside @ cost[:-1]) + beside * (float(cost[-1]) + ESCAPE_BITS)
        bits *= values / max(int(self.counts.sum()), 1)
        bits += float(tables.shift[self.classes].sum()) * n
        return bits / 8 + len(tables.to_bytes()) + 4 * LANES[values >= MANY]


def encode_rows(values: Rows, plan: Plan | None = None) -> bytes:
    """Code rows of integers; tables are chosen best for magnitudes below 2²³.

    Parameters
    ----------
    values : ndarray of int32 or int16 (rows, n)
    plan : Plan, optional
        What :func:`plan_rows` made of them.

    Returns
    -------
    bytes
        ``uint16`` lanes; a zlib section with the class of each row (uint8); the tables; a zlib
        section of escaped values (int32, row by row); a section of low bits: for each row
        ``shift`` planes, the lowest first, of n bits each, the first bit in the lowest of a byte;
        the lanes' states (uint32) and a section of words (uint16).
    """
    rows, n = values.shape
    if not values.size:
        return b""
    kernels = compile_rans(values.dtype)
    plan = plan or plan_rows(values)
    classes, tables = plan.classes, plan.tables
    starts = tables.starts()
    symbols = room("symbols", (rows, n), np.uint8)
    planes = room("planes", (int(tables.shift[classes].sum()) * n,), np.uint8)
    escaped = np.empty(values.size // 64 + 1, np.int32)
    kinds = tables.shift, tables.least, tables.count
    found = kernels.symbols(values, classes, *kinds, symbols, planes, escaped)
    if found > len(escaped):
        escaped = np.empty(found, np.int32)
        kernels.symbols(values, classes, *kinds, symbols, planes, escaped)
    states = np.full(LANES[values.size >= MANY], LOW, np.uint32)
    words = room("words", (values.size + 1,), np.uint16)
    count = kernels.encode(symbols, classes, tables.frequency, starts, states, words)
    return b"".join(
        (
            struct.pack("<H", len(states)),
            deflated(classes),
            tables.to_bytes(),
            deflated(escaped[:found].astype("<i4")),
            section(np.packbits(planes, bitorder="little")),
            states.astype("<u4").tobytes(),
            section(words[len(words) - count :].astype("<u2")),
        )
    )


def decode_rows(
    data: Sections, rows: int, n: int, *, numba: bool = True, narrow: bool = False
) -> Rows:
    """Decode what ``encode_rows`` gave.

    Parameters
    ----------
    data : Sections
    rows, n : int
    numba : bool
        ``False``: with NumPy alone.
    narrow : bool
        Give ``int16`` where all values fit.

    Returns
    -------
    ndarray of int32 or int16 (rows, n)

    Raises
    ------
    ContainerError
        When the bytes are no such rows.
    """
    if not rows * n:
        return np.zeros((rows, n), np.int32)
    (lanes,) = data.numbers("H")
    if not 1 <= lanes <= 4096:
        raise bad(f"{lanes} lanes")
    classes = data.inflated("u1", rows)
    tables = read_tables(data)
    if classes.max() >= len(tables.shift):
        raise bad("rows of a class that has no table")
    escaped = data.inflated_some("<i4", rows * n)
    low = np.frombuffer(data.section(), np.uint8)
    bits = int(tables.shift[classes].sum()) * n
    if len(low) != -(-bits // 8):
        raise bad("low bits of another size")
    states = data.array("<u4", lanes).astype(np.uint32)
    words = np.frombuffer(data.section()[:], "u1")
    if len(words) % 2:
        raise bad("half a word")
    words = words.view("<u2").astype(np.uint16)
    symbols = np.empty((rows, n), np.uint8)
    kind = np.dtype(np.int16 if narrow and _fit(tables, escaped) else np.int32)
    kernels = rans_kernels(kind) if numba else None
    decode = kernels.decode if kernels else decode_symbols
    if decode(classes, tables.slots(), states, words, symbols) != len(words):
        raise bad("words that do not end with the rows")
    if (states != LOW).any():
        raise bad("states that do not end where they began")
    planes = np.unpackbits(low, count=bits, bitorder="little")
    if kernels is None:
        return _values(symbols, classes, tables, escaped, planes)
    out: Rows = np.empty((rows, n), kind)
    kinds = tables.shift, tables.least, tables.count
    if kernels.values(symbols, classes, *kinds, planes, escaped, out) != len(escaped):
        raise bad("another number of escaped values than of escapes")
    return out


def _fit(tables: Tables, escaped: Ints) -> bool:
    """Tell whether 16 bits hold all values."""
    least = tables.least.astype(np.int64) << tables.shift
    most = (tables.least.astype(np.int64) + tables.count + 1) << tables.shift
    info = np.iinfo(np.int16)
    every = (*least, *most, escaped.min(initial=0), escaped.max(initial=0))
    return bool(info.min <= min(every) and max(every) <= info.max)


def decode_symbols(
    classes: NDArray[np.uint8],
    slots: NDArray[np.uint32],
    states: NDArray[np.uint32],
    words: NDArray[np.uint16],
    symbols: NDArray[np.uint8],
) -> int:
    """Decode symbols with NumPy alone; gives how many words were taken, or -1 if they ended."""
    n, lanes, at = symbols.shape[1], len(states), 0
    for row, kind in zip(symbols, classes, strict=True):
        table = slots[kind]
        for i in range(0, n, lanes):
            state = states[: min(lanes, n - i)]
            slot = table[state & 0xFFF]
            row[i : i + lanes] = slot & 0xFF
            state[:] = ((slot >> 20) + 1) * (state >> 12) + ((slot >> 8) & 0xFFF)
            low = np.flatnonzero(state < LOW)
            if len(low) > len(words) - at:
                return -1
            state[low] = state[low] << 16 | words[at : at + len(low)]
            at += len(low)
    return at


def _values(
    symbols: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    tables: Tables,
    escaped: Ints,
    planes: NDArray[np.uint8],
) -> Ints:
    """Make values of symbols, low bits and escapes."""
    rows, n = symbols.shape
    at, taken = 0, 0
    out = np.empty((rows, n), np.int32)
    for row, symbol, kind in zip(out, symbols, classes, strict=True):
        shift, count = int(tables.shift[kind]), tables.count[kind]
        np.add(symbol, tables.least[kind], out=row)
        if shift:
            row <<= shift
            for bit in range(shift):
                row |= planes[at : at + n].astype(np.int32) << bit
                at += n
        if tables.frequency[kind, count]:
            beside = np.flatnonzero(symbol == count)
            if len(beside) > len(escaped) - taken:
                raise bad("fewer escaped values than escapes")
            row[beside] = escaped[taken : taken + len(beside)]
            taken += len(beside)
    if taken != len(escaped):
        raise bad("more escaped values than escapes")
    return out


def classes_of(spread: NDArray[np.float64]) -> tuple[NDArray[np.uint8], Ints]:
    """Sort rows into classes by their spread, as many as there may be tables for at most.

    Parameters
    ----------
    spread : ndarray (rows,)
        Mean magnitudes.

    Returns
    -------
    classes : ndarray of uint8 (rows,)
    shift : ndarray of int32 (classes,)
        Low bits.
    """
    octave = np.log2(np.maximum(spread, LEAST_SPREAD))
    for each in PER_OCTAVE:
        levels, which = np.unique(np.floor(each * octave), return_inverse=True)
        if len(levels) <= CLASSES:
            break
    shift = np.clip(np.floor(levels / each) - FINE, 0, MOST_SHIFT).astype(np.int32)
    return which.astype(np.uint8), shift


def plan_rows(values: Rows) -> Plan:
    """Sort rows into classes by their spread, and measure each class's frequencies."""
    kernels = compile_rans(values.dtype)
    rows, n = values.shape
    every = n // SAMPLE | 1  # odd: runs of all columns of a line in turn
    total = np.empty(rows, np.int64)
    kernels.spreads(values, every, total)
    classes, shift = classes_of(every * total / n)
    counts = kernels.histogram(values, classes, shift, every)
    tables = tables_of(counts, shift, kernels, complete=every == 1)
    return Plan(classes, tables, counts)


def tables_of(
    counts: NDArray[Any], shift: Ints, kernels: RansKernels, *, complete: bool = True
) -> Tables:
    """Make tables of how often each value occurs in each class.

    Parameters
    ----------
    counts : ndarray (classes, window)
        Of values in units of their class, 0 in the middle of the window.
    shift : ndarray of int32 (classes,)
    kernels : RansKernels
    complete : bool
        Whether all values were counted; else others may occur.
    """
    least, count = np.zeros((2, len(shift)), np.int32)
    frequency = np.zeros((len(shift), SYMBOLS), np.uint32)
    middle = counts.shape[1] // 2
    for k, found in enumerate(counts.astype(np.int64)):
        total = int(found.sum())
        kept = np.flatnonzero(found * RARE > total)
        if not len(kept):
            kept = np.array([int(found.argmax())])
        first = int(kept[0])
        last = min(int(kept[-1]), first + SYMBOLS - 2)
        inside = found[first : last + 1]
        beside = total - int(inside.sum())
        if not complete:
            inside, beside = np.maximum(inside, 1), max(beside, 1)
        least[k], count[k] = first - middle, last + 1 - first
        frequency[k, : count[k] + 1] = kernels.scaled(np.append(inside, beside), 1 << BITS)
    return Tables(shift, least, count, frequency)
