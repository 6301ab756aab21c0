"""The rig file's own commands: run in order, ended with all they started, failures told."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from pipeline.config import ScanConfig
from pipeline.errors import ConfigError
from pipeline.events import Event, EventBus
from pipeline.rig_commands import run_commands

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX shell")


def test_commands_run_in_order_in_the_rig_files_folder(tmp_path: Path) -> None:
    bus, events = EventBus(), list[Event]()
    bus.subscribe(events.append)
    scan = ScanConfig(before=["echo one >> log", "echo two >> log"])
    run_commands(scan, "before", tmp_path, bus)
    run_commands(scan, "after", tmp_path, bus)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert len(events) == 2


def test_a_failure_names_the_command_its_status_and_its_last_words(tmp_path: Path) -> None:
    scan = ScanConfig(before=["echo no stage >&2; exit 3", "touch never"])
    with pytest.raises(ConfigError, match=r"\[scan\] before: .* ended with 3: no stage"):
        run_commands(scan, "before", tmp_path, EventBus())
    assert not (tmp_path / "never").exists()


def test_a_command_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    scan = ScanConfig(before=["(sleep 2; touch late) & wait"], command_timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"did not end within 0\.3 s"):
        run_commands(scan, "before", tmp_path, EventBus())
    assert time.monotonic() - began < 1.5
    time.sleep(2.2)
    assert not (tmp_path / "late").exists()
