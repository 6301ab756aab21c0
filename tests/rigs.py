"""Small rigs for tests that run whole captures: real processes, sockets and files."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pipeline.capture import CaptureResult, run_capture
from pipeline.events import Event, EventBus
from pipeline.rigfile import load_rig

SIMULATED = """
[camera]
driver = "simulated"
samples = 48
bands = 20
exposure_ms = 2.0
fps = 400.0
wavelengths = { first = 400.0, last = 1000.0, fwhm = 5.0 }
[stream]
block_lines = 16
[references]
white = "take"
black = "take"
lines = 20
panel = 0.95
[pipeline]
backend = "cpu"
[output]
folder = "out"
name = "{target}"
[metadata]
target = "leaf"
"""


def write_rig(folder: Path, text: str = SIMULATED, name: str = "rig.toml") -> Path:
    """Write a rig file whose captures go to ``out`` beside it."""
    path = folder / name
    text = text.replace('folder = "out"', f'folder = "{folder / "out"}"')
    path.write_text(text)
    return path


def capture(
    path: Path,
    *overrides: str,
    events: list[Event] | None = None,
    stop: threading.Event | None = None,
    **options: Any,
) -> CaptureResult:
    """Run a capture of a rig file, as the command line does."""
    bus = EventBus()
    if events is not None:
        bus.subscribe(events.append)
    return run_capture(
        load_rig(path, overrides),
        rig_path=path,
        bus=bus,
        stop=stop,
        overrides=overrides,
        **options,
    )


def replay_rig(
    folder: Path, source: Path, *, block_lines: int = 7, store: str = "raw", extra: str = ""
) -> Path:
    """Write a rig file that replays ``source`` as fast as it is taken."""
    return write_rig(
        folder,
        f"""
[camera]
driver = "replay"
file = "{source}"
rate = "max"
[stream]
block_lines = {block_lines}
[pipeline]
backend = "cpu"
store = "{store}"
[output]
folder = "out"
name = "replayed"
{extra}
""",
    )
