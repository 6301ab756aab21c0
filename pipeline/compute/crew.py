"""A few threads that share one piece of work after another, and are quick to begin.

An executor hands each piece over through a queue and a future, some 50 µs for what takes a
millisecond in all. Here the pieces are taken by whoever is free: work that was posted begins at
once, and the thread that needs its result joins in. Knows threads only.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

#: ``work(first, last, thread)`` does a part of a range, and gives a number to be added up.
Work = Callable[[int, int, int], int]
#: ``share(thread)`` takes parts until none is left, whichever thread calls it, and adds them up.
Share = Callable[[int], int]

#: Parts to a thread of :meth:`Crew.each`: who is late leaves some to the others.
PARTS: Final = 2


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
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._mates = [
            threading.Thread(
                target=_help, args=(self._jobs, number), name=f"{name}-{number}", daemon=True
            )
            for number in range(threads - 1)
        ]
        for mate in self._mates:
            mate.start()

    def post(self, share: Share) -> Callable[[], int]:
        """Begin with work that may be waited for later; pieces are begun in the order of posting.

        Returns
        -------
        callable
            Joins in, waits until the work is done, gives the sum of what its parts gave, and raises
            an error of any part once all have ended; to be called once, by the thread that posted.
        """
        job = _Job(share)
        for _ in self._mates:
            self._jobs.put(job)
        return lambda: job.join(self.threads - 1)

    def each(self, work: Work, count: int) -> int:
        """Share ``work(first, last, thread)`` over ``range(count)``; give the sum of its results.

        An error of any part is raised once all have ended.
        """
        parts = min(self.threads * PARTS, count) if self.threads > 1 else 1
        if parts < 2:
            return work(0, count, self.threads - 1)
        edges = [count * i // parts for i in range(parts + 1)]
        left = iter(list(itertools.pairwise(edges)))  # a thread takes the next, no two the same

        def share(thread: int) -> int:
            return sum(work(first, last, thread) for first, last in left)

        return self.post(share)()

    def close(self) -> None:
        """End the threads, each with the part that it has; may be called twice."""
        mates, self._mates, self.threads = self._mates, [], 1
        with contextlib.suppress(Empty):
            while True:  # what nobody waits for any more
                self._jobs.get_nowait()
        for _ in mates:
            self._jobs.put(None)
        for mate in mates:
            mate.join()


class _Job:
    """A piece of work, and who is at it."""

    def __init__(self, share: Share) -> None:
        self._share: Share | None = share
        self._lock = threading.Lock()
        self._at_work = 0
        self._total = 0
        self._error: BaseException | None = None
        self._left = threading.Lock()  # opened when the last has left
        self._left.acquire()
        self._awaited = False

    def join(self, thread: int) -> int:
        """Take part, then wait for the others."""
        self.help(thread)
        with self._lock:
            self._share = None  # it may hold a block
            self._awaited = self._at_work > 0
        if self._awaited:
            self._left.acquire()
        if self._error is not None:
            raise self._error
        return self._total

    def help(self, thread: int) -> None:
        """Take parts until none is left."""
        with self._lock:
            share = self._share
            if share is None:
                return
            self._at_work += 1
        total, error = 0, None
        try:
            total = share(thread)
        except BaseException as raised:  # it is raised where the result is asked for
            error = raised
        del share
        with self._lock:
            self._at_work -= 1
            self._total += total
            self._error = self._error or error
            self._share = None  # nothing is left to begin with
            if self._awaited and not self._at_work:
                self._left.release()


def _help(jobs: SimpleQueue[_Job | None], thread: int) -> None:
    """Be a mate."""
    while True:
        job = jobs.get()
        if job is None:
            return
        job.help(thread)
        del job
