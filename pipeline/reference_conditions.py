"""Under which conditions lines were taken: all that makes a reference comparable with a scan.

:class:`Conditions` is one structure for both sides, made of a camera, of a scan that is replayed,
or of the header of a reference, its comment lines included. Knows headers and the camera's own
words; not what fits what (that is :mod:`pipeline.reference_checks`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pipeline.container.fields import parse_time
from pipeline.container.header import Header
from pipeline.container.vendor_comments import comment_fields
from pipeline.describe import parse_fields, utc_text
from pipeline.stream.messages import CameraInfo

#: How a camera makes one pixel of a bin: the mean of its counts, their sum, or of the charges
#: that are added before the one conversion.
BinningMode = Literal["mean", "sum", "charge"]
Pair = tuple[int, int]

#: Header fields that a reference keeps.
KEPT: Final = (
    "acquisition time",
    "exposure",
    "gain",
    "binning",
    "hroi",
    "vroi",
    "flip",
    "serial number",
    "pixel format",
    "saturation level",
    "temperature",
    "lines averaged",
    "lines rejected",
    "white reflectance",
    "panel name",
)


@dataclass(frozen=True)
class Conditions:
    """What is known of how lines were taken; None where it is not.

    Attributes
    ----------
    bands, samples : int
        Of a line.
    serial, pixel_format : str
    binning : tuple of int
        Spectral, spatial.
    hroi, vroi : tuple of int
        First and last sample and band, from 1, both included, in binned pixels of the sensor.
    flip : tuple of str
        Of ``spectral``, ``spatial``: axes that were turned round after the region was cut.
    exposure : float
        ms.
    gain, temperature : float
        In the camera's unit; °C.
    time : datetime
        UTC; of a whole day where ``day_only``.
    saturation : float
        Count from which a pixel is saturated.
    mode : {"mean", "sum", "charge"}
        How the camera bins; ``unsure`` where it says "sum", which may be of counts or charges.
    """

    bands: int
    samples: int
    serial: str | None = None
    pixel_format: str | None = None
    binning: Pair | None = None
    hroi: Pair | None = None
    vroi: Pair | None = None
    flip: tuple[str, ...] = ()
    exposure: float | None = None
    gain: float | None = None
    temperature: float | None = None
    time: dt.datetime | None = None
    day_only: bool = False
    saturation: float | None = None
    mode: BinningMode | Literal["unsure"] | None = None


def comparable_fields(
    info: CameraInfo, when: dt.datetime, flip: Sequence[str] = ()
) -> dict[str, Any]:
    """Give the header fields that make a reference comparable with a scan."""
    fields: dict[str, Any] = {
        "acquisition time": utc_text(when),
        "exposure": info.exposure_ms,
        "gain": info.gain,
        "binning": list(info.binning),
        "hroi": list(info.hroi) if info.hroi else None,
        "vroi": list(info.vroi) if info.vroi else None,
        "flip": list(flip) or None,
        "serial number": info.serial or None,
        "pixel format": info.pixel_format or None,
        "saturation level": info.saturation_level,
        "temperature": info.temperature_c,
    }
    return {name: value for name, value in fields.items() if value is not None}


def camera_conditions(
    info: CameraInfo, flip: Sequence[str] = (), mode: BinningMode | None = None
) -> Conditions:
    """Give the conditions of the scan that an armed camera is about to deliver.

    A replay's are those of the recording, its time and comment lines included.

    Parameters
    ----------
    info : CameraInfo
    flip : sequence of str
        ``[camera] flip`` of the rig file.
    mode : {"mean", "sum", "charge"}, optional
        ``[references] binning_mode``; what the camera's features say where it is left out.
    """
    fields = comparable_fields(info, dt.datetime.now(dt.UTC), flip)
    if info.driver == "replay":
        # What the recording does not say is not known, whatever the driver takes instead.
        named = ("exposure", "gain", "temperature")
        fields = {name: fields[name] for name in named if name in fields}
        source = parse_fields(info.header, "replayed header", [])
        fields.update(kept_fields(source, info.comments, info.bands, info.samples))
    found = conditions(fields, info.bands, info.samples)
    return replace(found, mode=mode or _mode_of(info))


def kept_fields(
    header: Header, comments: Sequence[str], bands: int, samples: int
) -> dict[str, Any]:
    """Give the fields of a header that a reference keeps, from its comment lines where need be."""
    told = comment_fields(comments, bands, samples)
    fields: dict[str, Any] = {name: told[name] for name in KEPT if name in told}
    fields.update({name: header[name] for name in KEPT if name in header})
    return fields


def conditions(fields: Mapping[str, Any], bands: int, samples: int) -> Conditions:
    """Read conditions from header values; what cannot be read is not known."""
    when = fields.get("acquisition time")
    flip = fields.get("flip") or ()
    return Conditions(
        bands,
        samples,
        serial=_text(fields.get("serial number")),
        pixel_format=_text(fields.get("pixel format")),
        binning=_pair(fields.get("binning")),
        hroi=_pair(fields.get("hroi")),
        vroi=_pair(fields.get("vroi")),
        flip=tuple(sorted([flip] if isinstance(flip, str) else map(str, flip))),
        exposure=number(fields.get("exposure")),
        gain=number(fields.get("gain")),
        temperature=number(fields.get("temperature")),
        time=parse_time(when) if isinstance(when, str) else None,
        day_only=isinstance(when, str) and len(when.strip()) <= len("2026-01-02"),
        saturation=number(fields.get("saturation level")),
    )


def number(value: Any) -> float | None:
    """Read a header value as a number, a list by its first; None where it is none."""
    if isinstance(value, list):
        value = value[0] if value else None
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _mode_of(info: CameraInfo) -> Literal["mean", "unsure"] | None:
    """Read SFNC's ``BinningHorizontalMode`` and ``BinningVerticalMode``: Sum or Average."""
    said = {
        str(info.features[name]).casefold()
        for name in ("BinningHorizontalMode", "BinningVerticalMode")
        if info.features.get(name) is not None
    }
    if said == {"average"}:
        return "mean"
    return "unsure" if said == {"sum"} else None


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _pair(value: Any) -> Pair | None:
    """Read two whole numbers from 1 up."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    try:
        first, second = (int(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (first, second) if first >= 1 and second >= 1 else None
