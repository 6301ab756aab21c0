"""The pyramid equals plain block means, whatever the blocks; the thumbnail looks like the scene."""

from __future__ import annotations

import itertools
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.engine import Engine, EnginePlan, make_engine, preview_levels
from pipeline.reflectance import Correction
from pipeline.stages.preview import thumbnail_jpeg
from pipeline.stages.thumbnail import choose_bands, picture_rgb


@pytest.mark.parametrize("samples", [1, 3, 256, 640, 1024, 1025, 2048, 4096, 9000])
def test_levels_keep_to_their_sizes(samples: int) -> None:
    factors = preview_levels(samples)
    assert -(-samples // factors[0]) <= 256
    assert factors[-1] == 4
    assert all(coarse == 2 * fine for coarse, fine in itertools.pairwise(factors))
    assert len(factors) == 1 or -(-samples // factors[1]) > 256


def run(engine: Engine, raw: NDArray[Any], valid: NDArray[np.bool_], size: int) -> dict[int, Any]:
    rows: dict[int, list[NDArray[Any]]] = {}
    for first in range(0, len(raw), size):
        result = engine.process(raw[first : first + size], valid[first : first + size])
        for level, part in result.previews:
            rows.setdefault(level, []).append(part.copy())
    for level, part in engine.finish().previews:
        rows.setdefault(level, []).append(part.copy())
    return {level: np.concatenate(parts) for level, parts in rows.items()}


def block_means(values: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Means of (lines, bands, samples), NaN left out, over factor × factor."""
    lines, bands, samples = values.shape
    out = np.full((-(-lines // factor), bands, -(-samples // factor)), np.nan)
    for row in range(out.shape[0]):
        for cell in range(out.shape[2]):
            part = values[row * factor : (row + 1) * factor, :, cell * factor : (cell + 1) * factor]
            known = np.isfinite(part)
            count = known.sum(axis=(0, 2))
            total = np.where(known, part, 0).sum(axis=(0, 2))
            out[row, :, cell] = np.where(count, total / np.maximum(count, 1), np.nan)
    return out


@given(
    lines=st.integers(1, 40),
    size=st.integers(1, 17),
    samples=st.sampled_from([1, 9, 1030, 2051]),
    lost=st.floats(0, 0.5),
    corrected=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_pyramid_is_the_mean_of_its_pixels(
    lines: int, size: int, samples: int, lost: float, corrected: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 4096, (lines, 2, samples)).astype("u2")
    valid = rng.random(lines) >= lost
    gain = rng.uniform(1e-4, 4e-4, (2, samples)).astype("f4")
    gain[rng.random(gain.shape) < 0.05] = np.nan
    corr = Correction(rng.uniform(0, 50, (2, samples)).astype("f4"), gain) if corrected else None
    plan = EnginePlan(
        bands=2,
        samples=samples,
        dtype=raw.dtype,
        block_lines=size,
        saturation_level=4095,
        correction=corr,
        backend="cpu",
        threads=1,
    )
    with make_engine(plan) as engine:
        levels = run(engine, raw, valid, size)
    value = raw.astype("f8")
    if corr is not None:
        value = (value - corr.black) * corr.gain
    value[~valid] = np.nan
    factors = preview_levels(samples)
    assert sorted(levels) == list(range(len(factors)))
    for level, factor in enumerate(factors):
        want = block_means(value, factor)
        if corr is None:
            np.testing.assert_allclose(levels[level], want, rtol=1e-5)
        else:
            np.testing.assert_array_equal(levels[level] == -32768, np.isnan(want))
            difference = levels[level] - np.where(np.isnan(want), -3.2768, want) * 10000
            assert np.abs(difference).max() <= 0.51


@given(
    sizes=st.lists(st.integers(1, 11), min_size=1, max_size=12),
    samples=st.sampled_from([9, 1030, 2051]),
    corrected=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_row_that_has_begun_is_the_mean_of_the_lines_it_has(
    sizes: list[int], samples: int, corrected: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 4096, (sum(sizes), 2, samples)).astype("u2")
    valid = rng.random(len(raw)) >= 0.3
    gain = rng.uniform(1e-4, 4e-4, (2, samples)).astype("f4")
    corr = Correction(np.full((2, samples), 40.0, "f4"), gain) if corrected else None
    plan = EnginePlan(
        bands=2,
        samples=samples,
        dtype=raw.dtype,
        block_lines=max(sizes),
        saturation_level=4095,
        correction=corr,
        backend="cpu",
        threads=1,
    )
    value = raw.astype("f8")
    if corr is not None:
        value = (value - corr.black) * corr.gain
    value[~valid] = np.nan
    factor = preview_levels(samples)[0]
    with make_engine(plan) as engine:
        done = 0
        for size in sizes:
            result = engine.process(raw[done : done + size], valid[done : done + size])
            done += size
            row, again = result.begun(), result.begun()
            if done % factor == 0:
                assert row is None
                continue
            assert row is not None
            assert again is not None
            np.testing.assert_array_equal(row, again)  # looking changes nothing
            want = block_means(value[done // factor * factor : done], factor)
            if corr is None:
                np.testing.assert_allclose(row, want, rtol=1e-5)
            else:
                np.testing.assert_array_equal(row == -32768, np.isnan(want))
                difference = row - np.where(np.isnan(want), -3.2768, want) * 10000
                assert np.abs(difference).max() <= 0.51


def scene() -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """A picture in three spectra: red, green and white fields, one lost row."""
    nm = np.linspace(400, 1000, 61)
    red = 0.05 + 0.5 * (nm > 600)
    green = 0.05 + 0.3 * (np.abs(nm - 550) < 40) + 0.6 * (nm > 720)
    cube = np.empty((30, 64, 61))
    cube[:, :20], cube[:, 20:40], cube[:, 40:] = red, green, 0.95
    stored = np.rint(cube * 10000).astype(np.int16)
    stored[12] = -32768
    return stored, nm


def test_the_thumbnail_shows_true_colours() -> None:
    cube, nm = scene()
    picture = imagecodecs.jpeg_decode(thumbnail_jpeg(cube, nm, True)).astype(int)
    times = picture.shape[1] // 64
    assert picture.shape == (30 * times, 64 * times, 3)
    red, green, white = (picture[5 * times, x * times] for x in (10, 30, 55))
    assert red[0] > 150 > 100 > max(red[1:])
    assert green[1] > 120 > green[0]
    assert green[1] > green[2] + 30
    assert white.min() > 235
    assert picture[12 * times + times // 2].max() < 40  # the lost row


def test_without_wavelengths_three_spread_bands_are_shown() -> None:
    groups, true_colour = choose_bands(60, None)
    middles = [group.mean() for group in groups]
    assert not true_colour
    assert middles[0] > middles[1] + 15
    assert middles[1] > middles[2] + 15
    assert not choose_bands(60, np.linspace(1000, 2500, 60))[1]
    assert choose_bands(60, np.linspace(400, 1000, 60))[1]
    assert [len(g) for g in choose_bands(2, None)[0]] == [1, 1, 1]
    assert len(choose_bands(1, None)[0]) == 3


def test_a_flat_or_empty_preview_still_makes_a_picture() -> None:
    for preview in (
        np.zeros((1, 1, 1), np.float32),
        np.full((3, 4, 5), np.nan, np.float32),
        np.full((3, 4, 5), -32768, np.int16),
        np.zeros((0, 4, 5), np.int16),
    ):
        jpeg = thumbnail_jpeg(preview, None, preview.dtype == np.int16)
        assert imagecodecs.jpeg_decode(jpeg).ndim == 3


def test_a_long_preview_is_reduced_in_both_directions() -> None:
    preview = np.broadcast_to(np.arange(100, dtype=np.float32)[:, None], (7001, 100, 3))
    picture = picture_rgb(preview, None, False)
    assert picture.shape == (-(-7001 // 4), 25, 3)
