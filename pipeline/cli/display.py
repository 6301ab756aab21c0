"""Shows a running capture: live on a terminal, only warnings in a pipe; and its closing summary.

Reads events and nothing else. The display goes to stderr, so that stdout carries results alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.output import (
    called,
    count_text,
    duration_text,
    quoted,
    short_path,
    size_text,
    warn,
)
from pipeline.events import (
    Armed,
    Arming,
    Event,
    Finished,
    Loss,
    Phase,
    PhaseKind,
    Progress,
    ReferenceTaken,
    Warned,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_PHASE_WORDS: dict[PhaseKind, str] = {
    "black": "black, shutter closed",
    "white": "white, panel in view",
    "scan": "scan",
}


class CaptureDisplay:
    """One subscriber to the events of a capture.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to draw; by default stderr where that is a terminal, else nothing is drawn and only
        warnings are written, a line each.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._lock = threading.Lock()
        self._live: _Live | None = None
        if console is not None or sys.stderr.isatty():
            self._live = _Live(console)
        self.warnings: list[str] = []
        self.begun = time.time()
        self.armed: Armed | None = None
        self.finished: Finished | None = None

    @contextmanager
    def running(self) -> Iterator[CaptureDisplay]:
        """Draw while the block runs; the terminal is as before at its end, whatever happens."""
        if self._live is None:
            yield self
            return
        self._live.progress.start()
        try:
            yield self
        finally:
            self._live.close()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            if isinstance(event, Warned):
                self._warn(event.text)
            elif isinstance(event, Armed):
                self.armed = event
                for text in event.warnings:
                    self._warn(text)
            elif isinstance(event, Finished):
                self.finished = event
            if self._live is not None:
                self._live.show(event)

    def ask(self, text: str) -> bool:
        """Ask whoever sits at the terminal to do something; False for "no" or the end of input."""
        if self._live is not None:
            self._live.progress.stop()
        try:
            print(f"{text}, then press Enter (n: no): ", end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline()
        finally:
            if self._live is not None:
                self._live.progress.start()
        return bool(answer) and not answer.strip().casefold().startswith("n")

    def _warn(self, text: str) -> None:
        if text in self.warnings:
            return
        self.warnings.append(text)
        if self._live is None:
            warn(text)
        else:
            self._live.line(f"warning: {text}", "yellow")


class _Live:
    """The moving part: a bar for the running series, finished ones above it."""

    def __init__(self, console: Console | None) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}", markup=False),
            TextColumn("{task.fields[loss]}", markup=False, style="red"),
            TextColumn("{task.fields[rest]}", markup=False, style="dim"),
            console=console or RichConsole(stderr=True),
            refresh_per_second=8,
        )
        self._task: TaskID | None = None
        self._kind: PhaseKind = "scan"
        self._lost = 0

    def line(self, text: str, style: str = "") -> None:
        """Write a line that stays, above the moving part."""
        self.progress.console.print(text, style=style, markup=False, highlight=False)

    def show(self, event: Event) -> None:
        if isinstance(event, Arming):
            self._begin(event.text, None)
        elif isinstance(event, Armed):
            self._drop()
            self._armed(event)
        elif isinstance(event, Phase):
            self._drop()
            self._kind, self._lost = event.kind, 0
            self._begin(_PHASE_WORDS[event.kind], event.lines)
        elif isinstance(event, Loss):
            self._lost += event.count
        elif isinstance(event, Progress):
            self._move(event)
        elif isinstance(event, ReferenceTaken):
            self._drop()
            self.line(_reference_text(event))
        elif isinstance(event, Finished):
            self._drop()

    def close(self) -> None:
        self._drop()
        self.progress.stop()

    def _begin(self, text: str, total: int | None) -> None:
        self._drop()
        self._task = self.progress.add_task(text, total=total, counts="", loss="", rest="")

    def _drop(self) -> None:
        if self._task is not None:
            self.progress.remove_task(self._task)
            self._task = None

    def _armed(self, event: Armed) -> None:
        rate = f" at {event.fps:g} Hz" if event.fps else ""
        exposure = f", {event.exposure_ms:g} ms" if event.exposure_ms else ""
        self.line(
            f"{event.sensor_type}: {event.samples} samples × {event.bands} bands{rate}{exposure}"
        )
        # Why not on a GPU matters to who asks for one, and is an error then.
        where = "the CPU" if event.backend == "cpu" else f"{event.backend} ({event.why})"
        self.line(f"computes on {where}; into {short_path(event.file)}", "dim")

    def _move(self, event: Progress) -> None:
        if self._task is None:
            return
        lost = max(event.lost, self._lost)
        total = f"/{event.total:,}" if event.total else ""
        rest = []
        if event.eta_s is not None:
            rest.append(f"{duration_text(event.eta_s)} left")
        elif event.free_seconds is not None:
            rest.append(f"disk for {duration_text(event.free_seconds)}")
        if event.bytes:
            rest.append(size_text(event.bytes))
        if event.temperature_c is not None:
            rest.append(f"{event.temperature_c:.1f} °C")
        self.progress.update(
            self._task,
            completed=event.lines,
            total=event.total,
            counts=f"{event.lines:,}{total} lines  {event.lines_per_second:,.0f}/s",
            loss=f"{lost:,} lost" if lost else "",
            rest=" · ".join(rest),
        )


def _reference_text(event: ReferenceTaken) -> str:
    how = f"from {event.source}" if event.source else f"mean of {count_text(event.lines, 'line')}"
    if event.rejected:
        how += f" ({count_text(event.rejected, 'line')} stood out and left out)"
    clipped = f", {100 * event.saturated:.2g} % saturated" if event.saturated else ""
    share = ""
    if event.full_scale:
        share = f" of {event.full_scale:,.0f} ({100 * event.mean / event.full_scale:.0f} %)"
    return f"{event.kind}: {how}, {event.mean:,.1f} DN{share}{clipped}"


def summary(done: Finished) -> list[str]:
    """Say where the file is, what is in it, and how to look at it.

    Returns
    -------
    list of str
        Lines of text.
    """
    path = short_path(done.file)
    held = f"  {count_text(done.lines, 'line')}"
    if done.samples and done.bands:
        held += f" × {done.samples} samples × {done.bands} bands"
    if done.wavelength_nm is not None:
        held += f", {done.wavelength_nm[0]:.0f} to {done.wavelength_nm[1]:.0f} nm"
    held += f", stored as {done.store}, {size_text(done.bytes)}"
    references = ", ".join(done.references) or "none"
    loss = f"{count_text(done.lost, 'line')} LOST" if done.lost else "no line lost"
    lines = [
        path,
        held,
        f"  references: {references}",
        f"  {duration_text(done.seconds)} at {done.lines_per_second:,.1f} lines/s, {loss}, "
        f"computed on {done.backend}",
    ]
    if done.coded:
        lines.append(f"  {done.coded}")
    if done.thumbnail:
        picture = str(Path(path).with_suffix(".jpg"))
        lines.append(
            f"  picture: {done.thumbnail} inside; "
            f"{called()} info {quoted(path)} --thumbnail {quoted(picture)} takes it out"
        )
    return lines
