"""Containers as people and their tools leave them are found right, hostile ones refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest
from container_captures import captured, cube
from hypothesis import given
from hypothesis import strategies as st

from pipeline.container.zip_records import alignment_padding, extra_records
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ContainerError

HEADER = b"ENVI\nsamples = 2\n"
DATA = bytes(range(200)) * 20


def made(path, entries, compression=zipfile.ZIP_STORED, **options):
    """Write a ZIP file the way others do."""
    with zipfile.ZipFile(path, "w", compression, **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


class Pipe(io.RawIOBase):
    """A target that cannot seek: zipfile writes data descriptors then."""

    def __init__(self, file):
        self._file = file

    def writable(self):
        return True

    def write(self, data):
        return self._file.write(data)


def test_stored_entries_are_found_by_offset(tmp_path):
    file = made(tmp_path / "a.hsi", {"data.hdr": HEADER, "data.envi": DATA})
    with scan(file) as archive:
        entry = archive.entry("data.envi")
        assert file.read_bytes()[entry.offset : entry.offset + entry.size] == DATA
        assert archive.data_offset == entry.offset
        assert archive.read("data.hdr") == HEADER
        assert archive.warnings == []
        opened, offset, size = archive.open_payload("data.envi")
        with opened:
            opened.seek(offset)
            assert opened.read(size) == DATA


def test_deflated_entries_are_decoded_to_a_temporary_file(tmp_path):
    file = made(tmp_path / "a.hsi", {"data.hdr": HEADER, "data.envi": DATA}, zipfile.ZIP_DEFLATED)
    with scan(file) as archive:
        assert archive.data_offset is None
        opened, offset, size = archive.open_payload("data.envi")
        mapped = np.memmap(opened, np.uint8, "r", offset, (size,))
        assert mapped.tobytes() == DATA
        del mapped
        assert archive.read("data.hdr") == HEADER
        assert "data.envi is compressed" in archive.warnings[0]


def test_data_descriptors_are_read(tmp_path):
    file = tmp_path / "a.hsi"
    with file.open("wb") as target:
        made(Pipe(target), {"data.hdr": HEADER, "data.envi": DATA})
    with scan(file) as archive:
        assert archive.read("data.envi") == DATA
        assert any("data descriptor" in text for text in archive.warnings)


def test_forced_zip64_is_read(tmp_path):
    file = tmp_path / "a.hsi"
    with (
        zipfile.ZipFile(file, "w") as archive,
        archive.open("data.envi", "w", force_zip64=True) as entry,
    ):
        entry.write(DATA)
    with scan(file) as found:
        assert found.read("data.envi") == DATA


def test_a_folder_around_everything_other_case_and_backslashes(tmp_path):
    entries = {
        "Scan 7/": b"",
        "Scan 7/DATA.HDR": HEADER,
        "Scan 7/Data.envi": DATA,
        "Scan 7/reference\\White.ENVI": b"w",
        "Scan 7/METADATA/Camera A.json": b"{}",
        "Scan 7/Preview_1.hdr": b"p",
        "__MACOSX/Scan 7/._data.envi": b"junk",
        "Scan 7/.DS_Store": b"junk",
    }
    file = made(tmp_path / "a.hsi", entries)
    with scan(file) as archive:
        assert list(archive.entries) == [
            "data.hdr",
            "data.envi",
            "Reference/white.envi",
            "Metadata/Camera A.json",
            "preview_1.hdr",
        ]
        assert archive.read("REFERENCE/white.envi") == b"w"
        text = " ".join(archive.warnings)
        for part in ("folder Scan 7/", "backslashes", "__MACOSX", ".DS_Store", "read as data.hdr"):
            assert part in text


def test_a_container_of_references_only_keeps_its_folder(tmp_path):
    file = made(tmp_path / "a.zip", {"Reference/white.envi": b"w", "Reference/white.hdr": b"h"})
    with scan(file) as archive:
        assert "Reference/white.hdr" in archive


def test_names_that_lead_out_are_left_out(tmp_path):
    file = made(tmp_path / "a.hsi", {"../../etc/passwd": b"x", "/data.hdr": HEADER})
    with scan(file) as archive:
        assert list(archive.entries) == ["data.hdr"]
        assert "leads out" in " ".join(archive.warnings)


def test_the_last_of_two_equal_entries_counts(tmp_path):
    file = tmp_path / "a.hsi"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.hdr", b"old")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("data.hdr", b"new")
    with scan(file) as found:
        assert found.read("data.hdr") == b"new"
        assert "stands twice" in found.warnings[0]


def test_a_prefix_and_a_comment_are_no_obstacle(tmp_path):
    file = made(tmp_path / "a.hsi", {"data.envi": DATA})
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"PK\x05\x06 is no end" * 50
    file.write_bytes(b"#!/bin/sh\n" + file.read_bytes())
    with scan(file) as found:
        assert found.read("data.envi") == DATA
        assert "10 bytes stand before" in found.warnings[0]


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path):
    with pytest.raises(ContainerError, match="cannot be read"):
        scan(tmp_path / "none.hsi")
    with pytest.raises(ContainerError, match="cannot be read"):
        scan(tmp_path)
    (tmp_path / "empty.hsi").write_bytes(b"")
    with pytest.raises(ContainerError, match="found no ZIP file"):
        scan(tmp_path / "empty.hsi")
    file = made(tmp_path / "a.hsi", {"data.envi": DATA}, zipfile.ZIP_BZIP2)
    with scan(file) as archive:
        with pytest.raises(ContainerError, match="compression method 12"):
            archive.read("data.envi")
        with pytest.raises(ContainerError, match="found no entry thumbnail"):
            archive.read("thumbnail.jpg")
    data = bytearray(made(tmp_path / "b.hsi", {"data.envi": DATA}).read_bytes())
    data[60] ^= 1
    (tmp_path / "b.hsi").write_bytes(data)
    with scan(tmp_path / "b.hsi") as archive, pytest.raises(ContainerError, match="CRC-32"):
        archive.read("data.envi")


def test_a_deflated_bomb_is_refused(tmp_path):
    file = made(tmp_path / "a.hsi", {"data.envi": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(file.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    for size, message in ((1 << 30, "cannot hold"), (50_000, "more than its 50000 bytes")):
        struct.pack_into("<I", data, at + 24, size)
        file.write_bytes(data)
        with pytest.raises(ContainerError, match=message), scan(file) as archive:
            archive.read("data.envi")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(7)
    ours = captured(folder / "ours.hsi", cube(rng, 6))
    theirs = made(
        folder / "theirs.hsi", {"top/data.hdr": HEADER, "top/data.envi": DATA}, zipfile.ZIP_DEFLATED
    )
    return [ours.read_bytes(), theirs.read_bytes()], folder / "case.hsi"


@given(
    which=st.integers(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 40) | st.none(),
    at_end=st.booleans(),
)
def test_damage_ends_in_our_own_error(samples, which, changes, cut, at_end):
    """Bytes changed or cut, mostly where the directory is."""
    contents, file = samples
    data = bytearray(contents[which])
    for offset, value in changes:
        data[(len(data) - 1 - offset if at_end else offset) % len(data)] = value
    if cut is not None:
        data = data[: len(data) * cut // 40]
    file.write_bytes(data)
    with contextlib.suppress(ContainerError), scan(file) as archive:
        for name in list(archive.entries):
            assert ".." not in name.split("/")
            archive.read(name)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_end_in_our_own_error(samples, data):
    _, file = samples
    file.write_bytes(data)
    with contextlib.suppress(ContainerError):
        scan(file).close()


@given(st.integers(0, 1 << 40), st.sampled_from([4, 512, 4096]))
def test_padding_is_a_well_formed_record_that_aligns(position, alignment):
    padding = alignment_padding(position, alignment)
    assert (position + len(padding)) % alignment == 0
    assert sum(4 + len(data) for _, data in extra_records(padding)) == len(padding)
