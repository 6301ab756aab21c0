"""Bad pixels: what each criterion finds, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.bad_pixel_map import BadPixelMap, Window, describe
from pipeline.bad_pixels import Findings, Kind, Statistics, count_kinds, find, is_bad, shot_gain

LINES = 50
Float64 = NDArray[np.float64]


class Made:
    """A black and a white of a sensor with read noise, shot noise and a fixed pattern."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int] = (40, 90)) -> None:
        bands, samples = shape
        self.dark = 60 + rng.normal(0, 1, shape) + rng.normal(0, 2, samples)
        light = 200 + 2800 * np.sin(np.linspace(0.2, 3, bands))[:, None]
        self.signal = light * (1 + 0.01 * rng.normal(size=shape))
        self.read = np.full(shape, 1.5)
        self.rng = rng

    def find(self, *, std: bool = True, white: bool = True) -> Findings:
        shape = (LINES, *self.dark.shape)
        normal = self.rng.standard_normal
        black = self.dark + self.read * normal(shape)
        shot = np.sqrt(np.maximum(self.signal, 0) / 8)
        bright = self.dark + self.signal + np.hypot(self.read, shot) * normal(shape)
        parts = [
            Statistics(lines.mean(axis=0), lines.std(axis=0, ddof=1) if std else None, LINES)
            for lines in (black, bright)
        ]
        return find(parts[0], parts[1] if white else None, saturation_level=4095)


@pytest.mark.parametrize("std", [True, False])
def test_a_good_sensor_has_none(rng: np.random.Generator, std: bool) -> None:
    found = Made(rng).find(std=std)
    assert not found.bad.any()
    assert found.not_brighter == 0


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        (Kind.DEAD, {"signal": 0.0}),
        (Kind.LOW_RESPONSE, {"factor": 0.3}),
        (Kind.HOT, {"dark": 300.0}),
        (Kind.NOISY, {"read": 12.0}),
        (Kind.STUCK, {"signal": 0.0, "dark": 2000.0, "read": 0.0}),
        (Kind.STUCK, {"signal": 0.0, "read": 0.0}),
    ],
)
def test_each_kind_is_found_and_named(
    rng: np.random.Generator, kind: Kind, spoil: dict[str, float]
) -> None:
    made = Made(rng)
    at = (20, 45), (5, 2), (33, 88)
    for place in at:
        made.dark[place] = spoil.get("dark", made.dark[place])
        made.read[place] = spoil.get("read", made.read[place])
        made.signal[place] = spoil.get("signal", made.signal[place] * spoil.get("factor", 1.0))
    found = made.find()
    assert [Kind(found.kinds[place]) for place in at] == [kind] * 3
    assert np.count_nonzero(found.bad) == 3
    assert count_kinds(found.kinds) == {kind.text: 3}


def test_without_noise_hot_dead_and_weak_ones_are_still_found(rng: np.random.Generator) -> None:
    made = Made(rng)
    made.dark[3, 7] = 400
    made.signal[9, 50] = 0
    made.signal[11, 60] *= 0.2
    kinds = made.find(std=False).kinds
    assert [Kind(kinds[at]) for at in ((3, 7), (9, 50), (11, 60))] == [
        *(Kind.HOT, Kind.DEAD, Kind.LOW_RESPONSE)
    ]


def test_a_dark_alone_tells_of_hot_noisy_and_stuck_ones(rng: np.random.Generator) -> None:
    made = Made(rng)
    made.dark[3, 7], made.read[4, 8] = 400, 20
    made.dark[5, 9], made.read[5, 9] = 900, 0
    kinds = made.find(white=False).kinds
    assert [Kind(kinds[at]) for at in ((3, 7), (4, 8), (5, 9))] == [
        *(Kind.HOT, Kind.NOISY, Kind.STUCK)
    ]


def test_bands_without_light_are_not_judged_and_whites_not_above_black_are_counted(
    rng: np.random.Generator,
) -> None:
    made = Made(rng)
    made.signal[:3] = 0
    found = made.find()
    assert not found.bad.any()
    assert 60 < found.not_brighter < 210  # noise alone decides: half of 270


def test_a_pixel_that_gives_no_number_is_dead() -> None:
    dark = np.full((4, 9), 50.0)
    white = dark + 1000
    dark[1, 2], white[2, 3] = np.nan, np.inf
    found = find(Statistics(dark), Statistics(white))
    assert found.kinds[1, 2] == found.kinds[2, 3] == Kind.DEAD
    assert np.count_nonzero(found.bad) == 2


def test_masked_columns_are_not_dead_nor_are_those_beside_them(rng: np.random.Generator) -> None:
    made = Made(rng)
    made.signal[:, -3:] = 0
    shape = made.dark.shape
    black = Statistics(made.dark)
    white = Statistics(made.dark + made.signal)
    assert find(black, white).bad[:, -3:].any()
    assert not find(black, white, unlit=slice(shape[1] - 3, shape[1])).bad.any()


def test_shot_noise_gives_the_counts_an_electron(rng: np.random.Generator) -> None:
    for lines in (4, 200):
        signal = rng.uniform(500, 3000, (30, 80))
        spread = np.sqrt(signal / 8) * rng.standard_normal((lines, 30, 80))
        dark = 1.5 * rng.standard_normal((lines, 30, 80))
        bright = (spread + dark).std(axis=0, ddof=1)
        bright[3, :5] *= 30  # noisy ones have no say
        found = shot_gain(bright, dark.std(axis=0, ddof=1), signal)
        assert abs(found * 8 - 1) < 0.06


def window(
    rows: int, columns: int, down: int, across: int, flip: tuple[str, ...], roi: tuple[int, int]
) -> Window:
    bands, samples = rows // down - roi[0], columns // across - roi[1]
    first = roi[0] * down, roi[1] * across
    return Window(rows, columns, (down, across), first, bands, samples, flip)


@given(
    down=st.integers(1, 3),
    across=st.integers(1, 4),
    roi=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    flip=st.sets(st.sampled_from(["spectral", "spatial"])),
    seed=st.integers(0, 1000),
)
def test_a_map_survives_roi_binning_and_flips(
    down: int, across: int, roi: tuple[int, int], flip: set[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sensor = np.where(rng.random((12, 16)) < 0.1, rng.integers(1, 6, (12, 16)), 0).astype(np.uint8)
    seen_by = window(12, 16, down, across, tuple(flip), roi)
    kinds, share = BadPixelMap(sensor).on_line(seen_by)
    for band in range(seen_by.bands):
        for sample in range(seen_by.samples):
            b = seen_by.bands - 1 - band if "spectral" in flip else band
            s = seen_by.samples - 1 - sample if "spatial" in flip else sample
            pixels = sensor[
                (roi[0] + b) * down : (roi[0] + b + 1) * down,
                (roi[1] + s) * across : (roi[1] + s + 1) * across,
            ]
            bad = pixels[pixels > 0]
            assert kinds[band, sample] == (bad.min() if bad.size else 0)
            assert share[band, sample] == pytest.approx(bad.size / (down * across))
    # and back: what was found in lines is seen again in the same lines
    again, _ = BadPixelMap.of_line(kinds, seen_by).on_line(seen_by)
    np.testing.assert_array_equal(again, kinds)


def test_what_lies_outside_the_roi_was_not_examined() -> None:
    seen_by = window(12, 16, 2, 2, (), (1, 1))
    full = BadPixelMap.of_line(np.zeros((5, 7), np.uint8), seen_by).kinds
    assert (full[:2] == Kind.NOT_EXAMINED).all()
    assert (full[2:, 2:] == Kind.GOOD).all()
    assert not is_bad(full).any()


def test_the_sentence_counts_kinds_and_says_what_part_of_a_bin_is_bad() -> None:
    sensor = np.zeros((4, 4), np.uint8)
    sensor[0, 0], sensor[2, 2] = Kind.HOT, Kind.DEAD
    kinds, share = BadPixelMap(sensor).on_line(window(4, 4, 2, 2, (), (0, 0)))
    assert describe(kinds, share) == (
        "bad pixels: 2 of 4 (50 %): 1 dead, 1 hot; of a bad bin 25 % of the pixels are bad, "
        "on average"
    )
    assert describe(np.zeros((2, 2), np.uint8)) == "bad pixels: none of 4"
