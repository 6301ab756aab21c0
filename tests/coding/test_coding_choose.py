"""Choosing a coding: what is not possible is said, with what was found and what is allowed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from pipeline.coding.choose import coding_of, make_coding
from pipeline.coding.interface import Aim, BlockShape, Coding, Noise
from pipeline.errors import ConfigError, ContainerError

SHAPE = BlockShape(4, 10, np.dtype(np.uint16))


@pytest.mark.parametrize(
    ("file_type", "fields", "sentence"),
    [
        ("ENVI Standard", {}, "file type: found 'ENVI Standard', allowed for a coded payload are"),
        ("PCA", {}, "pca version: found None, needs a whole number"),
        ("PCA", {"pca version": 3}, "pca version: found 3, allowed is 2"),
        ("PCA", {"pca version": "2"}, "pca coding: found none, allowed are packed and deflate"),
        ("PREDICTED", {"predicted version": 2}, "predicted version: found 2, allowed is 1"),
        ("PACKINTS", {"packints bits": 16}, "packints: found 16 bits in uint16, allowed are"),
        ("PACKINTS", {}, "packints bits: found None, needs a whole number"),
    ],
)
def test_headers_that_name_no_coding(file_type: str, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ContainerError, match=sentence):
        coding_of(file_type, fields, SHAPE, 128)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("zip", {}, "coding: found 'zip', allowed are packed, deflate"),
        ("packed", {}, "packed: found no max_error, ratio or noise, needs one of them"),
        ("packed", {"ratio": 0.5}, "ratio: found 0.5, allowed are 1 to 10000"),
        ("packed", {"max_error": -1}, "max_error: found -1, allowed are 0 to 65535 counts"),
        ("packed", {"max_error": 1, "ratio": 8}, "found max_error and ratio, allowed is one"),
        ("predicted", {"ratio": 8}, "predicted: found a ratio or noise as its aim"),
        ("jpegxl", {"max_error": 1}, "jpegxl: found a max_error of 1, allowed is 0"),
        ("packints", {"bits": 17}, "packints: found 17 bits in uint16"),
        ("packed", {"max_error": 0, "block_lines": 0}, "block_lines: found 0 lines"),
    ],
)
def test_wishes_that_cannot_be(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_coding(name, SHAPE, **options)


def test_pixels_that_are_not_of_the_cube_are_refused() -> None:
    for coding in every_coding():
        for wrong in (
            np.zeros((3, 4, 11), np.uint16),
            np.zeros((3, 4, 10), np.int16),
            np.zeros((0, 4, 10), np.uint16),
            np.zeros((129, 4, 10), np.uint16),
        ):
            with pytest.raises(ConfigError, match="coding: found a block of"):
                coding.encode(wrong)


def test_a_coding_is_found_again_by_what_it_writes() -> None:
    for coding in every_coding():
        text = {name: str(value) for name, value in coding.fields().items()}
        again = coding_of(coding.file_type, text, SHAPE, coding.block_lines)
        assert type(again) is type(coding)
        assert again.name == coding.name
        assert again.fields() == coding.fields()


def every_coding() -> list[Coding]:
    return [
        make_coding("packed", SHAPE, max_error=0),
        make_coding("deflate", SHAPE, noise=Noise(4.0)),
        *(make_coding(n, SHAPE) for n in ("predicted", "smallest", "jpegxl", "jpeg2000")),
        make_coding("packints", SHAPE, bits=11),
    ]


def test_counts_of_too_many_bits_are_not_packed() -> None:
    coding = make_coding("packints", SHAPE, bits=11)
    with pytest.raises(ConfigError, match="found a count of 2048, allowed are 11 bits: 0 to 2047"):
        coding.encode(np.full((1, 4, 10), 2048, np.uint16))
    pixels = np.arange(40, dtype=np.uint16).reshape(1, 4, 10) * 50
    coded = coding.encode(pixels).data
    assert len(coded) == 55
    np.testing.assert_array_equal(coding.decode(coded, 1), pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int64])
def test_types_that_cannot_be_coded(dtype: Any) -> None:
    with pytest.raises(ConfigError, match="allowed are uint8, int8, uint16, int16"):
        BlockShape(1, 1, np.dtype(dtype))


def test_noise_and_aims_are_checked() -> None:
    with pytest.raises(ConfigError, match="noise: found a dark variance of -1"):
        Noise(-1)
    assert Noise(16, 0.5).sigma(40) == 6
    with pytest.raises(ConfigError, match="found ratio and noise, allowed is one of them"):
        Aim(ratio=2, noise=Noise(1))


def test_without_numba_a_block_is_read_and_none_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cube = np.arange(6 * 4 * 9, dtype=np.uint16).reshape(6, 4, 9) % 50
    coding = make_coding("packed", BlockShape(4, 9, np.dtype(np.uint16)), max_error=0)
    data = coding.encode(cube).data
    for loops in ("kernels", "pca_kernels", "rans_kernels"):
        # an import of what is None there fails as that of a module that is not installed
        monkeypatch.setitem(sys.modules, f"pipeline.coding.{loops}", None)
    np.testing.assert_array_equal(coding.decode(data, 6), cube)
    with pytest.raises(ConfigError, match="found no numba, which writing needs"):
        coding.encode(cube)
