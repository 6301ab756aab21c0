"""Each real cube through driver, wire and sink: nothing changes, and outside readers agree."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from rigs import capture, replay_rig

import swath
from pipeline.container.envi import open_envi
from pipeline.container.export import export
from pipeline.container.export import sidecar as write_sidecar
from pipeline.container.fields import normalise
from pipeline.container.validate import validate

CUBES = ["abu-airport-1", "abu-beach-1", "abu-urban-3", "enmap-potsdam", "jasper-ridge"]
STRUCTURE = {"samples", "lines", "bands", "header offset", "file type", "data type"}
STRUCTURE |= {"interleave", "byte order"}


def gdal_pixels(path: str) -> tuple[np.ndarray, dict[str, str]]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read().transpose(1, 2, 0), file.tags(ns="ENVI")


def spectral_pixels(header: Path, data: Path) -> tuple[np.ndarray, list[float] | None]:
    from spectral.io import envi

    image = envi.open(str(header), str(data))
    pixels = np.array(image.open_memmap(interleave="bip"))
    return pixels, image.bands.centers


@pytest.mark.parametrize(
    ("name", "block_lines"), list(zip(CUBES, [1, 7, 32, 33, 100], strict=True))
)
def test_a_replayed_real_cube_is_the_same_cube(
    real_data: Path, tmp_path: Path, name: str, block_lines: int
) -> None:
    source = real_data / "cubes" / f"{name}.hdr"
    result = capture(replay_rig(tmp_path, source, block_lines=block_lines))
    assert (result.exit_status, result.lost) == (0, 0)
    assert [str(f) for f in validate(result.file) if f.level == "error"] == []

    original = open_envi(source)
    expected = np.asarray(original.raw)
    with swath.open(result.file) as cube:
        assert np.array_equal(cube.raw, expected)
        for field in original.header:
            if normalise(field) not in STRUCTURE:
                assert cube.header[field] == original.header[field], field
        bands = original.header.floats("wavelength")
        bands = bands or [float(i) for i in range(1, expected.shape[2] + 1)]
        assert cube.header.floats("wavelength") == bands

    file = Path(result.file)
    inside, _ = gdal_pixels(f"/vsizip/{{{file}}}/data.envi")
    assert np.array_equal(inside, expected)
    sidecar = write_sidecar(file)
    through_gdal, tags = gdal_pixels(str(file))
    assert np.array_equal(through_gdal, expected)
    found = [float(v) for v in tags["wavelength"].strip("{} ").split(",")]
    assert np.allclose(found, bands)
    through_spy, centers = spectral_pixels(sidecar, file)
    assert np.array_equal(through_spy, expected)
    assert np.allclose(centers, bands)


def test_exported_reflectance_of_a_real_cube_equals_read(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "cubes" / "jasper-ridge.hdr"
    raw = np.asarray(open_envi(source).raw, float)
    from pipeline.container.envi import write_envi

    bright = raw.max(axis=(0, 1), keepdims=True) * np.ones((1, 100, 1)) + 1
    for kind, array in (("white", bright), ("black", np.full_like(bright, 3.0))):
        write_envi(tmp_path, kind, array.astype(np.float32))
    references = f'[references]\nwhite = "{tmp_path}/white.hdr"\nblack = "{tmp_path}/black.hdr"\n'
    result = capture(replay_rig(tmp_path, source, extra=references))
    with swath.open(result.file) as cube:
        expected = cube.read()
        truth = (raw - 3.0) / (bright.astype(np.float32).astype(float) - 3.0)
        assert np.allclose(expected, truth, rtol=1e-5, atol=1e-6)
    done = export(result.file, tmp_path / "plain", form="float32")
    header = done.header
    data = done.data
    by_gdal, _ = gdal_pixels(str(data))
    by_spy, _ = spectral_pixels(header, data)
    assert np.array_equal(by_gdal, expected)
    assert np.array_equal(by_spy, expected)
