"""A capture that was cut short recovers to the last line that holds, and never to more."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from container_captures import (
    BANDS,
    LINE_BYTES,
    SAMPLES,
    begin,
    cube,
    feed,
    header,
    rows_for,
    stored,
    thumbnail,
)

from pipeline.container import recovery
from pipeline.container.finishing import GrownEnvi
from pipeline.container.header import Header
from pipeline.container.ledger import decode_csv
from pipeline.container.recovery import recover
from pipeline.container.validate import validate
from pipeline.container.writer import ContainerWriter
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ContainerError, StorageError
from pipeline.layout import LineStatus


def errors(path):
    return [finding for finding in validate(path) if finding.level == "error"]


def ledger(path):
    with scan(path) as archive:
        return decode_csv(archive.read("Metadata/lines.csv"))


def left_behind(folder, pixels, *, synced=None):
    """Leave a partial file as a killed process does; ``synced`` lines are synced."""
    writer = begin(folder / "scan.hsi")
    cut = len(pixels) if synced is None else synced
    feed(writer, pixels[:cut])
    writer.sync()
    assert writer.synced_lines == cut
    feed(writer, pixels[cut:], cut)
    writer._stop.set()
    writer._syncer.join()
    start = writer._payload.start
    writer._close()
    return folder / "scan.hsi.partial", start


def test_everything_written_is_recovered_after_a_kill(tmp_path, rng):
    pixels = cube(rng, 53)
    partial, _ = left_behind(tmp_path, pixels, synced=20)
    report = recover(partial, thumbnail=lambda strip, nm, scaled: thumbnail())
    assert report.file == tmp_path / "scan.hsi"
    assert (report.lines, report.journalled, report.dropped_bytes) == (53, True, 0)
    np.testing.assert_array_equal(stored(report.file), pixels)
    np.testing.assert_array_equal(ledger(report.file)["frame_id"], 1000 + np.arange(53))
    assert errors(report.file) == []
    assert sorted(os.listdir(tmp_path)) == ["scan.hsi"]
    with scan(report.file) as archive:
        quality = Header.parse(archive.read("Exploration/quality.hdr"))
        preview = Header.parse(archive.read("preview.hdr"))
        assert quality.lines == 53
        assert 0 < preview.lines <= -(-53 // 4)
        assert archive.data_offset % 4096 == 0
        own = Header.parse(archive.read("data.hdr"))
        assert own.strings("errors") == ["recovered after an interruption"]
        assert own["stop time"] == "22:13:20"


@pytest.fixture
def no_waiting(monkeypatch):
    """Take the disk's own pace out of a test that is not about it."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)


@pytest.mark.usefixtures("no_waiting")
def test_two_hundred_power_cuts(tmp_path, rng):
    """Truncated anywhere, tails zeroed, journal torn or gone: never a line too many."""
    origin = tmp_path / "origin"
    origin.mkdir()
    pixels = cube(rng, 40)
    synced = 20
    partial, start = left_behind(origin, pixels, synced=synced)
    size = partial.stat().st_size
    synced_end = start + synced * LINE_BYTES
    journal = (origin / "scan.hsi.partial.d" / "journal").read_bytes()
    synced_journal = journal.index(b"SWJ1\x04") + 32
    recovered = 0
    for case in range(200):
        folder = tmp_path / f"cut{case}"
        shutil.copytree(origin, folder)
        file = folder / partial.name
        beside = folder / "scan.hsi.partial.d"
        data = bytearray(file.read_bytes())
        cut = int(rng.integers(0 if case % 10 == 0 else start, size + 1))
        zeroed = int(rng.integers(synced_end, size + 1))
        keeps_synced = True
        if case % 2:
            data[zeroed:] = bytes(size - zeroed)
        if case % 3 == 0:
            del data[cut:]
            keeps_synced = cut >= synced_end
        file.write_bytes(data)
        torn = bytearray(journal)
        fate = rng.integers(6)
        if fate == 0:
            at = int(rng.integers(0, len(torn)))
            del torn[at:]
            keeps_synced &= at >= synced_journal
        elif fate == 1:
            at = int(rng.integers(synced_journal, len(torn)))
            torn[at:] = bytes(len(torn) - at)
        elif fate == 2:
            at = int(rng.integers(0, len(torn)))
            torn[at : at + 16] = rng.bytes(16)
            keeps_synced = False
        (beside / "journal").write_bytes(torn)
        if fate == 3:
            (beside / "journal").unlink()
        elif fate == 4:
            shutil.rmtree(beside)
        elif fate == 5:
            for name in ("grown-quality", "grown-preview0"):
                grown = beside / name
                content = bytearray(grown.read_bytes())
                at = int(rng.integers(0, len(content)))
                content[at:] = bytes(len(content) - at)
                grown.write_bytes(content)
        where = f"case {case}, fate {fate}, cut {cut}, zeroed {zeroed}"
        try:
            report = recover(file)
        except ContainerError:
            assert not keeps_synced, where
            assert file.exists(), where
            assert not (folder / "scan.hsi").exists(), where
            continue
        assert errors(report.file) == [], where
        got = stored(report.file)
        assert len(got) == report.lines > 0, where
        rows = ledger(report.file)
        sure = np.ones(len(got), bool)
        if report.journalled:
            sure[rows["line"][rows["status"] == LineStatus.LOST]] = False
            assert len(rows) == report.lines, where
        np.testing.assert_array_equal(got[sure], pixels[: len(got)][sure], err_msg=where)
        if keeps_synced:
            assert report.lines >= synced, where
        recovered += 1
        shutil.rmtree(folder)
    assert recovered > 120


def test_without_the_folder_lines_are_counted_by_size(tmp_path, rng):
    pixels = cube(rng, 17)
    partial, _ = left_behind(tmp_path, pixels)
    shutil.rmtree(tmp_path / "scan.hsi.partial.d")
    report = recover(partial)
    assert (report.lines, report.journalled) == (17, False)
    np.testing.assert_array_equal(stored(report.file), pixels)
    assert len(ledger(report.file)) == 0
    assert errors(report.file) == []
    assert not (tmp_path / "scan.hsi.partial.d").exists()


def test_a_damaged_synced_block_in_the_middle_costs_only_itself(tmp_path, rng):
    pixels = cube(rng, 40)
    partial, start = left_behind(tmp_path, pixels)
    with partial.open("r+b") as file:
        file.seek(start + 11 * LINE_BYTES)
        file.write(bytes(LINE_BYTES))
    report = recover(partial)
    assert (report.lines, report.damaged, report.lost) == (40, 5, 5)
    rows = ledger(report.file)
    np.testing.assert_array_equal(rows["line"][rows["status"] == LineStatus.LOST], range(10, 15))
    with scan(report.file) as archive:
        assert Header.parse(archive.read("data.hdr"))["lines lost"] == 5
    assert errors(report.file) == []


def test_amended_rows_and_gaps_survive(tmp_path, rng):
    pixels = cube(rng, 10)
    writer = begin(tmp_path / "scan.hsi")
    rows = np.concatenate([rows_for(0, 4), rows_for(0, 1), rows_for(4, 6)])
    rows[4]["line"], rows[4]["count"], rows[4]["status"] = -1, 70, LineStatus.LOST
    writer.write(pixels, rows)
    better = rows_for(3, 2)
    better["saturated"] = (7, 8)
    writer.amend_rows(3, better)
    assert writer.lost == 70
    writer.abandon()
    report = recover(tmp_path / "scan.hsi.partial")
    assert (report.lines, report.lost) == (10, 70)
    got = ledger(report.file)
    assert got["line"].tolist() == [0, 1, 2, 3, -1, 4, 5, 6, 7, 8, 9]
    assert got["saturated"].tolist() == [0, 0, 0, 7, 0, 8, 0, 0, 0, 0, 0]
    assert errors(report.file) == []


def test_recovery_itself_can_be_interrupted_anywhere(tmp_path, rng, monkeypatch):
    pixels = cube(rng, 30)
    partial, _ = left_behind(tmp_path, pixels)

    def fail(*_, **__):
        raise StorageError("pulled plug")

    for name in ("settle", "write_tail", "publish"):
        with monkeypatch.context() as patch:
            patch.setattr(recovery, name, fail)
            with pytest.raises(StorageError, match="pulled plug"):
                recover(partial)
        assert partial.exists()
    assert recover(partial).lines == 30
    np.testing.assert_array_equal(stored(tmp_path / "scan.hsi"), pixels)


def test_a_finish_that_broke_off_is_recovered_by_size_alone(tmp_path, rng, monkeypatch):
    pixels = cube(rng, 30)
    pixels[-2:] = 0
    writer = begin(tmp_path / "scan.hsi")
    feed(writer, pixels)
    monkeypatch.setattr(
        "pipeline.container.writer.publish", lambda *_: (_ for _ in ()).throw(StorageError("off"))
    )
    with pytest.raises(StorageError):
        writer.finish(header())
    writer.abandon()
    shutil.rmtree(tmp_path / "scan.hsi.partial.d")
    report = recover(tmp_path / "scan.hsi.partial")
    np.testing.assert_array_equal(stored(report.file), pixels)
    assert errors(report.file) == []


def pca_partial(folder, rng, groups=4, block=8):
    own = header(dtype="i2", file_type="PCA", pca_block_lines=block, pca_bands=20)
    own.set("read procedures", ["microservice:pca"])
    writer = ContainerWriter(
        folder / "pca.hsi",
        own,
        growing={
            "Reference/pca_basis": GrownEnvi("pca_basis", header(20, BANDS, "f4")),
            "Reference/pca_mean": GrownEnvi("pca_mean", header(20, 1, "f4")),
        },
    )
    scores = rng.integers(1, 99, (groups * block, BANDS, SAMPLES)).astype("<i2")
    for group in range(groups):
        at = group * block
        writer.append("pca_basis", np.full((BANDS, 20), group, "<f4"))
        writer.append("pca_mean", np.full((1, 20), group, "<f4"))
        writer.write(scores[at : at + block], rows_for(at, block))
    writer.abandon()
    return folder / "pca.hsi.partial", scores


def test_pca_recovers_with_its_bases_and_is_refused_without(tmp_path, rng):
    partial, scores = pca_partial(tmp_path, rng)
    beside = tmp_path / "pca.hsi.partial.d"
    basis = beside / "grown-pca_basis"
    data = bytearray(basis.read_bytes())
    data[3 * BANDS * 20 * 4 + 8] ^= 1  # the last group's basis does not hold
    basis.write_bytes(data)
    kept = tmp_path / "kept"
    shutil.copytree(beside, kept)
    shutil.rmtree(beside)
    with pytest.raises(ContainerError, match="cannot be decoded without the bases"):
        recover(partial)
    assert partial.exists()
    shutil.copytree(kept, beside)
    report = recover(partial)
    assert report.lines == 24
    np.testing.assert_array_equal(stored(report.file), scores[:24])
    assert errors(report.file) == []


def test_a_running_capture_is_left_alone(tmp_path, rng):
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pipeline.container.recovery import recover
        from pipeline.errors import ContainerError
        try:
            recover(Path(sys.argv[1]))
        except ContainerError as error:
            print(error)
        """
    )
    writer = begin(tmp_path / "scan.hsi")
    feed(writer, cube(rng, 5))
    done = subprocess.run(
        [sys.executable, "-c", script, str(writer.partial)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "a running capture writes it" in done.stdout
    writer.discard()


def test_nothing_to_recover_is_said(tmp_path, rng):
    with pytest.raises(ContainerError, match="found no such file"):
        recover(tmp_path / "none.hsi.partial")
    (tmp_path / "junk.hsi.partial").write_bytes(b"PK\x03\x04junk")
    with pytest.raises(ContainerError, match=r"no start of data\.envi"):
        recover(tmp_path / "junk.hsi.partial")
    writer = begin(tmp_path / "empty.hsi")
    writer.abandon()
    with pytest.raises(ContainerError, match="no whole line"):
        recover(tmp_path / "empty.hsi.partial")
    assert (tmp_path / "empty.hsi.partial").exists()


def test_a_taken_name_is_not_replaced(tmp_path, rng):
    partial, _ = left_behind(tmp_path, cube(rng, 5))
    (tmp_path / "scan.hsi").write_bytes(b"mine")
    assert recover(partial).file == tmp_path / "scan-2.hsi"
    assert (tmp_path / "scan.hsi").read_bytes() == b"mine"


@pytest.mark.usefixtures("no_waiting")
def test_what_was_written_is_synced_within_a_second(tmp_path, rng):
    writer = begin(tmp_path / "scan.hsi", sync_seconds=1.0)
    feed(writer, cube(rng, 5))
    until = time.monotonic() + 1.0
    while writer.synced_lines < 5 and time.monotonic() < until:
        time.sleep(0.02)
    assert writer.synced_lines == 5
    writer.discard()


def test_payload_is_synced_before_journal(tmp_path, rng, monkeypatch):
    order = []
    monkeypatch.setattr("pipeline.container.writer.fdatasync", lambda fd: order.append("data"))
    monkeypatch.setattr("pipeline.container.sink_io.fdatasync", lambda fd: order.append("beside"))
    writer = begin(tmp_path / "scan.hsi")
    writer.write(cube(rng, 5), rows_for(0, 5))
    order.clear()
    writer.sync()
    assert order == ["data", "beside"]
    writer.discard()


def test_a_sync_that_fails_stops_the_next_write(tmp_path, rng, monkeypatch):
    def broken(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = begin(tmp_path / "scan.hsi", sync_seconds=0.01)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.container.writer.fdatasync", broken)
        writer.write(cube(rng, 5), rows_for(0, 5))
        writer._syncer.join(5)
    with pytest.raises(StorageError, match="Input/output error"):
        writer.write(cube(rng, 5), rows_for(5, 5))
    assert (writer.lines, writer.lost) == (5, 5)
    file = writer.finish(header())
    with scan(file) as archive:
        said = Header.parse(archive.read("data.hdr")).strings("errors")
    assert "5 lines were not stored" in said[0]
