"""The .cu file compiles with NVRTC for every architecture this NVRTC knows, from sm_75 on.

NVRTC needs no GPU: it comes as a wheel (nvidia-cuda-nvrtc) and is called through ctypes.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from pipeline.compute.cuda import RAW_TYPES, SOURCE, compile_options
from pipeline.errors import DeviceError


class Nvrtc:
    """The few calls of NVRTC's C interface that compile a string."""

    def __init__(self, path: Path) -> None:
        for other in sorted(path.parent.glob("libnvrtc-builtins*")):
            ctypes.CDLL(str(other), mode=ctypes.RTLD_GLOBAL)
        self._dll = ctypes.CDLL(str(path))

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        assert self._dll.nvrtcGetNumSupportedArchs(ctypes.byref(count)) == 0
        found = (ctypes.c_int * count.value)()
        assert self._dll.nvrtcGetSupportedArchs(found) == 0
        return list(found)

    def compile(self, source: str, options: tuple[str, ...]) -> bytes:
        """Give the PTX, or fail with the compiler's own log."""
        program = ctypes.c_void_p()
        name = SOURCE.name.encode()
        create = self._dll.nvrtcCreateProgram
        assert create(ctypes.byref(program), source.encode(), name, 0, None, None) == 0
        try:
            given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self._dll.nvrtcCompileProgram(program, len(options), given)
            log = self._text(program, "ProgramLog")
            assert status == 0, log.decode()
            assert log.strip(b"\0\n ") == b"", f"{options}: {log.decode()}"
            return self._text(program, "PTX")
        finally:
            self._dll.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        assert getattr(self._dll, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(self._dll, f"nvrtcGet{what}")(program, text) == 0
        return text.raw


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    try:
        files = importlib.metadata.files("nvidia-cuda-nvrtc") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("NVRTC missing: pip install nvidia-cuda-nvrtc")
    found = [
        Path(str(file.locate()))
        for file in files
        if file.name.startswith("libnvrtc.so") and ".alt." not in file.name
    ]
    if not found:
        pytest.skip("NVRTC missing: the wheel nvidia-cuda-nvrtc has no libnvrtc.so here")
    return Nvrtc(found[0])


def test_the_kernels_compile_for_every_architecture(nvrtc: Nvrtc) -> None:
    source = SOURCE.read_text("utf-8")
    architectures = [number for number in nvrtc.architectures() if number >= 75]
    assert architectures, "this NVRTC knows nothing from sm_75 on"
    options = compile_options(np.dtype("u2"))
    for number in architectures:
        ptx = nvrtc.compile(source, (*options, f"--gpu-architecture=compute_{number}"))
        for name in ("pass_pixels", "replace_bad", "finish_lines", "widen", "mend", "centre"):
            assert f".entry {name}(".encode() in ptx, f"sm_{number}: {name} is missing"
        assert b"fma" not in ptx, f"sm_{number}: a product and a sum were contracted"


@pytest.mark.parametrize("code", sorted(RAW_TYPES))
def test_the_kernels_compile_for_every_raw_type(nvrtc: Nvrtc, code: str) -> None:
    options = (*compile_options(np.dtype(code)), "--gpu-architecture=compute_80")
    assert b".entry pass_pixels(" in nvrtc.compile(SOURCE.read_text("utf-8"), options)


def test_a_raw_type_without_kernels_is_refused_by_name() -> None:
    with pytest.raises(DeviceError, match="found raw pixels of float64, allowed are uint8"):
        compile_options(np.dtype("f8"))
