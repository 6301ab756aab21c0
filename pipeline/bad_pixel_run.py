"""Makes the map of a camera's bad pixels, from its references or from files: ``swath bad-pixels``.

The map is by sensor row and column, so that it serves every ROI, binning and flip of that camera.
Knows arming, references, maps and the session; nothing is scanned.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixel_arming import FIND, find_in, warn_of_many
from pipeline.bad_pixel_map import BadPixelMap, window_of
from pipeline.bad_pixels import Findings, Kind, Statistics, find, is_bad
from pipeline.config import Rig
from pipeline.container.envi import EnviFile, open_envi
from pipeline.container.header import Header
from pipeline.container.references import make_reference
from pipeline.errors import CameraError, ConfigError
from pipeline.events import Arming, EventBus, Warned
from pipeline.new_files import header_path, write_new
from pipeline.reference_arming import arm_references
from pipeline.reference_run import FOLDER, check_folder
from pipeline.session import Session
from pipeline.stream.messages import CameraInfo

#: Rows or columns of the largest sensor that a header is believed to tell of.
MOST_PIXELS: Final = 1 << 15
NOTE: Final = "bad pixels by sensor row and column"


@dataclass(frozen=True)
class MapResult:
    """What was found, and where it is kept.

    Attributes
    ----------
    path : Path
        The header; the data lie beside it.
    kinds : ndarray of uint8, (rows, columns)
        Of the sensor's pixels.
    found : Findings
        In a line as it is delivered.
    """

    path: Path
    kinds: NDArray[np.uint8]
    found: Findings

    def pixels(self) -> list[tuple[int, int, str]]:
        """List the bad ones: row and column of the sensor, from 0, and what is wrong."""
        places = np.argwhere(is_bad(self.kinds))
        return [(int(r), int(c), Kind(int(self.kinds[r, c])).text) for r, c in places]


def map_of_rig(
    rig: Rig,
    *,
    rig_path: Path,
    overrides: tuple[str, ...] = (),
    out: Path | None = None,
    bus: EventBus | None = None,
    stop: Flag | None = None,
) -> MapResult:
    """Find the bad pixels of a rig's camera in the references that its rig file names or takes.

    Raises
    ------
    ConfigError
        When there is no black, or the file exists.
    SwathError
        When the camera or the disk fails.
    """
    bus, stop = bus or EventBus(), stop or Flag()
    target = _target(out, rig.pipeline.bad_pixels)
    if rig.references.black is None and rig.camera.driver != "replay":
        raise ConfigError(
            '[references] black: missing, bad pixels are found in it; allowed are "take" and files'
        )
    session = Session(
        rig, rig_path=rig_path, overrides=overrides, endpoint=None, bus=bus, stop=stop
    )

    def warn(text: str) -> None:
        bus.emit(Warned(text=text))

    try:
        bus.emit(Arming(text="camera"))
        session.open()
        info = session.arm()
        references = arm_references(rig, info, session, rig_path.resolve().parent, bus, warn)
    finally:
        session.close()
    if stop.is_set():
        raise CameraError("bad pixels: interrupted, nothing was written")
    found = find_in(references, info.saturation_level, rig.references.dark_columns)
    warn_of_many(found.bad, warn)
    full = BadPixelMap.of_line(found.kinds, window_of(info, rig.camera.flip), info.serial)
    return _write(target, full, found)


def map_of_files(black: Path, white: Path | None, out: Path | None) -> MapResult:
    """Find bad pixels in reference files.

    The noise is known where a file has several lines, or one of standard deviations (``_std``)
    beside it. ROI and binning are those of its header; flips are not undone.

    Raises
    ------
    ContainerError, ConfigError
        When a file is none, or both do not fit each other.
    """
    target = _target(out, None)
    dark, header = _statistics(black)
    bright = own = None
    if white is not None:
        bright, _ = _statistics(white)
        beside = white.with_name(white.stem + "_black.hdr")
        if beside.exists():
            own, _ = _statistics(beside)
    shape = np.shape(dark.mean)
    for name, part in (("white", bright), ("white_black", own)):
        if part is not None and np.shape(part.mean) != shape:
            raise ConfigError(
                f"{name}: has (bands, samples) = {np.shape(part.mean)}, the black has {shape}"
            )
    level = header.whole("saturation level") or 0
    found = find(dark, bright, own, saturation_level=level)
    info = _camera_of(black, header, (shape[0], shape[1]))
    return _write(target, BadPixelMap.of_line(found.kinds, window_of(info), info.serial), found)


def _statistics(path: Path) -> tuple[Statistics, Header]:
    file = open_envi(path)
    mean = make_reference(file.header, file.raw).array
    lines = file.raw.shape[0]
    if lines > 1:
        std = file.raw.astype(np.float64).std(axis=0, ddof=1).T
        return Statistics(mean, std, lines), file.header
    beside = path.with_name(path.stem + "_std.hdr")
    spread = make_reference(*_opened(open_envi(beside))).array if beside.exists() else None
    averaged = file.header.whole("lines averaged") or 0
    return Statistics(mean, spread, averaged), file.header


def _opened(file: EnviFile) -> tuple[Header, NDArray[Any]]:
    return file.header, file.raw


def _camera_of(path: Path, header: Header, shape: tuple[int, int]) -> CameraInfo:
    """Give what a reference's header says of its camera.

    Raises
    ------
    ConfigError
        When that is a sensor larger than there are.
    """

    def pair(name: str) -> tuple[int, int] | None:
        values = header.floats(name)
        if values is None or len(values) != 2 or not all(value >= 1 for value in values):
            return None
        if max(values) > MOST_PIXELS:
            raise ConfigError(
                f"{path}: {name}: found {values[0]:g} and {values[1]:g}, allowed are numbers from "
                f"1 to {MOST_PIXELS}"
            )
        return int(values[0]), int(values[1])

    info = CameraInfo(
        driver="file",
        sensor_type="",
        bands=shape[0],
        samples=shape[1],
        data_type=4,
        bit_depth=16,
        saturation_level=0,
        serial=str(header.get("serial number", "")).strip(),
        binning=pair("binning") or (1, 1),
        hroi=pair("hroi"),
        vroi=pair("vroi"),
    )
    window = window_of(info)
    if max(window.rows, window.columns) > MOST_PIXELS:
        raise ConfigError(
            f"{path}: binning and region: found a sensor of {window.rows} rows × {window.columns} "
            f"columns, allowed are up to {MOST_PIXELS} each"
        )
    return info


def _target(out: Path | None, configured: str | None) -> Path:
    """Give the header's path; its folder can be made."""
    if out is not None:
        target = header_path(out)
    elif configured not in (None, FIND):
        target = header_path(Path(str(configured)))
    else:
        now = dt.datetime.now(dt.UTC)
        target = Path(FOLDER).absolute() / f"bad-pixels-{now:%Y%m%dT%H%M%S}.hdr"
    for path in (target, target.with_suffix(".envi")):
        if path.exists():
            raise ConfigError(
                f"{path}: exists, and is never overwritten; remove it, or name another with --out"
            )
    check_folder(target.parent, "")
    return target


def _write(target: Path, full: BadPixelMap, found: Findings) -> MapResult:
    """Write the data before the header, so that a header never stands without its data."""
    header, data = full.files(NOTE)
    write_new([(target.with_suffix(".envi"), data), (target, header)])
    return MapResult(target, full.kinds, found)
