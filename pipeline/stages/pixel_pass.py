"""The pixel pass as a stage: correction, bad pixels, counts, quality mask, preview sums.

One read of each raw pixel; outputs are switched on by who asks for them. Knows the compute
interface; the arithmetic is the backend's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.columns import BlockFactors
from pipeline.compute.interface import Backend, PixelPass
from pipeline.compute.tables import pass_tables
from pipeline.stages.preview import finest_level
from pipeline.stages.stage import BlockResult, EnginePlan


@dataclass(slots=True)
class PreviewSums:
    """What a block adds to the finest preview; handed on as ``preview sums``.

    Attributes
    ----------
    sums : ndarray of float32, (rows, bands, cells)
        Row 0 continues the row that the block before left incomplete.
    means : ndarray, (rows, bands, cells), or None
        Finished rows, where all lines of a row are in this block; their sums count for nothing
        where no coarser previews are made. None: they are to be made of the sums.
    pixels : ndarray of int64, (rows,)
        Valid lines in each sum.
    phase : int
        Lines that row 0 already had, valid or not.
    """

    sums: NDArray[np.float32]
    means: NDArray[Any] | None
    pixels: NDArray[np.int64]
    phase: int


class PixelPassStage:
    """Correction, bad pixels, counts, quality mask and preview sums.

    Takes ``raw``, ``valid``, and ``correction`` where reflectance is asked for. Yields ``counts``;
    ``reflectance``, ``quality`` and ``preview sums`` where they are asked for.
    """

    name = "pixel pass"

    def __init__(self, plan: EnginePlan) -> None:
        factor, self._coarser = finest_level(plan.samples) if plan.preview else (0, False)
        takes, yields = {"raw", "valid"}, {"counts"}
        if plan.reflectance is not None:
            takes.add("correction")
            yields.add("reflectance")
        if plan.quality:
            yields.add("quality")
        if plan.preview:
            yields.add("preview sums")
        self.takes, self.yields = frozenset(takes), frozenset(yields)
        self._plan = plan
        self._factor = factor
        self._line = 0
        self._operation: PixelPass | None = None
        self._factors: BlockFactors | None = None
        self._bad = np.zeros(0, np.uint32)
        self._phases: deque[int] = deque()  # of the blocks under way
        self._untrusted: deque[int] = deque()  # lines of theirs

    def arm(self, backend: Backend) -> None:
        """Make the outputs and compile the kernel."""
        plan = self._plan.pass_plan(preview_factor=self._factor, coarser=self._coarser)
        self._operation = backend.pixel_pass(plan)
        if self._plan.line_factors is not None:
            self._factors = BlockFactors(self._plan.line_factors, plan.dtype, plan.block_lines)
        self._bad = np.full(plan.block_lines, pass_tables(plan).bad, np.uint32)
        self._bad_of_block = self._bad.copy()

    def begin(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Start the fused kernel on the block."""
        assert self._operation is not None, "begin before arm"
        phase = self._line % self._factor if self._factor else 0
        self._line += len(raw)
        self._phases.append(phase)
        factors, untrusted = None, 0
        if self._factors is not None:
            factors, untrusted = self._factors.of(raw, valid)
        self._untrusted.append(untrusted)
        self._operation.start(valid, phase, factors)

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_], result: BlockResult) -> None:
        """Wait for the kernel, and hand on what it made of the block."""
        plan, lines = self._plan, len(raw)
        assert self._operation is not None, "process before arm"
        phase = self._phases.popleft()
        result.untrusted = self._untrusted.popleft()
        out, result.clipped = self._operation.wait()
        result.saturated = out.saturated[:lines]
        result.below_dark = out.below_dark[:lines]
        result.bad = np.multiply(self._bad[:lines], valid, out=self._bad_of_block[:lines])
        if plan.reflectance is not None:
            result.reflectance = out.reflectance[:lines]
        if plan.quality:
            result.quality = out.quality[:lines]
        if self._factor:
            rows = -(-(lines + phase) // self._factor)
            lines_of = np.zeros(rows * self._factor, np.int64)
            lines_of[phase : phase + lines] = valid
            result.between["preview sums"] = PreviewSums(
                out.sums[:rows],
                None if out.means is None else out.means[:rows],
                lines_of.reshape(rows, self._factor).sum(axis=1),
                phase,
            )

    def finish(self, result: BlockResult) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to give back."""
