"""Coding beside a scan, with real processes: it never matters to the capture what becomes of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rigs import SIMULATED, capture, write_rig
from test_coded_capture import MODES

import pipeline.capture
import pipeline.container.payload as payload
import swath
from pipeline.capture import CaptureResult
from pipeline.cli.app import run
from pipeline.coded_capture import code_capture, wanted_coding
from pipeline.container.compress import compress
from pipeline.container.validate import validate
from pipeline.container.zipfile_layout import scan
from pipeline.rigfile import load_rig
from pipeline.scan_coder import ScanCoder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
    pytest.mark.timeout(150),
]

LOSSLESS = ["pipeline.store=pca", "pipeline.pca.lossless=true"]
BLOCK = 32
#: The process of a coder, at the priority of all others: beside a test suite on every core it would
#: hardly get a turn.
HASTY = """
import sys
import pipeline.scan_coder as coder
coder.give_way = lambda: None
sys.exit(coder.main(sys.argv[1]))
"""
#: ``swath`` with such a coder.
HASTY_SWATH = f"""
from pipeline.scan_coder import ScanCoder
start = ScanCoder.__enter__
def hasty(coder):
    coder._process.command[2:] = ["-c", {HASTY!r}, coder._process.command[-1]]
    return start(coder)
ScanCoder.__enter__ = hasty
from pipeline.cli import main
main()
"""
SMALL_BLOCKS = [f"pipeline.pca.block_lines={BLOCK}"]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def priority(pid: int) -> str:
    """The nice value of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16]


def adjusted(proc: Path) -> bool:
    """Whether a process has offered itself to the system where memory is short."""
    return proc.joinpath("oom_score_adj").read_text().split() == ["1000"]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"within {seconds} s: not {what}"
        time.sleep(0.005)


class Watched:
    """A capture whose coder is looked at, and whose raw file is kept."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.hasty = True
        self.coders: list[ScanCoder] = []
        self.raw = folder / "raw.hsi"
        self.left: list[str] = []
        watched = self

        class Seen(ScanCoder):
            def __enter__(self) -> ScanCoder:
                if watched.hasty:
                    command = self._process.command
                    command[2:] = ["-c", HASTY, command[-1]]
                coder = super().__enter__()
                watched.coders.append(coder)
                return coder

        def keep_raw(file: Path, *more: object) -> tuple[str, int]:
            shutil.copy(file, watched.raw)
            watched.left = os.listdir(file.parent)
            return code_capture(file, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(pipeline.capture, "ScanCoder", Seen)
        monkeypatch.setattr(pipeline.capture, "code_capture", keep_raw)

    @property
    def spool(self) -> Path:
        return self.folder / "out" / "leaf.hsi.partial.d" / "coded-blocks"

    @property
    def lines(self) -> int:
        partial = self.folder / "out" / "leaf.hsi.partial"
        return (partial.stat().st_size - 4096) // (48 * 20 * 2) if partial.exists() else 0

    @property
    def pid(self) -> int:
        wait_for(lambda: bool(self.coders), "a coder")
        assert self.coders[0].pid is not None
        return self.coders[0].pid

    def coded(self, blocks: int = 1) -> None:
        """Wait until so many blocks are in the spool, each of a kilobyte and more."""
        wait_for(lambda: self.spool.exists() and self.blocks() >= blocks, f"{blocks} blocks coded")

    def blocks(self) -> int:
        with contextlib.suppress(OSError):
            return self.spool.read_bytes().count(b"SWB1")
        return 0

    def run(
        self, meanwhile: Callable[[], None], *keys: str, text: str = SIMULATED
    ) -> CaptureResult:
        """Record until ``meanwhile`` returns."""
        stop = threading.Event()
        failed: list[BaseException] = []

        def act() -> None:
            try:
                meanwhile()
            except BaseException as error:
                failed.append(error)
            stop.set()

        thread = threading.Thread(target=act)
        path = write_rig(self.folder, text)
        thread.start()
        try:
            result = capture(path, *keys, stop=stop)
        finally:
            thread.join()
        assert not failed, failed
        assert all(gone(coder.pid) for coder in self.coders if coder.pid)
        assert os.listdir(self.folder / "out") == ["leaf.hsi"]
        assert [f.text for f in validate(result.file) if f.level == "error"] == []
        return result

    def same_as_afterwards(self, result: CaptureResult, *keys: str) -> None:
        """Code the raw file now, and compare every byte but for times."""
        wanted = wanted_coding(load_rig(self.folder / "rig.toml", keys).pipeline)
        made = compress(self.raw, self.folder / "after.hsi", wanted)
        assert made.ahead == 0
        with scan(result.file) as found, scan(made.path) as expected:
            assert list(found.entries) == list(expected.entries)
            for name in found.entries:
                assert found.read(name) == expected.read(name), name


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("store", "keys"), MODES, ids=lambda x: x if isinstance(x, str) else x[-1:]
)
def test_coded_while_the_scan_runs_it_is_the_same_file(
    watched: Watched, store: str, keys: list[str]
) -> None:
    text = SIMULATED + "[camera.faults]\nlose_lines = [20, 21]\n"
    # 128 lines are a block of packed pixels, and the fewest that pay for the header of a ratio.
    few = [] if store == "packints" or "ratio" in keys[0] else SMALL_BLOCKS
    settings = [f"pipeline.store={store}", *few, *keys]
    result = watched.run(lambda: watched.coded(3), *settings, text=text)
    assert (result.exit_status, result.lost) == (3, 2)
    assert result.coded_in_scan >= 3 * (BLOCK if few else 128)
    rest = result.lines - result.coded_in_scan
    assert result.coded.startswith(f"{result.coded_in_scan:,} lines were coded while the scan ran")
    assert rest == 0 or f", {rest:,} were spooled raw and coded when it had ended: " in result.coded
    assert watched.left == ["leaf.hsi"]  # nothing lies beside a finished file
    watched.same_as_afterwards(result, *settings)


def test_a_coder_that_is_killed_costs_the_blocks_that_it_has_not_coded(watched: Watched) -> None:
    def kill() -> None:
        watched.coded(2)
        os.kill(watched.pid, signal.SIGKILL)
        lines = watched.lines
        wait_for(lambda: watched.lines > lines + 4 * BLOCK, "the scan going on")

    result = watched.run(kill, *LOSSLESS, *SMALL_BLOCKS)
    assert (result.exit_status, result.lost, result.warnings) == (0, 0, [])
    assert 0 < result.coded_in_scan < result.lines - 3 * BLOCK
    assert "when it had ended (the coding process was ended by SIGKILL): smallest" in result.coded
    watched.same_as_afterwards(result, *LOSSLESS, *SMALL_BLOCKS)


def test_a_coder_that_never_gets_a_turn_is_not_missed(watched: Watched) -> None:
    def stand_still() -> None:
        os.kill(watched.pid, signal.SIGSTOP)  # while its interpreter still starts
        wait_for(lambda: watched.lines > 6 * BLOCK, "the scan going on")

    result = watched.run(stand_still, *LOSSLESS, *SMALL_BLOCKS)
    assert (result.exit_status, result.lost, result.coded_in_scan) == (0, 0, 0)
    said = f"{result.lines:,} lines were spooled raw and coded when the scan had ended: smallest"
    assert result.coded.startswith(said)
    watched.same_as_afterwards(result, *LOSSLESS, *SMALL_BLOCKS)


def test_a_coder_that_cannot_be_started_is_not_missed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("pipeline.supervise.ChildProcess.start", refuse_coding(refuse))
    result = watched.run(lambda: wait_for(lambda: watched.lines > BLOCK, "lines"), *LOSSLESS)
    assert (result.exit_status, result.lost, result.coded_in_scan) == (0, 0, 0)


def refuse_coding(refuse: Callable[..., None]) -> Callable[..., None]:
    """Refuse the start of a coding process; any other starts."""
    from pipeline.supervise import ChildProcess

    start = ChildProcess.start

    def started(self: ChildProcess) -> None:
        if self.name == "coding":
            refuse()
        start(self)

    return started


def test_a_disk_that_refuses_its_blocks_costs_nothing_else(watched: Watched) -> None:
    def refuse() -> None:
        resource.prlimit(watched.pid, resource.RLIMIT_FSIZE, (0, 0))
        wait_for(lambda: gone(watched.pid), "its end")
        lines = watched.lines
        wait_for(lambda: watched.lines > lines + 3 * BLOCK, "the scan going on")

    result = watched.run(refuse, *LOSSLESS, *SMALL_BLOCKS)
    assert (result.exit_status, result.lost, result.coded_in_scan) == (0, 0, 0)
    assert "coded-blocks: cannot be written, File too large): smallest" in result.coded
    watched.same_as_afterwards(result, *LOSSLESS, *SMALL_BLOCKS)


def test_its_blocks_make_room_before_a_line_is_given_up(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    write = payload.write_at

    def limited(fd: int, data: object, offset: int) -> int:
        if full.is_set() and watched.spool.exists() and watched.spool.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, offset)

    monkeypatch.setattr(payload, "write_at", limited)

    def fill_up() -> None:
        watched.coded(2)
        full.set()
        lines = watched.lines
        wait_for(lambda: watched.lines > lines + 3 * BLOCK, "the scan going on")

    result = watched.run(fill_up, *LOSSLESS, *SMALL_BLOCKS)
    assert (result.exit_status, result.lost, result.coded_in_scan) == (0, 0, 0)
    assert "when the scan had ended (the disk was full): smallest" in result.coded
    watched.same_as_afterwards(result, *LOSSLESS, *SMALL_BLOCKS)


def test_it_gives_way_to_everybody_else(watched: Watched) -> None:
    watched.hasty = False
    seen: dict[str, str] = {}

    def look() -> None:
        proc = Path(f"/proc/{watched.pid}")
        wait_for(lambda: priority(watched.pid) == "19" and adjusted(proc), "giving way")
        seen["nice"] = priority(watched.pid)
        for name in ("oom_score_adj", "autogroup"):
            with contextlib.suppress(OSError):
                seen[name] = proc.joinpath(name).read_text().split()[-1]
        seen["session"] = str(os.getsid(watched.pid))

    watched.run(look, *LOSSLESS, *SMALL_BLOCKS)
    assert seen.pop("nice") == "19"
    assert seen.pop("oom_score_adj") == "1000"
    assert seen.pop("session") == str(watched.coders[0].pid)  # no Ctrl-C reaches it
    assert seen.pop("autogroup", "19") == "19"


# -- the whole command, and its end ------------------------------------------------------------


class Running:
    """``swath capture`` as a process, without an end of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "out" / "leaf.hsi"
        self.partial = folder / "out" / "leaf.hsi.partial"
        self.spool = folder / "out" / "leaf.hsi.partial.d" / "coded-blocks"
        command = [sys.executable, "-c", HASTY_SWATH, "capture", str(write_rig(folder))]
        for key in (*LOSSLESS, *SMALL_BLOCKS):
            command += ["--set", key]
        self.process = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_until_coded(self, size: int = 5000) -> int:
        """Give the coder's process id once it has coded so many bytes."""

        def ready() -> bool:
            return self.spool.exists() and self.spool.stat().st_size >= size and self.lines > 200

        wait_for(lambda: ready() or self.process.poll() is not None, "blocks coded", 90.0)
        assert self.process.poll() is None, self.process.communicate()
        (pid,) = self.coders()
        return pid

    @property
    def lines(self) -> int:
        return (self.partial.stat().st_size - 4096) // (48 * 20 * 2)

    def coders(self) -> list[int]:
        found = []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
                if "pipeline.scan_coder" in text and str(self.spool) in text:
                    found.append(pid)
        return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    run = Running(tmp_path)
    yield run
    run.process.kill()
    run.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_ends_the_scan_and_codes_the_file(
    running: Running, number: signal.Signals
) -> None:
    pid = running.wait_until_coded()
    running.process.send_signal(number)
    out, err = running.process.communicate(timeout=90)
    result = json.loads(out)
    assert (running.process.returncode, result["lost"]) == (0, 0), err
    assert result["coded_in_scan"] >= BLOCK
    assert gone(pid)
    assert os.listdir(running.file.parent) == ["leaf.hsi"]
    with swath.open(running.file) as cube:
        assert cube.header.coded
        assert cube.header.lines == result["lines"]
        assert np.isfinite(cube.read(slice(0, 5))).all()


def test_a_capture_that_is_killed_takes_its_coder_along(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    pid = running.wait_until_coded(0)
    running.process.kill()
    running.process.wait()
    wait_for(lambda: gone(pid), "the coder's end", 20.0)
    assert running.spool.exists()
    lines = running.lines
    assert run(["recover", str(running.partial)]) == 0
    out = capfd.readouterr().out.splitlines()
    assert os.listdir(running.file.parent) == ["leaf.hsi"]
    with swath.open(running.file) as cube:
        assert not cube.header.coded
        assert cube.header.lines > lines - 200
    said, _, command = out[-1].partition(": ")
    assert said == "  raw, not coded as the rig file has it"
    assert command.split(" OUT.hsi ")[1] == f"--lossless --block-lines {BLOCK}"


def test_a_capture_that_is_interrupted_twice_takes_its_coder_along(running: Running) -> None:
    pid = running.wait_until_coded(0)
    os.kill(pid, signal.SIGSTOP)  # it need not do anything to end
    for _ in range(2):
        running.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = running.process.communicate(timeout=90)
    assert gone(pid)
    if running.process.returncode == 1:  # else it was finished before the second signal came
        assert "interrupted twice" in err
        assert not running.spool.exists()
        assert running.partial.exists() or running.file.exists()
