"""A recording as a camera: the same bits, ids, times, fields and references as recorded."""

from __future__ import annotations

import mmap
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.camera import EndOfFrames, Frame
from drivers.cameras import make_camera
from drivers.replay import ReplayCamera
from pipeline.config import CameraConfig, Rig, Wavelengths
from pipeline.container.envi import encode_envi, write_envi
from pipeline.container.header import Header
from pipeline.container.ledger import encode_csv
from pipeline.errors import CameraError, ConfigError, ContainerError
from pipeline.layout import (
    ENVI_TYPES,
    NO_VALUE,
    LedgerRows,
    LineStatus,
    LossReason,
    envi_dtype,
    ledger_rows,
)

START_NS = 1_700_000_000_000_000_000


def rig(file: Path, **settings: Any) -> Rig:
    return Rig(camera=CameraConfig(driver="replay", file=str(file), **({"rate": "max"} | settings)))


def opened(file: Path, **settings: Any) -> ReplayCamera:
    camera = ReplayCamera(rig(file, **settings))
    camera.open()
    return camera


def play(camera: ReplayCamera, dtype: Any, shape: tuple[int, int]) -> tuple[Any, list[Frame]]:
    """All lines (lines, bands, samples) and frames until the end."""
    lines: list[NDArray[Any]] = []
    frames: list[Frame] = []
    camera.start("scan")
    while True:
        line = np.empty(shape, dtype)
        try:
            frame = camera.fetch(line, 5.0)
        except EndOfFrames:
            return np.array(lines), frames
        assert frame is not None
        lines.append(line)
        frames.append(frame)


def random_cube(rng: np.random.Generator, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Random bits, NaN payloads included: (lines, samples, bands)."""
    size = 7 * 5 * 3 * dtype.itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(7, 5, 3)


def container(
    path: Path, cube: NDArray[Any], ledger: LedgerRows | None = None, **fields: Any
) -> Path:
    """Write an .hsi with the references white and black, as any ZIP program would."""
    entries = dict(zip(("data.hdr", "data.envi"), encode_envi(cube, fields), strict=True))
    if ledger is not None:
        entries["Metadata/lines.csv"] = encode_csv(ledger)
    for name, value in (("white", 3000.0), ("black", 60.5)):
        mean = np.full((1, cube.shape[1], cube.shape[2]), value, np.float32)
        mean += np.arange(cube.shape[2], dtype=np.float32)
        header, data = encode_envi(mean, {"exposure": 2.5, "serial number": "A 7"})
        entries[f"Reference/{name}.hdr"], entries[f"Reference/{name}.envi"] = header, data
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def full_ledger(lines: int, first_id: int = 41) -> LedgerRows:
    rows = ledger_rows(lines)
    rows["line"] = np.arange(lines)
    rows["frame_id"] = first_id + np.arange(lines)
    rows["host_time_ns"] = START_NS + np.arange(lines) * 10_000_000
    rows["device_time_ns"] = 500 + np.arange(lines)
    rows["encoder"] = 4 * np.arange(lines)
    rows["exposure_ms"] = 2.5
    rows["temperature_c"] = 31.5
    return rows


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", ENVI_TYPES)
def test_lines_are_the_same_bits_in_native_order(
    tmp_path: Path, rng: np.random.Generator, code: int, order: str, interleave: str
) -> None:
    dtype = envi_dtype(code, "<>".index(order))
    cube = random_cube(rng, dtype)
    camera = ReplayCamera(rig(write_envi(tmp_path, "cube", cube, interleave=interleave)))
    info = camera.open()
    assert (info.lines, info.bands, info.samples, info.data_type) == (7, 3, 5, code)
    assert not info.open_loop
    native = envi_dtype(code, 0)
    lines, frames = play(camera, native, (3, 5))
    stored = np.ascontiguousarray(cube.transpose(0, 2, 1))
    assert lines.dtype == native
    assert lines.tobytes() == (stored if dtype == native else stored.byteswap()).tobytes()
    assert [f.frame_id for f in frames] == list(range(1, 8))
    camera.close()


def test_every_field_of_the_source_comes_along_in_order_and_spelling(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(2 * 3 * 4 * 2))
    (tmp_path / "a.hdr").write_text(
        "ENVI\n; serial G4-12\ndescription = {two, with a comma}\nsamples = 3\nlines = 2\n"
        "bands = 4\ndata type = 12\ninterleave = bil\nbyte order = 0\nheader offset = 0\n"
        "file type = ENVI Standard\nMy_Odd Field = {x, {y, z}, 3}\nbbl = {1, 1, 0, 1}\n"
        "wavelength units = Micrometers\nwavelength = {0.5,\n 0.6, 0.7,\n 0.8}\n"
        "fwhm = {0.01, 0.01, 0.02, 0.02}\nfps = 50\nexposure = 4.5\nsensor type = FX\n"
        "bit depth = 12\nbinning = {2, 1}\nvroi = {3, 6}\ntemperature = 29.5\n",
        encoding="utf-8",
    )
    camera = ReplayCamera(rig(tmp_path / "a.hdr"))
    info = camera.open()
    names = [name for name, _ in info.header]
    assert names[:3] == ["description", "My_Odd Field", "bbl"]
    assert "samples" not in names
    again = Header.parse(
        "ENVI\nsamples = 3\nlines = 2\nbands = 4\ndata type = 12\ninterleave = bil\n"
        + "".join(f"{name} = {text}\n" for name, text in info.header)
    )
    source = Header.parse((tmp_path / "a.hdr").read_bytes())
    assert again == source
    assert info.comments == ["serial G4-12"]
    assert info.wavelength == pytest.approx([500, 600, 700, 800])
    assert info.fwhm == pytest.approx([10, 10, 20, 20])
    assert info.wavelength_units == "Nanometers"
    assert (info.exposure_ms, info.fps, info.sensor_type) == (4.5, 50.0, "FX")
    assert (info.bit_depth, info.saturation_level) == (12, 4095)
    assert (info.binning, info.vroi, info.hroi) == ((2, 1), (3, 6), None)
    _, frames = play(camera, np.uint16, (4, 3))
    assert frames[0].exposure_ms == 4.5
    assert frames[0].temperature_c == 29.5
    assert frames[0].device_time_ns == NO_VALUE


def test_without_wavelengths_bands_are_numbered_with_a_warning(tmp_path: Path) -> None:
    cube = np.zeros((2, 3, 4), np.int16)
    info = ReplayCamera(rig(write_envi(tmp_path, "a", cube))).open()
    assert info.wavelength == [1, 2, 3, 4]
    assert info.wavelength_units == "Index"
    assert any("wavelengths" in text for text in info.warnings)
    assert (info.bit_depth, info.saturation_level) == (16, 32767)


def test_a_container_brings_its_ledger_and_references(tmp_path: Path) -> None:
    cube = np.arange(6 * 5 * 3, dtype=np.uint16).reshape(6, 5, 3)
    camera = ReplayCamera(rig(container(tmp_path / "a.hsi", cube, full_ledger(6))))
    info = camera.open()
    assert sorted(info.references) == ["black", "white"]
    lines, frames = play(camera, np.uint16, (3, 5))
    assert np.array_equal(lines, cube.transpose(0, 2, 1))
    assert [f.frame_id for f in frames] == list(range(41, 47))
    assert [f.host_time_ns for f in frames] == [START_NS + i * 10_000_000 for i in range(6)]
    assert [f.device_time_ns for f in frames] == list(range(500, 506))
    assert [f.encoder for f in frames] == [0, 4, 8, 12, 16, 20]
    assert {f.exposure_ms for f in frames} == {2.5}
    array, fields = camera.reference("white")
    assert array.shape == (3, 5)
    assert array.dtype == np.float32
    assert array[:, 0].tolist() == [3000, 3001, 3002]
    assert fields["serial number"] == "A 7"
    assert float(fields["exposure"]) == 2.5
    with pytest.raises(CameraError, match="asked for 'grey', the replayed file has"):
        camera.reference("grey")


def test_lost_lines_are_lost_again_in_the_same_places(tmp_path: Path) -> None:
    cube = np.arange(8 * 5 * 3, dtype=np.uint16).reshape(8, 5, 3)
    stored = full_ledger(8)
    lost = [0, 3, 4, 7]
    stored["status"][lost] = LineStatus.LOST
    stored["reason"][lost] = LossReason.CAMERA
    stored["frame_id"][6:] += 1000
    gap = ledger_rows(1)
    gap["count"], gap["status"], gap["reason"] = 1000, LineStatus.LOST, LossReason.CAMERA
    ledger = np.concatenate([stored[:6], gap, stored[6:]])
    camera = ReplayCamera(rig(container(tmp_path / "a.hsi", cube, ledger)))
    assert camera.open().lines == 1008
    lines, frames = play(camera, np.uint16, (3, 5))
    # The first and the last have no ids around them: they come as incomplete frames.
    assert [f.frame_id - 41 for f in frames] == [0, 1, 2, 5, 1006, 1007]
    assert [f.complete for f in frames] == [False, True, True, True, True, False]
    assert np.array_equal(lines[1:5], cube.transpose(0, 2, 1)[[1, 2, 5, 6]])


def test_ids_of_several_epochs_become_one_row(tmp_path: Path) -> None:
    ledger = full_ledger(6)
    ledger["frame_id"] = [1, 2, 3, 1, 2, 3]
    ledger["epoch"] = [0, 0, 0, 1, 1, 1]
    camera = opened(container(tmp_path / "a.hsi", np.zeros((6, 2, 2), np.uint16), ledger))
    assert [f.frame_id for f in play(camera, np.uint16, (2, 2))[1]] == [1, 2, 3, 4, 5, 6]


def test_a_ledger_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    path = container(tmp_path / "a.hsi", np.zeros((6, 2, 2), np.uint16), full_ledger(5))
    camera = ReplayCamera(rig(path))
    assert any("not used" in text for text in camera.open().warnings)
    assert len(play(camera, np.uint16, (2, 2))[1]) == 6


def test_loops_go_on_counting(tmp_path: Path) -> None:
    cube = np.arange(3 * 2 * 2, dtype=np.uint16).reshape(3, 2, 2)
    path = container(tmp_path / "a.hsi", cube, full_ledger(3, first_id=7))
    camera = opened(path, loops=3)
    lines, frames = play(camera, np.uint16, (2, 2))
    assert [f.frame_id for f in frames] == list(range(7, 16))
    assert np.array_equal(lines, np.tile(cube.transpose(0, 2, 1), (3, 1, 1)))
    assert np.all(np.diff([f.host_time_ns for f in frames]) == 10_000_000)
    endless = ReplayCamera(rig(path, loops=0))
    assert endless.open().lines is None
    endless.start("scan")
    assert [endless.fetch(None, 1.0).frame_id for _ in range(50)][-1] == 56  # type: ignore[union-attr]


def test_seek_goes_on_where_another_left_off(tmp_path: Path) -> None:
    cube = np.arange(6 * 2 * 2, dtype=np.uint16).reshape(6, 2, 2)
    camera = opened(container(tmp_path / "a.hsi", cube, full_ledger(6)))
    camera.seek(4)
    lines, frames = play(camera, np.uint16, (2, 2))
    assert [f.frame_id for f in frames] == [45, 46]
    assert np.array_equal(lines, cube.transpose(0, 2, 1)[4:])
    camera.stop()
    assert len(play(camera, np.uint16, (2, 2))[1]) == 6


@pytest.mark.parametrize("rate", ["recorded", 100.0])
def test_a_paced_replay_takes_its_time(tmp_path: Path, rate: Any) -> None:
    path = container(tmp_path / "a.hsi", np.zeros((16, 2, 2), np.uint16), full_ledger(16))
    camera = opened(path, rate=rate)
    began = time.monotonic()
    _, frames = play(camera, np.uint16, (2, 2))
    assert time.monotonic() - began >= 0.149
    assert len(frames) == 16


def test_a_line_that_is_not_due_gives_none(tmp_path: Path) -> None:
    camera = opened(write_envi(tmp_path, "a", np.zeros((3, 2, 2), np.uint16)), rate=0.02)
    camera.start("scan")
    assert camera.fetch(None, 0.0) is not None
    assert camera.fetch(None, 0.01) is None


def test_recorded_pace_without_a_ledger_is_that_of_fps_else_as_fast_as_taken(
    tmp_path: Path,
) -> None:
    cube = np.zeros((11, 2, 2), np.uint16)
    began = time.monotonic()
    play(opened(write_envi(tmp_path, "a", cube, {"fps": 100}), rate="recorded"), "<u2", (2, 2))
    assert time.monotonic() - began >= 0.099
    camera = ReplayCamera(rig(write_envi(tmp_path, "b", cube), rate="recorded"))
    assert any("as fast as it is taken" in text for text in camera.open().warnings)
    assert len(play(camera, np.uint16, (2, 2))[1]) == 11


def test_dropped_lines_are_described_all_the_same(tmp_path: Path) -> None:
    camera = opened(write_envi(tmp_path, "a", np.zeros((2, 2, 2), np.uint16)))
    camera.start("scan")
    frame = camera.fetch(None, 1.0)
    assert frame is not None
    assert frame.frame_id == 1


def test_pages_are_given_back_along_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    class Spy:
        def madvise(self, advice: int) -> None:
            given.append(advice)

    monkeypatch.setattr("drivers.replay.RELEASE_BYTES", 4 * 8)
    camera = opened(write_envi(tmp_path, "a", np.zeros((40, 2, 2), np.uint16)))
    assert isinstance(camera._map, mmap.mmap)
    camera._map = Spy()  # type: ignore[assignment]
    play(camera, np.uint16, (2, 2))
    assert given == [mmap.MADV_DONTNEED] * 10


def test_what_a_recording_cannot_do_is_refused(tmp_path: Path) -> None:
    path = write_envi(tmp_path, "a", np.zeros((2, 2, 2), np.uint16))
    camera = ReplayCamera(rig(path))
    with pytest.raises(CameraError, match="not open"):
        camera.start("scan")
    camera.open()
    for kind in ("black", "white"):
        with pytest.raises(CameraError, match=f"found '{kind}'"):
            camera.start(kind)
    for refuse in (
        lambda: camera.shutter(True),
        lambda: camera.panel(True),
        lambda: camera.set_feature("Gain", 1),
        lambda: camera.fetch(None, 0.0),
    ):
        with pytest.raises(CameraError):
            refuse()
    camera.close()
    camera.close()
    with pytest.raises(ContainerError, match="no such file"):
        ReplayCamera(rig(tmp_path / "none.hsi")).open()
    pca = write_envi(tmp_path, "pca", np.zeros((2, 2, 2), np.int16), {"file type": "PCA"})
    with pytest.raises(ConfigError, match="found PCA scores"):
        ReplayCamera(rig(pca)).open()


def test_settings_of_a_live_camera_are_warned_of(tmp_path: Path) -> None:
    path = write_envi(tmp_path, "a", np.zeros((2, 2, 2), np.uint16))
    warnings = ReplayCamera(rig(path, gain=2.0, spectral_axis="width")).open().warnings
    assert [t for t in warnings if "gain" in t]
    assert [t for t in warnings if "spectral_axis" in t]
    assert not [t for t in warnings if "pixel_format" in t]


@pytest.mark.parametrize(
    "setting",
    [
        {"binning": (2, 1)},
        {"hroi": (1, 2)},
        {"vroi": (1, 2)},
        {"flip": ["spectral"]},
        {"wavelengths": Wavelengths(first=400.0, last=700.0)},
        {"wavelengths": "index"},
        {"wavelengths": "table.csv"},
    ],
)
def test_settings_that_contradict_the_recording_are_refused(
    tmp_path: Path, setting: dict[str, Any]
) -> None:
    cube = np.zeros((2, 2, 2), np.uint16)
    path = write_envi(tmp_path, "a", cube, {"wavelength": [500, 600]})
    (key,) = setting
    with pytest.raises(ConfigError, match=rf"^\[camera\] {key}: a replay keeps its source's; rem"):
        ReplayCamera(rig(path, **setting)).open()


def test_bands_may_be_numbered_where_the_recording_has_no_wavelengths(tmp_path: Path) -> None:
    path = write_envi(tmp_path, "a", np.zeros((2, 2, 2), np.uint16))
    info = ReplayCamera(rig(path, wavelengths="index")).open()
    assert (info.wavelength, info.wavelength_units) == ([1, 2], "Index")


def test_make_camera_makes_it(tmp_path: Path) -> None:
    path = write_envi(tmp_path, "a", np.zeros((2, 2, 2), np.uint16))
    assert isinstance(make_camera(rig(path)), ReplayCamera)
