"""The CUDA backend on the CPU, for the tests beside this file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.compute import cpu_pass
from pipeline.compute.cuda import CudaBackend

sys.path.insert(0, str(Path(__file__).parent / "host_shim"))
import cupy_on_host


@pytest.fixture
def open_backend(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CudaBackend]:
    """Give what makes a backend on the stand-in for CuPy, with a schedule of its streams."""
    if cupy_on_host.compiler() is None:
        pytest.skip("no g++ here to compile the .cu files for the CPU")
    # what it is compared with is NumPy's pass: nothing to compile
    monkeypatch.setattr(cpu_pass.importlib.util, "find_spec", lambda name: None)

    def open_(schedule: str = "eager") -> CudaBackend:
        stand_in = cupy_on_host.make(tmp_path_factory.getbasetemp(), schedule)
        return CudaBackend(stand_in, cupy_on_host.SHAPE, threads=1)

    return open_
