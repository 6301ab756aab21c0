"""What a stage is, what the engine is armed with, and what comes out of it for each block.

A stage is one file of this package: it says what it takes and yields, is armed once (all its
memory is made then) and sees every block in order. :func:`check_chain` refuses a chain whose needs
are not met. Knows the compute interface and the modules at the bottom; never files, sockets or
cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.interface import Backend
from pipeline.compute.tables import PassPlan, ReflectanceType
from pipeline.config import PcaConfig
from pipeline.errors import ConfigError
from pipeline.layout import PixelFormat
from pipeline.line_factors import LineFactors
from pipeline.reflectance import Correction

#: Order of the planes of the quality mask (``band names`` of ``Exploration/quality.envi``).
QUALITY_FLAGS: Final = ("saturated", "bad", "below dark", "low signal", "interpolated", "lost")


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """Everything the engine must know before the first block; checked on construction.

    Attributes
    ----------
    bands, samples : int
        Of a line.
    dtype : numpy dtype
        Of a raw pixel.
    block_lines : int
        The most lines that a block can have.
    saturation_level : int
        A count at or above it is saturated (DN); 0 switches the check off.
    bit_depth : int
        Significant bits of a raw pixel.
    correction : Correction, optional
        References; without them there is no reflectance and no check against the dark.
    bad_pixels : ndarray of bool, (bands, samples), optional
        True where the sensor's pixel is bad.
    reflectance : {None, "int16", "uint16", "float32"}
        Which reflectance to yield, if any.
    quality, preview : bool
        Whether to yield the quality mask and the preview pyramid.
    pca : PcaConfig, optional
        Compress by principal components of the raw counts.
    threads : int
        Threads of the CPU backend; 0 chooses.
    backend : {"auto", "cpu", "cuda"}
        Where to compute; ``auto`` takes the GPU where there is one.
    packed : PixelFormat, optional
        Blocks may also come as the camera packed them, in this format (``lsb`` or ``gige``).
    line_factors : LineFactors, optional
        Gives each line a scale and an offset, from columns that always see the same.

    Raises
    ------
    ConfigError
        When the values cannot work together.
    """

    bands: int
    samples: int
    dtype: np.dtype[Any]
    block_lines: int
    saturation_level: int
    bit_depth: int = 16
    correction: Correction | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    reflectance: ReflectanceType | None = None
    quality: bool = True
    preview: bool = True
    pca: PcaConfig | None = None
    threads: int = 0
    backend: Literal["auto", "cpu", "cuda"] = "auto"
    packed: PixelFormat | None = None
    line_factors: LineFactors | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        for name in ("bands", "samples", "block_lines"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, allowed are 1 and more")
        if self.dtype.kind not in "uif":
            raise ConfigError(
                f"raw pixels: found {self.dtype}, allowed are integers and real floating-point"
            )
        shape = (self.bands, self.samples)
        if self.correction is not None and self.correction.shape != shape:
            raise ConfigError(
                f"references: found (bands, samples) = {self.correction.shape}, "
                f"the camera delivers {shape}"
            )
        if self.bad_pixels is not None and self.bad_pixels.shape != shape:
            raise ConfigError(
                f"bad_pixels: found (bands, samples) = {self.bad_pixels.shape}, "
                f"the camera delivers {shape}"
            )
        if self.packed is not None and (
            self.packed.packing == "none" or self.packed.dtype != self.dtype
        ):
            raise ConfigError(
                f"packed: found {self.packed.name} for pixels of {self.dtype}, allowed are packed "
                "formats of that type"
            )
        if self.line_factors is not None and (self.correction is None or self.packed is not None):
            raise ConfigError(
                "line factors: need references, and blocks of counts that are not packed"
            )
        if self.pca is not None and self.pca.components > self.bands:
            raise ConfigError(
                f"[pipeline.pca] components: found {self.pca.components}, "
                f"allowed are 1 to {self.bands} (the bands of the cube)"
            )

    def pass_plan(self, *, preview_factor: int = 0, coarser: bool = False) -> PassPlan:
        """Give what the compute operations are armed from."""
        return PassPlan(
            bands=self.bands,
            samples=self.samples,
            dtype=self.dtype,
            block_lines=self.block_lines,
            saturation_level=self.saturation_level,
            correction=self.correction,
            bad_pixels=self.bad_pixels,
            reflectance=self.reflectance,
            quality=self.quality,
            preview_factor=preview_factor,
            coarser=coarser,
            packed=self.packed,
            factors=self.line_factors is not None,
        )

    @property
    def line_bytes(self) -> int:
        """Bytes of a line as the camera packed it, or of its counts where it did not."""
        pixels = self.bands * self.samples
        return self.packed.packed_bytes(pixels) if self.packed else pixels * self.dtype.itemsize


@dataclass(slots=True)
class PcaGroup:
    """A finished group of lines of the PCA: decoded counts are ``scores·step @ basis + mean``.

    Attributes
    ----------
    first_line, lines : int
        Which lines of the cube.
    mean : ndarray of float32, (B,)
        Counts.
    basis : ndarray of float32, (K, B)
        Components, strongest first: orthogonal, of length 1 or, where a component's scores would
        leave int16, of length 2, 4, 8 …; unused ones are 0.
    scores : ndarray of int16, (lines, K, samples)
        Zero in lost lines.
    step : float
        Counts per unit of a score, the same for all groups of a capture.
    pixels : int
        Spectra learned from.
    """

    first_line: int
    lines: int
    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    scores: NDArray[np.int16]
    step: float
    pixels: int


@dataclass(slots=True)
class BlockResult:
    """What the stages made of one block; its arrays are valid until the next ``process``.

    Attributes
    ----------
    first_line, lines : int
        Which lines of the cube.
    reflectance : ndarray, (lines, bands, samples), optional
    clipped : int
        Reflectance values stored as the limit of their type.
    saturated, bad, below_dark : ndarray of uint32, (lines,)
        Pixels of each line; a bad one counts neither as saturated nor as below dark.
    quality : ndarray of uint8, (lines, 6, samples), optional
        Planes as in ``QUALITY_FLAGS``; the number of bands affected, 255 = that many or more.
    previews : list of (level, ndarray (rows, bands, preview samples))
        Rows finished by this block, of ``preview`` (level 0) and ``preview_<level>``: int16
        reflectance × 10000 (−32768: nothing valid), or float32 mean counts (NaN likewise).
    pca : list of PcaGroup
    begun : callable, optional
        Gives the row of ``preview`` that is not finished yet, with the mean of the lines that are
        in it by now, (1, bands, preview samples), or None; may be called until the next block.
    """

    first_line: int
    lines: int
    reflectance: NDArray[Any] | None = None
    clipped: int = 0
    saturated: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    bad: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    below_dark: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    quality: NDArray[np.uint8] | None = None
    previews: list[tuple[int, NDArray[Any]]] = field(default_factory=list)
    pca: list[PcaGroup] = field(default_factory=list)
    begun: Callable[[], NDArray[Any] | None] = lambda: None
    #: Lines whose lamp level or offset was not believed, and is left at 1 or 0.
    untrusted: int = 0
    #: What stages hand on to later ones within a block, by the name they declared.
    between: dict[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """One step of the engine; docs/adding-a-stage.md walks through one.

    It is made from the plan, which checks everything that can be checked; ``arm`` then makes all
    its memory. ``takes`` and ``yields`` are names of things, for :func:`check_chain`; a stage hands
    what it yields on in the result, either in a field of its own or in ``between``.
    """

    name: str
    takes: frozenset[str]
    yields: frozenset[str]

    def arm(self, backend: Backend) -> None:
        """Make all memory and compile what must be compiled."""

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_], result: BlockResult) -> None:
        """Take one block, (lines, bands, samples) with (lines,) ``valid``; add to ``result``.

        Where the engine is armed for packed blocks, ``raw`` may be one: uint8, (lines, bytes).
        """

    def finish(self, result: BlockResult) -> None:
        """Flush what was held back; no block follows."""


@runtime_checkable
class EarlyStage(Stage, Protocol):
    """A stage whose work can be under way for several blocks at once.

    ``begin`` is called for each block in order, as soon as it is loaded; ``process`` later, in the
    same order, when its result is wanted.
    """

    def begin(self, raw: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Start what can be started on the block loaded last; ``raw`` stays until ``process``."""

    def close(self) -> None:
        """Give threads back; may be called twice."""


def check_chain(given: Iterable[str], stages: Sequence[Stage], wanted: Iterable[str]) -> None:
    """Check that each stage finds what it takes among what is given and yielded before it.

    Parameters
    ----------
    given : names that exist from the start (``raw``, ``valid``, ``correction`` …)
    stages : in the order in which they run
    wanted : names that must exist at the end

    Raises
    ------
    ConfigError
        Naming the stage, what it misses and what there is.
    """
    have = set(given)
    for stage in stages:
        if missing := sorted(stage.takes - have):
            raise ConfigError(
                f"stage {stage.name}: needs {', '.join(missing)}, "
                f"the stages before it yield {', '.join(sorted(have))}"
            )
        have |= stage.yields
    if missing := sorted(set(wanted) - have):
        raise ConfigError(
            f"pipeline: {', '.join(missing)} was asked for, "
            f"the stages yield {', '.join(sorted(have))}"
        )
