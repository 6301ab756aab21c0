"""The standard uncertainty of reflectance: noise of the references, and shot noise of the light.

First order propagation of errors (JCGM 100:2008, "GUM", 5.1.2) through the reflectance formula:
with R the reflectance, g the reflectance a count, D the white above its dark, and the standard
deviations σ of a line of black, white and the white's dark, averaged over n lines,

``u² = g² · (σ_black² + c · max(R / g, 0)) + g² · σ_black² / n_black
+ (R / D)² · (σ_white² / n_white + σ_own² / n_own)``

where ``c``, counts an electron, comes from the white by photon transfer
(:func:`pipeline.bad_pixels.shot_gain`). Where black is the white's own dark, too, its error acts at
both places: ``(g − R / D)² · σ_black² / n_black``. Not in it: the panel's certificate, the factors
of lines, the drift between references, rounding of stored reflectance. Knows references and cubes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import shot_gain
from pipeline.container.cube import Array, Box, Cube
from pipeline.container.references import Reference, Reflectance, box_indices
from pipeline.errors import ContainerError, ReferenceMismatchError

Float64 = NDArray[np.float64]


class Uncertainty:
    """Gives the standard uncertainty of reflectances.

    Parameters
    ----------
    formula : Reflectance
    references : mapping of str to Reference
        ``white``, ``black``, their ``_std`` and, where there is one, ``white_black`` with its own.
    raw : bool
        Whether the stored cube holds counts, so that lines may have factors.

    Raises
    ------
    ReferenceMismatchError
        When a standard deviation is missing or does not fit.
    """

    def __init__(
        self, formula: Reflectance, references: Mapping[str, Reference], *, raw: bool
    ) -> None:
        self._formula, self._raw = formula, raw
        own = "white_black" if "white_black" in references else "black"
        deviations: dict[str, Float64] = {}
        for name in ("black", "white", own):
            found = references.get(f"{name}_std")
            if found is None:
                raise ReferenceMismatchError(
                    f"uncertainty: found no Reference/{name}_std.envi, the standard deviations of "
                    "white and black are needed"
                )
            if found.array.shape != references[name].array.shape:
                raise ReferenceMismatchError(
                    f"Reference/{name}_std.envi: found (bands, samples) = {found.array.shape}, "
                    f"Reference/{name}.envi has {references[name].array.shape}"
                )
            deviations[name] = found.array.astype(np.float64)
        white, dark = (references[name].array.astype(np.float64) for name in ("white", own))
        #: White above its dark, DN of the white.
        self._signal = white - dark
        self._dark = np.square(deviations["black"])
        #: Counts an electron.
        self.counts_an_electron = shot_gain(deviations["white"], deviations[own], self._signal)
        self._white = np.square(deviations["white"]) / _lines(references["white"])
        self._own = np.square(deviations[own]) / _lines(references[own])
        self._same = own == "black"
        self._black = self._dark / _lines(references["black"])

    def of(
        self,
        values: NDArray[Any],
        lines: NDArray[np.int64],
        samples: NDArray[np.int64],
        bands: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Give the uncertainty of reflectances.

        Parameters
        ----------
        values : ndarray, (lines, samples, bands)
            Reflectance.
        lines, samples, bands : ndarray of int64
            Where each of its axes lies in the stored cube.

        Returns
        -------
        ndarray of float32, (lines, samples, bands)
            One standard deviation; NaN where there is no reflectance, and for replaced pixels,
            which were not measured.
        """
        at = np.ix_(bands, samples)
        formula, out = self._formula, np.empty(values.shape, np.float32)
        factors = formula.factors(lines) if self._raw else None
        fixed = formula.fixed
        for n, line in enumerate(lines):
            corr = fixed or formula.correction(int(line))
            gain = corr.gain[at].astype(np.float64)
            if factors is not None:
                gain = gain * factors[0, n]
            value = values[n].T.astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                light = np.maximum(value / gain, 0.0)
                of_white = value / self._signal[at]
                variance = np.square(gain) * (self._dark[at] + self.counts_an_electron * light)
                variance += np.square(of_white) * self._white[at]
                if self._same:
                    variance += np.square(gain - of_white) * self._black[at]
                else:
                    variance += np.square(gain) * self._black[at]
                    variance += np.square(of_white) * self._own[at]
                sigma = np.where(gain > 0, np.sqrt(variance), np.nan)
            if formula.bad is not None:
                sigma[formula.bad[at]] = np.nan
            out[n] = sigma.T
        return out

    def laid_over(self, cube: Cube) -> Cube:
        """Give the cube of uncertainties of a cube of reflectance.

        Raises
        ------
        ContainerError
            When its pixels are not those of the stored cube any more.
        """
        if None in cube.origins:
            raise ContainerError(
                f"uncertainty: found {cube.name} among the read procedures, which mixes pixels; "
                "allowed are crop, rotate:180, swap-left-right, swap-up-down and microservices"
            )

        def computed(pixels: Array, box: Box) -> Array:
            lines, samples, bands = box_indices(cube.origins, box)
            assert lines is not None
            assert samples is not None
            assert bands is not None
            return self.of(pixels, lines, samples, bands)

        return cube.map(computed, name="uncertainty", dtype=np.dtype(np.float32))


def _lines(reference: Reference) -> float:
    """Give the lines a reference is the mean of; 1, the worst, where it does not say."""
    return max(1.0, reference.header.number("lines averaged") or 1.0)
