"""``swath drive``: the camera half of a capture, in a process of its own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli.options import Endpoint, Overrides, RigFile


def drive(
    rig: RigFile,
    endpoint: Endpoint = None,
    parent: Annotated[
        int | None, typer.Option("--parent", hidden=True, help="Process to end with.")
    ] = None,
    overrides: Overrides = None,
) -> int:
    """Drive the camera of a rig file, for `swath process`.

    That may run here or on another machine. Listens at the rig file's [stream] endpoint until
    Ctrl-C or SIGTERM; one engine at a time.
    """
    from drivers.run import run_driver
    from pipeline.errors import ConfigError
    from pipeline.rigfile import load_rig, rig_base

    loaded = load_rig(rig, tuple(overrides or ()))
    where = endpoint or loaded.stream.endpoint
    if not where:
        raise ConfigError(
            f"{rig}: [stream] endpoint: missing, drive needs one to listen at, such as "
            "tcp://127.0.0.1:5560, here or with --endpoint"
        )
    return run_driver(
        loaded,
        where,
        base=rig_base(rig),
        parent_pid=parent,
        on_ready=None if parent is not None else announce,
    )


def announce(endpoint: str) -> None:
    """Say where a driver listens that somebody started by hand."""
    print(
        f"listening at {endpoint} until Ctrl-C; swath process RIG.toml --endpoint {endpoint} "
        "records from it, as often as it is called",
        file=sys.stderr,
        flush=True,
    )
