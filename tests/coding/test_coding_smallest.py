"""Blocks of two scenes side by side: when they are cut in two, and what is read of them."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cubes import made_cube, off_by
from numpy.typing import NDArray

from pipeline.coding.choose import coding_of, make_coding
from pipeline.coding.interface import BlockShape, Masks
from pipeline.coding.smallest import PARTS, SmallestCoding, worthy_cut
from pipeline.errors import ContainerError

pytest.importorskip("numba")

BANDS, LINES, SAMPLES = 40, 24, 96


def lane(rng: np.random.Generator, samples: int, kinds: int = 6) -> NDArray[np.float64]:
    """Mixtures of spectra that no other lane has."""
    spectra = rng.uniform(200, 6000, (kinds, BANDS))
    shares = rng.dirichlet(np.ones(kinds), (LINES, samples))
    return np.asarray((shares @ spectra).transpose(0, 2, 1))


def two_lanes(rng: np.random.Generator, left: int = 48) -> NDArray[np.uint16]:
    both = np.concatenate([lane(rng, left), lane(rng, SAMPLES - left)], axis=2)
    return np.rint(both + rng.normal(0, 3, both.shape)).astype(np.uint16)


def smallest(bound: int, **more: Any) -> SmallestCoding:
    shape = BlockShape(BANDS, SAMPLES, np.dtype(np.uint16))
    made = make_coding("smallest", shape, block_lines=LINES, max_error=bound, **more)
    assert isinstance(made, SmallestCoding)
    return made


@pytest.mark.parametrize("left", [24, 48, 72])
@pytest.mark.parametrize("bound", [0, 3])
def test_two_lanes_are_coded_each_by_itself(
    rng: np.random.Generator, bound: int, left: int
) -> None:
    pixels, coding = two_lanes(rng, left), smallest(bound)
    coded = coding.encode(pixels)
    assert struct.unpack_from("<BH", coded.data) == (PARTS, left)
    whole = min(
        len(make_coding(name, coding.shape, max_error=bound).encode(pixels).data)
        for name in ("predicted", "packed")
    )
    assert len(coded.data) < 0.95 * whole
    decoded = coding.decode(coded.data, LINES)
    assert off_by(pixels, decoded).max() == coded.stats.max_error <= bound
    assert coded.stats.values == pixels.size
    errors = off_by(pixels, decoded).astype(float)
    assert coded.stats.squared_error == pytest.approx((errors**2).sum())
    plain = coding_of("SMALLEST", {"smallest version": 2}, coding.shape, LINES, numba=False)
    np.testing.assert_array_equal(plain.decode(coded.data, LINES), decoded)


def test_one_scene_stays_whole(rng: np.random.Generator) -> None:
    pixels = np.rint(lane(rng, SAMPLES) + rng.normal(0, 3, (LINES, BANDS, SAMPLES)))
    assert worthy_cut(pixels.astype(np.uint16), 0) == 0
    assert smallest(0).encode(pixels.astype(np.uint16)).data[0] in (1, 2)


def test_a_cut_that_turns_out_larger_is_not_made(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.rint(lane(rng, SAMPLES) + rng.normal(0, 3, (LINES, BANDS, SAMPLES)))
    whole = smallest(0).encode(pixels.astype(np.uint16)).data
    monkeypatch.setattr("pipeline.coding.smallest.worthy_cut", lambda pixels, bound: 24)
    assert smallest(0).encode(pixels.astype(np.uint16)).data == whole


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (4, 50, 3), (3, 1, 40), (200, 2, 1)])
@pytest.mark.parametrize("kind", ["noise", "outliers"])
def test_blocks_too_small_to_say_are_not_cut(kind: str, shape: tuple[int, int, int]) -> None:
    pixels = made_cube(kind, np.dtype(np.uint16), shape, 3)
    of_block = BlockShape(*shape[1:], np.dtype(np.uint16))
    coding = make_coding("smallest", of_block, block_lines=200, max_error=0)
    np.testing.assert_array_equal(coding.decode(coding.encode(pixels).data, len(pixels)), pixels)


def test_what_is_masked_comes_back_from_both_parts(rng: np.random.Generator) -> None:
    pixels = two_lanes(rng)
    pixels[3, :, 90], pixels[5, 7, 2], pixels[:, 9] = 0, 65535, 12345
    bad = tuple(band == 9 for band in range(BANDS))
    coding = smallest(5, masks=Masks(bad, 0, 65535))
    coded = coding.encode(pixels)
    assert coded.data[0] == PARTS
    decoded = coding.decode(coded.data, LINES)
    assert off_by(pixels, decoded).max() <= 5
    for kept in (np.s_[3, :, 90], np.s_[5, 7, 2], np.s_[:, 9]):
        np.testing.assert_array_equal(decoded[kept], pixels[kept])


@pytest.fixture(scope="module")
def block() -> bytes:
    return smallest(0).encode(two_lanes(np.random.default_rng(5))).data


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ((PARTS, 0, 100), "parts beyond the block"),
        ((PARTS, SAMPLES, 100), "parts beyond the block"),
        ((PARTS, 48, 1 << 31), "parts beyond the block"),
        ((PARTS, 48, 0), "no coding that is known"),
        ((4, 48, 100), "no coding that is known"),
    ],
)
def test_parts_that_cannot_be_are_refused(
    block: bytes, head: tuple[int, int, int], sentence: str
) -> None:
    with pytest.raises(ContainerError, match=sentence):
        smallest(0).decode(struct.pack("<BHI", *head) + block[7:], LINES)


def test_parts_of_parts_are_refused(block: bytes) -> None:
    nested = struct.pack("<BHI", PARTS, 48, len(block)) + block + block
    with pytest.raises(ContainerError, match="parts of a part"):
        smallest(0).decode(nested, LINES)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_parts_are_pixels_or_a_sentence(block: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(block) - 1))
    some = data.draw(st.sampled_from((block[:at], block[at:], _flipped(block, at))))
    with suppress(ContainerError):
        pixels = smallest(0).decode(some, LINES)
        assert pixels.shape == (LINES, BANDS, SAMPLES)


def _flipped(block: bytes, at: int) -> bytes:
    return block[:at] + bytes([block[at] ^ 16]) + block[at + 1 :]


def test_files_of_the_version_before_are_read() -> None:
    shape = BlockShape(BANDS, SAMPLES, np.dtype(np.uint16))
    for version in (1, 2):
        coding = coding_of("SMALLEST", {"smallest version": version}, shape, LINES)
        assert isinstance(coding, SmallestCoding)
    with pytest.raises(ContainerError, match="smallest version: found 3, allowed are 1 and 2"):
        coding_of("SMALLEST", {"smallest version": 3}, shape, LINES)
