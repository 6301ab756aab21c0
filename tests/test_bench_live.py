"""The bench of live captures: it looks up every frame of the clock, and when its pixel was seen."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rigs import capture, write_rig

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from bench import live

SMALL = live.Setup(fps=200.0, samples=48, bands=20, seconds=0.6, backend="cpu", threads=1)


def strip(seen_ns: int, line: int, until: int) -> dict[str, int]:
    return {"seen_ns": seen_ns, "line": line, "until": until, "missed": 0}


def test_a_line_is_seen_with_the_first_strip_that_has_it() -> None:
    strips = [strip(5, 0, 3), strip(7, 0, 6), strip(9, 12, 14)]
    seen = live.first_seen(15, strips)
    assert seen.tolist() == [5, 5, 5, 7, 7, 7, 0, 0, 0, 0, 0, 0, 9, 9, 0]


def test_a_capture_is_measured_by_its_own_ledger(tmp_path: Path) -> None:
    trial = live.record(SMALL, tmp_path)
    assert trial.clock == 120
    assert trial.accounted
    assert trial.errors == []
    assert trial.lines + trial.lost == 120
    assert trial.strips > 0
    assert trial.unseen < 120
    ms = trial.latency_ms
    assert 0 < ms["median"] <= ms["p99"] <= ms["max"]
    assert not list(tmp_path.iterdir()), "the file is removed"


def test_a_capture_that_is_coded_says_how_much_was_while_it_ran(tmp_path: Path) -> None:
    trial = live.record(replace(SMALL, store="pca", pca="lossless = true"), tmp_path)
    assert trial.good
    assert "lossless" in trial.coded
    assert (trial.lines, trial.coded_in_scan) == (120, 0)  # a block has 128
    assert set(trial.cpu) == {"capture", "driver", "coding", "subscriber"}


def judged(folder: Path, clock: int, **settings: Any) -> live.Trial:
    """Judge a capture of 100 lines, of which the camera loses the tenth."""
    path = write_rig(folder)
    overrides = ("camera.faults.lose_lines=[10]", 'stream.gaps="skip"')
    result = capture(path, *overrides, lines=100, **settings)
    setup = replace(SMALL, fps=clock / 2, seconds=2.0)
    return live.judge(setup, result, [], live.Watch())


def test_lost_lines_are_counted_and_the_sum_is_the_clock(tmp_path: Path) -> None:
    trial = judged(tmp_path, 100)
    assert (trial.lines, trial.lost, trial.unknown) == (99, 1, 0)
    assert trial.accounted
    assert not trial.good
    assert trial.unseen == 99
    assert trial.latency_ms == {}


@pytest.mark.parametrize("clock", [90, 104])
def test_a_clock_that_made_other_lines_is_not_accounted_for(tmp_path: Path, clock: int) -> None:
    trial = judged(tmp_path, clock)
    assert trial.unknown == abs(clock - 100)
    assert not trial.accounted


def test_a_file_that_does_not_hold_what_it_should_is_no_good_trial(tmp_path: Path) -> None:
    result = capture(write_rig(tmp_path), lines=60)
    file = Path(result.file)
    with file.open("r+b") as raw:
        raw.seek(file.stat().st_size // 4)
        byte = raw.read(1)[0]
        raw.seek(-1, 1)
        raw.write(bytes([byte ^ 0xFF]))
    trial = live.judge(replace(SMALL, fps=60.0, seconds=1.0), result, [], live.Watch())
    assert trial.accounted
    assert any("CRC" in text for text in trial.errors), trial.errors
    assert not trial.good
