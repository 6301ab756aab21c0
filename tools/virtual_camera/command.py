"""The commands of ``python tools/virtual_camera``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import get_args

import ending

# Loaded now, not when it is first used: while its extensions load, they swallow a signal.
import numpy.random  # noqa: F401
from arguments import number

from drivers.sensor import View
from pipeline.config import CameraConfig
from pipeline.errors import ConfigError
from pipeline.stream.messages import MAX_MESSAGE
from virtual_camera import running
from virtual_camera.build import build
from virtual_camera.measure import measure
from virtual_camera.playing import EXPOSURES_MS, LARGEST_SIDE, playing
from virtual_camera.rendering import render
from virtual_camera.settings import environment, set_to, tried

PROGRAM = "virtual_camera"
#: Pixel formats that are measured.
FORMATS = ("Mono8", "Mono12", "Mono12p", "Mono12Packed", "Mono16")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    # argparse would take the command's own options for ours
    cut = words.index("--") if "--" in words else len(words)
    asked = parser().parse_args(words[:cut])
    asked.run = words[cut + 1 :]
    return ending.run(PROGRAM, lambda: COMMANDS[asked.command](asked))


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="compile the producer, print its path")
    one.add_argument("--folder", type=Path, help="where builds are kept (the system's for temps)")
    one.add_argument("--sanitize", default="", help="address,undefined or thread")

    one = commands.add_parser("render", help="render the simulated camera's scene to a file")
    one.add_argument("file", type=Path, help="of the data, NAME.raw; the header becomes NAME.hdr")
    side, exposure = number(int, 1, LARGEST_SIDE), number(float, *EXPOSURES_MS)
    one.add_argument("--bands", type=side, default=224, help="rows of the sensor (224)")
    one.add_argument("--samples", type=side, default=512, help="columns of the sensor (512)")
    one.add_argument("--lines", type=number(int, 1, 1e9), default=256, help="how many (256)")
    depths = (8, 10, 12, 14, 16)
    one.add_argument("--bits", type=int, choices=depths, default=12, help="of a count (12)")
    one.add_argument("--exposure-ms", type=exposure, default=2.5, help="of each line, ms (2.5)")
    views = get_args(View)
    one.add_argument(
        "--view", choices=views, default="scene", help="what lies under the slit (scene)"
    )

    one = commands.add_parser(
        "play",
        help="play a .hsi or ENVI file to a command",
        usage=f"{PROGRAM} play [-h] [--set NAME=VALUE] FILE [-- COMMAND ...]",
        epilog="-- COMMAND: what is run while the file is played, such as swath capture rig.toml; "
        "without it the environment that plays the file is printed.",
    )
    one.add_argument("file", type=Path, metavar="FILE", help=".hsi, or ENVI: its header or data")
    one.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a feature of the camera, such as FaultUnplugAfter=150; may be given again",
    )

    one = commands.add_parser("measure", help="how fast a bare consumer gets frames")
    one.add_argument("file", type=Path, nargs="?", help="what is played; else the pattern")
    seconds = number(float, 0.01, 3600)
    one.add_argument("--seconds", type=seconds, default=3.0, help="of each of the ten rows (3)")
    return made


def _build(asked: argparse.Namespace) -> int:
    print(build(asked.folder, asked.sanitize))
    return 0


def _render(asked: argparse.Namespace) -> int:
    if 2 * asked.bands * asked.samples > MAX_MESSAGE:
        raise ConfigError(
            f"--bands {asked.bands} --samples {asked.samples}: allowed are lines of up to "
            f"{MAX_MESSAGE >> 20} MiB, two bytes a count"
        )
    config = CameraConfig(
        driver="simulated",
        bands=asked.bands,
        samples=asked.samples,
        bit_depth=asked.bits,
        exposure_ms=asked.exposure_ms,
    )
    done = render(asked.file, config, asked.lines, asked.view)
    size = f"{done.lines} lines of {done.bands} x {done.samples}, {done.bits} bit"
    print(f"{done.file}, {done.file.with_suffix('.hdr')}: {size}")
    return 0


def _play(asked: argparse.Namespace) -> int:
    """Print the environment, or become the command."""
    scene = playing(asked.file).features()
    program = running.find(asked.run[0]) if asked.run else ""
    producer = build()
    features = scene | set_to(asked.set, producer)
    tried(producer, features, str(asked.file))
    if asked.run:
        # A folder of its own: what happened to the camera in other runs is of no concern here.
        running.become(program, asked.run, environment(producer, features, running.folder()))
    else:
        for name, value in environment(producer, features).items():
            print(f"export {name}={shlex.quote(value)}")
    return 0


def _measure(asked: argparse.Namespace) -> int:
    features = playing(asked.file).features() if asked.file else {}
    producer = build()
    tried(producer, features, str(asked.file or "pattern"))
    with tempfile.TemporaryDirectory(prefix="swath-virtual-") as locks:
        os.environ.update(environment(producer, features, Path(locks)))
        for name in FORMATS:
            for copy in (False, True):
                got = measure(producer, asked.seconds, copy, PixelFormat=name)
                what = "copied" if copy else "only queued again"
                print(f"{name:13} {what:18} {got['frames']:8.0f} frames/s {got['gb']:6.2f} GB/s")
    return 0


COMMANDS = {"build": _build, "render": _render, "play": _play, "measure": _measure}
