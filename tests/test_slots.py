"""Slots: owners, alignment, waiting, and what happens at the edges."""

from __future__ import annotations

import gc
import mmap
import os
import sys
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


@pytest.fixture
def lent():
    ring = SlotRing(3, 5000)
    yield ring
    ring.close()


def mapped(ring, **changes):
    where = {
        "pid": os.getpid(), "fd": ring.fd, "count": ring.count,
        "slot_bytes": ring.slot_bytes, "token": ring.token,
    }  # fmt: skip
    return slots.MappedRing(**(where | changes))


linux = pytest.mark.skipif(sys.platform != "linux", reason="maps memory by /proc")


@linux
def test_a_mapped_ring_is_the_same_memory(lent):
    here = mapped(lent)
    assert (here.free, here.count, here.slot_bytes) == (3, 3, lent.slot_bytes)
    with lent.acquire() as slot:
        slot.memory[:3] = b"abc"
        other = here.take(slot.index)
        assert bytes(other.memory[:3]) == b"abc"
        assert here.free == 2
        with pytest.raises(ValueError, match="still in use"):
            here.take(slot.index)
        other.release()
    assert here.free == 3
    for index in (-1, 3):
        with pytest.raises(ValueError, match="of 3"):
            here.take(index)
    here.close()


@linux
def test_who_still_looks_at_a_mapped_ring_is_known(lent):
    assert not lent.mapped_elsewhere
    here = mapped(lent)
    assert lent.mapped_elsewhere
    view = here.take(0).array((4,), np.uint8)
    here.close()
    gc.collect()
    assert lent.mapped_elsewhere
    del view
    gc.collect()
    assert not lent.mapped_elsewhere


@linux
def test_memory_outlives_who_made_it(lent):
    here = mapped(lent)
    lent.acquire().memory[:2] = b"xy"
    lent.close()
    assert bytes(here.take(0).memory[:2]) == b"xy"
    here.close()


@linux
@pytest.mark.parametrize(
    "changes",
    [
        {"fd": 10_000}, {"pid": 2**22 + 1}, {"token": bytes(16)}, {"count": 2}, {"count": 0},
        {"slot_bytes": 4096}, {"slot_bytes": 5000}, {"fd": -1}, {"pid": -1},
    ],
    ids=str,
)  # fmt: skip
def test_other_memory_is_not_mapped(lent, changes):
    with pytest.raises(OSError):
        mapped(lent, **changes)
    assert not lent.mapped_elsewhere


@linux
def test_memory_that_could_shrink_is_not_mapped():
    token = bytes(range(16))
    fd = os.memfd_create("loose")
    try:
        os.ftruncate(fd, 2 * mmap.PAGESIZE)
        os.pwrite(fd, token, mmap.PAGESIZE)
        with pytest.raises(OSError, match="not the memory of slots"):
            slots.MappedRing(os.getpid(), fd, 1, mmap.PAGESIZE, token)
    finally:
        os.close(fd)


@linux
def test_the_memory_of_slots_cannot_shrink(lent):
    with pytest.raises(OSError):
        os.ftruncate(lent.fd, 0)


@linux
def test_neither_a_pipe_nor_a_file_is_taken_for_slots(tmp_path):
    read, write = os.pipe()
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * mmap.PAGESIZE))
    fd = os.open(path, os.O_RDWR)
    try:
        for one in (read, write, fd):
            with pytest.raises(OSError):
                slots.MappedRing(os.getpid(), one, 1, mmap.PAGESIZE, bytes(16))
    finally:
        for one in (read, write, fd):
            os.close(one)


def test_populating_changes_nothing_that_is_there():
    ring = SlotRing(2, 100)
    slot = ring.acquire()
    slot.memory[:1] = b"z"
    ring.populate()
    assert bytes(slot.memory[:1]) == b"z"
    ring.close()
