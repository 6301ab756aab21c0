"""The preview pyramid, built while the lines arrive.

The pixel pass sums each cell of the finest level; this stage turns complete rows into means and
halves them from level to level. Nothing is read a second time. The thumbnail is made from the
finished preview by :mod:`pipeline.stages.thumbnail`. Knows NumPy and the stage protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cells import halving, mean_of_cells, shares
from pipeline.compute.interface import Backend
from pipeline.compute.tables import pass_tables
from pipeline.stages.stage import BlockResult, EnginePlan
from pipeline.stages.thumbnail import thumbnail_jpeg

__all__ = ["PreviewStage", "finest_level", "preview_levels", "thumbnail_jpeg"]

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


def finest_level(samples: int) -> tuple[int, bool]:
    """Give the factor of the finest level, which the pass makes, and whether others follow."""
    factors = preview_levels(samples)
    return factors[-1], len(factors) > 1


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
        pass_plan = plan.pass_plan(preview_factor=factor)
        tables, dtype = pass_tables(pass_plan), np.dtype(pass_plan.preview_type)
        rows = (plan.block_lines + factor - 2) // factor + 1
        weight, finest = tables.cells, shares(tables.cells)
        mean, halve = mean_of_cells(dtype), halving()
        self._jobs: list[_WholeRow] = []

        def at_once(
            sums: NDArray[np.float32], share: NDArray[np.float32], lines: int, out: NDArray[Any]
        ) -> None:
            mean(sums, share, lines, 0, len(sums), out)

        def together(first: int, last: int, thread: int) -> int:
            for row in self._jobs:
                if row.mean is not None:
                    mean(row.sums, finest, row.lines, first, last, row.mean)
                if row.halves is not None:
                    halve(row.sums, first, last, row.halves)
            return 0

        def run_jobs() -> None:
            backend.each(together, len(finest))

        self._run_jobs = run_jobs
        self._levels = []
        for _ in self._factors:
            self._levels.append(_Level(weight, rows, dtype, at_once))
            weight = _halve(weight)
            rows = rows // 2 + 1
        # of the finest rows of a block, which threads halve together for the next level
        self._halves = [
            np.empty(level.sums.shape, np.float32)
            for level in self._levels[1:2]
            for _ in self._levels[0].rows
        ]

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_], result: BlockResult) -> None:
        """Add the block's sums; rows that are complete now go into ``result.previews``."""
        taken = result.between["preview sums"]
        factor, finest = self._factors[-1], self._levels[0]
        # rows all of whose lines are in this block: no need to gather them
        first, last = int(taken.phase > 0), (taken.phase + len(raw)) // factor
        for row, (sums, lines) in enumerate(zip(taken.sums, taken.pixels, strict=True)):
            if first <= row < last:
                if row == first:
                    self._store_whole(taken, first, last, result)
                continue
            finest.add(sums, int(lines))
            if row < last:
                self._complete(0)
            else:
                finest.begun = True
        self._collect(result)
        result.begun = self.begun

    def _store_whole(self, taken: Any, first: int, last: int, result: BlockResult) -> None:
        """Store the finest rows all of whose lines are in the block, and hand them on."""
        finest, means = self._levels[0], taken.means
        as_they_are = means is not None and not first
        for row in range(first, last):
            mean = None
            if means is None:
                mean = finest.rows[finest.stored]
            elif not as_they_are:
                finest.rows[finest.stored] = means[row]
            finest.stored += 1
            halves = self._halves[row - first] if self._halves else None
            if mean is not None or halves is not None:
                self._jobs.append(_WholeRow(taken.sums[row], int(taken.pixels[row]), mean, halves))
        if self._jobs:  # one round of the threads for all rows
            self._run_jobs()
            for whole in self._jobs:
                if whole.halves is not None:
                    self._add_to_coarser(0, whole.halves, whole.lines)
            self._jobs.clear()
        if as_they_are:
            result.previews.append((len(self._levels) - 1, means[:last]))
            finest.stored = 0

    def begun(self) -> NDArray[Any] | None:
        """Give the row of ``preview`` that is being gathered: the mean of the lines it has so far.

        Returns
        -------
        ndarray, (1, bands, samples), or None
            None while there is no line in it. Of the dtype of the finished rows; its own memory.
        """
        if not any(state.begun for state in self._levels):
            return None
        finest, *coarser = self._levels
        sums, lines = finest.sums, finest.lines
        for state in coarser:  # each holds what is complete of the finer one, and no more
            sums = state.sums + _halve(sums)
            lines += state.lines
        last = self._levels[-1]
        row = np.empty((1, *sums.shape), last.rows.dtype)
        last.mean(sums, lines, row[0])
        return row

    def finish(self, result: BlockResult) -> None:
        """Complete the rows that have begun, with the lines there are."""
        for level, state in enumerate(self._levels):
            if state.begun:
                self._complete(level)
        self._collect(result)

    def _complete(self, level: int) -> None:
        """Store the row that is gathered in a level, hand its sums on to the next."""
        state = self._levels[level]
        state.store()
        self._hand_on(level, state.sums, state.lines)
        state.clear()

    def _hand_on(self, level: int, sums: NDArray[np.float32], lines: int) -> None:
        """Halve a complete row of a level for the next coarser one, where there is one."""
        if level + 1 < len(self._levels):
            self._add_to_coarser(level, _halve(sums), lines)

    def _add_to_coarser(self, level: int, halves: NDArray[np.float32], lines: int) -> None:
        """Add the halved row of a level to the next coarser one."""
        coarser = self._levels[level + 1]
        coarser.add(halves, lines)
        coarser.halves += 1
        coarser.begun = True
        if coarser.halves == 2:
            self._complete(level + 1)

    def _collect(self, result: BlockResult) -> None:
        for number, state in zip(reversed(range(len(self._levels))), self._levels, strict=True):
            if state.stored:
                result.previews.append((number, state.rows[: state.stored]))
                state.stored = 0


class _WholeRow(NamedTuple):
    """A finest row of one block: sums over so many lines, and where mean and halves go."""

    sums: NDArray[np.float32]
    lines: int
    mean: NDArray[Any] | None
    halves: NDArray[np.float32] | None


class _Level:
    """One level: the row being gathered, and the rows stored since they were last collected."""

    def __init__(
        self,
        weight: NDArray[np.float32],
        rows: int,
        dtype: np.dtype[Any],
        mean: Callable[[NDArray[np.float32], NDArray[np.float32], int, NDArray[Any]], None],
    ) -> None:
        self.sums = np.zeros(weight.shape, np.float32)
        self.lines = 0  # valid ones in the sums
        self.halves = 0  # rows of the finer level in the sums
        self.begun = False
        self.rows = np.empty((rows, *weight.shape), dtype)
        self.stored = 0
        self._share = shares(weight)
        self._mean = mean

    def add(self, sums: NDArray[np.float32], lines: int) -> None:
        """Add sums of cells over so many valid lines."""
        self.sums += sums
        self.lines += lines

    def store(self) -> None:
        """Put the mean of the gathered row behind the rows already stored."""
        self.mean(self.sums, self.lines, self.rows[self.stored])
        self.stored += 1

    def mean(self, sums: NDArray[np.float32], lines: int, row: NDArray[Any]) -> None:
        """Write the mean of cells over so many valid lines into a row."""
        self._mean(sums, self._share, lines, row)

    def clear(self) -> None:
        """Begin the next row."""
        self.sums[:] = 0
        self.lines = self.halves = 0
        self.begun = False


def _halve(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add neighbouring cells of a row, (bands, cells) → (bands, ceil(cells / 2))."""
    out = np.empty((len(cells), -(-cells.shape[1] // 2)), np.float32)
    halving()(np.ascontiguousarray(cells), 0, len(cells), out)
    return out
