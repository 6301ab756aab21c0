"""Scale and offset of lines from columns that always see the same."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.compute.columns import BlockFactors
from pipeline.errors import ReferenceMismatchError
from pipeline.line_factors import LineFactors, Watched, blind, level_white
from pipeline.reflectance import correction

BANDS, SAMPLES, LEVEL = 50, 30, 4095
WATCHED = Watched(panel_strip=(1, 6), dark_columns=(27, 30))


def made(rng: np.random.Generator, **bad: object) -> tuple[LineFactors, np.ndarray, np.ndarray]:
    black = rng.uniform(50, 70, (BANDS, SAMPLES))
    signal = rng.uniform(800, 2500, (BANDS, SAMPLES))
    signal[:, 26:] = 0
    panel = np.linspace(0.8, 0.95, BANDS)
    corr = blind(correction(black, black + signal, panel=panel), WATCHED)
    return LineFactors(WATCHED, corr, panel=panel, saturation_level=LEVEL, **bad), black, signal


def test_lamp_and_pedestal_are_told_from_counts(rng: np.random.Generator) -> None:
    factors, black, signal = made(rng)
    lamp, pedestal = rng.uniform(0.7, 1.3, 20), rng.uniform(-20, 20, 20)
    raw = np.rint(black + signal * lamp[:, None, None] + pedestal[:, None, None]).astype("u2")
    found, trusted = factors.of(raw)
    assert trusted.all()
    np.testing.assert_allclose(found[0], 1 / lamp, rtol=2e-4)
    np.testing.assert_allclose(found[1], pedestal, atol=0.15)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_blocks_and_single_lines_give_the_same_bits(rng: np.random.Generator, dtype: str) -> None:
    factors, black, signal = made(rng)
    scale = 16 if dtype == "u1" else 1
    raw = (rng.uniform(0.8, 1.2, (9, 1, 1)) * (black + signal) / scale).astype(dtype)
    valid = np.ones(9, bool)
    whole, _ = factors.of(raw)
    fast, _ = BlockFactors(factors, np.dtype(dtype), 12).of(raw, valid)
    np.testing.assert_array_equal(fast, whole)
    for n in range(9):
        np.testing.assert_array_equal(factors.of(raw[n : n + 1])[0][:, 0], whole[:, n])


def test_what_cannot_be_is_not_believed(rng: np.random.Generator) -> None:
    factors, black, signal = made(rng)
    raw = np.repeat(np.rint(black + signal)[None], 5, axis=0).astype("u2")
    raw[0, :, :6] = 60  # the lamp is off
    raw[1, 3, 2] = LEVEL  # in the strip, in a band that counts
    raw[2, :, 26:] += 1000  # light in the masked columns
    raw[3] = 0  # a lost line
    found, trusted = factors.of(raw, np.array([True, True, True, False, True]))
    assert found[0, 0] == 1
    assert found[1, 2] == 0
    assert (found[:, 3] == [1, 0]).all()
    assert trusted[3]
    assert trusted[4]
    assert not trusted[0]
    assert not trusted[2]


def test_bands_with_a_bad_pixel_in_the_columns_are_left_out(rng: np.random.Generator) -> None:
    bad = np.zeros((BANDS, SAMPLES), bool)
    bad[10, 3] = bad[11, 28] = True
    factors, black, signal = made(rng, bad=bad)
    raw = np.rint(black + signal)[None].astype("u2")
    raw[0, 10, 3], raw[0, 11, 28] = 4000, 4000
    found, trusted = factors.of(raw)
    assert trusted.all()
    np.testing.assert_allclose(found[:, 0], [1, 0], atol=0.1)


def test_columns_that_do_not_fit_are_refused_by_name(rng: np.random.Generator) -> None:
    _, black, signal = made(rng)
    corr = correction(black, black + signal)
    with pytest.raises(ReferenceMismatchError, match=r"panel_strip: found \[1, 31\], allowed are"):
        LineFactors(Watched(panel_strip=(1, 31)), corr)
    with pytest.raises(ReferenceMismatchError, match=r"overlaps dark_columns \[5, 9\]"):
        LineFactors(Watched((1, 6), (5, 9)), corr)
    with pytest.raises(ReferenceMismatchError, match="panel_strip: found no band in which all"):
        LineFactors(Watched(panel_strip=(27, 30)), corr, saturation_level=LEVEL)


def test_a_white_gets_the_pedestal_of_its_dark(rng: np.random.Generator) -> None:
    _, black, signal = made(rng)
    white = (black + signal + 12).astype("f4")
    level = level_white(white, black.astype("f4"), WATCHED)
    np.testing.assert_allclose(level, black + signal, atol=1e-3)
    assert level_white(white, black.astype("f4"), Watched()) is white
