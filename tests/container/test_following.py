"""Blocks that are coded while a capture runs: the same bytes as afterwards, or not used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from container_captures import header, rows_for
from made_containers import make_hsi

import pipeline.container.coding_job as coding_job
import pipeline.container.following as following
from pipeline.coding.interface import BlockShape, BlockStats, Encoded
from pipeline.container.block_codings import BlockCodings, Wanted
from pipeline.container.block_records import RECORD
from pipeline.container.compress import Compressed, compress, settle_codings
from pipeline.container.following import Followed, Follower
from pipeline.container.header import Header
from pipeline.container.spool import Ahead, Spool, SpoolWriter
from pipeline.container.writer import ContainerWriter
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ConfigError, ContainerError, StorageError
from pipeline.layout import LineStatus

SAMPLES, BANDS, STEP = 128, 20, 8
LINE_BYTES = SAMPLES * BANDS * 2
WANTED = [
    Wanted("packed", max_error=0, block_lines=STEP),
    Wanted("deflate", max_error=3, block_lines=STEP),
    Wanted("smallest", max_error=2, block_lines=STEP),
    Wanted("packed", ratio=6.0, block_lines=STEP),
    Wanted("jpegxl", block_lines=STEP),
    Wanted("packints", max_error=0, block_lines=STEP),
]


def about(**fields: object) -> Header:
    return header(SAMPLES, BANDS, bit_depth=12, saturation_level=4000, **fields)


def scene(rng: np.random.Generator, lines: int) -> np.ndarray:
    slopes = rng.integers(3, 9, (1, BANDS, SAMPLES))
    noise = rng.integers(0, 30, (lines, BANDS, SAMPLES))
    return (300 + slopes * np.arange(lines)[:, None, None] + noise).astype("<u2")


class Captured:
    """A capture that is written and followed in turns, in one process."""

    def __init__(self, folder: Path, wanted: Wanted, fields: Header | None = None) -> None:
        self.fields = fields or about()
        shape = BlockShape(BANDS, SAMPLES, np.dtype("u2"))
        self.codings = settle_codings(self.fields, shape, wanted, None)
        self.writer = ContainerWriter(folder / "raw.hsi", self.fields, sync_seconds=3600)
        self.spool = self.writer.beside / "coded-blocks"
        self.spool.touch()
        self.fd = os.open(self.spool, os.O_RDWR)
        self.follower = self.followed()

    def followed(self, lines: int = 0) -> Follower:
        writer = self.writer
        place = writer.partial, writer.journal, self.spool, writer.payload_start, lines
        return Follower(Followed(*place), self.codings)

    def write(self, pixels: np.ndarray, lost: tuple[int, ...] = ()) -> None:
        first = self.writer.lines
        for at in range(0, len(pixels), 5):
            rows = rows_for(first + at, len(pixels[at : at + 5]))
            for line in lost:
                rows["status"][rows["line"] == line] = LineStatus.LOST
            self.writer.write(pixels[at : at + 5], rows)

    def follow(self) -> int:
        count = 0
        while self.follower.step():
            count += 1
        return count

    def finish(self, fields: Header | None = None) -> Path:
        return self.writer.finish(fields or self.fields)

    def taken(self) -> Spool:
        return Spool(self.fd, self.codings.to_json())


def entries(path: Path) -> dict[str, bytes]:
    with scan(path) as archive:
        return {name: archive.read(name) for name in archive.entries}


def both(source: Path, wanted: Wanted, spool: Spool) -> tuple[Compressed, Compressed]:
    """Code a file with blocks that were coded before, and without."""
    ahead = compress(source, source.with_name("ahead.hsi"), wanted, spool=spool)
    plain = compress(source, source.with_name("plain.hsi"), wanted)
    assert entries(ahead.path) == entries(plain.path)
    assert plain.ahead == 0
    assert replace(ahead, path=plain.path, ahead=0) == plain
    return ahead, plain


@pytest.mark.parametrize("wanted", WANTED, ids=lambda w: f"{w.coding}-{w.max_error}-{w.ratio}")
def test_a_file_of_blocks_coded_ahead_is_the_same_to_the_byte(
    tmp_path: Path, rng: np.random.Generator, wanted: Wanted
) -> None:
    captured = Captured(tmp_path, wanted)
    pixels = scene(rng, 100)
    lost = (3, 4, 41)
    pixels[list(lost)] = 65535
    captured.write(pixels[:60], lost)
    assert captured.follow() == 7
    captured.write(pixels[60:69], lost)
    assert captured.follow() == 1
    captured.write(pixels[69:], lost)
    source = captured.finish(about(lines_lost=3, stop_time="12:00:00", errors=["3 lines lost"]))
    ahead, _ = both(source, wanted, captured.taken())
    assert ahead.ahead == 64
    assert any("3 lines that were lost hold 0" in text for text in ahead.warnings) == (
        wanted.coding == "packints"
    )


def test_the_newest_block_comes_first(tmp_path: Path, rng: np.random.Generator) -> None:
    captured = Captured(tmp_path, WANTED[0])
    captured.write(scene(rng, 3 * STEP))
    assert captured.follower.step()
    captured.write(scene(rng, STEP))
    assert captured.follower.step()
    taken = captured.taken()
    assert [taken.take(n * STEP, STEP) is not None for n in range(4)] == [False, False, True, True]
    assert captured.follow() == 2
    captured.writer.discard()


def test_a_line_that_is_not_in_the_journal_is_not_touched(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    captured = Captured(tmp_path, WANTED[0])
    pixels = scene(rng, STEP)
    with captured.writer.partial.open("r+b") as file:  # as a block that is being written
        file.seek(captured.writer.payload_start)
        file.write(scene(rng, STEP).tobytes())
    assert not captured.follower.step()
    captured.write(pixels)
    assert captured.follower.step()
    ahead, _ = both(captured.finish(), WANTED[0], captured.taken())
    assert ahead.ahead == STEP


@pytest.mark.parametrize(
    "changed",
    [{"bbl": [1, 0] * 10}, {"data_ignore_value": 310}, {"saturation_level": 350}],
    ids=str,
)
def test_blocks_are_not_used_when_the_finished_header_masks_other_pixels(
    tmp_path: Path, rng: np.random.Generator, changed: dict[str, object]
) -> None:
    captured = Captured(tmp_path, WANTED[1])
    captured.write(scene(rng, 3 * STEP))
    assert captured.follow() == 3
    source = captured.finish(masked(changed))
    ahead, _ = both(source, WANTED[1], captured.taken())
    assert ahead.ahead == 0


def masked(changed: dict[str, object]) -> Header:
    found = about()
    for name, value in changed.items():
        found.set(name.replace("_", " "), value)
    return found


def test_blocks_of_other_lines_are_not_used(tmp_path: Path, rng: np.random.Generator) -> None:
    captured = Captured(tmp_path, WANTED[0])
    pixels = scene(rng, 3 * STEP)
    captured.write(pixels)
    assert captured.follow() == 3
    pixels[11, 2, 3] += 1
    captured.writer.discard()
    source = make_hsi(tmp_path / "other.hsi", pixels.transpose(0, 2, 1))
    ahead, _ = both(source, WANTED[0], captured.taken())
    assert ahead.ahead == 0


def test_packed_blocks_are_not_used_when_other_lines_were_lost(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    captured = Captured(tmp_path, WANTED[-1])
    captured.write(scene(rng, 3 * STEP))
    assert captured.follow() == 3
    rows = captured.writer.rows_back(9, 1)
    rows["status"] = LineStatus.LOST
    captured.writer.amend_rows(9, rows)
    ahead, _ = both(captured.finish(), WANTED[-1], captured.taken())
    assert ahead.ahead == 2 * STEP


def test_a_source_that_is_damaged_is_refused_with_blocks_and_without(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    captured = Captured(tmp_path, WANTED[0])
    captured.write(scene(rng, 4 * STEP)[: 3 * STEP + 2])
    assert captured.follow() == 3
    source = captured.finish()
    with source.open("r+b") as file:
        file.seek(4096 + 3 * STEP * LINE_BYTES + 5)
        file.write(b"\x99")
    with pytest.raises(ContainerError, match="the file is damaged"):
        compress(source, tmp_path / "a.hsi", WANTED[0], spool=captured.taken())
    assert not (tmp_path / "a.hsi").exists()


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_torn_or_damaged_spool_costs_its_own_blocks(
    tmp_path: Path, rng: np.random.Generator, cut: int
) -> None:
    captured = Captured(tmp_path, WANTED[0])
    captured.write(scene(rng, 4 * STEP))
    assert captured.follow() == 4
    first = RECORD.unpack(os.pread(captured.fd, RECORD.size, 0))[3] + RECORD.size
    os.pwrite(captured.fd, b"\xff", first + RECORD.size + 70)  # in the data of the second
    os.ftruncate(captured.fd, os.fstat(captured.fd).st_size - cut)  # as one that was killed
    ahead, _ = both(captured.finish(), WANTED[0], captured.taken())
    assert ahead.ahead == 2 * STEP


def test_a_spool_that_takes_the_room_of_the_file_is_let_go(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = Captured(tmp_path, WANTED[0])
    captured.write(scene(rng, 3 * STEP))
    assert captured.follow() == 3
    source = captured.finish()
    write = coding_job.write_at

    def full(fd: int, data: object, offset: int) -> int:
        if os.fstat(captured.fd).st_size:
            raise OSError(28, "No space left on device")
        return write(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(coding_job, "write_at", full)
        made = compress(source, tmp_path / "made.hsi", WANTED[0], spool=captured.taken())
    assert made.ahead == 0
    assert entries(made.path) == entries(compress(source, tmp_path / "b.hsi", WANTED[0]).path)


def test_room_for_the_lines_to_come_is_left_alone(tmp_path: Path, rng: np.random.Generator) -> None:
    captured = Captured(tmp_path, WANTED[0])
    captured.write(scene(rng, STEP))
    captured.follower = captured.followed(lines=1 << 40)
    with pytest.raises(StorageError, match="left to the lines to come"):
        captured.follower.step()
    assert os.fstat(captured.fd).st_size == 0
    captured.writer.discard()


def test_pixels_that_cannot_be_coded_end_it(tmp_path: Path, rng: np.random.Generator) -> None:
    captured = Captured(tmp_path, WANTED[-1])
    captured.write(scene(rng, STEP) + np.uint16(5000))
    with pytest.raises(ConfigError, match="allowed are 12 bits"):
        captured.follower.step()
    captured.writer.discard()


@pytest.fixture
def tight(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(following, "_SPARE", 0)
    return small_disk


def test_a_full_disk_costs_blocks_and_not_lines(tight: Path, rng: np.random.Generator) -> None:
    pixels = scene(rng, 200)

    def stored(follow: bool) -> int:
        captured = Captured(tight, Wanted("packints", max_error=0, block_lines=STEP))

        def give_room() -> bool:
            had = os.fstat(captured.fd).st_size > 0
            os.ftruncate(captured.fd, 0)
            return had

        captured.writer.give_room = give_room
        try:
            while True:
                captured.write(pixels)
                try:
                    if follow:
                        captured.follow()
                except StorageError:
                    follow = False  # its process ends then
        except StorageError:
            return captured.writer.lines
        finally:
            captured.writer.discard()
            captured.follower.close()
            os.close(captured.fd)

    assert stored(True) == stored(False) > 500


def test_what_a_coding_measured_comes_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.touch()
    stats = BlockStats(9, 3, 0.1 + 0.2, 1 / 3, 7, int(np.int64(5)), 2, (0.0625, 1.5))
    SpoolWriter(path).add(16, 8, Ahead(0xFFFFFFFF, [0, 7], Encoded(b"x" * 100, stats)))
    with path.open("r+b") as file:
        found = Spool(file.fileno(), b"")
        assert found.take(16, 8) == Ahead(0xFFFFFFFF, [0, 7], Encoded(b"x" * 100, stats))
        assert found.take(16, 7) is None
        assert found.take(0, 8) is None
        found.clear()
        assert found.take(16, 8) is None
    assert path.stat().st_size == 0


def test_codings_of_a_cube_and_of_its_capture_are_the_same_thing() -> None:
    shape = BlockShape(BANDS, SAMPLES, np.dtype("u2"))
    for wanted in WANTED:
        before = settle_codings(about(), shape, wanted, None)
        after = about(lines_lost=12, stop_time="12:00:01", errors=["none"], gaps="fill")
        after.set("lines", 123456)
        assert settle_codings(after, shape, wanted, None) == before
        assert BlockCodings.from_json(before.to_json()) == before
