"""Whatever the bytes: a block, or one sentence that says it is none. Never a crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cubes import made_cube

from pipeline.coding.choose import NAMES, coding_of, make_coding
from pipeline.coding.interface import BlockShape, Masks
from pipeline.errors import ContainerError

pytest.importorskip("numba")

SHAPE = BlockShape(7, 33, np.dtype(np.uint16))
LINES = 6
many = settings(max_examples=150, deadline=None)


def coded_block(name: str) -> bytes:
    cube = made_cube("copies", SHAPE.dtype, (LINES, SHAPE.bands, SHAPE.samples), 1) >> 4
    some: dict[str, Any] = {} if name in ("jpegxl", "jpeg2000", "packints") else {"max_error": 3}
    masks = Masks((False, True, *(False,) * 5), int(cube[0, 0, 0]), 3000)
    return make_coding(name, SHAPE, masks=masks, **some).encode(cube).data


BLOCKS = {name: coded_block(name) for name in NAMES}


def decode(name: str, data: bytes, numba: bool) -> None:
    coding = make_coding(name, SHAPE, **({"max_error": 3} if name in ("packed", "deflate") else {}))
    again = coding_of(coding.file_type, coding.fields(), SHAPE, LINES, numba=numba)
    try:
        pixels = again.decode(data, LINES)
    except ContainerError:
        return
    assert pixels.shape == (LINES, SHAPE.bands, SHAPE.samples)
    assert pixels.dtype == SHAPE.dtype


@many
@given(data=st.data(), name=st.sampled_from(NAMES), numba=st.booleans())
def test_flipped_bytes(data: st.DataObject, name: str, numba: bool) -> None:
    block = bytearray(BLOCKS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    decode(name, bytes(block), numba)


@many
@given(data=st.data(), name=st.sampled_from(NAMES), numba=st.booleans())
def test_cut_and_lengthened_blocks(data: st.DataObject, name: str, numba: bool) -> None:
    block = BLOCKS[name]
    at = data.draw(st.integers(0, len(block)))
    decode(name, block[:at] + data.draw(st.binary(max_size=40)), numba)


@many
@given(data=st.binary(max_size=400), name=st.sampled_from(NAMES), numba=st.booleans())
def test_any_bytes(data: bytes, name: str, numba: bool) -> None:
    decode(name, data, numba)


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_is_found(name: str) -> None:
    block = BLOCKS[name]
    coding = make_coding(name, SHAPE, **({"max_error": 3} if name in ("packed", "deflate") else {}))
    for at in range(0, len(block), max(1, len(block) // 60)):
        with pytest.raises(ContainerError):
            coding.decode(block[:at], LINES)
    with pytest.raises(ContainerError):
        coding.decode(BLOCKS[name], LINES + 1)


@pytest.mark.parametrize("name", ["jpegxl", "jpeg2000"])
def test_an_image_of_another_size_is_not_decoded(name: str) -> None:
    wide = BlockShape(SHAPE.bands, SHAPE.samples + 1, SHAPE.dtype)
    cube = made_cube("noise", SHAPE.dtype, (LINES, wide.bands, wide.samples), 1)
    block = make_coding(name, wide).encode(cube).data
    with pytest.raises(ContainerError, match=r"found an image of \(6, 34\) lines and samples"):
        make_coding(name, SHAPE).decode(block, LINES)
