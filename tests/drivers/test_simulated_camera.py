"""The simulated camera as a camera: its clock and buffers, settings, faults, what it says."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from drivers.camera import Frame
from drivers.cameras import make_camera
from drivers.simulated import CRASH_STATUS, ENCODER_STEP, SimulatedCamera
from pipeline.config import CameraConfig, Faults, Rig, ScanConfig, Wavelengths
from pipeline.errors import CameraError, CameraLostError, ConfigError
from pipeline.layout import NO_VALUE


def rig(**settings: Any) -> Rig:
    # Buffers for long pauses of a busy machine; tests of late readers set their own.
    usual = {"bands": 12, "samples": 16, "seed": 5, "exposure_ms": 0.5, "buffer_frames": 100_000}
    settings = usual | settings
    return Rig(camera=CameraConfig(driver="simulated", **settings))


def opened(**settings: Any) -> SimulatedCamera:
    camera = SimulatedCamera(rig(**settings))
    camera.open()
    return camera


def frames(camera: SimulatedCamera, count: int, kind: str = "scan") -> list[Frame]:
    camera.start(kind)
    found: list[Frame] = []
    while len(found) < count:
        frame = camera.fetch(None, 5.0)
        assert frame is not None
        found.append(frame)
    camera.stop()
    return found


def test_make_camera_makes_it() -> None:
    assert isinstance(make_camera(rig()), SimulatedCamera)


def test_it_says_what_it_is() -> None:
    camera = SimulatedCamera(
        rig(
            bands=20,
            samples=32,
            binning=(2, 1),
            vroi=(2, 4),
            hroi=(5, 20),
            fps=250.0,
            wavelengths=Wavelengths(first=400.0, last=590.0, fwhm=6.0),
        )
    )
    info = camera.open()
    assert (info.bands, info.samples, info.sensor_rows, info.sensor_columns) == (3, 16, 20, 32)
    assert (info.binning, info.vroi, info.hroi) == ((2, 1), (2, 4), (5, 20))
    assert (info.data_type, info.bit_depth, info.saturation_level) == (12, 12, 4095)
    assert (info.exposure_ms, info.fps) == (0.5, 250.0)
    assert info.open_loop
    assert info.has_shutter
    assert info.has_panel
    # Rows lie 10 nm apart: bins of 2 at 405, 425, 445, 465 …; 36 + 8 ln 2 · 3/12 · 100 by hand
    assert info.wavelength == [425.0, 445.0, 465.0]
    assert info.fwhm == pytest.approx([math.sqrt(36 + 138.6294361)] * 3)
    assert info.features["BinningVertical"] == 2
    assert info.features["OffsetX"] == 4
    assert info.features["ExposureTime"] == 500.0
    assert info.settings_differ == {}
    assert info.warnings == []


def test_index_wavelengths_are_numbers_of_bands() -> None:
    info = SimulatedCamera(rig(wavelengths="index", vroi=(3, 5))).open()
    assert info.wavelength == [1.0, 2.0, 3.0]
    assert info.wavelength_units == "Index"


def test_a_rate_that_the_exposure_does_not_allow_is_read_back() -> None:
    info = SimulatedCamera(rig(exposure_ms=4.0, fps=300.0)).open()
    assert info.fps == 250.0
    assert info.settings_differ == {"fps": "asked for 300 Hz, the camera took 250 Hz"}


def test_what_differs_is_told_by_the_key_and_unit_that_the_user_wrote() -> None:
    info = SimulatedCamera(rig(exposure_ms=2500.0, gain=99.0)).open()
    assert info.settings_differ == {
        "exposure_ms": "asked for 2500 ms, the camera took 1000 ms",
        "gain": "asked for 99, the camera took 24",
    }
    info = SimulatedCamera(rig(exposure_ms=None, features={"ExposureTime": 2.5e6})).open()
    text = "asked for 2500000, the camera took 1000000"
    assert info.settings_differ == {"ExposureTime": text}


def test_what_was_not_asked_for_gives_way_without_a_word() -> None:
    info = SimulatedCamera(rig(exposure_ms=40.0)).open()
    assert info.fps == 25.0
    assert info.settings_differ == {}


def test_features_are_set_and_read_back() -> None:
    camera = opened(fps=1000.0, features={"Gain": 6.0})
    assert camera.set_feature("ExposureTime", 2000.0) == 2000.0
    assert camera.set_feature("AcquisitionFrameRate", 1000.0) == 500.0
    assert camera.set_feature("Gain", 99.0) == 24.0
    assert camera.set_feature("ExposureTime", 1.0) == 10.0
    with pytest.raises(CameraError, match=r"feature Gamma: .* allowed are ExposureTime"):
        camera.set_feature("Gamma", 1.0)
    with pytest.raises(CameraError, match="feature Gain: found 'high', allowed is a number"):
        camera.set_feature("Gain", "high")


def test_a_trigger_is_not_waited_for_and_a_warning_says_so() -> None:
    plain = rig()
    info = SimulatedCamera(Rig(camera=plain.camera, scan=ScanConfig(trigger="line"))).open()
    assert any("trigger" in text for text in info.warnings)


def test_frames_follow_the_clock() -> None:
    camera = opened(fps=200.0)
    began = time.monotonic()
    found = frames(camera, 20)
    assert time.monotonic() - began >= 20 / 200
    assert [f.frame_id for f in found] == list(range(1, 21))
    assert {b.host_time_ns - a.host_time_ns for a, b in pairwise(found)} == {5_000_000}
    device = [f.device_time_ns for f in found]
    assert min(device) > NO_VALUE
    assert set(np.diff(device)) == {5_000_000}
    assert [f.encoder for f in found] == [ENCODER_STEP * i for i in range(20)]
    assert abs(found[-1].host_time_ns - time.time_ns()) < 60e9
    assert all(f.complete and f.exposure_ms == 0.5 and 30 < f.temperature_c < 36 for f in found)


def test_nothing_to_fetch_gives_none_in_time() -> None:
    camera = opened(fps=0.5)
    camera.start("scan")
    assert camera.fetch(None, 0.01) is None
    assert camera.fetch(None, 0.0) is None


def test_a_late_reader_finds_what_the_buffers_held_then_a_gap() -> None:
    camera = opened(fps=2000.0, buffer_frames=16)
    camera.start("scan")
    time.sleep(0.1)
    ids = [camera.fetch(None, 1.0).frame_id for _ in range(17)]  # type: ignore[union-attr]
    assert ids[:16] == list(range(1, 17))
    assert ids[16] > 100


def test_lines_show_the_scene_and_repeat_from_the_seed() -> None:
    def lines(seed: int) -> np.ndarray:
        camera = opened(seed=seed, fps=2000.0)
        camera.start("scan")
        out = np.empty((12, 12, 16), np.uint16)
        for line in out:
            assert camera.fetch(line, 5.0) is not None
        return out

    first = lines(5)
    assert np.array_equal(first, lines(5))
    assert not np.array_equal(first, lines(6))
    sensor = opened().sensor
    for i, line in enumerate(first):
        scatter = np.sqrt(sensor.noise_variance(i))
        assert np.abs((line - sensor.expected_counts(i)) / scatter).max() < 6


def taken(camera: SimulatedCamera, count: int, kind: str = "scan") -> np.ndarray:
    camera.start(kind)
    out = np.empty((count, 12, 16), np.uint16)
    for line in out:
        assert camera.fetch(line, 5.0) is not None
    camera.stop()
    return out


def test_a_pool_of_lines_comes_round_and_is_as_true_as_lines_computed_anew() -> None:
    camera = opened(fps=2000.0, pool_lines=5)
    first = taken(camera, 13)
    assert np.array_equal(first[:5], first[5:10])
    assert np.array_equal(first[:3], first[10:])
    assert not np.array_equal(first[0], first[1])
    for i, line in enumerate(first):
        assert np.array_equal(camera.truth(i), camera.sensor.truth(i % 5))
        scatter = np.sqrt(camera.sensor.noise_variance(i % 5))
        assert np.abs(line - camera.sensor.expected_counts(i % 5)).max() < 6 * scatter.max()
    assert np.array_equal(first, taken(camera, 13)), "the pool is drawn once"
    anew = opened(fps=2000.0)
    assert not np.array_equal(first[:5], taken(anew, 5)), "and has noise of its own"


def test_the_pool_follows_the_settings_and_only_scans_take_from_it() -> None:
    camera = opened(fps=2000.0, pool_lines=3)
    dim = taken(camera, 3)
    camera.set_feature("ExposureTime", 250.0)
    dark = taken(camera, 3)
    assert dark.mean() < dim.mean() - 10
    assert np.array_equal(taken(camera, 3), dark)
    camera.shutter(True)
    closed = taken(camera, 3)
    assert closed.mean() < 70 < dark.mean()
    camera.shutter(False)
    camera.panel(True)
    white = taken(camera, 4, "white")
    assert white.mean() > dark.mean() + 30
    assert not np.array_equal(white[0], white[3])


def test_faults_strike_pooled_lines_too() -> None:
    camera = opened(fps=2000.0, pool_lines=2, faults=Faults(incomplete_every=3))
    third = taken(camera, 3)[2]
    assert third[:6].any()
    assert not third[6:].any()
    assert taken(camera, 1).all(), "the pool itself is whole"


def test_a_pool_that_does_not_fit_memory_is_refused() -> None:
    camera = SimulatedCamera(rig(bands=1000, samples=4000, pool_lines=10**9, scene="bars"))
    with pytest.raises(ConfigError, match=r"pool_lines: found 1000000000, .* allowed are \d+"):
        camera.open()


def test_shutter_and_panel_decide_what_is_seen() -> None:
    camera = opened(fps=2000.0)
    line = np.empty((12, 16), np.uint16)

    def seen() -> float:
        camera.start("white")
        assert camera.fetch(line, 5.0) is not None
        return float(line.mean())

    scene = seen()
    camera.panel(True)
    panel = seen()
    camera.shutter(True)
    dark = seen()
    camera.shutter(False)
    camera.panel(False)
    assert dark < 80 < scene < panel
    assert seen() == pytest.approx(scene, rel=0.05)


def test_each_series_has_noise_of_its_own() -> None:
    camera = opened(fps=2000.0)
    camera.shutter(True)
    darks = []
    for _ in range(2):
        camera.start("black")
        line = np.empty((12, 16), np.uint16)
        assert camera.fetch(line, 5.0) is not None
        darks.append(line)
    assert not np.array_equal(darks[0], darks[1])


def test_lost_lines_leave_gaps_in_scans_only() -> None:
    camera = opened(fps=2000.0, faults=Faults(lose_every=5, lose_lines=[2, 3]))
    assert [f.frame_id for f in frames(camera, 8)] == [1, 4, 6, 7, 8, 9, 11, 12]
    assert [f.frame_id for f in frames(camera, 6, "black")] == [1, 2, 3, 4, 5, 6]


def test_late_frames_come_late_and_none_is_lost() -> None:
    camera = opened(fps=1000.0, faults=Faults(late_every=4, late_ms=30.0))
    found = frames(camera, 6)
    assert [f.frame_id for f in found] == [1, 2, 3, 4, 5, 6]
    assert found[3].host_time_ns - found[2].host_time_ns == 31_000_000


def test_incomplete_frames_say_so() -> None:
    camera = opened(fps=2000.0, faults=Faults(incomplete_every=3))
    line = np.empty((12, 16), np.uint16)
    camera.start("scan")
    found = [camera.fetch(line, 5.0) for _ in range(3)]
    assert [f.complete for f in found if f is not None] == [True, True, False]
    assert line[:6].all()
    assert not line[6:].any()


def test_an_unplugged_camera_is_lost_until_it_is_opened_again_and_stays() -> None:
    camera = opened(fps=2000.0, faults=Faults(unplug_after=4))
    with pytest.raises(CameraLostError, match="unplugged after line 4"):
        frames(camera, 10)
    with pytest.raises(CameraLostError):
        camera.start("scan")
    with pytest.raises(CameraLostError):
        camera.fetch(None, 0.0)
    camera.open()
    assert len(frames(camera, 10)) == 10


def test_a_crash_ends_the_process_after_that_many_lines() -> None:
    program = (
        "from drivers.simulated import SimulatedCamera\n"
        "from pipeline.config import *\n"
        "c = SimulatedCamera(Rig(camera=CameraConfig(driver='simulated', bands=4, samples=4,\n"
        "    exposure_ms=0.5, fps=2000.0, faults=Faults(crash_after=3))))\n"
        "c.open(); c.start('scan')\n"
        "while True: print(c.fetch(None, 5.0).frame_id, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == CRASH_STATUS
    assert done.stdout.split() == ["1", "2", "3"]
    assert done.stderr == ""


def test_a_crash_happens_once_in_a_capture_and_in_scans_only() -> None:
    camera = opened(fps=2000.0, faults=Faults(crash_after=3))
    assert len(frames(camera, 6, "black")) == 6
    camera.epoch = 1
    assert len(frames(camera, 6)) == 6


def test_it_refuses_what_is_out_of_order() -> None:
    camera = SimulatedCamera(rig())
    with pytest.raises(CameraError, match="not open"):
        camera.start("scan")
    camera.open()
    with pytest.raises(CameraError, match="does not acquire"):
        camera.fetch(None, 0.0)
    with pytest.raises(CameraError, match="found 'grey', allowed are black, white, scan"):
        camera.start("grey")
    with pytest.raises(CameraError, match="none of its own"):
        camera.reference("white")
    camera.close()
    camera.close()


def test_temperature_drifts_slowly() -> None:
    camera = opened(fps=100.0)
    trace = np.array([camera.temperature(i) for i in range(0, 100 * 3600, 100)])
    assert 30.5 < trace[0] < 31.5
    assert 34 < trace[-1] < 36
    assert np.abs(np.diff(trace)).max() <= 0.0625
