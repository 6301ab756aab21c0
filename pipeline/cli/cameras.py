"""``swath cameras``: which GenICam cameras can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="CAMERA",
            help="Show the features of this camera, with their ranges: serial, user id or index.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the GenICam cameras of this machine.

    Those that its GenTL producers see, each with what [camera] needs to name it.
    """
    from pipeline.cli.output import print_json, warn
    from pipeline.errors import ConfigError

    try:
        from drivers.genicam import list_cameras
        from drivers.genicam_features import features_of
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"GenICam cameras need the package {error.name}, which is not installed here; "
            "pip install harvesters"
        ) from None

    file = None if producer is None else str(producer)
    said: list[str] = []
    if features is None:
        found = list_cameras(file, said)
    else:
        found = [features_of(file, features, said)]
    for text in said:
        warn(text)
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
        for name, told in camera.get("features", {}).items():
            print(f"  {feature_line(name, told)}")
    if not found:
        print("no camera found")


def feature_line(name: str, told: dict[str, Any]) -> str:
    """Write a feature as ``features = { … }`` takes it, with what it may be: ``(0 to 24 dB)``."""
    value = told["value"]
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, str):
        value = as_toml(value)
    notes = []
    if "choices" in told:
        notes.append(", ".join(told["choices"]))
    if "min" in told and "max" in told:
        step = f" in steps of {told['step']:g}" if "step" in told else ""
        notes.append(f"{told['min']:g} to {told['max']:g}{step}")
    if "unit" in told:
        notes.append(told["unit"])
    if not told["writable"]:
        notes.append("cannot be set now")
    shown = "?" if value is None else value
    return f"{name} = {shown}" + (f"  ({'; '.join(notes)})" if notes else "")


def as_toml(text: str) -> str:
    """Write a text as the rig file takes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
