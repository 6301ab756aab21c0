"""Real cubes, coded: every pixel comes back, or is as far off as the file says and no farther."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import spectral.io.envi as spy

import swath
from pipeline.container.coded_header import stated_error
from pipeline.container.compare import compare
from pipeline.container.compress import Wanted, compress
from pipeline.container.decompress import decompress
from pipeline.container.validate import validate

CUBES = ("abu-airport-1", "abu-beach-1", "abu-urban-3", "enmap-potsdam", "jasper-ridge")
#: Three blocks or more of every cube.
BLOCK_LINES = 40


@pytest.mark.parametrize("name", CUBES)
def test_a_real_cube_is_coded_without_loss_and_back(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    source = real_data / "cubes" / f"{name}.hdr"
    made = compress(source, tmp_path / "a.hsi", Wanted(block_lines=BLOCK_LINES))
    assert made.ratio > 1.5
    assert [
        f.text for f in validate(made.path) if f.level == "error" and "2.5" not in f.clause
    ] == []
    with swath.open(source) as plain, swath.open(made.path) as coded:
        np.testing.assert_array_equal(coded.read(), plain.read())
        assert coded.read(77, 5, 3) == plain.raw[77, 5, 3]
        for field in plain.header:
            if field not in ("interleave", "data type", "file type"):
                assert coded.header[field] == plain.header[field], field
    again = decompress(made.path, tmp_path / "b.hsi")
    assert compare(source, again.path).differing == 0


@pytest.mark.parametrize("name", CUBES)
def test_a_real_cube_is_never_farther_off_than_it_says(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    source = real_data / "cubes" / f"{name}.hdr"
    wanted = Wanted("packed", max_error=6, block_lines=BLOCK_LINES)
    made = compress(source, tmp_path / "a.hsi", wanted)
    found = compare(source, made.path)
    with swath.open(made.path) as coded:
        header = coded.header
    assert 0 < found.total.max_error == stated_error(header) <= 6
    assert header["pca rmse"] == pytest.approx(found.total.rmse, rel=1e-5)
    assert header["pca mean spectral angle"] == pytest.approx(found.angle_mean, rel=1e-3)


def test_others_refuse_a_coded_real_cube(real_data: Path, tmp_path: Path) -> None:
    made = compress(real_data / "cubes" / "jasper-ridge.hdr", tmp_path / "a.hsi")
    with pytest.raises(rasterio.errors.RasterioIOError):
        rasterio.open(f"/vsizip/{{{made.path}}}/data.envi")
    import zipfile

    with zipfile.ZipFile(made.path) as archive:
        archive.extractall(tmp_path)
    with pytest.raises(rasterio.errors.RasterioIOError):
        rasterio.open(tmp_path / "data.envi")
    with pytest.raises(Exception, match="7"):
        spy.open(str(tmp_path / "data.hdr"), str(tmp_path / "data.envi"))
