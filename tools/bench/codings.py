"""swath's own codings on whole cubes: block by block as a file is written, everything counted.

What is counted is a whole file: records, table of blocks, header and ZIP structures around the
coded blocks. Blocks are coded in as many threads as a capture has. What is decoded is measured
here, not taken from the encoder's word; the decoder of docs/compression.md must
give the same where it reads the coding.
"""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bench.codecs import Outcome
from bench.cubes import ROOT, Cube, Pixels, quality
from pipeline.coding.choose import coding_of, make_coding
from pipeline.coding.interface import BlockShape, Coding, Encoded, Masks
from pipeline.container.block_records import INDEX, Block, encode_index, pack_record
from pipeline.container.sink_io import crc32
from pipeline.errors import ContainerError
from pipeline.layout import ENVI_TYPES

#: Lines of a block, as a file has them.
BLOCK_LINES = 128
PAGE = ROOT / "docs" / "compression.md"
#: Codings that the page's decoder reads; the others are left to libraries.
ON_PAGE = ("predicted", "smallest", "packed", "deflate")


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
    """Code a cube, decode it by what its header says, and measure what came of it.

    Raises
    ------
    ConfigError
        When the coding cannot do what is asked.
    ContainerError
        When the page's decoder gives other pixels than the coding's own.
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
    file = whole_file(cube, writing, coded)
    pixels = np.concatenate(decoded)
    decode = page_decoder()
    if (
        decode is not None
        and name in ON_PAGE
        and not np.array_equal(decode(io.BytesIO(file)), pixels)
    ):
        raise ContainerError(f"{cube.name}, {name}: the decoder of {PAGE.name} gives other pixels")
    outcome = Outcome(
        name,
        cube.nbytes / len(file),
        quality(cube, pixels),
        cube.nbytes / (middle - began) / 1e9,
        cube.nbytes / (ended - middle) / 1e9,
    )
    stats = [one.stats for one in coded]
    return Coded(outcome, max(s.max_error for s in stats), max(s.components for s in stats))


def whole_file(cube: Cube, coding: Coding, coded: Sequence[Encoded]) -> bytes:
    """Write the file that the blocks make: header, records and table of blocks, in a ZIP."""
    lines, bands, samples = cube.pixels.shape
    (code,) = (code for code, dtype in ENVI_TYPES.items() if np.dtype(dtype) == cube.pixels.dtype)
    fields = {
        "samples": samples,
        "lines": lines,
        "bands": bands,
        "header offset": 0,
        "file type": coding.file_type,
        "data type": 7,
        "decoded data type": code,
        "interleave": "bil",
        "byte order": 0,
        "coded block lines": coding.block_lines,
        **coding.fields(),
    }
    if cube.ignore is not None:
        fields["data ignore value"] = cube.ignore
    payload, table = bytearray(), []
    for number, one in enumerate(coded):
        first = number * coding.block_lines
        count = min(coding.block_lines, lines - first)
        table.append(Block(first, count, len(payload), len(one.data), crc32(one.data)))
        payload += pack_record(first, count, one.data) + one.data
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("data.envi", bytes(payload))
        text = "".join(f"{name} = {value}\n" for name, value in fields.items())
        archive.writestr("data.hdr", f"ENVI\n{text}")
        archive.writestr(INDEX, encode_index(table))
    return out.getvalue()


@cache
def page_decoder() -> Callable[[io.BytesIO], Pixels] | None:
    """Take the decoder that docs/compression.md shows; None where the page has none."""
    if not PAGE.is_file():
        return None
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        if "def decode(path)" in code:
            names: dict[str, Any] = {}
            exec(compile(code, str(PAGE), "exec"), names)
            decode: Callable[[io.BytesIO], Pixels] = names["decode"]
            return decode
    return None
