"""The noise of a sensor, from the white and black references of a capture.

Knows the reader and NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import Noise
from pipeline.container.header import Header
from pipeline.container.reader import Container
from pipeline.errors import ReferenceMismatchError

#: The largest count; no deviation is larger.
_BRIGHTEST: Final = 65535.0


def sensor_noise(source: Container) -> Noise:
    """Give the noise of a raw capture as a function of its counts; see :func:`noise_of`.

    Raises
    ------
    ReferenceMismatchError
        When the file does not hold raw counts, or there is no deviation of its black.
    """
    references = {name: reference.array for name, reference in source.references.items()}
    return noise_of(source.header, references, str(source.path))


def noise_of(header: Header, found: Mapping[str, NDArray[np.float32]], where: str) -> Noise:
    """Give the noise of raw counts as a function of them.

    The dark variance is that of the lines of the black reference (``Reference/black_std.envi``).
    Where the white has its deviation too, shot noise is the slope of the photon transfer curve
    between both: (white_std² − black_std²) / (white − black), over all pixels that are not
    saturated (Janesick, Photon Transfer, SPIE 2007).

    Parameters
    ----------
    header : Header
        Of the counts.
    found : mapping of str to ndarray of float32, (bands, samples)
        References by name: ``white``, ``black``, ``white_std``, ``black_std``.
    where : str
        What messages call them.

    Raises
    ------
    ReferenceMismatchError
        When these are no raw counts, or there is no deviation of their black.
    """
    if "reflectance scale factor" in header:
        raise ReferenceMismatchError(
            f"{where}: noise: found reflectance, allowed are raw counts; give an error"
        )
    if "black_std" not in found:
        raise ReferenceMismatchError(
            f"{where}: noise: found no Reference/black_std.envi, which tells the sensor's "
            "noise; give an error instead"
        )
    for name in sorted({*found} & {"white", "black", "white_std", "black_std"}):
        plane = found[name]
        if plane.shape != (header.bands, header.samples):
            raise ReferenceMismatchError(
                f"{where}: noise: found a {name} of {plane.shape}, allowed are "
                f"{(header.bands, header.samples)} bands, samples"
            )
    dark = np.square(found["black_std"], dtype=np.float64)
    known = dark[np.isfinite(dark)]
    variance = float(known.mean()) if known.size else np.nan
    if not variance <= _BRIGHTEST**2:
        raise ReferenceMismatchError(
            f"{where}: noise: found a deviation of the black of {np.sqrt(variance):.6g} counts, "
            f"allowed are 0 to {_BRIGHTEST:.0f}"
        )
    if not {"white", "white_std", "black"} <= {*found}:
        return Noise(variance)
    white, black = (np.asarray(found[name], np.float64) for name in ("white", "black"))
    light = np.square(found["white_std"], dtype=np.float64)
    ceiling = header.number("saturation level") or np.inf
    with np.errstate(invalid="ignore"):
        good = (white > black) & (white < 0.95 * ceiling) & np.isfinite(light - dark)
    signal = float((white - black)[good].sum())
    slope = max(float((light - dark)[good].sum()) / signal, 0.0) if signal > 0 else 0.0
    # The curve begins at the black level, not at count 0.
    offset = float(np.nanmean(black))
    made = Noise(max(variance - slope * offset, 0.0), slope)
    if not made.sigma(_BRIGHTEST) <= _BRIGHTEST:
        raise ReferenceMismatchError(
            f"{where}: noise: found one of {made.sigma(_BRIGHTEST):.6g} counts at full scale by "
            f"white_std, allowed are 0 to {_BRIGHTEST:.0f}"
        )
    return made
