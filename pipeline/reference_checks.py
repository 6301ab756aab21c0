"""Whether a reference may serve a scan: what differs, what is too old, what is no white or black.

:func:`misfits` compares conditions, :func:`white_faults` and :func:`black_faults` look at the
counts; each gives half sentences with what was found and what is allowed. The rig file decides
whether they refuse or warn. Knows conditions, the rig file's structures and NumPy; no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ReferencesConfig
from pipeline.reference_conditions import Conditions

#: Share of a white's pixels that may be saturated before it is refused.
MAX_SATURATED: Final = 0.01
#: A mean of counts so near the saturation level is one of saturated lines.
SATURATED_MEAN: Final = 0.995
#: Share of the range above its dark that the brightest hundredth of a white has to reach: below,
#: rounding and read noise weigh in all that is corrected with it.
MIN_WHITE: Final = 0.1
#: Share of the range up to which the level of a black may lie; a warm InGaAs sensor reaches 0.3.
MAX_BLACK: Final = 0.5
#: Share of the range by which the bands of a black may differ: darkness has no spectrum.
MAX_BLACK_SPECTRUM: Final = 0.01
#: Exposures that differ by less are the same: cameras round them.
SAME_EXPOSURE: Final = 1e-3


@dataclass(frozen=True)
class Misfit:
    """One thing that speaks against a reference.

    Attributes
    ----------
    what : str
        In a word or two: ``gain``, ``age``, ``geometry`` …
    text : str
        Half a sentence with both values, such as ``gain is 6, the camera's is 0``.
    """

    what: str
    text: str


def misfits(
    kind: str,
    reference: Conditions,
    scan: Conditions,
    config: ReferencesConfig,
    *,
    of: str = "the camera's",
) -> list[Misfit]:
    """Say what of a reference does not fit a scan, geometry left to its own module.

    Parameters
    ----------
    kind : {"white", "black"}
        Only a ``black`` has to have the exposure of the scan: whites are scaled.
    reference, scan : Conditions
        What one of them does not know is not compared.
    config : ReferencesConfig
        The limits.
    of : str
        Whose conditions ``scan`` are, in the sentences.
    """
    found = []
    if _differ(reference.serial, scan.serial):
        found.append(
            Misfit("serial number", f"serial number is {reference.serial}, {of} is {scan.serial}")
        )
    own, wanted = reference.gain, scan.gain
    if not (own is None or wanted is None or math.isclose(own, wanted, abs_tol=1e-6)):
        found.append(Misfit("gain", f"gain is {own:g}, {of} is {wanted:g}"))
    if _differ(_unpacked(reference.pixel_format), _unpacked(scan.pixel_format)):
        text = f"pixel format is {reference.pixel_format}, {of} is {scan.pixel_format}"
        found.append(Misfit("pixel format", text))
    if kind == "black" and not same_exposure(reference.exposure, scan.exposure):
        text = (
            f"exposure is {reference.exposure:g} ms, {of} is {scan.exposure:g} ms, and a black is "
            "not scaled: take one at this exposure, or keep blacks of two exposures in a folder, "
            "of which it is computed"
        )
        found.append(Misfit("exposure", text))
    age = age_h(reference, scan)
    if age is not None and config.max_age_h and age > config.max_age_h:
        assert reference.time is not None
        assert scan.time is not None
        which = "older" if reference.time < scan.time else "newer"
        text = f"it is {hours(age)} {which} than the scan, max_age_h allows {config.max_age_h:g} h"
        found.append(Misfit("age", text))
    if reference.temperature is not None and scan.temperature is not None:
        apart = abs(reference.temperature - scan.temperature)
        if config.max_temperature_c and apart > config.max_temperature_c:
            text = (
                f"temperature is {reference.temperature:g} °C, {of} is {scan.temperature:g} °C, "
                f"max_temperature_c allows a difference of {config.max_temperature_c:g} °C"
            )
            found.append(Misfit("temperature", text))
    return found


def exposure_faults(kind: str, reference: Conditions) -> list[Misfit]:
    """Say that an exposure is none, with which nothing can be scaled, compared or computed.

    A black may have 0 ms: that is a bias frame.
    """
    exposure = reference.exposure
    if exposure is None or (math.isfinite(exposure) and exposure > 0):
        return []
    if kind == "black" and exposure == 0:
        return []
    above = "from 0 up" if kind == "black" else "above 0"
    return [Misfit("exposure value", f"exposure is {exposure:g} ms, allowed is a number {above}")]


def white_faults(
    white: NDArray[Any],
    dark: NDArray[Any] | None,
    saturation: float | None,
    saturated: float | None = None,
) -> list[str]:
    """Say what is wrong with a white: saturated, or too dim.

    Parameters
    ----------
    white, dark : ndarray, (bands, samples)
        Means, counts; without a dark the white's own counts are the signal.
    saturation : float, optional
        Count from which a pixel is saturated; without it nothing is known.
    saturated : float, optional
        Share of saturated pixels where lines were counted; from the mean where left out.
    """
    if not np.isfinite(white).any():
        return ["its pixels hold no number (allowed: counts)"]
    if not saturation:
        return []
    share = saturated
    if share is None:
        share = float(np.mean(white >= SATURATED_MEAN * saturation))
    if share > MAX_SATURATED:
        return [
            f"{100 * share:.1f} % of its pixels are saturated (allowed: {100 * MAX_SATURATED:.0f} "
            "%); shorten the exposure or dim the lamp"
        ]
    if dark is not None and not np.isfinite(dark).any():
        return ["the pixels of its dark hold no number (allowed: counts)"]
    floor = 0.0 if dark is None else float(np.nanmedian(dark))
    signal = float(np.nanpercentile(white if dark is None else white - dark, 99.0))
    reached = signal / max(saturation - floor, 1.0)
    if reached < MIN_WHITE:
        return [
            f"too dim: its brightest pixels reach {100 * reached:.1f} % of the range above the "
            f"dark (allowed: {100 * MIN_WHITE:.0f} % and more); switch the lamp on, bring the "
            "panel into view, or lengthen the exposure"
        ]
    return []


def black_faults(black: NDArray[Any], saturation: float | None) -> list[str]:
    """Say what is wrong with a black: light fell on it.

    Darkness has no spectrum: the median over the samples of each band is compared between bands,
    which neither hot pixels nor the offsets of columns move. Its level is the other sign.

    Parameters
    ----------
    black : ndarray, (bands, samples)
        Mean, counts.
    saturation : float, optional
        Count from which a pixel is saturated; without it nothing is known.
    """
    known = np.isfinite(black).any(axis=1)
    if not known.any():
        return ["its pixels hold no number (allowed: counts)"]
    if not saturation:
        return []
    bands = np.nanmedian(black[known], axis=1)
    level = float(np.nanmedian(bands)) / saturation
    spread = float(np.nanpercentile(bands, 95.0) - np.nanpercentile(bands, 5.0)) / saturation
    if level > MAX_BLACK:
        return [
            f"it is not dark: its level is {100 * level:.0f} % of the range (allowed: "
            f"{100 * MAX_BLACK:.0f} %); close the shutter or cover the lens, or shorten the "
            "exposure"
        ]
    if spread > MAX_BLACK_SPECTRUM:
        return [
            f"it is not dark: its bands differ by {100 * spread:.1f} % of the range (allowed: "
            f"{100 * MAX_BLACK_SPECTRUM:.0f} %), so light leaks in; close the shutter or cover "
            "the lens, and look for where it comes from"
        ]
    return []


def same_exposure(first: float | None, second: float | None) -> bool:
    """Whether two exposures (ms) are the same, or one of them is not known."""
    if first is None or second is None:
        return True
    return math.isclose(first, second, rel_tol=SAME_EXPOSURE)


def age_h(reference: Conditions, scan: Conditions) -> float | None:
    """Give how long before (or after) a scan a reference was taken, hours; None where unknown.

    Where one of them tells the day alone, it is the shortest that this may be.
    """
    if reference.time is None or scan.time is None:
        return None
    begin, end, day_only = reference.time, scan.time, reference.day_only
    if begin > end:
        begin, end, day_only = end, begin, scan.day_only
    apart = (end - begin).total_seconds() / 3600
    return max(apart - (24.0 if day_only else 0.0), 0.0)


def hours(age: float) -> str:
    """Write an age: ``14 min``, ``3.2 h``, ``12 days``."""
    if age < 1:
        return f"{60 * age:.0f} min"
    return f"{age:.1f} h" if age < 48 else f"{age / 24:.0f} days"


def _differ(first: str | None, second: str | None) -> bool:
    return first is not None and second is not None and first != second


def _unpacked(pixel_format: str | None) -> str | None:
    """Give the format of the counts: Mono12p and Mono12Packed hold those of Mono12."""
    return None if pixel_format is None else pixel_format.removesuffix("Packed").removesuffix("p")
