"""Compression by principal components of the raw counts, group of lines by group of lines.

For each group (128 lines by default) the covariance of a stated subset of its spectra is learned
about a fixed shift, its strongest eigenvectors become the basis, and every spectrum is stored as K
quantised scores. Knows NumPy and the compute interface; the file layout is the container's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import Backend, GroupMath, Moments
from pipeline.compute.unpack import unpack
from pipeline.errors import ConfigError
from pipeline.stages.stage import BlockResult, EnginePlan, PcaGroup

#: Counts per unit of a score. K scores of uniform error step²/12 in an orthonormal basis of B bands
#: add a variance of K/B · step²/12 to each band: with 16 of 224 bands 0.04 counts, far below the
#: 0.29 counts that the sensor's own rounding adds.
STEP: Final = 0.5
#: Spectra learned from per group: this many, or 8 for each band if that is more. Of real scenes the
#: error with 16 components is then 1 % above that with four times as many.
LEARN: Final = 4096
LEARN_PER_BAND: Final = 8
#: Groups that arrive while the eigenvectors of one are found.
BEHIND: Final = 2

#: Mean (B,), basis (K, B) and the number of spectra they were learned from.
Basis = tuple[NDArray[np.float32], NDArray[np.float32], int]


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


@dataclass(slots=True)
class _Group:
    """A group of lines on its way."""

    place: int  # among the groups that the backend keeps
    first_line: int
    lines: int = 0
    shift: NDArray[np.float64] | None = None  # None: no line is valid
    valid: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    chosen: tuple[NDArray[np.intp], int] = field(default_factory=lambda: (np.zeros(0, np.intp), 1))
    learned: Future[Basis] | None = None
    # once its scores are being made:
    wait: Callable[[], NDArray[np.float32]] | None = None
    scores: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int16))


class PcaStage:
    """Takes ``raw`` and ``valid``, yields ``pca groups``.

    Lost lines and saturated spectra are not learned from (unless nothing else is there); a bad
    pixel's count is first replaced from its neighbours along the spectrum. A component whose scores
    would leave int16 is stored with a basis vector 2, 4, 8 … times as long, so that no score is
    ever clipped and one step serves the whole capture.

    Eigenvectors are found by threads of the host while the next ``BEHIND`` groups arrive; then the
    group, which is kept meanwhile, is projected on the basis that is its own.
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
        self._host: ThreadPoolExecutor | None = None
        self._group = _Group(0, 0)
        self._learning: deque[_Group] = deque()
        self._due: deque[list[_Group]] = deque()  # a list for each block under way
        self._scores: list[NDArray[np.int16]] = []
        self._handed = 0

    def arm(self, backend: Backend) -> None:
        """Make the memory of the groups, and of the scores of all that can be under way."""
        plan, lines, k = self._plan, self._group_lines, self._components
        self._math = backend.group_math(plan.pass_plan(), lines, BEHIND + 1, k)
        self._host = ThreadPoolExecutor(BEHIND, thread_name_prefix="eigenvectors")
        self._valid = np.zeros((BEHIND + 1, lines), np.bool_)
        # of the blocks under way, of the one whose result is in use; at the end all that is left
        count = max((plan.block_lines // lines + 1) * (backend.depth + 1), BEHIND + 1)
        scores = np.zeros((count, lines, k, plan.samples), np.int16)
        backend.pin(scores.reshape(-1).view(np.uint8).data)
        self._scores = list(scores)

    def begin(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Keep the block's lines; a group that is complete sets off, one before it goes on."""
        assert self._math is not None, "begin before arm"
        due: list[_Group] = []
        done = 0
        while done < len(raw):
            group = self._group
            take = min(self._group_lines - group.lines, len(raw) - done)
            self._math.put(group.place, done, take, group.lines)
            part = valid[done : done + take]
            self._valid[group.place, group.lines : group.lines + take] = part
            if group.shift is None and part.any():
                group.shift = self._mean_spectrum(raw[done + int(part.argmax())])
            group.lines += take
            done += take
            if group.lines == self._group_lines:
                self._set_off()
                if len(self._learning) > BEHIND:
                    due.append(self._project(self._learning.popleft()))
        self._due.append(due)

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_], result: BlockResult) -> None:
        """Hand on the groups whose scores the block set off, in ``result.pca``."""
        result.pca += [self._finished(group) for group in self._due.popleft()]

    def finish(self, result: BlockResult) -> None:
        """Hand on what is left: complete groups, and the last one with the lines there are."""
        if self._group.lines:
            self._set_off()
        while self._learning:
            result.pca.append(self._finished(self._project(self._learning.popleft())))

    def close(self) -> None:
        """End the threads."""
        if self._host is not None:
            self._host.shutdown(cancel_futures=True)

    def _mean_spectrum(self, line: NDArray[Any]) -> NDArray[np.float64]:
        """Give the mean counts of a line, (bands,)."""
        plan = self._plan
        if plan.packed is not None and line.ndim == 1:
            counts = unpack(line, plan.packed, plan.bands * plan.samples)
            line = counts.reshape(plan.bands, plan.samples)
        return np.asarray(line.mean(axis=1, dtype=np.float64))

    def _set_off(self) -> None:
        """Have the eigenvectors of the group that is kept found, and begin the next group."""
        assert self._math is not None
        assert self._host is not None
        group, plan = self._group, self._plan
        group.valid = self._valid[group.place, : group.lines]
        if group.shift is not None:
            group.chosen = learning_lines(np.flatnonzero(group.valid), plan.samples, plan.bands)
            moments = self._math.learn(group.place, *group.chosen, self._level, group.shift)
            group.learned = self._host.submit(find_basis, moments, group.shift, self._components)
        self._learning.append(group)
        self._group = _Group((group.place + 1) % (BEHIND + 1), group.first_line + group.lines)

    def _project(self, group: _Group) -> _Group:
        """Begin to make the scores of a group."""
        assert self._math is not None
        if group.learned is None or group.shift is None:  # every line is lost
            return group
        mean, basis, pixels = group.learned.result()
        if not pixels:  # every spectrum is saturated: learn from them after all
            moments = self._math.learn(group.place, *group.chosen, math.inf, group.shift)
            mean, basis, pixels = find_basis(moments, group.shift, self._components)
            group.learned = Future()
            group.learned.set_result((mean, basis, pixels))
        group.scores = self._scores[self._handed % len(self._scores)][: group.lines]
        self._handed += 1
        group.wait = self._math.project(
            group.place, group.lines, group.valid, mean, basis, STEP, group.scores
        )
        return group

    def _finished(self, group: _Group) -> PcaGroup:
        """Wait for the scores of a group."""
        plan, k = self._plan, self._components
        first, lines = group.first_line, group.lines
        if group.learned is None or group.wait is None:
            shape = (lines, k, plan.samples)
            nothing = np.zeros(plan.bands, np.float32), np.zeros((k, plan.bands), np.float32)
            return PcaGroup(first, lines, *nothing, np.zeros(shape, np.int16), STEP, 0)
        mean, basis, pixels = group.learned.result()
        basis = basis * group.wait()[:, None]
        return PcaGroup(first, lines, mean, basis, group.scores, STEP, pixels)


def find_basis(
    moments: Callable[[], Moments], shift: NDArray[np.float64], components: int
) -> Basis:
    """Find the strongest eigenvectors of a covariance, in float64.

    Parameters
    ----------
    moments : callable
        Gives the number of spectra, Σ x and Σ x·xᵀ about the shift.
    shift : (B,)
    components : K

    Returns
    -------
    mean : ndarray of float32, (B,)
    basis : ndarray of float32, (K, B)
        Orthonormal, strongest first; 0 without spectra.
    pixels : int
        Spectra learned from.
    """
    pixels, first, second = moments()
    if not pixels:
        return shift.astype(np.float32), np.zeros((components, len(shift)), np.float32), 0
    about = first / pixels
    covariance = second / pixels - np.outer(about, about)
    vectors = np.linalg.eigh(covariance)[1][:, : -components - 1 : -1].T
    # the sign is free: let the largest weight be positive, so that pictures stay alike
    peak = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    basis = vectors * np.where(peak < 0, -1, 1)
    return (shift + about).astype(np.float32), basis.astype(np.float32), pixels
