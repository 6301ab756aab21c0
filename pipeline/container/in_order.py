"""Work on blocks by several threads, its results taken in order, a bounded number of them begun.

Knows the standard library only.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Result = TypeVar("Result")
_MOST_THREADS: Final = 16


def default_threads() -> int:
    """Give the number of processors that this process may use, 16 at most."""
    able = getattr(os, "sched_getaffinity", None)
    return min(len(able(0)) if able is not None else os.cpu_count() or 1, _MOST_THREADS)


def in_order(tasks: Iterable[Callable[[], Result]], threads: int) -> Iterator[Result]:
    """Run tasks by several threads and give their results in order.

    Parameters
    ----------
    tasks : iterable of callable
        Asked for one by one by the caller's thread, as they are begun.
    threads : int
        One task more than that is begun and not yet taken.
    """
    pool = ThreadPoolExecutor(threads, "swath-blocks")
    begun: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            begun.append(pool.submit(task))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
