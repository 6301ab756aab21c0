"""``swath bad-pixels``: find a camera's bad pixels, and keep a map of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Json, Overrides

#: Pixels that are listed; the map has them all.
LISTED = 20


def bad_pixels(
    rig: Annotated[
        Path | None, typer.Argument(metavar="[RIG.toml]", help="The rig file of the camera.")
    ] = None,
    black: Annotated[
        Path | None, typer.Option("--black", metavar="FILE", help="A black, instead of a rig.")
    ] = None,
    white: Annotated[
        Path | None, typer.Option("--white", metavar="FILE", help="A white, beside --black.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where the map goes; must not exist yet."),
    ] = None,
    json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Find bad pixels in a black and a white, and keep a map.

    Dead, stuck, hot, noisy ones and those of low response, by sensor row and column.
    With a rig file the references are those that its [references] name, or are taken; else those
    of --black and --white. [pipeline] bad_pixels of a rig file uses the map.
    """
    import threading

    from pipeline.bad_pixel_map import describe
    from pipeline.bad_pixel_run import map_of_files, map_of_rig
    from pipeline.bad_pixels import count_kinds
    from pipeline.cli.display import CaptureDisplay
    from pipeline.cli.interrupt import stop_on_signal
    from pipeline.cli.output import print_json, short_path
    from pipeline.errors import ConfigError
    from pipeline.events import EventBus
    from pipeline.rigfile import load_rig

    if (rig is None) == (black is None):
        raise ConfigError("bad-pixels: allowed is either a rig file, or --black FILE")
    if rig is not None:
        if white is not None:
            raise ConfigError("--white: belongs to --black; a rig file names its own references")
        given = tuple(overrides or ())
        loaded = load_rig(rig, given)
        bus, display, stop = EventBus(), CaptureDisplay(), threading.Event()
        bus.subscribe(display)
        with stop_on_signal(stop), display.running():
            made = map_of_rig(loaded, rig_path=rig, overrides=given, out=out, bus=bus, stop=stop)
    else:
        assert black is not None
        made = map_of_files(black, white, out)
    pixels = made.pixels()
    if json:
        print_json(
            {
                "file": str(made.path),
                "pixels": made.kinds.size,
                "bad": len(pixels),
                "kinds": count_kinds(made.kinds),
                "white_not_above_black": made.found.not_brighter,
                "list": [{"row": r, "column": c, "kind": kind} for r, c, kind in pixels],
            }
        )
        return
    print(describe(made.kinds))
    if made.found.not_brighter:
        print(f"white is not brighter than black in {made.found.not_brighter} pixels of a line")
    for row, column, kind in pixels[:LISTED]:
        print(f"  row {row}, column {column}: {kind}")
    if len(pixels) > LISTED:
        print(f"  and {len(pixels) - LISTED} more (--json lists them)")
    print(short_path(made.path))
    print(f'  [pipeline] bad_pixels = "{made.path}" uses it')
