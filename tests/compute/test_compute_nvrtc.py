"""The .cu files compile with NVRTC for every architecture this NVRTC knows, from sm_75 on.

NVRTC needs no GPU: it comes as a wheel (nvidia-cuda-nvrtc) and is called through ctypes.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.compute.cuda_device import KERNELS, RAW_TYPES, compile_options, source
from pipeline.errors import DeviceError
from pipeline.layout import PIXEL_FORMATS, PixelFormat

OLDEST = 75
#: Raw type, packing, and a width with and without whole vectors.
VARIANTS = [
    *((code, None, samples) for code in sorted(RAW_TYPES) for samples in (1024, 1023)),
    *(
        ("u2", PIXEL_FORMATS[name], samples)
        for name in ("Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed")
        for samples in (640, 641)
    ),
]


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
        return [number for number in found if number >= OLDEST]

    def compile(self, source: str, options: tuple[str, ...], *, binary: bool = False) -> bytes:
        """Give PTX or machine code, or fail with the compiler's own log."""
        program = ctypes.c_void_p()
        name = b"swath.cu"
        create = self._dll.nvrtcCreateProgram
        assert create(ctypes.byref(program), source.encode(), name, 0, None, None) == 0
        try:
            given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self._dll.nvrtcCompileProgram(program, len(options), given)
            log = self._text(program, "ProgramLog")
            assert status == 0, log.decode()
            assert log.strip(b"\0\n ") == b"", f"{options}: {log.decode()}"
            return self._text(program, "CUBIN" if binary else "PTX")
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


def check(ptx: bytes, what: str, kernels: Sequence[str] = KERNELS) -> None:
    for name in kernels:
        assert f".entry {name}(".encode() in ptx, f"{what}: {name} is missing"
    assert b"fma" not in ptx, f"{what}: a product and a sum were contracted"
    assert b".ftz" not in ptx, f"{what}: small numbers are flushed to zero"


def test_the_kernels_compile_for_every_architecture(nvrtc: Nvrtc) -> None:
    architectures = nvrtc.architectures()
    assert architectures, f"this NVRTC knows nothing from sm_{OLDEST} on"
    options = compile_options(np.dtype("u2"), 1024)
    for number in architectures:
        ptx = nvrtc.compile(source(), (*options, f"--gpu-architecture=compute_{number}"))
        check(ptx, f"sm_{number}")


@pytest.mark.parametrize("number", [75, 90])
def test_the_kernels_become_machine_code(nvrtc: Nvrtc, number: int) -> None:
    if number not in nvrtc.architectures():
        pytest.skip(f"this NVRTC does not know sm_{number} any more")
    options = (*compile_options(np.dtype("u2"), 1024), f"--gpu-architecture=sm_{number}")
    assert nvrtc.compile(source(), options, binary=True)[:4] == b"\x7fELF"


@pytest.mark.parametrize(("code", "packed", "samples"), VARIANTS)
def test_the_kernels_compile_for_every_raw_type_packing_and_width(
    nvrtc: Nvrtc, code: str, packed: PixelFormat | None, samples: int
) -> None:
    architectures = nvrtc.architectures()
    for number in {architectures[0], 90 if 90 in architectures else architectures[-1]}:
        options = compile_options(np.dtype(code), samples, packed)
        ptx = nvrtc.compile(source(), (*options, f"--gpu-architecture=compute_{number}"))
        check(ptx, f"{code}, {packed}, {samples} samples, sm_{number}")


def test_a_raw_type_without_kernels_is_refused_by_name() -> None:
    with pytest.raises(DeviceError, match="found raw pixels of float64, allowed are uint8"):
        compile_options(np.dtype("f8"), 640)
    with pytest.raises(DeviceError, match="found packed pixels of 10 bits for uint8"):
        compile_options(np.dtype("u1"), 640, PIXEL_FORMATS["Mono10p"])
