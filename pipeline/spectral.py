"""The spectral axis of a camera: wavelengths and widths of its bands, from the rig file.

Cameras report neither; the rig file gives them by unbinned sensor row, as a line, a polynomial or
a CSV table. Binning averages rows and widens them, a spectral ROI crops them. Knows NumPy, the rig
file's structures and the error tree; nothing of cameras or files in ENVI form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Wavelengths
from pipeline.errors import ConfigError

#: FWHM² of a Gaussian over its variance.
FWHM2_PER_VARIANCE: Final = 8.0 * math.log(2.0)

_WHERE: Final = "[camera] wavelengths"
_ALLOWED: Final = (
    "allowed are { first, last }, { coefficients }, a CSV file of nm and fwhm by sensor row, "
    'or "index"'
)


@dataclass(frozen=True)
class SpectralAxis:
    """Wavelengths of the bands of a line, in the order of the bands.

    Attributes
    ----------
    wavelength : ndarray of float64, (bands,)
        Centres, nm; 1, 2, … where ``units`` is ``Index``.
    fwhm : ndarray of float64, (bands,), or None
        Full widths at half maximum, nm; None where they are not known.
    units : {"Nanometers", "Index"}
        As ENVI spells ``wavelength units``.
    """

    wavelength: NDArray[np.float64]
    fwhm: NDArray[np.float64] | None
    units: str = "Nanometers"

    @property
    def bands(self) -> int:
        """Number of bands."""
        return int(self.wavelength.size)

    @property
    def ends_nm(self) -> tuple[float, float] | None:
        """Shortest and longest wavelength, nm; None where bands are only numbered."""
        if self.units == "Index":
            return None
        return float(self.wavelength.min()), float(self.wavelength.max())


def spectral_axis(
    w: Wavelengths | str | None,
    *,
    rows: int,
    binning: int = 1,
    vroi: tuple[int, int] | None = None,
    base: Path | None = None,
    flip: Sequence[str] = (),
) -> SpectralAxis:
    """Make the spectral axis of what the camera delivers.

    Parameters
    ----------
    w : Wavelengths or str
        ``[camera] wavelengths`` of the rig file: a line, a polynomial, ``"index"``, or the path
        of a CSV file with one row ``nm[,fwhm]`` for each unbinned sensor row.
    rows : int
        Unbinned sensor rows along the spectrum.
    binning : int
        Rows added to one; rows that fill no whole bin are left out.
    vroi : tuple of int, optional
        First and last row of the spectral ROI, 1-based inclusive, in binned rows.
    base : Path, optional
        Folder that a relative CSV path counts from; the working directory by default.
    flip : sequence of str
        As ``[camera] flip``; with ``spectral`` the last row becomes the first band.

    Returns
    -------
    SpectralAxis
        A bin of b rows is centred on the mean of their wavelengths; its width follows from the
        variance of a sum of equally weighted Gaussians, which is the mean of theirs plus that of
        their centres: ``fwhm² = mean(fwhmᵢ²) + 8 ln 2 · var(λᵢ)``. For rows that lie d nm apart
        this is ``fwhm² + 8 ln 2 · (b² − 1)/12 · d²``.

    Raises
    ------
    ConfigError
        Without wavelengths, or where they, the binning or the ROI do not fit the sensor.
    """
    if not 1 <= binning <= rows:
        raise ConfigError(f"[camera] binning: found {binning} (spectral), allowed are 1 to {rows}")
    bands = rows // binning
    first, last = vroi if vroi is not None else (1, bands)
    if not 1 <= first <= last <= bands:
        raise ConfigError(
            f"[camera] vroi: found [{first}, {last}], allowed are binned rows 1 to {bands}"
        )
    if w is None:
        raise ConfigError(f"{_WHERE}: not given, and this camera does not report them; {_ALLOWED}")
    if w == "index":
        return SpectralAxis(np.arange(1.0, last - first + 2.0), None, "Index")
    if isinstance(w, str):
        nm, fwhm = _read_table(Path(base or ".") / w, rows)
    else:
        nm, fwhm = _computed(w, rows)
    nm, fwhm = _bin(nm, fwhm, binning)
    pick = slice(first - 1, last)
    nm, fwhm = nm[pick], None if fwhm is None else fwhm[pick]
    if "spectral" in flip:
        nm, fwhm = nm[::-1], None if fwhm is None else fwhm[::-1]
    return SpectralAxis(
        np.ascontiguousarray(nm), None if fwhm is None else np.ascontiguousarray(fwhm)
    )


def _computed(w: Wavelengths, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Wavelengths and widths (nm) by unbinned row, from a line or a polynomial."""
    if w.coefficients is not None:
        if not w.coefficients:
            raise ConfigError(f"{_WHERE}: found no coefficients, allowed is at least one")
        row = np.arange(rows, dtype=np.float64)
        nm = np.asarray(np.polynomial.polynomial.polyval(row, w.coefficients), np.float64)
        what = "coefficients"
    else:
        nm = np.linspace(w.first or 0.0, w.last or 0.0, rows)
        what = "first and last"
    _check(nm, f"{_WHERE}: {what} of {rows} rows")
    return nm, None if w.fwhm is None else np.full(rows, w.fwhm, np.float64)


def _read_table(path: Path, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Read ``nm[,fwhm]`` by unbinned row; ``#`` starts a comment, a line of titles may lead."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(
            f"{_WHERE}: cannot read the CSV file {path}: {reason}; {_ALLOWED}"
        ) from None
    values: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = [
            c.strip() for c in line.split("#")[0].replace(";", ",").replace("\t", ",").split(",")
        ]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        try:
            row = [float(c) for c in cells]
        except ValueError:
            if not values and not any(c[:1].isdigit() for c in cells):
                continue
            raise ConfigError(
                f"{_WHERE}: {path}:{number}: found {line.strip()!r}, allowed is nm or nm,fwhm"
            ) from None
        if len(row) > 2 or (values and len(row) != len(values[0])):
            raise ConfigError(
                f"{_WHERE}: {path}:{number}: found {len(row)} columns, allowed are "
                f"{len(values[0]) if values else '1 or 2'}"
            )
        values.append(row)
    if len(values) != rows:
        raise ConfigError(
            f"{_WHERE}: {path}: found {len(values)} rows, the sensor has {rows} unbinned rows"
        )
    table = np.array(values, np.float64)
    _check(table[:, 0], f"{_WHERE}: {path}")
    if table.shape[1] == 1:
        return table[:, 0], None
    if not (np.isfinite(table[:, 1]).all() and (table[:, 1] > 0).all()):
        raise ConfigError(f"{_WHERE}: {path}: found a fwhm that is not positive")
    return table[:, 0], table[:, 1]


def _check(nm: NDArray[np.float64], where: str) -> None:
    """Refuse wavelengths that are no axis: not positive, or not strictly up or down."""
    if not (np.isfinite(nm).all() and (nm > 0).all()):
        raise ConfigError(f"{where}: found a wavelength that is not positive")
    steps = np.diff(nm)
    if steps.size and not ((steps > 0).all() or (steps < 0).all()):
        raise ConfigError(f"{where}: the wavelengths do not rise or fall from row to row")


def _bin(
    nm: NDArray[np.float64], fwhm: NDArray[np.float64] | None, binning: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Average whole bins of rows; widths as :func:`spectral_axis` says."""
    if binning == 1:
        return nm, fwhm
    whole = nm.size // binning * binning
    groups = nm[:whole].reshape(-1, binning)
    if fwhm is None:
        return groups.mean(1), None
    own = np.square(fwhm[:whole]).reshape(-1, binning).mean(1)
    return groups.mean(1), np.sqrt(own + FWHM2_PER_VARIANCE * groups.var(1))
