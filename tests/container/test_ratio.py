"""A ratio holds for the whole file: blocks leave room for records, table, headers and ZIP."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from coded_files import code
from made_containers import make_hsi

from pipeline.coding.interface import BlockShape
from pipeline.container.block_codings import BlockCodings, Wanted
from pipeline.container.envi import write_envi
from pipeline.container.reader import Container
from pipeline.container.validate import validate

BANDS, SAMPLES = 60, 64


def scene(rng: np.random.Generator, lines: int) -> np.ndarray:
    """Give (lines, samples, bands) uint16: five smooth spectra, mixed, with noise."""
    band = np.linspace(0, 3, BANDS)
    spectra = 500 + 400 * np.array([np.sin(band * k) + 1 for k in range(1, 6)])
    mix = rng.random((lines, SAMPLES, 5)).cumsum(axis=0) % 1
    return (mix @ spectra + rng.normal(0, 4, (lines, SAMPLES, BANDS))).clip(0, 65535).astype("u2")


def fields(**more: object) -> dict[str, object]:
    return {"wavelength": [400 + 7.25 * band for band in range(BANDS)], **more}


@pytest.mark.parametrize(
    ("lines", "block_lines", "ratio"),
    [(400, 16, 8), (400, 128, 8), (400, 128, 25), (50, 16, 8), (30, 30, 10), (400, 4, 5)],
)
def test_the_whole_file_reaches_the_ratio(
    tmp_path: Path, rng: np.random.Generator, lines: int, block_lines: int, ratio: int
) -> None:
    cube = scene(rng, lines)
    source = write_envi(tmp_path, "a", cube, fields())
    made = code(source, tmp_path / "b.hsi", ratio=ratio, block_lines=block_lines)
    size = os.path.getsize(made.path)
    assert made.coded_bytes == size
    assert 0.5 * cube.nbytes < size * ratio <= cube.nbytes
    assert made.ratio == cube.nbytes / size >= ratio
    assert not any(text.startswith("ratio") for text in made.warnings)


def test_what_a_file_takes_over_does_not_count(tmp_path: Path, rng: np.random.Generator) -> None:
    cube = scene(rng, 200)
    extra = {"Exploration/notes.bin": rng.bytes(500_000)}
    black = np.full((BANDS, SAMPLES), 90.0)
    references = {"black": (black, fields())}
    source = make_hsi(tmp_path / "a.hsi", cube, fields(), entries=extra, references=references)
    made = code(source, tmp_path / "b.hsi", ratio=10)
    assert made.coded_bytes * 10 <= cube.nbytes
    over = os.path.getsize(made.path) - made.coded_bytes
    taken = 500_000 + black.size * 4
    assert taken < over < taken + 3000
    assert [f for f in validate(made.path) if f.level == "error"] == []


def test_a_block_that_cannot_is_made_up_for_by_the_others(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    cube = scene(rng, 256)
    glare = rng.random((16, SAMPLES, BANDS)) < 0.06  # come back exactly: two bytes each
    cube[64:80][glare] = rng.integers(40_000, 60_000, int(glare.sum()))
    source = write_envi(tmp_path, "a", cube, fields(**{"saturation level": 40_000}))
    made = code(source, tmp_path / "b.hsi", ratio=25)
    with Container(made.path) as coded:
        sizes = [coded.coded.blocks[n].size for n in range(16)]
        assert np.array_equal(
            coded.read(slice(64, 80), procedures=False)[glare], cube[64:80][glare]
        )
    assert sizes[4] > 1.5 * cube[64:80].nbytes / 25
    assert os.path.getsize(made.path) * 25 <= cube.nbytes


def test_a_ratio_that_cannot_be_is_missed_and_said(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = write_envi(tmp_path, "a", scene(rng, 20), fields())
    made = code(source, tmp_path / "b.hsi", ratio=2000)
    assert 1 < made.ratio < 2000
    said = f"ratio: asked for 2000, these pixels and their header come down to {made.ratio:.2f}"
    assert said in made.warnings
    assert made.coded_bytes == os.path.getsize(made.path)


def test_what_blocks_may_take_follows_from_their_place_alone() -> None:
    shape = BlockShape(BANDS, SAMPLES, np.dtype("u2"))
    codings = BlockCodings(shape, Wanted(ratio=8.0, block_lines=16), beside=20_000)
    raw = 16 * shape.line_bytes()
    allowed = [raw / codings.of(n * 16, 16).aim.ratio for n in range(60)]  # type: ignore[attr-defined]
    whole = raw / 8
    assert allowed[0] == pytest.approx(whole * 7 / 8, abs=80)
    assert allowed[-1] == pytest.approx(whole, abs=80)
    # All that stands beside them is paid, and each record and row.
    assert 60 * whole - sum(allowed) == pytest.approx(20_000 + 60 * (32 + 25), abs=60 * 8)
    assert codings.for_lines(60 * 16) is codings
    few = codings.for_lines(32)
    assert few.beside == 0
    assert 0 < few.share < 1


def test_another_process_makes_the_same_codings_of_their_text() -> None:
    shape = BlockShape(3, 4, np.dtype("u2"))
    for wanted in (Wanted(), Wanted("packed", max_error=3), Wanted(ratio=7.3, block_lines=9)):
        codings = BlockCodings(shape, wanted, beside=77, share=0.1 + 0.2)
        again = BlockCodings.from_json(codings.to_json())
        assert again == codings
        assert again.to_json() == codings.to_json()
