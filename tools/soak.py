"""Send a long stream through driver and engine; account for every line and every byte of memory.

    python tools/soak.py                       28 GB of 640 x 224 lines to a sink that discards
    python tools/soak.py --sink disk           the same into a real capture on disk
    python tools/soak.py --live --pause 6      an open-loop camera, and a receiver that pauses
    python tools/soak.py --live --die          ... and one that is killed and comes back

The driver is ``swath drive`` in a process of its own, as in a capture. Prints one line of figures
at 10 % and at 100 %, then what was lost, line by line; exit status 1 when a line is unaccounted
for or the memory of either process grew by 32 MiB or more. Needs no camera, GPU or network.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.config import Rig
from pipeline.container.envi import write_envi
from pipeline.layout import LEDGER_DTYPE, LineStatus
from pipeline.rigfile import load_rig
from pipeline.slots import SlotRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import End
from pipeline.supervise import DriverProcess

GROWTH_LIMIT = 32 << 20
SOURCE_LINES = 400


def rss(pid: int) -> int:
    """Resident memory of a process, bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def make_rig(folder: Path, args: argparse.Namespace) -> Path:
    """Write the rig file: a replay that waits, or a simulated camera that does not."""
    if args.live:
        camera = (
            f'driver = "simulated"\nsamples = {args.samples}\nbands = {args.bands}\n'
            f"exposure_ms = 1.0\nfps = {args.fps}\n"
            "wavelengths = { first = 400.0, last = 1000.0 }\n"
        )
    else:
        rng = np.random.default_rng(1)
        cube = rng.integers(0, 4096, (SOURCE_LINES, args.samples, args.bands), np.uint16)
        write_envi(folder, "source", cube, {"bit depth": 12}, interleave="bil")
        loops = -(-args.lines // SOURCE_LINES)
        camera = f'driver = "replay"\nfile = "source.hdr"\nrate = "max"\nloops = {loops}\n'
    path = folder / "soak.toml"
    path.write_text(
        f"[camera]\n{camera}\n[stream]\nblock_lines = {args.block_lines}\n"
        f"buffer_seconds = {args.buffer}\n"
        f'[output]\nfolder = "{args.folder or folder}"\nname = "soak"\n'
    )
    return path


def receive(args: argparse.Namespace) -> int:
    """Be the receiver: account for the lines of one series, and discard them."""
    folder = Path(args.receive)
    began = time.monotonic()
    slot = args.block_lines * args.samples * args.bands * 2
    ring = SlotRing(16, slot, populate=True)
    link = EngineLink(args.endpoint, resume=args.resume, timeout_s=30.0, ring=ring)
    link.connect()
    report = (folder / f"report-{os.getpid()}.json").open("w", buffering=1)
    ledger = (folder / f"ledger-{os.getpid()}.rows").open("wb", buffering=0)
    if not args.resume:
        link.command("arm", timeout_s=60.0)
        link.command("series", series="soak", kind="scan", lines=args.lines)
    counted = 0
    marks = [args.lines // 10, args.lines]
    paused = args.pause == 0
    with report, ledger:
        while True:
            item = link.receive(1.0)
            if isinstance(item, Block):
                ledger.write(item.rows.tobytes())
                counted += int(item.rows["count"].sum(dtype=np.int64))
                link.ack(item.header.series, item.header.seq)
                item.slot.release()
                done = int(item.rows["frame_id"].max()) if args.resume else counted
                while marks and done >= marks[0]:
                    figures = {
                        "lines": done,
                        "seconds": time.monotonic() - began,
                        "receiver": rss(os.getpid()),
                        "driver": rss(args.driver),
                    }
                    report.write(json.dumps(figures) + "\n")
                    marks.pop(0)
                if not paused and counted > args.lines // 3:
                    paused = True
                    time.sleep(args.pause)
            elif isinstance(item, End):
                link.ack(item.series, item.blocks, end=True)
                report.write(json.dumps({"end": item.reason, "lost": item.lost}) + "\n")
                time.sleep(0.2)
                link.close()
                return 0
            elif link.peer_silent_s > 30:
                print("soak: the driver is silent", file=sys.stderr)
                return 1


def account(folder: Path, lines: int) -> tuple[int, list[tuple[int, int, str]]]:
    """Check that each line 1 … ``lines`` stands in the ledgers; give the losses as runs.

    Returns
    -------
    missing : int
        Lines of which nothing is known: must be 0.
    losses : list of (first frame id, count, reason)
    """
    from pipeline.layout import LossReason

    rows = np.concatenate(
        [np.frombuffer(p.read_bytes(), LEDGER_DTYPE) for p in sorted(folder.glob("ledger-*.rows"))]
    )
    known = np.zeros(lines + 1, np.uint8)
    lost = rows["status"] == LineStatus.LOST
    kept = rows[~lost]
    known[kept["frame_id"][kept["frame_id"] <= lines].astype(np.int64)] = 1
    losses = []
    for row in rows[lost]:
        first, count = int(row["frame_id"]), int(row["count"])
        run = slice(first, min(first + count, lines + 1))
        if not known[run].any():
            losses.append((first, count, LossReason(int(row["reason"])).text))
        known[run] |= 2
    return int(np.count_nonzero(known[1:] == 0)), losses


def show_losses(losses: list[tuple[int, int, str]]) -> int:
    """Print losses as runs of consecutive lines; returns their number."""
    runs: list[list[object]] = []
    for first, count, reason in sorted(losses):
        last = runs[-1] if runs else None
        if last is not None and last[2] == reason and int(str(last[1])) + 1 == first:
            last[1] = first + count - 1
        else:
            runs.append([first, first + count - 1, reason])
    for start, stop, reason in runs[:40]:
        print(f"  lost: lines {start} to {stop} ({reason})")
    if len(runs) > 40:
        print(f"  … and {len(runs) - 40} more runs")
    return sum(count for _, count, _ in losses)


def to_disk(rig: Rig, path: Path, args: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    """Run a real capture, and watch its memory."""
    from pipeline.capture import run_capture
    from pipeline.container.validate import validate
    from pipeline.events import EventBus, Progress

    figures: dict[int, int] = {}
    bus = EventBus()

    def watch(event: object) -> None:
        if isinstance(event, Progress):
            for mark in (args.lines // 10, args.lines):
                if event.lines >= mark and mark not in figures:
                    figures[mark] = rss(os.getpid())

    bus.subscribe(watch)
    result = run_capture(rig, rig_path=path, lines=args.lines, bus=bus, overrides=overrides)
    early, late = figures[args.lines // 10], figures[args.lines]
    errors = [f for f in validate(result.file) if f.level == "error"]
    print(
        f"disk: {result.lines} lines, {result.bytes / 1e9:.2f} GB in {result.seconds:.1f} s "
        f"({result.bytes / result.seconds / 1e9:.2f} GB/s), {result.lost} lost, "
        f"memory {early >> 20} → {late >> 20} MiB, {len(errors)} findings in {result.file}"
    )
    if not args.keep:
        os.unlink(result.file)
    return 0 if not result.lost and not errors and late - early < GROWTH_LIMIT else 1


def main() -> int:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=640)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--block-lines", type=int, default=32)
    parser.add_argument("--buffer", type=float, default=3.0, help="buffer_seconds of the driver")
    parser.add_argument("--fps", type=float, default=300.0, help="of the live camera")
    parser.add_argument("--sink", choices=("discard", "disk"), default="discard")
    parser.add_argument("--folder", help="where --sink disk writes")
    parser.add_argument("--keep", action="store_true", help="keep the file of --sink disk")
    parser.add_argument("--live", action="store_true", help="a camera that does not wait")
    parser.add_argument("--pause", type=float, default=0.0, help="the receiver pauses, s")
    parser.add_argument("--die", action="store_true", help="the receiver is killed at a third")
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    parser.add_argument("--driver", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        return receive(args)
    with tempfile.TemporaryDirectory(prefix="swath-soak-") as name:
        folder = Path(name)
        path = make_rig(folder, args)
        if args.sink == "disk":
            return to_disk(load_rig(path), path, args, ())
        endpoint = f"ipc://{folder}/link"
        driver = DriverProcess(path, endpoint)
        driver.command = [part for part in driver.command if part != "--parent"]
        driver.command.remove(str(os.getpid()))
        driver.start()
        try:
            return soak(folder, endpoint, driver, args)
        finally:
            driver.stop()


def soak(folder: Path, endpoint: str, driver: DriverProcess, args: argparse.Namespace) -> int:
    """Run the receiver (twice when it has to die) and judge what it saw."""
    command = [sys.executable, __file__, "--receive", str(folder), "--endpoint", endpoint]
    command += ["--driver", str(driver.pid), "--lines", str(args.lines)]
    command += ["--samples", str(args.samples), "--bands", str(args.bands)]
    command += ["--block-lines", str(args.block_lines)]
    began = time.monotonic()
    first = subprocess.Popen([*command, "--pause", str(args.pause)])
    status = 0
    if args.die:
        while not any(p.stat().st_size for p in folder.glob("ledger-*.rows")):
            time.sleep(0.05)
        time.sleep(min(5.0, args.lines / args.fps / 3) if args.live else 2.0)
        first.send_signal(signal.SIGKILL)
        first.wait()
        time.sleep(args.pause or 2.0)
        status = subprocess.run([*command, "--resume"], check=False).returncode
    else:
        status = first.wait()
    seconds = time.monotonic() - began
    reports = [
        json.loads(line)
        for p in folder.glob("report-*.json")
        for line in p.read_text().splitlines()
    ]
    marks = sorted((r for r in reports if "receiver" in r), key=lambda r: r["lines"])
    for mark in marks:
        print(
            f"{mark['lines']:>8} lines  {mark['seconds']:7.1f} s  "
            f"receiver {mark['receiver'] >> 20:5d} MiB  driver {mark['driver'] >> 20:5d} MiB"
        )
    size = args.lines * args.samples * args.bands * 2
    print(f"{size / 1e9:.1f} GB in {seconds:.1f} s: {size / seconds / 1e9:.2f} GB/s")
    missing, losses = account(folder, args.lines)
    lost = show_losses(losses)
    received = args.lines - lost - missing
    print(f"{args.lines} lines: {received} received, {lost} lost, {missing} unknown")
    grown = 0
    if len(marks) > 1:
        grown = max(marks[-1][who] - marks[0][who] for who in ("receiver", "driver"))
        print(f"memory grew by {grown / 2**20:.1f} MiB between 10 % and 100 %")
    ok = status == 0 and missing == 0 and grown < GROWTH_LIMIT
    if not args.live:
        ok = ok and lost == 0
    print("all accounted for" if ok else "NOT all well")
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
