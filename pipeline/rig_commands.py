"""The rig file's own commands before and after a scan: move the stage, switch the lamp.

Each runs through the shell in the rig file's folder, in a session of its own (so that a Ctrl-C at
the terminal does not reach it), with a time-out that ends it with all that it started. Knows the
rig file and events only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from pipeline.config import ScanConfig
from pipeline.errors import ConfigError
from pipeline.events import Arming, EventBus

#: What is kept of a command's words, bytes from the end.
TAIL = 2000


def run_commands(scan: ScanConfig, which: str, base: Path, bus: EventBus) -> None:
    """Run the commands of ``[scan] before`` or ``after``, one after the other.

    Parameters
    ----------
    scan : ScanConfig
        ``[scan]`` of the rig file.
    which : {"before", "after"}
    base : Path
        Folder in which they run.
    bus : EventBus
        Is told of each.

    Raises
    ------
    ConfigError
        When one cannot be started, fails or does not end in time; the others do not run then.
    """
    for command in getattr(scan, which):
        bus.emit(Arming(text=f"[scan] {which}: {command}"))
        status, words = _run(command, base, scan.command_timeout_s)
        where = f"[scan] {which}: {command!r}"
        if status is None:
            raise ConfigError(f"{where} did not end within {scan.command_timeout_s:g} s")
        if status:
            raise ConfigError(f"{where} ended with {status}" + (f": {words}" if words else ""))


def _run(command: str, base: Path, timeout_s: float) -> tuple[int | None, str]:
    """Give the exit status (None: it did not end in time) and the last line it said."""
    # A file, not a pipe: what the command leaves in the background may keep it open.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command,
                shell=True,
                cwd=base,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"command {command!r} cannot be started: {error}") from None
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
            _kill(process)
        said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL))
        words = said.read().decode(errors="replace").strip().splitlines()
    return status, words[-1] if words else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.kill()
    process.wait()
