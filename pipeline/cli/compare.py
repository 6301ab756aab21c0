"""``swath compare``: how far one cube is from another."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import Json

if TYPE_CHECKING:
    from pipeline.container.compare import Comparison, Errors


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="The cube that counts as true.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The cube that is held against it.")],
    json: Json = False,
) -> None:
    """Show how far one cube is from another.

    Largest error, root mean square error, PSNR and spectral angle, in all and by band.
    Any two cubes of the same shape: coded, raw or ENVI. Stored counts are compared, decoded.
    """
    from pipeline.cli.output import print_json
    from pipeline.cli.waiting import progress
    from pipeline.container.compare import compare as compare_files

    with progress(f"compare {first} and {second}") as report:
        found = compare_files(first, second, progress=report)
    if json:
        print_json(as_object(found))
        return
    for line in as_text(found):
        print(line)


def as_object(found: Comparison) -> dict[str, Any]:
    """Give what ``--json`` ends with; null where a PSNR is not finite."""
    lines, samples, bands = found.shape
    return {
        "lines": lines,
        "samples": samples,
        "bands": bands,
        "equal": found.differing == 0,
        "differing": found.differing,
        **_finite(found.total),
        "spectral_angle_mean": found.angle_mean,
        "spectral_angle_max": found.angle_max,
        "by_band": [_finite(errors) for errors in found.bands],
    }


def _finite(errors: Errors) -> dict[str, float | None]:
    return {name: x if math.isfinite(x) else None for name, x in asdict(errors).items()}


def as_text(found: Comparison) -> list[str]:
    """Give the same for people."""
    from pipeline.cli.output import count_text

    lines, samples, bands = found.shape
    size = f"{count_text(lines, 'line')} × {samples} samples × {bands} bands"
    if not found.differing:
        return [size, "  equal"]
    total = found.total
    out = [
        size,
        f"  {count_text(found.differing, 'value')} of {lines * samples * bands:,} differ",
        f"  max error {total.max_error:g}, rmse {total.rmse:.4g}, PSNR {total.psnr:.2f} dB",
        f"  spectral angle: mean {found.angle_mean:.4g} rad, max {found.angle_max:.4g} rad",
        "  band  max error       rmse   PSNR/dB",
    ]
    out += [
        f"  {number:>4}  {errors.max_error:>9g}  {errors.rmse:>9.4g}  {errors.psnr:>8.2f}"
        for number, errors in enumerate(found.bands, 1)
    ]
    return out
