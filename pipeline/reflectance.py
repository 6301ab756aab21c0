"""The reflectance formula, in one place.

``reflectance = panel · (raw − black) / ((white − white_black) · exposure / white exposure)``

(flat-field correction with a panel of known reflectance; e.g. Burger & Geladi, J. Chemometrics
19 (2005) 355–363, extended by the exposure ratio, which holds for a linear sensor). The dark is
never scaled by exposure: bias does not scale. Stored as ``int16 = round(reflectance · 10000)``
with −32768 for what is invalid. Every kernel (CPU, CUDA) and every reader uses the arrays made
here, so that they agree. Knows NumPy, layout and errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import ReferenceMismatchError

#: ``reflectance scale factor`` of stored reflectance.
SCALE: Final = 10000
#: ``data ignore value`` of stored int16 reflectance.
IGNORE: Final = -32768

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """What turns raw counts into reflectance: ``(raw − black) · gain``, by band and sample.

    Attributes
    ----------
    black : ndarray of float32, (bands, samples)
        Dark counts (DN).
    gain : ndarray of float32, (bands, samples)
        Reflectance per count; NaN where white ≤ its black (invalid).
    """

    black: Float32
    gain: Float32

    @property
    def shape(self) -> tuple[int, int]:
        """``(bands, samples)``."""
        bands, samples = self.gain.shape
        return bands, samples

    @property
    def invalid(self) -> int:
        """Number of (band, sample) without a usable white."""
        return int(np.count_nonzero(~np.isfinite(self.gain)))


def correction(
    black: ArrayLike,
    white: ArrayLike,
    *,
    white_black: ArrayLike | None = None,
    panel: ArrayLike = 1.0,
    exposure: float | None = None,
    white_exposure: float | None = None,
) -> Correction:
    """Make the arrays of the reflectance formula from references.

    Parameters
    ----------
    black, white : array_like, (bands, samples)
        Mean dark and white counts (DN).
    white_black : array_like, (bands, samples), optional
        The dark taken with the white; ``black`` where it is left out.
    panel : float or array_like, (bands,)
        Certified reflectance of the panel.
    exposure, white_exposure : float, optional
        Exposure of the data and of the white, ms. The ratio is 1 where either is unknown.

    Returns
    -------
    Correction
        Computed in float64, stored as float32.

    Raises
    ------
    ReferenceMismatchError
        When shapes differ, or an exposure or the panel's reflectance is not positive and finite.
    """
    dark = np.asarray(black, np.float64)
    bright = np.asarray(white, np.float64)
    own_dark = dark if white_black is None else np.asarray(white_black, np.float64)
    if dark.ndim != 2:
        raise ReferenceMismatchError(
            f"black reference: found {dark.ndim} axes, allowed are (bands, samples)"
        )
    for name, array in (("white", bright), ("white_black", own_dark)):
        if array.shape != dark.shape:
            raise ReferenceMismatchError(
                f"{name} reference: found (bands, samples) = {array.shape}, "
                f"the black reference has {dark.shape}"
            )
    certified = np.asarray(panel, np.float64)
    if certified.ndim and certified.shape != dark.shape[:1]:
        raise ReferenceMismatchError(
            f"white reflectance: found {certified.size} values, allowed are 1 or {dark.shape[0]}"
        )
    if not np.all((certified > 0) & (certified < np.inf)):
        raise ReferenceMismatchError(
            "white reflectance: found a value that is not positive, or infinite"
        )
    ratio = 1.0
    if exposure is not None and white_exposure is not None:
        if not (0 < exposure < np.inf and 0 < white_exposure < np.inf):
            raise ReferenceMismatchError(
                f"exposure: found {exposure} and {white_exposure} ms, allowed are positive values"
            )
        ratio = exposure / white_exposure
    signal = (bright - own_dark) * ratio
    if certified.ndim:
        certified = certified[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(signal > 0, certified / signal, np.nan)
    return Correction(dark.astype(np.float32), gain.astype(np.float32))


def apply(raw: NDArray[np.generic], corr: Correction, *, dtype: str = "f4") -> NDArray[np.floating]:
    """Compute reflectance of ``(lines, bands, samples)`` raw counts as the kernels do.

    Parameters
    ----------
    raw : ndarray, (lines, bands, samples)
        Counts.
    corr : Correction
        References of the same bands and samples.
    dtype : {"f4", "f8"}
        ``f4`` computes ``(float32(raw) − black) · gain`` in float32, exactly as the kernels;
        ``f8`` the same in float64, as their reference.

    Returns
    -------
    ndarray, (lines, bands, samples)
        Reflectance, 1.0 = 100 %; NaN where the gain is NaN.
    """
    out = raw.astype(dtype)
    out -= corr.black.astype(dtype)
    out *= corr.gain.astype(dtype)
    return out


def quantise(values: NDArray[np.floating]) -> tuple[NDArray[np.int16], int]:
    """Round reflectance to int16 × 10000, half to even; NaN becomes −32768.

    Returns
    -------
    stored : ndarray of int16
    clipped : int
        Values beyond ±3.2767, stored as the limit.
    """
    scaled = np.rint(values * np.asarray(SCALE, values.dtype))
    clipped = int(np.count_nonzero(np.abs(scaled) > 32767))
    bounded = np.clip(scaled, -32767, 32767)
    return np.where(np.isnan(scaled), IGNORE, bounded).astype(np.int16), clipped
