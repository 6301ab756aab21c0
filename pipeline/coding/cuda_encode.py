"""Codes a block of PCA ``packed`` on a GPU; the host takes it apart and finds eigenvectors.

What is measured is what a decoder makes of the block: the residual is taken against the same whole
numbers, and the error over the pixels that are put together of them. Knows the coding's aims, a
place's memory and the kernels.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, Final

import numpy as np

from pipeline.coding.apart import Matrix, take_apart
from pipeline.coding.cuda_blocks import read_aside
from pipeline.coding.cuda_decode import MATRIX, ROWS_EACH, queue_together
from pipeline.coding.cuda_fit import Components, Model
from pipeline.coding.cuda_fitted import Fitted
from pipeline.coding.cuda_memory import Place
from pipeline.coding.cuda_rows import RowCoder
from pipeline.coding.interface import BlockStats, Encoded, Masks, Noise, Pixels
from pipeline.coding.pca import PcaCoding
from pipeline.coding.pca_fit import LARGEST
from pipeline.coding.rans import encode_rows
from pipeline.coding.rebuild import STEP_BITS
from pipeline.coding.sections import Sections, deflated
from pipeline.compute.cuda_device import Shape

#: Step of the scores of a bounded block, in intervals 2 d + 1.
FACTOR: Final = 1.5
#: Steps that are tried for a ratio; how close to its bytes a block is good enough, and aimed at.
TRIALS: Final = 12
MOST_TRIALS: Final = 40
CLOSE: Final = 0.95
AIMED: Final = 0.98


class Encoding:
    """One block on its way through a place.

    Parameters
    ----------
    place : Place
        Cleared by whoever lends it.
    kernels : dict
    coding : PcaCoding
        ``packed``.
    pixels : ndarray (lines, bands, samples)
    matrix : Matrix
        What is fitted of it; not empty.
    threads : Shape
    """

    def __init__(
        self,
        place: Place,
        kernels: dict[str, Any],
        coding: PcaCoding,
        pixels: Pixels,
        matrix: Matrix,
        threads: Shape,
    ) -> None:
        self._place, self._kernels, self._coding = place, kernels, coding
        self._pixels, self._matrix, self._threads = pixels, matrix, threads
        self._aside = read_aside(Sections(matrix.apart), coding.shape, len(pixels))
        self._plan()

    def _plan(self) -> None:
        """Ask for memory, and let go up what is known."""
        place, matrix, shape = self._place, self._matrix, self._coding.shape
        rows, columns = matrix.rows.shape
        self._components = Components(place, self._start, matrix, self._threads.threads)
        self._parts = {
            **self._components.parts,
            "pixels": place.send(self._pixels),
            "basis": place.later(4 * rows * rows),
        }
        if matrix.masked is not None:
            self._parts["masked"] = place.send(matrix.masked.view(np.uint8))
        self._together = queue_together(place, self._aside)
        rooms = {
            "decoded": shape.dtype.itemsize * rows * columns,
            "sums": 24 * len(self._pixels) * shape.samples,
            "top": 4,
            "out": self._pixels.nbytes,
        }
        self._parts |= {name: place.room(nbytes) for name, nbytes in rooms.items()}
        self._rows = RowCoder(place, self._start, rows, columns, self._threads)

    def run(self, blas: Any, handle: int) -> Encoded:
        """Code it, with a handle of cuBLAS that nobody else uses meanwhile."""
        self._place.begin()
        fit = self._components.fit(blas, handle)
        aim, around = self._coding.aim, struct.calcsize("<HH") + len(self._matrix.apart)
        bound = aim.max_error
        if bound is not None:
            model = self._components.model(fit, _units(FACTOR * (2 * bound + 1)))
            coded = self._model_bytes(model)
        elif aim.ratio is not None:
            model, coded = self._within(fit, self._pixels.nbytes / aim.ratio - around)
        else:
            level = float(self._components.means.mean())
            model = self._components.model(fit, _units((aim.noise or Noise(1.0)).sigma(level)))
            coded = self._model_bytes(model)
        self._settle(model)
        parts = [struct.pack("<HH", bound or 0, len(model.basis)), self._matrix.apart, coded]
        if bound is not None:
            parts.append(self._residual(bound))
        stats = self._measured(len(model.basis))
        if len(model.basis):
            step = model.step / (1 << STEP_BITS)
            stats = replace(stats, steps=(step, step))
        return Encoded(b"".join(parts), stats)

    def _model_bytes(self, model: Model) -> bytes:
        basis = model.basis
        lowest = np.bitwise_or.reduce(basis, axis=1).tolist()
        zeros = np.array([((v & -v).bit_length() - 1) if v else 0 for v in lowest], np.uint8)
        return b"".join(
            (
                self._components.means.astype("<i4").tobytes(),
                deflated(zeros),
                encode_rows((basis >> zeros[:, None].astype(np.int32)).astype(np.int32)),
                struct.pack("<BI", self._coding.aim.max_error is not None, model.step),
                self._rows.code(self._parts["scores"], len(basis), self._matrix.rows.shape[1]),
            )
        )

    def _within(self, fit: Fitted, budget: float) -> tuple[Model, bytes]:
        """Find a small step whose bytes, counted, are within the budget."""
        best: tuple[Model, bytes] | None = None
        tried, low = fit.guess(budget), 0
        for trial in range(MOST_TRIALS):
            model = self._components.model(fit, tried)
            coded = self._model_bytes(model)
            size = len(coded)
            if size > budget:
                low = max(low, tried)
            elif best is None or model.step < best[0].step:
                best = model, coded
            if CLOSE * budget < size <= budget or not len(model.basis):
                break
            wanted = max(1, round(tried * size / max(AIMED * budget, 1.0)))
            if best is None:
                tried = max(wanted, tried + 1)
                if tried > LARGEST:
                    break
                continue
            # Between a step too small and one small enough; in the middle where bytes change with
            # the step in another way than they mostly do.
            high = best[0].step
            if trial >= TRIALS or high - low < 2:
                break
            tried = wanted if low < wanted < high else round((max(low, 1) * high) ** 0.5)
            tried = min(max(tried, low + 1), high - 1)
        if best is None or best[0].step == model.step:
            return model, coded
        return self._components.model(fit, best[0].step), best[1]

    def _settle(self, model: Model) -> None:
        """Queue what a decoder makes of the model."""
        rows, columns = self._matrix.rows.shape
        info = np.iinfo(self._coding.shape.dtype)
        self._place.put(self._parts["basis"], model.basis)
        fields = np.zeros((), MATRIX)
        fields["first"], fields["scores"] = self._at("basis"), self._at("scores")
        fields["means"], fields["out"] = self._at("means"), self._at("decoded")
        fields["rows"], fields["columns"], fields["count"] = rows, columns, len(model.basis)
        fields["step"], fields["least"], fields["most"] = model.step, info.min, info.max
        threads = self._threads.threads
        self._start("settle", (-(-rows // ROWS_EACH) * -(-columns // threads),), threads, fields)

    def _residual(self, bound: int) -> bytes:
        """Code what the decoded matrix lacks, and add it as a decoder does."""
        rows, columns = self._matrix.rows.shape
        info, at = np.iinfo(self._coding.shape.dtype), self._at
        self._over(
            "take_residual", rows * columns, at("rows"), at("decoded"), at("masked"), at("exact"),
            np.uint32(bound), np.int32(info.min), np.int32(info.max), np.uint64(rows * columns),
        )  # fmt: skip
        return self._rows.code(self._parts["exact"], rows, columns)

    def _measured(self, components: int) -> BlockStats:
        """Measure the block that a decoder puts together, over all pixels."""
        place, at, shape = self._place, self._at, self._coding.shape
        pixels = len(self._pixels) * shape.samples
        self._together(
            self._start, self._threads.threads, shape, len(self._pixels),
            self._parts["decoded"], self._parts["out"],
        )  # fmt: skip
        place.zero(self._parts["top"])
        self._over(
            "measure", pixels, at("pixels"), at("out"), at("sums"), at("top"),
            np.uint32(shape.bands), np.uint32(shape.samples), np.uint64(pixels),
        )  # fmt: skip
        sums, top = place.fetch(self._parts["sums"], self._parts["top"])
        aa, ae, ee = sums.view(np.int64).reshape(3, pixels).astype(np.float64)
        there, back = aa > 0, aa + 2 * ae + ee > 0
        seen, alone = there & back, int((there ^ back).sum())
        across = np.sqrt(np.maximum(aa * ee - ae * ae, 0.0))[seen]
        angle = float(np.arctan2(across, (aa + ae)[seen]).sum()) + alone * np.pi / 2
        return BlockStats(
            *(self._pixels.size, int(top.view(np.uint32)[0]), float(ee.sum())),
            *(angle, int(seen.sum()) + alone),
            *(self._components.learned, components),
        )

    def _at(self, name: str) -> np.uint64:
        """Give the address of a part; 0 where there is none."""
        return self._place.at(self._parts[name]) if name in self._parts else np.uint64(0)

    def _over(self, name: str, count: int, *arguments: Any) -> None:
        """Queue a kernel over so many threads."""
        threads = self._threads.threads
        self._start(name, (-(-count // threads),), threads, *arguments)

    def _start(self, name: str, grid: tuple[int, ...], threads: int, *arguments: Any) -> None:
        self._kernels[name](grid, (threads,), arguments, stream=self._place.stream)


def fitted_matrix(coding: PcaCoding, pixels: Pixels) -> Matrix:
    """Take a block apart as its coding's aim asks for."""
    return take_apart(pixels, coding.aim.masks if coding.aim.max_error != 0 else Masks())


def _units(counts: float) -> int:
    return max(1, round(counts * (1 << STEP_BITS)))
