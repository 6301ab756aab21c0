"""Renders what the simulated camera sees to a raw file with an ENVI header, to be played."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.sensor import Sensor, View
from pipeline.config import CameraConfig
from pipeline.container.envi import structured
from pipeline.errors import ConfigError, StorageError
from virtual_camera.playing import Playing

#: The stream of noise that the simulated camera uses in scans.
_SCAN = 3 << 32
#: Endings by which a file is read as something else.
_OTHERS = (".hdr", ".hsi")


def render(path: Path, camera: CameraConfig, lines: int, view: View = "scene") -> Playing:
    """Render lines of the simulated camera, noise and all; neither file is there before its end.

    Parameters
    ----------
    path : Path
        Of the data file; the header gets ``.hdr`` in the place of its ending.
    camera : CameraConfig
        Bands, samples, bit depth, seed and exposure of the simulated camera.
    lines : int
        How many of the scene's lines.
    view : {"scene", "panel", "dark"}
        What lies under the slit.

    Raises
    ------
    ConfigError
        When there can be no such file.
    StorageError
        When there is no room for it.
    """
    _check(path)
    sensor = Sensor(camera)
    line: NDArray[np.generic] = np.empty((sensor.bands, sensor.samples), sensor.format.dtype)
    free = shutil.disk_usage(path.parent).free
    if lines * line.nbytes > free:
        raise StorageError(
            f"{path}: {lines} lines of {sensor.bands} x {sensor.samples} need "
            f"{lines * line.nbytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
        )
    fields = {
        "bit depth": sensor.bits,
        "exposure": sensor.exposure_ms,
        "wavelength": sensor.axis.wavelength.tolist(),
    }
    header = structured(fields, (lines, sensor.samples, sensor.bands), line.dtype)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            for i in range(lines):
                sensor.expose(line, view, i, 31.0, _SCAN, i)
                file.write(line.tobytes())
        os.replace(unfinished, path)
        path.with_suffix(".hdr").write_bytes(header.encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Playing(
        file=path,
        offset=0,
        lines=lines,
        bands=sensor.bands,
        samples=sensor.samples,
        bits=sensor.bits,
        exposure_us=1000.0 * sensor.exposure_ms,
        black=float((sensor.saturation_level + 1) // 64),
    )


def _check(path: Path) -> None:
    if path.suffix.casefold() in _OTHERS:
        raise ConfigError(
            f"{path}: found the ending {path.suffix}, the data need one of their own, such as .raw "
            "(the header beside them gets .hdr)"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}")
    for one in (path, path.with_suffix(".hdr")):
        if one.exists() and not one.is_file():
            found = "a folder" if one.is_dir() else "a device"
            raise ConfigError(f"{one}: found {found}, allowed is the name of a file")
