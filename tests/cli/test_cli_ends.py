from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import info
from pipeline.cli.app import run
from pipeline.cli.waiting import progress
from pipeline.container.envi import write_envi
from pipeline.errors import CameraError

COMMANDS = [
    *("capture", "drive", "process", "replay", "reference", "references", "bad-pixels", "cameras"),
    *("info", "validate", "recover", "repack", "export", "sidecar"),
    *("compress", "decompress", "compare", "keys", "version"),
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


def test_the_version_is_found_by_its_usual_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    said = capfd.readouterr().out
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == said


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_place_for_the_output_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == f"swath: what it prints cannot be written: {os.strerror(28)}\n"


@pytest.mark.skipif(os.name != "posix", reason="closes a descriptor by a shell")
def test_a_closed_output_is_no_matter() -> None:
    command = f'"{sys.executable}" -m pipeline.cli version >&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_signal_leaves_what_cleans_up_alone() -> None:
    cleaned = []

    def ended_twice() -> None:
        with progress("work"):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        ended_twice()
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


#: What the command is at when the signal comes.
AT_WORK = {
    "compress": "import pipeline.container.compress as m; m.CodingJob.write",
    "export": "import pipeline.container.export as m; m.select",
}


@pytest.mark.parametrize(
    ("command", "number"),
    [("compress", "SIGTERM"), ("compress", "SIGHUP"), ("export", "SIGTERM"), ("export", "SIGINT")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_who_is_ended_at_work_leaves_nothing_half_written(
    command: str, number: str, tmp_path: Path
) -> None:
    source = write_envi(tmp_path, "source", np.ones((4, 3, 5), np.uint16))
    out, work = {
        "compress": ("out.hsi", tmp_path / "out.hsi.compressing"),
        "export": ("out", tmp_path / "out" / "data.img.partial"),
    }[command]
    code = f"""
import sys, time
from pipeline.cli import main
{AT_WORK[command]} = lambda *given, **more: time.sleep(60)
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, command, str(source), out],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # nohup and jobs in the background ignore some, and hand that on
        preexec_fn=lambda: signal.signal(getattr(signal, number), signal.SIG_DFL),
    )
    until = time.monotonic() + 50
    while not work.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)  # the file is made just before
    for _ in range(2 if number == "SIGHUP" else 1):  # shell and kernel send one each
        process.send_signal(getattr(signal, number))
    printed, err = process.communicate(timeout=30)
    assert (process.returncode, printed, err) == (1, "", "swath: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.envi", "source.hdr"]
