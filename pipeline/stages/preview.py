"""The preview pyramid, built while the lines arrive.

The pixel pass sums each cell of the finest level; this stage turns complete rows into means and
halves them from level to level. Nothing is read a second time. The thumbnail is made from the
finished preview by :mod:`pipeline.stages.thumbnail`. Knows NumPy and the stage protocol.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import Backend
from pipeline.compute.tables import pass_tables
from pipeline.reflectance import IGNORE, SCALE
from pipeline.stages.stage import BlockResult, EnginePlan
from pipeline.stages.thumbnail import thumbnail_jpeg

__all__ = ["PreviewStage", "finest_factor", "preview_levels", "thumbnail_jpeg"]

#: Widest ``preview`` (level 0), samples.
PREVIEW_WIDTH: Final = 256
#: Samples and lines to a cell of the finest level: 1/16 of the cube's pixels at most.
FINEST: Final = 4


def preview_levels(samples: int) -> list[int]:
    """Give the factor (samples and lines to a cell) of each level, ``preview`` (level 0) first.

    ``preview`` is at most 256 samples wide, each further level is twice as large as the one before,
    the last at most 1/16 of the cube's pixels. A level has ``ceil(n / factor)`` rows and samples.
    """
    factor = FINEST
    while -(-samples // factor) > PREVIEW_WIDTH:
        factor *= 2
    return [factor >> level for level in range((factor // FINEST).bit_length())]


def finest_factor(samples: int) -> int:
    """Give the factor of the finest level, whose sums the pixel pass makes."""
    return preview_levels(samples)[-1]


class PreviewStage:
    """Takes ``preview sums``, yields ``previews``: finished rows of every level.

    Where there are references the rows are int16 reflectance × 10000 with −32768 where no pixel of
    a cell is valid, else float32 mean counts with NaN there.
    """

    name = "preview"
    takes = frozenset({"preview sums"})
    yields = frozenset({"previews"})

    def __init__(self, plan: EnginePlan) -> None:
        self._plan = plan
        self._factors = preview_levels(plan.samples)
        self._levels: list[_Level] = []  # finest first, unlike the numbering

    def arm(self, backend: Backend) -> None:
        """Make the rows of every level."""
        plan = self._plan
        factor = self._factors[-1]
        tables = pass_tables(plan.pass_plan(preview_factor=factor))
        dtype = np.dtype(np.float32 if plan.correction is None else np.int16)
        rows = (plan.block_lines + factor - 2) // factor + 1
        weight = tables.cells
        self._levels = []
        for _ in self._factors:
            self._levels.append(_Level(weight, rows, dtype))
            weight = _halve(weight)
            rows = rows // 2 + 1

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_], result: BlockResult) -> None:
        """Add the block's sums; rows that are complete now go into ``result.previews``."""
        taken = result.between["preview sums"]
        factor = self._factors[-1]
        finest = self._levels[0]
        for row, (sums, lines) in enumerate(zip(taken.sums, taken.pixels, strict=True)):
            finest.add(sums, int(lines))
            if (row + 1) * factor <= taken.phase + len(raw):
                self._complete(0)
            else:
                finest.begun = True
        self._collect(result)

    def finish(self, result: BlockResult) -> None:
        """Complete the rows that have begun, with the lines there are."""
        for level, state in enumerate(self._levels):
            if state.begun:
                self._complete(level)
        self._collect(result)

    def _complete(self, level: int) -> None:
        """Store the row that is gathered in a level, and hand its sums on to the next."""
        state = self._levels[level]
        state.store()
        if level + 1 < len(self._levels):
            coarser = self._levels[level + 1]
            coarser.add(_halve(state.sums), state.lines)
            coarser.halves += 1
            coarser.begun = True
            if coarser.halves == 2:
                self._complete(level + 1)
        state.clear()

    def _collect(self, result: BlockResult) -> None:
        for number, state in zip(reversed(range(len(self._levels))), self._levels, strict=True):
            if state.stored:
                result.previews.append((number, state.rows[: state.stored]))
                state.stored = 0


class _Level:
    """One level: the row being gathered, and the rows stored since they were last collected."""

    def __init__(self, weight: NDArray[np.float32], rows: int, dtype: np.dtype[Any]) -> None:
        self.sums = np.zeros(weight.shape, np.float32)
        self.lines = 0  # valid ones in the sums
        self.halves = 0  # rows of the finer level in the sums
        self.begun = False
        self.rows = np.empty((rows, *weight.shape), dtype)
        self.stored = 0
        self._weight = weight  # valid pixels of a cell in one line
        self._mean = np.empty(weight.shape, np.float32)

    def add(self, sums: NDArray[np.float32], lines: int) -> None:
        """Add sums of cells over so many valid lines."""
        self.sums += sums
        self.lines += lines

    def store(self) -> None:
        """Put the mean of the gathered row behind the rows already stored."""
        mean = np.multiply(self._weight, self.lines, out=self._mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(self.sums, mean, out=mean)
        row = self.rows[self.stored]
        if row.dtype == np.float32:
            row[:] = mean
        else:
            unknown = np.isnan(mean)
            mean *= SCALE
            np.clip(np.rint(mean, out=mean), -32767, 32767, out=mean)
            mean[unknown] = IGNORE
            row[:] = mean
        self.stored += 1

    def clear(self) -> None:
        """Begin the next row."""
        self.sums[:] = 0
        self.lines = self.halves = 0
        self.begun = False


def _halve(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add neighbouring cells of a row, (bands, cells) → (bands, ceil(cells / 2))."""
    return np.add.reduceat(cells, np.arange(0, cells.shape[1], 2), axis=1)
