"""What is measured with: lines as a camera would deliver them, in more memory than a cache holds.

The lines are those of the simulated camera (plants on a shelf: smooth spectra, a dark of 60 counts,
shot and read noise, a white panel of which some pixels saturate), a few hundred of them, copied
again and again into rotating host slots of 1 GiB and more. Knows drivers' sensor, slots and the
engine's plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sensor import Sensor
from pipeline.config import CameraConfig
from pipeline.engine import EnginePlan
from pipeline.layout import PixelFormat
from pipeline.line_factors import Watched, blind
from pipeline.reflectance import Correction, correction
from pipeline.slots import SlotRing
from pipeline.stream.messages import MAX_MESSAGE

#: Exposure of the scene: so long that a few pixels in the light saturate; of the white, ms.
EXPOSURE_MS, WHITE_MS = 7.0, 4.0
#: °C of the sensor.
TEMPERATURE_C = 31.0
#: Share of pixels in the bad-pixel map: the hottest ones.
BAD_SHARE = 1e-3
#: Columns that always see the panel, and that are masked, where a recording has them.
WATCHED_COLUMNS = 16
#: Different lines; more are copies of these.
DIFFERENT_LINES = 256
#: No more lines than this are made or moved at a time: of tiny ones, some GB would take for ever.
MOST_LINES = 100_000
#: Lines of a block where the rig file does not say, as far as a message goes.
BLOCK_LINES = 32


@dataclass(frozen=True)
class Geometry:
    """Samples and bands of a line of uint16."""

    samples: int
    bands: int

    def __str__(self) -> str:
        return f"{self.samples} × {self.bands}"

    @property
    def pixels(self) -> int:
        """Counts of a line."""
        return self.samples * self.bands

    @property
    def line_bytes(self) -> int:
        """Of a line."""
        return 2 * self.pixels

    def lines(self, nbytes: int) -> int:
        """Lines that make so many bytes, ``MOST_LINES`` at most."""
        return min(MOST_LINES, nbytes // self.line_bytes)

    def block_lines(self, block_mib: float | None) -> int:
        """Lines of a block of at most so many MiB; a capture's own choice where None.

        A multiple of 4 where it can be, as the driver makes blocks.
        """
        if block_mib is None:
            lines = min(BLOCK_LINES, MAX_MESSAGE // self.line_bytes)
        else:
            lines = int(block_mib * 2**20) // self.line_bytes
        return max(1, lines // 4 * 4 or lines)


#: A Specim FX10 unbinned and binned, and an FX17.
GEOMETRIES = (Geometry(1024, 224), Geometry(1024, 448), Geometry(640, 224))


class Recording:
    """Some lines of one geometry, with what corrects them.

    Attributes
    ----------
    geometry : Geometry
    lines : ndarray of uint16, (n, bands, samples)
    black, white, white_black : ndarray of float32, (bands, samples)
        References as a capture takes them, without their own noise.
    correction : Correction
    bad_pixels : ndarray of bool, (bands, samples)
    watched : Watched
        Columns that always see the same, where it was asked for.
    panel : float
        Reflectance of the white panel.
    saturation_level, bit_depth : int
    wavelength : ndarray of float64, (bands,)
        nm.
    """

    def __init__(
        self, geometry: Geometry, lines: int = DIFFERENT_LINES, *, watched: bool = False
    ) -> None:
        self.geometry = geometry
        columns = min(WATCHED_COLUMNS, max(1, geometry.samples // 8))
        config = CameraConfig(
            driver="simulated",
            samples=geometry.samples,
            bands=geometry.bands,
            exposure_ms=EXPOSURE_MS,
            panel_columns=columns if watched else 0,
            masked_columns=columns if watched else 0,
        )
        self.watched = Watched(
            panel_strip=(1, columns),
            dark_columns=(geometry.samples - columns + 1, geometry.samples),
        )
        sensor = Sensor(config)
        self.saturation_level, self.bit_depth = sensor.saturation_level, sensor.bits
        self.wavelength = sensor.axis.wavelength
        self.lines = np.empty((lines, geometry.bands, geometry.samples), np.uint16)
        for number, line in enumerate(self.lines):
            sensor.expose(line, "scene", number, TEMPERATURE_C, 1, number)
        self.black = self._mean(sensor, "dark")
        sensor.exposure_ms = WHITE_MS
        self.white, self.white_black = self._mean(sensor, "panel"), self._mean(sensor, "dark")
        self.panel = sensor.panel_reflectance
        plain = correction(
            self.black,
            self.white,
            white_black=self.white_black,
            panel=sensor.panel_reflectance,
            exposure=EXPOSURE_MS,
            white_exposure=WHITE_MS,
        )
        self.correction: Correction = blind(plain, self.watched) if watched else plain
        limit = np.quantile(self.black, 1.0 - BAD_SHARE)
        self.bad_pixels: NDArray[np.bool_] = self.black > limit

    @staticmethod
    def _mean(sensor: Sensor, view: Any) -> NDArray[np.float32]:
        return sensor.expected_counts(0, view, TEMPERATURE_C).astype(np.float32)

    def plan(self, block_lines: int, **chosen: Any) -> EnginePlan:
        """Arm an engine for these lines; ``chosen`` are further fields of the plan."""
        return EnginePlan(
            bands=self.geometry.bands,
            samples=self.geometry.samples,
            dtype=np.dtype(np.uint16),
            block_lines=block_lines,
            saturation_level=self.saturation_level,
            bit_depth=self.bit_depth,
            **{"correction": self.correction, "bad_pixels": self.bad_pixels, **chosen},
        )


class Blocks:
    """Blocks in rotating host slots, as a capture's receiver fills them.

    Parameters
    ----------
    recording : Recording
    block_lines : int
    total_bytes : int
        At least so much memory altogether, as far as ``MOST_LINES`` go; two blocks at the least.

    Attributes
    ----------
    raw : list of ndarray of uint16, (block_lines, bands, samples)
    nbytes : int
        Of all of them.
    """

    def __init__(self, recording: Recording, block_lines: int, total_bytes: int) -> None:
        geometry = recording.geometry
        shape = (block_lines, geometry.bands, geometry.samples)
        size = block_lines * geometry.line_bytes
        count = max(2, min(-(-total_bytes // size), -(-MOST_LINES // block_lines)))
        self.ring = SlotRing(count, size, populate=True)
        self.block_lines = block_lines
        self.raw: list[NDArray[np.uint16]] = []
        at = 0
        for _ in range(count):
            slot = self.ring.acquire()
            assert slot is not None
            block = slot.array(shape, np.uint16)
            for line in block:
                line[:] = recording.lines[at % len(recording.lines)]
                at += 1
            self.raw.append(block)
        self.nbytes = count * size

    @property
    def mib(self) -> float:
        """Size of a block."""
        return self.raw[0].nbytes / 2**20

    def __enter__(self) -> Blocks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.raw.clear()
        self.ring.close()


def packed(lines: NDArray[np.uint16], fmt: PixelFormat) -> NDArray[np.uint8]:
    """Pack lines as a camera does, each by itself: (n, bytes of a line).

    ``lines`` hold 12 significant bits; the lowest are dropped where the format has fewer.
    """
    counts = (lines.reshape(len(lines), -1) >> (12 - fmt.bits)).astype(np.uint16)
    pixels = counts.shape[1]
    counts = np.pad(counts, ((0, 0), (0, -pixels % 4)))  # whole groups of bytes
    if fmt.packing == "gige":
        low = fmt.bits - 8
        one, two = counts[:, 0::2], counts[:, 1::2]
        mask = (1 << low) - 1
        parts = [one >> low, one & mask | (two & mask) << 4, two >> low]
    elif fmt.bits == 12:
        one, two = counts[:, 0::2], counts[:, 1::2]
        parts = [one & 255, one >> 8 | (two & 15) << 4, two >> 4]
    else:
        a, b, c, d = (counts[:, i::4] for i in range(4))
        parts = [
            a & 255,
            a >> 8 | (b & 63) << 2,
            b >> 6 | (c & 15) << 4,
            c >> 4 | (d & 3) << 6,
            d >> 2,
        ]
    stacked = np.stack(parts, axis=-1).astype(np.uint8)
    whole = stacked.reshape(len(lines), -1)
    return np.ascontiguousarray(whole[:, : fmt.packed_bytes(pixels)])
