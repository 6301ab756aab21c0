"""What goes into a container beside the lines: references, previews, quality mask, PCA bases.

What is known at the start (:func:`starting_entries`), what grows while recording
(:func:`growing_entries`), and what is made when the last line is in (:func:`finished_entries`).
Knows stages' shapes and the container's headers; no pixels pass through here but the thumbnail's.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pipeline.arming import Plan
from pipeline.bad_pixel_map import COORDINATES, class_fields
from pipeline.config import RIG_ENTRY
from pipeline.container.envi import encode_envi
from pipeline.container.finishing import GrownEnvi
from pipeline.container.header import Header
from pipeline.container.writer import ContainerWriter
from pipeline.describe import camera_description, default_bands
from pipeline.engine import QUALITY_FLAGS, preview_levels
from pipeline.layout import envi_code
from pipeline.reflectance import IGNORE, SCALE
from pipeline.stages.thumbnail import thumbnail_jpeg

QUALITY_TEXT = "spectral bands affected per pixel, 255 = that many or more"


def starting_entries(plan: Plan) -> dict[str, bytes]:
    """Give what is known before the first line: references, camera, rig file."""
    return {
        **plan.references.entries(plan.axis),
        **_bad_pixel_entries(plan),
        f"Metadata/{plan.camera_file}.json": camera_description(plan.info),
        RIG_ENTRY: msgspec.json.format(msgspec.json.encode(plan.rig), indent=1),
        **plan.more_entries,
    }


def _bad_pixel_entries(plan: Plan) -> dict[str, bytes]:
    """Encode the kinds of a line's pixels as a picture: lines = bands, one band of classes."""
    if plan.bad_pixels is None:
        return {}
    fields = class_fields({COORDINATES: "line"}, "bad pixels of a line as it is stored")
    header, data = encode_envi(plan.bad_pixels[:, :, None], fields)
    return {"Reference/bad_pixels.hdr": header, "Reference/bad_pixels.envi": data}


def growing_entries(plan: Plan) -> dict[str, GrownEnvi]:
    """Give the ENVI entries that grow with the lines, by entry name without ending."""
    grown: dict[str, GrownEnvi] = {}
    info = plan.info
    if plan.engine.preview:
        for level, factor in enumerate(preview_levels(info.samples)):
            name = "preview" if level == 0 else f"preview_{level}"
            grown[name] = GrownEnvi(f"preview{level}", preview_header(plan, factor))
    if plan.engine.quality:
        header = envi_header(info.samples, len(QUALITY_FLAGS), "uint8")
        header.set("band names", list(QUALITY_FLAGS))
        header.set("wavelength", list(range(1, len(QUALITY_FLAGS) + 1)))
        header.set("wavelength units", "Index")
        header.set("description", QUALITY_TEXT)
        grown["Exploration/quality"] = GrownEnvi("quality", header)
    if plan.engine.pca is not None:
        for name, bands in (("pca_mean", 1), ("pca_basis", plan.engine.pca.components)):
            header = envi_header(info.bands, bands, "float32")
            header.set("wavelength", list(range(1, bands + 1)))
            header.set("wavelength units", "Index")
            grown[f"Reference/{name}"] = GrownEnvi(name, header)
    return grown


def envi_header(samples: int, bands: int, dtype: str) -> Header:
    """Make a header with the structural fields in their order; ``lines`` is 0."""
    header = Header()
    for name, value in (
        ("samples", samples),
        ("lines", 0),
        ("bands", bands),
        ("header offset", 0),
        ("file type", "ENVI Standard"),
        ("data type", envi_code(dtype)),
        ("interleave", "bil"),
        ("byte order", 0),
    ):
        header.set(name, value)
    return header


def preview_header(plan: Plan, factor: int) -> Header:
    """Make the header of a preview whose cells have ``factor`` × ``factor`` pixels."""
    reflectance = plan.engine.correction is not None
    header = envi_header(
        -(-plan.info.samples // factor), plan.info.bands, "int16" if reflectance else "float32"
    )
    if reflectance:
        header.set("reflectance scale factor", SCALE)
        header.set("data ignore value", IGNORE)
    axis = plan.axis
    index = axis.units == "Index"
    header.set("wavelength", [int(v) if index else float(v) for v in axis.wavelength])
    header.set("wavelength units", axis.units)
    if axis.fwhm is not None and not index:
        header.set("fwhm", [float(v) for v in axis.fwhm])
    header.set("default bands", default_bands(None if index else axis.wavelength, plan.info.bands))
    header.set("description", f"preview: means of {factor} x {factor} pixels")
    return header


def finished_entries(
    plan: Plan, writer: ContainerWriter, warn: Callable[[str], None]
) -> dict[str, bytes]:
    """Make what only the end knows: the thumbnail, from the smallest preview.

    The preview is read row by row, so that memory does not grow with the capture. A thumbnail that
    cannot be made costs a warning, never the file.
    """
    rows = writer.grown("preview") if plan.engine.preview else None
    if rows is None or not len(rows):
        return {}
    nm = None if plan.axis.units == "Index" else plan.axis.wavelength
    try:
        return {"thumbnail.jpg": thumbnail_jpeg(rows, nm, plan.engine.correction is not None)}
    except Exception as error:  # a picture must not cost the lines
        warn(f"thumbnail.jpg is left out: {error}")
        return {}
