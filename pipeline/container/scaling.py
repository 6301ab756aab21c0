"""The one way from stored values to physical ones: gain, offset and reflectance scale factor.

``value = (stored · gain + offset) / reflectance scale factor``, NaN for the data ignore value;
gain and offset by band as ENVI defines them. Knows headers and NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.header import Header
from pipeline.errors import ContainerError


def is_scaled(header: Header) -> bool:
    """Say whether stored values are something else than what they mean."""
    names = ("data gain values", "data offset values", "reflectance scale factor")
    return any(name in header for name in names)


def ignore_value(header: Header, dtype: np.dtype[Any]) -> int | float | None:
    """Give the ``data ignore value`` as the stored type can hold it; None where it cannot.

    Parameters
    ----------
    header : Header
    dtype : numpy.dtype
        Of the stored values.
    """
    value = header.number("data ignore value")
    if value is None or dtype.kind not in "iuf":
        return None
    if dtype.kind == "f":
        return value
    bounds = np.iinfo(dtype)
    if not np.isfinite(value) or value != int(value) or not bounds.min <= value <= bounds.max:
        return None
    return int(value)


def scale(
    stored: NDArray[Any], header: Header, *, bands: slice | None = None, dtype: str = "f4"
) -> NDArray[Any]:
    """Turn stored values into physical ones.

    Parameters
    ----------
    stored : ndarray, (lines, samples, bands)
    header : Header
        Of the whole cube.
    bands : slice, optional
        Which of the cube's bands ``stored`` holds; all by default.
    dtype : {"f4", "f8"}
        Of the result.

    Returns
    -------
    ndarray, (lines, samples, bands)
        Floating point with NaN for what is to be ignored; a copy of ``stored`` in native byte
        order where the header sets no scale, or the values are complex.

    Raises
    ------
    ContainerError
        When a scale is not one number or one a band, or the factor is zero.
    """
    if not is_scaled(header) or stored.dtype.kind == "c":
        return np.array(stored, dtype=stored.dtype.newbyteorder("="))
    values = np.array(stored, dtype=dtype)
    chosen = bands if bands is not None else slice(None)
    gain = _by_band(header, "data gain values", chosen)
    offset = _by_band(header, "data offset values", chosen)
    if gain is not None:
        values *= gain.astype(dtype)
    if offset is not None:
        values += offset.astype(dtype)
    if "reflectance scale factor" in header:
        factor = header.number("reflectance scale factor")
        if factor is None or not np.isfinite(factor) or factor == 0:
            raise ContainerError(
                f"reflectance scale factor: found {header['reflectance scale factor']!r}, "
                "allowed is a number other than 0"
            )
        values /= np.asarray(factor, dtype)
    ignored = ignore_value(header, stored.dtype)
    if ignored is not None:
        values[np.asarray(stored == np.asarray(ignored, stored.dtype))] = np.nan
    return values


def _by_band(header: Header, name: str, bands: slice) -> NDArray[np.float64] | None:
    if name not in header:
        return None
    found = header.floats(name)
    if found is None or len(found) not in (1, header.bands):
        raise ContainerError(
            f"{name}: found {header[name] if found is None else len(found)!r}, "
            f"allowed are 1 or {header.bands} numbers"
        )
    if len(found) == 1:
        return np.array(found)
    return np.array(found)[bands]
