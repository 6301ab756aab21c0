"""The bound is never broken, lossless is exact, and what is stated is what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cubes import KINDS, cubes, kept_exactly, made_cube, masks_of, off_by
from numpy.typing import NDArray

from pipeline.coding.choose import coding_of, make_coding
from pipeline.coding.compiled import compile_pixels
from pipeline.coding.interface import DTYPES, BlockShape, Coding, Noise
from pipeline.coding.predicted import _weights

pytest.importorskip("numba")

BOUNDED = ("packed", "deflate", "predicted", "smallest")
few = settings(max_examples=40, deadline=None)


def shape_of(cube: NDArray[Any]) -> BlockShape:
    return BlockShape(cube.shape[1], cube.shape[2], cube.dtype)


def both_decoded(coding: Coding, data: bytes, cube: NDArray[Any]) -> NDArray[Any]:
    """Decode as a header names the coding, with the loops and with NumPy alone."""
    shape = shape_of(cube)
    one, other = (
        coding_of(coding.file_type, coding.fields(), shape, 128, numba=loops).decode(
            data, len(cube)
        )
        for loops in (True, False)
    )
    assert one.dtype == cube.dtype
    np.testing.assert_array_equal(one, other)
    return one


@few
@given(cube=cubes(), name=st.sampled_from((*BOUNDED, "jpegxl", "jpeg2000")))
def test_lossless_is_exact(cube: NDArray[Any], name: str) -> None:
    coding = make_coding(name, shape_of(cube), max_error=0)
    coded = coding.encode(cube)
    np.testing.assert_array_equal(both_decoded(coding, coded.data, cube), cube)
    assert (coded.stats.max_error, coded.stats.squared_error, coded.stats.angle) == (0, 0, 0)


@few
@given(data=st.data(), cube=cubes(), name=st.sampled_from(BOUNDED))
def test_no_pixel_is_off_by_more_than_the_bound(
    data: st.DataObject, cube: NDArray[Any], name: str
) -> None:
    bound = data.draw(st.integers(1, 40) | st.sampled_from((255, 4000, 32767, 65535)))
    masks = data.draw(masks_of(cube))
    coding = make_coding(name, shape_of(cube), max_error=bound, masks=masks)
    coded = coding.encode(cube)
    off = off_by(cube, both_decoded(coding, coded.data, cube))
    assert off.max() <= bound
    assert not off[kept_exactly(cube, masks)].any()
    assert coded.stats.max_error == off.max()
    assert coded.stats.squared_error == pytest.approx(float((off**2).sum()))


@few
@given(
    data=st.data(),
    cube=cubes(),
    name=st.sampled_from(("packed", "deflate")),
    aim=st.sampled_from(({"ratio": 3.0}, {"ratio": 40.0}, {"noise": Noise(9.0, 0.5)})),
)
def test_without_a_bound_the_error_is_stated_and_masked_pixels_are_exact(
    data: st.DataObject, cube: NDArray[Any], name: str, aim: dict[str, Any]
) -> None:
    masks = data.draw(masks_of(cube))
    coding = make_coding(name, shape_of(cube), masks=masks, **aim)
    coded = coding.encode(cube)
    off = off_by(cube, both_decoded(coding, coded.data, cube))
    assert coded.stats.max_error == off.max()
    assert not off[kept_exactly(cube, masks)].any()


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("kind", KINDS)
def test_hard_cubes_in_every_type(kind: str, name: str) -> None:
    for dtype in DTYPES:
        cube = made_cube(kind, dtype, (6, 9, 50), 3)
        for bound in (0, 2):
            coding = make_coding(name, shape_of(cube), max_error=bound)
            decoded = both_decoded(coding, coding.encode(cube).data, cube)
            assert off_by(cube, decoded).max() <= bound, (dtype, bound)


def test_angles_are_those_between_the_spectra() -> None:
    cube = made_cube("scene", np.dtype(np.uint16), (5, 8, 30), 1)
    cube[0, :, 0] = 0
    coding = make_coding("packed", shape_of(cube), ratio=20)
    coded = coding.encode(cube)
    a = cube.astype(float)
    b = coding.decode(coded.data, 5).astype(float)
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    cosine = (a * b).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    alone = np.count_nonzero(a.any(axis=1) ^ b.any(axis=1))
    assert coded.stats.spectra == (lengths > 0).sum() + alone
    true = np.arccos(np.minimum(cosine, 1)).sum() + alone * np.pi / 2
    assert coded.stats.angle == pytest.approx(true, rel=1e-4)


@pytest.mark.parametrize("name", ["packed", "predicted"])
def test_spectra_that_are_zero_on_one_side_only_are_at_a_right_angle(name: str) -> None:
    cube = np.zeros((8, 5, 6), np.uint16)
    cube[3, 2, 4] = 3  # with this bound, what was zero becomes 2 where this band's mean lies
    coding = make_coding(name, shape_of(cube), max_error=3)
    coded = coding.encode(cube)
    a, b = cube.any(axis=1), coding.decode(coded.data, 8).any(axis=1)
    assert (a ^ b).sum() == 47
    assert coded.stats.spectra == (a | b).sum() == 48
    assert coded.stats.angle == pytest.approx(47 * np.pi / 2, abs=1e-9)


def test_a_ratio_is_reached_and_no_byte_is_left_lying() -> None:
    cube = made_cube("scene", np.dtype(np.uint16), (64, 60, 100), 5)
    for ratio in (8, 30):
        coded = make_coding("packed", shape_of(cube), ratio=ratio).encode(cube)
        assert ratio <= cube.nbytes / len(coded.data) <= 1.1 * ratio


def test_the_step_follows_the_noise() -> None:
    cube = made_cube("scene", np.dtype(np.uint16), (32, 40, 100), 5)
    errors = [
        make_coding("packed", shape_of(cube), noise=Noise(sigma**2)).encode(cube).stats.rmse
        for sigma in (20, 80, 320)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 20


def test_spectra_that_occur_twice_are_coded_once() -> None:
    cube = made_cube("noise", np.dtype(np.uint16), (16, 20, 40), 7)
    twice = np.repeat(cube, 2, axis=2)
    one = make_coding("predicted", shape_of(cube), max_error=0).encode(cube)
    two = make_coding("predicted", shape_of(twice), max_error=0).encode(twice)
    assert len(two.data) < 1.02 * len(one.data)


def test_spectra_of_one_hash_are_copies_only_if_they_are_equal() -> None:
    kernels = compile_pixels(np.dtype(np.uint16))
    pixels = np.zeros((2, 3, 4), np.uint16)
    pixels[1, 2, 1] = 1
    first, equal = np.zeros(8, np.int64), np.empty(8, np.bool_)
    kernels.same_spectra(pixels, first, equal)
    assert equal.tolist() == [False, True, True, True, True, False, True, True]


def test_the_smaller_of_both_is_taken() -> None:
    cube = made_cube("scene", np.dtype(np.uint16), (32, 60, 60), 9)
    for bound in (0, 60):
        sizes = {
            name: len(make_coding(name, shape_of(cube), max_error=bound).encode(cube).data)
            for name in ("predicted", "packed", "smallest")
        }
        assert sizes["smallest"] == 1 + min(sizes["predicted"], sizes["packed"])


def test_the_same_pixels_give_the_same_bytes_from_any_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    cube = made_cube("scene", np.dtype(np.int16), (24, 30, 60), 11)
    for name in BOUNDED:
        coding = make_coding(name, shape_of(cube), max_error=1)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _, c=coding: c.encode(cube).data, range(8)))
        assert len(set(made)) == 1


@pytest.mark.parametrize("name", ["packed", "deflate"])
def test_scores_beyond_24_bits_come_back(name: str, rng: np.random.Generator) -> None:
    """A hot pixel among dark counts, in the finest step: its score is 22 million steps."""
    cube = rng.normal(100, 2, (16, 448, 32)).round().astype(np.uint16)
    cube[5, :, 7] = 65535
    coding = make_coding(name, shape_of(cube), noise=Noise(0.0))
    coded = coding.encode(cube)
    assert coded.stats.steps == (1 / 16, 1 / 16)
    off = off_by(cube, both_decoded(coding, coded.data, cube))
    assert off.max() == coded.stats.max_error < 10


def test_a_weight_leaves_room_for_what_a_value_differs_from_its_prediction() -> None:
    """2¹⁵ · 65535 is below 2³¹, and so is no more what a value about its mean adds."""
    moments, about = np.array([[1e6]]), np.array([32768e6])
    for top, weight in ((65535.0, 0), (65000.0, 32768)):
        found, _, _ = _weights(moments, about, 2.0**50, 1000, np.array([top]))
        assert found.tolist() == [weight]


@pytest.mark.parametrize("name", ["predicted", "smallest"])
def test_a_prediction_near_the_end_of_int32_is_lossless(name: str) -> None:
    """An outlier that no weight was learned from, times a weight of nearly 2¹⁵."""
    rng, (lines, bands, samples) = np.random.default_rng(110), (128, 5, 2048)
    far, top, n = int(rng.integers(33180, 33260)), int(rng.integers(150, 320)), lines * samples
    one, other = ((rng.random(n) < share).astype(int) for share in (0.98, 0.3))
    third = 16 + np.where(one == 0, far, 0) + 20 * other + rng.integers(-9, 10, n)
    rows = np.stack([other, one, third, *rng.integers(0, 65536, (2, n))]).astype(np.uint16)
    rows[:3, 5000] = top, 65535, 65535
    cube = np.ascontiguousarray(rows.reshape(bands, lines, samples).transpose(1, 0, 2))
    coding = make_coding(name, shape_of(cube), max_error=0)
    coded = coding.encode(cube)
    assert coded.stats.max_error == 0
    np.testing.assert_array_equal(coding.decode(coded.data, lines), cube)
