"""Exports and sidecars: what GDAL and Spectral Python see in them equals what we read."""

from __future__ import annotations

import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spectral.io.envi as spy
from made_containers import counting, make_hsi

import swath
from pipeline.container.envi import encode_envi, open_envi, read_header
from pipeline.container.export import export, sidecar
from pipeline.errors import ContainerError, ReferenceMismatchError
from pipeline.layout import ENVI_TYPES

SHAPE = (7, 5, 4)
WAVES = [400.25, 500.5, 600.125, 700.0]
SPECTRUM = {"wavelength": WAVES, "wavelength units": "Nanometers", "fwhm": [5, 5.5, 6, 6.5]}


def gdal(path: Path | str) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as data:
            tags = [data.tags(band).get("wavelength", "") for band in data.indexes]
            return data.read().transpose(1, 2, 0), tags


def spectral_python(header: Path, data: Path | None = None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return spy.open(str(header), None if data is None else str(data))


def with_references(tmp_path: Path, rng: np.random.Generator, **fields) -> Path:
    black = rng.uniform(90, 110, (4, 5)).astype("f4")
    white = rng.uniform(2000, 3000, (4, 5)).astype("f4")
    white[0, 1] = 0
    return make_hsi(
        tmp_path / "a.hsi",
        rng.integers(100, 3000, SHAPE).astype("u2"),
        {
            **SPECTRUM,
            "bit depth": 12,
            "saturation level": 4095,
            "band names": ["a", "b", "c", "d"],
            "default bands": [3, 2, 1],
            "hroi": [11, 15],
            "Free Field": "kept",
            "read procedures": ["microservice:reflectance"],
            **fields,
        },
        references={"black": (black, {}), "white": (white, {})},
        entries={"Metadata/lines.csv": b"line\n", "Metadata/camera.json": b"{}"},
    )


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("code", ENVI_TYPES)
def test_a_sidecar_opens_the_container_in_place(tmp_path: Path, code: int, interleave: str) -> None:
    for order in "<>":
        array = counting(SHAPE, order + ENVI_TYPES[code])
        path = make_hsi(tmp_path / f"{order == '<'}.hsi", array, SPECTRUM, interleave=interleave)
        header = sidecar(path)
        theirs = spectral_python(header, path)
        np.testing.assert_array_equal(np.asarray(theirs.open_memmap()), array)
        assert theirs.bands.centers == WAVES
        pixels, tags = gdal(path)
        np.testing.assert_array_equal(pixels, array)
        assert [float(tag.split()[0]) for tag in tags] == WAVES
        pixels, tags = gdal(f"/vsizip/{{{path}}}/data.envi")
        np.testing.assert_array_equal(pixels, array)
        assert [float(tag.split()[0]) for tag in tags] == WAVES


def test_a_sidecar_is_refused_where_bits_are_no_pixels(tmp_path: Path) -> None:
    array = counting(SHAPE, "u2")
    deflated = make_hsi(tmp_path / "d.hsi", array, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(ContainerError, match="repack"):
        sidecar(deflated)
    header, data = encode_envi(array)
    coded = header.replace(b"data type = 12", b"data type = 7\ndecoded data type = 12")
    with zipfile.ZipFile(tmp_path / "c.hsi", "w") as archive:
        archive.writestr("data.envi", data[:50])
        archive.writestr("data.hdr", coded)
    with pytest.raises(ContainerError, match="export"):
        sidecar(tmp_path / "c.hsi")
    assert swath.open(tmp_path / "c.hsi").header.coded
    with pytest.raises(Exception):  # noqa: B017 - whatever GDAL raises
        gdal(f"/vsizip/{{{tmp_path / 'c.hsi'}}}/data.envi")


def test_a_sidecar_never_replaces_another_header(tmp_path: Path) -> None:
    path = make_hsi(tmp_path / "a.hsi", counting(SHAPE, "u2"))
    first = sidecar(path)
    assert sidecar(path) == first
    first.write_text("ENVI\nsomebody else's\n")
    with pytest.raises(ContainerError, match="exists"):
        sidecar(path)
    assert first.read_text() == "ENVI\nsomebody else's\n"


def test_reflectance_is_exported_as_what_read_gives(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = with_references(tmp_path, rng)
    made = export(path, tmp_path / "out")
    values = swath.open(path).read()
    theirs = spectral_python(made.header)
    invalid = np.isnan(values)
    assert invalid.sum() == SHAPE[0]
    loaded = np.asarray(theirs.load(dtype=np.float64))
    np.testing.assert_allclose(loaded[~invalid], values[~invalid], atol=0.5001e-4)
    assert theirs.bands.centers == WAVES
    pixels, tags = gdal(made.data)
    assert pixels.dtype == np.int16
    assert (pixels[invalid] == -32768).all()
    np.testing.assert_allclose(pixels[~invalid] / 1e4, values[~invalid], atol=0.5001e-4)
    assert [float(tag.split()[0]) for tag in tags] == WAVES
    again = swath.open(made.header)
    np.testing.assert_allclose(again.read(), values, atol=0.5001e-4)
    header = again.header
    assert header["free field"] == "kept"
    assert "Free Field" in list(header)
    assert not {"read procedures", "bit depth", "saturation level"} & set(header)
    assert (tmp_path / "out" / "Metadata" / "camera.json").read_bytes() == b"{}"
    assert not list((tmp_path / "out").glob("*.partial"))


def test_float32_is_exactly_what_read_gives(tmp_path: Path, rng: np.random.Generator) -> None:
    path = with_references(tmp_path, rng)
    made = export(path, tmp_path / "out", form="float32")
    values = swath.open(path).read()
    np.testing.assert_array_equal(open_envi(made.header).raw, values)
    np.testing.assert_array_equal(gdal(made.data)[0], values)
    np.testing.assert_array_equal(np.asarray(spectral_python(made.header).open_memmap()), values)


def test_raw_is_exported_with_its_references(tmp_path: Path, rng: np.random.Generator) -> None:
    path = with_references(tmp_path, rng)
    made = export(path, tmp_path / "out", form="raw")
    source = swath.open(path)
    file = open_envi(made.header)
    np.testing.assert_array_equal(file.raw, source.raw)
    assert file.header == source.header
    white = open_envi(tmp_path / "out" / "Reference" / "white.hdr")
    np.testing.assert_array_equal(white.raw[0].T, source.references["white"].array)


@pytest.mark.parametrize("form", ["raw", "reflectance", "float32"])
def test_parts_take_what_belongs_to_them(
    tmp_path: Path, rng: np.random.Generator, form: str
) -> None:
    path = with_references(tmp_path, rng)
    made = export(
        path, tmp_path / "out", form=form, lines=slice(2, 6), samples=slice(1, 4), bands=slice(1, 3)
    )
    file = open_envi(made.header)
    assert file.raw.shape == (4, 3, 2) == made.shape
    whole = swath.open(path).read(slice(2, 6), slice(1, 4), slice(1, 3), procedures=form != "raw")
    np.testing.assert_allclose(file.read(), whole, atol=1e-4 if form == "reflectance" else 0)
    assert file.header["wavelength"] == WAVES[1:3]
    assert file.header["fwhm"] == [5.5, 6.0]
    assert file.header["band names"] == ["b", "c"]
    assert "default bands" not in file.header
    assert file.header["hroi"] == [12, 14]
    assert "read procedures" not in file.header


def test_procedures_are_applied_and_wavelengths_follow(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    steps = ["microservice:reflectance", "crop:{0:4, 0:6, 1:3}", "rotate:clockwise"]
    path = with_references(tmp_path, rng, **{"read procedures": steps})
    made = export(path, tmp_path / "out", form="float32")
    file = open_envi(made.header)
    np.testing.assert_array_equal(file.raw, swath.open(path).read())
    assert file.header["wavelength"] == WAVES[1:]
    assert "hroi" not in file.header


def test_integers_without_references_stay_what_they_are(tmp_path: Path) -> None:
    array = counting(SHAPE, ">i4")
    path = make_hsi(tmp_path / "a.hsi", array, {"data offset values": [1, 2, 3, 4]})
    made = export(path, tmp_path / "raw")
    np.testing.assert_array_equal(open_envi(made.header).raw, array)
    np.testing.assert_array_equal(
        open_envi(made.header).read(), array + np.array([1, 2, 3, 4], "f4")
    )
    made = export(path, tmp_path / "float", form="float32")
    assert "data offset values" not in read_header(made.header)
    np.testing.assert_array_equal(open_envi(made.header).raw, array + np.array([1, 2, 3, 4], "f4"))
    with pytest.raises(ReferenceMismatchError):
        export(path, tmp_path / "none", form="reflectance")
    with pytest.raises(ContainerError, match="exists"):
        export(path, tmp_path / "raw")


def test_references_without_a_procedure_still_give_reflectance(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    with_procedure = with_references(tmp_path, rng)
    values = swath.open(with_procedure).read()
    source = swath.open(with_procedure)
    plain = make_hsi(
        tmp_path / "plain.hsi",
        source.raw,
        references={n: (r.array, {}) for n, r in source.references.items()},
    )
    file = open_envi(export(plain, tmp_path / "out").header)
    np.testing.assert_allclose(file.read(), values, atol=1e-4)


def test_comments_of_the_header_are_kept_beside(tmp_path: Path) -> None:
    header, data = encode_envi(counting(SHAPE, "u2"))
    (tmp_path / "x.hdr").write_bytes(header + b";Serial number = mvx-2019\n; b\n")
    (tmp_path / "x.raw").write_bytes(data)
    export(tmp_path / "x.hdr", tmp_path / "out")
    kept = tmp_path / "out" / "Metadata" / "original comments.txt"
    assert kept.read_text() == "Serial number = mvx-2019\nb\n"


def test_memory_does_not_grow_with_the_cube(tmp_path: Path) -> None:
    peaks = []
    for lines in (400, 1600):
        path = tmp_path / f"{lines}.hsi"
        array = np.zeros((lines, 200, 100), "u2")
        refs = {"black": (np.zeros((100, 200)), {}), "white": (np.ones((100, 200)), {})}
        make_hsi(path, array, {"read procedures": ["microservice:reflectance"]}, references=refs)
        del array
        seen: list[int] = []
        tracemalloc.start()
        export(
            path, tmp_path / f"out{lines}", form="float32",
            progress=lambda done, total, seen=seen: seen.append(done),
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen[-1] == lines
    assert peaks[1] < peaks[0] * 1.1 + (1 << 20)


def test_nothing_is_left_under_the_final_name_when_the_export_fails(tmp_path: Path) -> None:
    path = make_hsi(tmp_path / "a.hsi", counting(SHAPE, "u2"))

    def stop(done: int, total: int) -> None:
        raise ContainerError("stopped")

    with pytest.raises(ContainerError, match="stopped"):
        export(path, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    (tmp_path / "own").mkdir()
    with pytest.raises(ContainerError, match="stopped"):
        export(path, tmp_path / "own", progress=stop)
    assert not list((tmp_path / "own").iterdir())
    with pytest.raises(ContainerError, match=r"a\.hsi: found a file, allowed is a folder"):
        export(path, path)


def test_a_sidecar_opens_its_container_and_a_plain_header_beside_one_is_refused(
    tmp_path: Path,
) -> None:
    path = make_hsi(tmp_path / "a.hsi", counting((3, 5, 4), "u2"))
    header = sidecar(path)
    with swath.open(header) as through, swath.open(path) as direct:
        assert np.array_equal(through.raw, direct.raw)
    header.write_text(header.read_text().replace("header offset =", "header offset = 0\nwas ="))
    with pytest.raises(ContainerError, match=r"header offset: found 0 for the container a\.hsi"):
        swath.open(header).raw  # noqa: B018
