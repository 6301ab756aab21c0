"""The thumbnail: a JPEG in true colour where the wavelengths allow it, made from the preview.

Knows NumPy and, to encode, imagecodecs; nothing of blocks or files.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.reflectance import IGNORE, SCALE

#: Red, green, blue: centre and half width of the bands averaged for true colour, nm.
COLOURS: Final = ((640.0, 20.0), (550.0, 20.0), (460.0, 20.0))
#: How far from its centre a colour may lie when no band is within the half width, nm.
FAR_NM: Final = 30.0
#: Longest side of the picture, pixels.
LONGEST: Final = 2048
#: Narrower pictures are magnified by a whole factor up to about this width, pixels.
WIDTH: Final = 320
#: Parts of the pixels that may become black and white, percent.
DARKEST, BRIGHTEST = 0.5, 99.5
#: JPEG quality, percent.
QUALITY: Final = 90


class Rows(Protocol):
    """What a preview has to offer: an array, a memory map, or rows read from a file as asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(lines, samples, bands)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a stored value."""

    def __getitem__(self, lines: slice, /) -> NDArray[Any]:
        """Give consecutive lines: (lines, samples, bands)."""


def thumbnail_jpeg(
    preview: Rows, wavelengths_nm: NDArray[np.float64] | None, reflectance: bool
) -> bytes:
    """Make ``thumbnail.jpg`` from a preview.

    Parameters
    ----------
    preview : ndarray or Rows, (lines, samples, bands)
        int16 reflectance × 10000, or mean counts; read a few lines at a time.
    wavelengths_nm : ndarray of float64, (bands,), optional
        Without them, or without three colours among them, three well-spread bands are shown.
    reflectance : bool
        Whether the values are reflectance: one stretch then serves all three colours, so that
        white stays white; else each is stretched by itself.

    Returns
    -------
    bytes
        A JPEG file, sRGB.
    """
    import imagecodecs

    picture = picture_rgb(preview, wavelengths_nm, reflectance)
    return bytes(imagecodecs.jpeg_encode(picture, level=QUALITY))


def picture_rgb(
    preview: Rows, wavelengths_nm: NDArray[np.float64] | None, reflectance: bool
) -> NDArray[np.uint8]:
    """Make the picture of a thumbnail: uint8, (height, width, 3), sRGB."""
    lines, samples, bands = preview.shape
    if min(lines, samples, bands) < 1:
        return np.zeros((8, 8, 3), np.uint8)
    groups, true_colour = choose_bands(bands, wavelengths_nm)
    shrink = -(-max(lines, samples) // LONGEST)
    colours = np.stack([_mean_of(preview, group, shrink) for group in groups], axis=-1)
    if reflectance:
        colours /= SCALE
    known = np.asarray(np.isfinite(colours).all(axis=-1))
    if not known.any():
        return np.zeros((*colours.shape[:2], 3), np.uint8)
    together = reflectance and true_colour
    low, high = np.percentile(colours[known], (DARKEST, BRIGHTEST), axis=None if together else 0)
    if together:
        low = np.minimum(low, 0.05)  # a scene without anything dark is not stretched to black
    span = np.maximum(high - low, 1e-6)
    linear = np.where(known[..., None], np.clip((colours - low) / span, 0, 1), 0)
    # the sRGB transfer curve (IEC 61966-2-1)
    encoded = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, 1 / 2.4) - 0.055
    )
    picture = np.rint(encoded * 255).astype(np.uint8)
    times = max(1, min(round(WIDTH / picture.shape[1]), LONGEST // max(picture.shape[:2])))
    return np.ascontiguousarray(picture.repeat(times, axis=0).repeat(times, axis=1))


def choose_bands(
    bands: int, wavelengths_nm: NDArray[np.float64] | None
) -> tuple[list[NDArray[np.intp]], bool]:
    """Choose which bands make red, green and blue; and say whether that is true colour."""
    if wavelengths_nm is not None and len(wavelengths_nm) == bands:
        nm = np.asarray(wavelengths_nm, np.float64)
        groups = []
        for centre, half in COLOURS:
            distance = np.abs(nm - centre)
            near = np.flatnonzero(distance <= half)
            if not len(near) and distance.min() <= FAR_NM:
                near = np.array([distance.argmin()])
            groups.append(near)
        if all(len(group) for group in groups):
            return groups, True
    # the middles of the upper, middle and lower third: longest wavelength red, as the eye has it
    middles = [(2 * part + 1) * bands // 6 for part in (2, 1, 0)]
    width = max(bands // 24, 1)
    return [
        np.arange(max(middle - width // 2, 0), min(middle - width // 2 + width, bands))
        for middle in middles
    ], False


def _mean_of(preview: Rows, group: NDArray[np.intp], shrink: int) -> NDArray[np.float64]:
    """Average a group of bands and ``shrink`` × ``shrink`` pixels; NaN where nothing is valid."""
    rows = []
    integer = preview.dtype.kind in "iu"
    for start in range(0, preview.shape[0], shrink):
        part = preview[start : start + shrink][..., group]
        ok = part != IGNORE if integer else np.isfinite(part)
        edges = np.arange(0, preview.shape[1], shrink)
        total = np.where(ok, part, 0).astype(np.float64).sum(axis=(0, 2))
        count = ok.sum(axis=(0, 2))
        count = np.add.reduceat(count, edges)
        with np.errstate(divide="ignore", invalid="ignore"):
            rows.append(np.add.reduceat(total, edges) / count)
    return np.stack(rows)
