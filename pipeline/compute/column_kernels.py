"""Adds up columns of a block for numba; see :mod:`pipeline.compute.columns`."""

from __future__ import annotations

import numpy as np

from pipeline.compute.vector_ops import ask_for


def add_columns(raw, bands, first, last, sums, most):  # type: ignore[no-untyped-def]
    """Add up columns ``first`` … ``last`` − 1 of some bands, line by line, and find the largest.

    Each row is a cache line and a page of its own: those of the next line are asked for ahead.
    """
    for n in range(raw.shape[0]):
        if n == 0:
            for i in range(bands.size):
                ask_for(raw, n, bands[i], first)
        total = np.int64(0)
        largest = np.int32(0)
        for i in range(bands.size):
            ask_for(raw, n + 1, bands[i], first)
            row = np.int32(0)
            for s in range(first, last):
                count = np.int32(raw[n, bands[i], s])
                # sums of 32 bits are cast back: numba would widen them, and use half a vector
                row = np.int32(row + count)
                largest = max(largest, count)
            total += row
        sums[n] = total
        most[n] = largest
