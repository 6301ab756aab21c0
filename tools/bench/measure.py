"""How a rate is measured here: limit and subject in turn, the median of several rounds.

A machine's memory, disk and clock vary from minute to minute, so a rate alone says little. What is
compared runs in alternation within one run; the ratio is formed in each round, and its median
counts. Knows NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Does the work once and says how fast it was.
Run = Callable[[], float]

#: Fewer rounds than this are a trial, not a measurement.
MIN_ROUNDS = 7


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of ``count`` rounds."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Summarise the values of some rounds."""
    low, median, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75))
    return Spread(float(median), float(low), float(high), len(values))


def alternate(runs: Sequence[Run], rounds: int) -> list[list[float]]:
    """Let each run work once untold, then all in turn; every second round goes backwards.

    A single round is a trial and goes without the untold one.

    Returns
    -------
    list of list of float
        What each run said in each round, in the order of ``runs``.
    """
    for run in runs if rounds > 1 else ():
        run()
    said: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        order = range(len(runs)) if number % 2 == 0 else range(len(runs) - 1, -1, -1)
        for at in order:
            said[at].append(runs[at]())
    return said


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    section, step : str
        What was measured.
    geometry : str
        Samples × bands of a line.
    block_mib : float or None
        Size of a block.
    unit : str
        Of ``rate`` and ``limit_rate``.
    rate : Spread or None
        Of the subject; None where it could not be measured, ``note`` says why.
    lines_per_s : float or None
    limit : str
        What it is compared with.
    limit_rate, ratio : Spread or None
        Of the limit; subject over limit, formed round by round.
    required : float or None
        What the ratio (the rate where there is no limit) must reach.
    at_most : bool
        Whether ``required`` is a bound from above.
    note : str
        One short sentence.
    """

    section: str
    step: str
    geometry: str = ""
    block_mib: float | None = None
    unit: str = "GB/s"
    rate: Spread | None = None
    lines_per_s: float | None = None
    limit: str = ""
    limit_rate: Spread | None = None
    ratio: Spread | None = None
    required: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the requirement is met; None without one, or without a real measurement."""
        judged = self.ratio if self.limit else self.rate
        if self.required is None or judged is None or judged.count < MIN_ROUNDS:
            return None
        if self.at_most:
            return judged.median <= self.required
        return judged.median >= self.required

    def plain(self) -> dict[str, Any]:
        """Give everything as JSON holds it."""
        return asdict(self) | {"met": self.met}


def compare(subject: Run, limit: Run, rounds: int) -> tuple[Spread, Spread, Spread]:
    """Measure a subject beside its limit.

    Returns
    -------
    subject, limit, ratio : Spread
    """
    fast, bound = alternate((subject, limit), rounds)
    return spread(fast), spread(bound), spread([a / b for a, b in zip(fast, bound, strict=True)])
