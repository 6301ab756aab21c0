"""``swath process``: the engine half of a capture; the driver runs elsewhere."""

from __future__ import annotations

from pipeline.cli.options import Endpoint, Json, Lines, Out, Overrides, RigFile, Seconds


def process(
    rig: RigFile,
    lines: Lines = None,
    seconds: Seconds = None,
    out: Out = None,
    endpoint: Endpoint = None,
    overrides: Overrides = None,
    json: Json = False,
) -> int:
    """Record one .hsi from a driver that runs already.

    That is `swath drive` or `swath replay`, on this machine or another; the rig file's [stream]
    endpoint says where it listens. Everything else is as with `swath capture`.
    """
    from pipeline.cli.capture import record
    from pipeline.errors import ConfigError
    from pipeline.rigfile import load_rig

    given = tuple(overrides or ())
    loaded = load_rig(rig, given)
    where = endpoint or loaded.stream.endpoint
    if not where:
        raise ConfigError(
            f"{rig}: [stream] endpoint: missing, process needs the driver's, such as "
            "tcp://127.0.0.1:5560, here or with --endpoint"
        )
    return record(loaded, rig, given, json, lines=lines, seconds=seconds, out=out, endpoint=where)
