"""A live capture under the clock of its camera: whether all lines are kept, how old the picture is.

    python tools/bench/live.py --latency              four cameras' rates, some seconds each
    python tools/bench/live.py --open-loop            60 s of 1024 x 448 at 330 Hz, ten times
    python tools/bench/live.py --open-loop --trials 1 --seconds 10 --fps 500
    python tools/bench/live.py --open-loop --trials 1 --fps 100 --store pca --pca "max_error = 2"

Each run is a real capture, driver process and all, of the simulated camera, which produces by the
clock whether or not there is room; previews, quality mask and references are on, raw lines go to
``--folder``, and another process subscribes to the preview. Afterwards the file is validated and
every frame id of the clock looked up in its ledger: in the cube, or lost.

The latency of a line is the time from the ledger's host time of it to the moment in which the
subscriber holds the first strip whose preview row has that line in it. Needs no camera or GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import swath
from pipeline.capture import CaptureResult, run_capture
from pipeline.container.validate import validate
from pipeline.events import Event, EventBus, Progress
from pipeline.layout import LineStatus
from pipeline.rigfile import load_rig
from pipeline.stream.preview import PreviewSubscriber
from pipeline.stream.security import private_endpoint

#: Lines that the simulated camera computes beforehand, so that swath is measured and not it.
POOL_LINES = 256
#: How long the subscriber waits for a strip before it looks whether it is to end, s.
LOOK_S = 0.05
#: Aim: the 99th percentile of the latency, ms.
LATENCY_AIM_MS = 100.0
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

RIG = """
[camera]
{camera}
fps = {fps}
exposure_ms = {exposure_ms}
wavelengths = {{ first = 400.0, last = 1000.0, fwhm = 5.5 }}
[stream]
block_lines = {block_lines}
gaps = "skip"
[references]
{white}
black = "take"
lines = 20
panel = 0.95
[pipeline]
backend = "{backend}"
store = "{store}"
threads = {threads}
[pipeline.pca]
{pca}
[output]
folder = "{folder}"
name = "live"
preview_endpoint = "{endpoint}"
"""


@dataclass(frozen=True)
class Source:
    """Whose lines are captured.

    Attributes
    ----------
    camera, white : str
        Its lines of ``[camera]`` and of ``[references]``.
    first_id : int
        Frame id of the first line of a scan.
    environment : mapping
        Variables that its driver needs.
    """

    camera: str
    white: str = 'white = "take"'
    first_id: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """A camera and what is done with its lines: ``fps`` (Hz), ``seconds``, shape, rig file keys."""

    fps: float = 330.0
    samples: int = 1024
    bands: int = 448
    seconds: float = 60.0
    block_lines: int = 32
    backend: str = "auto"
    store: str = "raw"
    threads: int = 0
    pca: str = ""

    @property
    def lines(self) -> int:
        """Lines that the clock makes in that time."""
        return round(self.fps * self.seconds)

    @property
    def exposure_ms(self) -> float:
        """What leaves the sensor time to be read out (the virtual camera: 0.224 ms), ms."""
        return min(2.5, 0.9 * (1000.0 / self.fps - 0.25))


#: Cameras' own rates: a large and a small sensor at full rate, a slow one, and a very slow one.
RATES = (
    Setup(fps=330.0, samples=1024, bands=448),
    Setup(fps=670.0, samples=640, bands=224),
    Setup(fps=100.0, samples=1024, bands=448),
    Setup(fps=20.0, samples=1024, bands=448),
)


@dataclass
class Trial:
    """What one capture came to.

    Attributes
    ----------
    clock : int
        Lines that the camera's clock made.
    lines, lost : int
        In the cube, and lost by the ledger; together they are ``clock`` when all is accounted for.
    unknown : int
        Frame ids of which the ledger says nothing, or more than one thing: must be 0.
    not_inspected : int
        Lines that the stages did not see; made up after the scan or not.
    errors : list of str
        Of ``validate`` and of the capture.
    gbytes_s : float
        Raw input, GB/s by the clock.
    seconds : float
        Of scanning, by the wall clock.
    latency_ms : dict
        median, p99 and max over all lines that were seen.
    unseen : int
        Lines whose pixel never came, because their strip was dropped for the reader;
        ``unconnected`` of them before the reader's first strip.
    strips, missed : int
        That arrived, and that were dropped between them.
    free_slots : tuple of int
        Fewest and most free slots of the engine's ring while scanning.
    cpu : dict
        Cores used while scanning, by process.
    coded : str
        How the file was coded; ``coded_in_scan`` of its lines while the scan ran.
    """

    clock: int
    lines: int = 0
    lost: int = 0
    unknown: int = 0
    not_inspected: int = 0
    errors: list[str] = field(default_factory=list)
    gbytes_s: float = 0.0
    seconds: float = 0.0
    backend: str = ""
    latency_ms: dict[str, float] = field(default_factory=dict)
    unseen: int = 0
    unconnected: int = 0
    strips: int = 0
    missed: int = 0
    free_slots: tuple[int, int] = (0, 0)
    cpu: dict[str, float] = field(default_factory=dict)
    coded: str = ""
    coded_in_scan: int = 0

    @property
    def accounted(self) -> bool:
        """Whether clock × rate = lines in the cube + lines lost in the ledger, id by id."""
        return not self.unknown and self.lines + self.lost == self.clock

    @property
    def good(self) -> bool:
        """Whether nothing was lost, all is accounted for, and the file is whole."""
        return self.accounted and not self.lost and not self.errors


def simulated(setup: Setup) -> Source:
    """Take the simulated camera, which needs no driver of a vendor."""
    shape = f"samples = {setup.samples}\nbands = {setup.bands}"
    return Source(f'driver = "simulated"\n{shape}\npool_lines = {POOL_LINES}')


def record(setup: Setup, folder: str | Path | None = None, source: Source | None = None) -> Trial:
    """Capture once with a subscriber beside, check the file, and remove it.

    Parameters
    ----------
    setup : Setup
    folder : path, optional
        On the disk to write to; the system's folder for temporary files where left out.
    source : Source, optional
        The simulated camera where left out.

    Raises
    ------
    SwathError
        When the capture cannot be armed.
    """
    watch = Watch()
    with (
        tempfile.TemporaryDirectory(prefix="swath-live-", dir=folder) as name,
        contextlib.ExitStack() as stack,
    ):
        endpoint, cleanup = private_endpoint()
        stack.callback(cleanup)
        path = Path(name) / "live.toml"
        source = source or simulated(setup)
        values = asdict(setup) | {"camera": source.camera, "white": source.white}
        values |= {"folder": name, "endpoint": endpoint}
        path.write_text(RIG.format(**values, exposure_ms=round(setup.exposure_ms, 3)))
        seen = Path(name) / "strips.json"
        reader = subprocess.Popen(
            [sys.executable, __file__, "--subscribe", endpoint, str(seen)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which then closes its input
        )
        try:
            watch.names[reader.pid] = "subscriber"
            bus = EventBus()
            bus.subscribe(watch)
            with variables(source.environment):
                result = run_capture(load_rig(path), rig_path=path, lines=setup.lines, bus=bus)
        finally:
            assert reader.stdin is not None
            reader.stdin.close()
            reader.wait(timeout=30.0)
        strips = json.loads(seen.read_text())
        return judge(setup, result, strips, watch, first_id=source.first_id)


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for what is started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def judge(
    setup: Setup,
    result: CaptureResult,
    strips: list[dict[str, int]],
    watch: Watch,
    first_id: int = 1,
) -> Trial:
    """Look up every frame of the clock in the file, and when its pixel was seen."""
    trial = Trial(setup.lines, backend=result.backend, seconds=result.seconds)
    trial.errors = [str(f) for f in validate(result.file) if f.level == "error"]
    if result.message:
        trial.errors.append(result.message)
    with swath.open(result.file) as cube:
        ledger = np.array(cube.ledger)
    known = np.zeros(setup.lines + 2, np.int64)  # the last for ids that the clock never made
    for row in ledger:
        first, count = int(row["frame_id"]) - first_id + 1, int(row["count"])
        known[np.clip(np.arange(first, first + count), 0, setup.lines + 1)] += 1
    trial.unknown = int(np.count_nonzero(known[1:-1] != 1) + known[0] + known[-1])
    lost = ledger["status"] == LineStatus.LOST
    trial.lost = int(ledger["count"][lost].sum())
    stored = ledger[ledger["line"] >= 0]
    trial.lines = len(stored)
    trial.not_inspected = int(np.count_nonzero(ledger["status"] == LineStatus.NOT_INSPECTED))
    size = setup.samples * setup.bands * 2
    trial.gbytes_s = setup.fps * size / 1e9
    trial.strips, trial.missed = len(strips), sum(strip["missed"] for strip in strips)
    seen_ns = first_seen(len(stored), strips)
    came = seen_ns > 0
    trial.unseen = int(np.count_nonzero(~came))
    if came.any():
        trial.unconnected = int(np.argmax(came))
        age_ms = (seen_ns - stored["host_time_ns"])[came] / 1e6
        median, p99 = np.percentile(age_ms, [50, 99])
        trial.latency_ms = {"median": median, "p99": p99, "max": age_ms.max()}
    trial.free_slots = (min(watch.free), max(watch.free)) if watch.free else (0, 0)
    trial.cpu = watch.cores()
    trial.coded, trial.coded_in_scan = result.coded, result.coded_in_scan
    return trial


def first_seen(lines: int, strips: list[dict[str, int]]) -> NDArray[np.int64]:
    """Give when the first strip with each line in it had arrived, ns; 0: none came."""
    seen = np.zeros(lines, np.int64)
    for strip in strips:
        part = seen[strip["line"] : strip["until"]]
        part[part == 0] = strip["seen_ns"]
    return seen


class Watch:
    """Listens to a capture: free slots, and what each process costs while it scans."""

    def __init__(self) -> None:
        self.free: list[int] = []
        self.names: dict[int, str] = {os.getpid(): "capture"}
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._began = self._ended = 0.0

    def __call__(self, event: Event) -> None:
        """Take one event of the capture."""
        if not isinstance(event, Progress) or not event.lines:
            return
        if event.free_slots is not None:
            self.free.append(event.free_slots)
        self._ended, self._last = time.monotonic(), self._spent()
        if not self._first:
            self._began, self._first = self._ended, self._last

    def _spent(self) -> dict[int, float]:
        """CPU seconds of this process and its children."""
        own = f"/proc/self/task/{os.getpid()}/children"
        spent = {}
        try:
            for pid in (os.getpid(), *map(int, Path(own).read_text().split())):
                if pid not in self.names:
                    self.names[pid] = _called(pid)
                after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                spent[pid] = (int(after[11]) + int(after[12])) / _TICKS
        except OSError:  # not Linux, or one of them just ended
            return self._last
        return spent

    def cores(self) -> dict[str, float]:
        """Cores that each process used between the first and the last look."""
        seconds = self._ended - self._began
        if seconds <= 0:
            return {}
        # One that started meanwhile had spent nothing before.
        return {
            self.names[pid]: round((spent - self._first.get(pid, 0.0)) / seconds, 3)
            for pid, spent in sorted(self._last.items())
        }


def _called(pid: int) -> str:
    """Say which child of a capture a process is."""
    command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return "coding" if "pipeline.scan_coder" in command else "driver"


def subscribe(endpoint: str, out: Path) -> int:
    """Be the subscriber: note when each strip was here, until standard input is closed."""
    strips: list[dict[str, int]] = []
    with PreviewSubscriber(endpoint) as subscriber:
        while not select.select([sys.stdin], [], [], 0)[0]:
            strip = subscriber.receive(LOOK_S)
            if strip is None:
                continue
            head = strip.header
            strips.append(
                {
                    "seen_ns": time.time_ns(),
                    "line": head.line,
                    "until": head.line if head.until is None else head.until,
                    "missed": strip.missed,
                }
            )
    with contextlib.suppress(FileNotFoundError):  # whoever asked was ended, and has put it away
        out.write_text(json.dumps(strips))
    return 0


def latency(setups: tuple[Setup, ...] = RATES, folder: str | Path | None = None) -> list[Trial]:
    """Measure the latency at each camera's rate, and print a row for each."""
    trials = []
    print(f"{'camera':>20} {'median':>8} {'p99':>8} {'max':>8}  lines, lost, unseen; cores")
    for setup in setups:
        trial = record(setup, folder)
        trials.append(trial)
        ms = {key: f"{value:.1f}" for key, value in trial.latency_ms.items()}
        camera = f"{setup.samples}x{setup.bands} {setup.fps:g} Hz"
        print(
            f"{camera:>20} {ms.get('median', '-'):>8} {ms.get('p99', '-'):>8} "
            f"{ms.get('max', '-'):>8}  {trial.lines}, {trial.lost}, {trial.unseen} "
            f"({trial.unconnected} before the reader was connected); {_cores(trial)}",
            flush=True,
        )
    return trials


def open_loop(setup: Setup, trials: int = 10, folder: str | Path | None = None) -> list[Trial]:
    """Run captures one after the other, and print a row for each."""
    done = []
    for number in range(trials):
        done.append(record(setup, folder))
        print(f"trial {number + 1}: {summary(done[-1])}", flush=True)
    good = sum(trial.good for trial in done)
    print(f"{good} of {trials} trials without a lost line")
    return done


def summary(trial: Trial) -> str:
    """Say on one line what a capture came to."""
    fewest, most = trial.free_slots
    return (
        f"clock {trial.clock} = {trial.lines} lines + {trial.lost} lost"
        f"{'' if trial.accounted else ' NOT ACCOUNTED FOR'}, {trial.gbytes_s:.3f} GB/s for "
        f"{trial.seconds:.1f} s, at least {fewest} of {most} slots free, "
        f"{trial.not_inspected} not inspected, latency p99 "
        f"{trial.latency_ms.get('p99', float('nan')):.0f} ms, {trial.unseen} unseen; "
        f"{'; '.join(filter(None, [_cores(trial), trial.coded, *trial.errors]))}"
    )


def _cores(trial: Trial) -> str:
    return ", ".join(f"{name} {used:.2f}" for name, used in trial.cpu.items()) + " cores"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a setup."""
    plain = Setup()
    for name in ("fps", "samples", "bands", "block_lines", "backend", "store", "threads", "pca"):
        value = getattr(plain, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value))
    parser.add_argument("--seconds", type=float, help="of each capture (60; 10 for latencies)")
    parser.add_argument("--trials", type=int, default=10, help="of --open-loop")
    parser.add_argument("--folder", help="where the files are written, then removed")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run what the options ask for: ``latency`` and ``open_loop``, each a list of trials."""
    names = ("fps", "samples", "bands", "block_lines", "backend", "store", "threads", "pca")
    names += ("seconds",)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    results: dict[str, Any] = {}
    if args.latency:
        given_rate = {"fps", "samples", "bands"} & given.keys()
        setups = (Setup(),) if given_rate else RATES
        seconds = {"seconds": 10.0} | given
        results["latency"] = latency(tuple(replace(s, **seconds) for s in setups), args.folder)
    if args.open_loop:
        results["open_loop"] = open_loop(Setup(**given), args.trials, args.folder)
    return results


def passed(results: dict[str, Any]) -> bool:
    """Whether nothing was lost and the latency is what is aimed at."""
    late = [t for t in results.get("latency", []) if not _in_time(t)]
    return not late and all(trial.good for trial in results.get("open_loop", []))


def _in_time(trial: Trial) -> bool:
    return trial.latency_ms.get("p99", float("inf")) < LATENCY_AIM_MS


def main() -> int:
    """Run what the options ask for; 0 when all of it reached its aim."""
    if len(sys.argv) == 4 and sys.argv[1] == "--subscribe":
        return subscribe(sys.argv[2], Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latency", action="store_true", help="from a line's arrival to its pixel")
    parser.add_argument("--open-loop", action="store_true", help="a camera that does not wait")
    parser.add_argument("--json", help="file for the results")
    add_arguments(parser)
    args = parser.parse_args()
    if not (args.latency or args.open_loop):
        parser.error("ask for --latency, --open-loop or both")
    results = run(args)
    if args.json:
        plain = {name: [asdict(trial) for trial in trials] for name, trials in results.items()}
        Path(args.json).write_text(json.dumps(plain, indent=1) + "\n")
    return 0 if passed(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
