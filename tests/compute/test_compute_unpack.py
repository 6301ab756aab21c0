"""Unpacking against packing bit by bit, for every format, any number of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.compute import unpack as unpacking
from pipeline.compute.unpack import unpack
from pipeline.errors import CameraError
from pipeline.layout import PIXEL_FORMATS, PixelFormat


def pack(counts: NDArray[np.uint16], fmt: PixelFormat) -> NDArray[np.uint8]:
    """Pack with Python integers, straight from the words of the standards."""
    if fmt.packing == "none":
        return counts.astype(fmt.dtype.newbyteorder("<")).view("u1")
    if fmt.packing == "lsb":
        whole = sum(int(value) << (i * fmt.bits) for i, value in enumerate(counts))
        return np.frombuffer(whole.to_bytes(fmt.packed_bytes(len(counts)), "little"), "u1")
    out, low = [], fmt.bits - 8
    for i in range(0, len(counts), 2):
        a, b = int(counts[i]), int(counts[i + 1]) if i + 1 < len(counts) else 0
        mask = (1 << low) - 1
        out += [a >> low, (a & mask) | (b & mask) << 4, b >> low]
    return np.array(out, "u1")


@pytest.fixture(params=["numba", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacking._unpacker.cache_clear()
    if request.param == "numpy":
        monkeypatch.setattr(unpacking.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
@given(data=st.data())
def test_every_count_comes_back(way: None, name: str, data: st.DataObject) -> None:
    fmt = PIXEL_FORMATS[name]
    counts = np.array(
        data.draw(st.lists(st.integers(0, fmt.saturation_level), max_size=23)), "u2"
    ).astype(fmt.dtype)
    padded = np.concatenate([pack(counts, fmt), np.full(data.draw(st.integers(0, 4)), 255, "u1")])
    padded.flags.writeable = False
    out = np.empty(len(counts), fmt.dtype)
    assert unpack(padded, fmt, len(counts), out) is out
    np.testing.assert_array_equal(out, counts)
    np.testing.assert_array_equal(unpack(padded, fmt, len(counts)), counts)


def test_the_bits_lie_where_the_standard_says() -> None:
    frame = np.array([0x21, 0x43, 0x65], "u1")
    assert unpack(frame, PIXEL_FORMATS["Mono12p"], 2).tolist() == [0x321, 0x654]
    assert unpack(frame, PIXEL_FORMATS["Mono12Packed"], 2).tolist() == [0x213, 0x654]
    tens = np.array([0b00000001, 0b11110010, 0b00110011, 0b01000000, 0b11111111], "u1")
    assert unpack(tens, PIXEL_FORMATS["Mono10p"], 4).tolist() == [
        0b10_00000001,
        0b0011_111100,
        0b000000_0011,
        0b11111111_01,
    ]
    packed = np.array([0xFF, 0b0001_0010, 0x80], "u1")
    assert unpack(packed, PIXEL_FORMATS["Mono10Packed"], 2).tolist() == [0x3FE, 0x201]


def test_a_frame_that_is_too_short_is_refused() -> None:
    with pytest.raises(CameraError, match="3 pixels need 5 bytes"):
        unpack(np.zeros(4, "u1"), PIXEL_FORMATS["Mono12p"], 3)
    with pytest.raises(CameraError, match="needed is uint16"):
        unpack(np.zeros(6, "u1"), PIXEL_FORMATS["Mono12p"], 3, np.zeros(3, "u1"))
