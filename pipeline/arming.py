"""Arming: everything a capture decides, checks and refuses before the first byte is written.

Wavelengths are settled, the header is filled, the file named, space checked, the stages planned.
The result is one frozen :class:`Plan`. Knows references, describe and the container's headers;
starts nothing that has to be undone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import is_bad
from pipeline.coded_capture import capture_codings, check_coding, wanted_coding
from pipeline.config import Rig
from pipeline.container.block_codings import BlockCodings
from pipeline.container.header import Header, sanitise
from pipeline.container.modes import pca_header, reflectance_header
from pipeline.container.references import DARK_COLUMNS, PANEL_STRIP
from pipeline.container.space import free_space_check
from pipeline.describe import Times, camera_file, capture_header, file_name
from pipeline.drift_arming import (
    check_after,
    has_after,
    name_bad_pixels,
    plan_line_factors,
    watched_correction,
)
from pipeline.engine import EnginePlan
from pipeline.errors import ConfigError
from pipeline.layout import envi_dtype
from pipeline.references import ReferenceSet
from pipeline.spectral import SpectralAxis, spectral_axis
from pipeline.stages.pca import STEP
from pipeline.stream.messages import CameraInfo
from pipeline.stream.security import check_endpoint

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """All that a capture settled when it was armed.

    Attributes
    ----------
    header : Header
        Complete but for what only the end knows; ``lines`` is 0.
    engine : EnginePlan
        For the stages.
    final : Path
        The finished file; ``explicit`` when the user named it.
    camera_file : str
        Name below ``Metadata/`` of the camera's description.
    more_entries : dict
        Further entries that are known from the start.
    bad_pixels : ndarray of uint8, (bands, samples), optional
        Kinds of the pixels of a line.
    store : str
        What is stored while the scan runs.
    coded : BlockCodings, optional
        How the blocks of the file are coded, as far as it is known before the scan.
    """

    rig: Rig
    info: CameraInfo
    axis: SpectralAxis
    references: ReferenceSet
    header: Header
    engine: EnginePlan
    store: str
    gaps: str
    final: Path
    explicit: bool
    camera_file: str
    more_entries: dict[str, bytes] = field(default_factory=dict)
    bad_pixels: NDArray[np.uint8] | None = None
    coded: BlockCodings | None = None

    def finished_header(self, times: Times, *, lost: int, errors: list[str], pixels: int) -> Header:
        """Give the header of the finished file (``lines`` is the writer's to fill).

        Parameters
        ----------
        times : Times
            Start and stop, UTC.
        lost : int
            Lines lost of the scene.
        errors : list of str
            Sentences for the field of that name.
        pixels : int
            Spectra that the PCA learned from.
        """
        header = _header(self.rig, self.info, self.axis, self.references, times, self.store, [])
        name_bad_pixels(header, self.bad_pixels)
        header.set("lines lost", lost)
        header.set("gaps", self.gaps)
        if errors:
            header.set("errors", [sanitise(text, in_list=True) for text in errors])
        elif "errors" not in header:
            header.set("errors", ["none"])
        if self.store == "pca":
            header.set("pca pixels", pixels)
        return header


def refuse_existing(out: Path | None) -> None:
    """Refuse an explicit ``--out`` that exists, or whose folder does not, or that is no ``.hsi``.

    Raises
    ------
    ConfigError
    """
    if out is None:
        return
    if out.suffix.casefold() != ".hsi":
        raise ConfigError(f"--out {out}: allowed is a name that ends in .hsi")
    if out.exists():
        raise ConfigError(f"--out {out}: exists already, and is never overwritten")
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist")


def refuse_preview_endpoint(rig: Rig) -> None:
    """Refuse a preview endpoint that is none, or that needs keys which are not there.

    Raises
    ------
    ConfigError
    """
    if not rig.output.preview_endpoint:
        return
    try:
        check_endpoint(rig.output.preview_endpoint, rig.stream.curve, rig.stream.insecure)
    except ConfigError as error:
        text = str(error).replace("[stream] endpoint", "[output] preview_endpoint")
        raise ConfigError(text) from None


def settle_axis(rig: Rig, info: CameraInfo, base: Path, warn: Warn) -> SpectralAxis:
    """Decide the wavelengths: the rig file's, the driver's, or band numbers.

    Raises
    ------
    ConfigError
        For a live camera without any.
    """
    if rig.camera.wavelengths is not None:
        axis = spectral_axis(
            rig.camera.wavelengths,
            rows=info.sensor_rows or info.bands * info.binning[0],
            binning=info.binning[0],
            vroi=info.vroi,
            base=base,
            flip=rig.camera.flip,
        )
        if axis.bands != info.bands:
            raise ConfigError(
                f"[camera] wavelengths: give {axis.bands} bands, the camera delivers {info.bands}"
            )
        return axis
    if info.wavelength is not None and len(info.wavelength) == info.bands:
        fwhm = info.fwhm if info.fwhm and len(info.fwhm) == info.bands else None
        return SpectralAxis(
            np.array(info.wavelength, np.float64),
            None if fwhm is None else np.array(fwhm, np.float64),
            info.wavelength_units,
        )
    if info.driver != "replay":
        raise ConfigError(
            "[camera] wavelengths: missing, and cameras do not report them; allowed are "
            '{ first, last }, { coefficients }, a CSV file, or "index"'
        )
    warn("the source has no wavelengths for its bands: they are numbered (Index)")
    return SpectralAxis(np.arange(1.0, info.bands + 1), None, "Index")


def plan_capture(
    rig: Rig,
    info: CameraInfo,
    references: ReferenceSet,
    *,
    base: Path,
    out: Path | None,
    lines: int,
    seconds: float,
    block_lines: int,
    gaps: str,
    warn: Warn,
    bad_pixels: NDArray[np.uint8] | None = None,
) -> Plan:
    """Settle everything else, and refuse what cannot work.

    Parameters
    ----------
    rig, info, references
        The rig file, the armed camera, its references.
    base : Path
        Folder that relative paths count from.
    out : Path or None
        The file that the user named.
    lines, seconds
        What the user asked for; 0: until stopped.
    block_lines : int
        The most lines of a block, as the driver said.
    gaps : {"fill", "skip"}
        What the driver does with lost lines.
    warn : callable
        Receives one sentence.
    bad_pixels : ndarray of uint8, (bands, samples), optional
        Kinds of the pixels of a line.

    Raises
    ------
    ConfigError
        Missing references for ``store = "reflectance"``, too little space, a bad name or text.
    """
    asked = wanted_coding(rig.pipeline)
    store = rig.pipeline.store if asked is None else "raw"
    if asked is not None:
        check_coding(asked, rig.pipeline.store, info, references)
    axis = settle_axis(rig, info, base, warn)
    _check_speed(rig, info, warn)
    if not references.complete and store == "reflectance":
        missing = [k for k in ("white", "black") if getattr(references, k) is None]
        raise ConfigError(
            f'[pipeline] store = "reflectance": needs references, missing: {", ".join(missing)}; '
            'name them under [references], or store = "raw"'
        )
    now = dt.datetime.now(dt.UTC)
    said: list[str] = []
    header = _header(rig, info, axis, references, Times(now), store, said)
    for text in said:
        warn(text)
    name_bad_pixels(header, bad_pixels)
    coded = None
    if asked is not None:
        coded = capture_codings(asked, header, references)
    bad = None if bad_pixels is None else is_bad(bad_pixels)
    corr = watched_correction(header, references, info.exposure_ms)
    factors, corr = plan_line_factors(header, info, references, corr, bad)
    check_after(rig, info, references, warn)
    folder = Path(rig.output.folder).expanduser()
    final = out or folder / (file_name(rig.output.name, rig, now) + ".hsi")
    if out is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"[output] folder = {folder}: {error.strerror}") from None
    line_bytes = header.samples * header.bands * header.dtype.itemsize
    beside = info.samples * (6 if rig.pipeline.quality else 0)
    beside += info.samples * info.bands * 4 // 16 * 4 // 3 if rig.pipeline.preview else 0
    if coded is not None:
        beside += line_bytes // 2  # the coded lines stand beside the raw ones, until these go
    wanted = lines or int(seconds * (info.fps or 0.0))
    room = (final.parent, line_bytes)
    space = free_space_check(*room, wanted, info.fps or 0.0, beside=beside)
    if space.warning and not info.lines:
        warn(space.warning)
    if info.lines and not wanted:
        try:
            free_space_check(*room, info.lines, 0.0, beside=beside)
        except ConfigError as error:
            warn(f"the replay will not fit: {error}")
    engine = EnginePlan(
        bands=info.bands,
        samples=info.samples,
        dtype=envi_dtype(info.data_type, 0),
        block_lines=block_lines,
        saturation_level=info.saturation_level,
        bit_depth=info.bit_depth,
        correction=corr,
        bad_pixels=bad,
        reflectance=rig.pipeline.reflectance_type if store == "reflectance" else None,
        quality=rig.pipeline.quality,
        preview=rig.pipeline.preview,
        pca=rig.pipeline.pca if store == "pca" else None,
        threads=rig.pipeline.threads,
        backend=rig.pipeline.backend,
        line_factors=factors,
    )
    more: dict[str, bytes] = {}
    if info.comments:
        more["Metadata/original comments.txt"] = ("\n".join(info.comments) + "\n").encode()
    name = camera_file(str(header.get("sensor type", info.sensor_type)))
    return Plan(
        rig=rig,
        info=info,
        axis=axis,
        references=references,
        header=header,
        engine=engine,
        store=store,
        gaps=gaps,
        final=final,
        explicit=out is not None,
        camera_file=name,
        more_entries=more,
        bad_pixels=bad_pixels,
        coded=coded,
    )


def _header(
    rig: Rig,
    info: CameraInfo,
    axis: SpectralAxis,
    references: ReferenceSet,
    times: Times,
    store: str,
    warnings: list[str],
) -> Header:
    procedures = ["microservice:reflectance"] if references.complete else []
    raw = capture_header(
        rig, info, axis, times, lines=0, read_procedures=procedures, warnings=warnings
    )
    for kind, said in references.choices.items():
        raw.set(f"{kind} choice", [sanitise(text, in_list=True) for text in said])
    for name in (PANEL_STRIP, DARK_COLUMNS):
        columns = getattr(rig.references, name.replace(" ", "_"))
        if columns is not None:
            raw.set(name, list(columns))
    if store == "reflectance":
        if has_after(rig, references):
            raw.set("drift correction", "none: made with the references of before the scan")
        return reflectance_header(raw, rig.pipeline.reflectance_type)
    if store == "pca":
        return pca_header(
            raw,
            components=min(rig.pipeline.pca.components, info.bands),
            block_lines=rig.pipeline.pca.block_lines,
            step=STEP,
            reflectance=references.complete,
        )
    return raw


def _check_speed(rig: Rig, info: CameraInfo, warn: Warn) -> None:
    """Warn when the scene moves farther per line than a pixel is wide, or less (over 5 %)."""
    speed, pixel = rig.scan.speed_mm_s, rig.scan.pixel_mm
    if speed is None or pixel is None or not info.fps:
        return
    step = speed / info.fps
    if abs(step / pixel - 1) > 0.05:
        warn(
            f"[scan] speed_mm_s = {speed:g} at {info.fps:g} lines/s moves {step:.4g} mm a line, a "
            f"pixel is {pixel:g} mm: the picture will be {pixel / step:.2f} times as long as wide; "
            f"{speed / pixel:.1f} lines/s fit"
        )
