"""A scale and an offset of each line, from parts of the image that always see the same.

Masked columns of the sensor see no light: what they hold beyond the black reference is the pedestal
of that line. A strip of the image that always sees the panel tells how bright the lamp was. With
both, lamp flicker and pedestal drift are corrected line by line:

``offset = mean(raw − black)`` over the masked columns (DN), ``level = Σ (raw − offset − black) /
Σ (white − its black) · t / t_white`` over the strip, ``scale = 1 / level``, and
``reflectance = ((raw − offset) − black) · gain · scale``. Counts are added as integers, so that a
line gives the same float32 factors wherever and in whatever company it is computed. Knows NumPy,
the formula and errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import ReferenceMismatchError
from pipeline.reflectance import Correction

#: Least and greatest level of the lamp, beside the white's, that is believed.
LEVELS: Final = (0.5, 2.0)
#: Greatest offset that is believed, as a part of saturation.
MOST_OFFSET: Final = 1 / 16
#: Bands of which the strip is read: more cost time, and add little to what a lamp's level needs.
MOST_BANDS: Final = 16
#: A band of the strip counts when its white is brighter than its dark by this part of saturation.
LEAST_SIGNAL: Final = 0.05

Columns = tuple[int, int]


@dataclass(frozen=True)
class Watched:
    """Which columns always see the same: first and last sample, from 1, both included.

    Attributes
    ----------
    panel_strip, dark_columns : tuple of int, or None
    """

    panel_strip: Columns | None = None
    dark_columns: Columns | None = None

    def __bool__(self) -> bool:
        return self.panel_strip is not None or self.dark_columns is not None

    def check(self, samples: int) -> None:
        """Refuse columns that a line does not have, or that are both dark and bright.

        Raises
        ------
        ReferenceMismatchError
        """
        found = (("panel_strip", self.panel_strip), ("dark_columns", self.dark_columns))
        for name, columns in found:
            if columns is not None and not 1 <= columns[0] <= columns[1] <= samples:
                raise ReferenceMismatchError(
                    f"{name}: found {list(columns)}, allowed are first and last of samples 1 to "
                    f"{samples}"
                )
        if self.panel_strip and self.dark_columns:
            (a, b), (c, d) = self.panel_strip, self.dark_columns
            if a <= d and c <= b:
                raise ReferenceMismatchError(
                    f"panel_strip: found {[a, b]}, which overlaps dark_columns {[c, d]}"
                )


def blind(corr: Correction, watched: Watched) -> Correction:
    """Give a correction whose masked columns are 0: nothing can be said of what sees no light."""
    if watched.dark_columns is None:
        return corr
    gain = corr.gain.copy()
    gain[:, watched.dark_columns[0] - 1 : watched.dark_columns[1]] = 0.0
    return Correction(corr.black, gain)


def level_white(
    white: NDArray[np.float32], own: NDArray[np.float32], watched: Watched
) -> NDArray[np.float32]:
    """Give a white with the pedestal of its own dark, as the masked columns of both tell it.

    Between a dark and the white that follows it the pedestal may have moved as it does between
    lines.

    Parameters
    ----------
    white, own : ndarray of float32, (bands, samples)
        Mean counts of the white and of its dark.
    """
    if watched.dark_columns is None:
        return white
    columns = slice(watched.dark_columns[0] - 1, watched.dark_columns[1])
    moved = white[:, columns].astype(np.float64) - own[:, columns]
    moved = moved[np.isfinite(moved)]
    if not moved.size:
        return white
    # bad pixels among them do not move as the others do
    return white - np.float32(np.median(moved))


@dataclass(frozen=True)
class Part:
    """Columns of a line, and the bands in which all of them can be used.

    ``black``: the sum of their black, DN. ``size``: how many pixels.
    """

    bands: NDArray[np.int64]
    samples: slice
    black: float
    size: int


#: Sum and largest count of each line of a part, (lines,) each.
Sums = tuple[NDArray[np.float64], NDArray[Any]]


def sums_of(counts: NDArray[Any]) -> Sums:
    """Add up counts, (lines, bands, samples), by line: exactly, where they are integers."""
    kind = np.int64 if counts.dtype.kind in "iu" else np.float64
    return counts.sum(axis=(1, 2), dtype=kind).astype(np.float64), counts.max(axis=(1, 2))


class LineFactors:
    """Gives scale and offset of lines, for one pair of references.

    Parameters
    ----------
    watched : Watched
    corr : Correction
        Of all bands and samples.
    panel : float or array_like, (bands,)
        Certified reflectance that ``corr`` was made with.
    saturation_level : int
        DN; 0: unknown.
    bad : ndarray of bool, (bands, samples), optional
        Bad pixels: a band with one of them in the columns is not used.

    Attributes
    ----------
    dark, strip : Part, or None
        Where masked columns and the strip are read.
    white : float
        Sum of the white above its black over the strip, DN; 0 without a strip.

    Raises
    ------
    ReferenceMismatchError
        When the columns do not fit the lines, or no band of them can be used.
    """

    def __init__(
        self,
        watched: Watched,
        corr: Correction,
        *,
        panel: ArrayLike = 1.0,
        saturation_level: int = 0,
        bad: NDArray[np.bool_] | None = None,
    ) -> None:
        watched.check(corr.shape[1])
        self.watched = watched
        self.saturation_level = saturation_level
        usable = np.isfinite(corr.black)
        if bad is not None:
            usable &= ~bad
        self.dark: Part | None = None
        self.strip: Part | None = None
        self.white = 0.0
        if watched.dark_columns is not None:
            self.dark = self._part("dark_columns", watched.dark_columns, usable, corr)
        if watched.panel_strip is not None:
            certified = np.asarray(panel, np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                signal = (certified[:, None] if certified.ndim else certified) / corr.gain
            usable = usable & (signal >= LEAST_SIGNAL * max(saturation_level, 1))
            self.strip = self._part("panel_strip", watched.panel_strip, usable, corr)
            part = signal[self.strip.bands, self.strip.samples].astype(np.float64)
            self.white = float(part.sum())

    @property
    def most_offset(self) -> float:
        """Greatest offset that is believed, DN."""
        return MOST_OFFSET * self.saturation_level if self.saturation_level > 0 else np.inf

    @staticmethod
    def _part(name: str, columns: Columns, usable: NDArray[np.bool_], corr: Correction) -> Part:
        samples = slice(columns[0] - 1, columns[1])
        bands = np.flatnonzero(usable[:, samples].all(axis=1))
        if not bands.size:
            raise ReferenceMismatchError(
                f"{name}: found no band in which all of the columns {list(columns)} can be used "
                "(bad pixels, or a white that is too dim there)"
            )
        if bands.size > MOST_BANDS:
            bands = bands[np.linspace(0, bands.size - 1, MOST_BANDS).astype(int)]
        black = corr.black[bands, samples].astype(np.float64)
        return Part(bands, samples, float(black.sum()), black.size)

    def of(
        self, raw: NDArray[Any], valid: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Give the factors of lines.

        Parameters
        ----------
        raw : ndarray, (lines, bands, samples)
            Counts.
        valid : ndarray of bool, (lines,), optional
            Lost lines get 1 and 0.

        Returns
        -------
        factors : ndarray of float32, (2, lines)
            Scale and offset (DN).
        trusted : ndarray of bool, (lines,)
            False where a part that is watched is saturated, or says what cannot be: a lamp beyond
            ``LEVELS``, an offset beyond ``MOST_OFFSET``. What is not believed is 1, or 0.
        """
        return self.of_sums(lambda p: sums_of(raw[:, p.bands, p.samples]), len(raw), valid)

    def of_sums(
        self, add: Callable[[Part], Sums], lines: int, valid: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Give the factors of lines, as :meth:`of`, where ``add`` adds up the parts."""
        factors = np.zeros((2, lines), np.float32)
        factors[0] = 1.0
        trusted = np.ones(lines, np.bool_)
        ok = np.ones(lines, np.bool_) if valid is None else valid
        if self.dark is not None:
            offset = (add(self.dark)[0] - self.dark.black) / self.dark.size
            trusted = np.abs(offset) <= self.most_offset
            factors[1] = np.where(ok & trusted, offset, 0.0)
        if self.strip is not None:
            sums, most = add(self.strip)
            # the offset as it is stored and subtracted
            shifts = factors[1].astype(np.float64) * self.strip.size
            level = (sums - self.strip.black - shifts) / self.white
            known = (level >= LEVELS[0]) & (level <= LEVELS[1])
            if self.saturation_level > 0:
                known &= most < self.saturation_level
            factors[0] = np.where(ok & known, 1.0 / np.where(known, level, 1.0), 1.0)
            trusted &= known
        return factors, trusted | ~ok
