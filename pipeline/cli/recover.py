"""``swath recover``: finish the file of a capture that was cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Json


def recover(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .hsi.partial that was left.")],
    json: Json = False,
) -> None:
    """Finish the file of a capture cut short.

    Up to the last line that is whole on the disk.
    """
    from pipeline.cli.output import (
        called,
        count_text,
        print_json,
        quoted,
        short_path,
        size_text,
        warn,
    )
    from pipeline.cli.waiting import progress
    from pipeline.coded_capture import compress_options
    from pipeline.config import RIG_ENTRY
    from pipeline.container.reader import open_container
    from pipeline.container.recovery import recover as recover_file
    from pipeline.stages.thumbnail import thumbnail_jpeg

    with progress(f"recover {file}"):
        report = recover_file(file, thumbnail=thumbnail_jpeg)
    for text in report.warnings:
        warn(text)
    if json:
        print_json(report)
        return
    print(short_path(report.file))
    lost = f"{count_text(report.lost, 'line')} lost" if report.lost else "no line lost"
    damaged = f", {report.damaged} of them damaged on the disk" if report.damaged else ""
    print(f"  {count_text(report.lines, 'line')}, {lost}{damaged}")
    if report.dropped_bytes:
        with open_container(report.file) as cube:
            cut = report.dropped_bytes * cube.header.lines // max(cube.header.data_bytes, 1)
        print(f"  cut off at the end: {count_text(cut, 'line')}, {size_text(report.dropped_bytes)}")
    with open_container(report.file) as cube:
        known = RIG_ENTRY in cube.entries and not cube.header.coded
        rig = cube.entry(RIG_ENTRY) if known else b""
    if (options := compress_options(rig)) is not None:
        path = quoted(short_path(report.file))
        print(
            f"  raw, not coded as the rig file has it: {called()} compress {path} OUT.hsi {options}"
        )
