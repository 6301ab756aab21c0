"""What Ctrl-C, SIGTERM and a closed terminal (SIGHUP) do while a capture runs.

The first only sets a flag: the capture stops, drains and finishes its file. The second raises
KeyboardInterrupt in the main thread, which leaves a partial file that ``swath recover`` finishes.
A third ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


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
