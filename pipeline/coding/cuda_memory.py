"""Memory of one block under way on a GPU: what goes up, what is made there, what comes back.

Sizes are told first, then all of it is laid out in one piece of device memory, and what goes up in
one of pinned host memory, which both grow to the largest block that was seen and are used again.
Knows the CUDA device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cuda_device import DEVICE_TO_HOST, HOST_TO_DEVICE, Device, address

#: Parts begin at multiples of this, and kernels read words of 16 bytes up to the next.
ALIGN: Final = 16


@dataclass(frozen=True)
class Part:
    """A part of a block's memory: where it begins, and whether among what goes up."""

    start: int
    nbytes: int
    up: bool

    def cut(self, nbytes: int, first: int = 0) -> Part:
        """Give so many bytes of it from the first on."""
        return Part(self.start + first, nbytes, self.up)


class Place:
    """Memory, a stream and an event for one block at a time.

    Parameters
    ----------
    device : Device
    gap : int
        Bytes that are left between parts.

    Attributes
    ----------
    stream : stream
        What is queued for the block goes there, copies and kernels.
    handle : int or None
        Of cuBLAS, where one was made for the place.
    """

    def __init__(self, device: Device, gap: int = 0) -> None:
        self.device = device
        self.stream = device.cupy.cuda.Stream(non_blocking=True)
        self._done = device.event()
        self.handle: int | None = None
        self._gap = gap
        self._there: Any = None
        self._staging: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._back: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.clear()

    def clear(self) -> None:
        """Begin with another block."""
        self._sizes = {True: 0, False: 0}
        self._arrays: list[tuple[Part, NDArray[Any]]] = []
        self.parts: list[Part] = []

    def send(self, array: NDArray[Any]) -> Part:
        """Let an array go up."""
        part = self._part(array.nbytes, up=True)
        self._arrays.append((part, array))
        return part

    def later(self, nbytes: int) -> Part:
        """Ask for memory that :meth:`put` fills after the beginning."""
        return self._part(nbytes, up=True)

    def put(self, part: Part, array: NDArray[Any]) -> None:
        """Queue that an array goes up now; what was put there before has been used."""
        to = self._staging[part.start : part.start + array.nbytes]
        to.view(array.dtype)[:] = array.reshape(-1)
        if array.nbytes:
            self.device.copy(
                int(self.at(part)), address(to), array.nbytes, HOST_TO_DEVICE, self.stream
            )

    def room(self, nbytes: int) -> Part:
        """Ask for memory on the device."""
        return self._part(nbytes, up=False)

    def begin(self) -> None:
        """Make the memory that was asked for, and queue the copy of what goes up."""
        up, size = self._sizes[True], sum(self._sizes.values())
        if self._there is None or self._there.nbytes < size:
            self._there = None
            self._there = self.device.cupy.empty((size + ALIGN,), np.uint8)
        if len(self._staging) < up:
            self._staging = self.device.pinned(up + up // 4, np.uint8)
        for part, array in self._arrays:
            to = self._staging[part.start : part.start + part.nbytes]
            to.view(array.dtype)[:] = array.reshape(-1)
        if up:
            self.device.copy(
                *(self._there.data.ptr, address(self._staging), up, HOST_TO_DEVICE, self.stream)
            )

    def at(self, part: Part) -> np.uint64:
        """Give the address of a part on the device."""
        return np.uint64(self._there.data.ptr + part.start + (0 if part.up else self._sizes[True]))

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Give address and bytes of each gap between parts."""
        for part in self.parts:
            inside = -(-part.nbytes // ALIGN) * ALIGN
            yield int(self.at(part)) + inside, self._gap

    def zero(self, part: Part) -> None:
        """Queue that a part becomes 0."""
        self.device.runtime.memsetAsync(int(self.at(part)), 0, part.nbytes, self.stream.ptr)

    def fetch(self, *parts: Part) -> list[NDArray[np.uint8]]:
        """Queue copies to the host, wait, and give what came; valid until the next block."""
        size = sum(-(-part.nbytes // ALIGN) * ALIGN for part in parts)
        if len(self._back) < size:
            self._back = self.device.pinned(size + size // 4, np.uint8)
        out, start = [], 0
        for part in parts:
            to = self._back[start : start + part.nbytes]
            if part.nbytes:
                self.device.copy(
                    *(address(to), int(self.at(part)), part.nbytes, DEVICE_TO_HOST, self.stream)
                )
            out.append(to)
            start += -(-part.nbytes // ALIGN) * ALIGN
        self._done.record(self.stream)
        self._done.synchronize()
        return out

    def _part(self, nbytes: int, *, up: bool) -> Part:
        part = Part(self._sizes[up], nbytes, up)
        self._sizes[up] += -(-nbytes // ALIGN) * ALIGN + self._gap
        self.parts.append(part)
        return part
