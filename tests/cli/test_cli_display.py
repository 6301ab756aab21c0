from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from pipeline.cli.display import CaptureDisplay, summary
from pipeline.cli.output import called, count_text, duration_text, size_text
from pipeline.events import (
    Armed,
    Arming,
    Event,
    EventBus,
    Finished,
    Loss,
    Phase,
    Progress,
    ReferenceTaken,
    Warned,
)

ARMED = Armed(
    driver="simulated",
    sensor_type="camera [x]",
    bands=120,
    samples=320,
    data_type=12,
    bit_depth=12,
    file="/data/leaf.hsi",
    backend="cpu",
    why="no CUDA device",
    fps=200.0,
    exposure_ms=2.5,
    warnings=["too dim"],
)
DONE = Finished(
    file="/data/my leaf.hsi",
    lines=600,
    lost=12,
    seconds=187.0,
    bytes=50_900_000,
    lines_per_second=198.3,
    backend="cpu",
    samples=320,
    bands=120,
    thumbnail="thumbnail.jpg",
    references=["black", "white"],
    wavelength_nm=(397.2, 1003.9),
)


def drawn(*events: Event) -> str:
    """What a terminal of 120 columns has seen after these events."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    display = CaptureDisplay(console)
    with display.running():
        for event in events:
            display(event)
        assert display._live is not None
        display._live.progress.refresh()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_lines_rate_losses_and_time_left() -> None:
    shown = drawn(
        ARMED,
        Phase(kind="scan", lines=600),
        Progress(
            lines=150,
            total=600,
            lost=3,
            lines_per_second=199.6,
            bytes=12_000_000,
            eta_s=2.25,
            temperature_c=31.0,
        ),
    )
    assert "camera [x]: 320 samples × 120 bands at 200 Hz, 2.5 ms" in shown
    assert "computes on the CPU; into /data/leaf.hsi" in shown
    assert "warning: too dim" in shown
    assert "150/600 lines  200/s" in shown
    assert "3 lost" in shown
    assert "2.2 s left · 12.0 MB · 31.0 °C" in shown


def test_a_gpu_is_named() -> None:
    armed = msgspec.structs.replace(ARMED, backend="cuda", why="found NVIDIA H200")
    assert "computes on cuda (found NVIDIA H200)" in drawn(armed)


def test_advice_calls_swath_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "my bin" / "swath"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert called() == f"'{program}'"
    assert f"inside; '{program}' info " in summary(DONE)[-1]
    monkeypatch.setenv("PATH", str(program.parent))
    assert called() == "swath"
    monkeypatch.setattr(sys, "argv", ["/x/pipeline/cli/__main__.py"])
    assert called() == "swath"


def test_a_scan_without_end_shows_how_long_the_disk_lasts() -> None:
    shown = drawn(
        Phase(kind="scan"), Progress(lines=2500, lines_per_second=330.0, free_seconds=4000.0)
    )
    assert "2,500 lines  330/s" in shown
    assert "disk for 1:06:40" in shown


def test_references_stay_on_the_screen_with_what_came_of_them() -> None:
    shown = drawn(
        Arming(text="camera"),
        Phase(kind="black", lines=100),
        ReferenceTaken(kind="black", lines=100, mean=64.24),
        Phase(kind="white", lines=100),
        ReferenceTaken(kind="white", lines=100, mean=1700.5, saturated=0.004, full_scale=4095.0),
        ReferenceTaken(kind="black", lines=1, mean=60.0, source="dark.hdr"),
    )
    assert "black: mean of 100 lines, 64.2 DN" in shown
    assert "white: mean of 100 lines, 1,700.5 DN of 4,095 (42 %), 0.4 % saturated" in shown
    assert "black: from dark.hdr, 60.0 DN" in shown


def test_losses_show_before_the_next_progress() -> None:
    shown = drawn(
        Phase(kind="scan", lines=10),
        Loss(first_line=3, count=2, reason="camera"),
        Progress(lines=5, total=10),
    )
    assert "2 lost" in shown


def test_a_pipe_gets_warnings_alone_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    display = CaptureDisplay()
    with display.running():
        for event in (Arming(text="camera"), Warned(text="too dim"), ARMED, Progress(lines=3)):
            display(event)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "warning: too dim\n")


def test_the_summary_says_where_and_what() -> None:
    assert summary(DONE) == [
        "/data/my leaf.hsi",
        "  600 lines × 320 samples × 120 bands, 397 to 1004 nm, stored as raw, 50.9 MB",
        "  references: black, white",
        "  3:07 at 198.3 lines/s, 12 lines LOST, computed on cpu",
        "  picture: thumbnail.jpg inside; swath info '/data/my leaf.hsi' --thumbnail "
        "'/data/my leaf.jpg' takes it out",
    ]


def test_numbers_are_written_for_people() -> None:
    assert [size_text(n) for n in (0, 999, 46_080_000, 28e9, 5e15)] == [
        "0 bytes",
        "999 bytes",
        "46.1 MB",
        "28.0 GB",
        "5000.0 TB",
    ]
    assert [duration_text(s) for s in (0.04, 59.94, 61, 3599.6, 7387, 260_000)] == [
        "0.0 s",
        "59.9 s",
        "1:01",
        "1:00:00",
        "2:03:07",
        "3 days",
    ]
    assert [count_text(n, "line") for n in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]


def test_events_are_json_with_their_name() -> None:
    assert msgspec.json.decode(msgspec.json.encode(DONE))["t"] == "finished"
    assert msgspec.json.decode(msgspec.json.encode(DONE), type=Event) == DONE


def test_a_bus_hands_on_in_order_whatever_a_subscriber_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = EventBus()
    seen: list[str] = []

    def broken(event: Event) -> None:
        raise ValueError("broken subscriber")

    bus.subscribe(broken)
    leave = bus.subscribe(lambda event: seen.append(event.text))  # type: ignore[union-attr]
    threads = [
        threading.Thread(target=lambda: [bus.emit(Warned(text="w")) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 200
    leave()
    bus.emit(Warned(text="later"))
    assert len(seen) == 200
    assert "broken subscriber" in caplog.text
