"""``swath reference``: take a white or a black now, and keep it as an ENVI file."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from pipeline.cli.options import Overrides, RigFile, read_averaged


class ReferenceKind(StrEnum):
    """What can be taken."""

    white = "white"
    black = "black"


def reference(
    kind: Annotated[ReferenceKind, typer.Argument(help="white or black.")],
    rig: RigFile,
    lines: Annotated[
        int | None,
        typer.Option("--lines", metavar="N", parser=read_averaged, help="Lines to average."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Take a white or a black now, and keep it.

    It is the mean of N lines of the camera of a rig file, without those that stand out; a white
    brings its own dark. What is no white or black (saturated, too dim, not dark) is refused.
    The file lies where the rig file's [references] will look for it, else in the folder
    references.
    """
    import threading

    from pipeline.cli.display import CaptureDisplay
    from pipeline.cli.interrupt import stop_on_signal
    from pipeline.cli.output import short_path
    from pipeline.events import EventBus
    from pipeline.reference_run import take_reference
    from pipeline.rigfile import load_rig

    given = tuple(overrides or ())
    loaded = load_rig(rig, given)
    bus = EventBus()
    display = CaptureDisplay()
    bus.subscribe(display)
    stop = threading.Event()
    with stop_on_signal(stop), display.running():
        made = take_reference(
            loaded,
            "white" if kind is ReferenceKind.white else "black",
            rig_path=rig,
            overrides=given,
            lines=lines,
            bus=bus,
            stop=stop,
            ask=display.ask if sys.stdin.isatty() and sys.stderr.isatty() else None,
        )
    print(short_path(made))
    if getattr(loaded.references, kind.value) in (None, "take"):
        print(f'  [references] {kind.value} = "{made}" uses it')
