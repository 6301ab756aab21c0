"""Host slots: a ring of preallocated, page-aligned places for blocks, each with an owner count.

One memory map holds all slots (a memfd where the system has it, so that it can be shared with
another process, and page-aligned, so that a GPU driver can pin it). A slot is free when its last
owner has released it, whichever thread that is. :class:`MappedRing` is the same memory as another
process of this host sees it: there the other one says which slot is used. Knows NumPy and the
error tree; nothing of cameras, links or sinks.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import ConfigError

#: Part of the memory that is available now which a ring may take.
MEMORY_SHARE = 0.8
#: Bytes of a ring's token.
_TOKEN_BYTES: Final = 16
#: How long to wait for a lock that is held for microseconds only, s.
_LOCK_S: Final = 0.1


class Ring:
    """What rings of own and of foreign memory have in common; any thread may call its methods.

    Attributes
    ----------
    count, slot_bytes : int
        Number of slots, and bytes of each: a multiple of the page size.
    on_release : callable or None
        Called without arguments, by the releasing thread, after a slot became free.
    """

    def __init__(self, count: int, slot_bytes: int, memory: mmap.mmap) -> None:
        self.count = count
        self.slot_bytes = slot_bytes
        self.on_release: Callable[[], None] | None = None
        self._map = memory
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        view = memoryview(memory)
        self._slots = [
            Slot(self, i, view[i * slot_bytes : (i + 1) * slot_bytes]) for i in range(count)
        ]
        # Last in, first out: the memory used last is the one most likely still in a cache, and
        # pages that are never needed are never touched.
        self._free = list(reversed(self._slots))

    @property
    def free(self) -> int:
        """Slots that nobody in this process owns."""
        return len(self._free)

    @property
    def memory(self) -> memoryview:
        """All slots, one behind the other; empty when the ring is closed."""
        return memoryview(b"") if self._closed else memoryview(self._map)[: self._slots_bytes]

    @property
    def _slots_bytes(self) -> int:
        return self.count * self.slot_bytes

    @property
    def mapped_elsewhere(self) -> bool:
        """Whether another process may look at this memory as at a lender's."""
        return False

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


class SlotRing(Ring):
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
    fd : int
        File descriptor of the map, −1 where it is anonymous.
    token : bytes
        Stands behind the last slot; by it another process knows that it found this very memory.

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
        slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        size = count * slot_bytes
        _check_memory(size, count, slot_bytes)
        self.token = secrets.token_bytes(_TOKEN_BYTES)
        self.fd = -1
        try:
            if hasattr(os, "memfd_create"):
                self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(self.fd, size + mmap.PAGESIZE)
                _seal(self.fd)
                if populate:
                    os.posix_fallocate(self.fd, 0, size)
            memory = mmap.mmap(self.fd, size + mmap.PAGESIZE)
        except OSError as error:
            if self.fd >= 0:
                os.close(self.fd)
            raise ConfigError(
                f"slots: {count} of {slot_bytes} bytes cannot be had ({error.strerror}); "
                "a smaller buffer_seconds needs less"
            ) from error
        memory[size : size + _TOKEN_BYTES] = self.token
        super().__init__(count, slot_bytes, memory)
        self._populated = False
        if populate:
            self.populate()

    def populate(self) -> None:
        """Touch every page, so that nothing is left to allocate; once, before slots are used."""
        if not self._populated and not self._closed:
            self._populated = True
            # A page that is not there yet is zeros, so this changes nothing in one that is.
            np.frombuffer(self.memory, np.uint8)[:: mmap.PAGESIZE] += np.uint8(0)

    @property
    def mapped_elsewhere(self) -> bool:
        """Whether a :class:`MappedRing` of any process still holds this memory."""
        if self.fd < 0 or self._closed:  # closed: nobody writes to it any more
            return False
        import fcntl

        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

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
        super().close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class MappedRing(Ring):
    """The slots of a :class:`SlotRing` of another process on this host, by its ``/proc`` entry.

    The memory stays valid for as long as a view of it is in use, also when the other process
    ends. The other one must not change a slot that is owned here; it learns from
    :attr:`SlotRing.mapped_elsewhere` whether anybody may still look at its memory.

    Parameters
    ----------
    pid, fd : int
        Process and file descriptor there.
    count, slot_bytes : int
        As in the other process.
    token : bytes
        :attr:`SlotRing.token` there.

    Raises
    ------
    OSError
        When the memory cannot be mapped here: another host or container, another user, another
        memory than the token says, or one that could shrink under its reader.
    """

    def __init__(self, pid: int, fd: int, count: int, slot_bytes: int, token: bytes) -> None:
        if sys.platform != "linux":
            raise OSError("memory of another process can be mapped on Linux only")
        size = count * slot_bytes
        if min(pid, count, slot_bytes) < 1 or slot_bytes % mmap.PAGESIZE or fd < 0:
            raise OSError(f"{count} slots of {slot_bytes} bytes are none")
        # What is found there may be anything, also a pipe or a terminal.
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        found = os.open(f"/proc/{pid}/fd/{fd}", flags)
        try:
            about = os.fstat(found)
            whole = size + mmap.PAGESIZE
            if not stat.S_ISREG(about.st_mode) or about.st_size != whole or not _sealed(found):
                raise OSError("it is not the memory of slots")
            if os.pread(found, _TOKEN_BYTES, size) != token:
                raise OSError("it is the memory of somebody else")
            _lock_shared(found)
            # The map keeps the open file, and with it the lock, until nobody uses it any more.
            memory = mmap.mmap(found, whole, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        finally:
            os.close(found)
        self.token = token
        super().__init__(count, slot_bytes, memory)

    def take(self, index: int) -> Slot:
        """Own the slot that the other process has filled.

        Raises
        ------
        ValueError
            When there is no such slot, or it is owned here already.
        """
        if not 0 <= index < self.count:
            raise ValueError(f"slot {index} of {self.count}")
        slot = self._slots[index]
        with self._changed:
            if slot._owners or self._closed:
                raise ValueError(f"slot {index} is still in use")
            self._free.remove(slot)
            slot._owners = 1
        return slot


class Slot:
    """One place for one block. As a context manager it releases its owner at the end.

    Attributes
    ----------
    ring : Ring
        Where it belongs.
    index : int
        Position in the ring.
    memory : memoryview
        All its bytes, writable, starting on a page.
    """

    __slots__ = ("_owners", "index", "memory", "ring")

    def __init__(self, ring: Ring, index: int, memory: memoryview) -> None:
        self.ring = ring
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
        with self.ring._changed:
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
        self.ring._release(self)

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


def _seal(fd: int) -> None:
    """Fix the size of a memory file: it cannot shrink under whoever maps it."""
    if sys.platform == "linux":
        import fcntl

        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        with contextlib.suppress(OSError):  # a system without seals: nobody else will map it
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def _sealed(fd: int) -> bool:
    import fcntl

    return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)


def _lock_shared(fd: int) -> None:
    """Lock an open file together with others; its maker holds it alone for moments only."""
    import fcntl

    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.001)
