"""Real cubes coded: exact, within the bound, and as small as the codings are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

import swath
from pipeline.coding.choose import make_coding
from pipeline.coding.interface import BlockShape, Encoded, Masks

pytest.importorskip("numba")

CUBES = ("abu-airport-1", "abu-beach-1", "abu-urban-3", "enmap-potsdam", "jasper-ridge")


def block_of(real_data: Path, name: str) -> NDArray[Any]:
    """Give the first lines of a cube: (lines, bands, samples)."""
    raw = swath.open(real_data / "cubes" / f"{name}.hdr").raw
    return np.ascontiguousarray(raw[:100].transpose(0, 2, 1))


def coded(cube: NDArray[Any], name: str, **aim: Any) -> tuple[Encoded, NDArray[Any]]:
    coding = make_coding(name, BlockShape(*cube.shape[1:], cube.dtype), **aim)
    made = coding.encode(cube)
    return made, coding.decode(made.data, len(cube))


@pytest.mark.parametrize("name", CUBES)
def test_lossless_is_a_quarter_smaller_than_one_band_at_a_time(real_data: Path, name: str) -> None:
    cube = block_of(real_data, name)
    made, decoded = coded(cube, "predicted", max_error=0)
    np.testing.assert_array_equal(decoded, cube)
    bands = np.ascontiguousarray(cube.transpose(1, 0, 2)).view(np.uint16)
    bands = bands ^ np.uint16(0x8000 if cube.dtype.kind == "i" else 0)
    theirs = sum(len(imagecodecs.jpegls_encode(band)) for band in bands)
    assert 1.25 * len(made.data) < theirs


@pytest.mark.parametrize("coding", ["predicted", "packed", "deflate"])
@pytest.mark.parametrize("name", CUBES)
def test_the_bound_holds(real_data: Path, name: str, coding: str) -> None:
    cube = block_of(real_data, name)
    made, decoded = coded(cube, coding, max_error=5)
    assert np.abs(cube.astype(int) - decoded).max() == made.stats.max_error <= 5
    assert cube.nbytes > (3.5 if coding == "deflate" else 4.8) * len(made.data)


@pytest.mark.parametrize("name", CUBES)
def test_nodata_and_saturated_pixels_come_back_from_32_to_1(real_data: Path, name: str) -> None:
    cube = block_of(real_data, name)
    ignore = -32768 if name == "enmap-potsdam" else 0
    top = int(np.quantile(cube, 0.9999))
    made, decoded = coded(cube, "packed", ratio=32, masks=Masks((), ignore, top))
    exact = (cube == ignore) | (cube >= top)
    np.testing.assert_array_equal(decoded[exact], cube[exact])
    assert 32 * len(made.data) <= cube.nbytes
    assert made.stats.rmse < 20
