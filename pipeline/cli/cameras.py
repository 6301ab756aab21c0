"""``swath cameras``: which GenICam cameras can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Json


def cameras(
    producer: Annotated[
        Path | None,
        typer.Option(
            "--producer",
            metavar="FILE",
            help="A GenTL producer (.cti); without it all on GENICAM_GENTL64_PATH.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the GenICam cameras of this machine.

    Those that its GenTL producers see, each with what [camera] needs to name it.
    """
    from pipeline.cli.output import print_json
    from pipeline.errors import ConfigError

    try:
        from drivers.genicam import list_cameras
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"GenICam cameras need the package {error.name}, which is not installed here; "
            "pip install harvesters"
        ) from None

    found = list_cameras(None if producer is None else str(producer))
    if json:
        print_json({"cameras": found})
        return
    for camera in found:
        named = [str(camera[name]) for name in ("vendor", "model") if camera.get(name)]
        print(" ".join(named) or camera["id"])
        for name in ("serial", "model", "user_id", "index"):
            value = camera.get(name)
            if value not in (None, ""):
                print(f"  {name} = {value if isinstance(value, int) else as_toml(str(value))}")
        if not camera.get("accessible", True):
            print("  in use by another program")
    if not found:
        print("no camera found")


def as_toml(text: str) -> str:
    """Write a text as the rig file takes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
