"""Making a reference of lines as they arrive: mean, deviation, lines that stand out, a last look.

:class:`Accumulator` averages in bounded memory and leaves out lines that stand out;
:func:`refuse_faulty` then refuses what is no white or no black. Knows references, their checks
and the camera's own words; nothing of sessions.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReferenceMismatchError
from pipeline.reference_checks import black_faults, white_faults
from pipeline.reference_conditions import comparable_fields
from pipeline.references import Reference
from pipeline.stream.messages import CameraInfo

#: Lines that wait together until they are judged; they alone are held in memory.
GROUP_LINES: Final = 32
#: The fewest lines of which one can be said to stand out.
FEWEST_JUDGED: Final = 20
#: Line means that are remembered, 8 bytes each.
REMEMBERED: Final = 4096
#: Standard deviations of the line means beyond which a line stands out …
OUTLIER_SIGMA: Final = 3.0
#: … wider by this over the number of lines, as the deviation of few is not well known: of normal
#: line means 0.4 % are left out at 20 lines, and 0.3 % at 100.
FEW_LINES: Final = 5.0
#: Share of lines that may stand out before the reference is refused.
MAX_REJECTED: Final = 0.2
#: Standard deviation of a normal distribution over its median absolute deviation.
SIGMA_PER_MAD: Final = 1.4826


class Accumulator:
    """Mean and standard deviation of lines as they arrive, without those that stand out.

    Groups of lines are merged with the pairwise update of Chan, Golub & LeVeque (1979) in float64.
    A line stands out when its mean over all pixels lies more than 3 σ from the median of the line
    means so far, σ being 1.4826 times their median absolute deviation: neither is moved by up to
    half of the lines. (With n lines it is 3 · (1 + 5/n) σ, for σ is known the worse the fewer they
    are; of fewer than 20 none stands out.) The result depends on the lines and their order, never
    on how they were blocked.

    Parameters
    ----------
    bands, samples : int
        Shape of a line.
    saturation_level : int
        Raw count from which a pixel is saturated.
    """

    def __init__(self, bands: int, samples: int, saturation_level: int) -> None:
        self.seen = 0
        self.rejected = 0
        self._merged = 0
        self._saturated = 0
        self._level = saturation_level
        self._mean = np.zeros((bands, samples))
        self._m2 = np.zeros((bands, samples))
        self._line_means: deque[float] = deque(maxlen=REMEMBERED)
        self._group: NDArray[Any] | None = None
        self._waiting = 0

    @property
    def lines(self) -> int:
        """Lines that are averaged; those that still wait count in."""
        return self.seen - self.rejected

    @property
    def saturated(self) -> float:
        """Share of saturated pixels in the lines that were judged and kept, 0 to 1."""
        return self._saturated / max(self._merged * self._mean.size, 1)

    def add(self, block: NDArray[Any]) -> None:
        """Add ``(lines, bands, samples)`` counts; they are copied."""
        if self._group is None:
            self._group = np.empty((GROUP_LINES, *block.shape[1:]), block.dtype)
        start = 0
        while start < len(block):
            count = min(GROUP_LINES - self._waiting, len(block) - start)
            part = slice(self._waiting, self._waiting + count)
            self._group[part] = block[start : start + count]
            self._waiting += count
            self.seen += count
            start += count
            if self._waiting == GROUP_LINES:
                self.judge()

    def judge(self) -> None:
        """Judge the lines that wait, and merge those that do not stand out."""
        if self._group is None or not self._waiting:
            return
        group = self._group[: self._waiting]
        self._waiting = 0
        means = group.mean(axis=(1, 2), dtype=np.float64)
        self._line_means.extend(means)
        if len(self._line_means) >= FEWEST_JUDGED:
            known = np.array(self._line_means)
            middle = np.median(known)
            sigma = SIGMA_PER_MAD * float(np.median(np.abs(known - middle)))
            # Counts are whole: the mean of a line is not known better than its rounding.
            sigma = max(sigma, math.sqrt(1 / 12 / self._mean.size))
            limit = OUTLIER_SIGMA * (1 + FEW_LINES / len(known)) * sigma
            good = np.abs(means - middle) <= limit
            self.rejected += int(np.count_nonzero(~good))
            group = group[good]
        self._merge(group)

    def _merge(self, group: NDArray[Any]) -> None:
        count = len(group)
        if not count:
            return
        self._saturated += int(np.count_nonzero(group >= self._level))
        mean = group.mean(axis=0, dtype=np.float64)
        m2 = np.square(group - mean).sum(axis=0)
        total = self._merged + count
        delta = mean - self._mean
        self._m2 += m2 + np.square(delta) * (self._merged * count / total)
        self._mean += delta * (count / total)
        self._merged = total

    def reference(
        self,
        kind: str,
        info: CameraInfo,
        when: dt.datetime,
        *,
        flip: Sequence[str] = (),
        temperature_c: float | None = None,
    ) -> Reference:
        """Finish: make the reference, with all that makes it comparable.

        Parameters
        ----------
        kind : {"white", "black", "white_black"}
        info : CameraInfo
            The armed camera.
        when : datetime
            When it was taken.
        flip : sequence of str
            ``[camera] flip`` of the rig file.
        temperature_c : float, optional
            Mean of the lines, °C; as when the camera was armed where left out.

        Raises
        ------
        ReferenceMismatchError
            When there are no lines, or too many stand out.
        """
        self.judge()
        if self._merged == 0:
            raise ReferenceMismatchError(f"{kind} reference: no line arrived")
        if self.rejected > MAX_REJECTED * self.seen:
            raise ReferenceMismatchError(
                f"{kind} reference: {self.rejected} of {self.seen} lines stand out by more than "
                f"{OUTLIER_SIGMA:g} standard deviations (allowed: {100 * MAX_REJECTED:.0f} %); "
                "the light was not steady, or something moved in view: take it again"
            )
        fields = comparable_fields(info, when, flip)
        if temperature_c is not None:
            fields["temperature"] = round(temperature_c, 3)
        fields["lines averaged"] = self._merged
        fields["lines rejected"] = self.rejected
        std = np.sqrt(self._m2 / max(1, self._merged - 1)).astype(np.float32)
        return Reference(kind, self._mean.astype(np.float32), std, fields)


def refuse_faulty(
    reference: Reference,
    saturation_level: float,
    dark: Reference | None,
    saturated: float,
    warn: Callable[[str], None] | None = None,
) -> None:
    """Refuse a reference that was just taken and is none, or warn of it.

    Parameters
    ----------
    reference : Reference
    saturation_level : float
        Count from which a pixel is saturated.
    dark : Reference, optional
        Of a white.
    saturated : float
        Share of its saturated pixels.
    warn : callable, optional
        Receives the sentence instead, where the rig file says ``on_mismatch = "warn"``.

    Raises
    ------
    ReferenceMismatchError
        A saturated or too dim white, a black that is not dark; says what to do.
    """
    if reference.kind == "white":
        mean = None if dark is None else dark.mean
        found = white_faults(reference.mean, mean, saturation_level, saturated)
    else:
        found = black_faults(reference.mean, saturation_level)
    for fault in found:
        text = f"{reference.kind} reference: {fault}"
        if warn is None:
            raise ReferenceMismatchError(
                f'{text}; [references] on_mismatch = "warn" keeps it all the same'
            )
        warn(text)
