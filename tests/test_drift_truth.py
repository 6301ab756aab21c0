"""Lamps that drift and flicker, pedestals that wander, pixels that are bad: each against the truth.

The simulated camera gets the fault, a capture of 1,000 lines is corrected when it is read, and its
mean must lie within three standard errors of the known reflectance. Read once more without the
correction in question, it must not.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import SIMULATED, capture, replay_rig, write_rig

import swath
from drivers.sensor import Sensor
from pipeline.bad_pixels import Kind, is_bad
from pipeline.container.uncertainty import Uncertainty
from pipeline.rigfile import load_rig

LINES = 1000
#: Lines of each reference: their noise must not hide what is looked for.
AVERAGED = 200
RIG = SIMULATED.replace("[stream]", 'scene = "bars"\n[stream]')
Float64 = NDArray[np.float64]


def record(folder: Path, *settings: str, lines: int = LINES) -> tuple[Path, Sensor]:
    """Capture a scan with references of before (and after) it; also give its sensor."""
    rig = write_rig(folder, RIG)
    given = (f"references.lines={AVERAGED}", *settings)
    result = capture(rig, *given, lines=lines)
    assert (result.exit_status, result.lost) == (0, 0)
    return Path(result.file), Sensor(load_rig(rig, given).camera)


def within(
    file: Path,
    sensor: Sensor,
    *,
    leave: slice = slice(0, 0),
    skip: NDArray[np.bool_] | None = None,
    smooth: NDArray[np.bool_] | None = None,
) -> float:
    """Share of (band, sample) whose mean lies within 3 standard errors of the truth.

    The error is that of the mean of the scan and of the references, the drifting lamp taken as 1:
    it is at most 10 % of 3 errors wrong. ``leave``: samples that are not looked at.
    ``smooth``: pixels that get the error of those around them, their own being no measure.
    """
    with swath.open(file) as cube:
        mean = cube.read().astype(float).mean(axis=0).T
        gain = cube.correction().gain.astype(float)
    truth = sensor.truth(0)
    scan, dark, white = (sensor.noise_variance(0, view) for view in ("scene", "dark", "panel"))
    error = scan * gain**2 / LINES
    error += (
        dark * (gain - truth * gain / 0.95) ** 2 + white * (truth * gain / 0.95) ** 2
    ) / AVERAGED
    if smooth is not None:
        for sample in range(truth.shape[1]):
            good = np.flatnonzero(~smooth[:, sample])
            error[:, sample] = np.interp(np.arange(len(truth)), good, error[good, sample])
    looked = np.ones(truth.shape, bool) if skip is None else ~skip
    looked[:, leave] = False
    close = np.abs(mean - truth) <= 3 * np.sqrt(error)
    return float(close[looked].mean())


def without(file: Path, *names: str, fields: tuple[str, ...] = ()) -> Path:
    """Copy a container without some references, and without some fields of its header."""
    made = file.with_name(f"without-{'-'.join((*names, *fields))}.hsi".replace(" ", "_"))
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(made, "w") as part:
        for entry in whole.infolist():
            if Path(entry.filename).stem.removesuffix("_std") in names:
                continue
            data = whole.read(entry)
            if entry.filename == "data.hdr":
                kept = [
                    line
                    for line in data.decode().splitlines()
                    if line.partition(" = ")[0] not in fields
                ]
                data = "\n".join(kept).encode() + b"\n"
            part.writestr(entry.filename, data)
    return made


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sensor]:
    """A lamp that gains 4 % a second, 10 % over the scan."""
    return record(
        tmp_path_factory.mktemp("drift"),
        "camera.unsteady.lamp_per_s=0.04",
        *("references.white_after=take", "references.black_after=take"),
    )


def test_references_before_and_after_correct_a_drift_of_ten_percent(
    drifted: tuple[Path, Sensor],
) -> None:
    assert within(*drifted) >= 0.99


def test_without_the_references_after_the_scan_the_drift_is_seen(
    drifted: tuple[Path, Sensor],
) -> None:
    file, sensor = drifted
    assert within(without(file, "white_after", "black_after"), sensor) < 0.5
    assert within(without(file, "white_after"), sensor) < 0.5


def test_a_replay_carries_the_references_after_the_scan(
    drifted: tuple[Path, Sensor], tmp_path: Path
) -> None:
    rig = replay_rig(tmp_path, drifted[0], block_lines=16)
    replayed = capture(rig)
    with swath.open(drifted[0]) as cube, swath.open(replayed.file) as again:
        for name in ("white", "black", "white_after", "black_after"):
            reference = cube.references[name]
            np.testing.assert_array_equal(again.references[name].array, reference.array)
            assert again.references[name].header.time() == reference.header.time()
        np.testing.assert_array_equal(again.read(), cube.read())
    repeated = capture(rig, "camera.loops=2", "output.name=twice")
    assert any("white_after of the replayed file is left out" in said for said in repeated.warnings)
    with swath.open(repeated.file) as cube:
        assert not {"white_after", "black_after"} & set(cube.references)


def test_a_replay_that_stores_reflectance_says_that_drift_stays(
    drifted: tuple[Path, Sensor], tmp_path: Path
) -> None:
    result = capture(replay_rig(tmp_path, drifted[0], store="reflectance"))
    assert any('only store = "raw" is corrected for drift' in said for said in result.warnings)
    with swath.open(result.file) as cube:
        assert str(cube.header["drift correction"]).startswith("none")
        assert "black_after" in cube.references


def test_a_drift_of_the_pedestal_is_corrected_by_the_black_after(tmp_path: Path) -> None:
    file, sensor = record(
        tmp_path,
        "camera.unsteady.pedestal_per_s=4",
        *("references.white_after=take", "references.black_after=take"),
    )
    assert within(file, sensor) >= 0.99
    assert within(without(file, "black_after"), sensor) < 0.7


@pytest.fixture(scope="module")
def flickering(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sensor]:
    """A lamp and a pedestal that drift, and flicker; a strip of panel and masked columns."""
    return record(
        tmp_path_factory.mktemp("flicker"),
        "camera.unsteady.lamp_per_s=0.04",
        "camera.unsteady.lamp_flicker=0.1",
        "camera.unsteady.pedestal_per_s=2",
        "camera.unsteady.pedestal_flicker=6",
        *("camera.panel_columns=8", "camera.masked_columns=6"),
        *("references.panel_strip=[1,8]", "references.dark_columns=[43,48]"),
    )


MASKED = slice(42, 48)


def test_a_strip_of_panel_and_masked_columns_correct_line_by_line(
    flickering: tuple[Path, Sensor],
) -> None:
    file, sensor = flickering
    assert within(file, sensor, leave=MASKED) >= 0.99
    with swath.open(file) as cube:
        steady = cube.read(samples=slice(8, 42)).astype(float)
        gain = cube.correction().gain.astype(float)[:, 8:42]
    # line by line, too: the noise of a pixel over lines is the noise of its counts
    expected = sensor.noise_variance(0, "scene")[:, 8:42] * gain**2
    ratio = steady.var(axis=0, ddof=1).T / expected
    # less where the lamp is brighter than at first; uncorrected it would be many times 1
    assert 0.5 < float(ratio.mean()) < 1.15


@pytest.mark.parametrize("field", ["panel strip", "dark columns"])
def test_without_either_of_them_it_is_seen(flickering: tuple[Path, Sensor], field: str) -> None:
    file, sensor = flickering
    assert within(without(file, fields=(field,)), sensor, leave=MASKED) < 0.8


@pytest.mark.parametrize("kind", ["float32", "int16"])
def test_capturing_stores_what_reading_gives(tmp_path: Path, kind: str) -> None:
    unsteady = (
        "camera.unsteady.lamp_flicker=0.1",
        "camera.unsteady.pedestal_flicker=6",
        *("camera.panel_columns=8", "camera.masked_columns=6"),
        *("references.panel_strip=[1,8]", "references.dark_columns=[43,48]"),
        *("camera.defects.hot=5", "camera.defects.dead=5", "pipeline.bad_pixels=find"),
    )
    raw, _ = record(tmp_path, *unsteady, lines=96)
    rig = write_rig(
        tmp_path,
        f"""
[camera]
driver = "replay"
file = "{raw}"
rate = "max"
[pipeline]
backend = "cpu"
store = "reflectance"
reflectance_type = "{kind}"
[output]
folder = "out"
name = "again"
""",
        "again.toml",
    )
    again = capture(rig)
    with swath.open(raw) as cube, swath.open(again.file) as stored:
        assert stored.bad_pixels is not None
        np.testing.assert_array_equal(stored.bad_pixels, cube.bad_pixels)
        if kind == "int16":  # the two scales are one product there, so a half may round otherwise
            units = np.rint(stored.read().astype("f8") * 10000)
            apart = np.abs(units - np.rint(cube.read() * np.float32(10000)))
            assert np.nanmax(apart) <= 1
            assert np.nanmean(apart > 0) < 2e-3
            return
        np.testing.assert_array_equal(stored.read(), cube.read())
        for part in ((slice(5, 9), 7, slice(3, 12)), (11, slice(0, 48), 4), ([1, 90], [0, 9], 19)):
            chosen = cube.read()[np.ix_(*map(_list, part))]
            np.testing.assert_array_equal(cube.read(*part).reshape(chosen.shape), chosen)


def _list(chosen: int | slice | list[int]) -> list[int]:
    if isinstance(chosen, slice):
        return list(range(chosen.start, chosen.stop))
    return [chosen] if isinstance(chosen, int) else chosen


@pytest.fixture(scope="module")
def defective(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sensor]:
    """A sensor with bad pixels of each kind, one in twenty."""
    kinds = ("stuck", "dead", "hot", "noisy", "low_response")
    return record(
        tmp_path_factory.mktemp("bad"),
        *(f"camera.defects.{kind}=24" for kind in kinds),
        *("camera.bands=50", "pipeline.bad_pixels=find", "camera.fps=300"),
    )


def test_bad_pixels_are_found_and_named_by_kind(defective: tuple[Path, Sensor]) -> None:
    file, sensor = defective
    with swath.open(file) as cube:
        found = cube.bad_pixels
        assert found is not None
        for kind in (Kind.STUCK, Kind.DEAD, Kind.HOT, Kind.NOISY, Kind.LOW_RESPONSE):
            there = sensor.defects == kind
            assert (found[there] == kind).all(), kind.text
            said = f"{np.count_nonzero(found == kind)} {kind.text}"
            assert said in (cube.header.strings("bad pixels") or [])
        # beside them at most the sensor's own hot pixels
        extra = is_bad(found) & (sensor.defects == 0)
        assert np.count_nonzero(extra) <= 3
        bad = is_bad(found)
        assert (cube.ledger["bad"] == bad.sum()).all()
    with zipfile.ZipFile(file) as entries:
        mask = np.frombuffer(entries.read("Exploration/quality.envi"), np.uint8)
    mask = mask.reshape(LINES, 6, 48)
    np.testing.assert_array_equal(mask[0, 1], bad.sum(axis=0))
    np.testing.assert_array_equal(mask[0, 4], bad.sum(axis=0))  # all have a good neighbour


def test_replaced_pixels_meet_the_truth_where_it_is_straight(
    defective: tuple[Path, Sensor],
) -> None:
    file, sensor = defective
    with swath.open(file) as cube:
        bad = is_bad(cube.bad_pixels)
        gain = cube.correction().gain.astype(float)
    truth = sensor.truth(0)
    straight = truth.copy()
    for sample in range(truth.shape[1]):
        good = np.flatnonzero(~bad[:, sample])
        straight[:, sample] = np.interp(np.arange(len(truth)), good, truth[good, sample])
    # a curve between its neighbours is beyond what a replacement can know
    error = (
        np.sqrt(sensor.noise_variance(0, "panel") / LINES)
        * np.nan_to_num(np.median(gain, axis=1))[:, None]
    )
    curved = bad & (np.abs(truth - straight) > 0.5 * error)
    assert np.count_nonzero(bad & ~curved) > 20
    assert within(file, sensor, skip=curved | ~bad, smooth=bad) >= 0.95
    assert within(file, sensor, skip=curved, smooth=bad) >= 0.99
    plain = without(file, "bad_pixels")
    assert (
        within(plain, sensor, skip=curved | ~bad, smooth=bad) < 0.8
    )  # flat field and dark help some


@pytest.fixture(scope="module")
def few_averaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sensor]:
    """References of a few lines, so that their own noise matters."""
    return record(tmp_path_factory.mktemp("few"), "references.lines=6", lines=64)


def spread(file: Path, sensor: Sensor, **changed: object) -> float:
    """Mean square error of the reflectance beside the mean square of its uncertainty."""
    with swath.open(file) as cube:
        error = cube.read().astype(float).transpose(0, 2, 1) - sensor.truth(0)
        sigma = Uncertainty(cube.reflectance, cube.references, raw=True)
        for name, value in changed.items():
            setattr(sigma, name, value)
        values = sigma.laid_over(cube.cube).read(cube.cube.whole).astype(float)
        if not changed:
            np.testing.assert_array_equal(cube.uncertainty(), values.astype(np.float32))
    # single bands of little light would outweigh all others
    weight = 1 / np.median(np.square(values), axis=(0, 1))
    return float(
        (np.square(error).mean(axis=(0, 2)) * weight).mean()
        / (np.square(values).mean(axis=(0, 1)) * weight).mean()
    )


def test_the_uncertainty_is_what_reflectance_misses_the_truth_by(
    few_averaged: tuple[Path, Sensor],
) -> None:
    assert 0.9 < spread(*few_averaged) < 1.1


@pytest.mark.parametrize("left_out", ["_dark", "counts_an_electron", "_white"])
def test_without_a_term_the_uncertainty_is_too_small(
    few_averaged: tuple[Path, Sensor], left_out: str
) -> None:
    nothing = 0.0 if left_out == "counts_an_electron" else np.zeros((20, 48))
    assert spread(*few_averaged, **{left_out: nothing}) > 1.04
