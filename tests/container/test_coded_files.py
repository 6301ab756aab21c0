"""A coded file reads as the plain one does, block by block, and keeps everything else."""

from __future__ import annotations

import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import spectral.io.envi as spy
from coded_files import BLOCK_LINES, LINES, code, coded_capture, spoil
from container_captures import begin, cube, header, rows_for, stored
from hypothesis import given
from hypothesis import strategies as st
from made_containers import counting, make_hsi

import swath
from pipeline.coding.predicted import PredictedCoding
from pipeline.container.coded_header import masks_of, stated_error
from pipeline.container.compress import Wanted, compress
from pipeline.container.decompress import decompress
from pipeline.container.envi import encode_envi, write_envi
from pipeline.container.export import export, sidecar
from pipeline.container.header import Header
from pipeline.container.reader import Container
from pipeline.container.repack import append_exploration, repack
from pipeline.container.validate import validate
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ConfigError, ContainerError, SwathError
from pipeline.layout import LineStatus


def errors(path):
    return [f"{f.entry}: {f.text}" for f in validate(path) if f.level == "error"]


def entries(path):
    with scan(path) as archive:
        return {name: archive.read(name) for name in archive.entries}


def test_a_coded_file_reads_as_the_plain_one(tmp_path, rng):
    plain, coded, pixels = coded_capture(tmp_path, rng)
    with swath.open(plain) as a, swath.open(coded) as b:
        np.testing.assert_array_equal(b.read(), a.read())
        assert b.read().dtype == a.read().dtype
        np.testing.assert_array_equal(b.read(procedures=False).transpose(0, 2, 1), pixels)
        np.testing.assert_array_equal(
            b.read(slice(10, 20), 3, [2, 0]), a.read(slice(10, 20), 3, [2, 0])
        )
        assert b.shape == a.shape
        assert b.wavelengths.tolist() == a.wavelengths.tolist()
        assert b.ledger.tobytes() == a.ledger.tobytes()
        assert (b.thumbnail, b.lost) == (a.thumbnail, a.lost)
        np.testing.assert_array_equal(b.preview().raw, a.preview().raw)
        np.testing.assert_array_equal(np.concatenate(list(b.blocks(7))), a.read())
    assert errors(coded) == []


@given(st.data())
def test_any_part_is_that_of_the_plain_cube(tmp_path_factory, data):
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 9), st.integers(1, 5)))
    dtype = data.draw(st.sampled_from(["u1", "i2", "u2", ">u2", ">i2"]))
    interleave = data.draw(st.sampled_from(["bil", "bip", "bsq"]))
    folder = tmp_path_factory.mktemp("part")
    array = np.random.default_rng(shape[0]).integers(0, 200, shape).astype(dtype)
    source = make_hsi(folder / "a.hsi", array, {"wavelength units": "Index"}, interleave=interleave)
    lines = data.draw(st.integers(1, 40))
    code(source, folder / "b.hsi", coding="predicted", block_lines=lines)

    def part(size):
        first = data.draw(st.integers(0, size - 1))
        return slice(first, data.draw(st.integers(first + 1, size)))

    box = tuple(part(size) for size in shape)
    with Container(folder / "b.hsi") as cube:
        np.testing.assert_array_equal(cube.read(*box), array[box])


def test_reading_ten_lines_decodes_one_block(tmp_path, rng, monkeypatch):
    _, coded, pixels = coded_capture(tmp_path, rng)
    decoded = []
    with Container(coded) as cube:
        payload = cube.coded
        whole = payload.decode
        monkeypatch.setattr(payload, "decode", lambda n: decoded.append(n) or whole(n))
        np.testing.assert_array_equal(cube.read(slice(20, 30)).transpose(0, 2, 1), pixels[20:30])
        assert decoded == [1]
        cube.read(25)
        assert decoded == [1]
        for _ in cube.blocks(5):
            pass
        assert decoded == [1, 0, 1, 2] or decoded == [1, 0, 2]


def test_reading_on_decodes_the_next_block_ahead_and_none_twice(tmp_path, rng, monkeypatch):
    _, coded, pixels = coded_capture(tmp_path, rng)
    decoded = []
    with Container(coded) as cube:
        payload = cube.coded
        whole = payload.decode
        monkeypatch.setattr(payload, "decode", lambda n: decoded.append(n) or whole(n))
        ahead = threading.Event()
        rest = payload.block
        monkeypatch.setattr(payload, "block", lambda n: (rest(n), n != 1 or ahead.set())[0])
        parts = [cube.read(slice(0, 5), procedures=False)]
        assert decoded == [0]
        parts.append(cube.read(slice(5, 10), procedures=False))
        assert ahead.wait(30)
        assert decoded == [0, 1]  # nobody asked for it yet
        parts += [cube.read(slice(n, n + 5), procedures=False) for n in range(10, LINES, 5)]
        np.testing.assert_array_equal(np.concatenate(parts).transpose(0, 2, 1), pixels)
        assert sorted(decoded) == [0, 1, 2]


def test_a_damaged_block_read_ahead_is_an_error_of_who_reads_it(tmp_path, rng):
    _, coded, pixels = coded_capture(tmp_path, rng)
    with Container(spoil(coded, 1)) as cube:
        for n in range(0, BLOCK_LINES, 4):
            part = cube.read(slice(n, n + 4), procedures=False)
            np.testing.assert_array_equal(part.transpose(0, 2, 1), pixels[n : n + 4])
        with pytest.raises(ContainerError, match="block 1"):
            cube.read(slice(16, 20))


def test_several_blocks_are_decoded_by_several_threads(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("pipeline.container.coded.default_threads", lambda: 2)
    _, coded, pixels = coded_capture(tmp_path, rng)
    with Container(coded) as cube:
        together = threading.Barrier(2, timeout=30)
        whole = cube.coded.decode

        def decode(number):
            if number < 2:
                together.wait()  # breaks, and fails the read, unless two are decoded at once
            return whole(number)

        monkeypatch.setattr(cube.coded, "decode", decode)
        np.testing.assert_array_equal(cube.read(procedures=False).transpose(0, 2, 1), pixels)


def test_several_threads_read_at_once(tmp_path, rng):
    _, coded, pixels = coded_capture(tmp_path, rng)
    with Container(coded) as cube, ThreadPoolExecutor(8) as pool:
        together = threading.Barrier(8, timeout=30)

        def read(seed):
            together.wait()
            order = np.random.default_rng(seed).permutation(LINES)
            return all(
                np.array_equal(cube.read(int(n), procedures=False).T, pixels[n]) for n in order
            )

        assert all(pool.map(read, range(8)))


def test_what_was_handed_out_outlives_the_container(tmp_path, rng):
    _, coded, pixels = coded_capture(tmp_path, rng)
    with Container(coded) as cube:
        below = cube.stored
    np.testing.assert_array_equal(below.read(below.whole).transpose(0, 2, 1), pixels)


def test_gdal_and_spectral_python_refuse_a_coded_file(tmp_path, rng):
    _, coded, _ = coded_capture(tmp_path, rng)
    with zipfile.ZipFile(coded) as archive:
        archive.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked"
    for place in (f"/vsizip/{{{coded}}}/data.envi", str(folder / "data.envi")):
        with pytest.raises(rasterio.errors.RasterioIOError):
            rasterio.open(place)
    with pytest.raises(Exception) as refused:
        spy.open(str(folder / "data.hdr"), str(folder / "data.envi"))
    assert "7" in str(refused.value)
    with pytest.raises(ContainerError, match="swath export decodes"):
        sidecar(coded)
    assert not coded.with_suffix(".hdr").exists()


def test_an_unpacked_coded_cube_is_read_by_its_header(tmp_path, rng):
    _, coded, pixels = coded_capture(tmp_path, rng)
    with zipfile.ZipFile(coded) as archive:
        archive.extract("data.envi", tmp_path)
        archive.extract("data.hdr", tmp_path)
    with swath.open(tmp_path / "data.hdr") as cube:
        np.testing.assert_array_equal(cube.read(17).T, pixels[17])
    made = decompress(tmp_path / "data.hdr", tmp_path / "again.hsi")
    np.testing.assert_array_equal(stored(made.path), pixels)


def test_raw_says_how_a_coded_cube_is_read(tmp_path, rng):
    _, coded, _ = coded_capture(tmp_path, rng)
    with Container(coded) as cube, pytest.raises(ContainerError, match=r"read\(procedures=False\)"):
        cube.raw  # noqa: B018


def test_reflectance_is_computed_from_decoded_counts(tmp_path, rng):
    counts = rng.integers(200, 4000, (20, 6, 4)).astype("u2")
    white, black = np.full((4, 6), 4000.0), np.full((4, 6), 100.0)
    references = {"white": (white, {}), "black": (black, {})}
    fields = {"read procedures": ["microservice:reflectance", "rotate:clockwise"]}
    source = make_hsi(tmp_path / "a.hsi", counts, fields, references=references)
    code(source, tmp_path / "b.hsi")
    with Container(source) as a, Container(tmp_path / "b.hsi") as b:
        np.testing.assert_array_equal(b.read(), a.read())
        assert b.read().dtype == np.float32


def test_every_other_entry_is_kept_both_ways(tmp_path, rng):
    plain, coded, pixels = coded_capture(tmp_path, rng, target="leaf", serial_number="7")
    append_exploration(plain, "labels.txt", b"mine")
    coded.unlink()
    code(plain, coded)
    again = decompress(coded, tmp_path / "again.hsi")
    assert (again.missing, again.problems) == ([], [])
    form = {"data.hdr", "data.envi", "Metadata/stream.json", "Metadata/blocks.csv"}
    before, between, after = entries(plain), entries(coded), entries(again.path)
    assert set(between) == {*before, "Metadata/blocks.csv"}
    assert set(after) == set(before)
    for name in set(before) - form:
        assert between[name] == before[name] == after[name], name
    np.testing.assert_array_equal(stored(again.path), pixels)
    with Container(plain) as a, Container(again.path) as b:
        assert b.header == a.header
    assert errors(again.path) == []
    for names in map(list, (between, after)):
        assert (names[0], names[-1]) == ("Metadata/stream.json", "data.hdr")


def test_the_header_says_how_the_cube_is_coded_and_how_far_it_is_off(tmp_path, rng):
    plain, _, pixels = coded_capture(tmp_path, rng)
    made = code(plain, tmp_path / "lossy.hsi", coding="packed", max_error=4)
    with Container(made.path) as coded:
        header = coded.header
        got = coded.read(procedures=False).transpose(0, 2, 1).astype(int)
    error = np.abs(got - pixels)
    assert 0 < error.max() <= 4
    assert (header["data type"], header["decoded data type"], header.file_type) == (7, 12, "PCA")
    assert header["pca max error"] == error.max() == made.stats.max_error
    np.testing.assert_allclose(header["pca rmse"], np.sqrt((error**2).mean()), rtol=1e-5)
    assert header["pca mean spectral angle"] > 0
    assert (header["pca bands"], header["pca block lines"]) == (3, BLOCK_LINES)
    assert header["pca wavelength"] == header["wavelength"]
    assert header["pca pixels"] > 0
    assert (header["pca version"], header["pca coding"]) == (2, "packed")
    assert decompress(made.path, tmp_path / "again.hsi").max_error == error.max()
    with Container(tmp_path / "again.hsi") as cube:
        assert cube.header["pca max error"] == error.max()
        assert "pca version" not in cube.header


def test_a_second_error_is_refused_and_the_first_one_stays_stated(tmp_path, rng):
    plain, _, _ = coded_capture(tmp_path, rng)
    lossy = code(plain, tmp_path / "lossy.hsi", coding="packed", max_error=4)
    uncoded = decompress(lossy.path, tmp_path / "uncoded.hsi").path
    for source in (lossy.path, uncoded):
        with pytest.raises(ContainerError, match="allowed is lossless"):
            code(source, tmp_path / "more.hsi", max_error=1)
        assert not (tmp_path / "more.hsi").exists()
    again = code(uncoded, tmp_path / "again.hsi")
    assert any("goes on to state" in text for text in again.warnings)
    with Container(again.path) as a, Container(uncoded) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert stated_error(a.header) == lossy.stats.max_error


def test_export_repack_and_adding_take_a_coded_file(tmp_path, rng):
    plain, coded, pixels = coded_capture(tmp_path, rng)
    made = export(coded, tmp_path / "out", form="raw")
    wanted = export(plain, tmp_path / "wanted", form="raw")
    assert made.data.read_bytes() == wanted.data.read_bytes() == pixels.tobytes()
    assert made.header.read_bytes() == wanted.header.read_bytes()
    append_exploration(coded, "labels.txt", b"mine")
    again = repack(coded, tmp_path / "again.hsi")
    assert errors(again) == []
    with Container(again) as cube:
        np.testing.assert_array_equal(cube.read().transpose(0, 2, 1), pixels)
        assert cube.entry("Exploration/labels.txt") == b"mine"
        assert cube.warnings == []


def test_a_plain_envi_file_is_coded_with_its_comments(tmp_path):
    array = counting((20, 6, 4), "i2")
    header = write_envi(tmp_path, "scene", array, {"wavelength": [1, 2, 3, 4], "mine": "kept"})
    header.write_bytes(header.read_bytes() + b"; serial 7\n")
    made = code(header, tmp_path / "a.hsi")
    with Container(made.path) as cube:
        np.testing.assert_array_equal(cube.read(), array)
        assert cube.header["mine"] == "kept"
        assert cube.entry("Metadata/original comments.txt") == b"serial 7\n"


def test_the_index_and_the_records_tell_the_same(tmp_path, rng):
    _, coded, _ = coded_capture(tmp_path, rng)
    with Container(coded) as cube:
        by_index = cube.coded.blocks
    with zipfile.ZipFile(coded) as archive, zipfile.ZipFile(tmp_path / "b.hsi", "w") as out:
        for name in archive.namelist():
            if name != "Metadata/blocks.csv":
                out.writestr(name, archive.read(name))
    with Container(tmp_path / "b.hsi") as cube:
        assert cube.coded.blocks == by_index
    assert sorted(by_index) == [0, 1, 2]
    assert by_index[2].lines == LINES - 2 * BLOCK_LINES


@pytest.mark.parametrize("dtype", ["f4", "i4", "u4", "c8", "f8", "i8"])
def test_only_small_integers_are_coded(tmp_path, dtype):
    source = make_hsi(tmp_path / "a.hsi", counting((4, 3, 2), dtype))
    with pytest.raises(ContainerError, match="data type: found"):
        compress(source, tmp_path / "b.hsi")
    assert not (tmp_path / "b.hsi").exists()


def test_what_cannot_be_coded_is_refused_in_a_sentence(tmp_path, rng):
    plain, coded, _ = coded_capture(tmp_path, rng)
    for out, fault in ((coded, "exists"), (tmp_path / "none" / "b.hsi", "found no folder")):
        with pytest.raises(ConfigError, match=fault):
            compress(plain, out)
    with pytest.raises(ContainerError, match="nothing to decode"):
        decompress(plain, tmp_path / "b.hsi")
    with pytest.raises(ConfigError, match="block lines: found 0"):
        compress(plain, tmp_path / "b.hsi", Wanted(block_lines=0))
    with pytest.raises(ContainerError, match="black_std"):
        compress(plain, tmp_path / "b.hsi", Wanted(noise=True))
    header, data = encode_envi(counting((4, 3, 2), "i2"), {"file type": "PCA"})
    with zipfile.ZipFile(tmp_path / "scores.hsi", "w") as archive:
        archive.writestr("data.envi", data)
        archive.writestr("data.hdr", header)
    with pytest.raises(ContainerError, match="PCA scores"):
        compress(tmp_path / "scores.hsi", tmp_path / "b.hsi")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coded.hsi", "plain.hsi", "scores.hsi"]


@pytest.mark.parametrize("kind", ["compressing", "decompressing"])
def test_a_source_with_the_name_of_the_growing_file_is_refused(tmp_path, rng, kind):
    plain, coded, _ = coded_capture(tmp_path, rng)
    make, given = (compress, plain) if kind == "compressing" else (decompress, coded)
    source = given.rename(tmp_path / f"out.hsi.{kind}")
    before = source.read_bytes()
    with pytest.raises(ConfigError, match=r"out\.hsi grows in a file of this name"):
        make(source, tmp_path / "out.hsi")
    assert source.read_bytes() == before
    assert not (tmp_path / "out.hsi").exists()


def test_nor_is_the_data_of_an_envi_header_removed(tmp_path, rng):
    header = write_envi(tmp_path, "plain", rng.integers(0, 99, (4, 3, 5)).astype("u2"))
    data = tmp_path / "out.hsi.compressing"
    (tmp_path / "plain.envi").rename(data)
    header = header.rename(tmp_path / "out.hsi.compressing.hdr")
    before = data.read_bytes()
    with pytest.raises(ConfigError, match=r"out\.hsi grows in a file of this name"):
        compress(header, tmp_path / "out.hsi")
    assert data.read_bytes() == before


def test_an_error_beyond_the_bound_is_never_written(tmp_path, rng, monkeypatch):
    plain, _, _ = coded_capture(tmp_path, rng)
    encode = PredictedCoding.encode

    def wrong(self, pixels):
        made = encode(self, pixels)
        return replace(made, stats=replace(made.stats, max_error=3))

    monkeypatch.setattr(PredictedCoding, "encode", wrong)
    code(plain, tmp_path / "b.hsi", coding="predicted", max_error=3)
    for wanted, allowed in ((Wanted("predicted", max_error=2), 2), (Wanted("predicted"), 0)):
        with pytest.raises(SwathError, match=f"an error of 3 counts, allowed are {allowed}"):
            compress(plain, tmp_path / "c.hsi", wanted)
    assert not list(tmp_path.glob("c.hsi*"))


def test_of_two_errors_that_a_header_states_the_larger_counts(tmp_path, rng):
    header = {"pca max error": 0}
    source = make_hsi(tmp_path / "a.hsi", rng.integers(0, 999, (9, 8, 7)).astype("u2"), header)
    code(source, tmp_path / "b.hsi", coding="predicted", max_error=9)
    decompress(tmp_path / "b.hsi", tmp_path / "c.hsi")
    for name in ("b.hsi", "c.hsi"):
        with Container(tmp_path / name) as cube:
            assert stated_error(cube.header) == 9


@pytest.mark.parametrize(
    ("std", "text"),
    [
        (np.full((6, 24), 1e30), r"a deviation of the black of 1e\+30 counts"),
        (np.full((6, 24), np.nan), "a deviation of the black of nan counts"),
        (np.full((6, 24), 1e18), r"one of \S+ counts at full scale by white_std"),
        (np.ones((3, 24)), r"a black_std of \(3, 24\), allowed are \(6, 24\) bands, samples"),
    ],
)
def test_a_noise_that_no_sensor_has_is_refused(tmp_path, std, text):
    references = {"black": (np.ones((6, 24)), {}), "black_std": (std, {})}
    if text.startswith("one of"):
        references |= {"white": (np.full((6, 24), 9.0), {}), "white_std": (std, {})}
        references["black_std"] = (np.ones((6, 24)), {})
    source = make_hsi(tmp_path / "a.hsi", counting((4, 24, 6), "u2"), references=references)
    with pytest.raises(ContainerError, match=text):
        compress(source, tmp_path / "b.hsi", Wanted(noise=True))


@pytest.mark.parametrize("level", ["nan", "inf", "-1", "0", "1e300"])
def test_a_saturation_level_that_is_no_count_masks_nothing(level):
    text = "ENVI\nsamples = 1\nlines = 1\nbands = 1\ndata type = 12\ninterleave = bil\n"
    text += f"saturation level = {level}\n"
    assert masks_of(Header.parse(text.encode()), np.dtype(np.uint16)).saturation is None


def test_the_noise_of_the_references_sets_the_error(tmp_path, rng):
    counts = np.clip(rng.normal(1000, 8, (64, 24, 6)), 0, 4095).astype("u2")
    flat = np.ones((6, 24))
    references = {
        "black": (100 * flat, {}),
        "black_std": (8 * flat, {}),
        "white": (1100 * flat, {}),
        "white_std": (np.sqrt(64.0) * flat, {}),
    }
    source = make_hsi(tmp_path / "a.hsi", counts, {"bit depth": 12}, references=references)
    made = code(source, tmp_path / "b.hsi", noise=True, coding="packed")
    assert 0 < made.stats.rmse < 8
    assert made.ratio > code(source, tmp_path / "c.hsi").ratio


def test_the_header_says_the_step_of_the_scores_or_the_range_of_steps(tmp_path, rng):
    lines = np.arange(BLOCK_LINES * 2)[:, None, None] * rng.integers(5, 40, (1, 60, 20))
    smooth = (900 + lines + rng.integers(0, 9, lines.shape)).astype("u2")
    flat = np.full_like(smooth, 700)
    source = make_hsi(tmp_path / "a.hsi", smooth, {"wavelength units": "Index"})
    for name, wanted, steps in (
        ("same", {"max_error": 2}, [7.5]),  # 1.5 intervals of 5 counts, in sixteenths
        ("range", {"ratio": 4.0}, None),
        ("none", {"coding": "predicted", "max_error": 2}, []),
    ):
        made = code(source, tmp_path / f"{name}.hsi", **{"coding": "packed", **wanted})
        with Container(made.path) as cube:
            fields = cube.header
            assert cube.warnings == []
        found = [fields["pca step"]] if "pca step" in fields else fields.get("pca steps", [])
        if steps is None:
            least, largest = found
            assert 0 < least < largest
            assert least == made.stats.steps[0]
        else:
            assert found == steps
        decompress(made.path, tmp_path / f"plain-{name}.hsi")
        with Container(tmp_path / f"plain-{name}.hsi") as cube:
            assert not any(field.startswith("pca step") for field in cube.header)
    source = make_hsi(tmp_path / "b.hsi", flat, {"wavelength units": "Index"})
    made = code(source, tmp_path / "flat.hsi", coding="packed", max_error=2)
    with Container(made.path) as cube:
        assert "pca step" not in cube.header  # no scores


def test_a_run_that_was_cut_short_leaves_no_obstacle(tmp_path, rng):
    plain, _, _ = coded_capture(tmp_path, rng)
    (tmp_path / "b.hsi.compressing").write_bytes(b"left")
    code(plain, tmp_path / "b.hsi")
    assert not (tmp_path / "b.hsi.compressing").exists()


def test_the_progress_of_both_ways_ends_with_all_lines(tmp_path, rng):
    plain, coded, _ = coded_capture(tmp_path, rng)
    told: list[tuple[int, int]] = []
    wanted = Wanted(block_lines=BLOCK_LINES)
    compress(plain, tmp_path / "b.hsi", wanted, progress=lambda *now: told.append(now))
    decompress(coded, tmp_path / "c.hsi", progress=lambda *now: told.append(now))
    assert told == [(16, 40), (32, 40), (40, 40)] * 2


def test_packed_pixels_take_twelve_bits_and_lost_lines_are_zero(tmp_path, rng):
    pixels = cube(rng, 20)
    pixels[7] = 65535  # as the driver fills a lost line
    rows = rows_for(0, 20)
    rows["status"][7] = LineStatus.LOST
    writer = begin(tmp_path / "a.hsi")
    writer.write(pixels, rows)
    source = writer.finish(header())
    made = code(source, tmp_path / "b.hsi", coding="packints")
    assert "1 lines that were lost hold 0" in made.warnings[-1]
    with Container(made.path) as coded:
        assert coded.coded.size == pixels.size * 12 // 8 + 2 * 32
        got = coded.read(procedures=False).transpose(0, 2, 1)
    assert got.dtype == np.uint16
    assert (got[7] == 0).all()
    keep = np.arange(20) != 7
    np.testing.assert_array_equal(got[keep], pixels[keep])
    pixels[3, 0, 0] = 4096
    deep = make_hsi(tmp_path / "c.hsi", pixels.transpose(0, 2, 1))
    with pytest.raises(ConfigError, match="allowed are 12 bits"):
        code(deep, tmp_path / "d.hsi", coding="packints")
    assert not (tmp_path / "d.hsi").exists()


@pytest.mark.parametrize("coding", ["packed", "deflate", "predicted", "jpegxl", "jpeg2000"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_every_coding_gives_the_plain_cube_back(tmp_path, rng, coding, dtype):
    array = (np.cumsum(rng.integers(0, 3, (40, 9, 4)), axis=2) + 60).astype(dtype)
    source = make_hsi(tmp_path / "a.hsi", array)
    made = code(source, tmp_path / "b.hsi", coding=coding, max_error=0)
    assert made.coding == coding
    with Container(made.path) as cube:
        np.testing.assert_array_equal(cube.read(), array)
        assert stated_error(cube.header) == 0
        again = decompress(made.path, tmp_path / "c.hsi")
    with Container(again.path) as cube:
        assert not {n for n in cube.header if n.startswith(("pca", "coded", "decoded", coding))}
        np.testing.assert_array_equal(cube.raw, array)
    assert not [text for text in errors(made.path) if "wavelength" not in text]


def test_memory_does_not_grow_with_the_cube(tmp_path, rng):
    def peaks(lines):
        source = make_hsi(
            tmp_path / f"{lines}.hsi", rng.integers(0, 99, (lines, 64, 32)).astype("u2")
        )
        coded, plain = tmp_path / f"{lines}c.hsi", tmp_path / f"{lines}p.hsi"
        found = []
        for work in (
            lambda: code(source, coded, coding="packints"),
            lambda: decompress(coded, plain, threads=2),
            lambda: [None for _ in Container(coded).blocks(8)],
        ):
            tracemalloc.start()
            work()
            found.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return np.array(found)

    peaks(32)  # whatever is made once
    few, many = peaks(320), peaks(3200)
    assert (many < 2 * few).all()
    assert (many < 3200 * 64 * 32 * 2 / 2).all()


def test_path_like_and_text_are_taken(tmp_path: Path, rng):
    plain, _, _ = coded_capture(tmp_path, rng)
    assert compress(str(plain), str(tmp_path / "b.hsi")).path == tmp_path / "b.hsi"
