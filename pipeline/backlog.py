"""What the stages still have to look at: lines in slots, and runs of lines to be read back.

Lines come out in the order in which they went in. Runs without a slot are joined, so that however
far the stages fall behind, no more stands here than the ring has slots. Knows slots only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from pipeline.layout import LedgerRows
from pipeline.slots import Slot

#: How long to wait for lines before there is time for something else, s.
IDLE_S: Final = 0.1


@dataclass(slots=True)
class Task:
    """Consecutive lines of the cube to compute.

    Attributes
    ----------
    first_line, lines : int
        Which.
    rows : LEDGER_DTYPE array, (lines,), or None
        Their ledger rows; None: to be read back.
    slot : Slot or None
        Owned once; None: the pixels are to be read back from the file.
    pixels : ndarray, (lines, bands, samples), or None
        View of the slot.
    """

    first_line: int
    lines: int
    rows: LedgerRows | None = None
    slot: Slot | None = None
    pixels: NDArray[Any] | None = None

    def release(self) -> None:
        """Give the slot back; a second call does nothing."""
        slot, self.slot, self.pixels = self.slot, None, None
        if slot is not None:
            slot.release()


class Backlog:
    """First in, first out, between the thread that stores and the one that computes.

    Parameters
    ----------
    block_lines : int
        The most lines that :meth:`take` gives at a time.
    """

    def __init__(self, block_lines: int) -> None:
        self._block_lines = block_lines
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, task: Task) -> None:
        """Add lines behind the last ones."""
        with self._changed:
            last = self._tasks[-1] if self._tasks else None
            if last is not None and last.slot is None and task.slot is None:
                last.lines += task.lines
            else:
                self._tasks.append(task)
            self._changed.notify()

    def take(self, idle: Callable[[], None] = lambda: None) -> Task | None:
        """Wait for the next lines; None when closed and empty.

        ``idle`` is called now and then while there is nothing to do.
        """
        while True:
            with self._changed:
                if not self._tasks and not self._closed:
                    self._changed.wait(IDLE_S)
                if self._tasks:
                    return self._next()
                if self._closed:
                    return None
            idle()  # not while who stores could wait for us

    def _next(self) -> Task:
        """Take the first task, or as much of it as is given at a time."""
        head = self._tasks[0]
        if head.slot is not None or head.lines <= self._block_lines:
            return self._tasks.popleft()
        part = Task(head.first_line, self._block_lines)
        head.first_line += part.lines
        head.lines -= part.lines
        return part

    def close(self) -> None:
        """Let :meth:`take` end when it has given everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
