"""What decodes and codes blocks: the CPU, or a GPU where one is asked for.

The one place that knows both; CuPy and CUDA are imported only when they are wanted.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, Literal

from pipeline.coding.interface import Coding
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.smallest import SmallestCoding
from pipeline.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from pipeline.coding.cuda import Coder

Wish = Literal["auto", "cpu", "cuda"]
#: Codings that a GPU decodes, and those of which it codes blocks.
READ: Final = ("packed", "deflate", "predicted", "smallest")
WRITTEN: Final = ("packed", "smallest")


def coding_on(coding: Coding, wish: Wish, *, writing: bool = False) -> Coding:
    """Give a coding that works on what is asked for, with ``auto`` the GPU where there is one.

    Blocks decode to the same pixels on either. Written blocks may differ in their bytes; their
    error is measured either way.

    Parameters
    ----------
    coding : Coding
    wish : {"auto", "cpu", "cuda"}
    writing : bool
        Whether blocks are to be coded: of ``packed`` and ``smallest`` a GPU does that, too.

    Raises
    ------
    ConfigError
        For ``cuda`` with a coding that has no kernels.
    DeviceError
        For ``cuda`` without CuPy or a usable GPU, saying which is missing.
    """
    if wish == "cpu":
        return coding
    able = isinstance(coding, PcaCoding | PredictedCoding | SmallestCoding)
    if writing:
        able = able and coding.name in WRITTEN
    if not able:
        if wish == "auto":
            return coding
        allowed = " and ".join(WRITTEN) if writing else ", ".join(READ)
        raise ConfigError(
            f"backend: found cuda for {'coding' if writing else 'decoding'} {coding.name}, "
            f"allowed: {allowed}"
        )
    assert isinstance(coding, PcaCoding | PredictedCoding | SmallestCoding)
    try:
        from pipeline.coding.cuda import CudaCoding

        return CudaCoding(coding, _coder())
    except DeviceError:
        if wish == "cuda":
            raise
        return coding


@functools.cache
def _coder() -> Coder:
    """Give the process's one: codings of other blocks share its memory."""
    from pipeline.coding.cuda import Coder

    return Coder()
