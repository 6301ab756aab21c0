"""Reflectance of a captured scene against its known truth, and every path to it against float64.

The white is taken at another exposure than the scan, with its own dark, from a panel of 0.95, so
that each factor of the formula matters: leaving one out must be seen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rigs import SIMULATED, capture, write_rig

import swath
from drivers.sensor import Sensor
from pipeline import reflectance
from pipeline.reference_run import take_reference
from pipeline.rigfile import load_rig

LINES = 1000
WHITE_MS, SCAN_MS = 1.25, 2.5


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A rig file with references on disk, and a raw capture of 1,000 equal lines made with it."""
    folder = tmp_path_factory.mktemp("truth")
    text = SIMULATED.replace('white = "take"', f'white = "{folder}/white.hdr"').replace(
        'black = "take"', f'black = "{folder}/black.hdr"'
    )
    text = text.replace("[stream]", 'scene = "bars"\n[stream]')
    rig = write_rig(folder, text)
    white_ms = (f"camera.exposure_ms={WHITE_MS}", "camera.fps=750")
    scan_ms = (f"camera.exposure_ms={SCAN_MS}", "camera.fps=390")
    # a white takes its own dark along: white_black
    for kind, settings in (("white", white_ms), ("black", scan_ms)):
        take_reference(load_rig(rig, settings), kind, rig_path=rig, overrides=settings, lines=LINES)
    result = capture(rig, *scan_ms, lines=LINES)
    assert (result.exit_status, result.lost) == (0, 0)
    return rig, Path(result.file)


def shares(scene: tuple[Path, Path], **left_out: object) -> tuple[float, float]:
    """Share of (band, sample) within 3 standard errors, and residual variance over predicted."""
    rig_path, file = scene
    rig = load_rig(rig_path, (f"camera.exposure_ms={SCAN_MS}",))
    sensor = Sensor(rig.camera)
    sensor.exposure_ms = SCAN_MS
    with swath.open(file) as cube:
        raw = np.asarray(cube.raw).transpose(0, 2, 1).astype(float)
        names = cube.references
        arrays = {n: names[n].array.astype(float) for n in ("white", "black", "white_black")}
    settings = {
        "black": arrays["black"],
        "white": arrays["white"],
        "white_black": arrays["white_black"],
        "panel": 0.95,
        "exposure": SCAN_MS,
        "white_exposure": WHITE_MS,
        **left_out,
    }
    corr = reflectance.correction(**settings)
    values = reflectance.apply(raw.astype(np.uint16), corr, dtype="f8")
    mean = values.mean(axis=0)
    truth = sensor.truth(0)
    scan = sensor.noise_variance(0, "scene")
    dark = sensor.noise_variance(0, "dark")
    sensor.exposure_ms = WHITE_MS
    white = sensor.noise_variance(0, "panel") + sensor.noise_variance(0, "dark")
    gain = corr.gain.astype(float)
    signal = arrays["white"] - arrays["white_black"]
    error = np.sqrt(((scan + dark) * gain**2 + truth**2 * white / signal**2) / LINES)
    within = float(np.mean(np.abs(mean - truth) <= 3 * error))
    ratio = float(np.mean(values.var(axis=0, ddof=1) / (scan * gain**2)))
    return within, ratio


def test_the_mean_lies_within_three_standard_errors_of_the_truth(
    scene: tuple[Path, Path],
) -> None:
    within, ratio = shares(scene)
    assert within >= 0.99
    assert 0.9 <= ratio <= 1.1


@pytest.mark.parametrize(
    "left_out",
    [
        {"black": np.zeros((20, 48)), "white_black": np.zeros((20, 48))},
        {"panel": 1.0},
        {"white_exposure": SCAN_MS},
    ],
    ids=["dark", "panel", "exposure ratio"],
)
def test_leaving_out_a_factor_is_seen(
    scene: tuple[Path, Path], left_out: dict[str, object]
) -> None:
    within, _ = shares(scene, **left_out)
    assert within < 0.9


def test_capturing_and_reading_agree_with_float64(scene: tuple[Path, Path]) -> None:
    rig, file = scene
    settings = (f"camera.exposure_ms={SCAN_MS}", "camera.fps=390")
    stored = capture(
        rig, *settings, "pipeline.store=reflectance", "pipeline.reflectance_type=float32", lines=96
    )
    with swath.open(file) as cube, swath.open(stored.file) as direct:
        raw = np.asarray(cube.raw[:96]).astype(float)
        refs = {
            n: cube.references[n].array.astype(float).T for n in ("white", "black", "white_black")
        }
        expected = 0.95 * (raw - refs["black"])
        expected /= (refs["white"] - refs["white_black"]) * SCAN_MS / WHITE_MS
        # float32: (raw − black) · gain, two roundings and those of black and gain
        assert np.allclose(cube.read(lines=slice(0, 96)), expected, rtol=3e-6, atol=3e-7)
        assert np.allclose(np.asarray(direct.raw), expected, rtol=3e-6, atol=3e-7)
        assert np.array_equal(direct.read(), cube.read(lines=slice(0, 96)))
