"""Each fault of the camera in a real capture: what stands in the ledger, and what the user sees.

In none of them a received line is lost or a wrong pixel written: every cube is compared with what
the camera played, line by line by frame id.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from capturing import SCENE_LINES, check, rig_file
from rigs import capture

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.genicam import list_cameras
from pipeline.errors import CameraError
from pipeline.events import Event, Failed, Warned
from pipeline.layout import LineStatus, LossReason


@pytest.fixture
def captured(producer, settings, scene, tmp_path):
    """Capture from a camera with faults: result, events and checked ledger."""

    def run(*overrides, lines=200, first_id=0, camera="", **faults):
        cube, playing = scene(lines=SCENE_LINES)
        settings(**playing.features(), **faults)
        events: list[Event] = []
        rig = rig_file(tmp_path, producer, camera)
        result = capture(rig, *overrides, events=events, lines=lines)
        return result, events, check(result.file, cube, first_id=first_id)

    return run


def lost_rows(ledger):
    return ledger[ledger["status"] == LineStatus.LOST]


def warnings(events):
    return [event.text for event in events if isinstance(event, Warned)]


def test_every_nth_frame_is_lost_in_its_place(captured):
    result, events, ledger = captured(FaultFrameLossEvery=7)
    lost = lost_rows(ledger)
    assert lost["frame_id"].tolist() == list(range(6, 200, 7))
    assert ledger["frame_id"].tolist() == list(range(200))
    assert set(lost["reason"]) == {LossReason.CAMERA}
    assert (result.exit_status, result.lost) == (3, 28)
    assert warnings(events) == ["28 lines were lost; Metadata/lines.csv says which and why"]


def test_incomplete_buffers_are_counted_apart(captured):
    result, _, ledger = captured(FaultIncompleteEvery=5, FaultFrameLossEvery=7)
    by_reason = {
        reason: set(ledger["frame_id"][ledger["reason"] == reason].tolist())
        for reason in (LossReason.CAMERA, LossReason.INCOMPLETE)
    }
    assert by_reason[LossReason.CAMERA] == set(range(6, 200, 7))
    assert by_reason[LossReason.INCOMPLETE] == set(range(4, 200, 5)) - set(range(6, 200, 7))
    assert result.lost == sum(map(len, by_reason.values()))


@pytest.mark.parametrize("bytes_", [1, 6])
def test_padding_is_no_matter(captured, bytes_):
    result, events, ledger = captured(FaultPaddingX=bytes_)
    assert (result.exit_status, result.lost, warnings(events)) == (0, 0, [])
    assert ledger["frame_id"].tolist() == list(range(200))


def test_frame_ids_of_16_bits_are_counted_on(captured, monkeypatch):
    monkeypatch.setenv("SWATH_VIRTUAL_TLTYPE", "GEV")
    result, _, ledger = captured(FaultFrameIDStart=65500, FaultFrameLossEvery=9, first_id=65501)
    assert ledger["frame_id"].tolist() == list(range(65501, 65701))
    assert set(ledger["epoch"]) == {0}
    assert result.lost == len(lost_rows(ledger)) == 22


def test_ids_that_wrap_where_no_one_said_so_begin_an_epoch(captured):
    shown = {0: 65501, 1: 1 - 35}  # 35 frames before the wrap
    result, _, ledger = captured(FaultFrameID16Bit=1, FaultFrameIDStart=65500, first_id=shown)
    assert result.lost == 0
    assert ledger["frame_id"].tolist() == [*range(65501, 65536), *range(1, 166)]
    assert ledger["epoch"].tolist() == [0] * 35 + [1] * 165


def test_a_timestamp_that_starts_again_stands_in_the_ledger_as_it_came(captured):
    result, _, ledger = captured(FaultTimestampResetAfter=50)
    assert result.lost == 0
    times = ledger["device_time_ns"]
    assert np.all(np.diff(times[:50]) == 2_000_000)
    assert times[50:].tolist() == [2_000_000 * n for n in range(150)]
    assert np.all(np.diff(ledger["host_time_ns"]) > 0)


def test_a_refused_feature_ends_it_with_the_key(producer, settings, tmp_path):
    settings(SceneBands=12, SceneSamples=21, FaultRefuseFeature="ExposureTime")
    events: list[Event] = []
    with pytest.raises(CameraError, match=r"^\[camera\] exposure_ms: ExposureTime = .*refuses"):
        capture(rig_file(tmp_path, producer), events=events, lines=10)
    assert isinstance(events[-1], Failed)
    assert list((tmp_path / "out").glob("*")) == []


def test_a_stall_is_a_gap_of_as_many_lines(captured):
    result, _, ledger = captured(FaultStallAfter=50, FaultStallTime=0.3)
    assert lost_rows(ledger)["frame_id"].tolist() == list(range(50, 200))
    assert set(lost_rows(ledger)["reason"]) == {LossReason.CAMERA}
    assert result.exit_status == 3


@pytest.mark.parametrize("silent", [0, 1], ids=["loud", "silent"])
def test_an_unplugged_camera_goes_on_in_a_new_epoch(captured, silent):
    result, events, ledger = captured(
        lines=1500,
        FaultUnplugAfter=60,
        FaultUnplugTime=0.2,
        FaultUnplugSilent=silent,
        FaultStrikes=1,
    )
    kept = ledger[ledger["status"] == LineStatus.OK]
    first, second = (kept["frame_id"][kept["epoch"] == epoch] for epoch in (0, 1))
    assert first.tolist() == list(range(len(first)))
    assert second.tolist() == list(range(len(second)))
    gap = lost_rows(ledger)
    assert set(gap["reason"]) == {LossReason.CAMERA_RESTART}
    assert set(gap["epoch"]) == {1}
    assert len(kept) + result.lost == 1500
    assert gap["count"].sum() == result.lost
    told = warnings(events)[0]
    assert told.startswith("camera swath VC-10 (index 0, serial 'VC0001'")
    assert told.endswith("arming again")
    assert result.exit_status == 3


def test_where_the_rig_file_says_so_an_unplugging_ends_the_capture(captured):
    result, _, ledger = captured("stream.away_s=0", lines=1000, FaultUnplugAfter=60)
    assert result.exit_status == 1
    assert result.message.startswith("camera swath VC-10")
    assert result.message.endswith("given up after 0 s")
    assert ledger["frame_id"].tolist() == list(range(len(ledger)))
    assert result.lost == 0


def test_a_crash_of_the_driver_is_survived(captured):
    result, events, ledger = captured(lines=2500, FaultCrashAfter=60, FaultStrikes=1)
    kept = ledger[ledger["status"] == LineStatus.OK]
    assert {0} <= set(kept["epoch"]) <= {0, 1}  # a busy machine may need as long as the capture
    assert set(lost_rows(ledger)["reason"]) == {LossReason.CAMERA_RESTART}
    assert len(kept) + result.lost == 2500
    assert warnings(events)[0] == "the driver process was ended by SIGABRT; waiting for it"


def test_a_camera_that_this_process_cannot_find_again_gets_another_one(captured, monkeypatch):
    monkeypatch.setattr("pipeline.session.FRESH_TRIES", 1)
    result, events, ledger = captured(
        lines=1500, FaultUnplugAfter=60, FaultUnplugTime=0.1, FaultStrikes=1
    )
    kept = ledger[ledger["status"] == LineStatus.OK]
    assert len(kept) + result.lost == 1500
    assert set(lost_rows(ledger)["reason"]) == {LossReason.CAMERA_RESTART}
    assert sum("arming again" in text for text in warnings(events)) == 1


def test_the_header_tells_of_an_absence(captured):
    import swath

    result, _, _ = captured(lines=400, FaultUnplugAfter=60, FaultUnplugTime=0.1, FaultStrikes=1)
    with swath.open(result.file) as container:
        told = container.header["errors"]
    assert len(told) == 1
    assert told[0].startswith("camera swath VC-10")
    assert told[0].endswith("epoch 1 follows")


def run(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_at_the_command_line_an_unplugging_is_a_sentence(producer, settings, scene, tmp_path):
    _, playing = scene(lines=SCENE_LINES)
    faults = {"FaultUnplugAfter": 60, "FaultUnplugTime": 0.1, "FaultStrikes": 1}
    settings(**playing.features(), **faults)
    with run("capture", rig_file(tmp_path, producer), "--lines", "400") as process:
        said, complaints = process.communicate(timeout=50)
    assert process.returncode == 3
    assert "Traceback" not in complaints
    assert "virtual.hsi" in said
    assert "arming again" in complaints


def test_after_a_kill_of_the_capture_the_camera_is_free(producer, settings, scene, tmp_path):
    _, playing = scene(lines=SCENE_LINES)
    settings(**playing.features())

    def accessible():
        return list_cameras(str(producer))[0]["accessible"]

    partial = tmp_path / "out" / "virtual.hsi.partial"
    with run("capture", rig_file(tmp_path, producer), "--lines", "100000") as process:
        try:
            deadline = time.monotonic() + 40
            while not (partial.exists() and partial.stat().st_size > 50_000):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert not accessible()
        finally:
            os.kill(process.pid, 9)
        killed = time.monotonic()
        while not accessible():
            assert time.monotonic() - killed < 5
            time.sleep(0.05)
