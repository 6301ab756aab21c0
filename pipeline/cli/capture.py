"""``swath capture``: record one ``.hsi`` from the camera of a rig file."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.options import Json, Lines, Out, Overrides, RigFile, Seconds

if TYPE_CHECKING:
    from pipeline.capture import CaptureResult
    from pipeline.cli.display import CaptureDisplay
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
    loaded = load_rig(rig, given)
    return record(loaded, rig, given, json, lines=lines, seconds=seconds, out=out, endpoint=None)


def record(rig: Rig, rig_path: Path, overrides: tuple[str, ...], json: bool, **wanted: Any) -> int:
    """Run a capture with display, signals and summary.

    Parameters
    ----------
    rig : Rig
        The rig file, loaded with ``overrides``.
    rig_path : Path
        Its file.
    overrides : tuple of str
        ``KEY=VALUE`` each.
    json : bool
        Whether to end with an object instead of the summary.
    **wanted
        ``lines``, ``seconds``, ``out`` and ``endpoint`` of :func:`pipeline.capture.run_capture`.

    Returns
    -------
    int
        The exit status.
    """
    from pipeline.capture import run_capture
    from pipeline.cli.display import CaptureDisplay, summary
    from pipeline.cli.interrupt import stop_on_signal
    from pipeline.cli.output import print_json
    from pipeline.errors import ConfigError, DeviceError
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
                rig, rig_path=rig_path, overrides=overrides, bus=bus, stop=stop, **wanted
            )
    except KeyboardInterrupt:
        print(f"swath: interrupted twice; {left_behind(display)}", file=sys.stderr)
        return 1
    except DeviceError as error:
        if display.armed is None and rig.pipeline.backend == "cuda":
            raise ConfigError(f'[pipeline] backend = "cuda": {error}') from error
        raise
    if result.message:
        print(f"swath: {result.message}", file=sys.stderr)
    if json:
        print_json(as_object(result))
    elif display.finished is not None:
        print("\n".join(summary(display.finished)), flush=True)
    return int(result.exit_status)


def left_behind(display: CaptureDisplay) -> str:
    """Say what an interrupted capture left, and what finishes it."""
    import contextlib
    import glob

    from pipeline.cli.output import called, quoted, short_path
    from pipeline.container.partial import PARTIAL

    if display.finished is not None:
        return f"{short_path(display.finished.file)} was finished before"
    if display.armed is None:
        return "nothing was recorded"
    # Of a name that was taken the capture made NAME-2.hsi; the newest is this one.
    file = Path(display.armed.file)
    pattern = f"{glob.escape(file.stem)}*{file.suffix}"

    def newest(pattern: str, since: float = 0.0) -> Path | None:
        found = {}
        for path in file.parent.glob(pattern):
            with contextlib.suppress(OSError):  # somebody else's, renamed meanwhile
                found[path] = path.stat().st_mtime
        return max(
            (path for path in found if found[path] > since), key=found.__getitem__, default=None
        )

    if (partial := newest(pattern + PARTIAL)) is not None:
        path = quoted(short_path(partial))
        return f"what was recorded is in {path}; {called()} recover {path} finishes it"
    # it was being coded, or just had been; clocks of files are a little coarser
    if (whole := newest(pattern, display.begun - 0.1)) is not None:
        return f"what was recorded is in {short_path(whole)}, which is whole"
    return f"no unfinished file is left in {short_path(file.parent)}"


def as_object(result: CaptureResult) -> dict[str, Any]:
    """Give what ``--json`` ends with."""
    names = ["file", "lines", "lost", "seconds", "bytes", "lines_per_second", "backend", "warnings"]
    names += ["coded", "coded_in_scan"]
    return {name: getattr(result, name) for name in names}
