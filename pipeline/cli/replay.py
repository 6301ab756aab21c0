"""``swath replay``: a driver whose camera is a recorded file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import Overrides


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An .hsi, or the .hdr of an ENVI file.")
    ],
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="URL", help="Where to listen.")
    ] = "tcp://127.0.0.1:5560",
    rate: Annotated[
        str, typer.Option("--rate", metavar="RATE", help="recorded, max, or lines per second.")
    ] = "recorded",
    loops: Annotated[
        int, typer.Option("--loops", metavar="N", min=0, help="How often; 0: without end.")
    ] = 1,
    overrides: Overrides = None,
) -> int:
    """Play a recording as if it were a camera.

    `swath process` records from it as from any driver.

    At its recorded pace (from its ledger), as fast as it is taken, or at a given rate.
    """
    from drivers.replay import ReplayCamera
    from drivers.run import run_driver
    from pipeline.cli.drive import announce
    from pipeline.rigfile import make_rig

    camera: dict[str, Any] = {
        "driver": "replay",
        "file": str(file.absolute()),
        "rate": read_rate(rate),
        "loops": loops,
    }
    rig = make_rig({"camera": camera, "stream": {"endpoint": endpoint}}, tuple(overrides or ()))
    # Before it listens: somebody who connects must find a recording.
    camera_at_hand = ReplayCamera(rig)
    try:
        camera_at_hand.open()
    finally:
        camera_at_hand.close()
    return run_driver(rig, rig.stream.endpoint, base=Path.cwd(), on_ready=announce)


def read_rate(text: str) -> str | float:
    """Read ``--rate``: recorded, max, or a number of lines per second.

    Raises
    ------
    ConfigError
        When it is none of them.
    """
    from pipeline.errors import ConfigError

    if text in ("recorded", "max"):
        return text
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ConfigError(
            f"--rate: found {text!r}, allowed are recorded, max or a number of lines per second"
        )
    return rate
