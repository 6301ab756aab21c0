"""The bench of the GenICam driver: real captures from the virtual camera, and the search."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from bench import genicam, live
from bench.data import Geometry
from bench.settings import Settings
from virtual_camera.build import CannotBuildError, build

SMALL = Geometry(48, 20)


@pytest.fixture(scope="module")
def camera():
    pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")
    try:
        build()
    except CannotBuildError as error:
        pytest.skip(f"the virtual camera cannot be built: {error}")
    with genicam.playing(SMALL, different_lines=32) as playing:
        yield playing


def test_a_capture_from_the_virtual_camera_is_measured_by_its_own_ledger(camera, tmp_path):
    setup = live.Setup(fps=100.0, samples=48, bands=20, seconds=0.6, backend="cpu", threads=1)
    trial = live.record(setup, tmp_path, camera.source)
    assert trial.clock == 60
    assert trial.accounted
    assert trial.errors == []
    assert trial.strips > 0


def test_the_rows_of_a_trial_are_not_judged(camera, tmp_path):
    settings = Settings(
        geometries=(SMALL,), rounds=1, different_lines=32, folder=tmp_path, threads=1
    )
    rows = list(genicam.rows(settings, trials=1, seconds=0.3, rate_seconds=0.2))
    bare, captures, largest = rows
    assert bare.rate is not None
    assert bare.rate.median > 0
    assert captures.step == "captures of 0.3 s without a lost line"
    assert captures.met is None
    assert largest.step == "largest rate that passes 1 of 1 captures of 0.2 s"


@pytest.mark.parametrize(
    ("limit", "found"), [(50, None), (100, 100), (250, 200), (1000, 400)], ids=str
)
def test_the_largest_rate_is_the_last_that_passes(limit, found):
    assert genicam.largest((100, 200, 400), 3, lambda rate: rate <= limit) == found


def test_a_rate_that_passes_once_and_then_fails_is_not_taken():
    asked: list[float] = []

    def passes(rate: float) -> bool:
        asked.append(rate)
        return rate < 400 or asked.count(rate) < 3

    assert genicam.largest((100, 200, 400), 3, passes) == 200
    assert asked == [100, 200, 400, 400, 400, 200, 200, 200]
