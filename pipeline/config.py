"""The rig file as typed, checked structures (docs/rig-file.md describes every key).

Frozen structures whose checks run at construction; after loading nothing can be misconfigured.
The loader with its located messages is in :mod:`pipeline.rigfile`. Knows msgspec and the error
tree only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
#: Entry of a container that holds the rig file as its capture read it.
RIG_ENTRY = "Metadata/rig.json"
#: No spectrograph reaches so far into the ultraviolet: wavelengths below are in another unit, nm.
LEAST_NM = 100.0
#: A reflectance of a panel above is in another unit, such as %.
GREATEST_PANEL = 1.5
#: 1-based inclusive first and last, in binned pixels (``hroi``, ``vroi``).
Roi = tuple[PositiveInt, PositiveInt]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of the rig file: keyword-only, frozen, unknown keys refused."""


class Wavelengths(Table, frozen=True):
    """Wavelength calibration by unbinned sensor row: first and last (linear), or a polynomial.

    ``coefficients`` are c0, c1, … of nm = Σ ci·row^i with row 0-based. ``fwhm`` in nm.
    """

    first: Positive | None = None
    last: Positive | None = None
    coefficients: list[float] | None = None
    fwhm: Positive | None = None

    def __post_init__(self) -> None:
        linear = self.first is not None and self.last is not None
        if linear == (self.coefficients is not None):
            raise ValueError("allowed are either first and last, or coefficients")
        if (self.first is None) != (self.last is None):
            raise ValueError("first and last belong together")
        if self.last is not None and self.last < LEAST_NM:
            raise ValueError(f"last: found {self.last:g}; is that µm? nm are expected")
        if self.coefficients and max(map(self._nm, (0, 1000))) < LEAST_NM:
            raise ValueError(
                f"coefficients: give {self._nm(0):g} at row 0 and {self._nm(1000):g} at row 1000; "
                "is that µm? nm are expected"
            )

    def _nm(self, row: int) -> float:
        return sum(c * float(row) ** i for i, c in enumerate(self.coefficients or ()))


class Faults(Table, frozen=True):
    """Faults of the simulated camera, for tests; 0 switches one off. Lines count from 1."""

    lose_every: Count = 0
    lose_lines: list[Count] = []
    late_every: Count = 0
    late_ms: Annotated[float, Meta(ge=0)] = 100.0
    incomplete_every: Count = 0
    crash_after: Count = 0
    unplug_after: Count = 0


class Defects(Table, frozen=True):
    """Bad pixels of the simulated sensor: how many of each kind; the seed says where."""

    stuck: Count = 0
    dead: Count = 0
    hot: Count = 0
    noisy: Count = 0
    low_response: Count = 0


class Unsteady(Table, frozen=True):
    """A lamp and a pedestal of the simulated camera that do not stay as they were.

    ``lamp_per_s``: part of its light that the lamp gains a second, from when the camera was opened.
    ``lamp_flicker``: amplitude of a sine, as a part of the light. ``pedestal_per_s`` (DN a second)
    and ``pedestal_flicker`` (DN) likewise. ``hertz`` of both sines.
    """

    lamp_per_s: float = 0.0
    lamp_flicker: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    pedestal_per_s: float = 0.0
    pedestal_flicker: Annotated[float, Meta(ge=0)] = 0.0
    hertz: Positive = 7.0

    def __bool__(self) -> bool:
        changes = (self.lamp_per_s, self.lamp_flicker, self.pedestal_per_s, self.pedestal_flicker)
        return any(changes)


class CameraConfig(Table, frozen=True):
    """``[camera]``: which camera, and how it is set. Unset values stay as the camera has them."""

    driver: Literal["simulated", "genicam", "replay"]
    exposure_ms: Positive | None = None
    fps: Positive | None = None
    binning: tuple[PositiveInt, PositiveInt] = (1, 1)
    hroi: Roi | None = None
    vroi: Roi | None = None
    wavelengths: Wavelengths | str | None = None
    spectral_axis: Literal["height", "width"] = "height"
    flip: list[Literal["spectral", "spatial"]] = []
    pixel_format: str | None = None
    gain: float | None = None
    #: Identification for humans, written to the header as ``sensor type``.
    sensor_type: str | None = None
    # genicam
    producer: str | None = None
    serial: str | None = None
    model: str | None = None
    user_id: str | None = None
    index: Count | None = None
    features: dict[str, Any] = {}
    # replay
    file: str | None = None
    rate: Literal["recorded", "max"] | Positive = "recorded"
    loops: Count = 1
    # simulated
    samples: PositiveInt = 640
    bands: PositiveInt = 224
    seed: Count = 1
    bit_depth: Literal[8, 10, 12, 14, 16] = 12
    #: ``shelf``: plants that move past the slit; ``bars``: every line the same, for statistics.
    scene: Literal["shelf", "bars"] = "shelf"
    #: Frames that the camera keeps for a late reader before it loses some; 0: one second's.
    buffer_frames: Count = 0
    #: Lines that are computed when the scan starts and then delivered in turn; 0: each anew.
    pool_lines: Count = 0
    faults: Faults = Faults()
    #: Columns at the end of the sensor that no light reaches, and at its beginning that always see
    #: the panel; unbinned.
    masked_columns: Count = 0
    panel_columns: Count = 0
    defects: Defects = Defects()
    unsteady: Unsteady = Unsteady()

    def __post_init__(self) -> None:
        if self.driver == "replay" and not self.file:
            raise ValueError('driver = "replay" needs file = "…"')
        if self.unsteady and self.pool_lines:
            raise ValueError(
                "unsteady: lines of a pool are always the same; pool_lines = 0 is allowed"
            )
        if self.masked_columns + self.panel_columns >= self.samples:
            raise ValueError(
                f"masked_columns and panel_columns: found {self.masked_columns} and "
                f"{self.panel_columns}, which leave none of {self.samples} samples"
            )
        for name in ("hroi", "vroi"):
            roi = getattr(self, name)
            if roi is not None and roi[0] > roi[1]:
                raise ValueError(f"{name}: first {roi[0]} lies behind last {roi[1]}")


class ScanConfig(Table, frozen=True):
    """``[scan]``: how the scene moves past the slit."""

    trigger: Literal["free", "start", "line"] = "free"
    lines: Count = 0
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    speed_mm_s: Positive | None = None
    pixel_mm: Positive | None = None
    before: list[str] = []
    after: list[str] = []
    command_timeout_s: Positive = 60.0


class CurveConfig(Table, frozen=True):
    """Key files for CURVE: ``key`` is our own secret key, ``server`` the driver's public key.

    ``clients`` (driver side) lists the public keys that may connect, one file each.
    """

    key: str
    server: str | None = None
    clients: list[str] = []


class StreamConfig(Table, frozen=True):
    """``[stream]``: the link between driver and engine."""

    endpoint: str = ""
    block_lines: Annotated[int, Meta(ge=1, le=4096)] = 32
    max_latency_ms: Positive = 20.0
    buffer_seconds: Positive = 3.0
    gaps: Literal["fill", "skip"] = "fill"
    max_gap_lines: Count = 1000
    insecure: bool = False
    curve: CurveConfig | None = None
    timeout_s: Positive = 10.0
    #: How long a camera or its driver may be away before the capture ends with what it has.
    away_s: Annotated[float, Meta(ge=0)] = 30.0


class ReferencesConfig(Table, frozen=True):
    """``[references]``: files, folders to choose from, or ``"take"`` before the scan."""

    white: str | None = None
    black: str | None = None
    #: Taken after the scan as well, so that drift is interpolated when the file is read.
    white_after: Literal["take"] | None = None
    black_after: Literal["take"] | None = None
    #: First and last sample, from 1, that always see the panel, or are masked from light.
    panel_strip: Roi | None = None
    dark_columns: Roi | None = None
    lines: PositiveInt = 100
    #: Certified reflectance of the panel: one value, or a CSV file of nm and reflectance.
    panel: Positive | str = 1.0
    panel_name: str | None = None
    #: What is done with a kept reference that does not fit, or is too old or too warm.
    on_mismatch: Literal["refuse", "warn"] = "refuse"
    #: Oldest reference, hours before the scan; 0: any.
    max_age_h: Annotated[float, Meta(ge=0)] = 24.0
    #: Largest difference of the sensor's temperature from the scan's, °C; 0: any.
    max_temperature_c: Annotated[float, Meta(ge=0)] = 5.0
    #: How the camera makes a pixel of a bin; as its features say where left out.
    binning_mode: Literal["mean", "sum", "charge"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.panel, str) and self.panel > GREATEST_PANEL:
            raise ValueError(
                f"panel: found {self.panel:g}, allowed is a share up to {GREATEST_PANEL:g}; "
                "0.95 for 95 %?"
            )
        for name in ("panel_strip", "dark_columns"):
            columns = getattr(self, name)
            if columns is not None and columns[0] > columns[1]:
                raise ValueError(f"{name}: first {columns[0]} lies behind last {columns[1]}")


class PcaConfig(Table, frozen=True):
    """``[pipeline.pca]``: scores that any ENVI reader opens, or a coding with a stated error."""

    components: PositiveInt = 16
    block_lines: PositiveInt = 128
    #: Empty: "int16" (scores), or whichever fits best where there is an aim.
    coding: str = ""
    max_error: Annotated[int, Meta(ge=0, le=65535)] | None = None
    lossless: bool = False
    ratio: Annotated[float, Meta(ge=1, le=10_000)] | None = None
    noise: bool = False

    def __post_init__(self) -> None:
        if len(self.aims) > 1:
            raise ValueError(f"found {' and '.join(self.aims)}, allowed is one of them")
        if self.coding == "int16" and self.aims:
            raise ValueError(f'coding: found "int16" with {self.aims[0]}, whose error has no bound')

    @property
    def aims(self) -> list[str]:
        """Which of the aims are given."""
        given = {
            "max_error": self.max_error is not None,
            "lossless": self.lossless,
            "ratio": self.ratio is not None,
            "noise": self.noise,
        }
        return [name for name, is_given in given.items() if is_given]

    @property
    def coded(self) -> bool:
        """Whether blocks are coded, not stored as scores."""
        return bool(self.aims) or self.coding not in ("", "int16")


class PipelineConfig(Table, frozen=True):
    """``[pipeline]``: where to compute and what to store."""

    backend: Literal["auto", "cpu", "cuda"] = "auto"
    store: Literal["raw", "reflectance", "pca", "packints"] = "raw"
    threads: Count = 0
    preview: bool = True
    quality: bool = True
    #: ``"find"`` in the references of the capture, or a file of ``swath bad-pixels``; also any
    #: ENVI file that is nonzero where a pixel (band, sample) is bad.
    bad_pixels: str | None = None
    reflectance_type: Literal["int16", "uint16", "float32"] = "int16"
    pca: PcaConfig = PcaConfig()


class OutputConfig(Table, frozen=True):
    """``[output]``: where finished files go."""

    folder: str = "captures"
    name: str = "{target}-{start:%Y%m%dT%H%M%S}"
    #: Endpoint on which corrected preview strips are published; empty: none.
    preview_endpoint: str = ""


#: A value of ``[metadata]``: becomes a header field of the same name (``_`` as blank).
MetadataValue = str | int | float | bool | list[str | int | float]


class Rig(Table, frozen=True):
    """A whole rig file."""

    camera: CameraConfig
    scan: ScanConfig = ScanConfig()
    stream: StreamConfig = StreamConfig()
    references: ReferencesConfig = ReferencesConfig()
    pipeline: PipelineConfig = PipelineConfig()
    output: OutputConfig = OutputConfig()
    metadata: dict[str, MetadataValue] = {}
