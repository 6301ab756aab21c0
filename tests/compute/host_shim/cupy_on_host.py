"""The little of CuPy that the CUDA backend uses, on the CPU, with the kernels run by g++'s threads.

So the backend's own code (chunks, grids, order of arguments, copies) is tested with the very .cu
file where there is no GPU. Streams are one: everything happens at once, in the order of the calls.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

FOLDER = Path(__file__).parent
#: CUDA threads of a block here: each is a thread of the operating system.
TILE = 8


def compiler() -> str | None:
    return shutil.which("g++")


class DeviceArray(np.ndarray[Any, Any]):
    """An array with the pointer where CuPy's arrays have it."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)


class Stream:
    def __init__(self, non_blocking: bool = False) -> None:
        self.ptr = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def wait_event(self, event: Event) -> None: ...

    def synchronize(self) -> None: ...


class Event:
    def __init__(self, disable_timing: bool = False) -> None: ...

    def record(self, stream: Stream) -> None: ...


class RawModule:
    """Compiles the source with g++ for the raw type among the options."""

    built: ClassVar[dict[tuple[str, ...], ctypes.CDLL]] = {}

    def __init__(self, code: str, options: tuple[str, ...], folder: Path) -> None:
        defines = tuple(option for option in options if option.startswith("-D"))
        if defines not in self.built:
            library = folder / f"kernels{len(self.built)}.so"
            source = folder / f"kernels{len(self.built)}.cu"
            source.write_text(code)
            subprocess.run(
                [
                    *("g++", "-std=c++20", "-O0", "-ffp-contract=off", "-shared", "-fPIC"),
                    *("-Wall", "-Wextra", "-Werror", *defines, f'-DKERNELS="{source}"'),
                    *(str(FOLDER / "kernels_on_host.cpp"), "-o", str(library), "-pthread"),
                ],
                check=True,
            )
            self.built[defines] = ctypes.CDLL(str(library))
        self._library = self.built[defines]

    def get_function(self, name: str) -> Any:
        function = getattr(self._library, f"host_{name}")

        def kernel(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            assert block == (TILE,)
            assert all(0 < size < 65536 for size in grid[1:])
            full = (*grid, 1, 1)[:3]
            function(*map(ctypes.c_uint, full), *map(_argument, args))

        return kernel


def _argument(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return {np.int32: ctypes.c_int, np.float32: ctypes.c_float}[type(value)](value)


def make(folder: Path) -> Any:
    """Make a stand-in for the module ``cupy``; compiled kernels go into a folder."""

    def empty(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        array = np.empty(shape, dtype).view(DeviceArray)
        array.view(np.uint8).fill(0xA5)  # nothing may rely on fresh memory being 0
        return array

    def copy(to: int, source: int, size: int, kind: int, stream: int) -> None:
        ctypes.memmove(to, source, size)

    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: {"name": b"a CPU in disguise"},
        memcpyAsync=copy,
        memsetAsync=lambda to, value, size, stream: ctypes.memset(to, value, size),
        deviceSynchronize=lambda: None,
    )
    return SimpleNamespace(
        cuda=SimpleNamespace(
            runtime=runtime,
            Stream=Stream,
            Event=Event,
            Device=lambda: SimpleNamespace(id=0),
            alloc_pinned_memory=bytearray,
            compiler=SimpleNamespace(CompileException=subprocess.CalledProcessError),
        ),
        RawModule=lambda code, options: RawModule(code, options, folder),
        empty=empty,
        zeros=lambda shape, dtype: np.zeros(shape, dtype).view(DeviceArray),
        asarray=lambda array: np.array(array).view(DeviceArray),
        asnumpy=lambda array: np.array(array),
        matmul=np.matmul,
    )
