"""Work is shared out once and whole, errors come out, and threads end."""

from __future__ import annotations

import threading

import pytest

from pipeline.compute.crew import Crew


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_part_is_done_once_by_its_own_thread(threads: int) -> None:
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
        assert len({part[2] for part in done}) == len({part[3] for part in done}) == len(done)
        assert done[-1][3] == threading.get_ident()
    crew.close()


def test_an_error_is_raised_when_all_have_ended_and_the_next_work_is_done() -> None:
    crew = Crew(3, "test")
    for guilty in range(3):
        ended = []

        def work(first: int, last: int, thread: int, guilty: int = guilty) -> int:
            if thread == guilty:
                raise ValueError(f"part {thread}")
            ended.append(thread)  # noqa: B023 - called at once
            return 1

        with pytest.raises(ValueError, match=f"part {guilty}"):
            crew.each(work, 3)
        assert len(ended) == 2
        assert crew.each(lambda first, last, thread: last - first, 9) == 9
    crew.close()


def test_threads_end_with_the_crew() -> None:
    before = threading.active_count()
    crew = Crew(4, "test")
    assert threading.active_count() == before + 3
    crew.close()
    crew.close()
    assert threading.active_count() == before
    assert crew.each(lambda first, last, thread: last, 2) == 2
