"""Findings name the clause; repacking restores the form; adding never moves the cube."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from container_captures import BANDS, SAMPLES, captured, cube, header, stored, thumbnail

from pipeline.container import repack as repack_module
from pipeline.container.ledger import CSV_HEADER
from pipeline.container.recovery import recover
from pipeline.container.repack import append_exploration, repack
from pipeline.container.validate import validate
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ConfigError, ContainerError, StorageError


@pytest.fixture
def whole(tmp_path, rng):
    return captured(tmp_path / "whole.hsi", cube(rng, 12))


def rebuilt(path, source, changes, **options):
    """Write a container anew with zipfile, entries replaced, added or (None) left out."""
    with scan(source) as archive:
        entries = {name: archive.read(name) for name in archive.entries}
    entries.update(changes)
    with zipfile.ZipFile(path, "w", **options) as target:
        for name, data in entries.items():
            if data is not None:
                target.writestr(name, data)
    return path


def found(path):
    return {(f.level, f.clause, f.entry): f.text for f in validate(path)}


def edited(path, old, new):
    with scan(path) as archive:
        text = archive.read("data.hdr").decode()
    assert old in text
    return text.replace(old, new).encode()


def reference(samples=SAMPLES, bands=BANDS, lines=1):
    own = header(samples, bands, "f4")
    own.set("lines", lines)
    return own.encode(), bytes(4 * samples * bands * lines)


def test_a_file_of_our_own_has_no_findings(whole):
    assert validate(whole) == []


HEADER_CASES = {
    "lines = 12": ("lines = 13", ("error", "D4.1 2.4", "data.envi"), "has 576 bytes"),
    "lines = 12\n": ("lines = 11\n", ("warning", "D4.1 2.4", "data.envi"), "has 576 bytes"),
    "interleave = bil\n": ("", ("error", "D4.1 2.4", "data.hdr"), "interleave"),
    "byte order = 0\n": ("", ("error", "D4.1 2.4", "data.hdr"), "byte order is missing"),
    "file type = ENVI Standard": (
        "file type = ENVI FFT",
        ("error", "D4.1 2.4", "data.hdr"),
        "allowed is ENVI Standard",
    ),
    "ENVI\n": ("HDR\n", ("error", "D4.1 2.3", "data.hdr"), "first line"),
    "wavelength = {400.0, 410.0, 420.0}\n": (
        "",
        ("error", "D4.1 2.5", "data.hdr"),
        "wavelength: missing",
    ),
    "{400.0, 410.0, 420.0}": (
        "{400.0, 410.0}",
        ("error", "D4.1 2.5", "data.hdr"),
        "2 values for 3 bands",
    ),
    "wavelength units = Nanometers": (
        "default bands = {1, 2, 4}",
        ("warning", "D4.1 2.6", "data.hdr"),
        "default bands",
    ),
    "wavelength units": (
        "read procedures = {rotate:45}\nwavelength units",
        ("error", "D4.1 2.6", "data.hdr"),
        "rotate:45",
    ),
    "wavelength units =": (
        "read procedures = {microservice:nobody-has-this}\nwavelength units =",
        ("warning", "D4.1 2.6", "data.hdr"),
        "nobody-has-this",
    ),
    "wavelength units = ": (
        "read procedures = {microservice:reflectance}\nwavelength units = ",
        ("error", "D4.1 2.2", "data.hdr"),
        "needs Reference/",
    ),
    "wavelength units = N": (
        "acquisition time = yesterday\nwavelength units = N",
        ("warning", "D4.1 2.7", "data.hdr"),
        "acquisition time",
    ),
    "wavelength units = Na": (
        "sensor type = FX10\nwavelength units = Na",
        ("warning", "D4.1 2.7", "data.hdr"),
        "Metadata/FX10",
    ),
    "wavelength units = Nan": (
        "classification file = leaf.envi\nwavelength units = Nan",
        ("error", "D4.1 2.9", "data.hdr"),
        "Exploration/leaf.envi",
    ),
}


@pytest.mark.parametrize("old", HEADER_CASES, ids=lambda old: HEADER_CASES[old][0][:30].strip())
def test_header_findings_name_their_clause(tmp_path, whole, old):
    new, key, text = HEADER_CASES[old]
    file = rebuilt(tmp_path / "b.hsi", whole, {"data.hdr": edited(whole, old, new)})
    findings = found(file)
    assert text in findings[key], findings


def entry_cases():
    white, pixels = reference()
    wide, wide_pixels = reference(samples=SAMPLES + 1)
    many, many_pixels = reference(lines=3)
    row = b"%d,1,ok,0,1,,,,,,,0,0,0\n"
    return {
        "no data": ({"data.envi": None}, ("error", "D4.1 2.2", "data.envi"), "missing"),
        "no header": ({"data.hdr": None}, ("error", "D4.1 2.2", "data.hdr"), "missing"),
        "no thumbnail": (
            {"thumbnail.jpg": None},
            ("warning", "D4.1 2.2", "thumbnail.jpg"),
            "missing",
        ),
        "thumbnail no jpeg": (
            {"thumbnail.jpg": b"\x89PNG"},
            ("error", "D4.1 2.2", "thumbnail.jpg"),
            "no whole JPEG",
        ),
        "thumbnail torn": (
            {"thumbnail.jpg": thumbnail()[:-9]},
            ("error", "D4.1 2.2", "thumbnail.jpg"),
            "no whole JPEG",
        ),
        "reference without header": (
            {"Reference/white.envi": pixels},
            ("error", "D4.1 2.2", "Reference/white.envi"),
            "header is missing",
        ),
        "reference of another width": (
            {"Reference/white.envi": wide_pixels, "Reference/white.hdr": wide},
            ("error", "D4.1 2.2", "Reference/white.hdr"),
            "has 9 samples",
        ),
        "reference cut short": (
            {"Reference/white.envi": pixels[:-1], "Reference/white.hdr": white},
            ("error", "D4.1 2.4", "Reference/white.envi"),
            "has 95 bytes",
        ),
        "reference of several lines": (
            {"Reference/white.envi": many_pixels, "Reference/white.hdr": many},
            ("warning", "D4.1 2.2", "Reference/white.hdr"),
            "averaged",
        ),
        "preview without pixels": (
            {"preview.envi": None},
            ("error", "D4.1 2.2", "preview.hdr"),
            "data are missing",
        ),
        "ledger too short": (
            {"Metadata/lines.csv": CSV_HEADER + row % 0},
            ("error", "D4.1 2.8", "Metadata/lines.csv"),
            "rows for 1 lines",
        ),
        "ledger out of order": (
            {"Metadata/lines.csv": CSV_HEADER + row % 1 + row % 0},
            ("error", "D4.1 2.8", "Metadata/lines.csv"),
            "not in order",
        ),
        "ledger empty": (
            {"Metadata/lines.csv": CSV_HEADER},
            ("warning", "D4.1 2.8", "Metadata/lines.csv"),
            "no rows",
        ),
        "ledger broken": (
            {"Metadata/lines.csv": CSV_HEADER + b"a,b\n"},
            ("error", "D4.1 2.8", "Metadata/lines.csv"),
            "found 2 values",
        ),
    }


@pytest.mark.parametrize("case", entry_cases())
def test_entry_findings_name_their_clause(tmp_path, whole, case):
    changes, key, text = entry_cases()[case]
    findings = found(rebuilt(tmp_path / "b.hsi", whole, changes))
    assert text in findings[key], findings


def test_a_flipped_bit_anywhere_in_a_payload_is_found(tmp_path, whole, rng):
    with scan(whole) as archive:
        spans = {e.name: (e.offset, e.size) for e in archive.entries.values()}
    data = whole.read_bytes()
    for name, (offset, size) in spans.items():
        broken = bytearray(data)
        broken[offset + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.hsi").write_bytes(broken)
        assert any(f.level == "error" and f.entry == name for f in validate(tmp_path / "b.hsi"))


def test_no_container_is_an_error_and_no_file_a_refusal(tmp_path):
    (tmp_path / "a.hsi").write_bytes(b"no zip")
    assert [(f.level, f.clause) for f in validate(tmp_path / "a.hsi")] == [("error", "D4.1 2.2")]
    with pytest.raises(ContainerError, match="no such file"):
        validate(tmp_path / "none.hsi")


def foreign(path, whole):
    """Zip an unpacked container again, as a desktop does it."""
    with scan(whole) as archive:
        entries = {f"my scan/{n.upper()}": archive.read(n) for n in archive.entries}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in {**entries, "__MACOSX/._x": b"junk"}.items():
            target.writestr(name, data)
    return path


def test_repack_restores_the_form(tmp_path, whole):
    file = foreign(tmp_path / "b.hsi", whole)
    before = validate(file)
    assert before
    assert {f.level for f in before} == {"warning"}
    new = repack(file, tmp_path / "c.hsi")
    with scan(new) as archive:
        assert archive.warnings == []
        assert archive.data_offset % 4096 == 0
    assert not [f for f in validate(new) if f.clause != "D4.1 2.7"]
    np.testing.assert_array_equal(stored(new), stored(whole))
    assert repack(file) == file
    np.testing.assert_array_equal(stored(file), stored(whole))
    assert sorted(os.listdir(tmp_path)) == ["b.hsi", "c.hsi", "whole.hsi"]
    with pytest.raises(ConfigError, match="exists"):
        repack(file, new)


def test_a_failed_repack_leaves_the_file_as_it_was(tmp_path, whole, monkeypatch):
    damaged = bytearray(whole.read_bytes())
    damaged[4096] ^= 1
    whole.write_bytes(damaged)
    with pytest.raises(ContainerError, match="CRC-32"):
        repack(whole)
    assert whole.read_bytes() == damaged
    assert os.listdir(tmp_path) == ["whole.hsi"]


def test_adding_moves_nothing(tmp_path, whole):
    before = whole.read_bytes()
    with scan(whole) as archive:
        offset = archive.data_offset
    append_exploration(whole, "boxes.csv", b"leaf,1,2,3,4\n")
    append_exploration(whole, "Exploration/more/notes.txt", b"n" * 100_000)
    assert whole.read_bytes().startswith(before)
    with scan(whole) as archive:
        assert archive.data_offset == offset
        assert archive.read("Exploration/boxes.csv") == b"leaf,1,2,3,4\n"
        assert archive.warnings == []
    assert validate(whole) == []
    with zipfile.ZipFile(whole) as archive:
        assert archive.testzip() is None
    with pytest.raises(ContainerError, match="is there already"):
        append_exploration(whole, "boxes.csv", b"")
    append_exploration(whole, "boxes.csv", b"new", replace=True)
    with scan(whole) as archive:
        assert archive.read("Exploration/boxes.csv") == b"new"
    for name in ("../data.hdr", "", "a\\b", "a//b"):
        with pytest.raises(ContainerError, match="no name"):
            append_exploration(whole, name, b"")
    assert os.listdir(tmp_path) == ["whole.hsi"]


def test_adding_to_a_foreign_container_keeps_it_readable(tmp_path, whole):
    file = foreign(tmp_path / "b.hsi", whole)
    append_exploration(file, "boxes.csv", b"x")
    with scan(file) as archive:
        assert archive.read("data.hdr")
        assert archive.read("Exploration/boxes.csv") == b"x"


def test_an_interrupted_addition_is_taken_back(tmp_path, whole, monkeypatch):
    before = whole.read_bytes()
    marker = tmp_path / "whole.hsi.appending"

    def full(*_):
        raise StorageError("full")

    with monkeypatch.context() as patch:
        patch.setattr(repack_module.ZipWriter, "end", full)
        with pytest.raises(StorageError):
            append_exploration(whole, "a.bin", bytes(100_000))
    assert whole.read_bytes() == before
    assert not marker.exists()
    # A killed process leaves the marker, and a tail without a directory.
    marker.write_text(str(len(before)))
    whole.write_bytes(before + b"PK\x03\x04" + bytes(100_000))
    with pytest.raises(ContainerError):
        scan(whole)
    assert recover(whole).lines == 12
    assert whole.read_bytes() == before
    assert not marker.exists()
    marker.write_text("")
    append_exploration(whole, "a.bin", b"now")
    assert not marker.exists()
    with pytest.raises(ContainerError, match="nothing to recover"):
        recover(whole)
