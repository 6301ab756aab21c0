"""The command line: options to settings, sections to rows, rows to a table."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import ending

# Loaded now, not when it is first used: while its extensions load, they swallow a signal.
import numpy.random  # noqa: F401
from arguments import file_to_write, folder, number

from bench import (
    compression,
    cuda,
    genicam,
    kernels,
    latency,
    peers,
    rate_curves,
    scaling,
    streams,
    table,
)
from bench.data import GEOMETRIES, Geometry
from bench.machine import describe
from bench.measure import MIN_ROUNDS, Row
from bench.settings import Settings
from pipeline.compute.cpu import available_cores
from pipeline.errors import SwathError
from pipeline.stream.messages import MAX_MESSAGE

SECTIONS = ("cpu", "cuda", "link", "capture", "latency")
ROOT = Path(__file__).resolve().parents[2]
#: Of the rows that start processes, which take their time.
LARGEST = GEOMETRIES[1:2]
PLOT = ROOT / "docs" / "images" / "cost.svg"
CURVES = ROOT / "docs" / "images" / "rate-distortion.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the options ask for; give the exit status."""
    args = parser().parse_args(arguments)
    return ending.run("bench", lambda: bench(args))


def bench(args: argparse.Namespace) -> int:
    """Measure and print; 1 when something failed, with what was measured until then."""
    settings = settled(args)
    measured_alone = (args.peers, args.scaling, args.open_loop, args.genicam, args.compression)
    asked = any(measured_alone) or args.curves or args.coded
    chosen = args.only or (() if asked else SECTIONS)
    machine = describe(available_cores(), peers=bool(args.peers or args.compression))
    rows: list[Row] = []
    status = 0
    try:
        for row in measured(settings, chosen, args, machine):
            rows.append(row)
            print(f"{row.section}: {row.step} {row.geometry}", file=sys.stderr, flush=True)
    except SwathError as error:
        print(f"bench: {error}", file=sys.stderr)
        status = 1
    if args.json:
        options = {k: _plain(v) for k, v in vars(args).items() if v not in (None, False)}
        print(table.as_json(rows, machine, options))
    else:
        table.show(rows, machine, sys.stdout, args.quick)
    return status


def measured(
    settings: Settings,
    chosen: Sequence[str],
    args: argparse.Namespace,
    machine: dict[str, str],
) -> Iterator[Row]:
    """Give the rows, each as soon as it is there."""
    if "cpu" in chosen:
        yield from kernels.rows(settings)
    if "cuda" in chosen:
        yield from cuda.rows(settings)
    if "link" in chosen or "capture" in chosen:
        yield from streams.rows(settings, link="link" in chosen, disk="capture" in chosen)
    if "latency" in chosen:
        yield from latency.rows(settings)
    if args.open_loop:
        yield from latency.open_loop_rows(settings, args.trials, args.seconds)
    if args.coded:
        yield from latency.coded_rows(settings, args.seconds)
    if args.genicam:
        yield from genicam.rows(settings, args.trials, args.seconds, args.rate_seconds)
    if args.peers:
        yield from peers.rows(settings)
    if args.compression:
        yield from compression.rows(settings, args.compression)
    if args.curves:
        about = f"{machine['processor']}, {machine['date']}"
        yield from rate_curves.rows(settings, Path(args.curves), about)
    if args.scaling:
        done: list[tuple[scaling.Point, Row]] = []
        for point, row in scaling.rows(settings):
            if row not in (known for _, known in done):
                yield row
            done.append((point, row))
        about = f"{machine['processor']}, {machine['date']}"
        scaling.plot(done, Path(args.scaling), about)


def settled(args: argparse.Namespace) -> Settings:
    """Make settings of options."""
    shapes = tuple(args.geometry or (GEOMETRIES[2:] if args.quick else GEOMETRIES))
    settings = Settings(
        geometries=shapes,
        stream_geometries=shapes if args.full or args.geometry or args.quick else LARGEST,
        block_mib=args.block_mib,
        threads=args.threads or available_cores(),
        rounds=args.rounds,
        long_rounds=args.rounds,
        folder=Path(args.folder or tempfile.gettempdir()),
    )
    if args.quick:
        settings = settings.quick()
    return settings


def geometry(text: str) -> Geometry:
    """Read ``1024x448``: samples × bands."""
    found = re.fullmatch(r"([0-9]{1,6})[x×]([0-9]{1,6})", text)
    shape = Geometry(int(found[1]), int(found[2])) if found else None
    if shape is None or not 0 < shape.line_bytes <= MAX_MESSAGE:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, allowed is SAMPLESxBANDS, of up to {MAX_MESSAGE >> 20} MiB a line"
        )
    return shape


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python tools/bench",
        description="Measure swath beside the limits of this machine, and print one table.",
    )
    made.add_argument("--quick", action="store_true", help="a trial in seconds, nothing is judged")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.add_argument("--only", action="append", choices=SECTIONS, help="some sections only")
    made.add_argument(
        "--geometry",
        action="append",
        type=geometry,
        metavar="SAMPLESxBANDS",
        help="lines of this shape instead of the usual three; may be given again",
    )
    made.add_argument(
        "--full", action="store_true", help="link and capture in all three shapes, not in one"
    )
    made.add_argument(
        "--block-mib",
        type=number(float, 0.001, 1024),
        help="size of a block (a capture's own choice)",
    )
    made.add_argument(
        "--threads", type=number(int, 1, 64), help="threads of engine and copies (one a core)"
    )
    made.add_argument(
        "--rounds",
        type=number(int, 1, 1000),
        default=MIN_ROUNDS,
        help=f"how often subject and limit take turns ({MIN_ROUNDS}); fewer: a trial",
    )
    made.add_argument(
        "--folder", type=folder, help="where files are written (the system's for temporary ones)"
    )
    made.add_argument("--peers", action="store_true", help="beside what else there is")
    made.add_argument(
        "--compression",
        nargs="?",
        const=compression.PARTS[0],
        choices=compression.PARTS,
        help="size, error and rate beside other codecs; sizes need no quiet machine",
    )
    made.add_argument(
        "--curves",
        nargs="?",
        const=str(CURVES),
        metavar="SVG",
        help="error against size, with a plot (docs/images/rate-distortion.svg)",
    )
    made.add_argument(
        "--scaling",
        nargs="?",
        const=str(PLOT),
        type=file_to_write,
        metavar="SVG",
        help="how cost grows, with a plot (docs/images/cost.svg)",
    )
    made.add_argument(
        "--open-loop", action="store_true", help="captures from a camera that does not wait"
    )
    made.add_argument(
        "--coded",
        action="store_true",
        help="captures that are coded: how much of them while the scan runs",
    )
    made.add_argument(
        "--genicam",
        action="store_true",
        help="captures from the virtual GenICam camera, and the largest rate without a loss",
    )
    made.add_argument(
        "--rate-seconds",
        type=number(float, 0.1, 3600),
        default=genicam.RATE_SECONDS,
        metavar="SECONDS",
        help="how long each capture takes with which --genicam looks for the largest rate "
        f"({genicam.RATE_SECONDS:g})",
    )
    made.add_argument(
        "--trials",
        type=number(int, 1, 1000),
        default=latency.OPEN_LOOP_TRIALS,
        metavar="COUNT",
        help="how many captures --open-loop and --genicam make one after the other "
        f"({latency.OPEN_LOOP_TRIALS}); fewer: a trial",
    )
    made.add_argument(
        "--seconds",
        type=number(float, 0.1, 86400),
        default=latency.OPEN_LOOP_SECONDS,
        help="how long each capture of --open-loop, --coded and --genicam takes "
        f"({latency.OPEN_LOOP_SECONDS:g}); shorter: a trial",
    )
    return made


def _plain(value: object) -> object:
    if isinstance(value, Geometry):
        return f"{value.samples}x{value.bands}"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
