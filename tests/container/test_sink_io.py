"""What the sink adds to the system's own calls."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from pipeline.container.sink_io import crc32, crc32_joined


@pytest.mark.parametrize("length", [0, 1, 2, 3, 255, 4096, 65537, 1 << 20])
@pytest.mark.parametrize("before", [0, 1, 1000])
def test_checksums_of_runs_are_joined(rng: np.random.Generator, before: int, length: int) -> None:
    first, second = rng.bytes(before), rng.bytes(length)
    assert crc32_joined(crc32(first), crc32(second), length) == zlib.crc32(first + second)


def test_a_run_longer_than_memory_can_be_joined() -> None:
    """Zeros by hand: 3 GiB of them in three steps, or at once."""
    step = 1 << 30
    zeros = 0
    for _ in range(1024):
        zeros = zlib.crc32(bytes(1 << 20), zeros)
    total = zlib.crc32(b"begin")
    at_once = crc32_joined(
        total, crc32_joined(crc32_joined(zeros, zeros, step), zeros, step), 3 * step
    )
    for _ in range(3):
        total = crc32_joined(total, zeros, step)
    assert total == at_once
