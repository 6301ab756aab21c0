"""Reconstruction is exact whatever of it is done in float32, and what is measured of it is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_cubes import cubes, masks_of

from pipeline.coding.apart import Apart, take_apart
from pipeline.coding.choose import make_coding
from pipeline.coding.interface import BlockShape, Masks
from pipeline.coding.measure import measured
from pipeline.coding.rebuild import SINGLE_BITS, Model, checked, rebuilt, settled, tops_of
from pipeline.coding.sections import Sections

pytest.importorskip("numba")


def made_model(components: int, rows: int, columns: int, top: int, seed: int) -> Model:
    """Make one whose vectors have from 15 to 4 bits, the last the fewest."""
    rng = np.random.default_rng(seed)
    basis = rng.integers(-(1 << 15), 1 << 15, (components, rows))
    zeros = np.linspace(0, 11, components).astype(int)[:, None] if components else 0
    basis = (basis >> zeros << zeros).astype(np.int32)
    scores = rng.integers(-top, top + 1, (components, columns)).astype(np.int32)
    means = rng.integers(0, 40000, rows).astype(np.int32)
    return Model(basis, scores, int(rng.integers(1, 60)), means, tops_of(scores))


def block(rows: int, columns: int) -> Apart:
    shape = BlockShape(rows, columns, np.dtype(np.uint16))
    # spectra that differ: no copies
    pixels = np.arange(rows * columns).reshape(1, rows, columns).astype(np.uint16)
    return Apart(Sections(take_apart(pixels, Masks()).apart), shape, 1)


@settings(max_examples=40, deadline=None)
@given(
    components=st.integers(0, 40),
    top=st.sampled_from((0, 1, 40, 1000, 8000)),
    columns=st.sampled_from((1, 255, 256, 257, 600)),
    seed=st.integers(0, 2**32 - 1),
)
@example(components=40, top=40, columns=600, seed=0)
def test_rebuilt_pixels_are_those_of_whole_numbers(
    components: int, top: int, columns: int, seed: int
) -> None:
    model = made_model(components, 12, columns, top, seed)
    products = model.basis.T.astype(object) @ model.scores.astype(object) * model.step
    exact = (products + (1 << 18)) // (1 << 19) + model.means[:, None].astype(object)
    exact = np.clip(exact.astype(np.int64), 0, 65535).reshape(12, columns)
    np.testing.assert_array_equal(settled(model, BlockShape(12, 1, np.dtype(np.uint16))), exact)
    np.testing.assert_array_equal(rebuilt(model, None, 0, block(12, columns))[0], exact)


@pytest.mark.parametrize("strong", [0, 1, 2, 5])
def test_any_number_of_strong_components_is_exact(strong: int) -> None:
    rng = np.random.default_rng(strong)
    columns = 2500  # more than two tiles
    basis = rng.integers(-64, 64, (strong + 9, 12)).astype(np.int32) << 9
    basis[:strong] = rng.integers(-(1 << 15), 1 << 15, (strong, 12)) | 1
    scores = rng.integers(-60, 61, (strong + 9, columns)).astype(np.int16)
    scores[:strong] = rng.integers(-9000, 9001, (strong, columns))
    means = rng.integers(0, 40000, 12).astype(np.int32)
    model = Model(basis, scores, 37, means, tops_of(scores))
    assert model.split()[0] == strong
    products = basis.T.astype(np.int64) @ scores.astype(np.int64) * 37
    exact = np.clip((products + (1 << 18) >> 19) + means[:, None], 0, 65535)
    np.testing.assert_array_equal(settled(model, BlockShape(12, 1, np.dtype(np.uint16))), exact)
    np.testing.assert_array_equal(rebuilt(model, None, 0, block(12, columns))[0], exact)
    matrix = take_apart(exact[None].astype(np.uint16), Masks())
    for bound in (None, 0):
        found = checked(model, matrix, bound)
        assert (found.max_error, found.squared_error) == (0, 0.0)


def test_weak_components_are_those_that_float32_holds() -> None:
    model = made_model(40, 12, 300, 1000, 1)
    first, zeros = model.split()
    assert 0 < first < 40
    for start, fits in ((first, True), (first - 1, False)):
        some = model.basis[start:]
        low = np.bitwise_or.reduce(some.reshape(-1))
        unit = int(low & -low)
        sums = int((model.tops[start:] @ (np.abs(some) // unit)).max())
        assert (sums < 1 << SINGLE_BITS) == fits
    assert not (model.basis[first:] & ((1 << zeros) - 1)).any()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), cube=cubes(), name=st.sampled_from(("packed", "deflate")))
def test_what_an_encoder_states_is_what_its_decoder_gives(
    data: st.DataObject, cube: np.ndarray[Any, Any], name: str
) -> None:
    aim: dict[str, Any] = data.draw(
        st.sampled_from(({"ratio": 20.0}, {"max_error": 0}, {"max_error": 9}))
    )
    shape = BlockShape(cube.shape[1], cube.shape[2], cube.dtype)
    coding = make_coding(name, shape, masks=data.draw(masks_of(cube)), **aim)
    coded = coding.encode(cube)
    decoded = coding.decode(coded.data, len(cube))
    rows = np.ascontiguousarray(decoded.transpose(1, 0, 2)).reshape(cube.shape[1], -1)
    true = measured(cube, rows)
    said = coded.stats
    assert (said.values, said.max_error, said.spectra) == (
        true.values,
        true.max_error,
        true.spectra,
    )
    assert said.squared_error == pytest.approx(true.squared_error, rel=1e-9)
    assert said.angle == pytest.approx(true.angle, rel=1e-6, abs=1e-6)


def test_a_residual_beyond_16_bits_is_kept_whole() -> None:
    pixels = np.zeros((1, 2, 300), np.uint16)
    pixels[0, :, ::7] = (np.arange(43) * 1500)[None]
    pixels[0, 1] += 1  # no band of zeros alone, and no spectra that are copies
    nothing = np.zeros((0, 2), np.int32)
    model = Model(
        nothing, np.zeros((0, 300), np.int32), 16, np.zeros(2, np.int32), tops_of(nothing)
    )
    matrix = take_apart(pixels, Masks())
    model = replace(model, scores=np.zeros((0, matrix.rows.shape[1]), np.int32))
    found = checked(model, matrix, 0)
    assert found.residual is not None
    np.testing.assert_array_equal(found.residual, matrix.rows)
    assert found.max_error == 0
