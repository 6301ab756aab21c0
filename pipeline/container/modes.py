"""Storage modes: what the header of ``data.envi`` says when it is not the raw counts.

Each function takes the header of a raw capture and gives the header of the stored form; the pixels
are made elsewhere. Knows the header and the bottom modules only.
"""

from __future__ import annotations

from typing import Final

from pipeline.container.header import Header
from pipeline.layout import envi_code
from pipeline.reflectance import IGNORE, SCALE

#: dtype → (scale factor, ignore value) of stored reflectance.
REFLECTANCE_TYPES: Final[dict[str, tuple[float, float]]] = {
    "int16": (SCALE, IGNORE),
    "uint16": (SCALE, 65535),
    "float32": (1.0, IGNORE),
}
#: Fields that speak of raw counts or of raw pixels being corrected.
_RAW_ONLY: Final = ("bit depth", "saturation level", "data gain values", "data offset values")


def reflectance_header(raw: Header, dtype: str) -> Header:
    """Give the header of stored reflectance.

    Parameters
    ----------
    raw : Header
        Of the raw capture.
    dtype : {"int16", "uint16", "float32"}
        The first is reflectance × 10000 with −32768 for what is invalid.
    """
    header = raw.copy()
    scale, ignore = REFLECTANCE_TYPES[dtype]
    for name in (*_RAW_ONLY, "read procedures"):
        if name in header:
            header.remove(name)
    header.set("data type", envi_code(dtype))
    header.set("reflectance scale factor", scale)
    header.set("data ignore value", ignore)
    return header


def pca_header(
    raw: Header,
    *,
    components: int,
    block_lines: int,
    step: float,
    reflectance: bool,
) -> Header:
    """Give the header of stored PCA scores (decisions: file type PCA, coding int16).

    Parameters
    ----------
    raw : Header
        Of the raw capture.
    components : int
        K, the number of score images.
    block_lines : int
        Lines that share a basis.
    step : float
        Counts per score unit.
    reflectance : bool
        Whether references are there, so that reading goes on to reflectance.
    """
    header = raw.copy()
    header.set("pca version", 1)
    header.set("pca coding", "int16")
    header.set("pca bands", raw.bands)
    header.set("pca data type", envi_code(raw.dtype))
    header.set("pca block lines", block_lines)
    header.set("pca step", step)
    for name in ("wavelength", "fwhm"):
        if name in raw:
            header.set(f"pca {name}", raw[name])
    header.set("pca wavelength units", str(raw.get("wavelength units", "Index")))
    for name in ("fwhm", "band names", "default bands", "bbl", "data ignore value"):
        if name in header:
            header.remove(name)
    header.set("file type", "PCA")
    header.set("data type", 2)
    header.set("bands", components)
    header.set("band names", [f"PC {k}" for k in range(1, components + 1)])
    header.set("wavelength", list(range(1, components + 1)))
    header.set("wavelength units", "Index")
    procedures = ["microservice:pca"]
    if reflectance:
        procedures.append("microservice:reflectance")
    header.set("read procedures", procedures)
    return header
