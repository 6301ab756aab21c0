"""What a capture settles about its lines' own references: watched columns, drift, bad pixels named.

Small steps of arming that the plan is put together from. Knows the bottom, headers and references.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import count_kinds
from pipeline.config import Rig
from pipeline.container.header import Header
from pipeline.container.references import watched_columns
from pipeline.errors import ConfigError, ReferenceMismatchError
from pipeline.line_factors import LineFactors, blind, level_white
from pipeline.references import ReferenceSet
from pipeline.reflectance import Correction
from pipeline.stream.messages import CameraInfo


def name_bad_pixels(header: Header, kinds: NDArray[np.uint8] | None) -> None:
    """Write into the header how many pixels of a line are bad, by kind: ``bad pixels``."""
    if kinds is None:
        return
    counts = count_kinds(kinds)
    header.set("bad pixels", [f"{count} {name}" for name, count in counts.items()] or ["none"])


def watched_correction(
    header: Header, references: ReferenceSet, exposure: float | None
) -> Correction | None:
    """Give the arrays of the formula, with a white whose pedestal is that of its dark.

    Raises
    ------
    ConfigError
        When the columns that the header names do not fit.
    """
    white, black = references.white, references.black
    if white is None or black is None:
        return None
    try:
        watched = watched_columns(header)
        watched.check(white.mean.shape[1])
    except ReferenceMismatchError as error:
        raise ConfigError(f"[references] {error}") from None
    own = black if references.white_black is None else references.white_black
    level = level_white(white.mean, own.mean, watched)
    return replace(references, white=replace(white, mean=level)).correction(exposure)


def plan_line_factors(
    header: Header,
    info: CameraInfo,
    references: ReferenceSet,
    corr: Correction | None,
    bad: NDArray[np.bool_] | None,
) -> tuple[LineFactors | None, Correction | None]:
    """Arm the correction line by line, where the header names columns that always see the same.

    Also gives the correction, with 0 for the masked columns.

    Raises
    ------
    ConfigError
        When there are no references, or the columns do not fit.
    """
    try:
        watched = watched_columns(header)
        if not watched:
            return None, corr
        watched.check(info.samples)
        if corr is None:
            raise ReferenceMismatchError(
                "panel_strip, dark_columns: need a white and a black to be held against"
            )
        factors = LineFactors(
            watched,
            corr,
            panel=np.asarray(references.panel, np.float64),
            saturation_level=info.saturation_level,
            bad=bad,
        )
        return factors, blind(corr, watched)
    except ReferenceMismatchError as error:
        raise ConfigError(f"[references] {error}") from None


def has_after(rig: Rig, references: ReferenceSet) -> bool:
    """Tell whether there are references of after the scan, to be taken or of a replayed file."""
    return bool(rig.references.white_after or rig.references.black_after or references.after)


def check_after(
    rig: Rig, info: CameraInfo, references: ReferenceSet, warn: Callable[[str], None]
) -> None:
    """Refuse references after the scan that have none before it, or that cannot be taken.

    Raises
    ------
    ConfigError
    """
    for kind, able, part in (
        ("white", info.has_panel, "panel"),
        ("black", info.has_shutter, "shutter"),
    ):
        if not getattr(rig.references, f"{kind}_after"):
            continue
        if getattr(references, kind) is None:
            raise ConfigError(
                f'[references] {kind}_after = "take": there is no {kind} of before the scan; '
                f'allowed with {kind} = "take" or a file'
            )
        if not able:
            raise ConfigError(
                f'[references] {kind}_after = "take": this camera has no {part} that the program '
                "could move"
            )
    stored = rig.pipeline.store == "reflectance"
    if stored and has_after(rig, references):
        warn(
            'store = "reflectance" is computed while the scan runs, with the references of before '
            'it: the ones taken after it are kept, but only store = "raw" is corrected for drift'
        )
