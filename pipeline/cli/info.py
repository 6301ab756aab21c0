"""``swath info``: what a container holds, in milliseconds for a file of any size."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import CubeFile, Json

if TYPE_CHECKING:
    from pipeline.container.reader import Container

#: Longest value shown on a line, characters.
SHOWN = 72


def info(
    file: CubeFile,
    json: Json = False,
    thumbnail: Annotated[
        Path | None,
        typer.Option("--thumbnail", metavar="OUT.jpg", help="Write the thumbnail there."),
    ] = None,
) -> None:
    """Show what a file holds.

    The header, the entries, and how the data lies in the file.
    """
    from pipeline.cli.output import print_json, short_path, warn
    from pipeline.container.reader import open_container

    with open_container(file) as cube:
        if thumbnail is not None:
            _write_thumbnail(cube, file, thumbnail)
            # stdout is the object's alone with --json
            print(short_path(thumbnail), file=sys.stderr if json else sys.stdout)
        if json:
            print_json(as_object(cube))
        elif thumbnail is None:
            for line in as_text(cube, file):
                print(line)
        for text in cube.header.warnings:
            warn(text)


def as_object(cube: Container) -> dict[str, Any]:
    """Give what ``--json`` ends with."""
    header = cube.header
    return {
        "lines": header.lines,
        "samples": header.samples,
        "bands": header.bands,
        "dtype": cube.dtype.str,
        "interleave": header.interleave,
        "data_offset": cube.data_offset,
        "lost": cube.lost,
        "coded": _coded(cube),
        "read_procedures": cube.read_procedures,
        "entries": list(cube.entries),
        "header": dict(header.items()),
    }


def as_text(cube: Container, file: Path) -> list[str]:
    """Give the same for people."""
    from pipeline.cli.output import count_text, size_text

    header, coded = cube.header, _coded(cube)
    raw = math.prod(header.shape) * cube.dtype.itemsize
    lines = [
        str(file),
        f"  {count_text(header.lines, 'line')} × {header.samples} samples × {header.bands} bands, "
        f"{cube.dtype.name} {header.interleave}, {size_text(raw)} from byte {cube.data_offset}",
    ]
    if coded is not None:
        lines.append(f"  coded: {_coded_text(coded, raw)}")
    lines += [
        f"  {count_text(cube.lost, 'line')} lost" if cube.lost else "  no line lost",
        "header",
    ]
    lines += [f"  {name} = {_short(value)}" for name, value in header.items()]
    if cube.entries:
        lines += ["entries", *(f"  {name}" for name in cube.entries)]
    return lines


def _coded_text(coded: dict[str, Any], raw_bytes: int) -> str:
    from pipeline.cli.output import count_text, size_text

    if coded["coding"] is None:
        return f"{coded['file_type']}, which is not known here"
    parts = [
        coded["coding"],
        f"{size_text(coded['bytes'])} ({raw_bytes / max(coded['bytes'], 1):.2f} : 1)",
        f"{count_text(coded['blocks'], 'block')} of {count_text(coded['block_lines'], 'line')}",
    ]
    error = coded["max_error"]
    if error is not None:
        parts.append(f"max error {count_text(error, 'count')}" if error else "lossless")
    return ", ".join(parts)


def _coded(cube: Container) -> dict[str, Any] | None:
    """Say how a coded cube is coded; None where it is not."""
    from pipeline.cli.output import warn
    from pipeline.container.coded_header import stated_error
    from pipeline.errors import ContainerError

    if not cube.header.coded:
        return None
    known = {"file_type": cube.header.file_type, "coding": None}
    try:
        payload = cube.coded
    except ContainerError as error:  # of a later swath, or damaged: the header is worth seeing
        warn(str(error))
        return known
    assert payload is not None
    return known | {
        "coding": payload.coding.name,
        "bytes": payload.size,
        "blocks": payload.count,
        "block_lines": payload.block_lines,
        "max_error": stated_error(cube.header),
    }


def _short(value: Any) -> str:
    if isinstance(value, list):
        text = "{" + ", ".join(map(str, value)) + "}"
        if len(text) > SHOWN and len(value) > 2:
            return f"{{{value[0]}, {value[1]}, …, {value[-1]}}} ({len(value)} values)"
        value = text
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _write_thumbnail(cube: Container, file: Path, out: Path) -> None:
    from pipeline.errors import ConfigError, ContainerError

    picture = cube.thumbnail
    if not picture:
        raise ContainerError(f"{file}: there is no thumbnail in it")
    try:
        with out.open("xb") as target:
            target.write(picture)
    except FileExistsError:
        raise ConfigError(f"--thumbnail {out}: exists, it is not overwritten") from None
    except OSError as error:
        raise ConfigError(f"--thumbnail {out}: cannot be written: {error.strerror}") from None
