"""Recordings and rendered scenes are found, described and played."""

from __future__ import annotations

import errno
import os
import re
import zipfile

import numpy as np
import pytest
from virtual_camera.playing import playing
from virtual_camera.rendering import render

from drivers.sensor import Sensor
from drivers.simulated import SimulatedCamera
from pipeline.config import CameraConfig, Rig
from pipeline.container.envi import encode_envi, write_envi
from pipeline.errors import ConfigError, ContainerError, StorageError

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


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("lines = 5", "lines = 500", "bytes of data, 500 ×"),
        ("lines = 5", "lines = 0", "lines: found 0"),
        ("header offset = 0", "header offset = 99", "header offset 99 need"),
        ("samples = 17", "samples = 70000", "samples: found 70000, the camera has 1 to 65536"),
        *(
            ("bit depth = 12", f"bit depth = {bad}", f"bit depth: found {bad}")
            for bad in ("nan", "inf", "99", "0", "11.5", "-1", "many")
        ),
        *(
            ("exposure = 3.0", f"exposure = {bad}", f"exposure: found {bad}")
            for bad in ("nan", "inf", "1e+300", "-1", "long")
        ),
    ],
)
def test_a_header_that_promises_what_is_not_there_is_refused(tmp_path, rng, was, becomes, said):
    header = write_envi(tmp_path, "cube", recorded(rng), FIELDS)
    text = header.read_text()
    assert was in text
    header.write_text(text.replace(was, becomes))
    with pytest.raises(ContainerError, match=rf"cube.*{re.escape(said)}"):
        playing(header)


def test_a_container_that_promises_what_is_not_there_is_refused(tmp_path, rng):
    header, data = encode_envi(recorded(rng), FIELDS)
    with zipfile.ZipFile(tmp_path / "a.hsi", "w") as file:
        file.writestr("data.hdr", header.replace(b"lines = 5", b"lines = 6"))
        file.writestr("data.envi", data)
    with pytest.raises(ContainerError, match=r"a\.hsi.*bytes of data, 6 ×"):
        playing(tmp_path / "a.hsi")


def test_a_panel_is_rendered_as_a_white_is_taken(tmp_path):
    config = CameraConfig(driver="simulated", bands=20, samples=32, exposure_ms=2.5)
    scene, white, dark = (
        np.fromfile(render(tmp_path / f"{view}.raw", config, 5, view).file, np.uint16).mean()
        for view in ("scene", "panel", "dark")
    )
    assert dark < scene < white


def test_a_file_that_cannot_be_rendered_leaves_nothing_behind(tmp_path, monkeypatch):
    config = CameraConfig(driver="simulated", bands=20, samples=32)
    (tmp_path / "folder.raw").mkdir()
    for name in ("scene.hdr", "scene.hsi", "folder.raw", "none/scene.raw"):
        with pytest.raises(ConfigError, match=r"found|no folder"):
            render(tmp_path / name, config, 2)
    with pytest.raises(StorageError, match=r"scene\.raw: .* GB are free"):
        render(tmp_path / "scene.raw", config, 10**15)

    def full(self, *args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Sensor, "expose", full)
    with pytest.raises(StorageError, match=r"scene\.raw: cannot be written \(No space left"):
        render(tmp_path / "scene.raw", config, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.raw"]


def test_the_measuring_tool_prints_a_rate(producer, settings):
    from virtual_camera.measure import measure

    settings(SceneBands=20, SceneSamples=32)
    got = measure(producer, 0.05, copy=True, PixelFormat="Mono12p")
    assert got["frames"] > 0
    assert got["gb"] > 0
