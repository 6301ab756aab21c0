"""The entropy coder: any integers come back, close to what their entropy allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.coding.rans import (
    BITS,
    CLASSES,
    SYMBOLS,
    Tables,
    classes_of,
    decode_rows,
    encode_rows,
    read_tables,
)
from pipeline.coding.rans_kernels import compile_rans
from pipeline.coding.sections import Sections
from pipeline.errors import ContainerError

pytest.importorskip("numba")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 6),
    n=st.integers(0, 700),
    spread=st.sampled_from((0, 0.05, 0.7, 9, 300, 60000, 2**22)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rows_come_back(rows: int, n: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_cauchy((rows, n)) * spread * rng.uniform(0, 1, (rows, 1))).round()
    values = values.clip(1 - 2**23, 2**23 - 1).astype(np.int32)
    data = encode_rows(values)
    for numba in (True, False):
        take = Sections(data)
        np.testing.assert_array_equal(decode_rows(take, rows, n, numba=numba), values)
        take.end()


@pytest.mark.parametrize("sigma", [0.2, 0.5, 2, 30, 1000])
def test_gaussian_rows_take_little_more_than_their_entropy(sigma: float) -> None:
    values = np.random.default_rng(1).normal(size=(8, 20000)) * sigma
    values = values.round().astype(np.int32)
    _, counts = np.unique(values, return_counts=True)
    share = counts / values.size
    entropy = -(share * np.log2(share)).sum() * values.size / 8
    # at 1000 the entropy is that of few samples of many values, less than the true one
    assert len(encode_rows(values)) < 1.02 * entropy + 400


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=256).filter(any))
def test_frequencies_add_up_and_none_that_occurs_is_lost(counts: list[int]) -> None:
    made = compile_rans(np.dtype(np.int32)).scaled(np.array(counts, np.int64), 4096)
    assert made.sum() == 4096
    assert ((made > 0) == (np.array(counts) > 0)).all()


def test_there_are_never_more_classes_than_tables() -> None:
    spread = 2.0 ** np.linspace(-20, 24, 400)
    classes, shift = classes_of(np.append(spread, 0.0))
    assert len(shift) <= CLASSES
    assert classes.max() < len(shift)
    assert (np.diff(shift) >= 0).all()


def test_rows_of_every_spread_come_back() -> None:
    # more spreads than a stream may have tables for with three classes a factor of two
    n = 20000
    rng = np.random.default_rng(2)
    values = np.array([(rng.normal(size=n) * 2.0 ** (-4 + r / 3.4)).round() for r in range(90)])
    rows = values.clip(1 - 2**23, 2**23 - 1).astype(np.int32)
    take = Sections(encode_rows(rows))
    np.testing.assert_array_equal(decode_rows(take, 90, n), rows)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_frequencies_add_up_to_the_whole(more: int) -> None:
    frequency = np.zeros((1, SYMBOLS), np.uint32)
    frequency[0, :3] = 100, (1 << BITS) - 101 + more, 1
    data = Tables(*(np.array([n], np.int32) for n in (0, -1, 2)), frequency).to_bytes()
    if more:
        with pytest.raises(ContainerError, match="frequencies of another sum"):
            read_tables(Sections(data))
    else:
        np.testing.assert_array_equal(read_tables(Sections(data)).frequency, frequency)
