"""The map of bad pixels: by sensor row and column, so that it survives ROI, binning and flips.

On the disk it is an ENVI classification (a picture, one line a sensor row) whose classes are the
kinds of :mod:`pipeline.bad_pixels`; :meth:`BadPixelMap.on_line` gives what a camera with other
settings sees of it. Knows the bottom modules, the
camera's own words and plain ENVI files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import BAD, Kind, count_kinds, is_bad
from pipeline.container.envi import encode_envi, open_envi
from pipeline.errors import ConfigError
from pipeline.stream.messages import CameraInfo

Kinds = NDArray[np.uint8]
#: Colours of the classes, red, green, blue: bad ones strong, not examined grey.
_COLOURS: Final = (
    *((0, 0, 0), (255, 0, 255), (0, 90, 255), (255, 0, 0)),
    *((255, 200, 0), (0, 200, 120), (255, 255, 255), (70, 70, 70)),
)
#: Header field that tells a map by sensor row and column from one of delivered lines.
COORDINATES: Final = "coordinates"


@dataclass(frozen=True)
class Window:
    """Which pixels of the sensor make up a delivered line.

    Attributes
    ----------
    rows, columns : int
        Of the sensor, unbinned.
    binning : (spectral, spatial)
    first : (row, column)
        First unbinned pixel that is read out, from 0.
    bands, samples : int
        Of a line.
    flip : tuple of {"spectral", "spatial"}
    """

    rows: int
    columns: int
    binning: tuple[int, int]
    first: tuple[int, int]
    bands: int
    samples: int
    flip: tuple[str, ...] = ()

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns that are read out."""
        (row, column), (down, across) = self.first, self.binning
        return (
            slice(row, row + self.bands * down),
            slice(column, column + self.samples * across),
        )

    def turned(self, line: NDArray[Any]) -> NDArray[Any]:
        """View a line, from sensor order to the order of delivery or back."""
        if "spectral" in self.flip:
            line = line[::-1]
        if "spatial" in self.flip:
            line = line[:, ::-1]
        return line


def window_of(camera: CameraInfo, flip: Sequence[str] = ()) -> Window:
    """Give the part of the sensor that a camera delivers.

    The sensor's size is what the camera says, or where it says nothing as much as it delivers.
    """
    down, across = camera.binning
    first = ((camera.vroi or (1, 0))[0] - 1) * down, ((camera.hroi or (1, 0))[0] - 1) * across
    rows = max(camera.sensor_rows, first[0] + camera.bands * down)
    columns = max(camera.sensor_columns, first[1] + camera.samples * across)
    return Window(rows, columns, (down, across), first, camera.bands, camera.samples, tuple(flip))


@dataclass(frozen=True)
class BadPixelMap:
    """Kinds of all pixels of a sensor.

    Attributes
    ----------
    kinds : ndarray of uint8, (rows, columns)
        Values of :class:`pipeline.bad_pixels.Kind`; row = band of an unbinned, unflipped line.
    serial : str
        Of the camera; empty: unknown.
    """

    kinds: Kinds
    serial: str = ""

    @classmethod
    def of_line(cls, kinds: Kinds, window: Window, serial: str = "") -> BadPixelMap:
        """Make a map of what was found in delivered lines.

        A bad bin makes all its pixels bad, since nobody knows which of them it is; what lies
        outside of the ROI was not examined.
        """
        down, across = window.binning
        full = np.full((window.rows, window.columns), Kind.NOT_EXAMINED, np.uint8)
        full[window.area] = window.turned(kinds).repeat(down, axis=0).repeat(across, axis=1)
        return cls(full, serial)

    def on_line(self, window: Window) -> tuple[Kinds, NDArray[np.float32]]:
        """Give what a camera sees of the map.

        Returns
        -------
        kinds : ndarray of uint8, (bands, samples)
            A bin with a bad pixel is bad, and has the worst kind of its pixels.
        share : ndarray of float32, (bands, samples)
            Part of the pixels of each bin that are bad.

        Raises
        ------
        ConfigError
            When the map is of a sensor of another size.
        """
        if self.kinds.shape != (window.rows, window.columns):
            raise ConfigError(
                f"bad pixels: the map has {self.kinds.shape[0]} rows × {self.kinds.shape[1]} "
                f"columns, the camera's sensor {window.rows} × {window.columns}"
            )
        down, across = window.binning
        bins = self.kinds[window.area].reshape(window.bands, down, window.samples, across)
        bad = is_bad(bins)
        worst = np.where(bad, bins, Kind.NOT_EXAMINED).min(axis=(1, 3))
        seen = (bins != Kind.NOT_EXAMINED).any(axis=(1, 3))
        kinds = np.where(bad.any(axis=(1, 3)), worst, np.where(seen, Kind.GOOD, Kind.NOT_EXAMINED))
        share = bad.mean(axis=(1, 3), dtype=np.float32)
        turned = window.turned(kinds.astype(np.uint8)), window.turned(share)
        return np.ascontiguousarray(turned[0]), np.ascontiguousarray(turned[1])

    def files(self, note: str) -> tuple[bytes, bytes]:
        """Encode as header and data of an ENVI classification: lines = rows, samples = columns."""
        fields: dict[str, Any] = {COORDINATES: "sensor"}
        if self.serial:
            fields["serial number"] = self.serial
        return encode_envi(self.kinds[:, :, None], class_fields(fields, note))


def class_fields(fields: dict[str, Any], note: str) -> dict[str, Any]:
    """Give the header fields of a classification whose classes are the kinds."""
    return {
        "description": note,
        "file type": "ENVI Classification",
        **fields,
        "classes": len(Kind),
        "class names": [kind.text for kind in Kind],
        "class lookup": [value for colour in _COLOURS for value in colour],
    }


def load_map(path: Path, camera: CameraInfo, flip: Sequence[str]) -> tuple[Kinds, str]:
    """Load a map and give what a camera sees of it, and a sentence on that.

    A file is a map by sensor row and column where its header says ``coordinates = sensor`` (as
    ``swath bad-pixels`` writes them). Any other is of lines as the camera delivers them: of one
    line and (samples, bands), or a picture of bands × samples with one band, as vendors keep their
    bad elements; nonzero is bad.

    Raises
    ------
    ConfigError
        When it fits neither the sensor nor the lines, or is of another camera.
    """
    where = f"[pipeline] bad_pixels = {path}"
    named = path.with_name(path.name + ".hdr")
    # As swath bad-pixels writes it for a name without an ending.
    file = open_envi(named if named.is_file() and not path.exists() else path)
    cube = file.raw
    if cube.dtype.kind == "c":
        raise ConfigError(f"{where}: found complex data, allowed are the numbers of classes")
    serial = str(file.header.get("serial number", "")).strip()
    if serial and camera.serial and serial != camera.serial:
        raise ConfigError(f"{where}: is of camera {serial}, this one is {camera.serial}")
    coordinates = str(file.header.get(COORDINATES, "")).casefold()
    if coordinates == "sensor":
        if cube.shape[2] != 1:
            raise ConfigError(f"{where}: has {cube.shape[2]} bands, a map by sensor row has 1")
        full = BadPixelMap(_as_kinds(np.asarray(cube[:, :, 0]), named=True), serial)
        try:
            kinds, share = full.on_line(window_of(camera, flip))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        return kinds, describe(kinds, share)
    shape = (camera.bands, camera.samples)
    if cube.shape == (1, camera.samples, camera.bands):
        flags = np.asarray(cube[0]).T
    elif cube.shape == (*shape, 1):
        flags = np.asarray(cube[:, :, 0])
    else:
        raise ConfigError(
            f"{where}: has (lines, samples, bands) = {cube.shape}, allowed is "
            f"(1, {camera.samples}, {camera.bands}), a picture ({camera.bands}, "
            f"{camera.samples}, 1), or a map by sensor row of swath bad-pixels"
        )
    kinds = _as_kinds(flags, named=coordinates == "line")
    return kinds, describe(kinds)


def _as_kinds(values: NDArray[Any], *, named: bool) -> Kinds:
    """Make kinds of what a file holds: by class where they are named, else listed or good."""
    if not named:
        return np.where(values != 0, Kind.LISTED, Kind.GOOD).astype(np.uint8)
    known = (values >= 0) & (values < len(Kind))
    return np.where(known, values, Kind.LISTED).astype(np.uint8)


def describe(kinds: Kinds, share: NDArray[np.float32] | None = None) -> str:
    """Say in one sentence how many are bad, and of which kinds."""
    counts = count_kinds(kinds)
    total = sum(counts.values())
    if not total:
        return f"bad pixels: none of {kinds.size}"
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    text = f"bad pixels: {total} of {kinds.size} ({100 * total / kinds.size:.2g} %): {parts}"
    if share is not None:
        of_bins = float(share[is_bad(kinds)].mean())
        if of_bins < 1:
            text += f"; of a bad bin {100 * of_bins:.0f} % of the pixels are bad, on average"
    return text


def kind_names() -> list[str]:
    """Give the names of the kinds that are bad, the worst first."""
    return [kind.text for kind in BAD]
