"""Codings on a GPU: blocks that several threads hand in, a few of them under way at a time.

What a block decodes to is, bit for bit, what the CPU's decoder gives. Knows the codings, the CUDA
device and the kernels beside this file; it is imported when a GPU is asked for.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.coding.cuda_blocks import read_pca, read_predicted
from pipeline.coding.cuda_decode import Block, Decoding, most_threads
from pipeline.coding.cuda_encode import Encoding, fitted_matrix
from pipeline.coding.cuda_memory import Place
from pipeline.coding.interface import BlockShape, Encoded, Pixels, check_pixels
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.sections import bad
from pipeline.coding.smallest import SmallestCoding
from pipeline.compute.cuda_device import Device, Shape, device_errors, import_cupy
from pipeline.errors import ContainerError, DeviceError

#: Compiled together, in this order.
SOURCES: Final = tuple(
    Path(__file__).with_name(name)
    for name in (
        *("coded_rows.h", "decode_rows.cu", "decode_pixels.cu"),
        *("encode_rows.cu", "encode_pixels.cu"),
    )
)
KERNELS: Final = (
    *("build_slots", "decode_symbols", "count_escapes", "add_escapes", "join_values"),
    *("settle", "restore", "put_masked", "add_up", "put_together"),
    *("sum_rows", "count_values", "find_symbols", "put_escaped", "encode_symbols"),
    *("centre", "add_products", "round_scores", "take_residual", "measure"),
)
#: C types of the pixels.
PIXEL_TYPES: Final = {
    "u1": "unsigned char",
    "i1": "signed char",
    "u2": "unsigned short",
    "i2": "short",
}
#: cuBLAS's name of products in float32 and not in TF32.
FLOAT32_MATH: Final = 0
#: Steps of a stream, one after the other, that a GPU is asked to do: some seconds.
MOST_STEPS: Final = 1 << 24
#: Blocks under way on the GPU at a time: copies of some, arithmetic of others.
DEPTH: Final = 4

CodingOnCuda = PcaCoding | PredictedCoding | SmallestCoding


def compile_options(dtype: np.dtype[Any], shape: Shape | None = None) -> tuple[str, ...]:
    """Give NVRTC's options for kernels on pixels of a type."""
    shape = shape or Shape()
    return (
        *("--std=c++17", "--fmad=false", "--ftz=false"),
        f"-DPIXEL={PIXEL_TYPES[dtype.kind + str(dtype.itemsize)]}",
        *(f"-DWARP={shape.warp}", f"-DMOST_THREADS={most_threads(shape)}"),
    )


class Coder:
    """A GPU that codes blocks.

    Parameters
    ----------
    cupy : module, optional
        What stands for CuPy; CuPy itself by default.
    shape : Shape, optional
        How the device is cut up.
    depth : int
        Blocks under way at most; their memory is kept for the next.

    Raises
    ------
    DeviceError
        Where there is no usable GPU.
    """

    def __init__(self, cupy: Any = None, shape: Shape | None = None, depth: int = DEPTH) -> None:
        cupy = import_cupy() if cupy is None else cupy
        self._shape = shape or Shape()
        with device_errors("making streams"):
            self.device = Device(cupy, self._shape)
            self._places: queue.LifoQueue[Place] = queue.LifoQueue()
            for _ in range(depth):
                self._places.put(self.make_place())
        self._modules: dict[tuple[str, ...], dict[str, Any]] = {}
        self._compiling = threading.Lock()

    def make_place(self) -> Place:
        """Make what one block at a time needs."""
        return Place(self.device)

    def decode(self, block: Block, shape: BlockShape, lines: int) -> Pixels:
        """Decode a block that was read.

        Raises
        ------
        ContainerError
            When it is damaged.
        DeviceError
            When the GPU fails.
        """
        with device_errors("decoding a block"), self._place() as place:
            kernels = self._kernels(shape.dtype)
            return Decoding(place, kernels, block, shape, lines, self._shape).run()

    def encode(self, coding: PcaCoding | PredictedCoding, pixels: Pixels) -> Encoded:
        """Code a block, on the CPU where there are no kernels for it.

        Raises
        ------
        ConfigError
            When the pixels cannot be coded so.
        DeviceError
            When the GPU fails.
        """
        if not isinstance(coding, PcaCoding) or coding.name != "packed":
            return coding.encode(pixels)
        pixels = check_pixels(pixels, coding.shape, coding.block_lines)
        matrix = fitted_matrix(coding, pixels)
        if not matrix.rows.size:
            return coding.encode(pixels)
        with device_errors("coding a block"), self._place() as place:
            kernels = self._kernels(coding.shape.dtype)
            encoding = Encoding(place, kernels, coding, pixels, matrix, self._shape)
            blas = self.device.cupy.cuda.cublas
            if place.handle is None:
                place.handle = blas.create()
                blas.setMathMode(place.handle, FLOAT32_MATH)
                weakref.finalize(place, blas.destroy, place.handle)
            return encoding.run(blas, place.handle)

    @contextmanager
    def _place(self) -> Iterator[Place]:
        """Lend a place, waiting for one."""
        place = self._places.get()
        try:
            place.clear()
            yield place
        except BaseException:
            with suppress(Exception):  # a failed device has nothing to wait for
                place.stream.synchronize()
            raise
        finally:
            self._places.put(place)

    def _kernels(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        options = compile_options(dtype, self._shape)
        with self._compiling:
            if options not in self._modules:
                self._modules[options] = self.device.module(options, SOURCES, KERNELS)
            return self._modules[options]


@dataclass(frozen=True)
class CudaCoding:
    """A coding whose blocks a GPU decodes; see ``Coding``.

    Parameters
    ----------
    coding : PcaCoding, PredictedCoding or SmallestCoding
    coder : Coder
    """

    coding: CodingOnCuda
    coder: Coder

    @property
    def name(self) -> str:
        """As of the coding."""
        return self.coding.name

    @property
    def file_type(self) -> str:
        """As of the coding."""
        return self.coding.file_type

    @property
    def block_lines(self) -> int:
        """As of the coding."""
        return self.coding.block_lines

    @property
    def shape(self) -> BlockShape:
        """As of the coding."""
        return self.coding.shape

    def fields(self) -> dict[str, object]:
        """As of the coding."""
        return self.coding.fields()

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block; see ``Coding``.

        PCA ``packed`` on the GPU, all else on the CPU. Sums of floating-point numbers differ, and
        so may the bytes; the error is measured either way.
        """
        coding = self.coding
        if isinstance(coding, SmallestCoding):
            return coding.smaller(pixels, self.coder.encode)
        return self.coder.encode(coding, pixels)

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``.

        What is damaged the CPU's decoder is given, too, so that the sentence is the same; and what
        has so few lanes that a GPU would be at it for minutes, which no encoder writes.

        Raises
        ------
        ContainerError
            When the bytes are no such block.
        DeviceError
            When the GPU fails, or finds damage where the CPU finds none.
        """
        try:
            view = memoryview(data).cast("B")
            if isinstance(self.coding, SmallestCoding) and (found := self.coding.split(view)):
                sides = [replace(self, coding=part).decode(side, lines) for part, side in found]
                return np.concatenate(sides, axis=2)
            block = self._read(view, lines)
            if block.steps() > MOST_STEPS:
                return self.coding.decode(data, lines)
            return self.coder.decode(block, self.shape, lines)
        except ContainerError as error:
            self.coding.decode(data, lines)
            raise DeviceError(
                f"CUDA: found what the CPU decodes without it: {error}; --backend cpu reads it"
            ) from error

    def _read(self, view: memoryview, lines: int) -> Block:
        coding = self.coding
        if isinstance(coding, PcaCoding):
            return read_pca(view, self.shape, lines, coding.name)
        if isinstance(coding, PredictedCoding):
            return read_predicted(view, self.shape, lines)
        if not len(view) or view[0] not in (1, 2):
            raise bad("no coding that is known")
        if view[0] == 1:
            return read_predicted(view[1:], self.shape, lines)
        return read_pca(view[1:], self.shape, lines, "packed")
