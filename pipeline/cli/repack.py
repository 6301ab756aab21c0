"""``swath repack``: bring an edited or foreign container back into swath's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import HsiFile


def repack(
    file: HsiFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to; without it in the same place."),
    ] = None,
) -> None:
    """Bring an edited container back into form.

    Written anew: stored, aligned, with the names and the order that swath uses.
    """
    from pipeline.cli.output import short_path
    from pipeline.cli.waiting import progress
    from pipeline.container.repack import repack as repack_file

    with progress(f"repack {file}"):
        made = repack_file(file, out)
    print(short_path(made))
