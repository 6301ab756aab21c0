"""References that were adapted, computed or weighted, against the known truth of simulated scans.

Each test has the mean of 1,000 lines lie within 3 standard errors of the truth in 99 % of all
(band, sample), and sees that it does not with the correction switched off.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rigs import capture, write_rig

import swath
from drivers.sensor import Sensor, View
from pipeline import reflectance
from pipeline.config import CameraConfig, Wavelengths
from pipeline.container.envi import write_envi
from pipeline.reference_bias import black_at, fit_bias_rate
from pipeline.reference_panel import panel_reflectance
from pipeline.references import Reference, ReferenceSet

LINES = 1000
WHITE_MS, SCAN_MS = 1.25, 0.5
HROI, VROI = (5, 20), (2, 9)  # in pixels of 2 × 2
CONFIG = CameraConfig(
    driver="simulated",
    samples=48,
    bands=20,
    scene="bars",
    wavelengths=Wavelengths(first=400.0, last=1000.0, fwhm=5.0),
)
#: Rows and columns of the unbinned sensor that the scan sees.
CUT = (slice((VROI[0] - 1) * 2, VROI[1] * 2), slice((HROI[0] - 1) * 2, HROI[1] * 2))


def share_within(found: np.ndarray, truth: np.ndarray, error: np.ndarray) -> float:
    return float(np.mean(np.abs(found - truth) <= 3 * error))


def binned(array: np.ndarray) -> np.ndarray:
    """Sum pixels of 2 × 2 along the last two axes."""
    *rest, rows, columns = array.shape
    return array.reshape(*rest, rows // 2, 2, columns // 2, 2).sum(axis=(-3, -1))


def exposed(sensor: Sensor, view: View, stream: int, lines: int = LINES) -> np.ndarray:
    """Read out lines: (lines, bands, samples) counts."""
    out = np.empty((lines, sensor.bands, sensor.samples), np.uint16)
    for index in range(lines):
        sensor.expose(out[index], view, 0, 31.0, stream, index)
    return out


def taken(sensor: Sensor, view: View, kind: str, stream: int, **fields: Any) -> Reference:
    """Average lines to a reference."""
    lines = exposed(sensor, view, stream).astype(np.float64)
    known = {"exposure": sensor.exposure_ms, "lines averaged": LINES, **fields}
    return Reference(
        kind, lines.mean(0).astype(np.float32), lines.std(0, ddof=1).astype(np.float32), known
    )


def test_a_white_is_cropped_binned_and_scaled_to_the_scan(tmp_path: Path) -> None:
    fine = Sensor(CONFIG)
    fine.exposure_ms = WHITE_MS
    coarse = Sensor(_replace(CONFIG, binning=(2, 2), hroi=HROI, vroi=VROI))
    coarse.exposure_ms = SCAN_MS
    now = dt.datetime.now(dt.UTC)
    whole = {"binning": [1, 1], "hroi": [1, 48], "vroi": [1, 20], "exposure": WHITE_MS}
    part = {"binning": [2, 2], "hroi": list(HROI), "vroi": list(VROI), "exposure": SCAN_MS}
    kept = [taken(fine, "panel", "white", 1).mean, taken(fine, "dark", "white_black", 2).mean]
    black = taken(coarse, "dark", "black", 3).mean
    for name, array, fields in (
        ("white", kept[0], whole),
        ("white_black", kept[1], whole),
        ("black", black, part),
    ):
        write_envi(tmp_path / "library", name, array.T[None], {**fields, "acquisition time": now})
    lines = exposed(coarse, "scene", 4)
    fields = {**part, "acquisition time": now}
    source = write_envi(tmp_path, "scan", lines.transpose(0, 2, 1), fields)
    result = capture(_replay(tmp_path, source, "charge"), lines=LINES)
    with swath.open(result.file) as cube:
        mean = cube.read().astype(np.float64).mean(axis=0).T
        said = cube.header["white choice"]
    assert said == [
        "white.hdr",
        "0 min apart from the scan",
        "exposure 1.25 ms scaled to 0.5 ms",
        "spectral binning 1 made 2",
        "vroi 1 to 20 cropped to 2 to 9",
        "spatial binning 1 made 2",
        "hroi 1 to 48 cropped to 5 to 20",
    ]
    truth = coarse.truth(0)
    raw = lines.astype(np.float64).mean(axis=0)
    right = (CUT, 1.0, SCAN_MS / WHITE_MS)

    def meets(cut: tuple[slice, slice], adds: float, ratio: float) -> float:
        signal = binned((kept[0].astype(np.float64) - kept[1])[cut]) * adds
        gain = 0.95 / (signal * ratio)
        found = (raw - black) * gain
        if (cut, adds, ratio) == right:
            # what the file gives is this formula: float32 against float64
            assert np.allclose(mean, found, rtol=1e-5, atol=1e-6)
            found = mean
        scan_noise = coarse.noise_variance(0, "scene") + coarse.noise_variance(0, "dark")
        white_noise = fine.noise_variance(0, "panel") + fine.noise_variance(0, "dark")
        relative = truth**2 * binned(white_noise[CUT]) / signal**2
        error = np.sqrt((scan_noise * gain**2 + relative) / LINES)
        return share_within(found, truth, error)

    assert meets(*right) >= 0.99
    assert meets(CUT, 1.0, 1.0) < 0.5  # exposure not scaled
    assert meets(CUT, 0.25, SCAN_MS / WHITE_MS) < 0.5  # averaged where the camera adds
    for rows, columns in ((0, 1), (1, 0), (0, 2)):  # cut out elsewhere
        moved = (
            slice(CUT[0].start + rows, CUT[0].stop + rows),
            slice(CUT[1].start + columns, CUT[1].stop + columns),
        )
        assert meets(moved, 1.0, SCAN_MS / WHITE_MS) < 0.9


def _replace(config: CameraConfig, **changes: Any) -> CameraConfig:
    return msgspec.structs.replace(config, **changes)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_a_black_and_a_white_are_binned_as_the_camera_bins(tmp_path: Path, mode: str) -> None:
    sensor = Sensor(CONFIG)
    sensor.exposure_ms = 2.0
    now = dt.datetime.now(dt.UTC)
    common = {"exposure": 2.0, "serial number": "S", "acquisition time": now}
    place = {"binning": [1, 1], "hroi": [1, 48], "vroi": [1, 20], **common}
    for stream, (view, kind) in enumerate((("panel", "white"), ("dark", "black"))):
        array = taken(sensor, view, kind, stream + 1).mean.T[None]
        write_envi(tmp_path / "library", kind, array, place)
    lines = binned(exposed(sensor, "scene", 9).astype(np.uint32)[:, CUT[0], CUT[1]])
    cube = lines.astype(np.float32) / (4 if mode == "mean" else 1)
    binned_place = {"binning": [2, 2], "hroi": list(HROI), "vroi": list(VROI), **common}
    source = write_envi(tmp_path, "scan", cube.transpose(0, 2, 1), binned_place)
    result = capture(_replay(tmp_path, source, mode), lines=LINES)
    with swath.open(result.file) as file:
        mean = file.read().astype(np.float64).mean(axis=0).T
    response = sensor.expected_counts(0, "panel") - sensor.expected_counts(0, "dark")
    truth = binned((response * sensor.truth(0))[CUT]) / binned(response[CUT])
    noise = {v: binned(sensor.noise_variance(0, v)[CUT]) for v in ("scene", "panel", "dark")}
    signal = binned(response[CUT])
    panel_share = truth / 0.95
    error = (
        np.sqrt(
            noise["scene"]
            + panel_share**2 * noise["panel"]
            + (1 - panel_share) ** 2 * noise["dark"]
        )
        * 0.95
        / signal
        / np.sqrt(LINES)
    )
    assert share_within(mean, truth, error) >= 0.99
    wrong = capture(_replay(tmp_path, source, "mean" if mode == "sum" else "sum"), lines=LINES)
    with swath.open(wrong.file) as file:
        assert share_within(file.read().mean(axis=0).T, truth, error) < 0.5


def _replay(folder: Path, source: Path, mode: str) -> Path:
    return write_rig(
        folder,
        f"""
[camera]
driver = "replay"
file = "{source}"
rate = "max"
[references]
white = "library"
black = "library"
panel = 0.95
binning_mode = "{mode}"
[pipeline]
backend = "cpu"
[output]
folder = "out"
name = "binned-{mode}"
""",
        f"{mode}.toml",
    )


def test_a_black_between_two_exposures_meets_the_truth() -> None:
    sensor = Sensor(CONFIG)
    blacks = []
    for stream, exposure in enumerate((2.0, 20.0, 60.0)):
        sensor.exposure_ms = exposure
        blacks.append(taken(sensor, "dark", "black", stream + 1))
    fit = fit_bias_rate(blacks)
    for exposure in (8.0, 40.0):
        sensor.exposure_ms = exposure
        truth = sensor.expected_counts(0, "dark")
        made = black_at(fit, exposure, blacks[0])
        assert made.std is not None
        error = made.std.astype(np.float64) / np.sqrt(made.fields["lines averaged"])
        assert share_within(made.mean, truth, error) >= 0.99
        assert share_within(made.mean, truth, error / 2) < 0.95  # the error is no guess
        nearest = min(blacks, key=lambda b: abs((b.exposure or 0) - exposure))
        plain = np.sqrt(sensor.noise_variance(0, "dark") / LINES)
        assert share_within(nearest.mean, truth, plain) < 0.9  # not computed
        scaled = nearest.mean * exposure / (nearest.exposure or 0)
        assert share_within(scaled, truth, plain) < 0.1  # a black is no signal


def test_a_certified_panel_is_weighted_with_each_bands_width(tmp_path: Path) -> None:
    # A panel with absorption lines, narrower and wider than a band.
    nm = np.arange(350.0, 1050.5, 0.5)
    curve = 0.97 - 0.3 * np.exp(-0.5 * ((nm[:, None] - [478.0, 655.0, 845.0]) / 6.0) ** 2).sum(1)
    rows = "".join(f"{x},{y:.6f}\n" for x, y in zip(nm, curve, strict=True))
    (tmp_path / "panel.csv").write_text("nm,reflectance\n" + rows)
    sensor = Sensor(_replace(CONFIG, wavelengths=Wavelengths(first=400, last=1000, fwhm=24.0)))
    # What the sensor's bands see of it, by the definition of their response.
    fine = np.linspace(300.0, 1100.0, 80001)
    true_curve = np.interp(fine, nm, curve)
    sigma = 24.0 / 2.3548200450309493
    seen = np.array(
        [
            np.average(true_curve, weights=np.exp(-0.5 * ((fine - centre) / sigma) ** 2))
            for centre in sensor.axis.wavelength
        ]
    )
    sensor.panel_reflectance = seen[:, None]
    sensor.exposure_ms = 2.0
    white = taken(sensor, "panel", "white", 1)
    black = taken(sensor, "dark", "black", 2)
    raw = exposed(sensor, "scene", 3).astype(np.float64).mean(0)
    truth = sensor.truth(0)
    signal = white.mean.astype(np.float64) - black.mean
    noise = {v: sensor.noise_variance(0, v) for v in ("scene", "panel", "dark")}

    def meets(panel: float | list[float]) -> float:
        corr = ReferenceSet(white, black, None, panel).correction(2.0)
        assert corr is not None
        found = reflectance.apply(raw[None], corr, dtype="f8")[0]
        share = truth / seen[:, None]
        error = np.sqrt(
            noise["scene"] + share**2 * noise["panel"] + (1 - share) ** 2 * noise["dark"]
        )
        return share_within(found, truth, error * seen[:, None] / signal / np.sqrt(LINES))

    weighted, said = panel_reflectance("panel.csv", sensor.axis, tmp_path)
    assert said == []
    assert np.allclose(weighted, seen, rtol=2e-4)
    assert meets(weighted) >= 0.99
    at_centres = panel_reflectance("panel.csv", replace(sensor.axis, fwhm=None), tmp_path)[0]
    assert meets(at_centres) < 0.95  # widths left out
    assert meets(float(np.mean(curve))) < 0.9  # one value for all bands
    assert meets(1.0) < 0.5
