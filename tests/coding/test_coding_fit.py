"""The fit of a block: what it learns from, what its scores are kept in, how well it foresees."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.coding import pca, pca_fit
from pipeline.coding.apart import take_apart
from pipeline.coding.choose import make_coding
from pipeline.coding.interface import BlockShape, Masks

pytest.importorskip("numba")

from pipeline.coding.pca_fit import ENOUGH, LEARNED, Fit
from pipeline.coding.rans import encode_rows, plan_rows


def scene(rng: np.random.Generator, lines: int, bands: int, samples: int) -> NDArray[np.uint16]:
    """Some spectra mixed, smooth along the line, with noise of four counts."""
    spectra = rng.uniform(200, 3000, (4, bands))
    shares = rng.uniform(0, 1, (lines, 4, samples)).cumsum(axis=2) % 5 / 5
    made = np.einsum("nks,kb->nbs", shares, spectra) + rng.normal(0, 4, (lines, bands, samples))
    return np.rint(made + 100).astype(np.uint16)


def test_a_score_beyond_16_bits_that_nobody_expects_is_kept_whole(
    rng: np.random.Generator,
) -> None:
    pixels = rng.integers(0, 50, (16, 64, 256)).astype(np.uint16)
    pixels[7, :, 100] = 65000
    shape = BlockShape(64, 256, np.dtype(np.uint16))
    coding = make_coding("packed", shape, max_error=1)
    coded = coding.encode(pixels)
    fit = Fit(take_apart(pixels, Masks()))
    assert fit.model(16).scores.dtype == np.int32
    unexpected = fit.model(8 << 4)  # 16 spreads of the strongest component would fit
    assert np.abs(unexpected.scores).max() == unexpected.tops.max() > 1 << 15
    assert fit.model(1 << 12).scores.dtype == np.int16
    back = coding.decode(coded.data, 16).astype(int)
    assert np.abs(back - pixels).max() <= 1


def test_of_many_spectra_a_part_says_as_much(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = scene(rng, 64, 8, 512)
    shape = BlockShape(8, 512, np.dtype(np.uint16))
    coding = make_coding("packed", shape, ratio=6.0)
    part = coding.encode(pixels).stats
    assert ENOUGH * 8 / 2 <= part.pixels <= ENOUGH * 8 + LEARNED
    monkeypatch.setattr(pca_fit, "ENOUGH", 1 << 20)
    every = coding.encode(pixels).stats
    assert every.pixels == pixels[:, 0].size
    assert part.squared_error < 1.03 * every.squared_error


def test_the_part_is_spread_over_lines_and_samples(rng: np.random.Generator) -> None:
    fit = Fit(take_apart(scene(rng, 64, 8, 2048), Masks()))
    learned = [first for first, _ in fit._tiles(LEARNED, 0.3)]
    columns = 64 * 2048
    assert len(learned) == pytest.approx(0.3 * columns / LEARNED, abs=2)
    halves = np.array(learned) % 2048 // LEARNED
    assert 0.3 < halves.mean() < 0.7
    quarters = np.bincount(np.array(learned) * 4 // columns, minlength=4)
    assert quarters.min() >= quarters.sum() // 4 - 1


@pytest.mark.parametrize("spread", [0.3, 2.0, 40.0, 3000.0])
def test_a_plan_foresees_the_bytes(rng: np.random.Generator, spread: float) -> None:
    spreads = spread * np.geomspace(0.2, 5, 24)[:, None]
    # columns of a line differ, as those of a scene do
    along = 1 + 0.5 * np.sin(np.arange(1 << 17) % 1024 / 1024 * 2 * np.pi)
    rows = np.rint(rng.normal(0, spreads, (24, 1 << 17)) * along).astype(np.int32)
    plan = plan_rows(rows)
    assert plan.size(rows.shape[1]) == pytest.approx(len(encode_rows(rows, plan)), rel=0.006)


def test_a_block_that_was_foreseen_too_small_is_tried_again(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned, _ = np.linalg.qr(rng.normal(size=(24, 24)))
    mixed = (rng.normal(size=(32, 256, 24)) * np.geomspace(600, 3, 24)) @ turned
    pixels = np.rint(mixed.transpose(0, 2, 1) + 9000).astype(np.uint16)
    monkeypatch.setattr(pca, "PLANNED", 0)
    monkeypatch.setattr(pca, "SURE", 0.97)
    for off in np.linspace(0.93, 1.0, 8):
        monkeypatch.setattr(pca, "OFF", {"packed": off})
        coding = make_coding("packed", BlockShape(24, 256, np.dtype(np.uint16)), ratio=8.0)
        size = len(coding.encode(pixels).data)
        assert 0.9 * pixels.nbytes / 8 < size <= pixels.nbytes / 8


def test_copies_are_found_where_the_bands_looked_at_first_are_dead(
    rng: np.random.Generator,
) -> None:
    pixels = rng.integers(0, 4000, (16, 40, 64)).astype(np.uint16)
    pixels[:, ::5] = 7
    pixels[8:] = pixels[:8]
    matrix = take_apart(pixels, Masks())
    assert matrix.shape == (40, 8 * 64)
    np.testing.assert_array_equal(matrix.weights, 2)
