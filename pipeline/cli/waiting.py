"""Shows that a command works, on a terminal; draws nothing in a pipe. Knows what ends it, too."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: Receives what is done and what there is to do in all.
Report = Callable[[int, int], None]


@contextmanager
def progress(text: str) -> Iterator[Report]:
    """Show a bar while the block runs; it moves once the yielded function is called.

    The bar is gone at the end: what the command says stands alone. SIGTERM and a closed terminal
    (SIGHUP) end the block as Ctrl-C does: what is half written is removed.
    """
    with _ended_like_ctrl_c():
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


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt for these signals inside the block, unless somebody handles them."""

    def handle(number: int, frame: FrameType | None) -> None:
        for other in before:  # a closed terminal may send several
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
