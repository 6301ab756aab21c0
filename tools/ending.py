"""How a tool ends: each failure and each signal as one sentence and an exit status.

0: all well; 1: failure at work; 2: bad input; 128 and the signal's number after a signal. The first
SIGINT, SIGTERM or SIGHUP is raised in the main thread, so that what was begun is put away. One that
comes soon after it is let pass, because ``timeout`` sends two; a later one is raised again, for
an extension may have swallowed the first; the fourth ends the process at once. Knows the error
tree only.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from pipeline.errors import SwathError

#: After so long a further signal is meant as one, s.
AGAIN_S = 1.0
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class EndedError(KeyboardInterrupt):
    """A signal asked the process to end; whatever minds Ctrl-C minds it as well."""


class Signals:
    """Raises EndedError inside a ``with`` block at the first signal that asks to end.

    Attributes
    ----------
    first : int
        Number of that signal; 0 while none came.
    """

    def __init__(self) -> None:
        self.first = 0
        self._count = 0
        self._raised_s = -math.inf
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in SIGNALS}
            # what was ignored before (nohup, a job in the background) stays so
            self._before = {n: how for n, how in before.items() if how is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.first:  # the process ends now: none of them cuts that short, but for a fourth
            self._raised_s = math.inf
            return
        for number, how in self._before.items():
            signal.signal(number, how or signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 3:
            os._exit(128 + number)
        self.first = self.first or number
        if time.monotonic() > self._raised_s + AGAIN_S:
            self._raised_s = time.monotonic()
            raise EndedError


def run(program: str, work: Callable[[], int]) -> int:
    """Do some work in the main thread; the exit status, with a sentence on stderr if it failed."""
    signals = Signals()
    try:
        with signals:
            status = work()
            sys.stdout.flush()
        return _ended(program, signals.first) if signals.first else status
    except KeyboardInterrupt:
        return _ended(program, signals.first or signal.SIGINT)
    except BrokenPipeError:
        # the reader (``| head``) has seen enough
        _forget_output()
        return 0
    except Exception as error:
        if signals.first:  # something half made could not be put away
            return _ended(program, signals.first)
        return _failure(program, error)


def _ended(program: str, number: int) -> int:
    name = signal.Signals(number).name
    _say(f"{program}: {'interrupted' if number == signal.SIGINT else f'ended by {name}'}")
    return 128 + number


def _failure(program: str, error: Exception) -> int:
    if os.environ.get("SWATH_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, SwathError):
        _say(f"{program}: {error}")
        return error.exit_status
    if isinstance(error, MemoryError):
        _say(f"{program}: not enough memory for this")
    elif isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        _say(f"{program}: {where}{error.strerror}")
        if error.filename is None:
            _forget_output()  # it may be what cannot be written
    else:
        _say(
            f"{program}: internal error, please report it: {type(error).__name__}: {error} "
            "(SWATH_DEBUG=1 shows where)"
        )
    return SwathError.exit_status


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _forget_output() -> None:
    """Keep the interpreter from flushing standard output once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
