"""The driver as a process: signals, and the parent that it must not outlive.

Knows the operating system only. A signal sets a flag; the publisher's loop looks at it, and closes
the camera in order. Where that loop is stuck in a vendor's call, a guard ends the process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

from pipeline.child import end_with_parent

#: A camera that still keeps the process so long after it was asked to end, or after its parent
#: died, is left to the system, seconds.
HANG_S: Final = 20.0
#: A vendor's call that holds the interpreter lock for so long hangs, seconds; longer than the
#: engine waits for a camera to be armed.
LOCKED_S: Final = 90.0
#: How often the parent is looked for, seconds.
LOOK_S: Final = 0.25
#: How often the guard shows that the interpreter lock can be had, seconds.
RENEW_S: Final = 1.0


class ProcessWatch:
    """Says when the driver has to end.

    Parameters
    ----------
    parent_pid : int or None
        The process to end with; None for a driver that stands alone.

    Attributes
    ----------
    end_asked : bool
        A signal asked for an orderly end.
    hurried : bool
        It was asked twice: no more waiting.
    """

    def __init__(self, parent_pid: int | None) -> None:
        self.parent_pid = parent_pid
        self.end_asked = False
        self.hurried = False
        self._looked_s = 0.0
        self._orphaned = False
        self._patience_s: float | None = None

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Take over SIGTERM and SIGINT in the main thread, and give them back at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        mine = {signal.SIGTERM: self._on_signal, signal.SIGINT: self._on_signal}
        before = {number: signal.getsignal(number) for number in mine}
        for number, handler in mine.items():
            if number == signal.SIGINT and self.parent_pid is not None:
                # Ctrl-C reaches the whole foreground group; the parent decides what it means.
                signal.signal(number, signal.SIG_IGN)
            else:
                signal.signal(number, handler)
        if self.parent_pid is not None:
            end_with_parent()
        try:
            with self._guard():
                yield
        finally:
            for number, handler_before in before.items():
                signal.signal(number, handler_before or signal.SIG_DFL)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """See to it that the process ends, whatever the main thread is stuck in."""
        if self.parent_pid is None:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._watch_over, args=(over,), name="guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _watch_over(self, over: threading.Event) -> None:
        """Put the end of the process off for as long as parent and interpreter are alive.

        A handler of Python's runs in the main thread, so not while that is stuck; this thread
        needs the interpreter lock; faulthandler's timer needs neither.
        """
        with open(os.devnull, "w") as nowhere:
            while not (self.end_asked or os.getppid() != self.parent_pid):
                faulthandler.dump_traceback_later(LOCKED_S, exit=True, file=nowhere)
                renew_s = time.monotonic() + RENEW_S
                while time.monotonic() < renew_s and os.getppid() == self.parent_pid:
                    if over.wait(LOOK_S):
                        return
            faulthandler.dump_traceback_later(HANG_S, exit=True, file=nowhere)
            over.wait()

    def orphaned(self) -> bool:
        """Tell whether the parent is gone; looks at most every ``LOOK_S``."""
        if self.parent_pid is None or self._orphaned:
            return self._orphaned
        now = time.monotonic()
        if now - self._looked_s >= LOOK_S:
            self._looked_s = now
            self._orphaned = os.getppid() != self.parent_pid
        return self._orphaned

    def patience_over(self, limit_s: float) -> bool:
        """Tell whether ``limit_s`` passed since this was asked first."""
        now = time.monotonic()
        if self._patience_s is None:
            self._patience_s = now
        return now - self._patience_s >= limit_s

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.end_asked:
            self.hurried = True
            return
        self.end_asked = True
        self._looked_s = 0.0  # it may be the signal of the parent's death
