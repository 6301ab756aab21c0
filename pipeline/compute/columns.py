"""Scale and offset of the lines of a block, from the columns that are watched.

Compiled where numba is there and counts are uint8 or uint16: a few columns of some bands are a
small part of a block, but each row of them is a piece of memory of its own, and NumPy's way there
costs as much as the correction of ten of them. Knows line factors.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.line_factors import LEVELS, LineFactors, Part

#: Stands for columns that are not watched.
_NOTHING: Final = Part(np.empty(0, np.int64), slice(0, 0), 0.0, 0)


@functools.cache
def compile_factors(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Compile (or load) :func:`column_kernels.factors_of_lines` for uint8 or uint16."""
    import numba

    from pipeline.compute.column_kernels import factors_of_lines
    from pipeline.kernel_cache import compile_kernel

    n = numba.types
    counts = n.uint8 if dtype == np.uint8 else n.uint16
    part = (n.int64[::1], n.int64, n.int64, n.float64)
    signature = n.int64(
        *(n.Array(counts, 3, "C", readonly=True), n.Array(n.boolean, 1, "C", readonly=True)),
        *(n.int64, *part, n.float64, *part, n.float64, n.float64, n.float64),
        n.float32[:, ::1],
    )
    return compile_kernel(factors_of_lines, signature, nogil=True, error_model="numpy", _nrt=False)


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
        self._compiled: Callable[..., int] | None = None
        native = dtype.isnative and dtype in (np.dtype("u1"), np.dtype("u2"))
        if native and importlib.util.find_spec("numba") is not None:
            self._compiled = compile_factors(dtype)
        self._of_lines = np.empty(2 * block_lines, np.float32)
        dark, strip = factors.dark or _NOTHING, factors.strip or _NOTHING
        self._known = (
            *(factors.saturation_level, *_fields(dark), factors.most_offset),
            *(*_fields(strip), factors.white, *LEVELS),
        )

    def of(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], int]:
        """Give the factors of :meth:`LineFactors.of`, bit for bit, and the lines not trusted.

        The factors stay until the next call.
        """
        if self._compiled is None:
            factors, trusted = self._factors.of(raw, valid)
            return factors, int(np.count_nonzero(~trusted))
        lines = len(raw)
        factors = self._of_lines[: 2 * lines].reshape(2, lines)
        return factors, self._compiled(raw, valid, *self._known, factors)


def _fields(part: Part) -> tuple[NDArray[np.int64], int, int, float]:
    return part.bands, part.samples.start, part.samples.stop, part.black
