"""What the CUDA backend stands on: finding the GPU, compiling the kernels, memory, events.

NVRTC is called directly, not through ``cupy.RawModule``: that adds ``-ftz=true``, with which tiny
differences would be lost that the CPU keeps. CuPy is imported only here. Knows the errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DeviceError
from pipeline.layout import PixelFormat

#: Compiled together, in this order.
SOURCES: Final = tuple(
    Path(__file__).with_name(name) for name in ("raw_pixels.h", "pixel_pass.cu", "group_math.cu")
)
KERNELS: Final = (
    *("pass_pixels", "keep", "centre_lines", "centre_chosen"),
    *("add_moments", "peak_scores", "round_scores"),
)
#: C types of the raw counts that the kernels are compiled for.
RAW_TYPES: Final = {
    "u1": "unsigned char",
    "u2": "unsigned short",
    "i2": "short",
    "i4": "int",
}
#: PACKING in the source.
PACKINGS: Final = {"none": 0, "lsb": 1, "gige": 2}
#: Samples of a thread, and lines of a strip; VECTOR and STRIP in the source.
VECTOR: Final = 8
STRIP: Final = 4
#: Bytes that kernels may read behind a block.
PADDING: Final = 64
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3


@dataclass(frozen=True)
class Shape:
    """Threads of a block: ``lanes`` along the samples, ``rows`` along the bands; of a warp."""

    lanes: int = 16
    rows: int = 16
    warp: int = 32

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.lanes * self.rows

    @property
    def span(self) -> int:
        """Samples that a block goes over."""
        return self.lanes * VECTOR


def source(paths: Sequence[Path] = SOURCES) -> str:
    """Give the kernels' source, with its files' names and line numbers for the compiler."""
    return "".join(f'#line 1 "{path.name}"\n{path.read_text("utf-8")}' for path in paths)


def compile_options(
    dtype: np.dtype[Any],
    samples: int,
    packed: PixelFormat | None = None,
    shape: Shape | None = None,
) -> tuple[str, ...]:
    """Give NVRTC's options for kernels on this raw type, width and packing.

    Raises
    ------
    DeviceError
        When there are none for it.
    """
    code = dtype.kind + str(dtype.itemsize)
    if code not in RAW_TYPES or not dtype.isnative:
        allowed = ", ".join(str(np.dtype(name)) for name in RAW_TYPES)
        raise DeviceError(f"CUDA: found raw pixels of {dtype}, allowed are {allowed}")
    shape = shape or Shape()
    options = [
        *("--std=c++17", "--fmad=false", "--ftz=false", f"-DRAW={RAW_TYPES[code]}"),
        *(f"-DLANES={shape.lanes}", f"-DROWS={shape.rows}", f"-DWARP={shape.warp}"),
        f"-DALIGNED={int(samples % VECTOR == 0)}",
    ]
    if packed is not None:
        if packed.bits not in (10, 12) or dtype != np.uint16:
            raise DeviceError(
                f"CUDA: found packed pixels of {packed.bits} bits for {dtype}, "
                "allowed are 10 and 12 bits for uint16"
            )
        options += [f"-DPACKING={PACKINGS[packed.packing]}", f"-DBITS={packed.bits}"]
    return tuple(options)


def import_cupy() -> Any:
    """Import CuPy and see that there is a GPU.

    Raises
    ------
    DeviceError
        Saying which is missing.
    """
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            "no CUDA: CuPy is not installed or does not load "
            f"({error}); pip install cupy-cuda13x, or cupy-cuda12x for an older driver"
        ) from None
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise DeviceError(f"no CUDA device: {error}") from None
    if not found:
        raise DeviceError("no CUDA device: the driver finds none")
    return cupy


@contextlib.contextmanager
def device_errors(doing: str) -> Iterator[None]:
    """Turn errors of CUDA, NVRTC and cuBLAS into a :class:`DeviceError`."""
    try:
        yield
    except DeviceError:
        raise
    # CuPy's own are RuntimeErrors; a library that is not installed shows as an ImportError
    except (RuntimeError, MemoryError, OSError, ImportError) as error:
        raise DeviceError(f"CUDA failed while {doing}: {error}") from error


class Device:
    """The current GPU through CuPy: three streams, and memory made when arming.

    Attributes
    ----------
    cupy : module
    stream_in, stream, stream_out
        For copies in, work, copies out; none of them waits for the legacy stream.
    processors : int
        Multiprocessors.
    """

    _compiled: ClassVar[dict[tuple[object, ...], bytes]] = {}

    def __init__(self, cupy: Any, shape: Shape) -> None:
        self.cupy, self.shape = cupy, shape
        cuda = cupy.cuda
        self.runtime = cuda.runtime
        found = self.runtime.getDeviceProperties(cuda.Device().id)
        name = found["name"]
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self.processors = int(found["multiProcessorCount"])
        self.capability = int(cuda.Device().compute_capability)
        self.stream_in, self.stream, self.stream_out = (
            cuda.Stream(non_blocking=True) for _ in range(3)
        )

    def event(self) -> Any:
        """Make an event; a thread that waits for it sleeps."""
        return self.cupy.cuda.Event(block=True, disable_timing=True)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """Make an array on the device, at least one element of it; all bytes 0."""
        array = self.cupy.empty(shape, dtype)
        if not array.size:
            array = self.cupy.empty((1,), dtype)
        self.runtime.memsetAsync(array.data.ptr, 0, array.nbytes, self.stream.ptr)
        return array

    def upload(self, table: NDArray[Any]) -> Any:
        """Copy a table to the device; only when arming, since the host's memory is not pinned."""
        table = np.ascontiguousarray(table if table.size else np.zeros(1, table.dtype))
        array = self.cupy.empty(table.shape, table.dtype)
        self.runtime.memcpyAsync(
            array.data.ptr, address(table), table.nbytes, HOST_TO_DEVICE, self.stream.ptr
        )
        self.stream.synchronize()
        return array

    def pinned(self, shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Make a host array in page-locked memory, which is copied without a detour."""
        count = int(np.prod(shape))
        if not count:
            return np.empty(shape, dtype)
        memory = self.cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
        array = np.frombuffer(memory, dtype, count).reshape(shape)
        array.view(np.uint8).fill(0)
        return array

    def copy(self, to: int, source: int, size: int, kind: int, stream: Any) -> None:
        """Queue a copy between addresses."""
        self.runtime.memcpyAsync(to, source, size, kind, stream.ptr)

    def module(
        self,
        options: Sequence[str],
        paths: Sequence[Path] = SOURCES,
        kernels: Sequence[str] = KERNELS,
    ) -> dict[str, Any]:
        """Compile kernels, once in a process for the same options and architecture."""
        nvrtc = self.cupy.cuda.nvrtc
        ask = getattr(nvrtc, "getSupportedArchs", None)
        known = [int(number) for number in ask()] if ask else [self.capability]
        exact = self.capability in known
        target = max((number for number in known if number <= self.capability), default=0)
        if not target:
            raise DeviceError(
                f"CUDA: found a GPU of compute capability {self.capability / 10}, this NVRTC "
                f"compiles for {min(known) / 10} and later"
            )
        # machine code for this GPU; for one newer than NVRTC, PTX that the driver compiles
        full = (*options, f"--gpu-architecture={'sm' if exact else 'compute'}_{target}")
        key = (*paths, *full)
        if key not in self._compiled:
            self._compiled[key] = _compile(nvrtc, source(paths), full, exact)
        module = self.cupy.cuda.Module()
        module.load(self._compiled[key])
        return {name: module.get_function(name) for name in kernels}

    def settle(self) -> None:
        """Wait for all that was queued; only when arming and closing."""
        for stream in (self.stream_in, self.stream, self.stream_out):
            stream.synchronize()


class Parcel:
    """A little memory that follows blocks to the device: numbers that change from call to call.

    Copied on the in-stream, behind the block that was loaded last and before the next one, so that
    it does not wait for a copy that comes later.

    Attributes
    ----------
    host : dict of ndarray, pinned, one for each field
    device : dict of addresses
    """

    def __init__(self, device: Device, fields: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self._device = device
        self.host: dict[str, NDArray[Any]] = {}
        self.device: dict[str, np.uint64] = {}
        sizes = {
            name: -(-int(np.prod(shape)) * np.dtype(kind).itemsize // 16) * 16
            for name, (shape, kind) in fields.items()
        }
        self._pinned = device.pinned(sum(sizes.values()), np.uint8)
        self._there = device.empty(sum(sizes.values()), np.uint8)
        start = 0
        for name, (shape, kind) in fields.items():
            count = int(np.prod(shape))
            self.host[name] = np.frombuffer(self._pinned, kind, count, start).reshape(shape)
            self.device[name] = np.uint64(self._there.data.ptr + start)
            start += sizes[name]
        self._sent, self._read = device.event(), device.event()

    def open(self) -> None:
        """Wait until the host's part may be written anew."""
        self._sent.synchronize()

    def send(self) -> None:
        """Queue the copy; what is queued for work from now on finds it there."""
        device = self._device
        device.stream_in.wait_event(self._read)
        device.copy(
            *(self._there.data.ptr, address(self._pinned), self._pinned.nbytes),
            *(HOST_TO_DEVICE, device.stream_in),
        )
        self._sent.record(device.stream_in)
        device.stream.wait_event(self._sent)

    def taken(self) -> None:
        """Note that all work that reads it has been queued."""
        self._read.record(self._device.stream)


def address(array: NDArray[Any]) -> int:
    """Give the address of an array's first element."""
    return int(array.__array_interface__["data"][0])


def _compile(nvrtc: Any, text: str, options: Sequence[str], exact: bool) -> bytes:
    program = nvrtc.createProgram(text, "swath.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, tuple(options))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program)
            raise DeviceError(f"CUDA: the kernels do not compile ({error}): {log}") from error
        return bytes(nvrtc.getCUBIN(program) if exact else nvrtc.getPTX(program) + b"\0")
    finally:
        nvrtc.destroyProgram(program)
