"""A few threads that share one piece of work after another, and are quick to begin.

An executor hands each piece over through a queue and a future, some 50 µs for what takes a
millisecond in all; here each thread waits on a lock of its own. Knows threads only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

#: ``work(first, last, thread)`` does a part of a range, and gives a number to be added up.
Work = Callable[[int, int, int], int]


class Crew:
    """Threads that work together with the one that calls; used by one thread at a time.

    Parameters
    ----------
    threads : int
        The caller's included.
    name : str
        Shown by debuggers.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._mates = [_Mate(number, f"{name}-{number}") for number in range(threads - 1)]

    def each(self, work: Work, count: int) -> int:
        """Share ``work(first, last, thread)`` over ``range(count)``; give the sum of its results.

        The calling thread takes the last part itself. An error of any part is raised once all
        have ended.
        """
        parts = min(self.threads, count)
        if parts < 2:
            return work(0, count, 0)
        edges = [count * i // parts for i in range(parts + 1)]
        mates = self._mates[: parts - 1]
        for mate, first, last in zip(mates, edges, edges[1:], strict=False):
            mate.begin(work, first, last)
        try:
            total = work(edges[parts - 1], edges[parts], parts - 1)
        finally:
            for mate in mates:
                mate.wait()
        for mate in mates:
            total += mate.result()
        return total

    def close(self) -> None:
        """End the threads; may be called twice."""
        mates, self._mates, self.threads = self._mates, [], 1
        for mate in mates:
            mate.end()


class _Mate:
    """One thread, and the part that it has."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._part: tuple[Work, int, int] | None = None
        self._result = 0
        self._error: BaseException | None = None
        # Locks as gates, each opened by the other side.
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, work: Work, first: int, last: int) -> None:
        """Have a part done."""
        self._part = work, first, last
        self._go.release()

    def wait(self) -> None:
        """Wait until the part is done."""
        self._done.acquire()

    def result(self) -> int:
        """Give what the part gave, or raise what it raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result

    def end(self) -> None:
        """Let the thread end."""
        self._part = None
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._part is None:
                return
            (work, first, last), self._part = self._part, None
            try:
                self._result = work(first, last, self._number)
            except BaseException as error:  # it is raised where the result is asked for
                self._error = error
            del work  # it may hold a block
            self._done.release()
