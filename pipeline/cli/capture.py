"""``swath capture``: record one ``.hsi`` from the camera of a rig file."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.options import Json, Lines, Out, Overrides, RigFile, Seconds

if TYPE_CHECKING:
    from pipeline.config import Rig


def capture(
    rig: RigFile,
    lines: Lines = None,
    seconds: Seconds = None,
    out: Out = None,
    overrides: Overrides = None,
    json: Json = False,
) -> int:
    """Record one .hsi from the camera of a rig file.

    Black and white first where the rig file says so, then the scan.

    Ctrl-C or SIGTERM finishes the file cleanly; a second one leaves a partial file that
    `swath recover` finishes. Exit status 0 all well, 3 file whole but lines were lost, 2 bad
    input, 1 failure at work.
    """
    from pipeline.rigfile import load_rig

    given = tuple(overrides or ())
    return record(
        load_rig(rig, given),
        rig_path=rig,
        overrides=given,
        lines=lines,
        seconds=seconds,
        out=out,
        endpoint=None,
        json=json,
    )


def record(
    rig: Rig,
    *,
    rig_path: Path,
    overrides: tuple[str, ...],
    lines: int | None,
    seconds: float | None,
    out: Path | None,
    endpoint: str | None,
    json: bool,
) -> int:
    """Run a capture with display, signals and summary; ``endpoint`` None starts a driver.

    Returns
    -------
    int
        The exit status.
    """
    from pipeline.capture import run_capture
    from pipeline.cli.display import CaptureDisplay, summary
    from pipeline.cli.interrupt import stop_on_signal
    from pipeline.cli.output import print_json
    from pipeline.events import EventBus, Warned

    bus = EventBus()
    display = CaptureDisplay()
    bus.subscribe(display)
    stop = threading.Event()

    def announce() -> None:
        # From a thread: the signal may have come while this one holds the bus or the display.
        text = "stopping: the file is being finished; a second Ctrl-C leaves it partial"
        threading.Thread(target=bus.emit, args=(Warned(text=text),), daemon=True).start()

    try:
        with stop_on_signal(stop, announce), display.running():
            result = run_capture(
                rig,
                rig_path=rig_path,
                overrides=overrides,
                lines=lines,
                seconds=seconds,
                out=out,
                bus=bus,
                endpoint=endpoint,
                stop=stop,
            )
    except KeyboardInterrupt:
        print(
            "swath: interrupted twice; what was recorded is in a file that ends in .partial, "
            "and swath recover finishes it",
            file=sys.stderr,
        )
        return 1
    if result.message:
        print(f"swath: {result.message}", file=sys.stderr)
    if json:
        print_json(as_object(result))
    elif display.finished is not None:
        print("\n".join(summary(display.finished)), flush=True)
    return int(result.exit_status)


def as_object(result: Any) -> dict[str, Any]:
    """Give what ``--json`` ends with."""
    names = ["file", "lines", "lost", "seconds", "bytes", "lines_per_second", "backend", "warnings"]
    return {name: getattr(result, name) for name in names}
