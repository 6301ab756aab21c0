"""The bench on real cubes: read as they are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "tools")]

from bench import codings, cubes  # noqa: E402


def test_the_bench_reads_real_cubes_as_they_are(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_REAL_DATA", str(real_data))
    folder = cubes.real_folder()
    assert folder is not None
    found = {cube.name: cube for cube in cubes.real_cubes(folder)}
    assert len(found) >= 5
    assert found["enmap-potsdam"].ignore == -32768
    assert int((~found["enmap-potsdam"].live).sum()) == 6
    assert found["jasper-ridge"].pixels.shape == (100, 198, 100)
    assert min(cube.sigma for cube in found.values()) >= 1


def test_a_block_of_a_mosaic_holds_no_spectrum_twice_unless_a_cube_does(real_data: Path) -> None:
    marked = []
    for number, cube in enumerate(cubes.real_cubes(real_data / "cubes")):
        lines, _, samples = cube.pixels.shape
        pixels = np.empty((lines, 3, samples), np.int16)
        pixels[:, 0] = number + np.arange(lines * samples).reshape(lines, samples) % 2 * 100
        pixels[:, 1], pixels[:, 2] = np.arange(lines)[:, None], np.arange(samples)
        marked.append(cubes.Cube(cube.name, pixels))
    for strips in cubes.MOSAIC_STRIPS:
        made = cubes.mosaic(marked, strips).pixels
        assert len(made) >= cubes.MOSAIC_LINES
        for at in range(0, len(made), codings.BLOCK_LINES):
            block = cubes.Cube("block", made[at : at + codings.BLOCK_LINES])
            assert cubes.copies(block) == 0
