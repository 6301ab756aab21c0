"""Files made to hurt their reader: each ends in our own error, soon and in little memory."""

from __future__ import annotations

import os
import struct
import time
import zipfile

import numpy as np
import pytest
from made_containers import counting, make_hsi

import swath
from pipeline.container.envi import encode_envi, read_header
from pipeline.container.export import export
from pipeline.container.header import Header
from pipeline.container.ledger import decode_csv
from pipeline.container.procedures import MAX_PROCEDURES, parse_procedures
from pipeline.container.repack import undo_append
from pipeline.container.validate import validate
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ContainerError

STRUCTURE = (
    "ENVI\nsamples = 1\nlines = 1\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\n"
    "data type = 1\ninterleave = bil\nbyte order = 0\n"
)


def small(path, **fields):
    return make_hsi(
        path,
        counting((3, 4, 2), "u2"),
        {name.replace("_", " "): value for name, value in fields.items()},
    )


@pytest.mark.parametrize(
    "text",
    [
        "band names = {a" + " " * 100_000 + "b}",
        "fps = " + "1" * 100_000 + "x",
        "wavelength = {" + "1" * 100_000 + "x}",
        "acquisition time = 2020-01-01T00:00:00." + "1" * 100_000 + "x",
    ],
)
def test_no_text_takes_long_to_parse(text):
    start = time.process_time()
    Header.parse(STRUCTURE + text)
    assert time.process_time() - start < 2


def test_no_merge_takes_long_to_parse():
    start = time.process_time()
    with pytest.raises(ContainerError, match="ID:dx:dy"):
        parse_procedures(["merge:{a" + " " * 100_000 + "b}"])
    assert time.process_time() - start < 2


@pytest.mark.parametrize("value", ["{" + "1," * 20_000 + "1}", "9" * 20_000])
def test_a_message_stays_one_short_sentence(value):
    with pytest.raises(ContainerError) as caught:
        Header.parse(STRUCTURE.replace("samples = 1", f"samples = {value}"))
    assert len(str(caught.value)) < 300


def test_too_many_procedures_are_refused(tmp_path):
    path = small(tmp_path / "a.hsi", read_procedures=["rotate:180"] * (MAX_PROCEDURES + 1))
    with pytest.raises(ContainerError, match="allowed are 100"):
        swath.open(path).read()


def test_merges_that_multiply_are_refused(tmp_path):
    for depth in range(6):
        others = ", ".join(f"m{depth + 1}.hsi:{k}:0" for k in range(20))
        small(tmp_path / f"m{depth}.hsi", read_procedures=[f"merge:{{{others}}}"])
    small(tmp_path / "m6.hsi")
    with pytest.raises(ContainerError, match="more than 256 cubes"):
        swath.open(tmp_path / "m0.hsi").read()


def test_resampling_that_no_memory_holds_is_refused(tmp_path):
    path = make_hsi(
        tmp_path / "a.hsi",
        counting((3, 4, 50), "u2"),
        {
            "wavelength": list(range(400, 450)),
            "wavelength units": "nm",
            "read procedures": ["resample:{4, 3, 16777216}"],
        },
    )
    with pytest.raises(ContainerError, match="does not fit into memory"):
        swath.open(path).read(lines=0, samples=0, bands=0)


def test_resampling_in_pieces_gives_the_mean_and_minds_nan(tmp_path, monkeypatch):
    cube = np.arange(12 * 4 * 2, dtype="f4").reshape(12, 4, 2)
    cube[3, 1] = np.nan
    path = make_hsi(tmp_path / "a.hsi", cube, {"read procedures": ["resample:{2, 3, 2}"]})
    whole = swath.open(path).read()
    monkeypatch.setattr("pipeline.container.cube._WIDE_VALUES", 8)
    np.testing.assert_allclose(swath.open(path).read(), whole, rtol=1e-6)
    expected = np.nanmean(cube.reshape(3, 4, 2, 2, 2), axis=(1, 3))
    np.testing.assert_allclose(whole, expected, rtol=1e-6)


def test_one_band_of_scores_is_decoded_a_few_lines_at_a_time(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    scores = rng.integers(-99, 99, (10, 4, 2)).astype("i2")
    parts = {}
    for name, shape in (("basis", (4, 6, 2)), ("mean", (4, 6, 1))):
        hdr, data = encode_envi(rng.random(shape).astype("f4"))
        parts |= {f"Reference/pca_{name}.hdr": hdr, f"Reference/pca_{name}.envi": data}
    fields = {
        "file type": "PCA",
        "pca version": 1,
        "pca coding": "int16",
        "pca bands": 6,
        "pca block lines": 3,
        "pca step": 1.0,
        "read procedures": ["microservice:pca"],
    }
    path = make_hsi(tmp_path / "a.hsi", scores, fields, entries=parts)
    whole = swath.open(path).read()
    monkeypatch.setattr("pipeline.container.cube._WIDE_VALUES", 48)
    np.testing.assert_allclose(swath.open(path).read(bands=5), whole[:, :, 5], rtol=1e-5)


def test_a_ledger_of_far_more_rows_than_lines_is_refused(tmp_path, monkeypatch):
    rows = b"line\n" + b"1\n" * 1_100_000
    path = make_hsi(
        tmp_path / "a.hsi", counting((3, 4, 2), "u2"), entries={"Metadata/lines.csv": rows}
    )
    with pytest.raises(ContainerError, match="found more than"):
        _ = swath.open(path).lost


def test_a_ledger_without_line_ends_is_no_ledger(tmp_path):
    path = make_hsi(
        tmp_path / "a.hsi",
        counting((3, 4, 2), "u2"),
        entries={"Metadata/lines.csv": b"1" * 3_000_000},
        method=zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(ContainerError, match="a line of more than"):
        _ = swath.open(path).ledger
    assert any("a line of more than" in finding.text for finding in validate(path))


def test_the_line_of_a_long_ledger_is_named(tmp_path):
    rows = b"line\n" + b"1\n" * 5000 + b"x\n"
    path = make_hsi(
        tmp_path / "a.hsi", counting((3, 4, 2), "u2"), entries={"Metadata/lines.csv": rows}
    )
    with pytest.raises(ContainerError, match=r"lines\.csv:5002: line: found 'x'"):
        _ = swath.open(path).ledger


def test_entries_that_share_bytes_are_refused(tmp_path):
    path = small(tmp_path / "a.hsi")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Exploration/x.txt", b"x" * 100)
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    last = data.rindex(b"PK\x01\x02")
    # data.hdr and the last one begin where data.envi does
    struct.pack_into("<I", data, last + 42, struct.unpack_from("<I", data, first + 42)[0])
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="overlap"):
        scan(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes (POSIX)")
def test_a_pipe_is_never_waited_for(tmp_path):
    pipe = tmp_path / "a.hsi"
    os.mkfifo(pipe)
    for attempt in (scan, swath.open, read_header):
        with pytest.raises(ContainerError):
            attempt(pipe)


def test_a_name_too_long_is_our_own_error():
    with pytest.raises(ContainerError, match="cannot be read"):
        swath.open("a" * 5000 + ".hsi")


@pytest.mark.parametrize("text", [b"7", b"\xff\xfe", b"1e3"])
def test_a_false_marker_cuts_nothing_off(tmp_path, text):
    path = small(tmp_path / "a.hsi")
    before = path.read_bytes()
    (tmp_path / "a.hsi.appending").write_bytes(text)
    try:
        undo_append(path)
    except ContainerError:
        pass
    assert path.read_bytes() == before


def test_ignored_counts_stay_out_of_a_mean(tmp_path):
    cube = np.full((4, 4, 1), 100, "u2")
    cube[1] = 65535
    fields = {"data ignore value": 65535, "read procedures": ["resample:{2, 2, 1}"]}
    path = make_hsi(tmp_path / "a.hsi", cube, fields)
    assert np.all(swath.open(path).read() == 100)


def test_an_export_that_fails_leaves_no_cube(tmp_path):
    path = small(tmp_path / "a.hsi")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Metadata/n.json", b"{}" * 50, compress_type=zipfile.ZIP_BZIP2)
    with pytest.raises(ContainerError, match="compression method"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out/data.img").exists()


def test_a_ledger_time_of_another_zone_is_refused():
    with pytest.raises(ContainerError, match="host_time_utc"):
        decode_csv(b"line,host_time_utc\n0,2026-01-01T00:00:00+01:00Z\n")
