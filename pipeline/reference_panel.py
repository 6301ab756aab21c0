"""The certified reflectance of the white panel, brought to the bands of a camera.

One value for all bands, or a curve over wavelength from a CSV file, weighted with each band's own
response. Knows the spectral axis and the error tree.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import GREATEST_PANEL, LEAST_NM
from pipeline.errors import ConfigError
from pipeline.spectral import FWHM2_PER_VARIANCE, SpectralAxis

#: Widths (σ of a band's response) on each side of its centre that are weighted, and points there.
_REACH, _POINTS = 4.0, 161


def panel_reflectance(
    value: float | str, axis: SpectralAxis, base: Path
) -> tuple[float | list[float], list[str]]:
    """Give the certified reflectance of the panel: one value, or one per band from a CSV file.

    The file has two columns, nm and reflectance. Each band is the mean of the certified curve
    (linear between its points) weighted by a Gaussian of the band's ``fwhm``, or the curve's
    value at the centre where the fwhm is not known.

    Parameters
    ----------
    value : float or str
        ``[references] panel``.
    axis : SpectralAxis
        Of the camera.
    base : Path
        Folder that a relative path counts from.

    Returns
    -------
    reflectance : float or list of float
    said : list of str
        Warnings: which bands reach beyond the curve with a flank.

    Raises
    ------
    ConfigError
        When the file is missing, is no such table, is in other units, or does not reach over the
        centres of all bands.
    """
    if isinstance(value, (int, float)):
        return float(value), []
    where = f"[references] panel = {value!r}"
    table = _read(where, (base / value).expanduser())
    if axis.units == "Index":
        raise ConfigError(f"{where}: needs wavelengths, this camera has none (index)")
    nm = axis.wavelength
    first, last = (float(v) for v in table[[0, -1], 0])
    if first > nm.min() or last < nm.max():
        raise ConfigError(
            f"{where}: is certified from {first:g} to {last:g} nm, which does not reach from "
            f"{nm.min():g} to {nm.max():g} nm as the camera does; name a curve that does, or cut "
            "the bands with [camera] vroi"
        )
    if axis.fwhm is None:
        return [float(v) for v in np.interp(nm, table[:, 0], table[:, 1])], []
    offsets = np.linspace(-_REACH, _REACH, _POINTS)
    weights = np.exp(-0.5 * offsets**2)
    at = nm[:, None] + axis.fwhm[:, None] / np.sqrt(FWHM2_PER_VARIANCE) * offsets
    # np.interp holds the last value beyond the ends.
    curve = np.interp(at, table[:, 0], table[:, 1])
    beyond = int(np.count_nonzero((at[:, 0] < first) | (at[:, -1] > last)))
    said = []
    if beyond:
        said.append(
            f"{where}: {beyond} of {nm.size} bands reach beyond its {first:g} to {last:g} nm with "
            "a flank, where its last value is taken"
        )
    return [float(v) for v in curve @ weights / weights.sum()], said


def _read(where: str, path: Path) -> NDArray[np.float64]:
    """Read nm and reflectance, in the order of wavelengths; a line of titles may lead."""
    if not path.is_file():
        raise ConfigError(
            f"{where}: no such file; allowed is a number, or a CSV file of nm and reflectance"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                row
                for row in csv.reader(file)
                if "".join(row).strip() and not row[0].lstrip().startswith("#")
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from None
    points: list[tuple[float, float]] = []
    for number, row in enumerate(rows):
        try:
            points.append((float(row[0]), float(row[1])))
        except (ValueError, IndexError):
            # Titles may lead; a row with a number is one of values, and must not get lost.
            if number or any(_is_number(cell) for cell in row[:2]):
                raise ConfigError(
                    f"{where}: row {number + 1} is {row}, allowed are two numbers: nm, reflectance"
                ) from None
    if len(points) < 2:
        raise ConfigError(
            f"{where}: found {len(points)} rows of numbers, allowed are two or more: nm, "
            "reflectance"
        )
    table = np.array(sorted(points))
    if not np.isfinite(table).all() or np.any(np.diff(table[:, 0]) <= 0):
        raise ConfigError(f"{where}: found a wavelength twice, or a value that is no number")
    if table[-1, 0] < LEAST_NM:
        raise ConfigError(f"{where}: ends at {table[-1, 0]:g}; is that µm? nm are expected")
    low, high = (float(v) for v in (table[:, 1].min(), table[:, 1].max()))
    if low <= 0 or high > GREATEST_PANEL:
        raise ConfigError(
            f"{where}: found reflectance {high if high > GREATEST_PANEL else low:g}, allowed is a "
            f"share above 0 up to {GREATEST_PANEL:g}; 0.95 for 95 %?"
        )
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
