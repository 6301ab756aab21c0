"""``swath export``: a plain ENVI folder out of a container."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Backend, BackendOption, HsiFile, read_range


class ExportAs(StrEnum):
    """What ``--as`` takes."""

    raw = "raw"
    reflectance = "reflectance"
    float32 = "float32"


def export(
    file: HsiFile,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made where it is missing.")],
    kind: Annotated[
        ExportAs | None,
        typer.Option(
            "--as", help="raw counts, reflectance (int16 × 10000), or reflectance as float32."
        ),
    ] = None,
    lines: Annotated[str | None, typer.Option("--lines", metavar="a:b")] = None,
    samples: Annotated[str | None, typer.Option("--samples", metavar="a:b")] = None,
    bands: Annotated[str | None, typer.Option("--bands", metavar="a:b")] = None,
    backend: BackendOption = Backend.cpu,
) -> None:
    """Write a container as plain ENVI files.

    Data, references and metadata; the data as reflectance where it can be had.
    a:b means from a up to, not including, b, counted from 0. Compressed data is decoded.
    """
    from pipeline.cli.output import short_path, warn
    from pipeline.cli.waiting import progress
    from pipeline.container.export import export as export_file

    given = {"lines": lines, "samples": samples, "bands": bands}
    ranges = {name: read_range(f"--{name}", text) for name, text in given.items()}
    with progress(f"export to {folder}") as report:
        made = export_file(
            file,
            folder,
            form=None if kind is None else kind.value,
            **ranges,
            backend=backend.value,
            progress=report,
        )
    for (name, chosen), size in zip(ranges.items(), made.shape, strict=True):
        first, end = (chosen.start or 0, chosen.stop) if chosen is not None else (0, None)
        if end is not None and first + size < end:
            warn(f"--{name} {first}:{end}: the file has but {first + size} {name}")
    if made.clipped:
        warn(f"{made.clipped:,} reflectance values beyond ±3.2767 are stored as the limit")
    count_lines, count_samples, count_bands = made.shape
    print(short_path(made.header))
    print(f"  {count_lines:,} lines × {count_samples} samples × {count_bands} bands")
