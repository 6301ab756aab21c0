"""Many lines at once are the same lines as one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_replay import container, full_ledger, opened, play

from drivers.blocks import Blocks, SeriesPlan
from drivers.camera import Bulk, EndOfFrames, Frame
from drivers.gaps import FrameIds
from drivers.replay import ReplayCamera
from pipeline.container.envi import write_envi
from pipeline.layout import LedgerRows, LineStatus, LossReason, ledger_rows
from pipeline.slots import SlotRing

SHAPE = (3, 5)  # bands, samples


def frame_row(frame: Frame) -> LedgerRows:
    rows = ledger_rows(1)
    for name in (
        "frame_id", "device_time_ns", "host_time_ns", "encoder", "exposure_ms", "temperature_c",
    ):  # fmt: skip
        rows[name] = getattr(frame, name)
    return rows


def play_many(
    camera: ReplayCamera, rng: np.random.Generator, seek: int | None = 0
) -> tuple[Any, LedgerRows, list[bool], int]:
    """All lines, their rows, whether each was complete, and how many came by ``fetch_many``."""
    lines: list[Any] = []
    rows: list[LedgerRows] = []
    complete: list[bool] = []
    many = 0
    ids = FrameIds()
    if seek is not None:
        ids.expect(camera.seek(seek))
    camera.start("scan")
    while True:
        into = np.zeros((int(rng.integers(1, 9)), *SHAPE), np.uint16)
        found = camera.fetch_many(into)
        if found is not None:
            assert 0 < len(found) <= len(into)
            assert ids.run(found["frame_id"])
            assert not into[len(found) :].any()
            lines += list(into[: len(found)])
            rows.append(found)
            complete += [True] * len(found)
            many += len(found)
            continue
        line = np.zeros(SHAPE, np.uint16)
        try:
            frame = camera.fetch(line, 1.0)
        except EndOfFrames:
            return np.array(lines), np.concatenate(rows), complete, many
        assert frame is not None
        ids.step(frame.frame_id)
        lines.append(line)
        rows.append(frame_row(frame))
        complete.append(frame.complete)


def odd_ledger(rng: np.random.Generator, lines: int) -> LedgerRows:
    """Lost and incomplete lines among the stored ones, gaps that are not stored, unknown values."""
    rows = full_ledger(lines)
    rows["status"] = rng.choice(
        [LineStatus.OK, LineStatus.LOST, LineStatus.INCOMPLETE], lines, p=[0.9, 0.06, 0.04]
    )
    rows["reason"][rows["status"] == LineStatus.LOST] = LossReason.CAMERA
    rows["exposure_ms"][rng.random(lines) < 0.2] = np.nan
    rows["temperature_c"][rng.random(lines) < 0.2] = np.nan
    parts: list[LedgerRows] = []
    for at in range(lines):
        if at and rng.random() < 0.05:
            gap = ledger_rows(1)
            gap["count"], gap["status"], gap["reason"] = 3, LineStatus.LOST, LossReason.NO_ROOM
            parts.append(gap)
        parts.append(rows[at : at + 1])
    return np.concatenate(parts)


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("order", "<>")
def test_whatever_the_file_is_like(
    tmp_path: Path, rng: np.random.Generator, order: str, interleave: str
) -> None:
    cube = rng.integers(0, 65536, (40, 5, 3), np.uint16).astype(order + "u2")
    camera = opened(write_envi(tmp_path, "cube", cube, interleave=interleave), loops=2)
    expected, frames = play(camera, np.uint16, SHAPE)
    camera.stop()
    lines, rows, complete, many = play_many(camera, rng)
    assert np.array_equal(lines, expected)
    assert rows["frame_id"].tolist() == [frame.frame_id for frame in frames]
    assert all(complete)
    assert many == 80


@pytest.mark.parametrize("seed", range(6))
def test_lost_lines_and_gaps_are_where_they_were(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cube = rng.integers(0, 65536, (120, 5, 3), np.uint16)
    camera = opened(container(tmp_path / "a.hsi", cube, odd_ledger(rng, 120)), loops=2)
    expected, frames = play(camera, np.uint16, SHAPE)
    for seek in (0, None):
        camera.stop()
        lines, rows, complete, many = play_many(camera, rng, seek)
        assert np.array_equal(lines, expected)
        assert complete == [frame.complete for frame in frames]
        wanted = np.concatenate([frame_row(frame) for frame in frames])
        for name in wanted.dtype.names or ():
            if name != "_pad":
                assert np.array_equal(rows[name], wanted[name], equal_nan=True), name
        assert many > 100


def test_a_paced_replay_gives_its_lines_one_by_one(tmp_path: Path) -> None:
    camera = opened(write_envi(tmp_path, "a", np.zeros((3, 5, 3), np.uint16)), rate=1000.0)
    assert isinstance(camera, Bulk)
    camera.seek(0)
    camera.start("scan")
    assert camera.fetch_many(np.zeros((3, *SHAPE), np.uint16)) is None
    assert camera.fetch(None, 1.0) is not None


def test_ids_that_do_not_follow_each_other_are_not_a_run() -> None:
    ids = FrameIds()
    assert ids.run(np.array([5, 6, 7], np.uint64))
    assert ids.last == 7
    for wrong in ([7, 8], [9, 10], [8, 10], [8, 7]):
        assert not ids.run(np.array(wrong, np.uint64))
        assert ids.last == 7
    assert ids.run(np.array([8], np.uint64))
    assert not FrameIds(65535, 1).run(np.array([1, 2], np.uint64))  # they may wrap


def test_places_end_with_the_block_and_with_the_lines_asked_for() -> None:
    ring = SlotRing(2, 4 * 3 * 5 * 2)
    plan = SeriesPlan(
        bands=3, samples=5, dtype=np.dtype("u2"), block_lines=4, max_latency_s=1.0, fill=True,
        fill_value=0, max_gap_lines=10, target=6, first_line=20, epoch=2,
    )  # fmt: skip
    blocks = Blocks(ring, plan)
    sizes = []
    while (places := blocks.places()) is not None and len(places):
        taken = min(3, len(places))
        sizes.append((len(places), taken))
        places[:taken] = blocks.counted
        blocks.took_many(ledger_rows(taken))
    assert sizes == [(4, 3), (1, 1), (2, 2)]
    assert blocks.is_full()
    assert blocks.finish()
    first, second = blocks.sealed
    assert first.ledger["line"].tolist() == [20, 21, 22, 23]
    assert second.ledger["line"].tolist() == [24, 25]
    assert set(first.ledger["epoch"]) == {2}
    assert first.pixels[:, 0, 0].tolist() == [0, 0, 0, 3]
    blocks.discard()
    ring.close()
