"""What the virtual camera plays: a recording, described by its header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.container.envi import find_data
from pipeline.container.header import Header
from pipeline.container.reader import open_container
from pipeline.errors import ContainerError, HeaderError

#: Rows and columns that the camera's sensor can have.
LARGEST_SIDE = 1 << 16
#: Exposures that the camera can be set to, ms.
EXPOSURES_MS = (0.001, 10_000.0)


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
        When the camera cannot play it: compressed, not of unsigned 8- or 16-bit counts, shorter
        than its header says, or with a bit depth or an exposure that no camera has.
    """
    with open_container(path) as container:
        header, offset = container.header, container.data_offset
        if offset is None:
            raise ContainerError(f"{path}: compressed pixels cannot be played; swath export first")
        try:
            dtype = header.dtype
            sides = {"bands": header.bands, "samples": header.samples}
        except HeaderError as error:
            raise HeaderError(f"{path}: {error}") from None
        if dtype.kind != "u" or dtype.itemsize > 2 or dtype.newbyteorder("<") != dtype:
            raise ContainerError(
                f"{path}: found data type {dtype}, allowed are uint8 and little-endian uint16"
            )
        for name, found in sides.items():
            if not 1 <= found <= LARGEST_SIDE:
                raise ContainerError(
                    f"{path}: {name}: found {found}, the camera has 1 to {LARGEST_SIDE}"
                )
        _ = container.raw  # refuses data that are not all there
        bits = _number(header, "bit depth", path, "whole numbers from 1 to 16")
        if bits is None:
            bits = 8 * dtype.itemsize
        elif not (1 <= bits <= 16 and bits == int(bits)):
            raise _refused(path, "bit depth", bits, "whole numbers from 1 to 16")
        # An 8-bit file holds one byte a count whatever its bit depth says, and the other way round.
        bits = min(8, int(bits)) if dtype.itemsize == 1 else max(9, int(bits))
        low, high = EXPOSURES_MS
        allowed = f"{low:g} to {high:g} ms"
        exposure_ms = _number(header, "exposure", path, allowed)
        if exposure_ms and not low <= exposure_ms <= high:
            raise _refused(path, "exposure", exposure_ms, allowed)
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


def _number(header: Header, name: str, path: Path, allowed: str) -> float | None:
    """Give a field that is one number, or None where there is no such field."""
    found = header.number(name)
    if found is None and name in header:
        raise _refused(path, name, header[name], allowed)
    return found


def _refused(path: Path, name: str, found: object, allowed: str) -> ContainerError:
    return ContainerError(f"{path}: {name}: found {found}, allowed are {allowed}")
