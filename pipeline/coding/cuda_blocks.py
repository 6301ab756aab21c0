"""Reads coded blocks as far as the host does it: what lies where, what zlib inflates, what may be.

The GPU gets arrays whose sizes and indices were checked here; what only their values can tell
(words that end too early, sums that are not exact) it reports back. Knows docs/compression.md's
format and sections; nothing of CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import BlockShape
from pipeline.coding.rans import Tables, decode_rows, read_tables
from pipeline.coding.sections import Sections, bad

#: Lanes of a stream at most.
MOST_LANES: Final = 4096
#: Bits after the point of a basis vector's elements, and of a weight at most.
BASIS_BITS: Final = 15
FINEST: Final = 14
#: Rows that one is predicted from at most.
PREVIOUS: Final = 32
#: Magnitude of a mean at most that is multiplied or subtracted.
MOST_MEAN: Final = 1 << 16
#: Sums of products are below this: float64 holds them and a half.
EXACT: Final = 1 << 52


@dataclass(frozen=True)
class CodedRows:
    """A matrix of integers, still coded.

    Attributes
    ----------
    rows, n : int
    planes : int
        Bytes of a value in byte planes; 0: entropy coded.
    low : ndarray of uint8
        Byte planes, or low bits.
    classes, states, words, escaped : ndarray or None
        As in the format; words are still bytes.
    tables : Tables or None
    """

    rows: int
    n: int
    planes: int
    low: NDArray[np.uint8]
    classes: NDArray[np.uint8] | None = None
    tables: Tables | None = None
    states: NDArray[np.uint32] | None = None
    words: NDArray[np.uint8] | None = None
    escaped: NDArray[np.int32] | None = None

    def steps(self) -> int:
        """Give how many values come one after the other in a lane."""
        return 0 if self.states is None else self.rows * -(-self.n // len(self.states))


@dataclass(frozen=True)
class Aside:
    """What of a block is not in its matrix.

    Attributes
    ----------
    rows, columns : int
        Of the matrix.
    source : ndarray of int32 (bands,)
        A band's row of the matrix, or −1 − its number among the bands that are apart.
    steps : ndarray of the pixels' type
        Of these bands, differences from the pixel before.
    column : ndarray of uint32 (pixels,) or None
        Each pixel's column; None: its own number.
    places : ndarray of uint32
        Values of the matrix that are replaced, in order, each once.
    values : ndarray of the pixels' type
        By what.
    """

    rows: int
    columns: int
    source: NDArray[np.int32]
    steps: NDArray[Any]
    column: NDArray[np.uint32] | None
    places: NDArray[np.uint32]
    values: NDArray[Any]


@dataclass(frozen=True)
class PcaBlock:
    """A block of PCA; ``residual`` is None where there is none."""

    bound: int
    aside: Aside
    means: NDArray[np.int32]
    basis: NDArray[np.int32]
    step: int
    scores: CodedRows
    residual: CodedRows | None

    def steps(self) -> int:
        """Give how many steps come one after the other, however many threads there are."""
        return max(self.scores.steps(), 0 if self.residual is None else self.residual.steps())

    def exact(self, top: int) -> bool:
        """Tell whether products are exact with scores of this magnitude at most."""
        if not self.basis.size or not self.scores.n:
            return True
        largest = max(int(self.basis.max()), -int(self.basis.min()))
        within = largest <= 1 << BASIS_BITS and int(np.abs(self.means).max()) <= MOST_MEAN
        return within and top * largest * self.step * len(self.basis) < EXACT


@dataclass(frozen=True)
class PredictedBlock:
    """A block of ``predicted``."""

    bound: int
    aside: Aside
    means: NDArray[np.int32]
    bits: NDArray[np.uint8]
    weights: NDArray[np.int32]
    residual: CodedRows

    def steps(self) -> int:
        """As of ``PcaBlock``."""
        return max(self.residual.steps(), self.aside.rows * (len(self.weights) + 1))


def read_pca(data: memoryview, shape: BlockShape, lines: int, name: str) -> PcaBlock:
    """Read a block of PCA, ``name`` being its ``pca coding``.

    Raises
    ------
    ContainerError
        When the bytes are none.
    """
    take = Sections(data)
    bound, components = take.numbers("HH")
    aside = read_aside(take, shape, lines)
    means = take.array("<i4", aside.rows).astype(np.int32)
    zeros = take.inflated("u1", components)
    if components > aside.rows or (zeros > BASIS_BITS).any():
        raise bad("numbers out of their range")
    if name == "packed":
        basis = decode_rows(take, components, aside.rows).astype(np.int32)
    else:
        basis = _joined(_read_rows(take, components, aside.rows, name))
    if basis.size and max(-int(basis.min()), int(basis.max())) > 1 << BASIS_BITS:
        raise bad("a basis out of its range")
    basis = basis << zeros[:, None].astype(np.int32)
    bounded, step = take.numbers("BI")
    if bounded > 1:
        raise bad("a residual neither there nor not")
    scores = _read_rows(take, components, aside.columns, name)
    residual = _read_rows(take, aside.rows, aside.columns, name) if bounded else None
    take.end()
    return PcaBlock(bound, aside, means, basis, step, scores, residual)


def read_predicted(data: memoryview, shape: BlockShape, lines: int) -> PredictedBlock:
    """Read a block of ``predicted``; raises as ``read_pca``."""
    take = Sections(data)
    bound, previous = take.numbers("HH")
    if previous > PREVIOUS:
        raise bad(f"{previous} previous bands")
    aside = read_aside(take, shape, lines)
    means = take.array("<i4", aside.rows).astype(np.int32)
    bits = take.inflated("u1", aside.rows)
    if (np.abs(means.astype(np.int64)) > MOST_MEAN).any() or (bits > FINEST).any():
        raise bad("means or weights out of their range")
    weights = decode_rows(take, previous, aside.rows).astype(np.int32)
    residual = _read_rows(take, aside.rows, aside.columns, "packed")
    take.end()
    return PredictedBlock(bound, aside, means, bits, weights, residual)


def read_aside(take: Sections, shape: BlockShape, lines: int) -> Aside:
    """Read what is apart; raises as ``read_pca``."""
    pixels, little = lines * shape.samples, shape.dtype.newbyteorder("<").str
    flags = take.inflated("u1", shape.bands)
    if (flags > 1).any():
        raise bad("a band that is neither apart nor not")
    fitted = flags == 0
    rows = int(fitted.sum())
    steps = take.inflated(little, (shape.bands - rows) * pixels)
    source = np.where(fitted, np.cumsum(fitted) - 1, -np.cumsum(~fitted)).astype(np.int32)
    back = take.inflated("<u4", pixels)
    column, columns = None, pixels
    if back.any():
        own = back == 0
        columns = int(own.sum())
        origin = np.arange(pixels) - back
        if (origin < 0).any() or not own[origin].all():
            raise bad("a spectrum that is the copy of none")
        column = (np.cumsum(own) - 1)[origin].astype(np.uint32)
    between = take.inflated_some("<u4", rows * columns)
    places = np.cumsum(between.astype(np.int64))
    if len(places) and places[-1] >= rows * columns:
        raise bad("a masked value beyond the last")
    values = take.inflated(little, len(places))
    last = np.ones(len(places), np.bool_)  # of those at one place the last counts
    last[:-1] = between[1:] > 0
    if not last.all():
        places, values = places[last], values[last]
    return Aside(rows, columns, source, steps, column, places.astype(np.uint32), values)


def _read_rows(take: Sections, rows: int, n: int, name: str) -> CodedRows:
    if not rows * n:
        return CodedRows(rows, n, 1, np.zeros(0, np.uint8))
    if name != "packed":
        (size,) = take.numbers("B")
        if size not in (1, 2, 4):
            raise bad(f"{size} byte planes")
        return CodedRows(rows, n, size, take.inflated_fast(size * rows * n))
    (lanes,) = take.numbers("H")
    if not 1 <= lanes <= MOST_LANES:
        raise bad(f"{lanes} lanes")
    classes = take.inflated("u1", rows)
    tables = read_tables(take)
    if classes.max() >= len(tables.shift):
        raise bad("rows of a class that has no table")
    escaped = take.inflated_some("<i4", rows * n)
    low = np.frombuffer(take.section(), np.uint8)
    if len(low) != -(-int(tables.shift[classes].sum()) * n // 8):
        raise bad("low bits of another size")
    states = take.array("<u4", lanes)
    words = np.frombuffer(take.section(), np.uint8)
    if len(words) % 2:
        raise bad("half a word")
    return CodedRows(rows, n, 0, low, classes, tables, states, words, escaped)


def _joined(coded: CodedRows) -> NDArray[np.int32]:
    """Make integers of byte planes, as the kernel ``join_values``; for the small ones."""
    z = np.zeros(coded.rows * coded.n, np.uint32)
    for i, plane in enumerate(coded.low.reshape(coded.planes, -1)):
        z |= plane.astype(np.uint32) << np.uint32(8 * i)
    values: NDArray[np.int32] = (z >> 1).astype(np.int32) ^ -(z & 1).astype(np.int32)
    return values.reshape(coded.rows, coded.n)
