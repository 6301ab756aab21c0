"""The writer gives whole, well-formed files, whatever the disk and the metadata do."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from container_captures import (
    BANDS,
    LINE_BYTES,
    SAMPLES,
    begin,
    captured,
    cube,
    feed,
    header,
    rows_for,
    stored,
    thumbnail,
)
from hypothesis import given
from hypothesis import strategies as st

from pipeline.container import sink_io, zip_records
from pipeline.container.finishing import GrownEnvi
from pipeline.container.header import Header
from pipeline.container.ledger import decode_csv
from pipeline.container.space import check_space, free_space_check
from pipeline.container.validate import validate
from pipeline.container.writer import ContainerWriter
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ConfigError, ContainerError, StorageError
from pipeline.layout import LineStatus, LossReason, ledger_rows


def read_header(path):
    with scan(path) as archive:
        return Header.parse(archive.read("data.hdr"))


def read_ledger(path):
    with scan(path) as archive:
        return decode_csv(archive.read("Metadata/lines.csv"))


def test_a_finished_file_is_stored_aligned_and_in_order(tmp_path, rng):
    pixels = cube(rng, 23)
    file = captured(tmp_path / "scan.hsi", pixels, target="leaf")
    assert file == tmp_path / "scan.hsi"
    assert os.listdir(tmp_path) == ["scan.hsi"]
    np.testing.assert_array_equal(stored(file), pixels)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
        assert [i.filename for i in infos] == [
            "Metadata/stream.json",
            "Metadata/camera.json",
            "data.envi",
            "Metadata/lines.csv",
            "preview.envi",
            "preview.hdr",
            "Exploration/quality.envi",
            "Exploration/quality.hdr",
            "thumbnail.jpg",
            "data.hdr",
        ]
        assert {i.compress_type for i in infos} == {zipfile.ZIP_STORED}
        assert not any(i.flag_bits & 8 for i in infos)
        assert archive.read("data.envi") == pixels.tobytes()
    with scan(file) as archive:
        assert archive.data_offset == 4096
        assert archive.warnings == []
    own = read_header(file)
    assert own.shape == (23, SAMPLES, BANDS)
    assert own["target"] == "leaf"
    assert validate(file) == []


def test_other_tools_accept_the_file(tmp_path, rng):
    file = captured(tmp_path / "scan.hsi", cube(rng, 9))
    done = subprocess.run(
        [sys.executable, "-m", "zipfile", "-t", file], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, "Done testing")
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed")
    done = subprocess.run(["unzip", "-t", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_gdal_opens_it_inside_the_container(tmp_path, rng):
    rasterio = pytest.importorskip("rasterio")
    pixels = cube(rng, 11)
    file = captured(tmp_path / "scan.hsi", pixels)
    with rasterio.Env(), np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(f"/vsizip/{{{file}}}/data.envi") as source:
                np.testing.assert_array_equal(source.read(), pixels.transpose(1, 0, 2))
                assert source.dtypes[0] == "uint16"


@given(
    blocks=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_of_any_size_and_runs_round_trip(tmp_path_factory, blocks, seed):
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(seed)
    writer = ContainerWriter(folder / "a.hsi", header(), sync_seconds=3600)
    everything = []
    for runs in blocks:
        pixels = [cube(rng, lines) for lines in runs]
        count = sum(runs)
        gap = ledger_rows(1)
        gap["status"], gap["count"] = LineStatus.LOST, 3
        writer.write(pixels, np.concatenate([rows_for(0, count), gap]))
        everything += pixels
    whole = np.concatenate(everything)
    assert (writer.lines, writer.lost) == (len(whole), 3 * len(blocks))
    if not len(whole):
        with pytest.raises(ContainerError, match="no line"):
            writer.finish(header())
        assert os.listdir(folder) == []
        return
    file = writer.finish(header())
    np.testing.assert_array_equal(stored(file), whole)
    rows = read_ledger(file)
    assert rows["line"][rows["line"] >= 0].tolist() == list(range(len(whole)))
    assert not [f for f in validate(file) if f.level == "error"]
    shutil.rmtree(folder)


def test_zip64_where_entries_and_offsets_need_it(tmp_path, rng, monkeypatch):
    """The same code as beyond 4 GiB, with the limit brought down to what a test can write."""
    monkeypatch.setattr(zip_records, "LIMIT32", 5000)
    # The mark in the records stays what the format says.
    packed = []

    class Marked:
        def __init__(self, record):
            self._record = record
            self.size = record.size

        def pack(self, *values):
            values = [0xFFFFFFFF if v == 5000 else v for v in values]
            packed.append(values)
            return self._record.pack(*values)

        def __getattr__(self, name):
            return getattr(self._record, name)

    for name in ("LOCAL", "CENTRAL", "END"):
        monkeypatch.setattr(zip_records, name, Marked(getattr(zip_records, name)))
    pixels = cube(rng, 200)
    writer = begin(tmp_path / "big.hsi")
    feed(writer, pixels)
    file = writer.finish(header(), last={"thumbnail.jpg": thumbnail()})
    monkeypatch.undo()
    assert any(0xFFFFFFFF in values for values in packed)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        info = archive.getinfo("data.envi")
        assert info.file_size == pixels.nbytes
        assert struct.pack("<HH", 1, 16) in info.extra
    with scan(file) as archive:
        assert archive.data_offset == 4096
    np.testing.assert_array_equal(stored(file), pixels)
    assert validate(file) == []


def test_a_sparse_cube_beyond_4_gib(tmp_path, monkeypatch):
    """A real offset beyond 32 bits: the payload is a hole but for its last line."""
    writer = ContainerWriter(tmp_path / "big.hsi", header(), sync_seconds=3600)
    lines = (5 << 30) // LINE_BYTES
    last = np.full((1, BANDS, SAMPLES), 7, "<u2")
    writer._payload.lines = lines - 1
    writer._ledger.append(rows_for(0, 1))
    writer.write(last, rows_for(0, 1))
    file = writer.finish(header())
    try:
        with scan(file) as archive:
            entry = archive.entry("data.envi")
            assert entry.size == lines * LINE_BYTES > 1 << 32
            assert archive.entry("data.hdr").offset > 1 << 32
            assert Header.parse(archive.read("data.hdr")).lines == lines
            tail = np.memmap(file, "<u2", "r", entry.offset + entry.size - LINE_BYTES)
            np.testing.assert_array_equal(tail[: BANDS * SAMPLES], 7)
            del tail
        with zipfile.ZipFile(file) as archive:
            assert archive.getinfo("data.envi").file_size == entry.size
            assert b"samples = 8" in archive.read("data.hdr")
    finally:
        file.unlink()


def test_a_taken_name_gets_a_number_and_is_refused_when_given(tmp_path, rng):
    first = captured(tmp_path / "scan.hsi", cube(rng, 3))
    before = first.read_bytes()
    assert captured(tmp_path / "scan.hsi", cube(rng, 3)).name == "scan-2.hsi"
    assert captured(tmp_path / "scan.hsi", cube(rng, 3)).name == "scan-3.hsi"
    with pytest.raises(ConfigError, match=r"scan\.hsi: exists"):
        begin(tmp_path / "scan.hsi", explicit=True)
    writer = begin(tmp_path / "late.hsi")
    feed(writer, cube(rng, 3))
    (tmp_path / "late.hsi").write_bytes(b"mine")
    assert writer.finish(header()).name == "late-2.hsi"
    assert (tmp_path / "late.hsi").read_bytes() == b"mine"
    assert first.read_bytes() == before


def test_two_writers_of_one_name_do_not_meet(tmp_path, rng):
    one, two = begin(tmp_path / "scan.hsi"), begin(tmp_path / "scan.hsi")
    assert (one.path.name, two.path.name) == ("scan.hsi", "scan-2.hsi")
    one.discard()
    two.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["renameat2", "link", "rename"])
def test_renaming_never_replaces(tmp_path, monkeypatch, how):
    if how != "renameat2":
        monkeypatch.setattr(sink_io, "_RENAMEAT2", None)
    if how == "rename":

        def refused(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refused)
    source = tmp_path / "a.partial"
    source.write_bytes(b"new")
    (tmp_path / "a.hsi").write_bytes(b"old")
    target = sink_io.rename_new(source, sink_io.names(tmp_path / "a.hsi"))
    assert target.name == "a-2.hsi"
    assert (tmp_path / "a.hsi").read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert not source.exists()


class Unwritable(str):
    """A text that no header takes."""

    def __str__(self):
        raise RuntimeError("broken value")


def test_bad_metadata_never_costs_the_file(tmp_path, rng):
    writer = begin(tmp_path / "scan.hsi")
    pixels = cube(rng, 4)
    feed(writer, pixels)
    bad = header(target="leaf", samples=99, bands=2)
    bad._put("series", "a\nlines = 7\n}{")
    file = writer.finish(bad, last={"notes.txt": tmp_path / "missing", "data.envi": b"twice"})
    own = read_header(file)
    assert own.shape == (4, SAMPLES, BANDS)
    assert own["target"] == "leaf"
    said = own.strings("errors")
    assert any("notes.txt is left out" in text for text in said)
    assert any("data.envi is left out" in text for text in said)
    np.testing.assert_array_equal(stored(file), pixels)


def short_of_room(monkeypatch, writer, allowed):
    """Let the payload take ``allowed`` more bytes, then be full."""
    real = os.pwrite
    left = [allowed]

    def pwrite(fd, data, offset):
        if fd != writer._fd or offset < writer._payload.start:
            return real(fd, data, offset)
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = real(fd, memoryview(data)[: left[0]], offset)
        left[0] -= count
        return count

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("whole", [0, 2, 4])
def test_a_block_cut_by_a_full_disk_keeps_its_whole_lines(tmp_path, rng, monkeypatch, whole):
    writer = begin(tmp_path / "scan.hsi")
    pixels = cube(rng, 15)
    feed(writer, pixels[:5])
    gap = ledger_rows(1)
    gap["status"], gap["count"] = LineStatus.LOST, 10
    rows = np.concatenate([rows_for(5, 5), gap])
    with monkeypatch.context() as patch:
        short_of_room(patch, writer, whole * LINE_BYTES + LINE_BYTES // 2)
        with pytest.raises(StorageError, match="the disk is full"):
            writer.write([pixels[5:8], pixels[8:10]], rows)
        assert (writer.lines, writer.lost) == (5 + whole, 5 - whole + 10)
        with pytest.raises(StorageError, match="the disk is full"):
            writer.write(pixels[10:], rows_for(10, 5))
    file = writer.finish(header())
    np.testing.assert_array_equal(stored(file), pixels[: 5 + whole])
    rows = read_ledger(file)
    assert len(rows) == 5 + whole + 1
    assert (rows[-1]["line"], rows[-1]["count"]) == (-1, 20 - whole)
    assert rows[-1]["reason"] == LossReason.STORAGE
    assert f"{20 - whole} lines were not stored" in read_header(file).strings("errors")[0]
    assert not [f for f in validate(file) if f.level == "error"]


def test_a_journal_that_cannot_grow_leaves_no_unproven_line(tmp_path, rng, monkeypatch):
    writer = begin(tmp_path / "scan.hsi")
    pixels = cube(rng, 10)
    feed(writer, pixels[:5])

    def full(*_, **__):
        raise StorageError("journal: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(writer._journal, "add", full)
        with pytest.raises(StorageError, match="journal"):
            writer.write(pixels[5:], rows_for(5, 5))
    assert (writer.lines, writer.lost) == (5, 5)
    file = writer.finish(header())
    np.testing.assert_array_equal(stored(file), pixels[:5])
    assert not [f for f in validate(file) if f.level == "error"]


@pytest.mark.parametrize("files", [("_journal",), ("_ledger",), ("_journal", "_ledger")])
def test_refused_lines_stand_in_the_ledger_whichever_file_beside_was_refused(
    tmp_path, rng, monkeypatch, files
):
    writer = begin(tmp_path / "scan.hsi")
    pixels = cube(rng, 10)
    feed(writer, pixels[:5])

    def full(*_, **__):
        raise StorageError("the disk is full")

    rows = rows_for(5, 5)
    rows["frame_id"], rows["epoch"] = np.arange(105, 110), 2
    with monkeypatch.context() as patch:
        for name in files:
            file = getattr(writer, name)
            for method in ("add", "append", "make_room"):
                if hasattr(file, method):
                    patch.setattr(file, method, full)
        with pytest.raises(StorageError, match="the disk is full"):
            writer.write(pixels[5:], rows)
        file = writer.finish(header())
    last = read_ledger(file)[-1]
    assert (last["line"], last["count"], last["reason"]) == (-1, 5, LossReason.STORAGE)
    assert (last["frame_id"], last["epoch"]) == (105, 2)
    assert [f.entry for f in validate(file)] == ["thumbnail.jpg"]


def test_a_full_disk_ends_with_a_whole_file(small_disk, rng):
    """Everything that belongs behind the payload still fits: its room was kept."""
    big = {"samples": 256, "bands": 16}
    writer = ContainerWriter(
        small_disk / "scan.hsi",
        header(**big),
        sync_seconds=0.05,
        growing={
            "preview": GrownEnvi("preview0", header(64, 16)),
            "Exploration/quality": GrownEnvi("quality", header(256, 6, "u1")),
        },
    )
    pixels = rng.integers(1, 4096, (8, 16, 256)).astype("<u2")

    def fill():
        while True:
            writer.append("quality", np.ones((8, 6, 256), np.uint8))
            writer.append("preview0", np.ones((2, 16, 64), "<u2"))
            writer.write(pixels, rows_for(writer.lines, 8))

    with pytest.raises(StorageError, match="the disk is full"):
        fill()
    assert writer.lines > 200
    file = writer.finish(header(**big), last={"thumbnail.jpg": thumbnail()})
    findings = validate(file)
    assert not [f for f in findings if f.level == "error"], findings
    with scan(file) as archive:
        for name in ("thumbnail.jpg", "preview.envi", "Exploration/quality.hdr"):
            assert name in archive
        own = Header.parse(archive.read("data.hdr"))
    assert own.lines == writer.lines
    assert any("the disk is full" in text for text in own.strings("errors"))
    got = stored(file)
    np.testing.assert_array_equal(got[:8], pixels)
    assert os.listdir(small_disk) == ["scan.hsi"]


def test_what_does_not_fit_at_the_end_is_left_out(small_disk, rng):
    writer = begin(small_disk / "scan.hsi")
    feed(writer, cube(rng, 20))
    file = writer.finish(header(), last={"huge.bin": bytes(8 << 20), "small.txt": b"fits"})
    with scan(file) as archive:
        assert "huge.bin" not in archive
        assert archive.read("small.txt") == b"fits"
    assert "huge.bin is left out" in read_header(file).strings("errors")[0]
    assert not [f for f in validate(file) if f.level == "error"]


def test_memory_does_not_grow_with_the_capture(tmp_path):
    writer = begin(tmp_path / "scan.hsi", sync_seconds=0.2)
    pixels = np.ones((100, BANDS, SAMPLES), "<u2")
    rows = rows_for(0, 100)
    strip = np.ones((100, 6, SAMPLES), np.uint8)

    def write(blocks):
        for _ in range(blocks):
            writer.write(pixels, rows)
            writer.append("quality", strip)

    tracemalloc.start()
    try:
        write(20)
        early = tracemalloc.get_traced_memory()[0]
        write(200)
        tracemalloc.reset_peak()
        late = tracemalloc.get_traced_memory()[0]
        file = writer.finish(header())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert late - early < 64 << 10
    assert peak < 24 << 20
    assert read_header(file).lines == 22_000


def test_room_is_checked_when_arming(tmp_path):
    found = free_space_check(tmp_path / "not" / "yet", 1e6, 10, 100.0)
    assert found.warning is None
    assert found.needed_bytes > 10e6
    with pytest.raises(ConfigError, match=r"allowed are \d+ lines"):
        check_space(tmp_path, 1e9, 10**9, 100.0)
    text = check_space(tmp_path, found.free_bytes / 100, 0, 1.0)
    assert "enough for 9" in text


def test_wrong_blocks_are_refused_before_anything_is_written(tmp_path, rng):
    writer = begin(tmp_path / "scan.hsi")
    for pixels, rows in (
        (np.zeros(5, "<u2"), rows_for(0, 1)),
        (cube(rng, 2), rows_for(0, 1)),
    ):
        with pytest.raises(ValueError, match="ledger rows"):
            writer.write(pixels, rows)
    with pytest.raises(ValueError, match="stored are 0"):
        writer.amend_rows(0, rows_for(0, 1))
    assert writer.lines == 0
    writer.discard()
    with pytest.raises(ConfigError, match="interleave"):
        ContainerWriter(tmp_path / "b.hsi", header(interleave="bsq"))
    with pytest.raises(ConfigError, match="GB free"):
        ContainerWriter(tmp_path / "c.hsi", header(), expected_lines=10**15)
    assert os.listdir(tmp_path) == []
