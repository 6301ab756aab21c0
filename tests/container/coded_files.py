"""Small coded containers for the tests of reading, damage and salvage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from container_captures import captured, cube

from pipeline.container.compress import Compressed, Wanted, compress
from pipeline.container.reader import Container
from pipeline.container.zipfile_layout import scan

#: Lines of a block of the coded capture: 40 lines are three blocks of 16, 16 and 8.
BLOCK_LINES = 16
LINES = 40


def coded_capture(
    folder: Path, rng: np.random.Generator, *, lines: int = LINES, **fields
) -> tuple[Path, Path, np.ndarray]:
    """Give a capture, its coded form, and its pixels (lines, bands, samples)."""
    pixels = cube(rng, lines)
    plain = captured(folder / "plain.hsi", pixels, **fields)
    made = code(plain, folder / "coded.hsi", coding="deflate", max_error=0)
    return plain, made.path, pixels


def code(source: Path, out: Path, **wanted) -> Compressed:
    """Code a file in blocks of 16 lines."""
    return compress(source, out, Wanted(**{"block_lines": BLOCK_LINES, **wanted}), threads=2)


def spoil(path: Path, block: int, at: int = 0, *, value: int | None = None) -> Path:
    """Flip a bit of a block's data (of its record: ``at`` from −32), in a copy beside the file."""
    with Container(path) as container:
        assert container.coded is not None
        found = container.coded.blocks[block]
    with scan(path) as archive:
        place = archive.entry("data.envi").offset + found.offset + 32 + at
    data = bytearray(path.read_bytes())
    data[place] = data[place] ^ 1 if value is None else value
    spoilt = path.with_name("spoilt.hsi")
    spoilt.write_bytes(data)
    return spoilt
