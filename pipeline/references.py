"""White and black references: averaging them, loading and choosing them, checking that they fit.

A :class:`Reference` is the mean and standard deviation of some lines with everything that makes it
comparable. :class:`Accumulator` makes one from lines as they arrive; :func:`load` takes one from
a file or chooses from a folder; :func:`ReferenceSet.correction` hands them to the formula. Knows
the bottom modules, the container's plain ENVI files and the camera's own words.
"""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.envi import encode_envi, open_envi
from pipeline.container.header import Header
from pipeline.container.references import make_reference
from pipeline.describe import utc_text
from pipeline.errors import ConfigError, ContainerError, ReferenceMismatchError
from pipeline.reflectance import Correction, correction
from pipeline.spectral import SpectralAxis
from pipeline.stream.messages import CameraInfo

#: Header fields that a reference keeps.
KEPT = (
    "acquisition time",
    "exposure",
    "gain",
    "binning",
    "hroi",
    "vroi",
    "serial number",
    "pixel format",
    "temperature",
    "lines averaged",
    "white reflectance",
    "panel name",
)
#: Beginnings of file names by kind, as swath and vendors write them.
_BEGINNINGS = {"white": ("white",), "black": ("black", "dark")}
#: Ends of names of files that belong to a reference and are none themselves.
_BELONGING = ("_std", "_black", "_after", "_dark")
#: Fraction of a white's pixels that may be saturated before it is refused.
MAX_SATURATED = 0.01


@dataclass(frozen=True)
class Reference:
    """A white or a black.

    Attributes
    ----------
    kind : str
        ``white``, ``black``, ``white_black``.
    mean, std : ndarray of float32, (bands, samples)
        Counts (DN); ``std`` is None where it is not known.
    fields : dict
        Header fields by name: exposure (ms), gain, binning, hroi, vroi, serial number, pixel
        format, temperature (°C), acquisition time, lines averaged.
    path : Path, optional
        The header that it was read from.
    """

    kind: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def exposure(self) -> float | None:
        """Exposure in ms, where it is known."""
        return _number(self.fields.get("exposure"))

    def entries(self, axis: SpectralAxis | None = None) -> dict[str, bytes]:
        """Encode as container entries ``Reference/<kind>.envi`` and ``.hdr``, with ``_std``."""
        out: dict[str, bytes] = {}
        fields = dict(self.fields)
        if axis is not None:
            fields["wavelength"] = [float(v) for v in axis.wavelength]
            fields["wavelength units"] = axis.units
        for suffix, array in (("", self.mean), ("_std", self.std)):
            if array is None:
                continue
            cube = np.ascontiguousarray(array, np.float32).T[None]
            header, data = encode_envi(cube, fields)
            out[f"Reference/{self.kind}{suffix}.hdr"] = header
            out[f"Reference/{self.kind}{suffix}.envi"] = data
        return out


@dataclass(frozen=True)
class ReferenceSet:
    """The references of one capture; each may be missing."""

    white: Reference | None = None
    black: Reference | None = None
    white_black: Reference | None = None
    panel: float | list[float] = 1.0
    panel_name: str | None = None

    @property
    def complete(self) -> bool:
        """Whether reflectance can be computed."""
        return self.white is not None and self.black is not None

    def correction(self, exposure: float | None) -> Correction | None:
        """Give the arrays of the reflectance formula for data of this exposure (ms)."""
        if self.white is None or self.black is None:
            return None
        return correction(
            self.black.mean,
            self.white.mean,
            white_black=None if self.white_black is None else self.white_black.mean,
            panel=np.asarray(self.panel, np.float64),
            exposure=exposure,
            white_exposure=self.white.exposure,
        )

    def entries(self, axis: SpectralAxis) -> dict[str, bytes]:
        """Encode all of them as container entries."""
        out: dict[str, bytes] = {}
        for reference in (self.white, self.black, self.white_black):
            if reference is None:
                continue
            if reference.kind == "white":
                fields = {**reference.fields, "white reflectance": self.panel}
                if self.panel_name:
                    fields["panel name"] = self.panel_name
                reference = replace(reference, fields=fields)
            out.update(reference.entries(axis))
        return out


class Accumulator:
    """Mean and standard deviation of lines as they arrive, exact and in bounded memory.

    Blocks are merged with the pairwise update of Chan, Golub & LeVeque (1979) in float64.

    Parameters
    ----------
    bands, samples : int
        Shape of a line.
    saturation_level : int
        Raw count from which a pixel is saturated.
    """

    def __init__(self, bands: int, samples: int, saturation_level: int) -> None:
        self.lines = 0
        self.saturated = 0
        self._saturation = saturation_level
        self._mean = np.zeros((bands, samples))
        self._m2 = np.zeros((bands, samples))

    def add(self, block: NDArray[Any]) -> None:
        """Add ``(lines, bands, samples)`` counts."""
        count = block.shape[0]
        if count == 0:
            return
        self.saturated += int(np.count_nonzero(block >= self._saturation))
        mean = block.mean(axis=0, dtype=np.float64)
        m2 = np.square(block - mean).sum(axis=0)
        total = self.lines + count
        delta = mean - self._mean
        self._m2 += m2 + np.square(delta) * (self.lines * count / total)
        self._mean += delta * (count / total)
        self.lines = total

    def reference(self, kind: str, info: CameraInfo, when: dt.datetime) -> Reference:
        """Finish: make the reference, with all that makes it comparable.

        Raises
        ------
        ReferenceMismatchError
            When there are no lines, or a white is saturated.
        """
        if self.lines == 0:
            raise ReferenceMismatchError(f"{kind} reference: no line arrived")
        share = self.saturated / (self.lines * self._mean.size)
        if kind == "white" and share > MAX_SATURATED:
            raise ReferenceMismatchError(
                f"white reference: {100 * share:.1f} % of its pixels are saturated (allowed: "
                f"{100 * MAX_SATURATED:.0f} %); shorten the exposure or dim the lamp"
            )
        std = np.sqrt(self._m2 / max(1, self.lines - 1)).astype(np.float32)
        return Reference(
            kind,
            self._mean.astype(np.float32),
            std,
            {**comparable_fields(info, when), "lines averaged": self.lines},
        )


def comparable_fields(info: CameraInfo, when: dt.datetime) -> dict[str, Any]:
    """Give the header fields that make a reference comparable with a scan."""
    fields: dict[str, Any] = {
        "acquisition time": utc_text(when),
        "exposure": info.exposure_ms,
        "gain": info.gain,
        "binning": list(info.binning),
        "hroi": list(info.hroi) if info.hroi else None,
        "vroi": list(info.vroi) if info.vroi else None,
        "serial number": info.serial or None,
        "pixel format": info.pixel_format or None,
        "temperature": info.temperature_c,
    }
    return {name: value for name, value in fields.items() if value is not None}


def check_pair(references: ReferenceSet) -> list[str]:
    """Look at white against black: warn of dim whites, refuse a white that is no white.

    Raises
    ------
    ReferenceMismatchError
        When white ≤ black in more than half of all (band, sample).
    """
    if references.white is None or references.black is None:
        return []
    own = references.white_black or references.black
    dark = own.mean
    said = []
    if own.exposure and references.white.exposure and own.exposure != references.white.exposure:
        said.append(
            f"the white was taken at {references.white.exposure:g} ms and has no dark of its own; "
            f"the black of {own.exposure:g} ms is taken for it, which is wrong by what the dark "
            "depends on exposure (swath reference white takes both)"
        )
    dim = int(np.count_nonzero(references.white.mean <= dark))
    if dim > dark.size // 2:
        raise ReferenceMismatchError(
            f"white reference: not brighter than the black in {dim} of {dark.size} pixels; "
            "is the lamp on, and the panel in view?"
        )
    if dim:
        said.append(
            f"white is not brighter than black in {dim} of {dark.size} pixels: marked invalid"
        )
    return said


def load(kind: str, where: str, base: Path, info: CameraInfo, warnings: list[str]) -> Reference:
    """Load a reference from an ENVI file, or choose one from a folder.

    Parameters
    ----------
    kind : {"white", "black", "white_black"}
    where : str
        File or folder, relative to ``base``.
    info : CameraInfo
        The armed camera that it has to fit.
    warnings : list of str
        Is appended to.

    Raises
    ------
    ReferenceMismatchError
        When nothing fits; says which property differs, and both values.
    """
    path = (base / where).expanduser()
    if path.is_dir():
        return _choose(kind, path, info, warnings)
    if not path.exists():
        raise ReferenceMismatchError(
            f"[references] {kind} = {where!r}: {path} does not exist; "
            'allowed are an ENVI file, a folder of them, or "take"'
        )
    reference = _read(kind, path, warnings)
    _check_fit(reference, path, info, warnings)
    return reference


def load_white_black(white: Reference, info: CameraInfo) -> Reference | None:
    """Load the white's own dark, ``<white>_black.hdr`` beside the white, where there is one.

    Raises
    ------
    ReferenceMismatchError
        When it does not fit.
    """
    if white.path is None:
        return None
    beside = white.path.with_name(white.path.stem + "_black.hdr")
    if not beside.exists():
        return None
    reference = _read("white_black", beside, [])
    _check_fit(reference, beside, info, [])
    return reference


def _read(kind: str, path: Path, warnings: list[str]) -> Reference:
    file = open_envi(path)
    lines = file.raw.shape[0]
    if lines > 1:
        warnings.append(f"{kind} reference {path.name}: its {lines} lines are averaged")
    mean = make_reference(file.header, file.raw).array
    fields = {name: file.header[name] for name in KEPT if name in file.header}
    std = None
    beside = path.with_name(path.stem + "_std.hdr")
    if beside.exists():
        std = make_reference(*_opened(beside)).array
    header = path if path.suffix.casefold() == ".hdr" else path.with_suffix(".hdr")
    return Reference(kind, mean, std, fields, header)


def _opened(path: Path) -> tuple[Header, NDArray[Any]]:
    file = open_envi(path)
    return file.header, file.raw


def _check_fit(ref: Reference, path: Path, info: CameraInfo, warnings: list[str]) -> None:
    if ref.mean.shape != (info.bands, info.samples):
        raise ReferenceMismatchError(
            f"{ref.kind} reference {path}: has {ref.mean.shape[0]} bands × {ref.mean.shape[1]} "
            f"samples, the camera delivers {info.bands} × {info.samples}"
        )
    own = comparable_fields(info, dt.datetime.now(dt.UTC))
    for name in ("serial number", "binning", "hroi", "vroi", "gain", "pixel format"):
        if name in ref.fields and name in own and _plain(ref.fields[name]) != _plain(own[name]):
            raise ReferenceMismatchError(
                f"{ref.kind} reference {path}: {name} is {ref.fields[name]}, "
                f"the camera's is {own[name]}"
            )
    exposure = ref.exposure
    if ref.kind == "black" and exposure and info.exposure_ms and exposure != info.exposure_ms:
        warnings.append(
            f"black reference {path.name}: taken at {exposure:g} ms, the scan has "
            f"{info.exposure_ms:g} ms; a black is not scaled"
        )


def _choose(kind: str, folder: Path, info: CameraInfo, warnings: list[str]) -> Reference:
    refused: list[str] = []
    fitting: list[tuple[float, str, Reference]] = []
    for path in sorted(folder.glob("*.hdr")):
        stem = path.stem.casefold()
        if not stem.startswith(_BEGINNINGS[kind]) or stem.endswith(_BELONGING):
            continue
        try:
            ref = _read(kind, path, [])
            _check_fit(ref, path, info, [])
        except ContainerError as error:
            refused.append(str(error))
            continue
        distance = 0.0
        if ref.exposure and info.exposure_ms:
            distance = abs(np.log(ref.exposure / info.exposure_ms))
        fitting.append((-distance, str(ref.fields.get("acquisition time", "")), ref))
    if not fitting:
        detail = f"; {refused[0]}" if refused else ""
        raise ReferenceMismatchError(
            f"[references] {kind}: none of the files in {folder} fits this camera{detail}"
        )
    best = max(fitting, key=lambda item: item[:2])[2]
    where = best.path or folder
    averaged: list[str] = []
    best = _read(kind, where, averaged)
    warnings.extend(averaged)
    _check_fit(best, where, info, warnings)
    return best


def panel_reflectance(
    value: float | str, axis: SpectralAxis, base: Path
) -> tuple[float | list[float], list[str]]:
    """Give the certified reflectance of the panel: one value, or one per band from a CSV file.

    The file has two columns, nm and reflectance. Each band is the mean of the certified curve
    (linear between its points) weighted by a Gaussian of the band's ``fwhm``, or the curve's
    value at the centre where the fwhm is not known.

    Raises
    ------
    ConfigError
        When the file is missing, is no such table, or does not reach over the bands.
    """
    if isinstance(value, (int, float)):
        return float(value), []
    path = (base / value).expanduser()
    where = f"[references] panel = {value!r}"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from None
    points: list[tuple[float, float]] = []
    for number, row in enumerate(rows):
        try:
            points.append((float(row[0]), float(row[1])))
        except (ValueError, IndexError):
            if number:
                raise ConfigError(
                    f"{where}: row {number + 1} is {row}, allowed are two numbers: nm, reflectance"
                ) from None
    table = np.array(sorted(points)).reshape(-1, 2)
    if axis.units == "Index":
        raise ConfigError(f"{where}: needs wavelengths, this camera has none (index)")
    nm = axis.wavelength
    if len(table) < 2 or table[0, 0] > nm.min() or table[-1, 0] < nm.max():
        raise ConfigError(f"{where}: does not reach from {nm.min():g} to {nm.max():g} nm")
    if axis.fwhm is None:
        return [float(v) for v in np.interp(nm, table[:, 0], table[:, 1])], []
    sigma = axis.fwhm / np.sqrt(8 * np.log(2))
    offsets = np.linspace(-3, 3, 61)
    weights = np.exp(-0.5 * offsets**2)
    at = nm[:, None] + sigma[:, None] * offsets
    curve = np.interp(at, table[:, 0], table[:, 1])
    return [float(v) for v in curve @ weights / weights.sum()], []


def _number(value: Any) -> float | None:
    if isinstance(value, list):
        value = value[0] if value else None
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """Make header values comparable: numbers as floats, lists as tuples, texts stripped."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v) for v in value)
    number = _number(value)
    return number if number is not None else str(value).strip()
