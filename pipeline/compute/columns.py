"""Sums over some columns of a block, which tell the factors of its lines.

Compiled where numba is there and counts are uint8 or uint16: a few columns of some bands are a
small part of a block, but each row of them is a piece of memory of its own, and NumPy's way there
costs as much as the correction of ten of them. Knows line factors; their arithmetic is not here.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.line_factors import LineFactors, Part, Sums, sums_of


@functools.cache
def compile_columns(dtype: np.dtype[Any]) -> Callable[..., None]:
    """Compile (or load from the cache) :func:`column_kernels.add_columns` for uint8 or uint16."""
    import numba

    from pipeline.compute.column_kernels import add_columns
    from pipeline.kernel_cache import compile_kernel

    n = numba.types
    counts = n.uint8 if dtype == np.uint8 else n.uint16
    signature = n.void(
        *(n.Array(counts, 3, "C", readonly=True), n.int64[::1], n.int64, n.int64),
        *(n.float64[::1], n.int32[::1]),
    )
    return compile_kernel(add_columns, signature, nogil=True, error_model="numpy", _nrt=False)


class BlockFactors:
    """Scale and offset of the lines of blocks; makes its memory once.

    Parameters
    ----------
    factors : LineFactors
    dtype : numpy dtype
        Of the counts.
    block_lines : int
        The most lines of a block.
    """

    def __init__(self, factors: LineFactors, dtype: np.dtype[Any], block_lines: int) -> None:
        self._factors = factors
        self._add: Callable[..., None] | None = None
        native = dtype.isnative and dtype in (np.dtype("u1"), np.dtype("u2"))
        if native and importlib.util.find_spec("numba") is not None:
            self._add = compile_columns(dtype)
        self._sums = np.zeros(block_lines, np.float64)
        self._most = np.zeros(block_lines, np.int32)

    def of(
        self, raw: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Give what :meth:`LineFactors.of` gives, bit for bit."""
        return self._factors.of_sums(functools.partial(self._of_part, raw), len(raw), valid)

    def _of_part(self, raw: NDArray[Any], part: Part) -> Sums:
        if self._add is None:
            return sums_of(raw[:, part.bands, part.samples])
        sums, most = self._sums[: len(raw)], self._most[: len(raw)]
        self._add(raw, part.bands, part.samples.start, part.samples.stop, sums, most)
        return sums.copy(), most.copy()
