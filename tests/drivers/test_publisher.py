"""The publisher with a scripted camera on real sockets: every line arrives or is accounted for."""

import contextlib
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from drivers.armed import block_lines, slot_count
from drivers.camera import EndOfFrames, Frame, no_reference
from drivers.publisher import Publisher
from drivers.replay import ReplayCamera
from pipeline.config import CameraConfig, Rig, StreamConfig
from pipeline.container.envi import encode_envi
from pipeline.container.ledger import encode_csv
from pipeline.errors import CameraError, CameraLostError, ConfigError
from pipeline.layout import LineStatus, LossReason, ledger_rows, lost_count
from pipeline.slots import SlotRing
from pipeline.stream.driver_link import DriverLink
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import MAX_MESSAGE, CameraInfo, End, Start

BANDS, SAMPLES = 3, 5
LINE_BYTES = BANDS * SAMPLES * 2
FILL = 65535


def pixel(frame_id):
    """The value of every pixel of a frame; the same for a 16-bit id and the unwrapped one."""
    return (frame_id - 1) % 65535 % 60000


class ScriptedCamera:
    """Delivers the frames of a script; each pixel tells the frame's id."""

    frame_id_max = 0
    frame_id_first = 0

    def __init__(self, script=(), *, open_loop=True, fps=1000.0, at_end="wait"):
        self.script = list(script)
        self.open_loop = open_loop
        self.fps = fps
        self.at_end = at_end
        self.calls = []
        self.given = 0
        self.gate = threading.Event()
        self.gate.set()
        self.refuse = None

    def open(self):
        self.calls.append("open")
        if self.refuse is not None:
            raise self.refuse
        return CameraInfo(
            driver="scripted",
            sensor_type="scripted",
            bands=BANDS,
            samples=SAMPLES,
            data_type=12,
            bit_depth=12,
            saturation_level=4095,
            fps=self.fps,
            open_loop=self.open_loop,
            features={"DeviceTemperature": 21.5, "list": [1, "two"]},
        )

    def start(self, kind):
        self.calls.append(f"start {kind}")
        self.given = 0

    def fetch(self, into, timeout_s):
        if not self.gate.is_set():
            time.sleep(min(timeout_s, 0.005))
            return None
        if self.given == len(self.script):
            if self.at_end == "end":
                raise EndOfFrames
            time.sleep(min(timeout_s, 0.005))
            return None
        item = self.script[self.given]
        self.given += 1
        if isinstance(item, Exception):
            raise item
        frame = item if isinstance(item, Frame) else Frame(item, 1_000_000 + item)
        if into is not None:
            into[:] = pixel(frame.frame_id)
        return frame

    def stop(self):
        self.calls.append("stop")

    def shutter(self, closed):
        self.calls.append(f"shutter {closed}")

    def panel(self, in_view):
        raise CameraError("panel: this camera has none")

    def set_feature(self, name, value):
        self.calls.append(f"set {name}")
        return value * 2

    def reference(self, name):
        if name == "white":
            return np.full((BANDS, SAMPLES), 7.5, np.float32), {"exposure": "2.5"}
        raise no_reference(name)

    def close(self):
        self.calls.append("close")


@dataclass
class Series:
    """What the engine's side saw of one series."""

    start: Start | None = None
    end: End | None = None
    blocks: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    pixels: list = field(default_factory=list)

    @property
    def ledger(self):
        return np.concatenate(self.rows)

    @property
    def stored(self):
        ledger = self.ledger
        return ledger[ledger["line"] >= 0]

    @property
    def cube(self):
        return np.concatenate(self.pixels)


class Bench:
    """A publisher in a thread, and an engine link to it."""

    def __init__(self, camera, slots=16, **stream):
        settings = {"block_lines": 4, "max_latency_ms": 30, "timeout_s": 2.0} | stream
        self.camera = camera
        rig = Rig(camera=CameraConfig(driver="simulated"), stream=StreamConfig(**settings))
        driver = DriverLink("tcp://127.0.0.1:*", driver="scripted")
        self.publisher = Publisher(camera, rig, driver)
        self.status = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.endpoint = driver.endpoint
        self.engine = EngineLink(driver.endpoint, timeout_s=5)
        self.engine.connect()
        self.slots = slots
        self.number = 0

    def _run(self):
        self.status = self.publisher.run()

    def arm(self):
        value, _ = self.engine.command("arm")
        self.engine.ring = SlotRing(self.slots, value["block_lines"] * LINE_BYTES)
        return value

    def begin(self, kind="scan", **args):
        self.number += 1
        return self.engine.command("series", series=f"s{self.number}", kind=kind, **args)

    def take(self, seen, timeout_s=5.0):
        """Receive one message of the series; True when it was the end."""
        got = self.engine.receive(timeout_s)
        if isinstance(got, Start):
            seen.start = got
        elif isinstance(got, Block):
            seen.blocks.append(got.header)
            seen.rows.append(got.rows)
            seen.pixels.append(got.pixels.copy())
            got.slot.release()
            self.engine.ack(got.header.series, got.header.seq)
        elif isinstance(got, End):
            seen.end = got
            self.engine.ack(got.series, 0, end=True)
            return True
        return False

    def collect(self, seen=None):
        seen = seen or Series()
        deadline = time.monotonic() + 10
        while not self.take(seen):
            assert time.monotonic() < deadline
        return seen

    def run(self, **args):
        self.arm()
        self.begin(**args)
        return self.collect()

    def close(self):
        if self.thread.is_alive():
            with contextlib.suppress(Exception):
                self.engine.command("quit", timeout_s=2)
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.engine.close()


@pytest.fixture
def bench():
    benches = []

    def make(camera, **stream):
        benches.append(Bench(camera, **stream))
        return benches[-1]

    yield make
    for one in benches:
        one.close()


def check_consistent(series):
    """What holds for every series: totals, places and block headers agree."""
    ledger, end = series.ledger, series.end
    stored = series.stored
    assert stored["line"].tolist() == list(
        range(series.start.first_line, series.start.first_line + len(stored))
    )
    assert end.blocks == len(series.blocks)
    assert [b.seq for b in series.blocks] == list(range(end.blocks))
    assert end.stored == len(stored) == len(series.cube)
    assert end.lost == lost_count(ledger)
    assert all(b.lines <= series.start.block_lines for b in series.blocks)
    lost = stored["status"] == LineStatus.LOST
    assert (series.cube[lost] == FILL).all()
    expected = pixel(stored["frame_id"][~lost]).astype(np.uint16)
    assert (series.cube[~lost] == expected[:, None, None]).all()


def test_as_many_lines_as_asked_for_arrive_in_whole_blocks(bench):
    rig = bench(ScriptedCamera(range(1, 1000)), max_latency_ms=5000)
    series = rig.run(lines=10, first_line=100, epoch=2)
    check_consistent(series)
    assert series.start.kind == "scan"
    assert [b.lines for b in series.blocks] == [4, 4, 2]
    assert series.end.reason == "done"
    assert series.ledger["frame_id"].tolist() == list(range(1, 11))
    assert series.ledger["host_time_ns"].tolist() == [1_000_000 + i for i in range(1, 11)]
    assert set(series.ledger["epoch"]) == {2}
    assert series.start.camera.features["list"] == [1, "two"]


def test_the_ledger_has_what_the_camera_said(bench):
    frame = Frame(
        9, 123, device_time_ns=456, exposure_ms=2.5, temperature_c=31.25, encoder=-7, complete=True
    )
    row = bench(ScriptedCamera([frame])).run(lines=1).ledger[0]
    assert (row["frame_id"], row["host_time_ns"], row["device_time_ns"]) == (9, 123, 456)
    assert (row["exposure_ms"], row["temperature_c"], row["encoder"]) == (2.5, 31.25, -7)


def test_lost_frames_keep_their_place_and_no_line_moves(bench):
    ids = [1, 2, 3, 7, 8, 20, 21, 22, 23]
    series = bench(ScriptedCamera(ids)).run(lines=23)
    check_consistent(series)
    assert series.stored["frame_id"].tolist() == list(range(1, 24))
    lost = series.stored[series.stored["status"] == LineStatus.LOST]
    assert lost["frame_id"].tolist() == [4, 5, 6, *range(9, 20)]
    assert set(lost["reason"]) == {LossReason.CAMERA}
    assert series.end.lost == 14


def test_with_skip_a_gap_is_one_row_without_pixels(bench):
    series = bench(ScriptedCamera([1, 2, 3, 7, 8, 9]), gaps="skip").run(lines=9)
    check_consistent(series)
    assert series.stored["frame_id"].tolist() == [1, 2, 3, 7, 8, 9]
    gap = series.ledger[series.ledger["line"] == -1]
    assert gap["count"].tolist() == [3]
    assert gap["frame_id"].tolist() == [4]
    assert np.flatnonzero(series.ledger["line"] == -1).tolist() == [3]


def test_a_gap_that_is_too_long_is_not_filled(bench):
    series = bench(ScriptedCamera([1, 2, 13, 14]), max_gap_lines=9).run(lines=14)
    check_consistent(series)
    assert len(series.stored) == 4
    assert series.ledger["count"].max() == 10
    assert series.end.lost == 10


def test_lost_lines_count_as_lines_of_the_scene(bench):
    series = bench(ScriptedCamera([1, 2, 50, 51])).run(lines=10)
    check_consistent(series)
    assert len(series.stored) == 10
    assert series.end.lost == 8


def test_an_incomplete_frame_is_a_lost_line(bench):
    torn = Frame(2, 5, complete=False)
    series = bench(ScriptedCamera([1, torn, 3, 5, Frame(6, 5, complete=False), 7])).run(lines=7)
    check_consistent(series)
    reasons = dict(zip(series.stored["frame_id"], series.stored["reason"], strict=True))
    assert reasons[2] == reasons[6] == LossReason.INCOMPLETE
    assert reasons[4] == LossReason.CAMERA
    assert series.end.lost == 3


def test_ids_of_16_bits_wrap_and_repeated_frames_are_no_lines(bench):
    camera = ScriptedCamera([65533, 65534, 65535, 1, 1, 2, 5])
    camera.frame_id_max, camera.frame_id_first = 65535, 1
    series = bench(camera).run(lines=8)
    check_consistent(series)
    assert series.stored["frame_id"].tolist() == list(range(65533, 65541))
    assert series.end.lost == 2


def test_a_partial_block_leaves_when_it_is_old_also_while_no_frame_arrives(bench):
    rig = bench(ScriptedCamera([1, 2, 3]), max_latency_ms=40)
    rig.arm()
    rig.begin()
    seen = Series()
    began = time.monotonic()
    while not seen.blocks:
        rig.take(seen)
    assert time.monotonic() - began < 1.0
    assert sum(b.lines for b in seen.blocks) <= 3
    rig.engine.command("stop")
    rig.collect(seen)
    check_consistent(seen)
    assert seen.end.reason == "stop"
    assert seen.stored["frame_id"].tolist() == [1, 2, 3]


def test_without_room_an_open_loop_camera_loses_numbered_lines(bench):
    camera = ScriptedCamera(range(1, 1001), fps=1.0)
    rig = bench(camera, slots=2, max_latency_ms=5000)
    rig.arm()
    rig.begin(lines=1000)
    deadline = time.monotonic() + 5
    while camera.given < 1000 and time.monotonic() < deadline:
        time.sleep(0.005)
    series = rig.collect()
    check_consistent(series)
    # Two of the four driver slots' blocks went to the engine; the rest found no room.
    assert len(series.stored) == 1000
    assert set(series.stored["reason"]) == {LossReason.NONE, LossReason.NO_ROOM}
    assert series.end.lost == 1000 - 16
    assert series.stored["frame_id"].tolist() == list(range(1, 1001))


def test_a_long_stretch_without_room_is_one_row(bench):
    camera = ScriptedCamera(range(1, 2001), fps=1.0)
    rig = bench(camera, slots=2, max_latency_ms=5000, gaps="skip")
    rig.arm()
    rig.begin(lines=2000)
    while camera.given < 2000:
        time.sleep(0.005)
    series = rig.collect()
    check_consistent(series)
    gaps = series.ledger[series.ledger["line"] == -1]
    assert len(gaps) == 1
    assert gaps["count"].tolist() == [2000 - 16]
    assert gaps["reason"].tolist() == [LossReason.NO_ROOM]


def test_a_camera_that_waits_loses_nothing_whatever_the_engine_does(bench):
    rig = bench(ScriptedCamera(range(1, 201), open_loop=False, at_end="end"), slots=2)
    rig.arm()
    rig.begin()
    time.sleep(0.2)
    assert rig.camera.given < 200
    series = rig.collect()
    check_consistent(series)
    assert series.end.reason == "source"
    assert series.end.lost == 0
    assert series.stored["frame_id"].tolist() == list(range(1, 201))


def test_a_waiting_camera_with_gaps_of_its_own_keeps_every_line(bench):
    ids = [i for i in range(1, 301) if i % 7 and i % 50 > 20]
    rig = bench(ScriptedCamera(ids, open_loop=False, at_end="end"), slots=2)
    series = rig.run()
    check_consistent(series)
    kept = series.stored["frame_id"][series.stored["status"] == LineStatus.OK]
    assert kept.tolist() == ids
    assert len(series.stored) == ids[-1] - ids[0] + 1


def test_a_new_epoch_begins_with_the_lines_that_passed_meanwhile(bench):
    second = 1_000_000_000
    frames = [Frame(500 + i, 10 * second + i * 10_000_000) for i in range(5)]
    rig = bench(ScriptedCamera(frames, fps=100.0))
    series = rig.run(lines=14, first_line=40, epoch=1, after_host_time_ns=10 * second - 100_000_000)
    check_consistent(series)
    assert series.stored["reason"].tolist() == [LossReason.CAMERA_RESTART] * 9 + [0] * 5
    assert series.stored["line"].tolist() == list(range(40, 54))


@pytest.mark.parametrize("gaps", ["fill", "skip"])
def test_a_counter_that_begins_anew_in_mid_series_is_a_new_epoch_with_a_gap(bench, gaps):
    second, line = 1_000_000_000, 10_000_000
    before = [Frame(500 + i, second + i * line) for i in range(5)]
    # 100 Hz: the 5th came at 1.04 s, the next at 1.14 s, so 9 lines passed; id 5 is missing.
    after = [Frame(i, second + (13 + i) * line) for i in (1, 2, 3, 4, 6)]
    rig = bench(ScriptedCamera([*before, *after], fps=100.0), gaps=gaps)
    series = rig.run(lines=20, epoch=2)
    check_consistent(series)
    ledger = np.repeat(series.ledger, series.ledger["count"])
    assert ledger["epoch"].tolist() == [2] * 5 + [3] * 15
    restart, camera = LossReason.CAMERA_RESTART, LossReason.CAMERA
    reasons = [0] * 5 + [restart] * 9 + [0] * 4 + [camera, 0]
    assert ledger["reason"].tolist() == reasons
    came = ledger[ledger["reason"] == 0]
    assert came["frame_id"].tolist() == [500, 501, 502, 503, 504, 1, 2, 3, 4, 6]


def test_a_counter_that_begins_anew_loses_no_line_because_the_host_was_late(bench):
    second, line = 1_000_000_000, 10_000_000
    ids = [65533, 65534, 65535, 1, 2, 3]
    # The host was held up for six lines; by the camera's clock none is missing.
    late = [0, 0, 0, 6, 5, 4]
    frames = [
        Frame(number, second + (i + late[i]) * line, device_time_ns=7 * second + i * line)
        for i, number in enumerate(ids)
    ]
    series = bench(ScriptedCamera(frames, fps=100.0)).run(lines=6)
    check_consistent(series)
    assert series.stored["frame_id"].tolist() == ids
    assert series.stored["epoch"].tolist() == [0] * 3 + [1] * 3


def test_a_counter_may_begin_anew_while_there_is_no_room(bench):
    ids = [*range(1, 101), *range(1, 101)]
    frames = [Frame(number, 1_000_000 * i) for i, number in enumerate(ids, 1)]
    rig = bench(ScriptedCamera(frames, fps=1.0), slots=2, max_latency_ms=5000, gaps="skip")
    rig.arm()
    rig.begin(lines=200)
    while rig.camera.given < 200:
        time.sleep(0.005)
    series = rig.collect()
    check_consistent(series)
    gaps = series.ledger[series.ledger["line"] == -1]
    assert gaps["epoch"].tolist() == [0, 1]
    assert gaps["count"].tolist() == [100 - 16, 100]


@pytest.mark.parametrize(("sought", "ids"), [(4, [5, 6, 9, 10]), (6, [9, 10]), (7, [9, 10])])
def test_a_replay_in_a_new_epoch_goes_on_at_the_right_line(bench, tmp_path, sought, ids):
    ledger = ledger_rows(10)
    ledger["line"] = np.arange(10)
    ledger["frame_id"] = np.arange(1, 11)
    ledger["status"][6:8] = LineStatus.LOST
    cube = np.broadcast_to(pixel(np.arange(1, 11))[:, None, None], (10, SAMPLES, BANDS))
    encoded = encode_envi(cube.astype("<u2"), {"bit depth": 12})
    entries = dict(zip(("data.hdr", "data.envi"), encoded, strict=True))
    entries["Metadata/lines.csv"] = encode_csv(ledger)
    with zipfile.ZipFile(tmp_path / "a.hsi", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    path = str(tmp_path / "a.hsi")
    camera = ReplayCamera(
        Rig(camera=CameraConfig(driver="replay", file=path, rate="max", fps=100.0))
    )
    # A live camera would have lost 500 lines within 5 s at 100 Hz.
    away_ns = time.time_ns() - 5_000_000_000
    args = {"first_line": sought, "scene_line": sought, "epoch": 1, "after_host_time_ns": away_ns}
    series = bench(camera).run(**args)
    check_consistent(series)
    assert series.end.reason == "source"
    ok = series.stored["status"] == LineStatus.OK
    assert series.stored["frame_id"][ok].tolist() == ids
    assert series.stored["line"].tolist() == list(range(sought, 10))
    # Also the lost lines in which the replay went on keep their place.
    assert set(series.stored["reason"][~ok]) == {LossReason.CAMERA}
    assert set(series.ledger["epoch"]) == {1}


def test_a_camera_that_wants_to_know_its_epoch_is_told(bench):
    camera = ScriptedCamera([1])
    camera.epoch = None
    bench(camera).run(lines=1, epoch=3)
    assert camera.epoch == 3


def test_a_lost_camera_ends_the_series_with_what_it_gave_and_can_be_armed_again(bench):
    camera = ScriptedCamera([1, 2, 3, CameraLostError("camera: unplugged")])
    rig = bench(camera)
    series = rig.run(lines=100)
    check_consistent(series)
    assert (series.end.reason, series.end.error) == ("camera", "camera: unplugged")
    assert len(series.stored) == 3
    with pytest.raises(CameraError, match="not armed"):
        rig.begin()
    camera.script = [1, 2]
    again = rig.run(lines=2, first_line=3, epoch=1)
    check_consistent(again)
    assert again.end.reason == "done"
    assert camera.calls.count("open") == 2


def test_what_a_vendor_library_raises_is_a_lost_camera(bench):
    series = bench(ScriptedCamera([1, RuntimeError("GenTL exception -1001")])).run(lines=9)
    check_consistent(series)
    assert series.end.reason == "camera"
    assert "GenTL exception -1001" in series.end.error


def test_a_series_ends_after_its_seconds(bench):
    camera = ScriptedCamera(range(1, 5))
    series = bench(camera).run(seconds=0.2)
    check_consistent(series)
    assert series.end.reason == "done"
    assert len(series.stored) == 4


def test_commands_are_answered_while_lines_flow(bench):
    camera = ScriptedCamera(range(1, 4))
    rig = bench(camera)
    rig.arm()
    rig.begin("black")
    assert rig.engine.command("shutter", closed=True) == ({}, None)
    assert rig.engine.command("set", name="Gain", value=2.0)[0] == {"value": 4.0}
    with pytest.raises(CameraError, match="panel"):
        rig.engine.command("panel", in_view=True)
    with pytest.raises(CameraError, match="still runs"):
        rig.engine.command("arm")
    rig.engine.command("stop")
    series = rig.collect()
    assert series.start.kind == "black"
    assert camera.calls == ["open", "start black", "shutter True", "set Gain", "stop"]


def test_a_reference_of_the_source_is_delivered(bench):
    rig = bench(ScriptedCamera())
    rig.arm()
    value, array = rig.engine.command("reference", name="white")
    assert value == {"fields": {"exposure": "2.5"}}
    assert array.dtype == np.float32
    assert array.shape == (BANDS, SAMPLES)
    assert (array == 7.5).all()
    with pytest.raises(CameraError, match="black"):
        rig.engine.command("reference", name="black")


def test_bad_commands_are_answered_and_change_nothing(bench):
    rig = bench(ScriptedCamera([1, 2]))
    with pytest.raises(CameraError, match="arm comes first"):
        rig.begin()
    with pytest.raises(ConfigError, match="allowed are arm"):
        rig.engine.command("explode")
    rig.arm()
    with pytest.raises(ConfigError, match="kind"):
        rig.begin("grey")
    with pytest.raises(ConfigError, match="series"):
        rig.engine.command("series", series="x", kind="scan", lines="many")
    with pytest.raises(ConfigError, match="closed"):
        rig.engine.command("shutter")
    rig.begin(lines=2)
    assert rig.collect().end.stored == 2


def test_a_camera_that_cannot_be_armed_says_why_with_its_exit_status(bench):
    camera = ScriptedCamera()
    rig = bench(camera)
    camera.refuse = ConfigError("[camera] exposure_ms: this camera has no ExposureTime")
    with pytest.raises(ConfigError, match="no ExposureTime"):
        rig.arm()
    camera.refuse = CameraError("camera: busy")
    with pytest.raises(CameraError, match="busy"):
        rig.arm()
    camera.refuse = None
    assert rig.arm()["camera"]["bands"] == BANDS


@pytest.mark.parametrize("gaps", ["fill", "skip"])
def test_the_answer_to_arm_says_what_becomes_of_gaps(bench, gaps):
    assert bench(ScriptedCamera(), gaps=gaps).arm()["gaps"] == gaps


def test_series_follow_each_other_on_the_same_slots(bench):
    camera = ScriptedCamera(range(1, 10))
    rig = bench(camera)
    rig.arm()
    for kind in ("black", "white", "scan"):
        rig.begin(kind, lines=9)
        series = rig.collect()
        check_consistent(series)
        assert series.start.kind == kind


def test_the_next_series_waits_for_the_acknowledgement_of_the_one_before(bench):
    rig = bench(ScriptedCamera([1, 2]))
    rig.arm()
    rig.begin(lines=2)
    seen = Series()
    while seen.end is None:
        got = rig.engine.receive(5)
        if isinstance(got, Block):
            got.slot.release()
            rig.engine.ack(got.header.series, got.header.seq)
        seen.end = got if isinstance(got, End) else None
    threading.Timer(0.2, rig.engine.ack, (seen.end.series, 0), {"end": True}).start()
    rig.begin(lines=2)
    assert rig.collect().end.stored == 2
    rig.begin(lines=2)
    while not isinstance(rig.engine.receive(5), End):
        pass
    with pytest.raises(CameraError, match="s3 still runs"):
        rig.begin()
    rig.engine.ack("s3", 0, end=True)


def test_a_new_engine_stops_the_series_of_the_one_before(bench):
    camera = ScriptedCamera(range(1, 10**6), fps=1.0)
    rig = bench(camera, slots=2)
    rig.arm()
    rig.begin()
    rig.take(Series())
    rig.engine.close()
    rig.engine = EngineLink(rig.endpoint, timeout_s=5)
    rig.engine.connect()
    camera.script = [1, 2, 3]
    series = rig.run(lines=3)
    check_consistent(series)
    assert series.stored["frame_id"].tolist() == [1, 2, 3]


def test_an_engine_that_resumes_gets_every_line_that_was_not_acknowledged(bench):
    camera = ScriptedCamera(range(1, 301), open_loop=False, at_end="end")
    rig = bench(camera, slots=4)
    rig.arm()
    rig.begin()
    first = Series()
    while len(first.blocks) < 5:
        rig.take(first)
    rig.engine.close()
    rig.engine = EngineLink(rig.endpoint, timeout_s=5, resume=True)
    rig.engine.ring = SlotRing(4, 4 * LINE_BYTES)
    rig.engine.connect()
    series = rig.collect()
    assert series.end.stored == 300
    assert series.stored["frame_id"].tolist()[-1] == 300
    seen = set(first.stored["frame_id"]) | set(series.stored["frame_id"])
    assert seen == set(range(1, 301))


def test_quit_ends_a_running_series_whole(bench):
    camera = ScriptedCamera(range(1, 11))
    rig = bench(camera)
    rig.arm()
    rig.begin()
    seen = Series()
    while sum(b.lines for b in seen.blocks) < 10:
        rig.take(seen)
    rig.engine.command("quit")
    rig.collect(seen)
    check_consistent(seen)
    assert seen.end.reason == "driver"
    rig.thread.join(5)
    assert rig.status == 0
    assert camera.calls[-1] == "close"


def test_the_camera_of_the_page_on_adding_one_works(bench):
    page = Path(__file__).parents[2] / "docs" / "adding-a-camera.md"
    code = page.read_text("utf-8").split("```python\n")[1].split("```")[0]
    scope = {}
    exec(compile(code, str(page), "exec"), scope)
    rig = Rig(camera=CameraConfig(driver="simulated", fps=500.0))
    one = bench(scope["RampCamera"](rig))
    value, _ = one.engine.command("arm")
    one.engine.ring = SlotRing(8, value["block_lines"] * 8 * 32 * 2)
    one.begin(lines=20)
    series = one.collect()
    assert series.end.stored == 20
    assert series.end.lost == 0
    assert (series.cube[:, 3, 5] == 3 + 5 + np.arange(1, 21)).all()
    one.engine.command("shutter", closed=True)
    one.begin("black", lines=3)
    assert not one.collect().cube.any()


def test_blocks_are_lowered_to_what_a_message_holds():
    assert block_lines(1000, 32) == 32
    lowered = block_lines(1 << 20, 32)
    assert lowered == 12
    assert lowered * (1 << 20) <= MAX_MESSAGE
    with pytest.raises(ConfigError, match="found a line of"):
        block_lines(MAX_MESSAGE, 32)


def test_slots_hold_the_seconds_asked_for_but_not_all_memory():
    count = slot_count(
        32 * 900_000, lines=330 * 3, block_lines=32, open_loop=True, available=64 << 30
    )
    assert count >= 330 * 3 / 32
    tight = slot_count(
        32 * 900_000, lines=330 * 3, block_lines=32, open_loop=True, available=1 << 30
    )
    assert tight * 32 * 900_000 <= (1 << 30) / 4
    assert slot_count(100, lines=1, block_lines=32, open_loop=True, available=0) == 4
    assert slot_count(100, lines=None, block_lines=32, open_loop=False, available=None) == 8
