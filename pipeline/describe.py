"""What a capture says about itself: the header of its container, from camera and rig file.

One function fills the header, in the order in which people read it; two small ones name the file
and list the camera's features. Knows the bottom modules, the camera's own words
(:class:`~pipeline.stream.messages.CameraInfo`) and the header of the container.
"""

from __future__ import annotations

import datetime as dt
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.config import Rig
from pipeline.container.fields import normalise
from pipeline.container.header import Header, sanitise
from pipeline.errors import ConfigError, HeaderError
from pipeline.spectral import SpectralAxis
from pipeline.stream.messages import CameraInfo

#: Fields that the container decides, never a replayed source or the rig file's ``[metadata]``.
STRUCTURAL: Final = frozenset(
    {
        "samples",
        "lines",
        "bands",
        "header offset",
        "file type",
        "data type",
        "interleave",
        "byte order",
        "lines lost",
        "gaps",
    }
)


@dataclass(frozen=True)
class Times:
    """When a capture began and ended, UTC."""

    start: dt.datetime
    stop: dt.datetime | None = None


def utc_text(moment: dt.datetime) -> str:
    """Write a time as D4.1's second form, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def default_bands(wavelength_nm: NDArray[np.float64] | None, bands: int) -> list[int]:
    """Choose the 1-based bands of red, green and blue, or three spread ones.

    Parameters
    ----------
    wavelength_nm : ndarray, (bands,), optional
        Centre wavelengths, nm. True colour needs bands within 30 nm of 640, 550 and 460 nm.
    bands : int
        Number of bands.
    """
    if wavelength_nm is not None:
        picked = []
        for centre in (640.0, 550.0, 460.0):
            nearest = int(np.argmin(np.abs(wavelength_nm - centre)))
            if abs(wavelength_nm[nearest] - centre) > 30.0:
                break
            picked.append(nearest + 1)
        else:
            return picked
    return [min(bands, 1 + bands * part // 4) for part in (3, 2, 1)]


def capture_header(
    rig: Rig,
    info: CameraInfo,
    axis: SpectralAxis,
    times: Times,
    *,
    lines: int,
    read_procedures: list[str],
    warnings: list[str],
) -> Header:
    """Fill the header of a raw capture; storage modes amend it (pipeline/container/modes.py).

    Parameters
    ----------
    rig, info, axis, times
        The rig file, the armed camera, its wavelengths, start and stop (UTC).
    lines : int
        Lines in the cube so far.
    read_procedures : list of str
        For the field of that name, e.g. ``["microservice:reflectance"]``; empty: not written.
    warnings : list of str
        Is appended to: what had to be replaced in a camera's text.

    Raises
    ------
    ConfigError
        When a text of the rig file's ``[metadata]`` cannot be held by the syntax; names the key.
    """
    header = Header()
    structure: tuple[tuple[str, str | int], ...] = (
        ("samples", info.samples),
        ("lines", lines),
        ("bands", info.bands),
        ("header offset", 0),
        ("file type", "ENVI Standard"),
        ("data type", info.data_type),
        ("interleave", "bil"),
        ("byte order", 0),
    )
    for name, number in structure:
        header.set(name, number)

    known: dict[str, Any] = {}
    source = {normalise(name) for name, _ in info.header}
    known["acquisition time"] = utc_text(times.start)
    known["start time"] = times.start.strftime("%H:%M:%S")
    if times.stop is not None:
        known["stop time"] = times.stop.strftime("%H:%M:%S")
    known["sensor type"] = info.sensor_type
    known["device"] = " ".join(filter(None, (info.vendor, info.model, info.serial))) or None
    known["exposure"] = info.exposure_ms
    known["fps"] = info.fps
    known["binning"] = list(info.binning)
    known["hroi"] = list(info.hroi) if info.hroi else None
    known["vroi"] = list(info.vroi) if info.vroi else None
    known["flip"] = list(rig.camera.flip) or None
    known["gain"] = info.gain
    known["temperature"] = info.temperature_c
    known["serial number"] = info.serial or None
    known["pixel format"] = info.pixel_format or None
    if rig.scan.pixel_mm is not None:
        step = rig.scan.pixel_mm
        if rig.scan.speed_mm_s is not None and info.fps:
            step = rig.scan.speed_mm_s / info.fps
        known["pixel size"] = [float(f"{mm / 1000:.9g}") for mm in (rig.scan.pixel_mm, step)]
    if read_procedures:
        known["read procedures"] = read_procedures
    for name, value in known.items():
        if value is None or name in source:
            continue
        _set_from_camera(header, name, value, warnings)

    source_header = parse_fields(info.header, "replayed header", warnings)
    for name in source_header:
        if normalise(name) not in STRUCTURAL:
            header.adopt(source_header, name)

    header.set("bit depth", info.bit_depth)
    header.set("saturation level", info.saturation_level)
    if "wavelength" not in source or axis.units != "Index":
        _set_axis(header, axis, source)
    else:
        header.set("wavelength", [int(v) for v in axis.wavelength])
        header.set("wavelength units", "Index")
    if "default bands" not in header:
        nm = axis.wavelength if axis.units != "Index" else None
        header.set("default bands", default_bands(nm, info.bands))
    for key, given in rig.metadata.items():
        name = normalise(key)
        if name in STRUCTURAL:
            raise ConfigError(f"[metadata] {key}: this field is the container's own; remove it")
        try:
            header.set(name, given)
        except HeaderError as error:
            raise ConfigError(f"[metadata] {key}: {error}") from None
    return header


def _set_axis(header: Header, axis: SpectralAxis, source: set[str]) -> None:
    if "wavelength" in source and "wavelength" in header:
        return  # a replayed source keeps its own figures as they were written
    if axis.units == "Index":
        header.set("wavelength", [int(v) for v in axis.wavelength])
    else:
        header.set("wavelength", [float(v) for v in axis.wavelength])
        if axis.fwhm is not None:
            header.set("fwhm", [float(v) for v in axis.fwhm])
    header.set("wavelength units", axis.units)


def _set_from_camera(header: Header, name: str, value: Any, warnings: list[str]) -> None:
    try:
        header.set(name, value)
    except HeaderError:
        clean = (
            [sanitise(str(v), in_list=True) for v in value]
            if isinstance(value, list)
            else sanitise(str(value), in_list=False)
        )
        header.set(name, clean)
        warnings.append(f"{name}: characters that a header cannot hold were replaced")


def parse_fields(fields: Iterable[tuple[str, str]], where: str, warnings: list[str]) -> Header:
    """Parse header fields that arrived as texts, such as a replayed source's.

    A field that cannot be read is left out with a warning, never the reason for a failure.
    """
    stub = "ENVI\nsamples = 1\nlines = 1\nbands = 1\ndata type = 12\ninterleave = bil\n"
    good = ""
    try:
        good = "".join(f"{name} = {text}\n" for name, text in fields)
        parsed = Header.parse(stub + good, where=where)
    except HeaderError:
        good = ""
        for name, text in fields:
            line = f"{name} = {text}\n"
            try:
                Header.parse(stub + good + line, where=where)
                good += line
            except HeaderError as error:
                warnings.append(f"field {name!r} of the source is not kept: {error}")
        parsed = Header.parse(stub + good, where=where)
    for name in ("samples", "lines", "bands", "data type", "interleave"):
        parsed.remove(name)
    return parsed


def safe_name(text: str) -> str:
    """Keep ``[A-Za-z0-9._-]`` of a text that becomes a part of a file name; else ``-``."""
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")
    return kept or "unnamed"


def camera_file(sensor_type: str) -> str:
    """Give the name below ``Metadata/`` of a sensor's description, without ending.

    D4.1 (2.7) links it by the value of ``sensor type``, so only what no file system takes goes.
    """
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "-", sensor_type).strip(" .") or "camera"


class _Fields(string.Formatter):
    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        if not isinstance(key, str) or key not in kwargs:
            raise ConfigError(
                f"[output] name: {{{key}}} is unknown; allowed are "
                + ", ".join(f"{{{name}}}" for name in sorted(kwargs))
            )
        return kwargs[key]


def file_name(template: str, rig: Rig, start: dt.datetime) -> str:
    """Fill the template of ``[output] name``.

    ``{start}`` is UTC and takes a ``strftime`` format; every key of ``[metadata]`` that is a text,
    and ``{driver}``, keep only ``[A-Za-z0-9._-]``.

    Raises
    ------
    ConfigError
        When the template names an unknown field or cannot be filled.
    """
    fields: dict[str, Any] = {"target": "capture", "driver": rig.camera.driver}
    for key, value in rig.metadata.items():
        if isinstance(value, list):
            value = "-".join(str(v) for v in value)
        fields[key.replace(" ", "_")] = safe_name(str(value))
    fields["start"] = start
    try:
        name = _Fields().vformat(template, (), fields)
    except ConfigError:
        raise
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise ConfigError(f"[output] name = {template!r}: cannot be filled: {error}") from None
    return safe_name(name)


def camera_description(info: CameraInfo) -> bytes:
    """Encode ``Metadata/<sensor type>.json``: all that the camera says, features included."""
    data = msgspec.to_builtins(info, builtin_types=(float,))
    for key in ("header", "comments", "references", "warnings"):
        data.pop(key, None)
    return msgspec.json.format(msgspec.json.encode(data), indent=1)
