"""Host slots: a ring of preallocated, page-aligned places for blocks, each with an owner count.

One memory map holds all slots (a memfd where the system has it, so that it can be shared with
another process, and page-aligned, so that a GPU driver can pin it). A slot is free when its last
owner has released it, whichever thread that is. Knows NumPy and the error tree; nothing of
cameras, links or sinks.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import ConfigError

#: Part of the memory that is available now which a ring may take.
MEMORY_SHARE = 0.8


class SlotRing:
    """A fixed number of equal slots in one memory map; all methods may be called by any thread.

    Parameters
    ----------
    count : int
        Number of slots, at least 1.
    slot_bytes : int
        Bytes that one slot must hold; rounded up to whole pages.
    name : str
        Shown by the system for the map (``/proc/PID/maps``).
    populate : bool
        Touch every page now, so that nothing is left to allocate when lines arrive.

    Attributes
    ----------
    count, slot_bytes : int
        As made; ``slot_bytes`` is a multiple of the page size.
    fd : int
        File descriptor of the map, −1 where it is anonymous.
    on_release : callable or None
        Called without arguments, by the releasing thread, after a slot became free.

    Raises
    ------
    ConfigError
        When the ring would take more memory than there is.
    """

    def __init__(
        self, count: int, slot_bytes: int, name: str = "swath", *, populate: bool = False
    ) -> None:
        if count < 1 or slot_bytes < 1:
            raise ConfigError(f"slots: found {count} of {slot_bytes} bytes, allowed are 1 or more")
        self.count = count
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.on_release: Callable[[], None] | None = None
        size = count * self.slot_bytes
        _check_memory(size, count, self.slot_bytes)
        self.fd = -1
        try:
            if hasattr(os, "memfd_create"):
                self.fd = os.memfd_create(name)
                os.ftruncate(self.fd, size)
                if populate:
                    os.posix_fallocate(self.fd, 0, size)
            self._map = mmap.mmap(self.fd, size)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
            raise ConfigError(
                f"slots: {count} of {self.slot_bytes} bytes cannot be had ({error.strerror}); "
                "a smaller buffer_seconds needs less"
            ) from error
        if populate:
            # posix_fallocate makes the pages; touching them maps them into this process, too.
            np.frombuffer(self._map, np.uint8)[:: mmap.PAGESIZE] = 0
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        step = self.slot_bytes
        view = memoryview(self._map)
        self._slots = [Slot(self, i, view[i * step : (i + 1) * step]) for i in range(count)]
        # Last in, first out: the memory used last is the one most likely still in a cache, and
        # pages that are never needed are never touched.
        self._free = list(reversed(self._slots))

    @property
    def free(self) -> int:
        """Slots that nobody owns."""
        return len(self._free)

    def acquire(self, timeout_s: float | None = 0.0) -> Slot | None:
        """Take a free slot with one owner.

        Parameters
        ----------
        timeout_s : float or None
            Seconds to wait for one; 0 does not wait, None waits as long as it takes.

        Returns
        -------
        Slot or None
            None when none became free in time, or the ring is closed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._free and not self._closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            if self._closed:
                return None
            slot = self._free.pop()
            slot._owners = 1
            return slot

    def close(self) -> None:
        """Give the memory back; views that are still in use keep it until they go."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._free.clear()
            self._changed.notify_all()
        self.on_release = None
        # Only references are dropped: NumPy holds the object behind a buffer, not the buffer, so
        # an explicit munmap would pull the memory from under arrays that still look at it.
        for slot in self._slots:
            slot.memory = memoryview(b"")
        del self._map
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _release(self, slot: Slot) -> None:
        with self._changed:
            if slot._owners < 1:
                raise RuntimeError(f"slot {slot.index} was released more often than owned")
            slot._owners -= 1
            if slot._owners or self._closed:
                return
            self._free.append(slot)
            self._changed.notify()
            notify = self.on_release
        if notify is not None:
            notify()


class Slot:
    """One place for one block. As a context manager it releases its owner at the end.

    Attributes
    ----------
    index : int
        Position in the ring.
    memory : memoryview
        All its bytes, writable, starting on a page.
    """

    __slots__ = ("_owners", "_ring", "index", "memory")

    def __init__(self, ring: SlotRing, index: int, memory: memoryview) -> None:
        self._ring = ring
        self._owners = 0
        self.index = index
        self.memory = memory

    @property
    def owners(self) -> int:
        """How many owners the slot has; 0 when it is free."""
        return self._owners

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """View the slot's first bytes as an array, C-contiguous.

        Raises
        ------
        ValueError
            When the slot is too small for it.
        """
        return np.ndarray(shape, dtype, buffer=self.memory)

    def retain(self, owners: int = 1) -> None:
        """Add owners; each has to call :meth:`release`.

        Raises
        ------
        RuntimeError
            When the slot is free: what is not owned cannot be shared.
        """
        with self._ring._changed:
            if self._owners < 1:
                raise RuntimeError(f"slot {self.index} is free and cannot be retained")
            self._owners += owners

    def release(self) -> None:
        """Take one owner away; the last one frees the slot.

        Raises
        ------
        RuntimeError
            When it has no owner.
        """
        self._ring._release(self)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping; None where that is unknown.

    The smaller of the system's ``MemAvailable`` and what the control group (v2) leaves.
    """
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        for line in (group / "memory.stat").read_text().splitlines():
            # Cached file pages count as used but are given back when asked for.
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
    except (OSError, ValueError):
        return found
    return max(0, limit - used) if found is None else max(0, min(found, limit - used))


def _check_memory(size: int, count: int, slot_bytes: int) -> None:
    available = available_memory()
    if available is not None and size > MEMORY_SHARE * available:
        raise ConfigError(
            f"slots: {count} of {slot_bytes / 2**20:.1f} MiB take {size / 2**20:.0f} MiB, allowed "
            f"are {MEMORY_SHARE:.0%} of the {available / 2**20:.0f} MiB available; a smaller "
            "buffer_seconds or block_lines needs less"
        )
