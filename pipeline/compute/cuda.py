"""The CUDA backend: CuPy, and the kernels of ``pixel_pass.cu`` compiled with NVRTC when arming.

Three streams (in, compute, out) with events between them; a block goes through in chunks of lines,
so that the copies of one chunk run beside the work on another. Device memory and pinned host memory
are made when arming. Results are complete when an operation returns. CuPy is imported only here.
Knows the tables and the interface.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import GroupMath, make_outputs
from pipeline.compute.tables import PassPlan, pass_tables
from pipeline.errors import DeviceError

SOURCE: Final = Path(__file__).with_name("pixel_pass.cu")
#: C types of the raw counts that the kernels are compiled for.
RAW_TYPES: Final = {
    "u1": "unsigned char",
    "u2": "unsigned short",
    "i2": "short",
    "i4": "int",
}
KINDS: Final = {None: 0, "int16": 1, "uint16": 2, "float32": 3}
#: Threads of a block, side by side along the samples; TILE in the source.
TILE: Final = 128
#: Lines of a strip; STRIP in the source.
STRIP: Final = 4
#: Lines of a chunk: with 8 a block of 32 overlaps its copies fourfold.
CHUNK: Final = 8
#: Bands that one thread goes through: few enough to fill a large GPU with a block of 32 lines.
BANDS_EACH: Final = 16
#: Lines that the PCA widens to float32 at a time.
GROUP_CHUNK: Final = 16
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3


def compile_options(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Give NVRTC's options for kernels on this raw type.

    Raises
    ------
    DeviceError
        When there are none for it.
    """
    code = dtype.kind + str(dtype.itemsize)
    if code not in RAW_TYPES or not dtype.isnative:
        allowed = ", ".join(str(np.dtype(name)) for name in RAW_TYPES)
        raise DeviceError(f"CUDA: found raw pixels of {dtype}, allowed are {allowed}")
    return ("--std=c++17", "--fmad=false", f"-DRAW={RAW_TYPES[code]}", f"-DTILE={TILE}")


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
def device_errors(cupy: Any, doing: str) -> Iterator[None]:
    """Turn errors of CUDA, NVRTC and cuBLAS into a :class:`DeviceError`."""
    try:
        yield
    except DeviceError:
        raise
    except (RuntimeError, MemoryError, OSError, cupy.cuda.compiler.CompileException) as error:
        raise DeviceError(f"CUDA failed while {doing}: {error}") from error


class CudaBackend:
    """Computes on the current CUDA device.

    Raises
    ------
    DeviceError
        Where there is no usable GPU.
    """

    name = "cuda"

    def __init__(self, cupy: Any = None) -> None:
        self.cupy = import_cupy() if cupy is None else cupy
        with device_errors(self.cupy, "making streams"):
            cuda = self.cupy.cuda
            model = cuda.runtime.getDeviceProperties(cuda.Device().id)["name"]
            self.why = f"found {model.decode() if isinstance(model, bytes) else model}"
            self.stream_in, self.stream, self.stream_out = (
                cuda.Stream(non_blocking=True) for _ in range(3)
            )
            self._read = cuda.Event(disable_timing=True)
        self._modules: dict[str, Any] = {}
        self._staging: NDArray[Any] | None = None
        self._arrived: list[Any] = []
        self.raw: Any = None  # on the device
        self.lines = 0

    def load(self, raw: NDArray[Any]) -> None:
        """Send a block to the device, chunk by chunk, through pinned memory."""
        if self._staging is None:
            return  # no operation was armed
        self.lines = len(raw)
        with device_errors(self.cupy, "sending a block"):
            self.stream_in.wait_event(self._read)  # the block before may still be read
            for i, first in enumerate(range(0, self.lines, CHUNK)):
                chunk = slice(first, min(first + CHUNK, self.lines))
                self._staging[chunk] = raw[chunk]
                self.copy_in(self.raw[chunk], self._staging[chunk])
                self._arrived[i].record(self.stream_in)

    def wait_for(self, line: int) -> None:
        """Let the compute stream wait until ``line`` of the block is on the device."""
        self.stream.wait_event(self._arrived[line // CHUNK])

    def mark_read(self) -> None:
        """Note that what the compute stream has been given is the last to read the block."""
        self._read.record(self.stream)

    def pixel_pass(self, plan: PassPlan) -> CudaPixelPass:
        """Arm the fused kernel."""
        self._arm(plan)
        with device_errors(self.cupy, "arming the pixel pass"):
            made = CudaPixelPass(plan, self)
            self.cupy.cuda.runtime.deviceSynchronize()  # the tables came on another stream
            return made

    def group_math(self, plan: PassPlan, lines: int) -> GroupMath:
        """Arm the PCA's arithmetic."""
        self._arm(plan)
        with device_errors(self.cupy, "arming the PCA"):
            made = CudaGroupMath(plan, lines, self)
            self.cupy.cuda.runtime.deviceSynchronize()  # the tables came on another stream
            return made

    def kernel(self, plan: PassPlan, name: str) -> Any:
        """Give a kernel compiled for the plan's raw type."""
        options = compile_options(plan.dtype)
        module = self._modules.get(plan.dtype.str)
        if module is None:
            module = self.cupy.RawModule(code=SOURCE.read_text("utf-8"), options=options)
            self._modules[plan.dtype.str] = module
        return module.get_function(name)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Make a host array in page-locked memory, which can be copied without a detour."""
        count = int(np.prod(shape))
        if not count:
            return np.empty(shape, dtype)
        memory = self.cupy.cuda.alloc_pinned_memory(count * dtype.itemsize)
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def copy_in(self, device: Any, host: NDArray[Any]) -> None:
        """Start a copy of pinned memory to the device on the in-stream."""
        self.cupy.cuda.runtime.memcpyAsync(
            device.data.ptr, host.ctypes.data, host.nbytes, HOST_TO_DEVICE, self.stream_in.ptr
        )

    def copy_out(self, host: NDArray[Any], device: Any) -> None:
        """Start a copy of device memory into pinned memory on the out-stream."""
        if host.nbytes:
            self.cupy.cuda.runtime.memcpyAsync(
                host.ctypes.data, device.data.ptr, host.nbytes, DEVICE_TO_HOST, self.stream_out.ptr
            )

    def zero(self, device: Any) -> None:
        """Set device memory to 0 on the compute stream."""
        self.cupy.cuda.runtime.memsetAsync(device.data.ptr, 0, device.nbytes, self.stream.ptr)

    def close(self) -> None:
        """Wait for what is under way and let the memory go."""
        for stream in (self.stream_in, self.stream, self.stream_out):
            with contextlib.suppress(Exception):  # a failed device has nothing to wait for
                stream.synchronize()
        self.raw = self._staging = None
        self._modules.clear()

    def _arm(self, plan: PassPlan) -> None:
        compile_options(plan.dtype)
        shape = (plan.block_lines, plan.bands, plan.samples)
        if self._staging is not None and self._staging.shape != shape:
            raise DeviceError(f"CUDA: found blocks of {shape}, armed for {self._staging.shape}")
        if self._staging is None:
            with device_errors(self.cupy, "making memory for a block"):
                self.raw = self.cupy.empty(shape, plan.dtype)
                self._staging = self.pinned(shape, plan.dtype)
                events = -(-plan.block_lines // CHUNK)
                self._arrived = [self.cupy.cuda.Event(disable_timing=True) for _ in range(events)]


class CudaPixelPass:
    """The pixel pass on the GPU; see :class:`pipeline.compute.interface.PixelPass`."""

    def __init__(self, plan: PassPlan, backend: CudaBackend) -> None:
        if plan.strip != STRIP:
            raise DeviceError(
                f"CUDA: found {plan.strip} lines to a preview row, allowed is {STRIP}"
            )
        cupy = backend.cupy
        self.plan, self._backend = plan, backend
        self.outputs = make_outputs(plan, backend.pinned)
        tables = pass_tables(plan)
        self._level, self._dark, self._fixes = tables.level, int(tables.dark), len(tables.fix)
        self._black, self._gain, self._fix, self._weight, self._planes = (
            cupy.asarray(table if table.size else np.zeros(1, table.dtype))
            for table in (tables.black, tables.gain, tables.fix, tables.fix_weight, tables.planes)
        )
        lines, samples = plan.block_lines, plan.samples
        self._valid_host = backend.pinned((lines,), np.dtype(np.uint8))
        self._clipped_host = backend.pinned((1,), np.dtype(np.uint32))
        self._valid = cupy.empty((lines,), np.uint8)
        # one array, so that one call sets all counters to 0: bright, dim, totals of lines, clipped
        self._counters = cupy.empty((2 * lines * samples + 2 * lines + 1,), np.uint32)
        parts = np.cumsum([lines * samples, lines * samples, lines, lines])
        self._bright = self._counters[: parts[0]]
        self._dim = self._counters[parts[0] : parts[1]]
        self._saturated = self._counters[parts[1] : parts[2]]
        self._below = self._counters[parts[2] : parts[3]]
        self._clipped = self._counters[parts[3] :]
        out = self.outputs
        self._out, self._quality, self._sums = (
            cupy.empty(array.shape if array.size else (1,), array.dtype)
            for array in (out.reflectance, out.quality, out.sums)
        )
        self._pass = backend.kernel(plan, "pass_pixels")
        self._replace = backend.kernel(plan, "replace_bad")
        self._finish = backend.kernel(plan, "finish_lines")
        self._done = [cupy.cuda.Event(disable_timing=True) for _ in range(lines // CHUNK + 2)]

    def run(self, valid: NDArray[np.bool_], phase: int) -> int:
        """Work on the loaded block; see :meth:`pipeline.compute.interface.PixelPass.run`."""
        with device_errors(self._backend.cupy, "correcting a block"):
            return self._run(valid, phase)

    def _run(self, valid: NDArray[np.bool_], phase: int) -> int:
        backend, out = self._backend, self.outputs
        lines = backend.lines
        self._valid_host[:lines] = valid
        with backend.stream:
            backend.zero(self._counters)
            backend.cupy.cuda.runtime.memcpyAsync(
                *(self._valid.data.ptr, self._valid_host.ctypes.data, lines, HOST_TO_DEVICE),
                backend.stream.ptr,
            )
            strips = -(-(lines + phase) // STRIP)
            for i, first in enumerate(range(0, strips, CHUNK // STRIP)):
                last = min(first + CHUNK // STRIP, strips)
                start, stop = max(first * STRIP - phase, 0), min(last * STRIP - phase, lines)
                backend.wait_for(stop - 1)
                self._launch(first, last, start, stop, phase)
                self._done[i].record(backend.stream)
                backend.stream_out.wait_event(self._done[i])
                if self.plan.reflectance:
                    backend.copy_out(out.reflectance[start:stop], self._out[start:stop])
                if self.plan.quality:
                    backend.copy_out(out.quality[start:stop], self._quality[start:stop])
            backend.mark_read()
        backend.copy_out(out.sums[:strips], self._sums)
        backend.copy_out(out.saturated[:lines], self._saturated)
        backend.copy_out(out.below_dark[:lines], self._below)
        backend.copy_out(self._clipped_host, self._clipped)
        backend.stream_out.synchronize()
        return int(self._clipped_host[0])

    def _launch(self, first: int, last: int, start: int, stop: int, phase: int) -> None:
        """Launch the three kernels on strips ``first`` … and their lines ``start`` …."""
        plan, lines, i4 = self.plan, self._backend.lines, np.int32
        tiles = -(-plan.samples // TILE)
        arrays = (
            *(self._backend.raw, self._valid, self._black, self._gain, self._out),
            *(self._bright, self._dim, self._sums, self._clipped),
        )
        switches = (
            *(i4(self._level), i4(self._dark), i4(KINDS[plan.reflectance])),
            i4(plan.preview_factor > 0),
        )
        shape = (i4(plan.bands), i4(plan.samples))
        self._pass(
            (tiles, last - first, -(-plan.bands // BANDS_EACH)),
            (TILE,),
            (*arrays, i4(lines), *shape, i4(first), i4(phase), i4(BANDS_EACH), *switches),
        )
        if self._fixes:
            self._replace(
                (-(-self._fixes // TILE), stop - start),
                (TILE,),
                (
                    *(*arrays, self._fix, self._weight, i4(self._fixes)),
                    *(*shape, i4(start), i4(phase), *switches),
                ),
            )
        self._finish(
            (tiles, stop - start),
            (TILE,),
            (
                *(self._valid, self._bright, self._dim, self._planes, self._quality),
                *(self._saturated, self._below, *shape, i4(start), i4(plan.quality)),
            ),
        )


class CudaGroupMath:
    """The PCA's arithmetic on the GPU; see :class:`pipeline.compute.interface.GroupMath`.

    Products are float32 gemms (TF32 is off unless somebody sets ``CUPY_TF32``), added in float64.
    """

    def __init__(self, plan: PassPlan, lines: int, backend: CudaBackend) -> None:
        cupy = backend.cupy
        tables = pass_tables(plan)
        self._plan, self._backend = plan, backend
        self._fixes = len(tables.fix)
        self._fix = cupy.asarray(tables.fix if self._fixes else np.zeros((1, 4), np.int32))
        self._weight = cupy.asarray(tables.fix_weight if self._fixes else np.zeros(1, np.float32))
        self._kept = cupy.empty((lines, plan.bands, plan.samples), plan.dtype)
        self._x = cupy.empty((GROUP_CHUNK * plan.bands * plan.samples,), np.float32)
        self._products = cupy.empty((GROUP_CHUNK, plan.bands, plan.bands), np.float32)
        self._used = cupy.empty((1,), np.uint32)
        self._widen = backend.kernel(plan, "widen")
        self._mend = backend.kernel(plan, "mend")
        self._centre = backend.kernel(plan, "centre")

    def put(self, first: int, count: int, at: int) -> None:
        """Copy lines of the loaded block on the device."""
        backend = self._backend
        to, source = self._kept[at : at + count], backend.raw[first : first + count]
        with device_errors(backend.cupy, "keeping lines for the PCA"):
            backend.wait_for(first + count - 1)
            backend.cupy.cuda.runtime.memcpyAsync(
                *(to.data.ptr, source.data.ptr, to.nbytes, DEVICE_TO_DEVICE), backend.stream.ptr
            )
            backend.mark_read()

    def moments(
        self, lines: NDArray[np.intp], every: int, level: float, shift: NDArray[np.float64]
    ) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """Add up spectra and their products, some lines at a time."""
        backend, bands = self._backend, self._plan.bands
        cupy = backend.cupy
        with device_errors(cupy, "adding up moments"), backend.stream:
            first = cupy.zeros((bands,), np.float64)
            second = cupy.zeros((bands, bands), np.float64)
            about = cupy.asarray(shift.astype(np.float32))
            backend.zero(self._used)
            for start in range(0, len(lines), GROUP_CHUNK):
                chosen = lines[start : start + GROUP_CHUNK]
                x = self._counts(chosen, every, level, about)
                products = self._products[: len(chosen)]
                cupy.matmul(x, x.transpose(0, 2, 1), out=products)
                first += x.sum(axis=(0, 2), dtype=np.float64)
                second += products.sum(axis=0, dtype=np.float64)
            return (
                int(cupy.asnumpy(self._used)[0]),
                np.asarray(cupy.asnumpy(first)),
                np.asarray(cupy.asnumpy(second)),
            )

    def project(
        self,
        lines: int,
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> None:
        """Project some lines at a time."""
        backend = self._backend
        cupy = backend.cupy
        with device_errors(cupy, "projecting"), backend.stream:
            about, axes = cupy.asarray(mean), cupy.asarray(basis)
            for start in range(0, lines, GROUP_CHUNK):
                chosen = np.arange(start, min(start + GROUP_CHUNK, lines))
                x = self._counts(chosen, 1, float("inf"), about)
                out[start : start + len(chosen)] = cupy.asnumpy(cupy.matmul(axes, x))

    def _counts(self, chosen: NDArray[np.intp], every: int, level: float, about: Any) -> Any:
        """Give (chosen, bands, width) float32 counts, mended, about a spectrum."""
        i4, bands, samples = np.int32, self._plan.bands, self._plan.samples
        width, count = -(-samples // every), len(chosen)
        x = self._x[: count * bands * width].reshape(count, bands, width)
        tiles = -(-width // TILE)
        index = self._backend.cupy.asarray(chosen.astype(np.int32))
        self._widen(
            (tiles, bands, count),
            (TILE,),
            (self._kept, index, x, i4(bands), i4(samples), i4(width), i4(every)),
        )
        if self._fixes:
            self._mend(
                (-(-self._fixes // TILE), count),
                (TILE,),
                (x, self._fix, self._weight, i4(self._fixes), i4(bands), i4(width), i4(every)),
            )
        self._centre(
            (tiles, count),
            (TILE,),
            (x, about, self._used, i4(bands), i4(width), np.float32(level)),
        )
        return x
