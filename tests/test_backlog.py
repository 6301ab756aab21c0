"""The backlog of lines to compute: in order, and bounded however far behind."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from pipeline.backlog import Backlog, Task
from pipeline.slots import SlotRing


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=30), st.integers(1, 8))
def test_lines_come_out_in_order_and_runs_without_slots_are_joined(
    blocks: list[tuple[int, bool]], block_lines: int
) -> None:
    ring = SlotRing(30, 16)
    backlog = Backlog(block_lines)
    first = 0
    for lines, late in blocks:
        backlog.put(Task(first, lines, slot=None if late else ring.acquire()))
        first += lines
    held = sum(not late for _, late in blocks)
    assert len(backlog) <= 2 * held + 1
    backlog.close()
    at = 0
    while (task := backlog.take()) is not None:
        assert task.first_line == at
        assert task.slot is not None or task.lines <= block_lines
        at += task.lines
        task.release()
    assert at == first
    assert ring.free == ring.count
    ring.close()


def test_take_waits_for_put_and_for_close() -> None:
    backlog = Backlog(4)
    got: list[Task | None] = []
    reader = threading.Thread(target=lambda: got.extend((backlog.take(), backlog.take())))
    reader.start()
    backlog.put(Task(0, 3))
    backlog.close()
    reader.join(5)
    assert [task.lines if task else None for task in got] == [3, None]


def test_there_is_time_for_something_else_while_no_lines_come() -> None:
    backlog = Backlog(4)
    idle = threading.Event()

    def pause() -> None:
        backlog.put(Task(0, 1))  # would never return if the backlog were still locked
        idle.set()

    assert backlog.take(pause) is not None
    assert idle.is_set()
