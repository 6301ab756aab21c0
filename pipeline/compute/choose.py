"""Which backend computes: the one place that knows all of them, importing only the one it takes."""

from __future__ import annotations

from typing import Literal

from pipeline.compute.interface import Backend
from pipeline.errors import DeviceError


def choose_backend(wish: Literal["auto", "cpu", "cuda"], threads: int = 0) -> Backend:
    """Make the backend that is asked for, or with ``auto`` the GPU where there is one.

    Raises
    ------
    DeviceError
        For ``cuda`` without CuPy or a usable GPU, saying which is missing.
    """
    from pipeline.compute.cpu import CpuBackend

    if wish == "cpu":
        return CpuBackend(threads, "the rig file asks for the CPU")
    try:
        from pipeline.compute.cuda import CudaBackend

        return CudaBackend(threads=threads)
    except DeviceError as error:
        if wish == "cuda":
            raise
        return CpuBackend(threads, str(error))
