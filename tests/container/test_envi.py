"""Plain ENVI files: every type, order and interleave, equal in GDAL and Spectral Python."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spectral.io.envi as spy
from made_containers import counting

from pipeline.container.envi import encode_envi, open_envi, read_header, write_envi
from pipeline.container.header import Header
from pipeline.container.scaling import scale
from pipeline.errors import ContainerError, HeaderError
from pipeline.layout import ENVI_TYPES

SHAPE = (5, 4, 3)


def gdal_pixels(path: Path | str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as data:
            return data.read().transpose(1, 2, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ENVI_TYPES)
def test_every_type_and_byte_order_is_what_others_read(
    tmp_path: Path, code: int, order: str
) -> None:
    array = counting(SHAPE, order + ENVI_TYPES[code])
    for interleave in ("bil", "bip", "bsq"):
        folder = tmp_path / interleave
        path = write_envi(
            folder, "x", array, {"wavelength": [400.5, 500, 600]}, interleave=interleave,
            ending=".img",
        )  # fmt: skip
        file = open_envi(path)
        assert file.raw.shape == SHAPE
        assert file.raw.dtype == array.dtype
        np.testing.assert_array_equal(file.raw, array)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = spy.open(str(path))
            np.testing.assert_array_equal(np.asarray(theirs.open_memmap()), array)
            assert [float(w) for w in theirs.metadata["wavelength"]] == [400.5, 500, 600]
        np.testing.assert_array_equal(gdal_pixels(folder / "x.img"), array)


def test_the_map_is_a_view_whose_pages_are_not_read(tmp_path: Path) -> None:
    header = Header(
        {"samples": 1000, "lines": 10**7, "bands": 200, "data type": 12, "interleave": "bil",
         "header offset": 4096}
    )  # fmt: skip
    (tmp_path / "big.hdr").write_bytes(header.encode())
    with (tmp_path / "big.raw").open("wb") as file:
        file.truncate(4096 + header.data_bytes)  # 4 TB, a hole
    raw = open_envi(tmp_path / "big.hdr").raw
    assert isinstance(raw, np.memmap)
    assert raw.shape == (10**7, 1000, 200)
    assert raw[-1, -1, -1] == 0


@pytest.mark.parametrize("ending", ["", ".raw", ".dat", ".img", ".BIL", ".envi"])
def test_data_files_are_found_by_their_usual_endings(tmp_path: Path, ending: str) -> None:
    array = counting(SHAPE, "u2")
    header, data = encode_envi(array)
    (tmp_path / "x.hdr").write_bytes(header)
    (tmp_path / ("x" + ending)).write_bytes(data)
    np.testing.assert_array_equal(open_envi(tmp_path / "x.hdr").raw, array)
    np.testing.assert_array_equal(open_envi(tmp_path / ("x" + ending)).raw, array)


def test_a_header_behind_the_data_name_is_found(tmp_path: Path) -> None:
    header, data = encode_envi(counting(SHAPE, "u2"))
    (tmp_path / "x.bil.hdr").write_bytes(header)
    (tmp_path / "x.bil").write_bytes(data)
    assert open_envi(tmp_path / "x.bil").path == tmp_path / "x.bil"
    assert open_envi(tmp_path / "x.bil.hdr").path == tmp_path / "x.bil"


def test_data_that_are_too_short_are_refused_before_mapping(tmp_path: Path) -> None:
    header, data = encode_envi(counting(SHAPE, "u2"))
    (tmp_path / "x.hdr").write_bytes(header)
    (tmp_path / "x.raw").write_bytes(data[:-1])
    with pytest.raises(ContainerError, match=r"found 119 bytes.*need 120"):
        open_envi(tmp_path / "x.hdr")


def test_no_lines_no_data_and_coded_data_are_refused(tmp_path: Path) -> None:
    header, data = encode_envi(counting(SHAPE, "u2"))
    path = tmp_path / "x.hdr"
    path.write_bytes(header)
    with pytest.raises(ContainerError, match="no data file"):
        open_envi(path)
    (tmp_path / "x.raw").write_bytes(data)
    path.write_bytes(header.replace(b"lines = 5", b"lines = 0"))
    with pytest.raises(ContainerError, match="at least one line"):
        open_envi(path)
    path.write_bytes(header.replace(b"data type = 12", b"data type = 7\ndecoded data type = 12"))
    with pytest.raises(ContainerError, match="export"):
        open_envi(path)
    with pytest.raises(HeaderError, match="cannot be read"):
        read_header(tmp_path / "none.hdr")


def test_scaling_is_gain_offset_and_factor_by_band() -> None:
    header = Header.parse(encode_envi(counting(SHAPE, "i2"))[0])
    stored = counting(SHAPE, "i2")
    np.testing.assert_array_equal(scale(stored, header), stored)
    assert scale(stored, header).dtype == np.int16
    header.set("data gain values", [1, 2, 3])
    header.set("data offset values", 0.5)
    header.set("reflectance scale factor", 10)
    header.set("data ignore value", 7)
    values = scale(stored, header)
    expected = (stored * np.array([1.0, 2, 3]) + 0.5) / 10
    expected[stored == 7] = np.nan
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        scale(stored[:, :, 1:], header, bands=slice(1, 3)), values[:, :, 1:]
    )
    header.set("reflectance scale factor", 0)
    with pytest.raises(ContainerError, match="reflectance scale factor"):
        scale(stored, header)
    header.remove("reflectance scale factor")
    header.set("data gain values", [1, 2])
    with pytest.raises(ContainerError, match="data gain values"):
        scale(stored, header)
