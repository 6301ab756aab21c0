"""The black of any exposure, from blacks of several: bias and rate of each pixel.

``black(t) = bias + rate · t``: the offset of the converter and the dark current, which a camera's
counts follow linearly (EMVA Standard 1288, release 4.0, dark current from the mean dark signal
over exposure times). Knows references and NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ReferenceMismatchError
from pipeline.reference_checks import same_exposure
from pipeline.references import Reference

#: Least variance of a count, DN²: that of rounding.
_ROUNDING: Final = 1.0 / 12.0


@dataclass(frozen=True)
class BiasRate:
    """A straight line over exposure for each pixel, by weighted least squares.

    Attributes
    ----------
    bias : ndarray of float64, (bands, samples)
        Counts at no exposure, DN.
    rate : ndarray of float64, (bands, samples)
        DN per ms.
    variance : tuple of ndarray or None
        Of bias (DN²), of bias with rate (DN²/ms), of rate (DN²/ms²); None where a deviation is
        not known.
    exposures : tuple of float
        ms, shortest and longest.
    blacks, lines : int
        How many were fitted.
    """

    bias: NDArray[np.float64]
    rate: NDArray[np.float64]
    variance: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None
    exposures: tuple[float, float]
    blacks: int
    lines: int

    def mean(self, exposure: float) -> NDArray[np.float64]:
        """Give the black of an exposure (ms), DN."""
        return self.bias + self.rate * exposure

    def standard_error(self, exposure: float) -> NDArray[np.float64] | None:
        """Give the standard error of :meth:`mean`, DN."""
        if self.variance is None:
            return None
        bias, both, rate = self.variance
        return np.asarray(np.sqrt(bias + 2 * exposure * both + exposure**2 * rate), np.float64)

    def inside(self, exposure: float) -> bool:
        """Whether an exposure lies between those that were fitted."""
        shortest, longest = self.exposures
        return shortest * (1 - 1e-3) <= exposure <= longest * (1 + 1e-3)


def fit_bias_rate(blacks: Sequence[Reference]) -> BiasRate:
    """Fit bias and rate of each pixel to blacks of two exposures or more.

    Each black weighs as the square of its standard error says, ``std² / lines averaged``; where
    one of them has none, by its lines.

    Raises
    ------
    ReferenceMismatchError
        When there are fewer than two exposures, one is unknown, or shapes differ.
    """
    exposures = [black.exposure for black in blacks]
    known = [exposure for exposure in exposures if exposure is not None]
    if len(known) < len(blacks) or not known or same_exposure(min(known), max(known)):
        raise ReferenceMismatchError(
            f"bias and rate: found blacks of {sorted(set(known))} ms, allowed are two or more "
            "exposures"
        )
    shapes = {black.mean.shape for black in blacks}
    if len(shapes) > 1:
        raise ReferenceMismatchError(f"bias and rate: found blacks of shapes {sorted(shapes)}")
    counts = [black.lines for black in blacks]
    certain = all(black.std is not None for black in blacks)
    shape = blacks[0].mean.shape
    s, sx, sxx, sy, sxy = (np.zeros(shape) for _ in range(5))
    for black, exposure, count in zip(blacks, known, counts, strict=True):
        weight = np.full(shape, float(count))
        if certain and black.std is not None:
            weight /= np.maximum(np.square(black.std, dtype=np.float64), _ROUNDING)
        mean = black.mean.astype(np.float64)
        s += weight
        sx += weight * exposure
        sxx += weight * exposure**2
        sy += weight * mean
        sxy += weight * exposure * mean
    delta = s * sxx - sx**2
    return BiasRate(
        bias=(sxx * sy - sx * sxy) / delta,
        rate=(s * sxy - sx * sy) / delta,
        variance=(sxx / delta, -sx / delta, s / delta) if certain else None,
        exposures=(min(known), max(known)),
        blacks=len(blacks),
        lines=sum(counts),
    )


def black_at(fit: BiasRate, exposure: float, like: Reference) -> Reference:
    """Make the black of an exposure.

    Its ``std`` is such that ``std / √(lines averaged)`` is the standard error of the fit, as for a
    black that was taken.

    Parameters
    ----------
    fit : BiasRate
    exposure : float
        ms.
    like : Reference
        Of the blacks: whose other fields it takes.
    """
    error = fit.standard_error(exposure)
    fields = {**like.fields, "exposure": exposure, "lines averaged": fit.lines}
    fields.pop("lines rejected", None)
    std = None if error is None else (error * np.sqrt(fit.lines)).astype(np.float32)
    return Reference(like.kind, fit.mean(exposure).astype(np.float32), std, fields)
