"""Shows that a command works, on a terminal; draws nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.cli.interrupt import ended_like_ctrl_c

#: Receives what is done and what there is to do in all.
Report = Callable[[int, int], None]


@contextmanager
def progress(text: str) -> Iterator[Report]:
    """Show a bar while the block runs; it moves once the yielded function is called.

    The bar is gone at the end: what the command says stands alone. SIGTERM and a closed terminal
    (SIGHUP) end the block as Ctrl-C does: what is half written is removed.
    """
    with ended_like_ctrl_c():
        if not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task(text, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
