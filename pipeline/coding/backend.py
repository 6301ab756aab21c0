"""What decodes and codes blocks: the CPU, or a GPU where one is asked for.

The one place that knows both; CuPy and CUDA are imported only when they are wanted.
"""

from __future__ import annotations

from typing import Literal

from pipeline.coding.interface import Coding
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.smallest import SmallestCoding
from pipeline.errors import ConfigError, DeviceError

Wish = Literal["auto", "cpu", "cuda"]


def coding_on(coding: Coding, wish: Wish) -> Coding:
    """Give a coding that works on what is asked for, with ``auto`` the GPU where there is one.

    Blocks decode to the same bytes on either; other codings than this format's own stay on the CPU.

    Raises
    ------
    ConfigError
        For ``cuda`` with a coding that has no kernels.
    DeviceError
        For ``cuda`` without CuPy or a usable GPU, saying which is missing.
    """
    if wish == "cpu":
        return coding
    if not isinstance(coding, PcaCoding | PredictedCoding | SmallestCoding):
        if wish == "auto":
            return coding
        raise ConfigError(
            f"backend: found cuda for {coding.name}, allowed are packed, deflate, predicted and "
            "smallest"
        )
    try:
        from pipeline.coding.cuda import Coder, CudaCoding

        return CudaCoding(coding, Coder())
    except DeviceError:
        if wish == "cuda":
            raise
        return coding
