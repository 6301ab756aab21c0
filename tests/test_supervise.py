from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import CameraError, ConfigError
from pipeline.supervise import TAIL_LINES, BackOff, ChildProcess, DriverProcess


def child(code: str, **options: object) -> ChildProcess:
    return ChildProcess([sys.executable, "-c", code], name="test", **options)  # type: ignore[arg-type]


def wait_until(condition: object, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie of somebody else's is as good as gone.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")


def test_waits_double_up_to_a_limit_and_start_anew_after_a_good_run() -> None:
    back_off = BackOff(first_s=0.2, limit_s=10.0, good_s=60.0)
    waits = [back_off.after(1.0) for _ in range(8)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert back_off.after(61.0) == 0.2
    assert back_off.after(59.0) == 0.4


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (7, "swath: bad pixel", "the test process ended with exit status 7: bad pixel"),
        (1, "swath: a\\nswath: b\\nmore", "the test process ended with exit status 1: b"),
        (2, "swath: rig.toml:3: no", "rig.toml:3: no"),
        (2, "swath drive: wrong", "the test process ended with exit status 2"),
        (1, "    raise Swath(self)", "the test process ended with exit status 1"),
    ],
)
def test_last_words_tell_status_and_swaths_own_last_line(
    status: int, said: str, words: str
) -> None:
    process = child(f"import sys; print('first\\n{said}', file=sys.stderr); sys.exit({status})")
    assert process.last_words() == ""
    process.start()
    wait_until(lambda: not process.alive)
    assert process.returncode == status
    assert process.last_words() == words
    assert type(process.failure()) is (ConfigError if status == 2 else CameraError)


def test_last_words_tell_the_signal() -> None:
    process = child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    process.start()
    wait_until(lambda: not process.alive)
    assert process.last_words() == "the test process was ended by SIGSEGV"


def test_the_tail_of_a_talkative_child_is_bounded() -> None:
    process = child("import sys\nfor n in range(400): print(n, 'x' * 9999, file=sys.stderr)")
    process.start()
    wait_until(lambda: not process.alive, 30.0)
    process.last_words()
    assert len(process.tail) == TAIL_LINES
    assert max(map(len, process.tail)) <= 4096
    assert sum("399 " in line for line in process.tail) == 1


def test_each_line_is_handed_on_as_it_comes() -> None:
    said: list[str] = []
    code = "import sys, time; print('ready', file=sys.stderr, flush=True); time.sleep(60)"
    with child(code, on_line=said.append) as process:
        wait_until(lambda: said == ["ready"])
        assert process.alive
    assert not process.alive


def test_stop_asks_and_then_insists() -> None:
    said: list[str] = []
    stubborn = child(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *a: print('no', file=sys.stderr, flush=True))\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "while True: time.sleep(0.1)",
        on_line=said.append,
    )
    stubborn.start()
    wait_until(lambda: said == ["ready"])
    stubborn.stop(timeout_s=0.3)
    assert stubborn.returncode == -signal.SIGKILL
    assert "no" in said
    stubborn.stop()  # a second time does nothing


def test_what_the_child_started_is_ended_with_it() -> None:
    said: list[str] = []
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, file=sys.stderr, flush=True)\n"
        "time.sleep(60)"
    )
    process = child(code, on_line=said.append)
    process.start()
    wait_until(lambda: bool(said))
    process.stop(timeout_s=0.1)
    wait_until(lambda: gone(int(said[0])))


def test_the_child_has_a_session_of_its_own() -> None:
    with child("import time; time.sleep(60)") as process:
        assert process.pid is not None
        assert os.getsid(process.pid) != os.getsid(0)


def test_a_program_that_is_not_there_is_told() -> None:
    process = ChildProcess(["/nonexistent/program"], name="test")
    with pytest.raises(ConfigError, match="test: /nonexistent/program cannot be started"):
        process.start()
    assert not process.alive


def test_watch_starts_again_after_each_death_until_stopped() -> None:
    stop = threading.Event()
    process = child("import sys; print('swath: ouch', file=sys.stderr); sys.exit(1)")
    deaths: list[tuple[str, float]] = []

    def note(words: str, wait_s: float) -> None:
        deaths.append((words, wait_s))
        if len(deaths) == 3:
            stop.set()

    process.watch(stop, back_off=BackOff(0.01, 0.02), on_death=note)
    assert process.starts == 3
    assert [wait for _, wait in deaths] == [0.01, 0.02, 0.02]
    assert {words for words, _ in deaths} == {"the test process ended with exit status 1: ouch"}
    assert not process.alive


def test_watch_stops_a_child_that_runs() -> None:
    stop = threading.Event()
    process = child("import time; time.sleep(60)")
    watcher = threading.Thread(target=process.watch, args=(stop,))
    watcher.start()
    wait_until(lambda: process.alive)
    stop.set()
    watcher.join(10.0)
    assert not watcher.is_alive()
    assert process.returncode == -signal.SIGTERM


def test_restart_makes_a_new_process() -> None:
    with child("import time; time.sleep(60)") as process:
        before = process.pid
        process.restart()
        assert process.alive
        assert process.pid != before
        assert process.starts == 2


def test_a_driver_with_a_wrong_rig_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = tmp_path / "rig.toml"
    rig.write_text('[camera]\ndriver = "simulated"\nfps = -1\n')
    # A file of that name where the user stands must not be taken for the package.
    (tmp_path / "pipeline.py").write_text("raise SystemExit('the wrong pipeline')")
    driver = DriverProcess(rig, f"ipc://{tmp_path}/link")
    monkeypatch.chdir(tmp_path)
    driver.start()
    wait_until(lambda: not driver.alive, 30.0)
    assert driver.returncode == 2
    assert driver.last_words() == f"{rig}:3: [camera] fps: found -1, allowed is a number above 0"
    assert type(driver.failure()) is ConfigError


def test_a_driver_gets_the_overrides() -> None:
    driver = DriverProcess("rig.toml", "ipc://x", overrides=("camera.fps=1", "scan.lines=2"))
    assert driver.command[-4:] == ["--set", "camera.fps=1", "--set", "scan.lines=2"]
    assert driver.command[1:5] == ["-P", "-m", "pipeline.cli", "drive"]
    assert driver.command[driver.command.index("--parent") + 1] == str(os.getpid())


def test_an_end_that_is_not_to_be_waited_for_is_still_an_end() -> None:
    process = child("import time; time.sleep(60)")
    process.start()
    pid = process.pid
    assert pid is not None
    began = time.monotonic()
    process.kill(0.0)
    assert time.monotonic() - began < 5.0
    wait_until(lambda: not process.alive)
    assert gone(pid)
    process.stop()
