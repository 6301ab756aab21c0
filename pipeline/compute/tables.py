"""What the pixel pass needs to know, worked out once when arming, for CPU and GPU alike.

From references and the bad-pixel map to the arrays that the kernels read. Everything that does not
depend on the raw counts is decided here. Knows NumPy and the bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import replacements
from pipeline.errors import ConfigError
from pipeline.layout import PixelFormat
from pipeline.reflectance import IGNORE, Correction

ReflectanceType = Literal["int16", "uint16", "float32"]

#: What stands for an invalid pixel in each type of stored reflectance (``data ignore value``).
INVALID: Final[dict[str, float]] = {
    "int16": IGNORE,
    "uint16": 65535,
    "float32": float("nan"),
}
#: Least and greatest stored value; beyond them a value is clipped and counted.
LIMITS: Final[dict[str, tuple[int, int]]] = {"int16": (-32767, 32767), "uint16": (0, 65534)}
#: A white that is brighter than its dark by less than this part of saturation is ``low signal``:
#: at 12 bits 41 DN, where read noise alone makes several percent of the reflectance.
LOW_SIGNAL: Final = 0.01

#: Scale and offset of a line that needs none.
NEUTRAL: Final = np.array([[1.0], [0.0]], np.float32)


@dataclass(frozen=True, kw_only=True)
class PassPlan:
    """What one pixel pass is armed for.

    ``preview_factor``: samples (and lines) to a cell; 0: none. ``coarser``: the sums of complete
    preview rows are wanted, too, as coarser previews follow. ``packed``: the format of blocks
    that come as the camera packed them, uint8 (lines, bytes of a line); blocks of counts
    (lines, bands, samples) may come as well. ``factors``: lines have a scale and an offset
    (:mod:`pipeline.line_factors`). The other attributes are those of
    :class:`pipeline.stages.stage.EnginePlan`.
    """

    bands: int
    samples: int
    dtype: np.dtype[Any]
    block_lines: int
    saturation_level: int
    correction: Correction | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    reflectance: ReflectanceType | None = None
    quality: bool = True
    preview_factor: int = 0
    coarser: bool = False
    packed: PixelFormat | None = None
    factors: bool = False

    @property
    def cells(self) -> int:
        """Preview cells across a line."""
        return -(-self.samples // self.preview_factor) if self.preview_factor else 0

    @property
    def preview_type(self) -> Literal["int16", "float32"] | None:
        """Type of preview rows: reflectance × 10000, or mean counts; None: there are none."""
        if not self.preview_factor:
            return None
        return "float32" if self.correction is None else "int16"

    @property
    def strip(self) -> int:
        """Lines that are worked on together: those of one preview row, else 4."""
        return self.preview_factor or 4

    @property
    def rows(self) -> int:
        """Most preview rows (strips) that one block can touch."""
        return (self.block_lines + self.strip - 2) // self.strip + 1

    def __post_init__(self) -> None:
        if self.reflectance is not None and self.correction is None:
            raise ConfigError("pixel pass: reflectance needs references, there are none")
        if self.factors and self.correction is None:
            raise ConfigError("pixel pass: factors of lines need references, there are none")


@dataclass(frozen=True)
class PassTables:
    """Arrays that the kernels read.

    Attributes
    ----------
    black, gain : ndarray of float32, (bands, samples)
        Of the formula; 0 and 1 without references. ``gain`` is NaN where the pixel gives nothing
        by itself: in the bad-pixel map, or without a usable white.
    fix : ndarray of int32, (n, 4)
        A row for each pixel of the bad-pixel map: band, sample, and the nearest good bands below
        and above at that sample, both the same at the ends of the spectrum, −1 when there is none.
    fix_weight : ndarray of float32, (n,)
        Weight of the band above (linear in the band number).
    planes : ndarray of uint8, (3, samples)
        Bands per sample that are bad, of low signal, interpolated; 255 = that many or more.
    cells : ndarray of float32, (bands, cells)
        Pixels of a valid line that count in each preview cell.
    level : int
        Counts at or above are saturated; −1 when no count of the type can be.
    dark : bool
        Whether counts are compared with ``black``.
    """

    black: NDArray[np.float32]
    gain: NDArray[np.float32]
    fix: NDArray[np.int32]
    fix_weight: NDArray[np.float32]
    planes: NDArray[np.uint8]
    cells: NDArray[np.float32]
    level: int
    dark: bool

    @property
    def bad(self) -> int:
        """Bad pixels of a line."""
        return len(self.fix)


def pass_tables(plan: PassPlan) -> PassTables:
    """Work out the tables of a plan."""
    shape = (plan.bands, plan.samples)
    corr = plan.correction
    if corr is None:
        black = np.zeros(shape, np.float32)
        gain = np.ones(shape, np.float32)
        low_signal = np.zeros(shape, np.bool_)
    else:
        black = np.ascontiguousarray(corr.black, np.float32)
        gain = np.array(corr.gain, np.float32)
        gain[~(np.isfinite(gain) & np.isfinite(black))] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            # 1 / gain is the counts between dark and panel at the exposure of the data
            low_signal = ~(1.0 / gain >= LOW_SIGNAL * max(plan.saturation_level, 1)) | (gain == 0)
    bad = np.zeros(shape, np.bool_) if plan.bad_pixels is None else plan.bad_pixels.astype(bool)
    fix, weight = replacements(bad, ~bad & np.isfinite(gain))
    gain[bad] = np.nan
    interpolated = np.zeros(shape, np.bool_)
    replaced = fix[fix[:, 2] >= 0]
    interpolated[replaced[:, 0], replaced[:, 1]] = True
    planes = np.stack(
        [np.minimum(p.sum(axis=0), 255).astype(np.uint8) for p in (bad, low_signal, interpolated)]
    )
    cells = np.zeros((plan.bands, plan.cells), np.float32)
    if plan.preview_factor:
        starts = np.arange(0, plan.samples, plan.preview_factor)
        gives = (np.isfinite(gain) | interpolated).astype(np.float32)
        cells = np.ascontiguousarray(np.add.reduceat(gives, starts, axis=1))
    level = plan.saturation_level
    if level <= 0 or (plan.dtype.kind in "ui" and level > np.iinfo(plan.dtype).max):
        level = -1
    return PassTables(black, gain, fix, weight, planes, cells, level, corr is not None)
