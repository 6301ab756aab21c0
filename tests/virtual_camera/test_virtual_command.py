"""The virtual camera's command line: what is wrong is said in a sentence, what ends is put away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from virtual_camera import command
from virtual_camera.build import BuildFolderError, CannotBuildError, build

from pipeline.container.envi import write_envi

TOOL = Path(command.__file__).parent


@pytest.fixture
def file(tmp_path, rng):
    cube = rng.integers(0, 4096, (5, 17, 6)).astype(np.uint16)
    return write_envi(tmp_path, "cube", cube, {"bit depth": 12, "exposure": 3.0})


@pytest.fixture
def tool(monkeypatch, settings, producer):
    """Run the tool's main function with the producer that is there."""
    monkeypatch.setattr(command, "build", lambda *_: producer)

    def run(*words):
        return command.main([str(word) for word in words])

    return run


@pytest.fixture
def started(tmp_path, producer):
    """Start the tool as a process with a folder of its own for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    builds = temporary / f"swath-virtual-build-{os.getuid()}"
    builds.symlink_to(producer.parents[1])
    running = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, str(TOOL), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
            # a job in the background ignores it, and hands that on
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        running.append(process)
        return process

    start.left = lambda: [p for p in temporary.iterdir() if p != builds]
    yield start
    for process in running:
        process.kill()
        process.communicate()


def eventually(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("FaultUnplugAfte=150", "no feature 'FaultUnplugAfte', did you mean FaultUnplugAfter?"),
        ("faultstrikes=1", "did you mean FaultStrikes?"),
        ("Fault", "no feature 'Fault', did you mean Fault"),
        ("Qqqqqqqq=1", "no feature 'Qqqqqqqq'"),
        ("AnalogControl=1", "no feature 'AnalogControl'"),
        ("FaultUnplugAfter", "it takes FaultUnplugAfter=VALUE"),
        ("FaultUnplugAfter=soon", "found soon, it takes a number"),
        ("Gain=99", "Gain: found 99.000000, allowed are 0.000000 to 24"),
        ("PixelFormat=Mono7", "PixelFormat: it has no value Mono7"),
        ("DeviceUserID=a;b", "DeviceUserID: found 'a;b'"),
        ("DeviceUserID=a\nb", "line breaks"),
    ],
)
def test_a_setting_that_the_camera_does_not_take_is_refused(tool, file, capsys, setting, said):
    assert tool("play", file, "--set", setting) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_without_a_command_the_environment_is_printed(tool, file, capsys):
    assert tool("play", file, "--set", "Gain=3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "export GENICAM_GENTL64_PATH",
        "export SWATH_VIRTUAL_SET",
    ]
    assert lines[1].endswith("Gain=3'")


@pytest.mark.parametrize("name", ["a;b", "a\nb"])
def test_a_file_whose_name_breaks_up_the_settings_is_refused(tool, file, capsys, name):
    (file.parent / f"{name}.raw").write_bytes(file.with_suffix(".envi").read_bytes())
    header = file.rename(file.parent / f"{name}.hdr")
    for what in ("play", "measure"):
        assert tool(what, header) == 2
        assert "SceneFile: found" in capsys.readouterr().err


def test_an_equals_sign_in_a_name_is_no_matter(tool, file, capsys):
    (file.parent / "a=b.raw").write_bytes(file.with_suffix(".envi").read_bytes())
    assert tool("play", file.rename(file.parent / "a=b.hdr")) == 0


def test_bad_input_is_told_with_status_2(tool, file, tmp_path, capsys):
    for words in (
        ("play", tmp_path / "none.hdr"),
        ("measure", tmp_path / "none.hdr"),
        ("play", file, "--", "no-such-command"),
        ("play", file, "--", "/no/such"),
        ("play", file, "--", tmp_path),
        ("play", file, "--", file),
        ("render", tmp_path / "scene.hdr"),
        ("render", tmp_path / "a.raw", "--bands", "65536", "--samples", "65536"),
    ):
        assert tool(*words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        *(("measure", "--seconds", bad) for bad in ("nan", "-1", "0", "inf")),
        *(("render", "a.raw", "--exposure-ms", bad) for bad in ("nan", "inf", "-1", "0")),
        *(("render", "a.raw", "--lines", bad) for bad in ("0", "-1", "٣")),
        ("render", "a.raw", "--samples", "100000000000"),
        ("render", "a.raw", "--view", "sky"),
    ],
)
def test_an_option_that_cannot_be_is_refused(capsys, words):
    with pytest.raises(SystemExit) as end:
        command.main(list(words))
    assert end.value.code == 2
    assert "error: argument" in capsys.readouterr().err


def test_where_nothing_can_be_built_is_told(tmp_path, monkeypatch, producer):
    (tmp_path / "file").touch()
    with pytest.raises(BuildFolderError, match="file: builds cannot be kept there"):
        build(tmp_path / "file")
    assert BuildFolderError.exit_status == 2
    monkeypatch.setenv("CXX", "true")
    with pytest.raises(CannotBuildError, match=r"true ended well, but made no swath_virtual\.cti"):
        build(tmp_path / "builds")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(CannotBuildError, match="false failed"):
        build(tmp_path / "builds")
    assert [path.name for path in (tmp_path / "builds").iterdir()] == ["lock"]


def test_a_build_that_is_ended_ends_its_compiler(tmp_path, producer):
    compiler = tmp_path / "slow"
    compiler.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nsleep 60\n")
    compiler.chmod(0o700)
    tool = subprocess.Popen(
        [sys.executable, str(TOOL), "build", "--folder", str(tmp_path / "builds")],
        env=os.environ | {"CXX": str(compiler)},
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually((tmp_path / "pids").exists)
    tool.terminate()
    assert tool.communicate(timeout=20)[1] == "virtual_camera: ended by SIGTERM\n"
    assert tool.returncode == 128 + signal.SIGTERM
    pids = (tmp_path / "pids").read_text().split()
    eventually(lambda: not any(is_there(pid) for pid in pids))
    assert [path.name for path in (tmp_path / "builds").iterdir()] == ["lock"]


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_runs_with_the_camera_set_up(started, file):
    code = (
        "import os; print(os.environ['SWATH_VIRTUAL_SET']);"
        "print(os.path.isdir(os.environ['SWATH_VIRTUAL_LOCKS'])); raise SystemExit(7)"
    )
    play = started("play", file, "--set", "Gain=3", "--", sys.executable, "-c", code)
    told, said = play.communicate(timeout=30)
    assert play.returncode == 7, said
    assert f"SceneFile={file.with_suffix('.envi')};" in told
    assert told.endswith("Gain=3\nTrue\n")
    eventually(lambda: not started.left())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_play_ends_the_command(started, file, number):
    play = started("play", file, "--", "sh", "-c", "echo $$; exec sleep 60")
    pid = int(play.stdout.readline())
    assert len(started.left()) == 1
    play.send_signal(number)
    play.communicate(timeout=20)
    assert play.returncode == -number
    assert not is_there(pid)
    eventually(lambda: not started.left())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_says_so_and_leaves_nothing(started, tmp_path, number):
    measure = started("measure", "--seconds", "60")
    eventually(lambda: any(any(folder.iterdir()) for folder in started.left()))
    measure.send_signal(number)
    _, said = measure.communicate(timeout=20)
    assert (measure.returncode, said.count("\n")) == (128 + number, 1)
    assert not started.left()
    render = started("render", tmp_path / "long.raw", "--lines", "9999")
    eventually((tmp_path / ".long.raw.unfinished").exists)
    render.send_signal(number)
    _, said = render.communicate(timeout=20)
    assert (render.returncode, said.count("\n")) == (128 + number, 1)
    assert not list(tmp_path.glob("*long*"))
