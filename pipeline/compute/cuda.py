"""The CUDA backend: CuPy, and kernels of its own compiled with NVRTC when arming.

Three streams (in, work, out) with events between them, and three places for blocks on the device:
while one block is worked on, the next comes in and the results of the one before go out. Nothing is
made after arming, and the host waits only where a place is used again. Knows the tables, the
interface, cuda_device, cuda_pass, cuda_groups, and cpu for work of the host.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cpu import CpuBackend
from pipeline.compute.cuda_device import (
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    PADDING,
    STRIP,
    Device,
    Shape,
    address,
    compile_options,
    device_errors,
    import_cupy,
)
from pipeline.compute.cuda_groups import CudaGroupMath, Products
from pipeline.compute.cuda_pass import CudaPixelPass
from pipeline.compute.tables import PassPlan
from pipeline.errors import DeviceError

__all__ = ["CudaBackend", "import_cupy"]

#: Blocks under way: one comes in, one is worked on, one goes out.
DEPTH: Final = 3
#: Bytes that are copied to pinned memory before the device is given them: a block that is not
#: pinned itself goes through in pieces, so that both copies run at once.
PIECE: Final = 2 << 20


@dataclass
class Place:
    """A place for a block on the device.

    Attributes
    ----------
    raw : device array of bytes
    staging : pinned bytes, for blocks that are not pinned themselves
    arrived, read : events
        The block, and flags sent with it, are there; what reads it has been done.
    lines : int
    packed : bool
    awaited : bool
        The work stream waits for ``arrived`` already.
    """

    raw: Any
    staging: NDArray[np.uint8]
    arrived: Any
    read: Any
    lines: int = 0
    packed: bool = False
    awaited: bool = False


class CudaBackend:
    """Computes on the current CUDA device.

    Parameters
    ----------
    cupy : module, optional
        What stands for CuPy; CuPy itself by default.
    shape : Shape, optional
        Threads of a block.
    threads : int
        Threads of the host for :meth:`each`, as for the CPU backend.

    Attributes
    ----------
    pinned_bytes : int
        Host memory registered by :meth:`pin`.

    Raises
    ------
    DeviceError
        Where there is no usable GPU.
    """

    name = "cuda"
    depth = DEPTH

    def __init__(self, cupy: Any = None, shape: Shape | None = None, threads: int = 0) -> None:
        cupy = import_cupy() if cupy is None else cupy
        with device_errors("making streams"):
            self.device = Device(cupy, shape or Shape())
        self.why = f"found {self.device.name}"
        self._host = CpuBackend(threads, "host work beside the GPU")
        self.pinned_bytes = 0
        self._places: list[Place] = []
        self._turn = 0
        self._modules: dict[tuple[str, ...], dict[str, Any]] = {}
        self._block: tuple[int, ...] = ()
        self._starts: list[int] = []  # of pinned host memory, sorted
        self._memories: list[NDArray[np.uint8]] = []  # in the same order; keeps it mapped
        self._closers: list[Callable[[], None]] = []

    @property
    def place(self) -> Place:
        """Where the block that was loaded last is."""
        return self._places[self._turn]

    def load(self, raw: NDArray[Any]) -> None:
        """Queue the copy of a block to the device: whole, where it is pinned."""
        if not self._places:
            return  # no operation was armed
        device = self.device
        self._turn = (self._turn + 1) % DEPTH
        place = self.place
        if raw.nbytes > len(place.staging):
            raise DeviceError(
                f"CUDA: found a block of {raw.nbytes} bytes, armed for {len(place.staging)}"
            )
        place.lines, place.packed, place.awaited = len(raw), raw.ndim == 2, False
        with device_errors("sending a block"):
            device.stream_in.wait_event(place.read)
            to, source, size = place.raw.data.ptr, address(raw), raw.nbytes
            if self.is_pinned(source, size):
                device.copy(to, source, size, HOST_TO_DEVICE, device.stream_in)
            else:
                place.arrived.synchronize()  # what was staged here before has been sent
                pixels = raw.reshape(-1).view(np.uint8)
                staged = address(place.staging)
                for first in range(0, size, PIECE):
                    last = min(first + PIECE, size)
                    place.staging[first:last] = pixels[first:last]
                    device.copy(
                        *(to + first, staged + first, last - first),
                        *(HOST_TO_DEVICE, device.stream_in),
                    )
            place.arrived.record(device.stream_in)

    def send_along(self, to: int, source: int, size: int) -> None:
        """Queue the copy of a few pinned bytes behind the block that was loaded last."""
        device, place = self.device, self.place
        device.copy(to, source, size, HOST_TO_DEVICE, device.stream_in)
        place.arrived.record(device.stream_in)
        place.awaited = False

    def await_block(self) -> Place:
        """Let work that is queued from now on wait for the block that was loaded last."""
        place = self.place
        if not place.awaited:
            self.device.stream.wait_event(place.arrived)
            place.awaited = True
        return place

    def mark_read(self) -> None:
        """Note that what was queued for work is the last to read the block."""
        self.place.read.record(self.device.stream)

    def copy_out(self, to: int, source: int, size: int) -> None:
        """Queue a copy to pinned memory."""
        if size:
            self.device.copy(to, source, size, DEVICE_TO_HOST, self.device.stream_out)

    def is_pinned(self, start: int, size: int) -> bool:
        """Whether host memory lies in what :meth:`pin` registered."""
        i = bisect.bisect_right(self._starts, start) - 1
        return i >= 0 and start + size <= self._starts[i] + self._memories[i].nbytes

    def pixel_pass(self, plan: PassPlan) -> CudaPixelPass:
        """Arm the fused kernel: memory, tables, compiled and run once."""
        self._arm(plan)
        with device_errors("arming the pixel pass"):
            made = CudaPixelPass(plan, self)
            made.warm()
            self.device.settle()
            return made

    def group_math(
        self,
        plan: PassPlan,
        lines: int,
        groups: int,
        components: int,
        products: Products = "gemm",
    ) -> CudaGroupMath:
        """Arm the PCA's arithmetic.

        Parameters
        ----------
        plan, lines, groups, components
            As in :meth:`pipeline.compute.interface.Backend.group_math`.
        products : {"gemm", "syrk"}
            How products of spectra are formed.
        """
        self._arm(plan)
        with device_errors("arming the PCA"):
            made = CudaGroupMath(plan, lines, groups, components, products, self)
            self._closers.append(made.close)
            made.warm()
            self.device.settle()
            return made

    def each(self, work: Callable[[int, int, int], int], count: int) -> int:
        """Share host work over threads, as the CPU backend does."""
        return self._host.each(work, count)

    def pin(self, memory: memoryview) -> None:
        """Register host memory, so that blocks in it are copied without a detour.

        Where the system refuses, blocks go through pinned memory of the backend's own: slower, but
        no error.
        """
        array = np.frombuffer(memory, np.uint8)
        start = address(array)
        if not array.nbytes or self.is_pinned(start, array.nbytes):
            return
        try:
            self.device.runtime.hostRegister(start, array.nbytes, 0)
        except RuntimeError:
            return
        i = bisect.bisect(self._starts, start)
        self._starts.insert(i, start)
        self._memories.insert(i, array)
        self.pinned_bytes += array.nbytes

    def unpin(self, memory: memoryview) -> None:
        """Let registered memory go; no block in it is under way."""
        start = address(np.frombuffer(memory, np.uint8))
        if start in self._starts:
            i = self._starts.index(start)
            del self._starts[i]
            self.pinned_bytes -= self._memories.pop(i).nbytes
            with contextlib.suppress(RuntimeError):  # a failed device has nothing to unregister
                self.device.runtime.hostUnregister(start)

    def kernels(self, plan: PassPlan, *, packed: bool = False) -> dict[str, Any]:
        """Give the kernels compiled for the plan's raw type, for packed blocks or for counts."""
        options = compile_options(
            *(plan.dtype, plan.samples, plan.packed if packed else None, self.device.shape)
        )
        if options not in self._modules:
            self._modules[options] = self.device.module(options)
        return self._modules[options]

    def close(self) -> None:
        """Wait for what is under way and let the memory go; never raises, may be called twice."""
        with contextlib.suppress(Exception):  # a failed device has nothing to wait for
            self.device.settle()
        for do in self._closers:
            with contextlib.suppress(Exception):
                do()
        for start in self._starts:
            with contextlib.suppress(Exception):
                self.device.runtime.hostUnregister(start)
        self._host.close()
        self._closers, self._starts, self._memories, self._places = [], [], [], []
        self._modules.clear()
        self.pinned_bytes = 0

    def _arm(self, plan: PassPlan) -> None:
        """Make the places for blocks, with the first operation that is armed."""
        compile_options(plan.dtype, plan.samples, plan.packed)
        if plan.preview_factor not in (0, STRIP):
            raise DeviceError(
                f"CUDA: found {plan.preview_factor} lines to a preview row, allowed is {STRIP}"
            )
        block = (plan.block_lines, plan.bands, plan.samples)
        if self._places and self._block != block:
            raise DeviceError(f"CUDA: found blocks of {block}, armed for {self._block}")
        if self._places:
            return
        size = int(np.prod(block)) * plan.dtype.itemsize
        if plan.packed is not None:
            line = plan.packed.packed_bytes(plan.bands * plan.samples)
            size = max(size, line * plan.block_lines)
        device = self.device
        with device_errors("making memory for blocks"):
            self._places = [
                Place(
                    device.empty(size + PADDING, np.uint8),
                    *(device.pinned(size, np.uint8), device.event(), device.event()),
                )
                for _ in range(DEPTH)
            ]
        self._block = block
