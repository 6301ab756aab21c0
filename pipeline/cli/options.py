"""Arguments and options that several commands share, and how they are read."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError

RigFile = Annotated[Path, typer.Argument(metavar="RIG.toml", help="The rig file.")]
HsiFile = Annotated[Path, typer.Argument(metavar="FILE", help="An .hsi container.")]
CubeFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="An .hsi, or the .hdr of an ENVI file.")
]
NewHsi = Annotated[Path, typer.Argument(metavar="OUT.hsi", help="Must not exist yet.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another value for a key of the rig file, such as camera.fps=100. Repeatable. "
        "VALUE is read as TOML, a bare word as a string.",
    ),
]


def read_lines(text: str) -> int:
    """Read ``--lines`` of a scan, as a whole number from 1 up.

    Raises
    ------
    ConfigError
        When it is none.
    """
    hint = "; --set scan.lines=0 scans until Ctrl-C" if re.fullmatch(r"[-+]?0+", text) else ""
    return _count("--lines", text, hint)


def read_averaged(text: str) -> int:
    """Read ``--lines`` of a reference, as :func:`read_lines`."""
    return _count("--lines", text)


def read_seconds(text: str) -> float:
    """Read ``--seconds``, as a number from 0.001 up.

    Raises
    ------
    ConfigError
        When it is none.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds < float("inf"):
        raise ConfigError(f"--seconds {text[:40]}: allowed is a number from 0.001 up")
    return seconds


def _count(option: str, text: str, hint: str = "") -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
    if number < 1:
        raise ConfigError(f"{option} {text[:40]}: allowed is a whole number from 1 up{hint}")
    return number


class Backend(StrEnum):
    """What ``--backend`` takes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


BackendOption = Annotated[
    Backend,
    typer.Option("--backend", help="What codes and decodes blocks; auto: a GPU, if there is one."),
]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on stdout.")]
Lines = Annotated[
    int | None,
    typer.Option(
        "--lines",
        metavar="N",
        parser=read_lines,
        help="Lines of the scene to take, lost ones included.",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", metavar="S", parser=read_seconds, help="How long to scan, in s."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where the capture goes; must not exist yet."),
]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="Instead of the rig file's [stream] endpoint."),
]


def read_range(option: str, text: str | None) -> slice | None:
    """Read ``a:b`` as a slice: from a up to, not including, b; each may be left out.

    Raises
    ------
    ConfigError
        When the text is not of that form, or b does not lie behind a.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    if found is None or len(text) > 40:
        raise ConfigError(
            f"{option} {text[:40]}: allowed is a:b, from a up to, not including, b, counted from 0"
        )
    first = int(found[1]) if found[1] else None
    end = int(found[2]) if found[2] else None
    if end is not None and end <= (first or 0):
        raise ConfigError(f"{option} {text}: nothing lies between {first or 0} and {end}")
    return slice(first, end)
