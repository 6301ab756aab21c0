"""Memory that is used again only when nobody has it any more."""

from __future__ import annotations

import threading

import numpy as np

from pipeline.coding.room import LEAST_BYTES, room


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_is_used_again_when_it_is_let_go() -> None:
    first = room("a test", (3, LEAST_BYTES), np.uint8)
    at = address(first)
    del first
    second = room("a test", (LEAST_BYTES // 4, 2), np.float32)
    assert address(second) == at
    assert (second.shape, second.dtype, second.flags.c_contiguous) == (
        (LEAST_BYTES // 4, 2),
        np.dtype(np.float32),
        True,
    )


def test_memory_that_somebody_has_is_left_alone() -> None:
    first = room("another test", (LEAST_BYTES,), np.uint8)
    first[:] = 7
    view = first[5:9].reshape(2, 2)
    del first
    room("another test", (LEAST_BYTES,), np.uint8)[:] = 8
    assert (view == 7).all()
    other = room("for something else", (LEAST_BYTES,), np.uint8)
    other[:] = 9
    assert (view == 7).all()


def test_threads_have_memory_of_their_own() -> None:
    here = room("a third test", (LEAST_BYTES,), np.uint8)
    at = address(here)
    del here
    there: list[int] = []
    thread = threading.Thread(
        target=lambda: there.append(address(room("a third test", (LEAST_BYTES,), np.uint8)))
    )
    thread.start()
    thread.join()
    assert there != [at]
    assert address(room("a third test", (LEAST_BYTES,), np.uint8)) == at


def test_what_is_small_or_nothing_is_an_array_like_any_other() -> None:
    assert room("small", (0, 5), np.int32).shape == (0, 5)
    first, second = (room("small", (10,), np.int16) for _ in range(2))
    assert address(first) != address(second)
