"""The commands of ``python tools/virtual_camera``."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.config import CameraConfig
from pipeline.errors import SwathError
from virtual_camera.build import CannotBuildError, build
from virtual_camera.measure import measure
from virtual_camera.playing import playing, render


def environment(producer: Path, features: Mapping[str, object], locks: Path) -> dict[str, str]:
    """Name the variables that make a GenTL consumer find the producer, set up like this."""
    return {
        "GENICAM_GENTL64_PATH": str(producer.parent),
        "SWATH_VIRTUAL_LOCKS": str(locks),
        "SWATH_VIRTUAL_SET": ";".join(f"{name}={_text(v)}" for name, v in features.items()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    parser = argparse.ArgumentParser(prog="virtual_camera", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="compile the producer, print its path")
    one.add_argument("--folder", type=Path, help="where builds are kept")
    one.add_argument("--sanitize", default="", help="address,undefined or thread")
    one = commands.add_parser("render", help="render the simulated camera's scene to a file")
    one.add_argument("file", type=Path)
    one.add_argument("--bands", type=int, default=224)
    one.add_argument("--samples", type=int, default=512)
    one.add_argument("--lines", type=int, default=256)
    one.add_argument("--bits", type=int, default=12)
    one.add_argument("--exposure-ms", type=float, default=2.5)
    one = commands.add_parser("play", help="play a .hsi or ENVI file to what follows --")
    one.add_argument("file", type=Path)
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    one = commands.add_parser("measure", help="how fast a bare consumer gets frames")
    one.add_argument("file", type=Path, nargs="?", help="what is played; else the pattern")
    one.add_argument("--seconds", type=float, default=3.0)
    words = sys.argv[1:] if arguments is None else arguments
    # argparse would take the command's own options for ours
    cut = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:cut])
    given.run = words[cut + 1 :]
    try:
        return {"build": _build, "render": _render, "play": _play, "measure": _measure}[
            given.command
        ](given)
    except (CannotBuildError, SwathError) as error:
        print(error, file=sys.stderr)
        return 1


def _build(given: argparse.Namespace) -> int:
    print(build(given.folder, given.sanitize))
    return 0


def _render(given: argparse.Namespace) -> int:
    config = CameraConfig(
        driver="simulated",
        bands=given.bands,
        samples=given.samples,
        bit_depth=given.bits,
        exposure_ms=given.exposure_ms,
    )
    done = render(given.file, config, given.lines)
    print(f"{done.file}: {done.lines} lines of {done.bands} x {done.samples}, {done.bits} bit")
    return 0


def _play(given: argparse.Namespace) -> int:
    features: dict[str, object] = playing(given.file).features()
    for one in given.set:
        name, _, value = one.partition("=")
        features[name] = value
    producer = build()
    # A folder of its own: what happened to the camera in other runs is of no concern here.
    locks = Path(tempfile.mkdtemp(prefix="swath-virtual-"))
    names = environment(producer, features, locks)
    if not given.run:
        for name, value in names.items():
            print(f"export {name}={shlex.quote(value)}")
        return 0
    return subprocess.run(given.run, env=os.environ | names, check=False).returncode


def _measure(given: argparse.Namespace) -> int:
    producer = build()
    features = playing(given.file).features() if given.file else {}
    with tempfile.TemporaryDirectory() as locks:
        os.environ.update(environment(producer, features, Path(locks)))
        for name in ("Mono8", "Mono12", "Mono12p", "Mono12Packed", "Mono16"):
            for copy in (False, True):
                got = measure(producer, given.seconds, copy, PixelFormat=name)
                what = "copied" if copy else "only queued again"
                print(f"{name:13} {what:18} {got['frames']:8.0f} frames/s {got['gb']:6.2f} GB/s")
    return 0


def _text(value: object) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)
