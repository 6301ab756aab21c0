"""Every pixel of every format is what a plain NumPy computation of the scene says."""

from __future__ import annotations

import numpy as np
import pytest
from expected import FORMATS, in_format, packed, seen

WIDTH, HEIGHT = 21, 12


def frames_of(camera, count):
    camera.start()
    taken = [(f.frame_id, f.data.tobytes()) for f in camera.frames(count)]
    camera.stop()
    return taken


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_plays_the_file_as_it_is(opened, scene, name, bits):
    cube, playing = scene(bits=bits)
    black = {"BlackLevel": 0.0} if bits == 8 else {}
    features = playing.features() | {"PixelFormat": name, "AcquisitionFrameRate": 0.0}
    with opened(**features, **black, SceneBlackLevel=black.get("BlackLevel", 64.0)) as camera:
        for frame_id, data in frames_of(camera, 8):
            line = cube[frame_id % len(cube)].astype(np.uint16)
            assert data == packed(in_format(line, bits, name), name)


@pytest.mark.parametrize("name", ["Mono8", "Mono10p", "Mono12", "Mono12p", "Mono12Packed"])
@pytest.mark.parametrize(
    ("down", "across", "average"),
    [(1, 1, False), (2, 1, False), (1, 3, True), (2, 2, False), (3, 4, True)],
)
def test_binning_region_exposure_gain_and_black_level(opened, scene, name, down, across, average):
    cube, playing = scene()
    mode = "Average" if average else "Sum"
    width, height = WIDTH // across - 2, HEIGHT // down - 2
    features = playing.features() | {
        "BinningHorizontalMode": mode,
        "BinningHorizontal": across,
        "BinningVerticalMode": mode,
        "BinningVertical": down,
        "Width": width,
        "OffsetX": 2,
        "Height": height,
        "OffsetY": 1,
        "PixelFormat": name,
        "ExposureTime": 1370.0,
        "Gain": 3.0,
        "BlackLevel": 21.5,
        "AcquisitionFrameRate": 0.0,
    }
    with opened(**features) as camera:
        taken = frames_of(camera, 7)
    for frame_id, data in taken:
        counts = seen(
            cube[frame_id % len(cube)],
            12,
            binning=(down, across),
            average=(average, average),
            scale=1370.0 / 1000.0 * 10 ** (3.0 / 20),
            black=21.5,
        )[1 : 1 + height, 2 : 2 + width]
        assert data == packed(in_format(counts, 12, name), name)


@pytest.mark.parametrize("name", ["Mono8", "Mono12", "Mono12p"])
@pytest.mark.parametrize("across", [1, 2])
def test_a_line_scan_plays_lines_of_one_band(opened, scene, name, across):
    cube, playing = scene(lines=10)
    features = playing.features() | {
        "DeviceScanType": "Linescan",
        "LinescanRow": 5,
        "BinningHorizontal": across,
        "Height": 4,
        "PixelFormat": name,
        "AcquisitionFrameRate": 0.0,
    }
    with opened(**features) as camera:
        for frame_id, data in frames_of(camera, 6):
            lines = [(frame_id * 4 + i) % 10 for i in range(4)]
            counts = seen(cube[lines, 5], 12, binning=(1, across))
            assert data == packed(in_format(counts, 12, name), name)


@pytest.mark.parametrize("name", ["Mono8", "Mono12", "Mono10p", "Mono12Packed"])
def test_padding_at_the_end_of_rows_is_told_and_holds_no_pixels(opened, scene, name):
    cube, playing = scene()
    features = playing.features() | {"PixelFormat": name, "FaultPaddingX": 5}
    with opened(**features, AcquisitionFrameRate=0.0) as camera:
        camera.start()
        for frame in camera.frames(3):
            assert frame[14] == 5
            rows = frame.data.reshape(HEIGHT, -1)
            counts = in_format(cube[frame.frame_id], 12, name)
            for row, line in zip(rows, counts, strict=True):
                assert row[:-5].tobytes() == packed(line, name)
        camera.stop()


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("binning", [1, 2])
def test_the_file_may_have_any_interleave(opened, scene, interleave, binning):
    cube, playing = scene()
    order = {"bil": (0, 1, 2), "bip": (0, 2, 1), "bsq": (1, 0, 2)}[interleave]
    playing.file.write_bytes(b"header!" + cube.transpose(order).tobytes())
    features = playing.features() | {
        "SceneInterleave": interleave,
        "BinningHorizontal": binning,
        "AcquisitionFrameRate": 0.0,
    }
    with opened(**features) as camera:
        for frame_id, data in frames_of(camera, 6):
            counts = seen(cube[frame_id], 12, binning=(1, binning))
            assert data == packed(counts, "Mono12")


def test_without_a_file_the_camera_shows_a_pattern(opened):
    with opened(1, AcquisitionFrameRate=0.0) as camera:
        sample, band = np.arange(640), np.arange(224)[:, None]
        for frame_id, data in frames_of(camera, 3):
            assert data == packed((sample + 3 * band + 101 * frame_id) & 4095, "Mono12")


def test_a_changed_exposure_holds_from_one_of_the_next_frames_on(opened, scene):
    cube, playing = scene()
    with opened(**playing.features(), AcquisitionFrameRate=0.0) as camera:
        camera.start(buffers=2)
        for frame in camera.frames(3):
            assert frame.data.tobytes() == cube[frame.frame_id % 6].tobytes()
        camera.set("ExposureTime", 2000.0)
        for _ in camera.frames(4):
            pass
        for frame in camera.frames(3):
            expected = seen(cube[frame.frame_id % 6], 12, scale=2.0)
            assert frame.data.tobytes() == packed(expected, "Mono12")
        camera.stop()


def test_the_shutter_makes_frames_black(opened, scene):
    cube, playing = scene()
    with opened(**playing.features(), AcquisitionFrameRate=500.0) as camera:
        camera.set("MotorShutter_PulseFwd", 1)
        camera.start()
        black = list(camera.frames(12))[-1].data.view(np.uint16).copy()
        assert camera.get("ShutterClosed") == 1
        camera.set("MotorShutter_PulseRev", 1)
        bright = [f.data.view(np.uint16).max() for f in camera.frames(20)][-1]
        camera.stop()
    assert (black == 64).all()
    assert bright > 64
    assert cube.max() > 64
