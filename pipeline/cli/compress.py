"""``swath compress``: the coded form of a file, with an error that it states."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from pipeline.cli.options import Backend, BackendOption, CubeFile, Json, NewHsi


def compress(
    file: CubeFile,
    out: NewHsi,
    max_error: Annotated[
        int | None,
        typer.Option("--max-error", metavar="D", help="Counts that any pixel may be off at most."),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Every bit; so it is without another aim.")
    ] = False,
    ratio: Annotated[
        float | None,
        typer.Option(
            "--ratio",
            metavar="R",
            help="Bytes of pixels for each of the coded cube; previews and references come on top.",
        ),
    ] = None,
    noise: Annotated[
        bool,
        typer.Option("--noise", help="An error as small as the sensor's noise (from references)."),
    ] = False,
    coding: Annotated[
        str | None,
        typer.Option(
            "--coding",
            metavar="NAME",
            help="packed, deflate, predicted, smallest, jpegxl, jpeg2000 or packints; without it "
            "what suits the aim.",
        ),
    ] = None,
    block_lines: Annotated[
        int | None,
        typer.Option("--block-lines", metavar="N", help="Lines that are coded together; 128."),
    ] = None,
    backend: BackendOption = Backend.cpu,
    json: Json = False,
) -> None:
    """Write a file in coded form.

    Lossless, or with an error that is bounded, measured over every pixel and written into the file.
    Everything else in the file is kept. Reading it needs no option.
    """
    from pipeline.cli.output import count_text, print_json, short_path, size_text, warn
    from pipeline.cli.waiting import progress
    from pipeline.container.compress import Wanted
    from pipeline.container.compress import compress as compress_file
    from pipeline.errors import ConfigError

    given = {
        "--max-error": max_error is not None,
        "--lossless": lossless,
        "--ratio": ratio is not None,
        "--noise": noise,
    }
    if sum(given.values()) > 1:
        raise ConfigError(
            f"{' and '.join(name for name, is_given in given.items() if is_given)}: found "
            f"{sum(given.values())} aims, allowed is one"
        )
    wanted = Wanted(coding, 0 if lossless else max_error, ratio, noise, block_lines)
    begun = time.perf_counter()
    with progress(f"compress to {out}") as report:
        made = compress_file(file, out, wanted, backend=backend.value, progress=report)
    seconds = time.perf_counter() - begun
    stats = made.stats
    for text in made.warnings:
        warn(text)
    if json:
        print_json(
            {
                "file": str(made.path),
                "file_type": made.file_type,
                "coding": made.coding,
                "lines": made.lines,
                "block_lines": made.block_lines,
                "raw_bytes": made.raw_bytes,
                "coded_bytes": made.coded_bytes,
                "file_bytes": made.path.stat().st_size,
                "ratio": made.ratio,
                "max_error": stats.max_error,
                "rmse": stats.rmse,
                "mean_spectral_angle": stats.mean_angle,
                "seconds": seconds,
                "warnings": made.warnings,
            }
        )
        return
    print(short_path(made.path))
    print(
        f"  {count_text(made.lines, 'line')}, {size_text(made.raw_bytes)} → "
        f"{size_text(made.coded_bytes)}: {made.ratio:.2f} : 1, {made.coding}"
    )
    print(f"  file {size_text(made.path.stat().st_size)}, with all that is not the cube")
    if stats.max_error == 0:
        print("  lossless")
    else:
        print(
            f"  max error {count_text(stats.max_error, 'count')}, rmse {stats.rmse:.3g}, "
            f"mean spectral angle {stats.mean_angle:.3g} rad"
        )
