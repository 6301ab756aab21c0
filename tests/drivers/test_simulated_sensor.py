"""The simulated camera's physics: truth, mean and noise of its counts, binning, ROI, seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.scene import MATERIALS, Scene, spectra
from drivers.sensor import Sensor, View
from pipeline import reflectance
from pipeline.config import CameraConfig, Wavelengths
from pipeline.errors import ConfigError

LINES = 1000
T = 33.0


def config(**settings: Any) -> CameraConfig:
    settings = {"bands": 48, "samples": 64, "seed": 7, "exposure_ms": 3.0} | settings
    return CameraConfig(driver="simulated", **settings)


def take(sensor: Sensor, view: View, lines: int, stream: int, line: int | None = None) -> Any:
    """Lines of one view: (lines, bands, samples)."""
    out = np.empty((lines, sensor.bands, sensor.samples), sensor.format.dtype)
    for i in range(lines):
        sensor.expose(out[i], view, i if line is None else line, T, stream, i)
    return out


@pytest.fixture(scope="module")
def series() -> dict[str, Any]:
    """Darks and a white at 2 ms, darks and a still scene at 3 ms, of one sensor."""
    sensor = Sensor(config(exposure_ms=2.0, scene="bars"))
    white, white_black = take(sensor, "panel", LINES, 1), take(sensor, "dark", LINES, 2)
    sensor.exposure_ms = 3.0
    black, scan = take(sensor, "dark", LINES, 3), take(sensor, "scene", LINES, 4)
    return {
        "sensor": sensor,
        "white": white,
        "white_black": white_black,
        "black": black,
        "scan": scan,
    }


def share_within(series: dict[str, Any], **left_out: Any) -> float:
    """Share of (band, sample) whose mean reflectance lies within 3 standard errors of truth."""
    sensor: Sensor = series["sensor"]
    mean = {k: v.mean(0, dtype=np.float64) for k, v in series.items() if k != "sensor"}
    error = {k: v.var(0, ddof=1, dtype=np.float64) for k, v in series.items() if k != "sensor"}
    settings = {
        "black": mean["black"],
        "white": mean["white"],
        "white_black": mean["white_black"],
        "panel": sensor.panel_reflectance,
        "exposure": 3.0,
        "white_exposure": 2.0,
    } | left_out
    corr = reflectance.correction(**settings)
    measured = (mean["scan"] - corr.black.astype(float)) * corr.gain
    # Propagated through the formula, from what the lines themselves scatter.
    own = (error["scan"] + error["black"]) / LINES
    of_white = (error["white"] + error["white_black"]) / LINES
    signal = mean["white"] - mean["white_black"]
    scale = sensor.panel_reflectance / (signal * 1.5)
    standard_error = np.sqrt(scale**2 * own + (measured / signal) ** 2 * of_white)
    return float(np.mean(np.abs(measured - sensor.truth(0)) < 3 * standard_error))


def test_the_mean_of_1000_lines_is_the_true_reflectance(series: dict[str, Any]) -> None:
    assert share_within(series) >= 0.99


@pytest.mark.parametrize(
    "left_out",
    [
        {"black": np.zeros((48, 64))},
        {"white_black": np.zeros((48, 64))},
        {"panel": 1.0},
        {"exposure": None},
    ],
    ids=lambda left_out: next(iter(left_out)),
)
def test_without_dark_panel_or_exposure_ratio_it_is_not(
    series: dict[str, Any], left_out: dict[str, Any]
) -> None:
    assert share_within(series, **left_out) < 0.9


@pytest.mark.parametrize("view", ["scene", "panel", "dark"])
def test_variance_and_mean_are_those_of_the_model(series: dict[str, Any], view: View) -> None:
    sensor: Sensor = series["sensor"]
    name = {"scene": "scan", "panel": "white", "dark": "black"}[view]
    sensor.exposure_ms = 2.0 if view == "panel" else 3.0
    lines = series[name].astype(np.float64)
    expected, variance = (f(0, view, T) for f in (sensor.expected_counts, sensor.noise_variance))
    ratio = lines.var(0, ddof=1) / variance
    assert 0.98 < ratio.mean() < 1.02
    # Each of 1,000 lines' variance scatters by sqrt(2/999) = 4.5 %.
    assert ratio.std() == pytest.approx(math.sqrt(2 / (LINES - 1)), rel=0.15)
    z = (lines.mean(0) - expected) / np.sqrt(variance / LINES)
    assert np.mean(np.abs(z) < 3) >= 0.99
    assert abs(z.mean()) < 0.1


def test_noise_of_pixels_bands_and_lines_is_independent(series: dict[str, Any]) -> None:
    sensor: Sensor = series["sensor"]
    sensor.exposure_ms = 3.0
    scale = np.sqrt(sensor.noise_variance(0, "scene", T))
    noise = (series["scan"] - sensor.expected_counts(0, "scene", T)) / scale
    along = np.mean(noise[1:] * noise[:-1])
    across = np.mean(noise[:, :, 1:] * noise[:, :, :-1])
    spectral = np.mean(noise[:, 1:] * noise[:, :-1])
    assert max(abs(along), abs(across), abs(spectral)) < 0.01
    common = noise.mean((1, 2)).std()
    assert common == pytest.approx(1 / math.sqrt(48 * 64), rel=0.15)


def test_the_same_seed_makes_the_same_lines_in_any_order() -> None:
    one, other = Sensor(config()), Sensor(config())
    a, b = (np.empty((48, 64), np.uint16) for _ in range(2))
    for line in (5, 2, 900):
        one.expose(a, "scene", line, T, 1, line)
    other.expose(b, "scene", 900, T, 1, 900)
    assert np.array_equal(a, b)
    other.expose(b, "scene", 900, T, 2, 900)
    assert not np.array_equal(a, b)
    Sensor(config(seed=8)).expose(b, "scene", 900, T, 1, 900)
    assert not np.array_equal(a, b)


def test_binning_adds_charges_and_converts_once() -> None:
    plain, binned = Sensor(config(exposure_ms=1.0)), Sensor(config(exposure_ms=1.0, binning=(2, 2)))
    assert (binned.bands, binned.samples) == (24, 32)

    def signal(sensor: Sensor) -> NDArray[np.float64]:
        return sensor.expected_counts(3) - sensor.expected_counts(3, "dark")

    added = signal(plain).reshape(24, 2, 32, 2).sum((1, 3))
    assert signal(binned) == pytest.approx(added, rel=1e-9)
    g = plain.electrons_per_dn
    shot = signal(binned) / g
    dark = binned.noise_variance(3, "dark")
    assert binned.noise_variance(3) == pytest.approx(shot + dark, rel=1e-9)
    # One read noise of 12 electrons and the rounding; the dark current adds a little.
    assert dark.min() > (12 / g) ** 2 + 1 / 12
    assert np.median(dark) < (12 / g) ** 2 + 1 / 12 + 0.1


def test_binned_truth_is_what_a_correction_of_binned_counts_gives() -> None:
    sensor = Sensor(config(binning=(3, 2), exposure_ms=0.5))
    dark = sensor.expected_counts(0, "dark")
    white = sensor.expected_counts(0, "panel") - dark
    measured = 0.95 * (sensor.expected_counts(9) - dark) / white
    assert measured == pytest.approx(sensor.truth(9), rel=1e-9)


def test_roi_and_flip_pick_and_turn_what_the_whole_sensor_sees() -> None:
    settings: dict[str, Any] = {"binning": (2, 1), "exposure_ms": 1.0}
    whole = Sensor(config(**settings))
    part = Sensor(config(**settings, vroi=(3, 20), hroi=(11, 50), flip=["spectral", "spatial"]))
    assert (part.bands, part.samples) == (18, 40)
    for name in ("truth", "expected_counts", "noise_variance"):
        cropped = getattr(whole, name)(4)[2:20, 10:50]
        assert getattr(part, name)(4) == pytest.approx(cropped[::-1, ::-1], rel=1e-12)
    assert np.array_equal(part.axis.wavelength, whole.axis.wavelength[2:20][::-1])
    line, other = np.empty((18, 40), np.uint16), whole.expected_counts(4)[2:20, 10:50][::-1, ::-1]
    part.expose(line, "scene", 4, T, 1, 4)
    assert np.abs(line - other).max() < 6 * math.sqrt(whole.noise_variance(4).max())


def test_wavelengths_of_the_rig_file_decide_on_the_spectra() -> None:
    sensor = Sensor(config(wavelengths=Wavelengths(first=550.0, last=800.0), scene="bars"))
    leaf = sensor.truth(0)[:, MATERIALS.index("mature leaf") * 64 // len(MATERIALS) + 3]
    nm = sensor.axis.wavelength
    green, red, nir = (leaf[np.argmin(np.abs(nm - at))] for at in (550, 675, 790))
    assert red < green < 0.3 < nir
    assert 690 < nm[np.argmax(np.diff(leaf))] < 730  # the red edge


def test_spectra_are_physical() -> None:
    nm = np.arange(350.0, 2500.0)
    values = spectra(nm)
    assert values.min() > 0
    assert values.max() < 1
    leaf = dict(zip(MATERIALS, values.T, strict=True))["young leaf"]
    for band, shoulder in ((970, 900), (1450, 1280), (1940, 1700)):
        assert leaf[band - 350] < leaf[shoulder - 350]


def test_the_panel_saturates_where_it_is_too_bright_and_nowhere_else() -> None:
    for bits in (8, 10, 12, 14, 16):
        sensor = Sensor(config(bit_depth=bits, exposure_ms=12.0))
        line = take(sensor, "panel", 1, 1)[0]
        assert line.max() == 2**bits - 1 == sensor.saturation_level
        assert line.dtype == (np.uint8 if bits == 8 else np.uint16)
        sensor.exposure_ms = 3.0
        assert take(sensor, "panel", 1, 1).max() < sensor.saturation_level


def test_dark_grows_with_exposure_and_temperature() -> None:
    sensor = Sensor(config(exposure_ms=500.0))
    warm, hot = (sensor.expected_counts(0, "dark", t).mean() for t in (31.0, 38.0))
    sensor.exposure_ms = 1e-6
    bias = sensor.expected_counts(0, "dark").mean()
    assert bias == pytest.approx(64, abs=1)
    assert (hot - bias) / (warm - bias) == pytest.approx(2.0, rel=1e-3)


def test_gain_makes_more_counts_of_an_electron() -> None:
    sensor = Sensor(config(exposure_ms=0.2))
    before = sensor.expected_counts(0) - sensor.expected_counts(0, "dark")
    sensor.gain_db = 20.0
    after = sensor.expected_counts(0) - sensor.expected_counts(0, "dark")
    bright = after < 3500
    assert after[bright] == pytest.approx(10 * before[bright], rel=1e-9)


def test_the_shelf_has_every_material_and_comes_round() -> None:
    scene = Scene(96, seed=3)
    assert scene.lines == 144
    shares = np.array([scene.abundance(i) for i in range(scene.lines)])
    assert (shares.sum((0, 2)) > 0).all()
    assert shares.sum(1).max() <= 1.15
    assert np.array_equal(scene.abundance(5), scene.abundance(5 + 144))


def test_a_wide_shelf_has_as_many_columns_and_comes_round() -> None:
    scene = Scene(2501, seed=3)  # painted with half as many points
    assert scene.abundance(0).shape == (len(MATERIALS), 2501)
    assert 1.4 < scene.lines / scene.columns < 1.6
    assert np.array_equal(scene.abundance(7), scene.abundance(7 + scene.lines))
    assert not np.array_equal(scene.abundance(0), scene.abundance(2))
    shares = np.array([scene.abundance(i) for i in range(0, scene.lines, 16)])
    assert (shares.sum((0, 2)) > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hroi": (1, 65)}, r"hroi: found \[1, 65\], allowed are binned pixels 1 to 64"),
        ({"vroi": (2, 25), "binning": (2, 1)}, r"vroi: found \[2, 25\]"),
        ({"binning": (1, 65)}, r"binning: found 65 \(spatial\)"),
        ({"pixel_format": "RGB8"}, "pixel_format: found 'RGB8'"),
    ],
)
def test_what_the_sensor_cannot_do_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sensor(config(**settings))
