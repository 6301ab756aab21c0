"""How a tool ends: each failure and each signal as one sentence and an exit status.

0: all well; 1: failure at work; 2: bad input; 128 and the signal's number after a signal. The first
SIGINT, SIGTERM or SIGHUP is raised in the main thread, so that what was begun is put away; a second
is let pass, because ``timeout`` and terminals send more than one; a third ends the process at once.
Knows the error tree only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from pipeline.errors import SwathError

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class EndedError(KeyboardInterrupt):
    """A signal asked the process to end; whatever minds Ctrl-C minds it as well."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run(program: str, work: Callable[[], int]) -> int:
    """Do some work in the main thread; the exit status, with a sentence on stderr if it failed."""
    try:
        with signals_raise():
            status = work()
            sys.stdout.flush()
            return status
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, EndedError) else signal.SIGINT
        text = (
            "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        )
        _say(f"{program}: {text}")
        return 128 + number
    except BrokenPipeError:
        # the reader (``| head``) has seen enough
        _forget_output()
        return 0
    except Exception as error:
        return _failure(program, error)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise EndedError inside the block at the first signal that asks to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came == 1:
            raise EndedError(number)
        if came > 2:
            os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    # what was ignored before (nohup, a job in the background) stays so
    mine = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in mine:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number] or signal.SIG_DFL)


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
