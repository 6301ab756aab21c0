"""swath's own codings on whole cubes: block by block as a file is written, everything counted.

What a file holds beside the coded blocks (a record before each, a row of the table of blocks, the
coding's header fields) is added to their size. Blocks are coded in as many threads as a capture
has; what is decoded is measured here, not taken from the encoder's word.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.codecs import Outcome
from bench.cubes import Cube, Pixels, quality
from pipeline.coding.choose import coding_of, make_coding
from pipeline.coding.interface import BlockShape, Coding, Masks

#: Lines of a block, as a file has them.
BLOCK_LINES = 128
#: Bytes of a record before a block, and of a row of the table of blocks at most.
RECORD_BYTES, INDEX_ROW_BYTES = 32, 80


@dataclass(frozen=True)
class Coded:
    """A cube through one coding.

    Attributes
    ----------
    outcome : Outcome
    bound : int
        Largest error that the blocks state, counts.
    components : int
        Of the block that has most.
    """

    outcome: Outcome
    bound: int
    components: int


def coding_for(name: str, cube: Cube, **aim: Any) -> Coding:
    """Make a coding of a cube's blocks, for writing; ``aim`` as ``make_coding`` takes it."""
    _, bands, samples = cube.pixels.shape
    shape = BlockShape(bands, samples, cube.pixels.dtype)
    masks = Masks(ignore=cube.ignore)
    lines = min(BLOCK_LINES, len(cube.pixels))
    return make_coding(name, shape, block_lines=lines, masks=masks, **aim)


def blocks(cube: Cube, coding: Coding) -> list[Pixels]:
    """Cut a cube into a coding's blocks."""
    step = coding.block_lines
    return [cube.pixels[at : at + step] for at in range(0, len(cube.pixels), step)]


def run(name: str, cube: Cube, threads: int, **aim: Any) -> Coded:
    """Code a cube, decode it by what its header would say, and measure what came of it.

    Raises
    ------
    ConfigError
        When the coding cannot do what is asked.
    """
    writing = coding_for(name, cube, **aim)
    given = blocks(cube, writing)
    fields = {key: str(value) for key, value in writing.fields().items()}
    reading = coding_of(writing.file_type, fields, writing.shape, writing.block_lines)
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        coded = list(pool.map(writing.encode, given))
        middle = time.perf_counter()
        decoded = list(
            pool.map(lambda one, block: reading.decode(one.data, len(block)), coded, given)
        )
        ended = time.perf_counter()
    size = sum(len(one.data) + RECORD_BYTES + INDEX_ROW_BYTES for one in coded)
    outcome = Outcome(
        name,
        cube.nbytes / (size + header_bytes(writing, fields)),
        quality(cube, np.concatenate(decoded)),
        cube.nbytes / (middle - began) / 1e9,
        cube.nbytes / (ended - middle) / 1e9,
    )
    stats = [one.stats for one in coded]
    return Coded(outcome, max(s.max_error for s in stats), max(s.components for s in stats))


def header_bytes(coding: Coding, fields: Mapping[str, str]) -> int:
    """Count what the header says of the coding, as text."""
    lines = [*fields.items(), ("file type", coding.file_type), ("decoded data type", "12")]
    lines.append(("coded block lines", str(coding.block_lines)))
    return sum(len(f"{name} = {value}\n".encode()) for name, value in lines)
