"""What Ctrl-C, SIGTERM and a closed terminal (SIGHUP) do while a command works.

Commands on files end at the first and clean up. Of a capture the first only sets a flag: it stops,
drains and finishes its file. The second raises KeyboardInterrupt in the main thread, which leaves a
partial file that ``swath recover`` finishes. A third ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stop_on_signal(
    stop: threading.Event, on_first: Callable[[], None] | None = None
) -> Iterator[None]:
    """Handle these signals as above inside the block, as before after it.

    Parameters
    ----------
    stop : threading.Event
        Set by the first signal.
    on_first : callable, optional
        Called after that, in the main thread between two instructions; keep it short.
    """
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            stop.set()
            if on_first is not None:
                on_first()
        elif count == 2:
            raise KeyboardInterrupt
        else:
            sys.stderr.flush()
            os._exit(1)

    numbers = [signal.SIGINT, signal.SIGTERM]
    # Ignored where nohup started this: then it stays so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
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
