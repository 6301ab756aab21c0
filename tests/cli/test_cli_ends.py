from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import info
from pipeline.cli.app import run
from pipeline.errors import CameraError

COMMANDS = [
    *("capture", "drive", "process", "replay", "reference", "bad-pixels", "cameras"),
    *("info", "validate", "recover", "repack", "export", "sidecar", "keys", "version"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    out = capfd.readouterr().out
    assert f"swath {command}" in out
    assert max(map(len, out.splitlines())) <= 100


def test_help_names_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capfd.readouterr().out.split("Commands:")[1]
    assert [line.split()[0] for line in listed.strip().splitlines()] == COMMANDS
    assert "..." not in listed
    assert run([]) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["bogus"], "swath: No such command 'bogus'; see swath --help"),
        (["info"], "swath info: Missing argument 'FILE'; see swath info --help"),
        (["info", "x", "--bogus"], "swath info: No such option: --bogus; see swath info --help"),
        (["export", "x", "y", "--as", "tiff"], "swath export: Invalid value for '--as'"),
        (["reference", "grey", "x"], "swath reference: Invalid value for "),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_status_2(
    argv: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``swath info`` raise."""

    def raises(cube: object) -> None:
        raise error

    monkeypatch.setattr(info, "as_object", raises)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CameraError("[camera] x: [red]no[/red]"), "swath: [camera] x: [red]no[/red]"),
        (
            ZeroDivisionError("oops"),
            "swath: internal error, please report it: ZeroDivisionError: oops "
            "(SWATH_DEBUG=1 shows where)",
        ),
        (PermissionError(13, "Permission denied", "/x"), "swath: /x: Permission denied"),
        (MemoryError(), "swath: not enough memory for this"),
        (KeyboardInterrupt(), "swath: interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_traceback_reaches_a_user(
    captured: Path,
    error: BaseException,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SWATH_DEBUG", raising=False)
    fail_with(error, monkeypatch)
    assert run(["info", str(captured), "--json"]) == 1
    assert capfd.readouterr().err == message + "\n"


def test_a_traceback_is_there_for_who_asks(
    captured: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWATH_DEBUG", "1")
    fail_with(ZeroDivisionError("oops"), monkeypatch)
    assert run(["info", str(captured), "--json"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(captured: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "info", str(captured)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), err) == (0, b"")


def test_looking_at_a_file_loads_nothing_heavy(captured: Path) -> None:
    code = (
        "import sys\n"
        "from pipeline.cli.app import run\n"
        f"assert run(['info', {str(captured)!r}]) == 0\n"
        "heavy = {'zmq', 'numba', 'rich', 'harvesters', 'cupy', 'drivers', 'asyncio'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_terminal_without_unicode_gets_an_answer(captured: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "info", str(captured)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"60 lines ? 24 samples" in done.stdout
