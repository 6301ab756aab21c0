"""Mean, components and scores of a block's matrix on a GPU; eigenvectors by the host.

Products of spectra are formed by cuBLAS in float32 about the mean, those of parts of the columns
added in float64. Knows a place's memory, the kernels in ``encode_pixels.cu`` and what is decided
of their sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.apart import Matrix
from pipeline.coding.cuda_decode import chunks_of
from pipeline.coding.cuda_fitted import Fitted, is_exact
from pipeline.coding.cuda_memory import Part, Place
from pipeline.coding.cuda_rows import Start
from pipeline.coding.rebuild import STEP_BITS
from pipeline.compute.cuda_device import DEVICE_TO_DEVICE, address

#: Scores go to the next whole step from this fraction of it on.
ROUND_UP: Final = 0.6
#: Spectra whose mean is what scores are about.
MEAN_OF: Final = 4096
#: Columns whose products are added in float32 at least, and products that are held at a time.
PART: Final = 1024
PRODUCTS: Final = 16 << 20
#: cuBLAS's names.
NO_TRANSPOSE, TRANSPOSE = 0, 1


@dataclass(frozen=True)
class Model:
    """Basis of a block, (components, rows) in 2⁻¹⁵, and step in 1/16 counts; scores lie there."""

    basis: NDArray[np.int32]
    step: int


class Components:
    """The components of one matrix.

    Parameters
    ----------
    place : Place
        Not begun yet.
    start : callable
        Queues a kernel: name, grid, threads, arguments.
    matrix : Matrix
    threads : int
        Of a block.

    Attributes
    ----------
    means : ndarray of int32 (rows,)
    learned : int
        Spectra that are learned from.
    parts : dict of Part
        ``rows``, ``means``, ``scores``; and ``exact``, float32 scores, of no use once they were
        rounded for good.
    """

    def __init__(self, place: Place, start: Start, matrix: Matrix, threads: int) -> None:
        self._place, self._start, self._threads = place, start, threads
        self._matrix = matrix
        rows, columns = matrix.rows.shape
        some = matrix.rows[:, :: max(1, columns // MEAN_OF)]
        self.means: NDArray[np.int32] = np.rint(some.mean(axis=1)).astype(np.int32)
        chosen = matrix.learnable()
        self.learned = len(chosen)
        self.parts: dict[str, Part] = {
            "rows": place.send(matrix.rows),
            "means": place.send(self.means),
            "vectors": place.later(4 * rows * rows),
        }
        if len(chosen) < columns:
            flags = np.zeros(columns, np.uint8)
            flags[chosen] = 1
            self.parts["flags"] = place.send(flags)
        self._width = max(PART, -(-columns * rows * rows // PRODUCTS))
        chunks = chunks_of(columns, threads)
        rooms = {
            "centred": 4 * rows * columns,
            "exact": 4 * rows * columns,
            "scores": 4 * rows * columns,
            "products": 4 * rows * rows * -(-columns // self._width),
            "scatter": 8 * rows * rows,
            "saved": 4 * rows * chunks,
            "hits": 4 * rows * chunks,
            "tops": 4 * rows,
        }
        self.parts |= {name: place.room(nbytes) for name, nbytes in rooms.items()}
        self._one = np.array([1, 0], np.float32)
        self._projected = 0

    def fit(self, blas: Any, handle: int) -> Fitted:
        """Find sums of products and eigenvectors, with a handle of cuBLAS for this block alone."""
        self._blas, self._handle = blas, handle
        rows, columns = self._matrix.rows.shape
        at, place = self._at, self._place
        self._over(
            "centre", rows * columns, at("rows"), at("means"), at("flags"), at("centred"),
            np.uint64(columns), np.uint64(rows * columns),
        )  # fmt: skip
        whole, size = columns // self._width, np.uint64(rows * rows)
        for first, width, count in (
            (0, self._width, whole),
            (whole * self._width, columns - whole * self._width, 1),
        ):
            if not width * count:
                continue
            x = int(at("centred")) + 4 * first
            one = address(self._one)
            with place.stream:  # CuPy gives cuBLAS the current stream
                self._blas.sgemmStridedBatched(
                    *(self._handle, TRANSPOSE, NO_TRANSPOSE, rows, rows, width, one),
                    *(x, columns, width, x, columns, width, one + 4),
                    *(int(at("products")), rows, rows * rows, count),
                )
            self._over(
                "add_products", rows * rows, at("products"), at("scatter"), np.uint32(count), size,
                np.uint32(first > 0),
            )  # fmt: skip
        (found,) = place.fetch(self.parts["scatter"])
        scatter = found.view(np.float64).reshape(rows, rows).copy()
        if "flags" in self.parts:  # scores are of all columns
            self._over(
                "centre", rows * columns, at("rows"), at("means"), np.uint64(0), at("centred"),
                np.uint64(columns), np.uint64(rows * columns),
            )  # fmt: skip
        return Fitted.of(self.means, scatter, columns, self.learned)

    def model(self, fit: Fitted, step: int) -> Model:
        """Quantise with a step; a larger one where products would not be exact."""
        while True:
            model, top = self._quantised(fit, step)
            if is_exact(model.basis, top, step, self.means):
                return model
            step *= 2

    def _quantised(self, fit: Fitted, whole: int) -> tuple[Model, int]:
        rows, columns = self._matrix.rows.shape
        step, place, at = whole / (1 << STEP_BITS), self._place, self._at
        count = fit.count(step)
        if not count:
            return Model(np.zeros((0, rows), np.int32), whole), 0
        self._project(fit, count)
        threads = self._threads
        chunks = chunks_of(columns, threads)
        place.zero(self.parts["tops"])
        self._start(
            "round_scores", (count * chunks,), threads, at("exact"), at("scores"),
            np.float32(1 / step), np.float32(1 - ROUND_UP), at("saved"), at("hits"), at("tops"),
            np.uint64(columns),
        )  # fmt: skip
        parts = [self.parts[n].cut(4 * count * m) for n, m in
                 (("saved", chunks), ("hits", chunks), ("tops", 1))]  # fmt: skip
        saved, hits, tops = place.fetch(*parts)
        kept, basis = fit.keep(
            step,
            saved.view(np.float32).reshape(count, chunks).sum(axis=1, dtype=np.float64),
            hits.view(np.uint32).reshape(count, chunks).sum(axis=1, dtype=np.int64),
        )
        top = int(tops.view(np.uint32)[kept].max()) if len(kept) else 0
        for to, source in enumerate(kept.tolist()):
            if to != source:
                scores = int(at("scores"))
                place.device.copy(
                    *(scores + 4 * to * columns, scores + 4 * source * columns, 4 * columns),
                    *(DEVICE_TO_DEVICE, place.stream),
                )
        return Model(basis, whole), top

    def _project(self, fit: Fitted, count: int) -> None:
        """Queue the scores of the first components, in counts."""
        if count <= self._projected:
            return
        rows, columns = self._matrix.rows.shape
        place, at, one = self._place, self._at, address(self._one)
        place.put(self.parts["vectors"], fit.vectors[:count].astype(np.float32))
        with place.stream:
            self._blas.sgemmStridedBatched(
                *(self._handle, NO_TRANSPOSE, NO_TRANSPOSE, columns, count, rows, one),
                *(int(at("centred")), columns, 0, int(at("vectors")), rows, 0, one + 4),
                *(int(at("exact")), columns, 0, 1),
            )
        self._projected = count

    def _at(self, name: str) -> np.uint64:
        """Give the address of a part; 0 where there is none."""
        return self._place.at(self.parts[name]) if name in self.parts else np.uint64(0)

    def _over(self, name: str, count: int, *arguments: Any) -> None:
        """Queue a kernel over so many threads."""
        self._start(name, (-(-count // self._threads),), self._threads, *arguments)
