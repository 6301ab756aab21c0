"""Blocks written by hand from docs/compression.md, with lanes and tables that no encoder chooses.

An entropy coder of its own, a value at a time: what the tests of the CUDA codings decode does not
depend on the encoder under test.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import BlockShape


def deflated(array: NDArray[Any]) -> bytes:
    raw = zlib.compress(array.tobytes())
    return struct.pack("<I", len(raw)) + raw


def section(raw: bytes) -> bytes:
    return struct.pack("<I", len(raw)) + raw


def frequencies(symbols: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[Any]:
    """Any frequencies that add up to 4096 and leave none out that occurs."""
    found = np.bincount(symbols.reshape(-1), minlength=count + 1) > 0
    out = found.astype(int)
    for at in rng.choice(np.flatnonzero(found), 30):
        out[at] += rng.integers(0, max((4096 - out.sum()) // 2, 1))
    out[rng.choice(np.flatnonzero(found))] += 4096 - out.sum()
    return out


def coded_rows(
    values: NDArray[Any],
    lanes: int,
    kinds: list[tuple[int, int, int]],
    classes: NDArray[Any],
    rng: np.random.Generator,
) -> bytes:
    """Code rows; ``kinds`` are shift, least and count of each class."""
    rows, n = values.shape
    if not rows * n:
        return b""
    symbols, escaped, planes = np.empty((rows, n), int), [], []
    for r, kind in enumerate(classes):
        shift, least, count = kinds[kind]
        s = (values[r] >> shift) - least
        beside = (s < 0) | (s >= count)
        symbols[r] = np.where(beside, count, s)
        escaped += values[r][beside].tolist()
        planes += [(values[r] >> bit) & 1 for bit in range(shift)]
    sizes = []
    for kind, (_, _, count) in enumerate(kinds):
        mine = symbols[classes == kind]
        sizes.append(frequencies(mine if mine.size else np.array([count]), count, rng))
    states, words = [1 << 16] * lanes, []
    for r in range(rows - 1, -1, -1):
        size = sizes[classes[r]]
        start = np.cumsum(size) - size
        for i in range(n - 1, -1, -1):
            s, lane = symbols[r, i], i % lanes
            f, x = int(size[s]), states[lane]
            if x >= f << 20:
                words.append(x & 0xFFFF)
                x >>= 16
            states[lane] = (x // f << 12) + x % f + int(start[s])
    bits = np.concatenate([*planes, np.zeros(0, int)]).astype(np.uint8)
    return b"".join(
        (
            struct.pack("<H", lanes),
            deflated(classes.astype("u1")),
            struct.pack("<B", len(kinds)),
            *(struct.pack("<BiB", *kind) for kind in kinds),
            deflated(np.concatenate(sizes).astype("<u2")),
            deflated(np.array(escaped, "<i4")),
            section(np.packbits(bits, bitorder="little").tobytes()),
            np.array(states, "<u4").tobytes(),
            section(np.array(words[::-1], "<u2").tobytes()),
        )
    )


def wild_rows(rows: int, n: int, rng: np.random.Generator) -> bytes:
    """Rows whose every number is any that the sizes allow: what a decoder must survive."""
    if not rows * n:
        return b""
    lanes = int(rng.choice([1, 2, 5, 32, 33, 4096]))
    count = int(rng.integers(1, 4))
    kinds = [
        (
            int(rng.integers(0, 21)),
            int(rng.integers(-(1 << 24), 1 << 24)),
            int(rng.integers(0, 256)),
        )
        for _ in range(count)
    ]
    classes = rng.integers(0, count, rows)
    sizes = [rng.multinomial(4096, rng.dirichlet(np.full(kind[2] + 1, 0.3))) for kind in kinds]
    bits = int(sum(kinds[kind][0] for kind in classes)) * n
    states = rng.integers(0, 1 << 32, lanes, np.uint32)
    if rng.random() < 0.5:
        states[:] = rng.choice([0, 1, 1 << 16, 0xFFFFFFFF])
    words = rng.bytes(2 * int(rng.integers(0, 2 * rows * n)))
    return b"".join(
        (
            struct.pack("<H", lanes),
            deflated(classes.astype("u1")),
            struct.pack("<B", count),
            *(struct.pack("<BiB", *kind) for kind in kinds),
            deflated(np.concatenate(sizes).astype("<u2")),
            deflated(rng.integers(-(1 << 31), 1 << 31, int(rng.integers(0, rows * n)), "i4")),
            section(rng.bytes(-(-bits // 8))),
            states.astype("<u4").tobytes(),
            section(words),
        )
    )


def aside(
    shape: BlockShape, lines: int, places: tuple[int, ...] = (), values: tuple[int, ...] = ()
) -> bytes:
    """Nothing is apart but these values at these places, which may be the same."""
    return b"".join(
        map(
            deflated,
            (
                np.zeros(shape.bands, "u1"),
                np.zeros(0, "u1"),
                np.zeros(lines * shape.samples, "<u4"),
                np.diff(places, prepend=0).astype("<u4"),
                np.array(values, shape.dtype),
            ),
        )
    )


def pca_block(
    shape: BlockShape,
    lines: int,
    means: NDArray[Any],
    basis: bytes,
    components: int,
    scores: bytes,
    step: int,
    residual: bytes | None,
    bound: int = 0,
    zeros: int = 0,
) -> bytes:
    """A block of ``packed`` of coded parts, its basis to be shifted up by ``zeros`` bits."""
    return b"".join(
        (
            struct.pack("<HH", bound, components),
            aside(shape, lines),
            means.astype("<i4").tobytes(),
            deflated(np.full(components, zeros, "u1")),
            basis,
            struct.pack("<BI", residual is not None, step),
            scores,
            residual or b"",
        )
    )


def predicted_block(
    shape: BlockShape,
    lines: int,
    means: NDArray[Any],
    bits: NDArray[Any],
    weights: bytes,
    previous: int,
    residual: bytes,
    bound: int,
) -> bytes:
    """A block of ``predicted`` of coded parts."""
    return b"".join(
        (
            struct.pack("<HH", bound, previous),
            aside(shape, lines),
            means.astype("<i4").tobytes(),
            deflated(bits.astype("u1")),
            weights,
            residual,
        )
    )


def wild_block(shape: BlockShape, lines: int, rng: np.random.Generator, kind: str) -> bytes:
    """A block, ``packed`` or ``predicted``, of wild rows and numbers."""
    columns, bands = lines * shape.samples, shape.bands
    means = rng.integers(-(1 << 16), 1 << 16, bands)
    bound = int(rng.choice([0, 3, 65535]))
    count = int(rng.integers(0, bands))
    first, residual = wild_rows(count, bands, rng), wild_rows(bands, columns, rng)
    if kind == "predicted":
        bits = rng.integers(0, 15, bands)
        return predicted_block(shape, lines, means, bits, first, count, residual, bound)
    scores, step = wild_rows(count, columns, rng), int(rng.integers(0, 1 << 32))
    there = residual if rng.random() < 0.8 else None
    return pca_block(shape, lines, means, first, count, scores, step, there, bound)
