"""SIGKILL of the driver, of the pipeline and of both while lines flow: what was synced is kept.

Twenty random moments. The pipeline runs as ``swath capture`` in a process of its own and prints
nothing about acknowledgements, so the test reads them where they are written: the partial file's
size one second before the kill is what the sink had acknowledged then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rigs import replay_rig

import swath
from pipeline.container.envi import write_envi
from pipeline.container.recovery import recover
from pipeline.container.validate import validate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes by /proc")

LINES, BANDS, SAMPLES = 40_000, 12, 32
LINE_BYTES = BANDS * SAMPLES * 2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube in which each line is different from all others."""
    folder = tmp_path_factory.mktemp("kill-source")
    numbers = np.arange(LINES, dtype=np.uint32)[:, None, None]
    cube = ((numbers * 2654435761) >> 16) + np.arange(SAMPLES * BANDS).reshape(SAMPLES, BANDS)
    return write_envi(folder, "source", (cube % 4096).astype(np.uint16) + 1)


def children(pid: int) -> list[int]:
    """The processes whose parent is ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("victim", ["pipeline", "both", "driver"])
def test_killed_at_random_moments_the_file_recovers(
    tmp_path: Path, source: Path, rng: np.random.Generator, victim: str
) -> None:
    truth = np.asarray(swath.open(source).raw)
    # who is killed shall not be done before, however late that is on a busy machine
    lines = "11000" if victim == "driver" else "39000"
    moments = rng.uniform(1.2, 2.2, {"pipeline": 7, "both": 7, "driver": 6}[victim])

    def run(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = replay_rig(folder, source, block_lines=16)
        rig.write_text(rig.read_text().replace('rate = "max"', "rate = 4000.0"))
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "capture", str(rig), "--lines", lines],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            strike(folder, float(moments[number]), process, victim, truth)
        finally:
            process.kill()
            process.wait()

    # a few at a time: the start of a process is the longest part
    with ThreadPoolExecutor(3) as pool:
        for _ in pool.map(run, range(len(moments))):
            pass


def strike(
    folder: Path, moment: float, process: subprocess.Popen[bytes], victim: str, truth: np.ndarray
) -> None:
    """Kill at a moment after the first line, then judge what is left."""
    partial = folder / "out" / "replayed.hsi.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 100_000):
        assert time.monotonic() < deadline, "no line was stored within a minute"
        assert process.poll() is None, "the capture ended by itself"
        time.sleep(0.01)
    time.sleep(max(0.0, moment - 1.05))
    size = partial.stat().st_size
    time.sleep(1.05)
    drivers = children(process.pid)
    assert len(drivers) == 1
    if victim == "pipeline":
        process.kill()
    elif victim == "driver":
        os.kill(drivers[0], signal.SIGKILL)
    else:
        process.kill()
        os.kill(drivers[0], signal.SIGKILL)
    process.wait(60)
    until = time.monotonic() + 5
    while alive(drivers[0]) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(drivers[0]), "the driver outlived its parent"

    file = folder / "out" / "replayed.hsi"
    if victim == "driver":
        # the pipeline goes on with a new driver, and ends by itself
        assert process.returncode in (0, 3)
    else:
        assert not file.exists()
        report = recover(partial)
        assert Path(report.file) == file
    errors = [str(f) for f in validate(file) if f.level == "error"]
    assert errors == []
    with swath.open(file) as cube:
        kept = cube.raw.shape[0]
        # the payload never moves, so this is where it began in the partial file, too
        acknowledged = (size - cube.data_offset) // LINE_BYTES
        assert kept >= acknowledged, f"{acknowledged} lines were acknowledged a second before"
        rows = cube.ledger[cube.ledger["line"] >= 0]
        assert len(rows) == kept
        stored = rows["status"] == 0
        ids = rows["frame_id"][stored].astype(np.int64) - 1
        lines = rows["line"][stored]
        assert np.array_equal(cube.raw[lines], truth[ids])
