"""Whole captures through real processes, sockets and files: from a camera to a finished .hsi."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rigs import capture, replay_rig, write_rig

import swath
from pipeline import reflectance
from pipeline.container.envi import write_envi
from pipeline.container.validate import validate
from pipeline.errors import ConfigError, SwathError
from pipeline.events import Event, Finished, Loss, Progress, ReferenceTaken
from pipeline.layout import LineStatus


def errors_of(path: str | Path) -> list[str]:
    return [str(f) for f in validate(path) if f.level == "error"]


def float64_reflectance(cube: swath.Container) -> np.ndarray:
    """Reflectance in float64, written out again here, from what is in the file."""
    black = cube.references["black"].array.astype(float)
    white = cube.references["white"].array.astype(float)
    raw = np.asarray(cube.raw).transpose(0, 2, 1).astype(float)
    panel = np.asarray(cube.references["white"].header.floats("white reflectance"))
    out = panel.reshape(-1, 1) * (raw - black) / (white - black)
    return out.transpose(0, 2, 1)


def test_a_capture_takes_references_and_ends_in_a_valid_container(tmp_path: Path) -> None:
    events: list[Event] = []
    result = capture(write_rig(tmp_path), events=events, lines=150)
    assert result.exit_status == 0
    assert (result.lines, result.lost, result.backend) == (150, 0, "cpu")
    assert Path(result.file) == tmp_path / "out" / "leaf.hsi"
    assert not list(tmp_path.glob("out/*.partial*"))
    assert errors_of(result.file) == []
    with zipfile.ZipFile(result.file) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
    assert {"thumbnail.jpg", "preview.envi", "preview.hdr", "Exploration/quality.envi"} <= names
    with swath.open(result.file) as cube:
        assert cube.raw.shape == (150, 48, 20)
        assert cube.header["exposure"] == 2.0
        assert cube.header["fps"] == pytest.approx(400.0)
        assert cube.header["binning"] == [1, 1]
        assert cube.header["bit depth"] == 12
        assert cube.header["saturation level"] == 4095
        assert cube.header["target"] == "leaf"
        assert cube.header["read procedures"] == ["microservice:reflectance"]
        assert cube.wavelengths[[0, -1]].tolist() == [400.0, 1000.0]
        assert cube.ledger["frame_id"].tolist() == list(range(1, 151))
        assert np.all(cube.ledger["status"] == LineStatus.OK)
        assert np.all(np.isfinite(cube.ledger["temperature_c"]))
        got = cube.read()
        assert np.allclose(got, float64_reflectance(cube), rtol=1e-5, atol=1e-6)
        preview = cube.preview()
        mean = got[:4, :4, 3].mean()
        assert preview.read()[0, 0, 3] == pytest.approx(mean, abs=1e-3)
        assert cube.thumbnail[:3] == b"\xff\xd8\xff"
    kinds = [event.kind for event in events if isinstance(event, ReferenceTaken)]
    assert kinds == ["black", "white"]
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, Progress) for event in events)
    last = max(i for i, event in enumerate(events) if isinstance(event, ReferenceTaken))
    taking = [event for event in events[:last] if isinstance(event, Progress)]
    assert all(event.lines_per_second > 0 for event in taking)
    assert taking


def test_stored_reflectance_equals_reading_the_raw_counts(tmp_path: Path) -> None:
    path = write_rig(tmp_path)
    result = capture(path, "pipeline.store=reflectance", lines=60)
    assert errors_of(result.file) == []
    raw = capture(path, lines=60)
    with swath.open(result.file) as stored, swath.open(raw.file) as cube:
        assert stored.header.dtype == np.int16
        assert stored.header["reflectance scale factor"] == 10000
        assert "read procedures" not in stored.header
        # the simulated camera is reproducible: both scans saw the same counts
        expected, clipped = reflectance.quantise(cube.read())
        assert clipped == 0
        assert np.abs(np.asarray(stored.raw).astype(int) - expected).max() <= 1
        assert np.allclose(stored.read(), float64_reflectance(cube), atol=6e-5)


def test_pca_reads_back_close_to_the_counts(tmp_path: Path) -> None:
    path = write_rig(tmp_path)
    settings = ("pipeline.pca.components=20", "pipeline.pca.block_lines=40")
    result = capture(path, "pipeline.store=pca", *settings, lines=100)
    assert errors_of(result.file) == []
    raw = capture(path, lines=100)
    with swath.open(result.file) as stored, swath.open(raw.file) as cube:
        assert stored.header["file type"] == "PCA"
        assert stored.header["pca bands"] == 20
        assert stored.wavelengths.tolist() == cube.wavelengths.tolist()
        # all components kept: what is left is the quantiser, at most 0.25 counts a score
        counts = (stored.read() - cube.read()) / cube.correction().gain.T
        assert np.abs(counts).max() < 0.25 * np.sqrt(20) + 0.01
        assert np.abs(counts).max() > 0.01
        assert len(stored.ledger) == 100


def test_lost_lines_keep_their_place_and_are_told(tmp_path: Path) -> None:
    events: list[Event] = []
    result = capture(
        write_rig(tmp_path), "camera.faults.lose_lines=[5, 30, 31]", events=events, lines=100
    )
    assert (result.exit_status, result.lines, result.lost) == (3, 100, 3)
    assert errors_of(result.file) == []
    with swath.open(result.file) as cube:
        lost = np.flatnonzero(cube.ledger["status"] == LineStatus.LOST)
        assert lost.tolist() == [4, 29, 30]
        assert np.all(np.asarray(cube.raw[lost]) == 65535)
        assert np.isnan(cube.read(lines=lost.tolist())).all()
        assert cube.header["lines lost"] == 3
        assert cube.lost == 3
    assert sum(event.count for event in events if isinstance(event, Loss)) == 3


def test_skipped_gaps_are_one_row_each(tmp_path: Path) -> None:
    result = capture(
        write_rig(tmp_path),
        "camera.faults.lose_lines=[5, 30, 31]",
        'stream.gaps="skip"',
        lines=100,
    )
    assert (result.exit_status, result.lines, result.lost) == (3, 97, 3)
    with swath.open(result.file) as cube:
        gaps = cube.ledger[cube.ledger["line"] < 0]
        assert gaps["count"].tolist() == [1, 2]
        assert cube.raw.shape[0] == 97
    assert errors_of(result.file) == []


@pytest.mark.parametrize("fault", ["crash_after=60", "unplug_after=60"])
def test_a_camera_that_goes_away_comes_back_in_a_new_epoch(tmp_path: Path, fault: str) -> None:
    result = capture(write_rig(tmp_path), f"camera.faults.{fault}", lines=300)
    assert result.exit_status == 3
    with swath.open(result.file) as cube:
        ledger = cube.ledger
        assert int(ledger["count"].sum()) == 300
        assert set(ledger["epoch"].tolist()) >= {0, 1}
        away = ledger[ledger["status"] == LineStatus.LOST]
        assert int(away["count"].sum()) == result.lost > 0
    assert errors_of(result.file) == []


def test_a_stop_finishes_the_file(tmp_path: Path) -> None:
    stop = threading.Event()
    events: list[Event] = []

    class Stopper(list):
        def append(self, event: Event) -> None:
            events.append(event)
            if isinstance(event, Progress) and event.lines > 20:
                stop.set()

    result = capture(write_rig(tmp_path), events=Stopper(), stop=stop)
    assert result.exit_status == 0
    assert 20 < result.lines < 2000
    assert errors_of(result.file) == []


def test_seconds_end_a_scan(tmp_path: Path) -> None:
    result = capture(write_rig(tmp_path), seconds=0.5)
    assert result.exit_status == 0
    assert 20 < result.lines <= 240


def test_an_existing_out_is_refused_before_anything_starts(tmp_path: Path) -> None:
    out = tmp_path / "there.hsi"
    out.write_bytes(b"precious")
    with pytest.raises(ConfigError, match=r"there\.hsi: exists already"):
        capture(write_rig(tmp_path), lines=10, out=out)
    assert out.read_bytes() == b"precious"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    path = write_rig(tmp_path)
    first, second = (capture(path, lines=16).file for _ in range(2))
    assert (Path(first).name, Path(second).name) == ("leaf.hsi", "leaf-2.hsi")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pipeline.store=reflectance", r"needs references, missing: white, black"),
        ("metadata.target=a{b", r"\[metadata\] target"),
        ('output.name="{nothing}"', r"\{nothing\} is unknown"),
        ("scan.lines=10000000000", r"GB free"),
        ("pipeline.backend=cuda", r"cuda"),
    ],
)
def test_what_cannot_work_is_refused_when_arming(
    tmp_path: Path, override: str, message: str
) -> None:
    from rigs import SIMULATED

    text = SIMULATED.replace('white = "take"', "").replace('black = "take"', "")
    with pytest.raises(SwathError, match=message):
        capture(write_rig(tmp_path, text), override)
    assert not list(tmp_path.glob("out/*"))


def test_a_live_camera_without_wavelengths_is_refused(tmp_path: Path) -> None:
    from rigs import SIMULATED

    from pipeline.arming import settle_axis
    from pipeline.rigfile import load_rig
    from pipeline.stream.messages import CameraInfo

    text = SIMULATED.replace("wavelengths = { first = 400.0, last = 1000.0, fwhm = 5.0 }", "")
    rig = load_rig(write_rig(tmp_path, text))
    info = CameraInfo(
        driver="genicam",
        sensor_type="x",
        bands=20,
        samples=48,
        data_type=12,
        bit_depth=12,
        saturation_level=4095,
    )
    with pytest.raises(ConfigError, match=r"\[camera\] wavelengths: missing"):
        settle_axis(rig, info, tmp_path, lambda text: None)


@pytest.mark.parametrize(("interleave", "order"), [("bil", "<"), ("bip", ">"), ("bsq", "<")])
def test_a_replay_gives_the_same_cube_and_keeps_every_field(
    tmp_path: Path, rng: np.random.Generator, interleave: str, order: str
) -> None:
    cube = rng.integers(0, 4096, (53, 31, 7), np.uint16).astype(order + "u2")
    fields = {
        "wavelength": [400.5 + 10 * i for i in range(7)],
        "wavelength units": "Nanometers",
        "fwhm": [5.25] * 7,
        "bbl": [1, 1, 0, 1, 1, 1, 1],
        "data ignore value": 0,
        "sensor type": "Old Camera, 2nd",
        "My Own Field": "kept as it is",
        "acquisition time": "2019-05-04T03:02:01.5Z",
        "exposure": 7.5,
        "description": "first, second",
    }
    source = write_envi(tmp_path, "source", cube, fields, interleave=interleave)
    result = capture(replay_rig(tmp_path, source))
    assert result.exit_status == 0
    assert errors_of(result.file) == []
    before = swath.read_header(source)
    with swath.open(result.file) as copy:
        assert np.array_equal(copy.raw, cube)
        for name in fields:
            assert copy.header[name] == before[name], name
        assert "My Own Field" in list(copy.header)


def test_a_capture_replayed_gives_reflectance_from_its_own_references(tmp_path: Path) -> None:
    first = capture(write_rig(tmp_path), "camera.faults.lose_lines=[10]", lines=64)
    again = capture(replay_rig(tmp_path, Path(first.file)), lines=64)
    assert (again.lines, again.lost, again.exit_status) == (64, 1, 3)
    with swath.open(first.file) as one, swath.open(again.file) as two:
        assert np.array_equal(one.raw, two.raw)
        assert np.array_equal(one.ledger["frame_id"], two.ledger["frame_id"])
        assert np.allclose(one.read(), two.read(), equal_nan=True, rtol=1e-6)


def test_commands_before_and_after_the_scan_run(tmp_path: Path) -> None:
    result = capture(
        write_rig(tmp_path),
        'scan.before=["echo there > before.txt"]',
        'scan.after=["echo back > after.txt"]',
        lines=16,
    )
    assert result.exit_status == 0
    assert (tmp_path / "before.txt").read_text() == "there\n"
    assert (tmp_path / "after.txt").read_text() == "back\n"
    with pytest.raises(ConfigError, match=r"\[scan\] before: 'exit 7' ended with 7"):
        capture(write_rig(tmp_path), 'scan.before=["exit 7"]', lines=16)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system, Linux only")
def test_a_full_disk_ends_with_a_finished_file_that_says_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        cube = np.arange(9000 * 24 * 20, dtype=np.uint32).astype(np.uint16)
        source = write_envi(tmp_path, "source", cube.reshape(9000, 24, 20))
        rig = replay_rig(tmp_path, source, block_lines=64, extra="[metadata]\ntarget='x'")
        # more lines than fit, unknown when arming: as if something else had filled the disk
        result = capture(rig, f'output.folder="{disk}"', "camera.loops=2")
        assert result.exit_status == 1
        assert "the disk is full" in result.message
        assert errors_of(result.file) == []
        with swath.open(result.file) as stored:
            kept = stored.raw.shape[0]
            assert 1000 < kept < 9000
            expected = cube.reshape(9000, 24, 20)[:kept]
            assert np.array_equal(stored.raw, expected)
            assert any("the disk is full" in text for text in stored.header["errors"])
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_the_preview_is_published_while_the_scan_runs(tmp_path: Path) -> None:
    from pipeline.stream.preview import PreviewSubscriber
    from pipeline.stream.security import private_endpoint

    endpoint, cleanup = private_endpoint()
    strips = []
    done = threading.Event()

    def watch() -> None:
        with PreviewSubscriber(endpoint) as subscriber:
            while not done.is_set():
                strip = subscriber.receive(0.1)
                if strip is not None:
                    strips.append(strip)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        result = capture(write_rig(tmp_path), f'output.preview_endpoint="{endpoint}"', lines=400)
    finally:
        done.set()
        reader.join()
        cleanup()
    assert strips, "nothing was published"
    assert sum(strip.missed for strip in strips) == 0
    times = np.array([strip.header.time_ns for strip in strips]) / 1e9
    assert len(strips) <= (times[-1] - times[0]) * 26 + 3
    with swath.open(result.file) as cube:
        preview = np.asarray(cube.preview().raw).transpose(0, 2, 1)
        values = cube.read()
    until = strips[0].header.line  # what came before the reader was there it cannot know
    for strip in strips:
        head = strip.header
        assert head.line == until // head.step * head.step  # a row that had begun comes again
        until = head.until
        first, full = head.line // head.step, until // head.step
        assert len(strip.pixels) == -(-until // head.step) - first
        whole = strip.pixels[: full - first]
        assert np.array_equal(whole, preview[first:full])
        if until % head.step:
            mean = values[full * head.step : until, : head.step, 3].mean()
            assert strip.pixels[-1, 3, 0] == pytest.approx(mean * 10000, abs=1.5)
    assert until == 400


def test_what_the_rig_file_says_stands_in_the_file(tmp_path: Path) -> None:
    """A ROI, binning, a flip, a table of wavelengths, bad pixels and every kind of metadata."""
    rows = "".join(f"{500 + 2 * row},{6.0}\n" for row in range(40))
    (tmp_path / "nm.csv").write_text(rows)
    bad = np.zeros((1, 20, 10), np.uint8)
    bad[0, 3, 4] = 1
    write_envi(tmp_path, "bad", bad)
    text = """
[camera]
driver = "simulated"
samples = 48
bands = 40
exposure_ms = 2.0
fps = 300.0
binning = [2, 1]
hroi = [11, 30]
vroi = [6, 15]
flip = ["spectral"]
wavelengths = "nm.csv"
[scan]
pixel_mm = 0.1
speed_mm_s = 15.0
[references]
white = "take"
black = "take"
lines = 10
panel = 0.95
panel_name = "SRT-99"
[pipeline]
backend = "cpu"
bad_pixels = "bad.hdr"
[output]
folder = "out"
name = "{target}-{series}"
[metadata]
target = "shelf 3/b"
series = "s1"
measurement = "m1"
problem = ["crop-disease", "mildew"]
target_info = ["greens"]
humidity = 61.5
pressure = 1001.5
light_condition = "LED, warm"
optics = ["macro"]
"""
    events: list[Event] = []
    result = capture(write_rig(tmp_path, text), lines=40, events=events)
    assert result.exit_status == 0
    assert Path(result.file).name == "shelf-3-b-s1.hsi"
    assert any("50.0 mm" in text or "times as long" in text for text in result.warnings)
    assert errors_of(result.file) == []
    with swath.open(result.file) as cube:
        # rows 2i and 2i+1 binned: 501, 505, …; bands 6 to 15 of these, reversed by the flip
        nm = [501.0 + 4 * band for band in range(5, 15)][::-1]
        assert cube.wavelengths.tolist() == nm
        # widened by the bin: sqrt(6² + 8 ln 2 · (2² − 1)/12 · 2²)
        assert np.allclose(cube.fwhm, np.sqrt(36 + 8 * np.log(2) * 3 / 12 * 4))
        expected = {
            "hroi": [11, 30],
            "vroi": [6, 15],
            "binning": [2, 1],
            "exposure": 2.0,
            "pixel size": [0.0001, 5e-05],
            "target": "shelf 3/b",
            "measurement": "m1",
            "problem": ["crop-disease", "mildew"],
            "target info": ["greens"],
            "humidity": 61.5,
            "pressure": 1001.5,
            "light condition": "LED, warm",
            "optics": ["macro"],
            "device": "swath simulated camera SIM000001",
            "gaps": "fill",
            "errors": ["none"],
        }
        found = {name: cube.header[name] for name in expected}
        assert {k: v for k, v in found.items() if k != "device"} == {
            k: v for k, v in expected.items() if k != "device"
        }
        assert str(found["device"]).endswith("SIM000001")
        assert isinstance(cube.header["temperature"], float)
        assert cube.references["white"].header["panel name"] == "SRT-99"
        assert cube.references["white"].header["lines averaged"] == 10
        # band 4, sample 3 is bad: counted in each line, marked, and replaced in the preview
        assert cube.ledger["bad"].tolist() == [1] * 40
        quality = np.frombuffer(cube.entry("Exploration/quality.envi"), np.uint8)
        quality = quality.reshape(40, 6, 20)
        assert np.all(quality[:, 1, 3] == 1)
        assert quality[:, 1].sum() == 40


def test_the_rigs_last_commands_run_even_when_a_first_one_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'false' ended with 1"):
        capture(
            write_rig(tmp_path),
            'scan.before=["touch lamp_on", "false"]',
            'scan.after=["rm lamp_on"]',
            lines=16,
        )
    assert not (tmp_path / "lamp_on").exists()
    assert not list(tmp_path.glob("out/*"))
