"""Real cubes and references: opened, read and exported as GDAL and Spectral Python see them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spectral.io.envi as spy

import swath
from pipeline.container.envi import encode_envi, open_envi
from pipeline.container.export import export

CUBES = ("abu-airport-1", "abu-beach-1", "abu-urban-3", "enmap-potsdam", "jasper-ridge")


@pytest.mark.parametrize("name", CUBES)
def test_a_real_cube_is_what_others_read_and_exports_unchanged(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    path = real_data / "cubes" / f"{name}.hdr"
    cube = swath.open(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.asarray(spy.open(str(path)).open_memmap())
        with rasterio.open(path.with_suffix(".raw")) as data:
            gdal = data.read().transpose(1, 2, 0)
    np.testing.assert_array_equal(cube.raw, theirs)
    np.testing.assert_array_equal(cube.read(), gdal)
    made = export(path, tmp_path / "out")
    file = open_envi(made.header)
    np.testing.assert_array_equal(file.raw, cube.raw)
    for field in cube.header:
        if field not in ("interleave", "lines", "samples", "bands"):
            assert file.header[field] == cube.header[field], field
    if name == "jasper-ridge":
        assert cube.wavelengths is not None
        assert np.any(np.diff(cube.wavelengths) < 0)  # detector overlap: kept in order
    if name == "enmap-potsdam":
        assert cube.fwhm is not None
        assert cube.fwhm.size == 224


def test_a_real_reference_pair_gives_reflectance_of_its_panel(
    real_data: Path, tmp_path: Path
) -> None:
    import zipfile

    folder = real_data / "references" / "headwall-nir"
    white, dark = open_envi(folder / "whiteReference.hdr"), open_envi(folder / "darkReference.hdr")
    fields = white.header.copy()
    fields.set("read procedures", ["microservice:reflectance"])
    header, data = encode_envi(np.repeat(white.raw, 3, axis=0), fields)
    path = tmp_path / "white.hsi"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.envi", data)
        archive.writestr("data.hdr", header)
        for name, file in (("white", white), ("black", dark)):
            hdr, raw = encode_envi(file.raw, file.header)
            archive.writestr(f"Reference/{name}.envi", raw)
            archive.writestr(f"Reference/{name}.hdr", hdr)
    cube = swath.open(path)
    values = cube.read()
    assert values.shape == (3, 320, 70)
    invalid = white.raw[0] <= dark.raw[0]
    assert np.array_equal(np.isnan(values[1]), invalid)
    np.testing.assert_allclose(values[:, ~invalid], 1, rtol=1e-6)


def test_specim_references_open_with_their_own_fields(real_data: Path) -> None:
    folder = real_data / "references" / "specim-lumo"
    for path in sorted(folder.glob("*.hdr")):
        file = open_envi(path)
        assert file.header["binning"] == [int(path.name.split("_")[2][0]), 2]
        assert file.header.time() is not None
        assert file.raw.shape == (1, 1024, file.header.bands)
        assert file.header.wavelength_nm is not None
