"""The PCA's arithmetic on the GPU: lines kept, moments, scores.

Gemms are cuBLAS, called with memory of our own; everything around them is in ``group_math.cu``.
Knows the tables, the interface and cuda_device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cuda_device import (
    DEVICE_TO_DEVICE,
    STRIP,
    VECTOR,
    Parcel,
    address,
    device_errors,
)
from pipeline.compute.interface import Moments
from pipeline.compute.tables import PassPlan, pass_tables
from pipeline.errors import DeviceError

if TYPE_CHECKING:
    from pipeline.compute.cuda import CudaBackend

#: How products of spectra are formed: a batched gemm over lines, or one syrk a line (half the
#: arithmetic, in as many launches as lines).
Products = Literal["gemm", "syrk"]
#: Counts that are widened to float32 at a time, and products of spectra: 64 MiB each.
AT_A_TIME: Final = 16 << 20
#: cuBLAS's names: operations, the lower triangle, and math in float32 and not in TF32.
NO_TRANSPOSE, TRANSPOSE = 0, 1
LOWER: Final = 0
FLOAT32_MATH: Final = 0


class CudaGroupMath:
    """The PCA's arithmetic on the GPU; see :class:`pipeline.compute.interface.GroupMath`.

    Products and scores are float32 gemms without TF32; products of a line are added in float64.
    What :meth:`learn` and :meth:`project` return waits for an event and touches no stream.
    """

    def __init__(
        self,
        plan: PassPlan,
        lines: int,
        groups: int,
        components: int,
        products: Products,
        backend: CudaBackend,
    ) -> None:
        device = backend.device
        bands, samples = plan.bands, plan.samples
        tables = pass_tables(plan)
        self._plan, self._backend, self._device = plan, backend, device
        self._lines, self._components, self._products_by = lines, components, products
        self._kernels = backend.kernels(plan)
        self._keep = backend.kernels(plan, packed=True)["keep"] if plan.packed else None
        place = np.full((bands, samples), -1, np.int32)
        place[tables.fix[:, 0], tables.fix[:, 1]] = np.arange(len(tables.fix))
        self._fixes = np.int32(len(tables.fix))
        self._tables = [device.upload(table) for table in (place, tables.fix, tables.fix_weight)]
        self._line_bytes = bands * samples * plan.dtype.itemsize
        self._kept = device.empty((groups, lines, bands, samples), plan.dtype)
        self._chunk = min(max(AT_A_TIME // (bands * samples), 1), lines)
        self._batch = min(max(AT_A_TIME // bands**2, 1), self._chunk)
        self._x = device.empty((self._chunk * bands * samples,), np.float32)
        self._products = device.empty((self._batch * bands * bands,), np.float32)
        self._scores = device.empty((lines, components, samples), np.float32)
        self._peak = device.empty((components,), np.uint32)
        self._learned = [_Learned(self, bands) for _ in range(groups)]
        self._projected = [_Projected(self, components, samples) for _ in range(groups)]
        self._one = np.array([1, 0], np.float32)
        self._blas = device.cupy.cuda.cublas
        self._handle = self._blas.create()
        self._blas.setMathMode(self._handle, FLOAT32_MATH)

    def put(self, group: int, first: int, count: int, at: int) -> None:
        """Copy lines of the loaded block on the device, or unpack them."""
        backend, device = self._backend, self._device
        with device_errors("keeping lines for the PCA"):
            place = backend.await_block()
            to = self._kept_at(group, at)
            if place.packed:
                if self._keep is None or self._plan.packed is None:
                    raise DeviceError("CUDA: found a packed block, armed for counts")
                pixels = self._plan.bands * self._plan.samples
                pitch = self._plan.packed.packed_bytes(pixels)
                self._keep(
                    (-(-pixels // (VECTOR * device.shape.threads)), count),
                    (device.shape.threads,),
                    (
                        *(np.uint64(place.raw.data.ptr + first * pitch), np.uint64(to)),
                        *(np.int64(pitch), np.int64(pixels)),
                    ),
                    stream=device.stream,
                )
            else:
                source = place.raw.data.ptr + first * self._line_bytes
                size = count * self._line_bytes
                device.copy(to, source, size, DEVICE_TO_DEVICE, device.stream)
            backend.mark_read()

    def learn(
        self,
        group: int,
        lines: NDArray[np.intp],
        every: int,
        level: float,
        shift: NDArray[np.float64],
    ) -> Callable[[], Moments]:
        """Queue the sums; what is returned must be called before the group is learned again."""
        learned = self._learned[group]
        with device_errors("adding up moments"):
            learned.parcel.open()
            learned.parcel.host["about"][:] = shift
            learned.parcel.host["chosen"][: len(lines)] = lines
            learned.parcel.send()
            self._add_up(group, len(lines), every, level)
            learned.bring_out()
        return learned.result

    def project(
        self,
        group: int,
        lines: int,
        valid: NDArray[np.bool_],
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        step: float,
        out: NDArray[np.int16],
    ) -> Callable[[], NDArray[np.float32]]:
        """Queue the scores; straight into ``out`` where that is pinned."""
        components = len(basis)
        if components > self._components:
            raise DeviceError(f"CUDA: found {components} components, armed for {self._components}")
        projected = self._projected[group]
        with device_errors("projecting"):
            projected.finish()  # scores that nobody has waited for yet
            host = projected.parcel
            host.open()
            host.host["mean"][:] = mean
            host.host["basis"][:components] = basis
            host.host["valid"][:lines] = valid
            host.send()
            self._score(group, lines, components, step)
            projected.bring_out(components, out)
        return projected.result

    def warm(self) -> None:
        """Launch everything once on the armed shapes; cuBLAS makes its memory with it."""
        bands, samples = self._plan.bands, self._plan.samples
        place = self._backend.place
        for packed in (False, True) if self._keep else (False,):
            place.packed = packed
            self.put(0, 0, min(self._lines, self._plan.block_lines), 0)
        place.packed = False
        # cuBLAS has other kernels for other numbers of lines: let it load them now
        counts = {self._lines, *(1 << i for i in range(self._lines.bit_length()))}
        for count in counts:
            self.learn(0, np.arange(count), 1, float("inf"), np.zeros(bands))()
        out = np.empty((self._lines, self._components, samples), np.int16)
        self.project(
            *(0, self._lines, np.ones(self._lines, np.bool_), np.zeros(bands, np.float32)),
            *(np.zeros((self._components, bands), np.float32), 1.0, out),
        )()

    def close(self) -> None:
        """Give cuBLAS's handle back."""
        self._blas.destroy(self._handle)

    def _kept_at(self, group: int, line: int) -> int:
        return int(self._kept.data.ptr + (group * self._lines + line) * self._line_bytes)

    def _add_up(self, group: int, count: int, every: int, level: float) -> None:
        plan, device, learned = self._plan, self._device, self._learned[group]
        i4, shape = np.int32, device.shape
        bands, samples = plan.bands, plan.samples
        width = -(-samples // every)
        there = learned.parcel.device
        device.runtime.memsetAsync(learned.ptr, 0, learned.size, device.stream.ptr)
        for start in range(0, count, self._batch):
            batch = min(self._batch, count - start)
            self._kernels["centre_chosen"](
                (-(-width // shape.warp), batch),
                (shape.threads,),
                (
                    *(np.uint64(self._kept_at(group, 0)), *self._tables, there["about"]),
                    *(there["chosen"] + np.uint64(4 * start), self._x, np.uint64(learned.ptr)),
                    *(self._fixes, i4(bands), i4(samples), i4(width), i4(every)),
                    np.float32(level),
                ),
                stream=device.stream,
            )
            self._multiply(batch, width)
            self._kernels["add_moments"](
                (bands,),
                (shape.threads,),
                (
                    *(self._x, self._products, np.uint64(learned.ptr + 8)),
                    *(np.uint64(learned.ptr + 8 + 8 * bands), i4(batch), i4(bands), i4(width)),
                    i4(self._products_by == "syrk"),
                ),
                stream=device.stream,
            )
        learned.parcel.taken()

    def _multiply(self, batch: int, width: int) -> None:
        """Queue products[n] = x[n] · x[n]ᵀ; to cuBLAS, C order is the transpose."""
        bands, blas = self._plan.bands, self._blas
        x, products, one = self._x.data.ptr, self._products.data.ptr, address(self._one)
        with self._device.stream:  # CuPy gives cuBLAS the current stream
            if self._products_by == "gemm":
                blas.sgemmStridedBatched(
                    *(self._handle, TRANSPOSE, NO_TRANSPOSE, bands, bands, width, one),
                    *(x, width, bands * width, x, width, bands * width, one + 4),
                    *(products, bands, bands * bands, batch),
                )
                return
            for n in range(batch):
                blas.ssyrk(
                    *(self._handle, LOWER, TRANSPOSE, bands, width, one),
                    *(x + 4 * n * bands * width, width, one + 4),
                    *(products + 4 * n * bands * bands, bands),
                )

    def _score(self, group: int, lines: int, components: int, step: float) -> None:
        plan, device, projected = self._plan, self._device, self._projected[group]
        i4, shape = np.int32, device.shape
        bands, samples = plan.bands, plan.samples
        there, one = projected.parcel.device, address(self._one)
        for start in range(0, lines, self._chunk):
            count = min(self._chunk, lines - start)
            grid = (-(-samples // shape.span), -(-bands // shape.rows), -(-count // STRIP))
            self._kernels["centre_lines"](
                grid,
                (shape.threads,),
                (
                    *(np.uint64(self._kept_at(group, start)), *self._tables, there["mean"]),
                    *(self._x, self._fixes, i4(count), i4(bands), i4(samples)),
                ),
                stream=device.stream,
            )
            scores = self._scores.data.ptr + 4 * start * components * samples
            with device.stream:  # CuPy gives cuBLAS the current stream
                self._blas.sgemmStridedBatched(
                    *(self._handle, NO_TRANSPOSE, NO_TRANSPOSE, samples, components, bands, one),
                    *(self._x.data.ptr, samples, bands * samples),
                    *(int(there["basis"]), bands, 0, one + 4),
                    *(scores, samples, components * samples, count),
                )
        device.runtime.memsetAsync(self._peak.data.ptr, 0, self._peak.nbytes, device.stream.ptr)
        rows, both = (components, lines), (i4(components), i4(samples))
        self._kernels["peak_scores"](
            *(rows, (shape.threads,), (self._scores, there["valid"], self._peak, *both)),
            stream=device.stream,
        )
        device.stream.wait_event(projected.done)  # the scores before have gone out
        self._kernels["round_scores"](
            rows,
            (shape.threads,),
            (
                *(self._scores, there["valid"], self._peak, projected.scores, projected.longer),
                *(np.float32(1 / step), *both),
            ),
            stream=device.stream,
        )
        projected.parcel.taken()


class _Learned:
    """Moments of one group: on the device, and pinned on the host."""

    def __init__(self, math: CudaGroupMath, bands: int) -> None:
        self._device = device = math._device
        self._backend, self._bands = math._backend, bands
        fields = {"about": ((bands,), np.float32), "chosen": ((math._lines,), np.int32)}
        self.parcel = Parcel(device, fields)
        # spectra used (in the first four bytes), Σ x, Σ x·xᵀ
        self._sums = device.empty((1 + bands + bands * bands,), np.float64)
        self._host = device.pinned(self._sums.shape, np.float64)
        self._computed, self._done = device.event(), device.event()
        self.ptr, self.size = int(self._sums.data.ptr), int(self._sums.nbytes)

    def bring_out(self) -> None:
        """Queue the copy of the moments to the host."""
        device = self._device
        self._computed.record(device.stream)
        device.stream_out.wait_event(self._computed)
        self._backend.copy_out(address(self._host), self.ptr, self.size)
        self._done.record(device.stream_out)

    def result(self) -> Moments:
        """Wait for the moments; by any thread."""
        with device_errors("adding up moments"):
            self._done.synchronize()
        bands = self._bands
        used = int(self._host[:1].view(np.uint32)[0])
        products = self._host[1 + bands :].reshape(bands, bands).copy()
        return used, self._host[1 : 1 + bands].copy(), products


class _Projected:
    """Scores of one group: on the device, and pinned on the host for an ``out`` that is not."""

    def __init__(self, math: CudaGroupMath, components: int, samples: int) -> None:
        self._device = device = math._device
        self._backend = math._backend
        lines, bands = math._lines, math._plan.bands
        self.parcel = Parcel(
            device,
            {
                "mean": ((bands,), np.float32),
                "basis": ((components, bands), np.float32),
                "valid": ((lines,), np.uint8),
            },
        )
        self.scores = device.empty((lines, components, samples), np.int16)
        self.longer = device.empty((components,), np.float32)
        self._longer_host = device.pinned((components,), np.float32)
        self._host = device.pinned((lines * components * samples,), np.int16)
        self._computed, self.done = device.event(), device.event()
        self._components = 0
        self._out: NDArray[np.int16] | None = None  # still to be filled from pinned memory

    def bring_out(self, components: int, out: NDArray[np.int16]) -> None:
        """Queue the copies to the host."""
        device, backend = self._device, self._backend
        self._computed.record(device.stream)
        device.stream_out.wait_event(self._computed)
        straight = backend.is_pinned(address(out), out.nbytes)
        to = address(out) if straight else address(self._host)
        backend.copy_out(to, self.scores.data.ptr, out.nbytes)
        backend.copy_out(address(self._longer_host), self.longer.data.ptr, 4 * components)
        self.done.record(device.stream_out)
        self._components, self._out = components, None if straight else out

    def finish(self) -> None:
        """Wait for the scores that are under way, and fill their ``out``."""
        if self._out is not None:
            self.done.synchronize()
            self._out[...] = self._host[: self._out.size].reshape(self._out.shape)
            self._out = None

    def result(self) -> NDArray[np.float32]:
        """Wait for the scores; gives how much longer each basis vector is to be."""
        with device_errors("projecting"):
            self.done.synchronize()
            self.finish()
        return self._longer_host[: self._components].copy()
