"""Means of preview cells: sums over valid pixels become the values that are stored.

numba where it is installed, else NumPy, with equal results. Knows reflectance's scale only.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.reflectance import IGNORE, SCALE

#: Called with sums and shares (bands, cells), the lines, the range of bands, and where they go.
MeanOfCells = Callable[
    [NDArray[np.float32], NDArray[np.float32], float, int, int, NDArray[Any]], None
]


@functools.cache
def mean_of_cells(dtype: np.dtype[Any]) -> MeanOfCells:
    """Give what divides sums by their number of pixels.

    Parameters
    ----------
    dtype : int16 or float32
        int16: reflectance × 10000, rounded half to even, within ±32767, −32768 where a cell has no
        valid pixel. float32: mean counts, NaN likewise.

    Returns
    -------
    callable
        ``mean(sums, share, lines, first, last, out)``: ``sums · (share / lines)`` of the bands
        ``first`` … ``last`` − 1; all arrays (bands, cells), ``share`` one over the valid pixels of
        a cell in one line (infinite without any). Divisions would take four times as long.
    """
    if importlib.util.find_spec("numba") is None:
        return _with_numpy
    import numba

    from pipeline.kernel_cache import compile_kernel

    table = numba.types.float32[:, ::1]
    out = numba.types.int16[:, ::1] if dtype == np.int16 else table
    signature = numba.types.void(
        table, table, numba.types.float32, numba.types.int64, numba.types.int64, out
    )
    loop = to_int16 if dtype == np.int16 else to_float32
    compiled: MeanOfCells = compile_kernel(loop, signature, nogil=True, error_model="numpy")
    return compiled


def to_int16(sums, share, lines, first, last, out):  # type: ignore[no-untyped-def]
    """Divide, scale and round; for numba."""
    each = np.float32(1) / lines
    rounder = np.float32(1.5 * 2**23)  # added and taken away, it rounds |x| < 2²² half to even
    for b in range(first, last):
        for p in range(sums.shape[1]):
            mean = sums[b, p] * (share[b, p] * each)
            x = (mean * np.float32(SCALE) + rounder) - rounder
            x = min(max(x, np.float32(-32767)), np.float32(32767))
            out[b, p] = np.int16(x if mean == mean else np.float32(IGNORE))


def to_float32(sums, share, lines, first, last, out):  # type: ignore[no-untyped-def]
    """Divide; for numba."""
    each = np.float32(1) / lines
    for b in range(first, last):
        for p in range(sums.shape[1]):
            out[b, p] = sums[b, p] * (share[b, p] * each)


def shares(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give one over the valid pixels of each cell in one line; infinite where there is none."""
    with np.errstate(divide="ignore"):
        return np.ascontiguousarray(np.float32(1) / cells)


def _with_numpy(
    sums: NDArray[np.float32],
    share: NDArray[np.float32],
    lines: float,
    first: int,
    last: int,
    out: NDArray[Any],
) -> None:
    """Do the same with NumPy, in temporary arrays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[first:last] * (share[first:last] * (np.float32(1) / np.float32(lines)))
    if out.dtype == np.float32:
        out[first:last] = mean
        return
    unknown = np.isnan(mean)
    mean *= np.float32(SCALE)
    np.clip(np.rint(mean, out=mean), -32767, 32767, out=mean)
    mean[unknown] = IGNORE
    out[first:last] = mean
