"""What a coding is: blocks of integer pixels in, bytes and their measured error out, and back.

The types that the container, the command line and the benchmark share. Knows NumPy and the error
tree; nothing of how any coding works, of files or of headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

#: Types of pixels that can be coded.
DTYPES: Final = tuple(np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16))
#: Pixels of a block at most: what a decoder has to find memory for, whatever a file says.
MOST_PIXELS: Final = 1 << 30

Pixels = NDArray[Any]


@dataclass(frozen=True)
class BlockShape:
    """The pixels of one line, and their type.

    Attributes
    ----------
    bands, samples : int
    dtype : dtype
        One of ``DTYPES``, native byte order.

    Raises
    ------
    ConfigError
        When a size is below 1 or the type is none that can be coded.
    """

    bands: int
    samples: int
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        if min(self.bands, self.samples) < 1:
            raise ConfigError(
                f"coding: found {self.bands} bands of {self.samples} samples, allowed are 1 or more"
            )
        dtype = np.dtype(self.dtype)
        if dtype not in DTYPES:
            allowed = ", ".join(map(str, DTYPES))
            raise ConfigError(f"coding: found pixels of {dtype}, allowed are {allowed}")
        object.__setattr__(self, "dtype", dtype.newbyteorder("="))

    def line_bytes(self) -> int:
        """Bytes of one decoded line."""
        return self.bands * self.samples * self.dtype.itemsize


@dataclass(frozen=True)
class Masks:
    """What stays out of the fit of a lossy coding and comes back exactly.

    Attributes
    ----------
    bad_bands : tuple of bool
        ``True`` for a bad band (ENVI ``bbl`` is 0 there); empty: none.
    ignore : int or None
        ``data ignore value``; pixels of exactly this value.
    saturation : int or None
        Pixels of this value and above.
    """

    bad_bands: tuple[bool, ...] = ()
    ignore: int | None = None
    saturation: int | None = None


@dataclass(frozen=True)
class Noise:
    """The sensor's noise: ``variance(count) = dark_variance + counts_per_electron · count``.

    Attributes
    ----------
    dark_variance : float
        counts².
    counts_per_electron : float
        Slope of the photon transfer curve; 0 for noise that does not grow with light.
    """

    dark_variance: float
    counts_per_electron: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.dark_variance < np.inf and 0 <= self.counts_per_electron < np.inf):
            raise ConfigError(
                f"noise: found a dark variance of {self.dark_variance} and"
                f" {self.counts_per_electron} counts per electron, allowed are 0 and above"
            )

    def sigma(self, count: float) -> float:
        """Give the standard deviation of a count."""
        return float(np.sqrt(self.dark_variance + self.counts_per_electron * max(count, 0.0)))


@dataclass(frozen=True)
class BlockStats:
    """How far the decoder's own output is from the pixels, over all of them.

    Attributes
    ----------
    values : int
        Pixels compared: lines · bands · samples.
    max_error : int
        counts.
    squared_error : float
        Sum, counts².
    angle : float
        Sum of the angles between spectra and decoded spectra, rad; π/2 where one of the two is of
        zeros alone. Where both are there is none.
    spectra : int
        Spectra in that sum.
    pixels : int
        Spectra that the block's basis or predictor was learned from.
    components : int
        Components kept; 0 where there are none.
    steps : tuple of float, or None
        Least and largest step of scores, counts; None where there are no scores.
    """

    values: int
    max_error: int = 0
    squared_error: float = 0.0
    angle: float = 0.0
    spectra: int = 0
    pixels: int = 0
    components: int = 0
    steps: tuple[float, float] | None = None

    def __add__(self, other: BlockStats) -> BlockStats:
        """Put two blocks together; of components the larger number, of steps the wider range."""
        steps = [*(self.steps or ()), *(other.steps or ())]
        return BlockStats(
            self.values + other.values,
            max(self.max_error, other.max_error),
            self.squared_error + other.squared_error,
            self.angle + other.angle,
            self.spectra + other.spectra,
            self.pixels + other.pixels,
            max(self.components, other.components),
            (min(steps), max(steps)) if steps else None,
        )

    @property
    def rmse(self) -> float:
        """Root mean square error, counts."""
        return float(np.sqrt(self.squared_error / max(self.values, 1)))

    @property
    def mean_angle(self) -> float:
        """Mean spectral angle, rad."""
        return self.angle / max(self.spectra, 1)


@dataclass(frozen=True)
class Encoded:
    """A coded block."""

    data: bytes
    stats: BlockStats


class Coding(Protocol):
    """One way of coding blocks of a cube; holds no state between blocks.

    Attributes
    ----------
    name : str
        For PCA as in ``pca coding``, else the file type in lower case.
    file_type : str
        As in the header of ``data.envi``: ``PCA``, ``JPEGXL``, ``JPEG2000`` or ``PACKINTS``.
    block_lines : int
        Lines of every block but the last.
    shape : BlockShape
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def file_type(self) -> str:
        """See above."""

    @property
    def block_lines(self) -> int:
        """See above."""

    @property
    def shape(self) -> BlockShape:
        """See above."""

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block; may be called by several threads at once.

        Parameters
        ----------
        pixels : ndarray
            (lines, bands, samples) of ``shape.dtype``, 1 … ``block_lines`` lines.

        Raises
        ------
        ConfigError
            When the pixels cannot be coded so (13 bits where 12 are packed).
        """
        ...

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block.

        Returns
        -------
        ndarray
            (lines, bands, samples) of ``shape.dtype``, C-contiguous.

        Raises
        ------
        ContainerError
            When the bytes are not such a block; nothing else, whatever they are.
        """
        ...

    def fields(self) -> dict[str, object]:
        """Give the header fields that a decoder needs besides sizes, type and block lines."""
        ...


def check_pixels(pixels: Pixels, shape: BlockShape, block_lines: int) -> Pixels:
    """Give the pixels of a block to be coded, C-contiguous.

    Raises
    ------
    ConfigError
        When they are not 1 … ``block_lines`` lines of that shape.
    """
    fits = pixels.ndim == 3 and pixels.shape[1:] == (shape.bands, shape.samples)
    if not fits or pixels.dtype != shape.dtype or not 1 <= len(pixels) <= block_lines:
        raise ConfigError(
            f"coding: found a block of {pixels.shape} {pixels.dtype}, allowed are 1 to"
            f" {block_lines} lines of ({shape.bands}, {shape.samples}) {shape.dtype}"
        )
    return np.ascontiguousarray(pixels)


@dataclass(frozen=True)
class Aim:
    """What is asked of a coding; one of the first three at most.

    Attributes
    ----------
    max_error : int or None
        The bound in counts; 0: lossless.
    ratio : float or None
        Bytes of raw pixels for each byte coded, at least (block by block).
    noise : Noise or None
        The step is set from the sensor's own noise.
    masks : Masks
    """

    max_error: int | None = None
    ratio: float | None = None
    noise: Noise | None = None
    masks: Masks = field(default_factory=Masks)

    def __post_init__(self) -> None:
        given = [n for n in ("max_error", "ratio", "noise") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ConfigError(f"coding: found {' and '.join(given)}, allowed is one of them")
        if self.max_error is not None and not 0 <= self.max_error <= 65535:
            raise ConfigError(f"max_error: found {self.max_error}, allowed are 0 to 65535 counts")
        if self.ratio is not None and not 1 <= self.ratio <= 10_000:
            raise ConfigError(f"ratio: found {self.ratio}, allowed are 1 to 10000")
