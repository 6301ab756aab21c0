"""What the virtual camera plays: a recording described by its header, or a rendered scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.sensor import Sensor
from pipeline.config import CameraConfig
from pipeline.container.envi import find_data, structured
from pipeline.container.reader import open_container
from pipeline.errors import ContainerError

#: The stream of noise that the simulated camera uses in scans.
_SCAN = 3 << 32


@dataclass(frozen=True)
class Playing:
    """A file of counts, as the camera's Scene features name it.

    Attributes
    ----------
    file : Path
    offset : int
        Bytes before the first count.
    lines, bands, samples : int
    bits : int
        Of a count: up to 8 in one byte, above in two, little-endian.
    interleave : {"bil", "bip", "bsq"}
    exposure_us, black : float or None
        Exposure and black level of the recording, where known: at these settings the camera
        delivers the counts of the file.
    """

    file: Path
    offset: int
    lines: int
    bands: int
    samples: int
    bits: int
    interleave: str = "bil"
    exposure_us: float | None = None
    black: float | None = None

    def features(self) -> dict[str, object]:
        """Name every setting that plays the file, in an order that the camera accepts."""
        named: dict[str, object] = {
            "SceneFile": self.file.resolve(),
            "SceneOffset": self.offset,
            "SceneLines": self.lines,
            "SceneBands": self.bands,
            "SceneSamples": self.samples,
            "SceneBits": self.bits,
            "SceneInterleave": self.interleave,
        }
        if self.exposure_us is not None:
            named["SceneExposureTime"] = named["ExposureTime"] = self.exposure_us
        if self.black is not None:
            named["SceneBlackLevel"] = named["BlackLevel"] = self.black
        return named


def playing(path: Path) -> Playing:
    """Describe a ``.hsi`` or ENVI file.

    Raises
    ------
    ContainerError
        When the camera cannot play it: compressed, or not of unsigned 8- or 16-bit counts.
    """
    with open_container(path) as container:
        header, offset = container.header, container.data_offset
        if offset is None:
            raise ContainerError(f"{path}: compressed pixels cannot be played; swath export first")
        dtype = header.dtype
        if dtype.kind != "u" or dtype.itemsize > 2 or dtype.newbyteorder("<") != dtype:
            raise ContainerError(
                f"{path}: found data type {dtype}, allowed are uint8 and little-endian uint16"
            )
        bits = header.number("bit depth") or 8 * dtype.itemsize
        # An 8-bit file holds one byte a count whatever its bit depth says, and the other way round.
        bits = min(8, int(bits)) if dtype.itemsize == 1 else max(9, int(bits))
        exposure_ms = header.number("exposure")
        file = container.path
        if file.suffix.casefold() == ".hdr":
            file = find_data(file)
        # Inside a container the header's offset counts from the payload on.
        inside = header.header_offset if file.suffix.casefold() == ".hsi" else 0
        return Playing(
            file=file,
            offset=offset + inside,
            lines=header.lines,
            bands=header.bands,
            samples=header.samples,
            bits=bits,
            interleave=header.interleave,
            exposure_us=None if not exposure_ms else 1000.0 * exposure_ms,
        )


def render(path: Path, camera: CameraConfig, lines: int) -> Playing:
    """Render the simulated camera's scene, noise and all, to a raw file with an ENVI header.

    Parameters
    ----------
    path : Path
        Of the data file; the header gets ``.hdr`` beside it.
    camera : CameraConfig
        Bands, samples, bit depth, seed and exposure of the simulated camera.
    lines : int
        How many of the scene's lines.
    """
    sensor = Sensor(camera)
    shape = (sensor.bands, sensor.samples)
    line: NDArray[np.generic] = np.empty(shape, sensor.format.dtype)
    with path.open("wb") as file:
        for i in range(lines):
            sensor.expose(line, "scene", i, 31.0, _SCAN, i)
            file.write(line.tobytes())
    fields = {
        "bit depth": sensor.bits,
        "exposure": sensor.exposure_ms,
        "wavelength": sensor.axis.wavelength.tolist(),
    }
    header = structured(fields, (lines, sensor.samples, sensor.bands), line.dtype)
    path.with_suffix(".hdr").write_bytes(header.encode())
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
