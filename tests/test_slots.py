"""Slots: owners, alignment, waiting, and what happens at the edges."""

from __future__ import annotations

import mmap
import threading
import time

import numpy as np
import pytest

from pipeline import slots
from pipeline.errors import ConfigError
from pipeline.slots import SlotRing


@pytest.fixture
def ring():
    ring = SlotRing(3, 5000)
    yield ring
    ring.close()


def test_slots_are_page_aligned_and_do_not_overlap(ring):
    taken = [ring.acquire() for _ in range(3)]
    assert ring.slot_bytes % mmap.PAGESIZE == 0
    assert ring.slot_bytes >= 5000
    for slot in taken:
        view = slot.array((ring.slot_bytes,), np.uint8)
        assert view.ctypes.data % mmap.PAGESIZE == 0
        view[:] = slot.index + 1
        del view
    for slot in taken:
        assert set(bytes(slot.memory)) == {slot.index + 1}
        slot.release()


def test_the_last_owner_frees_the_slot(ring):
    slot = ring.acquire()
    slot.retain(2)
    slot.release()
    slot.release()
    assert ring.free == 2
    slot.release()
    assert ring.free == 3
    with pytest.raises(RuntimeError, match="released more often"):
        slot.release()
    with pytest.raises(RuntimeError, match="is free"):
        slot.retain()
    assert ring.free == 3


def test_acquire_gives_none_when_nothing_becomes_free(ring):
    taken = [ring.acquire() for _ in range(3)]
    begin = time.monotonic()
    assert ring.acquire() is None
    assert ring.acquire(0.05) is None
    assert time.monotonic() - begin >= 0.05
    for slot in taken:
        slot.release()


def test_a_waiting_thread_gets_the_slot_that_another_releases(ring):
    taken = [ring.acquire() for _ in range(3)]
    timer = threading.Timer(0.05, taken[1].release)
    timer.start()
    slot = ring.acquire(5.0)
    timer.join()
    assert slot is taken[1]


def test_an_exception_inside_the_context_still_releases(ring):
    with pytest.raises(ZeroDivisionError), ring.acquire():
        raise ZeroDivisionError
    assert ring.free == 3


def test_owner_counts_hold_under_many_threads(ring):
    slot = ring.acquire()
    slot.retain(400)

    def release():
        for _ in range(100):
            slot.release()

    threads = [threading.Thread(target=release) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slot.owners == 1
    assert ring.free == 2
    slot.release()


def test_release_tells_who_listens_only_when_the_slot_is_free(ring):
    told = []
    ring.on_release = lambda: told.append(ring.free)
    slot = ring.acquire()
    slot.retain()
    slot.release()
    assert told == []
    slot.release()
    assert told == [3]


def test_array_larger_than_the_slot_is_refused(ring):
    with ring.acquire() as slot, pytest.raises(TypeError):
        slot.array((ring.slot_bytes + 1,), np.uint8)


def test_close_wakes_who_waits_and_keeps_memory_in_use():
    ring = SlotRing(1, 100)
    view = ring.acquire().array((4,), np.uint8)
    view[:] = 7
    timer = threading.Timer(0.05, ring.close)
    timer.start()
    assert ring.acquire(5.0) is None
    timer.join()
    assert view.tolist() == [7, 7, 7, 7]
    ring.close()


def test_a_ring_beyond_the_memory_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(slots, "available_memory", lambda: 10 << 20)
    with pytest.raises(ConfigError, match=r"16 of 1\.0 MiB take 16 MiB.*10 MiB available"):
        SlotRing(16, 1 << 20)
    with pytest.raises(ConfigError, match="found 0"):
        SlotRing(0, 100)


def test_populated_ring_can_be_used():
    ring = SlotRing(2, 100, populate=True)
    with ring.acquire() as slot:
        slot.memory[:3] = b"abc"
    ring.close()
    memory = slots.available_memory()
    assert memory is None or memory > 0
