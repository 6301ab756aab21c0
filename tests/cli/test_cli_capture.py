from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.app import run
from pipeline.cli.capture import left_behind
from pipeline.cli.display import CaptureDisplay
from pipeline.cli.interrupt import stop_on_signal
from pipeline.container.reader import open_container
from pipeline.errors import DeviceError
from pipeline.events import Armed

SWATH = [sys.executable, "-m", "pipeline.cli"]
KEYS = ["file", "lines", "lost", "seconds", "bytes", "lines_per_second", "backend", "warnings"]
KEYS += ["coded", "coded_in_scan"]


def test_a_capture_in_a_pipe_says_only_what_came_of_it(
    rig: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(rig.parent)
    assert run(["capture", "rig.toml", "--lines", "40"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    file = Path(lines[0])
    assert re.fullmatch(r"captures/leaf-\d{8}T\d{6}\.hsi", lines[0])
    assert lines[1].startswith("  40 lines × 24 samples × 20 bands, 400 to 1000 nm, stored as raw")
    assert lines[2] == "  references: black, white"
    assert "no line lost, computed on c" in lines[3]
    assert lines[4].endswith(
        f"swath info {file} --thumbnail {file.with_suffix('.jpg')} takes it out"
    )
    assert len(lines) == 5
    with open_container(file) as cube:
        assert cube.raw.shape == (40, 24, 20)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_json_is_the_only_thing_on_stdout(rig: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = rig.parent / "x.hsi"
    given = ["--lines", "30", "--out", str(file), "--set", "camera.faults.lose_lines=[5, 6]"]
    assert run(["capture", str(rig), *given, "--json"]) == 3
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert list(result) == KEYS
    assert out.count("\n") == 1
    assert result["file"] == str(file)
    assert (result["lines"], result["lost"]) == (30, 2)
    assert result["bytes"] == file.stat().st_size
    assert result["backend"] in ("cpu", "cuda")
    assert any("2 lines were lost" in text for text in result["warnings"])
    assert "warning: 2 lines were lost" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--set", "camera.fpss=1"], "[camera] fpss: unknown key; did you mean fps?"),
        (["--set", "pipeline.store=reflectanc"], '[pipeline] store: found "reflectanc"'),
        (
            ["--set", "pipeline.store=reflectance", "--set", "references.white=missing.hdr"],
            "missing.hdr",
        ),
        (["--out", "rig.toml"], "rig.toml"),
        (["--lines", "0"], "--lines 0: allowed is a whole number from 1 up; --set scan.lines=0 "),
        (["--lines", "many"], "--lines many: allowed is a whole number from 1 up"),
        (["--seconds", "nan"], "--seconds nan: allowed is a number from 0.001 up"),
    ],
)
def test_bad_input_is_one_sentence_and_starts_nothing(
    rig: Path,
    given: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(rig.parent)
    assert run(["capture", "rig.toml", *given]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in rig.parent.rglob("*") if path.is_file()] == ["rig.toml"]


def test_a_gpu_that_is_asked_for_and_not_there_is_bad_input(
    rig: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def import_cupy() -> object:
        raise DeviceError("no CUDA device: the driver finds none")

    monkeypatch.setattr("pipeline.compute.cuda.import_cupy", import_cupy)
    file = rig.parent / "x.hsi"
    assert run(["capture", str(rig), "--out", str(file), "--set", "pipeline.backend=cuda"]) == 2
    said = 'swath: [pipeline] backend = "cuda": no CUDA device: the driver finds none\n'
    assert said in capfd.readouterr().err
    assert not file.exists()


def test_a_second_signal_says_what_is_left_and_how_to_finish_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    display = CaptureDisplay()
    assert left_behind(display) == "nothing was recorded"
    armed = {"driver": "x", "sensor_type": "x", "bands": 1, "samples": 1, "data_type": 12}
    more = {"bit_depth": 12, "file": str(tmp_path / "my leaf.hsi"), "backend": "cpu", "why": ""}
    display(Armed(**armed, **more))
    assert left_behind(display) == "no unfinished file is left in ."
    (tmp_path / "my leaf-2.hsi.partial").touch()
    assert left_behind(display) == (
        "what was recorded is in 'my leaf-2.hsi.partial'; swath recover 'my leaf-2.hsi.partial' "
        "finishes it"
    )
    (tmp_path / "my leaf-2.hsi.partial").unlink()
    (tmp_path / "my leaf.hsi").touch()
    os.utime(tmp_path / "my leaf.hsi", (1e9, 1e9))  # of another day
    assert left_behind(display) == "no unfinished file is left in ."
    (tmp_path / "my leaf-3.hsi").touch()  # it was being coded
    assert left_behind(display) == "what was recorded is in my leaf-3.hsi, which is whole"


def test_ctrl_c_finishes_the_file(rig: Path) -> None:
    file = rig.parent / "x.hsi"
    given = ["--out", str(file), "--set", "scan.lines=0", "--json"]
    process = subprocess.Popen(
        [*SWATH, "capture", str(rig), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = Path(f"{file}.partial")
    wait_until(lambda: partial.exists() and partial.stat().st_size > 20_000)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["lost"] == 0
    with open_container(file) as cube:
        assert cube.header.lines == result["lines"] > 0
    assert "warning: stopping: the file is being finished" in err
    assert not partial.exists()


def test_the_second_signal_interrupts_and_handlers_are_put_back() -> None:
    stop = threading.Event()
    told: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def interrupt_twice() -> None:
        with stop_on_signal(stop, lambda: told.append(1)):
            os.kill(os.getpid(), signal.SIGTERM)
            wait_until(stop.is_set)
            assert told == [1]
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGTERM) is before


def test_drive_and_process_are_the_two_halves_of_a_capture(
    rig: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint = f"ipc://{rig.parent}/link"
    driver = subprocess.Popen(
        [*SWATH, "drive", str(rig), "--endpoint", endpoint], stderr=subprocess.PIPE, text=True
    )
    try:
        assert driver.stderr is not None
        assert driver.stderr.readline().startswith(f"listening at {endpoint} until Ctrl-C; ")
        file = rig.parent / "x.hsi"
        given = ["--endpoint", endpoint, "--out", str(file), "--json"]
        assert run(["process", str(rig), *given]) == 0
        assert json.loads(capfd.readouterr().out)["lines"] == 60
        assert driver.poll() is None, "a driver that somebody else started goes on"
        driver.terminate()
        assert driver.wait(10) == 0
    finally:
        driver.kill()
        driver.communicate()


def test_a_replay_is_a_camera_for_process(
    captured: Path, rig: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint = f"ipc://{rig.parent}/link"
    given = ["--endpoint", endpoint, "--rate", "max"]
    driver = subprocess.Popen(
        [*SWATH, "replay", str(captured), *given], stderr=subprocess.PIPE, text=True
    )
    try:
        assert driver.stderr is not None
        assert driver.stderr.readline().startswith("listening at ")
        again = rig.parent / "again.hsi"
        plain = rig.parent / "plain.toml"
        plain.write_text('[camera]\ndriver = "replay"\nfile = "x"\n', encoding="utf-8")
        given = ["--endpoint", endpoint, "--out", str(again)]
        assert run(["process", str(plain), *given]) == 0, capfd.readouterr().err
        with open_container(captured) as source, open_container(again) as copy:
            assert np.array_equal(source.raw, copy.raw)
    finally:
        driver.terminate()
        driver.communicate()


@pytest.mark.parametrize("command", ["drive", "process"])
def test_a_half_without_an_endpoint_says_what_is_missing(
    rig: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([command, str(rig)]) == 2
    assert "[stream] endpoint: missing" in capfd.readouterr().err


def test_a_replay_looks_at_its_file_before_it_listens(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = captured.read_bytes()
    for name, data in (("absent", None), ("empty", b""), ("cut", whole[:9000]), ("x", b"x" * 99)):
        file = tmp_path / f"{name}.hsi"
        if data is not None:
            file.write_bytes(data)
        assert run(["replay", str(file), "--endpoint", f"ipc://{tmp_path}/link"]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.startswith(f"swath: {file}: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize("rate", ["fast", "0", "-3", "nan", "inf"])
def test_a_replay_refuses_a_rate_that_is_none(
    captured: Path, rate: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", str(captured), f"--rate={rate}"]) == 2
    assert f"--rate: found '{rate}', allowed are recorded, max" in capfd.readouterr().err


def test_a_reference_is_kept_where_a_capture_finds_it(
    rig: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(rig.parent)
    given = ["--set", "references.black=dark", "--set", "references.white=w.envi"]
    assert run(["reference", "black", "rig.toml", "--lines", "9", *given]) == 0
    assert run(["reference", "white", "rig.toml", *given]) == 0
    black, white = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"dark/black-\d{8}T\d{6}\.hdr", black)
    assert white == "w.hdr"
    with open_container(black) as cube:
        assert cube.raw.shape == (1, 24, 20)
        assert cube.header["lines averaged"] == 9
    assert run(["capture", "rig.toml", "--out", "x.hsi", *given]) == 0
    with open_container("x.hsi") as cube, open_container(white) as source:
        assert np.array_equal(cube.references["white"].array, source.raw[0].T)
    capfd.readouterr()
    assert run(["reference", "white", "rig.toml", *given]) == 2
    assert "never overwritten" in capfd.readouterr().err


def wait_until(condition: object, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
