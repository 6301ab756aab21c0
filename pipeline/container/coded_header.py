"""What the header of a coded cube says: how it decodes, and how far it is from what was coded.

From a plain header to that of the coded form and back. Knows headers and what a coding says of
itself; nothing of blocks or files.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pipeline.coding.interface import BlockStats, Coding, Masks
from pipeline.container.header import Header
from pipeline.container.header_text import CODED
from pipeline.container.partial import stream_json
from pipeline.container.scaling import ignore_value
from pipeline.errors import ContainerError
from pipeline.layout import ENVI_TYPES, envi_code

#: Header field: lines of every block but the last.
BLOCK_LINES: Final = "coded block lines"
#: What fields say of how far a coded cube is from what was coded, behind ``pca`` or ``coded``.
ERRORS: Final = ("max error", "rmse", "mean spectral angle")
#: Those fields; they are kept when the cube is decoded.
ERROR_FIELDS: Final = tuple(f"{kind} {name}" for kind in ("pca", "coded") for name in ERRORS)
#: Fields that a capture sets, or sets anew, when it ends.
_OF_THE_END: Final = (
    *("lines", "acquisition time", "start time", "stop time", "lines lost", "gaps", "errors"),
    *("pca pixels", "pca step", "pca steps"),
)
#: For those, the error fields, four entries of a ZIP file and a page of padding, bytes.
_ROOM: Final = 6 << 10


def decoded_type(header: Header) -> np.dtype[Any]:
    """Give the type of the pixels of a coded cube, native byte order.

    Raises
    ------
    ContainerError
        When ``decoded data type`` is none of ENVI's.
    """
    code = header.get("decoded data type")
    if not isinstance(code, int) or code not in ENVI_TYPES:
        allowed = ", ".join(map(str, ENVI_TYPES))
        raise ContainerError(f"decoded data type: found {code!r}, allowed are {allowed}")
    return np.dtype(ENVI_TYPES[code])


def stated_error(header: Header) -> int | None:
    """Give the counts that a pixel may be off as a header states; None where it does not.

    A file states it as ``pca max error`` or ``coded max error``, a decoded one goes on to. Where
    somebody else's header has both, the larger counts.
    """
    found = [header.get(name) for name in ("pca max error", "coded max error")]
    return max((v for v in found if isinstance(v, int) and v >= 0), default=None)


def plain_header(header: Header, coding: Coding) -> Header:
    """Give the header of the cube that a coded one decodes to: BIL, little endian.

    What coding with an error cost stays in it (``pca max error`` …).
    """
    plain = header.copy()
    kept = ERROR_FIELDS if stated_error(header) else ()
    coded = {name.casefold() for name in coding.fields()} | {"decoded data type"}
    for name in list(plain):
        key = name.casefold()
        if key in coded or (key.startswith(("pca ", "coded ")) and key not in kept):
            plain.remove(name)
    plain.set("file type", "ENVI Standard")
    plain.set("data type", header["decoded data type"])
    plain.set("interleave", "bil")
    plain.set("byte order", 0)
    plain.set("header offset", 0)
    return plain


def coded_header(plain: Header, coding: Coding) -> Header:
    """Give the header of the coded form of a cube, but for what only its end knows."""
    header = plain.copy()
    header.set("decoded data type", envi_code(coding.shape.dtype))
    header.set("file type", coding.file_type)
    header.set("data type", CODED)
    header.set("interleave", "bil")
    header.set("byte order", 0)
    header.set("header offset", 0)
    header.set(BLOCK_LINES, coding.block_lines)
    if coding.file_type == "PCA":
        header.set("pca bands", header.bands)
        header.set("pca block lines", coding.block_lines)
        if header.wavelength_nm is not None:
            header.set("pca wavelength", header["wavelength"])
            header.set("pca wavelength units", header.get("wavelength units", "Nanometers"))
    for name, value in coding.fields().items():
        header.set(name, value)
    return header


def final_fields(source: Header, coding: Coding, stats: BlockStats) -> dict[str, Any]:
    """Give what is known at the end; an earlier error, to which none was added, stands.

    For PCA that is the step too (counts), or least and largest where blocks have steps of their
    own.
    """
    kind = "pca" if coding.file_type == "PCA" else "coded"
    known: dict[str, Any] = {}
    if kind == "pca":
        known["pca pixels"] = stats.pixels
        if stats.steps is not None:
            least, largest = stats.steps
            step = {"pca step": least} if least == largest else {"pca steps": [least, largest]}
            known |= step
    if not stated_error(source):
        rmse, angle = (float(f"{value:.6g}") for value in (stats.rmse, stats.mean_angle))
        values = (stats.max_error, rmse, angle)
        known |= {f"{kind} {name}": value for name, value in zip(ERRORS, values, strict=True)}
    return known


def beside_bytes(plain: Header, coding: Coding) -> int:
    """Give bytes that suffice for what a file has for a coded cube beside blocks and their rows.

    The header twice (``data.hdr``, ``Metadata/stream.json``), the structures of the ZIP file, and
    the padding before ``data.envi``. The same before a capture and after it: what only its end
    knows is given room and not looked at.
    """
    header = coded_header(plain, coding)
    for name in (*_OF_THE_END, *ERROR_FIELDS):
        header.remove(name)
    header.set("lines", 0)
    return len(header.encode()) + len(stream_json(header, {})) + _ROOM


def masks_of(header: Header, dtype: np.dtype[Any]) -> Masks:
    """Give what a header says of pixels that have to come back exactly."""
    good = header.floats("bbl")
    bad = tuple(value == 0 for value in good or ()) if len(good or ()) == header.bands else ()
    ignore = ignore_value(header, dtype)
    saturation = header.whole("saturation level")
    if saturation is not None and not 0 < saturation <= np.iinfo(dtype).max:
        saturation = None
    return Masks(
        bad_bands=bad if any(bad) else (),
        ignore=None if ignore is None else int(ignore),
        saturation=saturation,
    )
