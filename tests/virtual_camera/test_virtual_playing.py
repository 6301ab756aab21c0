"""Recordings and rendered scenes are found, described and played."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from virtual_camera import command
from virtual_camera.playing import playing, render

from drivers.simulated import SimulatedCamera
from pipeline.config import CameraConfig, Rig
from pipeline.container.envi import encode_envi, write_envi
from pipeline.errors import ContainerError

FIELDS = {"bit depth": 12, "exposure": 3.0}


def recorded(rng, dtype=np.uint16):
    """A cube (lines, samples, bands)."""
    return rng.integers(0, 4096, (5, 17, 6)).astype(dtype)


def plays(opened, features, cube):
    with opened(**features, AcquisitionFrameRate=0.0) as camera:
        camera.start()
        for frame in camera.frames(7):
            line = cube[frame.frame_id % len(cube)].T.astype(np.uint16)
            assert frame.data.tobytes() == line.tobytes()
        camera.stop()


@pytest.mark.parametrize("interleave", ["bil", "bsq", "bip"])
def test_an_envi_file_is_played_with_the_exposure_it_was_taken_with(
    opened, tmp_path, rng, interleave
):
    cube = recorded(rng)
    header = write_envi(tmp_path, "cube", cube, FIELDS, interleave=interleave)
    for path in (header, tmp_path / "cube.envi"):
        found = playing(path)
        assert (found.bits, found.exposure_us, found.offset) == (12, 3000.0, 0)
        plays(opened, found.features(), cube)


def test_a_container_is_played_from_within(opened, tmp_path, rng):
    cube = recorded(rng)
    header, data = encode_envi(cube, FIELDS)
    with zipfile.ZipFile(tmp_path / "a.hsi", "w") as file:
        file.writestr("data.hdr", header)
        file.writestr("data.envi", data)
    found = playing(tmp_path / "a.hsi")
    assert found.offset > 0
    plays(opened, found.features(), cube)


def test_what_cannot_be_played_is_refused(tmp_path, rng):
    write_envi(tmp_path, "signed", recorded(rng, np.int16))
    write_envi(tmp_path, "big", recorded(rng).astype(">u2"))
    for name in ("signed", "big"):
        with pytest.raises(ContainerError, match=r"allowed are uint8 and little-endian uint16"):
            playing(tmp_path / f"{name}.hdr")


def test_the_simulated_cameras_scene_is_rendered_as_it_would_deliver_it(opened, tmp_path):
    config = CameraConfig(driver="simulated", bands=20, samples=32, exposure_ms=2.5, fps=300.0)
    done = render(tmp_path / "scene.raw", config, 6)
    assert playing(tmp_path / "scene.hdr").features() == {
        k: v for k, v in done.features().items() if "Black" not in k
    }
    cube = np.fromfile(done.file, np.uint16).reshape(6, 20, 32)
    plays(opened, done.features(), cube.transpose(0, 2, 1))
    camera = SimulatedCamera(Rig(camera=config))
    camera.open()
    camera.start("scan")
    line = np.empty((20, 32), np.uint16)
    while camera.fetch(line, 1.0) is None:
        pass
    # the same scene, light and sensor; temperature and noise differ
    assert np.abs(line.astype(int) - cube[0]).max() < 200
    assert np.corrcoef(line.ravel(), cube[0].ravel())[0, 1] > 0.99


def test_a_command_runs_with_the_camera_set_up(producer, tmp_path, rng, capfd, monkeypatch):
    import sys

    header = write_envi(tmp_path, "cube", recorded(rng), FIELDS)
    monkeypatch.setattr(command, "build", lambda *_: producer)
    code = "import os; print(os.environ['SWATH_VIRTUAL_SET']); raise SystemExit(7)"
    arguments = ["play", str(header), "--set", "Gain=3", "--", sys.executable, "-c", code]
    assert command.main(arguments) == 7
    told = capfd.readouterr().out
    assert f"SceneFile={tmp_path / 'cube.envi'};" in told
    assert told.strip().endswith("Gain=3")
    assert command.main(["play", str(header)]) == 0
    assert "export GENICAM_GENTL64_PATH=" in capfd.readouterr().out
    assert command.main(["play", str(tmp_path / "none.hdr")]) == 1


def test_the_measuring_tool_prints_a_rate(producer, settings):
    from virtual_camera.measure import measure

    settings(SceneBands=20, SceneSamples=32)
    got = measure(producer, 0.05, copy=True, PixelFormat="Mono12p")
    assert got["frames"] > 0
    assert got["gb"] > 0
