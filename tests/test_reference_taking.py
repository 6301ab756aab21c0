"""Taking references: means of lines, lines that stand out, and what is no white or no black."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ReferenceMismatchError
from pipeline.reference_taking import FEWEST_JUDGED, GROUP_LINES, Accumulator, refuse_faulty
from pipeline.references import Reference
from pipeline.stream.messages import CameraInfo

INFO = CameraInfo(
    driver="simulated",
    sensor_type="cam",
    bands=3,
    samples=4,
    data_type=12,
    bit_depth=12,
    saturation_level=4095,
    exposure_ms=2.0,
    binning=(2, 1),
    serial="A1",
)
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def averaged(lines: np.ndarray, sizes: list[int]) -> tuple[Reference, Accumulator]:
    sums = Accumulator(lines.shape[1], lines.shape[2], 4095)
    start = 0
    for size in sizes:
        sums.add(lines[start : start + size])
        start += size
    return sums.reference("black", INFO, NOW), sums


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_mean_and_deviation_do_not_depend_on_blocks(sizes: list[int], seed: int) -> None:
    sizes = [*sizes, 1]
    lines = np.random.default_rng(seed).normal(500, 20, (sum(sizes), 3, 4)).astype(np.uint16)
    try:
        in_blocks, sums = averaged(lines, sizes)
    except ReferenceMismatchError:  # of 20 lines, more than 4 by chance: once in 4,000
        with pytest.raises(ReferenceMismatchError, match="stand out"):
            averaged(lines, [len(lines)])
        return
    at_once, _ = averaged(lines, [len(lines)])
    assert np.array_equal(in_blocks.mean, at_once.mean)
    assert np.array_equal(in_blocks.std, at_once.std)  # type: ignore[arg-type]
    assert sums.seen == len(lines)
    if sums.rejected == 0:
        assert np.allclose(in_blocks.mean, lines.mean(axis=0), rtol=1e-6)
        if len(lines) > 1:
            assert np.allclose(in_blocks.std, lines.std(axis=0, ddof=1), rtol=1e-5, atol=1e-4)
    assert in_blocks.fields["lines averaged"] == len(lines) - sums.rejected


def test_lines_that_stand_out_are_left_out_and_counted(rng: np.random.Generator) -> None:
    lines = rng.normal(500, 10, (200, 8, 30)).round().astype(np.uint16)
    clean = lines.astype(float)
    bad = [3, 50, 51, 199]
    lines[bad[:2]] += 40  # a lamp that flickered
    lines[bad[2], :, :3] = 900  # a fly over a tenth of the slit
    lines[bad[3]] = 0
    sums = Accumulator(8, 30, 4095)
    sums.add(lines)
    made = sums.reference("white", INFO, NOW)
    assert 4 <= sums.rejected <= 8  # of 196 good ones 0.5 lie beyond 3 sigma
    assert made.fields["lines rejected"] == sums.rejected
    assert made.fields["lines averaged"] == 200 - sums.rejected
    error = 10 / np.sqrt(200)
    assert np.all(np.abs(made.mean - np.delete(clean, bad, 0).mean(0)) < 2 * error)
    assert made.std is not None
    assert abs(float(made.std.mean()) - 10) < 0.5


def test_a_drifting_lamp_loses_no_line(rng: np.random.Generator) -> None:
    level = np.linspace(500, 560, 300)[:, None, None]
    lines = rng.normal(level, 5, (300, 8, 30)).round().astype(np.uint16)
    sums = Accumulator(8, 30, 4095)
    sums.add(lines)
    sums.judge()
    assert sums.rejected <= 6


def test_a_light_that_jumps_is_refused(rng: np.random.Generator) -> None:
    level = np.where(np.arange(100) < 60, 500, 700)[:, None, None]
    lines = rng.normal(level, 5, (100, 3, 4)).astype(np.uint16)
    sums = Accumulator(3, 4, 4095)
    sums.add(lines)
    with pytest.raises(ReferenceMismatchError, match=r"of 100 lines stand out .* take it again"):
        sums.reference("white", INFO, NOW)


def test_of_few_lines_none_stands_out() -> None:
    lines = np.full((FEWEST_JUDGED - 1, 3, 4), 100, np.uint16)
    lines[0] = 4000
    sums = Accumulator(3, 4, 4095)
    sums.add(lines)
    sums.judge()
    assert sums.rejected == 0


def test_only_a_group_of_lines_is_held() -> None:
    sums = Accumulator(3, 4, 4095)
    for _ in range(10):
        sums.add(np.zeros((100, 3, 4), np.uint16))
    held = [v for v in vars(sums).values() if isinstance(v, np.ndarray)]
    assert max(array.size for array in held) == GROUP_LINES * 12


def test_a_reference_says_what_makes_it_comparable() -> None:
    sums = Accumulator(3, 4, 4095)
    sums.add(np.full((20, 3, 4), 700, np.uint16))
    made = sums.reference("white", INFO, NOW, flip=["spatial"], temperature_c=31.25)
    assert made.fields == {
        "acquisition time": "2026-01-02T00:00:00.000000Z",
        "exposure": 2.0,
        "binning": [2, 1],
        "flip": ["spatial"],
        "serial number": "A1",
        "saturation level": 4095,
        "temperature": 31.25,
        "lines averaged": 20,
        "lines rejected": 0,
    }


def taken(kind: str, counts: np.ndarray) -> tuple[Reference, float]:
    sums = Accumulator(*counts.shape, 4095)
    sums.add(np.repeat(counts[None].astype(np.uint16), 20, axis=0))
    return sums.reference(kind, INFO, NOW), sums.saturated


SPECTRUM = np.linspace(0, 1, 20)[:, None] * np.ones((1, 30))


@pytest.mark.parametrize(
    ("kind", "counts", "message"),
    [
        (
            "white",
            np.where(SPECTRUM > 0.95, 4095, 2000),
            r"white reference: 5.0 % of its pixels are saturated \(allowed: 1 %\); shorten the "
            "exposure or dim the lamp",
        ),
        (
            "white",
            64 + 200 * SPECTRUM,
            r"white reference: too dim: its brightest pixels reach 5.0 % of the range above the "
            r"dark \(allowed: 10 % and more\); switch the lamp on, bring the panel into view, or "
            "lengthen the exposure",
        ),
        (
            "black",
            64 + 100 * SPECTRUM,
            r"black reference: it is not dark: its bands differ by 2.2 % of the range \(allowed: "
            r"1 %\), so light leaks in; close the shutter or cover the lens",
        ),
        (
            "black",
            np.full((20, 30), 2500),
            r"black reference: it is not dark: its level is 61 % of the range \(allowed: 50 %\); "
            "close the shutter or cover the lens, or shorten the exposure",
        ),
    ],
    ids=["saturated", "too dim", "light leaks in", "lit"],
)
def test_what_is_no_white_or_black_is_refused_with_what_to_do(
    kind: str, counts: np.ndarray, message: str
) -> None:
    reference, saturated = taken(kind, counts)
    dark = Reference("black", np.full(counts.shape, 64, np.float32))
    with pytest.raises(ReferenceMismatchError, match=message):
        refuse_faulty(reference, 4095, dark if kind == "white" else None, saturated)


def test_hot_pixels_and_offsets_of_columns_are_no_light(rng: np.random.Generator) -> None:
    counts = np.full((20, 30), 300.0) + 400 * rng.random((1, 30))
    counts[rng.random((20, 30)) < 0.03] = 4000
    refuse_faulty(*(taken("black", counts)[0], 4095, None, 0.0))


def test_without_a_line_there_is_no_reference() -> None:
    with pytest.raises(ReferenceMismatchError, match="white reference: no line arrived"):
        Accumulator(3, 4, 4095).reference("white", INFO, NOW)
