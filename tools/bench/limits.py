"""What the machine can do at all: copies, multiplications, writes. The bounds of every ratio.

Copies go over rotating buffers of 1 GiB and more whose pages were touched before: a copy within the
cache, or onto fresh pages, would be another machine's. Each thread streams through its own share in
pieces of a block, without waiting for another. Knows NumPy, and for writes the sink's own calls.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.sink_io import WriteBehind, write_at

#: Side of the matrices of the multiplication: small enough to stay in a cache, large enough to
#: reach the rate of the largest.
GEMM_SIDE = 1024
GEMM_TIMES = 12


def in_threads(work: Callable[[int], None], threads: int) -> float:
    """Run ``work(thread)`` in so many threads at once; seconds until the last has ended."""
    others = [threading.Thread(target=work, args=(k,)) for k in range(1, threads)]
    began = time.perf_counter()
    for thread in others:
        thread.start()
    work(0)
    for thread in others:
        thread.join()
    return time.perf_counter() - began


class Copy:
    """Memcpy of some blocks: GB/s of bytes copied.

    Parameters
    ----------
    source : sequence of ndarray
        Blocks of one shape and type.
    into : ndarray of uint8, (n,)
        At least as many bytes as the blocks have, touched.
    threads : int
    """

    def __init__(
        self, source: Sequence[NDArray[Any]], into: NDArray[np.uint8], threads: int
    ) -> None:
        self._source = [block.reshape(-1).view(np.uint8) for block in source]
        size = self._source[0].nbytes
        self._into = [into[i * size : (i + 1) * size] for i in range(len(source))]
        self._threads = threads
        self._bytes = size * len(source)

    def __call__(self) -> float:
        """Copy everything once."""
        return self._bytes / in_threads(self._share, self._threads) / 1e9

    def _share(self, thread: int) -> None:
        count = len(self._source)
        edges = (count * thread // self._threads, count * (thread + 1) // self._threads)
        for at in range(*edges):
            np.copyto(self._into[at], self._source[at])


def touched(nbytes: int) -> NDArray[np.uint8]:
    """Make memory of which every page is there already."""
    memory = np.empty(nbytes, np.uint8)
    memory[:] = 1
    return memory


class Gemm:
    """Single-precision matrix products, one of its own in each thread: GFLOP/s."""

    def __init__(self, threads: int) -> None:
        rng = np.random.default_rng(1)
        shape = (GEMM_SIDE, GEMM_SIDE)
        self._threads = threads
        self._left = rng.random(shape, np.float32)
        self._right = rng.random(shape, np.float32)
        self._out = [np.empty(shape, np.float32) for _ in range(threads)]

    def __call__(self) -> float:
        """Multiply some times in each thread."""
        flops = 2.0 * GEMM_SIDE**3 * GEMM_TIMES * self._threads
        return flops / in_threads(self._share, self._threads) / 1e9

    def _share(self, thread: int) -> None:
        for _ in range(GEMM_TIMES):
            np.matmul(self._left, self._right, out=self._out[thread])


class Writes:
    """The sink's write calls alone, block by block into one file that is removed: GB/s."""

    def __init__(self, source: Sequence[NDArray[Any]], total_bytes: int, folder: Path) -> None:
        self._source = source
        self._count = max(2, total_bytes // source[0].nbytes)
        self._folder = folder

    def __call__(self) -> float:
        """Write everything once."""
        fd, name = tempfile.mkstemp(prefix="bench-", dir=self._folder)
        try:
            behind = WriteBehind(fd, 0)
            at = 0
            began = time.perf_counter()
            for number in range(self._count):
                block = self._source[number % len(self._source)]
                write_at(fd, block, at)
                behind.wrote(at, block.nbytes)
                at += block.nbytes
            return at / (time.perf_counter() - began) / 1e9
        finally:
            os.close(fd)
            os.unlink(name)
