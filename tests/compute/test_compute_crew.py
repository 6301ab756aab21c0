"""Work is shared out once and whole, errors come out, and threads end."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.compute.crew import PARTS, Crew


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_part_is_done_once(threads: int) -> None:
    crew = Crew(threads, "test")
    for count in (1, 2, 3, 7, 100):
        done: list[tuple[int, int, int, int]] = []

        def work(first: int, last: int, thread: int, done: list = done) -> int:  # type: ignore[type-arg]
            done.append((first, last, thread, threading.get_ident()))
            return sum(range(first, last))

        assert crew.each(work, count) == sum(range(count))
        done.sort()
        assert [part[0] for part in done] == [0, *(part[1] for part in done[:-1])]
        assert done[-1][1] == count
        assert len(done) == (min(threads * PARTS, count) if threads > 1 else 1)
        numbers = {part[3]: part[2] for part in done}
        assert all(numbers[part[3]] == part[2] for part in done)  # of each thread, one number
        assert len(set(numbers.values())) == len(numbers)
        assert set(numbers.values()) <= set(range(threads))
        assert numbers.get(threading.get_ident(), threads - 1) == threads - 1
    crew.close()


def test_what_is_posted_begins_at_once_and_in_order() -> None:
    crew = Crew(3, "test")
    begun = [threading.Event() for _ in range(2)]
    go = threading.Event()
    ended: list[int] = []

    def share(number: int) -> int:
        begun[number].set()
        assert go.wait(20)
        ended.append(number)
        return 10**number

    joins = [crew.post(lambda thread, number=number: share(number)) for number in (0, 1)]
    assert begun[0].wait(20)  # though nobody waits for it yet
    go.set()
    total = [join() for join in joins]
    assert total == [ended.count(0), 10 * ended.count(1)]
    assert 1 <= ended.count(0) <= 3
    crew.close()


def test_who_waits_does_the_work_when_the_others_are_busy() -> None:
    crew = Crew(2, "test")
    go, busy = threading.Event(), threading.Event()

    def hold(thread: int) -> int:
        if thread == 0:
            busy.set()
            assert go.wait(20)
        return 0

    join = crew.post(hold)
    assert busy.wait(20)
    threads: list[int] = []

    def work(first: int, last: int, thread: int) -> int:
        threads.append(thread)
        return last - first

    assert crew.each(work, 100) == 100  # the mate is not waited for
    assert set(threads) == {1}
    go.set()
    assert join() == 0
    crew.close()


def test_what_is_done_is_not_begun_again() -> None:
    crew = Crew(2, "test")
    for _ in range(200):
        left = iter([1, 2, 3])
        calls: list[int] = []

        def share(thread: int, left=left, calls=calls) -> int:  # type: ignore[no-untyped-def]
            calls.append(thread)
            return sum(left)

        assert crew.post(share)() == 6
        count = len(calls)
        time.sleep(0)
        assert len(calls) == count <= 2
    crew.close()


def test_an_error_is_raised_when_all_have_ended_and_the_next_work_is_done() -> None:
    crew = Crew(3, "test")
    for guilty in (0, 37, 99):
        ended = []

        def work(first: int, last: int, thread: int, guilty: int = guilty) -> int:
            if first <= guilty < last:
                raise ValueError(f"part of {guilty}")
            ended.append(thread)  # noqa: B023 - called at once
            return 1

        with pytest.raises(ValueError, match=f"part of {guilty}"):
            crew.each(work, 100)
        count = len(ended)
        assert count < 3 * PARTS
        assert crew.each(lambda first, last, thread: last - first, 9) == 9
        assert len(ended) == count
    crew.close()


def test_threads_end_with_the_crew_and_what_is_not_waited_for_is_left() -> None:
    before = threading.active_count()
    crew = Crew(2, "test")
    assert threading.active_count() == before + 1
    begun = threading.Event()
    gate = threading.Event()

    def hold(thread: int) -> int:
        begun.set()
        return int(gate.wait(20))

    crew.post(hold)
    assert begun.wait(20)
    late: list[int] = []
    crew.post(lambda thread: late.append(thread) or 0)  # its only mate is busy
    opener = threading.Timer(0.2, gate.set)
    opener.start()
    crew.close()
    crew.close()
    opener.join()
    assert threading.active_count() == before
    assert not late
    assert crew.each(lambda first, last, thread: last, 2) == 2
