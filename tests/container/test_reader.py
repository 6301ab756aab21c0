"""Opening containers: own and foreign, whole and broken, mapped and never copied."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_containers import counting, make_hsi

import swath
from pipeline.container.envi import encode_envi, write_envi
from pipeline.container.ledger import encode_csv
from pipeline.errors import ContainerError, SwathError
from pipeline.layout import LineStatus, ledger_rows

SHAPE = (6, 5, 4)


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "u1", "<c8"])
def test_raw_is_a_map_and_read_a_native_copy(tmp_path: Path, dtype: str, interleave: str) -> None:
    array = counting(SHAPE, dtype)
    path = make_hsi(tmp_path / "a.hsi", array, interleave=interleave)
    with swath.open(path) as cube:
        assert isinstance(cube.raw, np.memmap)
        assert not cube.raw.flags.writeable
        np.testing.assert_array_equal(cube.raw, array)
        got = cube.read()
        assert got.dtype == np.dtype(dtype).newbyteorder("=")
        assert got.flags.writeable
        np.testing.assert_array_equal(got, array)
        assert cube.data_offset is not None
        with path.open("rb") as file:
            file.seek(cube.data_offset)
            assert file.read(8) == encode_envi(array, interleave=interleave)[1][:8]


@pytest.mark.parametrize(
    ("lines", "samples", "bands"),
    [
        (None, None, None),
        (slice(1, 4), slice(None, None, 2), slice(-2, None)),
        (2, slice(None), [3, 0, 0]),
        ([5, 0], -1, 2),
        (slice(None, None, -1), [1, 1, 4], np.array([1, 2])),
        (slice(4, 4), None, []),
        (-1, -1, -1),
    ],
)
def test_indices_are_those_of_numpy(tmp_path: Path, lines, samples, bands) -> None:
    array = counting(SHAPE, "u2")
    cube = swath.open(make_hsi(tmp_path / "a.hsi", array))
    expected = array
    for axis, part in ((2, bands), (1, samples), (0, lines)):
        if part is not None:
            part = np.array(part, int) if isinstance(part, list) else part
            expected = expected[(*[slice(None)] * axis, part)]
    got = cube.read(lines, samples, bands)
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("bad", [6, -7, [0, 6], "x", 1.5, True, [True], [[1]], {}, 10**30])
def test_indices_out_of_range_are_our_own_error(tmp_path: Path, bad: object) -> None:
    cube = swath.open(make_hsi(tmp_path / "a.hsi", counting(SHAPE, "u2")))
    with pytest.raises(ContainerError, match="lines: found"):
        cube.read(lines=bad)  # type: ignore[arg-type]


def test_blocks_together_are_the_cube(tmp_path: Path) -> None:
    array = counting((23, 5, 4), "u2")
    cube = swath.open(make_hsi(tmp_path / "a.hsi", array))
    parts = list(cube.blocks(7, bands=slice(1, 3)))
    assert [len(part) for part in parts] == [7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(parts), array[:, :, 1:3])


def test_stored_reflectance_is_scaled_with_nan_for_what_is_invalid(tmp_path: Path) -> None:
    array = counting(SHAPE, "i2") * 100
    array[2, 1, :] = -32768
    fields = {"reflectance scale factor": 10000, "data ignore value": -32768}
    cube = swath.open(make_hsi(tmp_path / "a.hsi", array, fields))
    values = cube.read()
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0], array[0] / 10000, rtol=1e-6)
    assert np.isnan(values[2, 1]).all()
    assert np.isnan(values).sum() == 4
    np.testing.assert_array_equal(cube.read(procedures=False), array)
    np.testing.assert_array_equal(cube.read(bands=[3, 1]), values[:, :, [3, 1]])


def test_what_else_is_in_it(tmp_path: Path) -> None:
    array = counting(SHAPE, "u2")
    rows = ledger_rows(3)
    rows["line"] = [0, 1, -1]
    rows["status"][2], rows["count"][2] = LineStatus.LOST, 40
    preview_header, preview = encode_envi(
        counting((2, 2, 4), "i2"), {"reflectance scale factor": 2}
    )
    path = make_hsi(
        tmp_path / "a.hsi",
        array,
        {"wavelength": [400, 500, 600, 700], "wavelength units": "nm", "fwhm": [5, 5, 6, 6]},
        references={"white": (np.ones((4, 5)), {"exposure": 2})},
        entries={
            "thumbnail.jpg": b"\xff\xd8\xff",
            "Metadata/lines.csv": encode_csv(rows),
            "preview.hdr": preview_header,
            "preview.envi": preview,
            "preview_1.hdr": preview_header,
            "preview_1.envi": preview,
        },
    )
    cube = swath.open(path)
    assert cube.wavelengths is not None
    assert cube.wavelengths.tolist() == [400, 500, 600, 700]
    assert cube.fwhm is not None
    assert cube.fwhm.tolist() == [5, 5, 6, 6]
    assert cube.thumbnail == b"\xff\xd8\xff"
    assert cube.ledger.tobytes() == rows.tobytes()
    assert cube.lost == 40
    assert cube.preview().raw.shape == (2, 2, 4)
    assert cube.preview(1).read().dtype == np.float32
    with pytest.raises(ContainerError, match="it has preview, preview_1"):
        cube.preview(2)
    assert set(cube.references) == {"white"}
    assert cube.references["white"].array.shape == (4, 5)
    assert cube.references["white"].header["exposure"] == 2
    assert "Metadata/lines.csv" in cube.entries
    cube.close()


def test_another_calibration_file_that_cannot_be_read_stands_in_nobodys_way(
    tmp_path: Path,
) -> None:
    flat = np.full((4, 5), 10.0)
    path = make_hsi(
        tmp_path / "a.hsi",
        counting(SHAPE, "u2"),
        {"read procedures": ["microservice:reflectance"]},
        references={"black": (flat, {}), "white": (flat + 90, {})},
        entries={"Reference/qe.hdr": b"no ENVI", "Reference/qe.envi": b"x"},
    )
    with swath.open(path) as cube:
        assert cube.read().shape == SHAPE
        assert set(cube.references) == {"black", "white"}
        assert any("Reference/qe.envi is not used" in text for text in cube.warnings)


def test_references_of_several_lines_are_averaged_with_a_warning(tmp_path: Path) -> None:
    frames = np.stack([np.full((4, 5), 10.0), np.full((4, 5), 20.0)])
    for more, count in (({}, None), ({"reference": "snapshot"}, 2)):
        path = make_hsi(
            tmp_path / "a.hsi", counting(SHAPE, "u2"), references={"black": (frames, more)}
        )
        cube = swath.open(path)
        reference = cube.references["black"]
        assert (reference.array == 15).all()
        assert (None if reference.frames is None else len(reference.frames)) == count
        assert any("their mean is taken" in w for w in cube.warnings) == (count is None)


@pytest.mark.parametrize(
    ("method", "prefix", "names"),
    [
        (zipfile.ZIP_DEFLATED, "", ()),
        (zipfile.ZIP_STORED, "scan-7/", ()),
        (zipfile.ZIP_DEFLATED, "scan-7/", ("__MACOSX/._data.envi",)),
    ],
)
def test_containers_that_people_edited_are_read_with_a_warning(
    tmp_path: Path, method: int, prefix: str, names: tuple[str, ...]
) -> None:
    array = counting(SHAPE, "u2")
    path = make_hsi(tmp_path / "a.hsi", array, method=method, prefix=prefix)
    with zipfile.ZipFile(path, "a") as archive:
        for name in names:
            archive.writestr(name, b"junk")
    with swath.open(path) as cube:
        np.testing.assert_array_equal(cube.raw, array)
        assert cube.warnings
        assert (cube.data_offset is None) == (method == zipfile.ZIP_DEFLATED)


def test_a_plain_envi_file_opens_too(tmp_path: Path) -> None:
    array = counting(SHAPE, "u2")
    path = write_envi(tmp_path, "x", array, {"wavelength": [1, 2, 3, 4]}, ending=".raw")
    for given_path in (path, tmp_path / "x.raw"):
        with swath.open(given_path) as cube:
            np.testing.assert_array_equal(cube.read(bands=1), array[:, :, 1])
            assert cube.entries == ["x.hdr", "x.raw"]
            assert cube.ledger.size == 0
            assert cube.lost == 0
            assert cube.thumbnail == b""
            assert dict(cube.references) == {}


def test_data_shorter_than_their_header_are_refused(tmp_path: Path) -> None:
    header, data = encode_envi(counting(SHAPE, "u2"))
    path = tmp_path / "a.hsi"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.envi", data[:-2])
        archive.writestr("data.hdr", header)
    with pytest.raises(ContainerError, match="need 240"):
        swath.open(path).read()


@pytest.mark.parametrize("content", [b"", b"PK", b"not a container", b"ENVI\n"])
def test_what_is_no_container_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.hsi"
    path.write_bytes(content)
    with pytest.raises(SwathError):
        swath.open(path)
    with pytest.raises(ContainerError, match="no such file"):
        swath.open(tmp_path / "none.hsi")
    with pytest.raises(ContainerError, match="folder"):
        swath.open(tmp_path)
    (tmp_path / "b.hsi.partial").write_bytes(content)
    with pytest.raises(ContainerError, match="recover"):
        swath.open(tmp_path / "b.hsi.partial")


@pytest.mark.skipif(os.name == "nt", reason="files with holes are made otherwise there")
def test_opening_takes_milliseconds_whatever_the_size(tmp_path: Path) -> None:
    lines = 200_000
    header = encode_envi(np.zeros((1, 640, 224), "u2"))[0]
    header = header.replace(b"lines = 1\n", b"lines = %d\n" % lines)
    payload = lines * 640 * 224 * 2
    path = tmp_path / "big.hsi"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.hdr", header)
        info = zipfile.ZipInfo("data.envi")
        with archive.open(info, "w", force_zip64=True):
            pass
        # 57 GB as a hole: the entry's sizes are set by hand.
        assert archive.fp is not None
        archive.fp.seek(payload - 8, 1)
        archive.fp.write(b"\x01\x02\x03\x04\x05\x06\x07\x08")
        archive.start_dir = archive.fp.tell()
        info.file_size = info.compress_size = payload
    started = time.perf_counter()
    cube = swath.open(path)
    last = cube.raw[-1, -1, -1]
    assert time.perf_counter() - started < 0.5
    assert last == 0x0807
    assert cube.read(lines=[0, -1], bands=[0, 223]).shape == (2, 640, 2)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_container_is_read_or_refused(tmp_path_factory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    rows = ledger_rows(2)
    rows["line"] = [0, 1]
    references = {"white": (np.ones((2, 2)), {}), "black": (np.zeros((2, 2)), {})}
    path = make_hsi(
        folder / "a.hsi",
        counting((2, 2, 2), "u2"),
        {"read procedures": ["microservice:reflectance"], "wavelength": [1, 2]},
        references=references,
        entries={"Metadata/lines.csv": encode_csv(rows)},
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        with swath.open(path) as cube:
            cube.raw[-1, -1, -1]
            cube.read()
            cube.lost  # noqa: B018
    except SwathError:
        pass


def with_field(path: Path, field: str) -> Path:
    """Write a container of a white, a black and a header field that swath would not write."""
    pixels = np.full((4, 5), 300.0)
    procedures = {"read procedures": ["microservice:reflectance"]}
    header, _ = encode_envi(np.full(SHAPE, 200, "u2"), procedures)
    references = {"white": (pixels, {}), "black": (pixels / 3, {})}
    make_hsi(path, np.full(SHAPE, 200, "u2"), references=references)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(path.with_suffix(".made"), "w") as made:
        for name in whole.namelist():
            text = header + field.encode() + b"\n"
            made.writestr(name, text if name == "data.hdr" else whole.read(name))
    return path.with_suffix(".made").rename(path)


@pytest.mark.parametrize("level", ["nan", "inf", "1e400"])
def test_a_saturation_level_that_is_none_costs_no_reflectance(tmp_path: Path, level: str) -> None:
    with swath.open(with_field(tmp_path / "a.hsi", f"saturation level = {level}")) as cube:
        np.testing.assert_array_equal(cube.read(), np.float32(0.5))


@pytest.mark.parametrize("field", ["panel strip", "dark columns"])
@pytest.mark.parametrize("columns", ["{inf, 3}", "{nan, 1}", "{1, 1e300}"])
def test_watched_columns_that_are_no_numbers_are_one_sentence(
    tmp_path: Path, field: str, columns: str
) -> None:
    with (
        swath.open(with_field(tmp_path / "a.hsi", f"{field} = {columns}")) as cube,
        pytest.raises(ContainerError, match=rf"^{field}: found .*, allowed are two numbers"),
    ):
        cube.read()
