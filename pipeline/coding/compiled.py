"""The compiled loops, loaded when a coding is used: numba costs a second to import.

Who reads files may lack numba (``None`` then: NumPy does it); who writes them needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.coding.kernels import PixelKernels, RowKernels
    from pipeline.coding.pca_kernels import FitKernels, RebuildKernels
    from pipeline.coding.rans_kernels import RansKernels


def rans_kernels(dtype: np.dtype[Any]) -> RansKernels | None:
    """Give the entropy coder's loops for values of a type, if there is numba."""
    try:
        from pipeline.coding.rans_kernels import compile_rans
    except ImportError:
        return None
    return compile_rans(dtype)


def row_kernels() -> RowKernels | None:
    """Give the loops over rows, if there is numba."""
    try:
        from pipeline.coding.kernels import compile_rows as compiled
    except ImportError:
        return None
    return compiled()


@contextmanager
def _needed() -> Iterator[None]:
    """Say in the project's words that numba is missing."""
    try:
        yield
    except ImportError:
        raise ConfigError(MISSING) from None


def has_loops() -> bool:
    """Tell whether there is numba."""
    return row_kernels() is not None


def compile_rows() -> RowKernels:
    """Give the loops over rows.

    Raises
    ------
    ConfigError
        When there is no numba.
    """
    with _needed():
        from pipeline.coding.kernels import compile_rows as compiled
    return compiled()


def compile_pixels(dtype: np.dtype[Any]) -> PixelKernels:
    """Give the loops over pixels of a type; raises as ``compile_rows``."""
    with _needed():
        from pipeline.coding.kernels import compile_pixels as compiled
    return compiled(dtype)


def compile_fit() -> FitKernels:
    """Give the loops over scores; raises as ``compile_rows``."""
    with _needed():
        from pipeline.coding.pca_kernels import compile_fit as compiled
    return compiled()


def compile_centre(dtype: np.dtype[Any]) -> Callable[..., int]:
    """Give the loop that centres rows; raises as ``compile_rows``."""
    with _needed():
        from pipeline.coding.pca_kernels import compile_centre as compiled
    return compiled(dtype)


def compile_rebuild(dtype: np.dtype[Any], residual: np.dtype[Any]) -> RebuildKernels:
    """Give the loops that decode, for pixels and a residual of these types; raises so too."""
    with _needed():
        from pipeline.coding.pca_kernels import compile_rebuild as compiled
    return compiled(dtype, residual)


def compile_rans(dtype: np.dtype[Any]) -> RansKernels:
    """Give the entropy coder's loops for values of a type; raises as ``compile_rows``."""
    with _needed():
        from pipeline.coding.rans_kernels import compile_rans as compiled
    return compiled(dtype)


MISSING = "coding: found no numba, which writing needs (reading does not); pip install numba"
