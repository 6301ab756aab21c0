"""Preview cells are halved alike by both ways of doing it, and as the definition says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compute import cells
from pipeline.compute.cells import halving


@pytest.fixture(scope="module", params=["numba", "numpy"])
def halve(request):
    if request.param == "numpy":
        return cells._halve_with_numpy
    pytest.importorskip("numba", reason="compares what numba compiles")
    return halving()


@given(
    bands=st.integers(1, 9),
    width=st.integers(1, 40),
    part=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_half_is_the_sum_of_two_neighbours_and_an_odd_one_stands_alone(
    halve, bands, width, part, seed
):
    first, last = sorted(min(end, bands) for end in part)
    sums = np.random.default_rng(seed).normal(size=(bands, width)).astype(np.float32)
    out = np.full((bands, -(-width // 2)), np.float32(-7.0))
    halve(sums, first, last, out)
    padded = np.pad(sums, ((0, 0), (0, width % 2)))
    wanted = padded[:, ::2] + padded[:, 1::2]
    assert np.array_equal(out[first:last], wanted[first:last])
    assert (out[:first] == -7.0).all()
    assert (out[last:] == -7.0).all()


def test_a_cell_without_a_value_has_a_half_without(halve):
    sums = np.array([[1.0, np.nan, 3.0, 4.0, np.nan]], np.float32)
    out = np.empty((1, 3), np.float32)
    halve(sums, 0, 1, out)
    assert np.array_equal(out, [[np.nan, 7.0, np.nan]], equal_nan=True)
