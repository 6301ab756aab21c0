"""The CUDA codings on the CPU, and on a GPU where there is one, for the tests beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.coding.cuda import Coder
from pipeline.errors import DeviceError

sys.path.insert(0, str(Path(__file__).parents[1] / "compute" / "host_shim"))
import cupy_on_host


@pytest.fixture(scope="session", params=["cuda on the host", "cuda"])
def coder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Coder:
    """Give what codes blocks."""
    if request.param == "cuda":
        try:
            return Coder()
        except DeviceError as error:
            pytest.skip(str(error))
    if cupy_on_host.compiler() is None:
        pytest.skip("no g++ here to compile the .cu files for the CPU")
    return Coder(cupy_on_host.make(tmp_path_factory.getbasetemp()), cupy_on_host.SHAPE)
