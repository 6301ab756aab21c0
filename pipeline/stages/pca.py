"""Compression by principal components of the raw counts, group of lines by group of lines.

For each group (128 lines by default) the covariance of a stated subset of its spectra is learned
about a fixed shift, its strongest eigenvectors become the basis, and every spectrum is stored as K
quantised scores. Knows NumPy and the compute interface; the file layout is the container's.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import Backend, GroupMath
from pipeline.errors import ConfigError
from pipeline.stages.stage import BlockResult, EnginePlan, PcaGroup

#: Counts per unit of a score. K scores of uniform error step²/12 in an orthonormal basis of B bands
#: add a variance of K/B · step²/12 to each band: with 16 of 224 bands 0.04 counts, far below the
#: 0.29 counts that the sensor's own rounding adds.
STEP: Final = 0.5
#: Spectra learned from per group: this many, or 16 for each band if that is more.
LEARN: Final = 8192
LEARN_PER_BAND: Final = 16


def learning_lines(
    valid: NDArray[np.intp], samples: int, bands: int
) -> tuple[NDArray[np.intp], int]:
    """Choose the evenly spread subset of spectra that a group learns from.

    Every n-th valid line with all its samples, n as large as leaves enough spectra; when whole
    lines are still more than twice as many as needed, every m-th sample of them.

    Returns
    -------
    lines : the chosen ones of ``valid``
    every : m
    """
    enough = max(LEARN, LEARN_PER_BAND * bands)
    n = max(1, len(valid) * samples // enough)
    lines = valid[min(n // 2, max(len(valid) - 1, 0)) :: n]
    return lines, max(1, len(lines) * samples // (2 * enough))


class PcaStage:
    """Takes ``raw`` and ``valid``, yields ``pca groups``.

    Lost lines and saturated spectra are not learned from (unless nothing else is there); a bad
    pixel's count is first replaced from its neighbours along the spectrum. A component whose scores
    would leave int16 is stored with a basis vector 2, 4, 8 … times as long, so that no score is
    ever clipped and one step serves the whole capture.
    """

    name = "pca"
    takes = frozenset({"raw", "valid"})
    yields = frozenset({"pca groups"})

    def __init__(self, plan: EnginePlan) -> None:
        if plan.pca is None:
            raise ConfigError("stage pca: needs [pipeline.pca], found none")
        if plan.dtype.kind == "f":
            raise ConfigError(
                f'store = "pca": found raw pixels of {plan.dtype}, allowed are integer counts'
            )
        self._plan = plan
        self._components = plan.pca.components
        self._group_lines = plan.pca.block_lines
        self._level = plan.saturation_level if plan.saturation_level > 0 else math.inf
        self._math: GroupMath | None = None
        self._kept = 0  # lines of the group so far
        self._first_line = 0
        self._shift: NDArray[np.float64] | None = None

    def arm(self, backend: Backend) -> None:
        """Make the group's memory and the scores of as many groups as one block can finish."""
        plan, group, k = self._plan, self._group_lines, self._components
        self._math = backend.group_math(plan.pass_plan(), group)
        self._valid = np.zeros(group, np.bool_)
        self._projected = np.empty((group, k, plan.samples), np.float32)
        self._scores = np.empty((plan.block_lines + group, k, plan.samples), np.int16)
        self._used = 0  # lines of scores handed out with this block

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_], result: BlockResult) -> None:
        """Keep the block's lines; groups that are complete go into ``result.pca``."""
        assert self._math is not None, "process before arm"
        self._used = 0
        done = 0
        while done < len(raw):
            take = min(self._group_lines - self._kept, len(raw) - done)
            self._math.put(done, take, self._kept)
            part = valid[done : done + take]
            self._valid[self._kept : self._kept + take] = part
            if self._shift is None and part.any():
                self._shift = raw[done + int(part.argmax())].mean(axis=1, dtype=np.float64)
            self._kept += take
            done += take
            if self._kept == self._group_lines:
                result.pca.append(self._finish_group())

    def finish(self, result: BlockResult) -> None:
        """Store the last group, with the lines there are."""
        self._used = 0
        if self._kept:
            result.pca.append(self._finish_group())

    def _finish_group(self) -> PcaGroup:
        math_, lines = self._math, self._kept
        assert math_ is not None
        mean, basis, pixels = self._learn(self._valid[:lines])
        projected = self._projected[:lines]
        math_.project(lines, mean, basis, projected)
        projected[~self._valid[:lines]] = 0
        largest = np.maximum(projected.max(axis=(0, 2)), -projected.min(axis=(0, 2)))
        # powers of two, so that lengthening a basis vector is exact in float32
        room = np.maximum(largest / np.float32(STEP * 32767), 1)
        longer = np.exp2(np.ceil(np.log2(room))).astype(np.float32)
        projected *= (1 / (STEP * longer)).astype(np.float32)[:, None]
        scores = self._scores[self._used : self._used + lines]
        np.rint(projected, out=projected)
        np.copyto(scores, projected, casting="unsafe")
        basis *= longer[:, None]
        group = PcaGroup(self._first_line, lines, mean, basis, scores, STEP, pixels)
        self._used += lines
        self._first_line += lines
        self._kept = 0
        self._shift = None
        return group

    def _learn(
        self, valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        """Give mean (B,), basis (K, B) and the number of spectra they were learned from."""
        assert self._math is not None
        bands = self._plan.bands
        basis = np.zeros((self._components, bands), np.float32)
        if self._shift is None:  # every line of the group is lost
            return np.zeros(bands, np.float32), basis, 0
        lines, every = learning_lines(np.flatnonzero(valid), self._plan.samples, bands)
        pixels, first, second = self._math.moments(lines, every, self._level, self._shift)
        if not pixels:
            pixels, first, second = self._math.moments(lines, every, math.inf, self._shift)
        about = first / pixels
        covariance = second / pixels - np.outer(about, about)
        vectors = np.linalg.eigh(covariance)[1][:, : -self._components - 1 : -1].T
        # the sign is free: let the largest weight be positive, so that pictures stay alike
        peak = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
        basis[:] = vectors * np.where(peak < 0, -1, 1)
        return (self._shift + about).astype(np.float32), basis, pixels
