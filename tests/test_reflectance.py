"""The reflectance formula against itself written out, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import reflectance
from pipeline.errors import ReferenceMismatchError


def test_every_factor_of_the_formula_counts(rng: np.random.Generator) -> None:
    black = rng.uniform(50, 70, (4, 5))
    white_black = rng.uniform(40, 60, (4, 5))
    white = rng.uniform(1000, 3000, (4, 5))
    panel = rng.uniform(0.9, 1.0, 4)
    raw = rng.integers(0, 4096, (3, 4, 5))
    corr = reflectance.correction(
        black, white, white_black=white_black, panel=panel, exposure=4.0, white_exposure=2.0
    )
    expected = panel[:, None] * (raw - black) / ((white - white_black) * 4.0 / 2.0)
    assert np.allclose(reflectance.apply(raw, corr, dtype="f8"), expected, rtol=1e-6, atol=1e-7)
    assert reflectance.apply(raw, corr).dtype == np.float32


def test_white_not_above_its_black_is_invalid_and_counted() -> None:
    black = np.full((1, 3), 10.0)
    corr = reflectance.correction(black, np.array([[10.0, 9.0, 20.0]]))
    assert corr.invalid == 2
    values = reflectance.apply(np.full((1, 1, 3), 15), corr)
    stored, clipped = reflectance.quantise(values)
    assert stored.tolist() == [[[-32768, -32768, 5000]]]
    assert clipped == 0


@given(hnp.arrays(np.float32, (6,), elements=st.floats(-10, 10, width=32)))
def test_quantising_rounds_to_the_nearest_and_clips_at_the_limits(values: np.ndarray) -> None:
    stored, clipped = reflectance.quantise(values)
    inside = np.abs(values) <= 3.2767
    assert np.all(np.abs(stored[inside] / 10000 - values[inside]) <= 0.5001e-4)
    assert np.all(np.abs(stored[~inside].astype(int)) == 32767)
    assert clipped == np.count_nonzero(np.abs(np.rint(values * np.float32(10000))) > 32767)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"white": np.ones((2, 4))}, r"white reference: found \(bands, samples\) = \(2, 4\)"),
        ({"white_black": np.ones((1, 3))}, "white_black reference"),
        ({"panel": [0.9, 0.8, 0.7]}, "white reflectance: found 3 values, allowed are 1 or 2"),
        ({"panel": 0.0}, "not positive"),
        ({"exposure": 0.0, "white_exposure": 1.0}, "exposure: found 0.0"),
        ({"black": np.ones(3)}, "black reference: found 1 axes"),
    ],
)
def test_references_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    given = {"black": np.zeros((2, 3)), "white": np.ones((2, 3)), **change}
    with pytest.raises(ReferenceMismatchError, match=message):
        reflectance.correction(given.pop("black"), given.pop("white"), **given)


def test_what_is_infinite_is_refused() -> None:
    black, white = np.zeros((2, 3)), np.ones((2, 3))
    for how in (
        {"exposure": np.inf, "white_exposure": 1.0},
        {"exposure": 1.0, "white_exposure": np.inf},
        {"panel": np.inf},
    ):
        with pytest.raises(ReferenceMismatchError, match=r"allowed are positive values|infinite"):
            reflectance.correction(black, white, **how)
