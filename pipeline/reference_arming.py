"""References when a capture is armed: taken from the camera, loaded, or asked of the driver.

:func:`arm_references` gives a capture the set that its rig file wants; :func:`take` takes one, with
the shutter closed or the panel in view. Knows session, references and the wavelengths that arming
settles.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from pipeline.arming import Warn, settle_axis
from pipeline.config import GREATEST_PANEL, Rig
from pipeline.describe import parse_fields
from pipeline.errors import CameraError, ReferenceMismatchError
from pipeline.events import EventBus, PhaseKind, Progress, ReferenceTaken
from pipeline.layout import LedgerRows, LineStatus, LossReason
from pipeline.reference_choosing import Chosen, choose, own_black_for
from pipeline.reference_conditions import camera_conditions, number
from pipeline.reference_panel import panel_reflectance
from pipeline.reference_taking import Accumulator, refuse_faulty
from pipeline.references import Reference, ReferenceSet, check_pair
from pipeline.session import Session, require
from pipeline.stream.messages import CameraInfo

#: What can be kept, by the phase that takes it.
_CHOSEN: Final[dict[str, Literal["white", "black"]]] = {"white": "white", "black": "black"}
#: What to look at when lines do not arrive whole.
_LOOK: Final = "is the camera triggered, and its link fast enough?"
#: Values of ``[references] black`` that name no place.
_NO_FILE: Final = (None, "", "take")


def arm_references(
    rig: Rig, info: CameraInfo, session: Session, base: Path, bus: EventBus, warn: Warn
) -> ReferenceSet:
    """Take, load or ask the driver for the references that the rig file wants.

    Raises
    ------
    SwathError
        When one is missing, does not fit, is saturated, or cannot be taken.
    """
    found: dict[str, Reference | None] = {"white": None, "black": None, "white_black": None}
    choices: dict[str, list[str]] = {}
    after: list[Reference] = []
    config = rig.references
    scan = camera_conditions(info, rig.camera.flip, config.binning_mode)
    chosen_white: Chosen | None = None
    kinds: tuple[PhaseKind, ...] = ("black", "white")
    for kind in kinds:
        where = getattr(config, kind)
        if where == "take":
            require(info, kind)
            # The dark that a white is looked at with was taken a moment ago.
            dark = found["black"] if config.black == "take" else None
            found[kind] = take(
                session,
                info,
                kind,
                config.lines,
                bus,
                flip=rig.camera.flip,
                dark=dark,
                warn=warn if config.on_mismatch == "warn" else None,
            )
            choices[kind] = ["taken before the scan"]
        elif where:
            said: list[str] = []
            chosen = choose(_CHOSEN[kind], where, base, scan, config, said)
            found[kind], choices[kind] = chosen.reference, chosen.said
            if kind == "white":
                chosen_white, found["white_black"] = chosen, chosen.own_black
            for text in said:
                warn(text)
        elif kind in info.references:
            found[kind] = _from_driver(session, kind)
            choices[kind] = ["of the replayed file"]
            if kind == "white" and "white_black" in info.references:
                found["white_black"] = _from_driver(session, "white_black")
            if f"{kind}_after" in info.references:
                after += _after_of_replay(rig, session, kind, warn)
        reference = found[kind]
        if reference is not None and where != "take":
            bus.emit(
                ReferenceTaken(
                    kind=kind,
                    lines=reference.lines,
                    mean=float(np.nanmean(reference.mean)),
                    source="; ".join(choices[kind]),
                )
            )
    if chosen_white is not None and found["white_black"] is None and config.black not in _NO_FILE:
        own = own_black_for(chosen_white, (base / str(config.black)).expanduser(), scan, config)
        if own is not None:
            found["white_black"], choices["white black"] = own.reference, own.said
    references = ReferenceSet(
        found["white"],
        found["black"],
        found["white_black"],
        _panel(rig, info, base, found["white"], warn),
        config.panel_name or _panel_name(found["white"]),
        choices,
        tuple(after),
    )
    for text in check_pair(references):
        warn(text)
    return references


def _panel(
    rig: Rig, info: CameraInfo, base: Path, white: Reference | None, warn: Warn
) -> float | list[float]:
    """Give the panel's reflectance: the rig file's, or else what the white says of its own."""
    panel: Any = rig.references.panel
    own = None if white is None else white.fields.get("white reflectance")
    if own is not None and panel == 1.0:
        return _own_panel(own)
    if white is None:
        return float(panel) if not isinstance(panel, str) else 1.0
    value, said = panel_reflectance(panel, settle_axis(rig, info, base, warn), base)
    for text in said:
        warn(text)
    return value


def _own_panel(own: Any) -> float | list[float]:
    """Read the ``white reflectance`` of a white's header.

    Raises
    ------
    ReferenceMismatchError
        When it holds anything else than shares.
    """
    values = [number(v) for v in (own if isinstance(own, list) else [own])]
    good = [v for v in values if v is not None and 0 < v <= GREATEST_PANEL]
    if not good or len(good) < len(values):
        shown = ", ".join(str(v)[:20] for v in (own if isinstance(own, list) else [own])[:4])
        raise ReferenceMismatchError(
            f"white reference: white reflectance: found {shown or 'nothing'}, allowed are shares "
            f"above 0 up to {GREATEST_PANEL:g}; say [references] panel otherwise"
        )
    return good if len(good) > 1 else good[0]


def _panel_name(white: Reference | None) -> str | None:
    name = None if white is None else white.fields.get("panel name")
    return None if name is None else str(name)


def take(
    session: Session,
    info: CameraInfo,
    kind: PhaseKind,
    lines: int,
    bus: EventBus,
    *,
    flip: Sequence[str] = (),
    dark: Reference | None = None,
    warn: Warn | None = None,
) -> Reference:
    """Take one reference from the camera, and refuse it where it is none.

    Parameters
    ----------
    session, info
        With the armed camera.
    kind : {"black", "white"}
    lines : int
        How many to take.
    bus : EventBus
        Receives progress, and what was taken.
    flip : sequence of str
        ``[camera] flip`` of the rig file.
    dark : Reference, optional
        That a white is compared with.
    warn : callable, optional
        Receives what is wrong with it instead of a refusal.

    Raises
    ------
    ReferenceMismatchError
        When it is saturated, too dim, not dark, or not steady.
    CameraError
        When the camera fails, or none of its lines arrives whole.
    """
    reference, saturated = take_unseen(session, info, kind, lines, bus, flip=flip)
    refuse_faulty(reference, info.saturation_level, dark, saturated, warn)
    return reference


def take_unseen(
    session: Session,
    info: CameraInfo,
    kind: PhaseKind,
    lines: int,
    bus: EventBus,
    *,
    flip: Sequence[str] = (),
) -> tuple[Reference, float]:
    """Average ``lines`` lines without those that stand out; nobody looked what they show.

    The shutter closes for a black where there is one, the panel comes into view for a white.

    Returns
    -------
    reference : Reference
    saturated : float
        Share of its saturated pixels.
    """
    moved = (kind == "black" and info.has_shutter) or (kind == "white" and info.has_panel)
    command, key = ("shutter", "closed") if kind == "black" else ("panel", "in_view")
    began = time.monotonic()
    sums = Accumulator(info.bands, info.samples, info.saturation_level)
    lost: Counter[str] = Counter()  # lines, by reason
    warmth: list[float] = []
    moments: list[int] = []  # of lines, ns since 1970
    if moved:
        session.command(command, **{key: True})
    try:
        for block in session.series(kind, lines=lines):
            if block is None:
                continue
            lost.update(_lost_lines(block.rows))
            rows = block.rows[block.rows["line"] >= 0]
            good = rows["status"] == LineStatus.OK
            sums.add(block.pixels[good])
            warmth += rows["temperature_c"][good & np.isfinite(rows["temperature_c"])].tolist()
            moments += [int(ns) for ns in rows["host_time_ns"][[0, -1]] if ns] if len(rows) else []
            session.link.ack(block.header.series, block.header.seq)
            block.slot.release()
            seconds = time.monotonic() - began
            rate = sums.seen / max(seconds, 1e-3)
            bus.emit(Progress(lines=sums.seen, total=lines, seconds=seconds, lines_per_second=rate))
    finally:
        if moved:
            session.command(command, **{key: False})
    if session.error:
        raise CameraError(f"{kind} reference: {session.error}")
    session.refuse_stopped()
    if not sums.seen:
        why = ", ".join(f"{count} {reason}" for reason, count in lost.items())
        found = f"none of {lost.total()} lines arrived whole ({why})" if lost else "no line arrived"
        raise CameraError(f"{kind} reference: {found}; {_LOOK}")
    # The middle of its lines: drift is interpolated between the times of two references.
    when = dt.datetime.now(dt.UTC)
    if moments:
        when = dt.datetime.fromtimestamp((min(moments) + max(moments)) / 2e9, dt.UTC)
    reference = sums.reference(
        kind,
        info,
        when,
        flip=flip,
        temperature_c=float(np.mean(warmth)) if warmth else None,
    )
    bus.emit(
        ReferenceTaken(
            kind=kind,
            lines=sums.lines,
            rejected=sums.rejected,
            mean=float(reference.mean.mean()),
            saturated=sums.saturated,
            full_scale=info.saturation_level,
        )
    )
    return reference, sums.saturated


def _lost_lines(rows: LedgerRows) -> dict[str, int]:
    """Count lost lines by the word for their reason."""
    lost = rows[rows["status"] == LineStatus.LOST]
    return {
        LossReason(int(reason)).text: int(lost["count"][lost["reason"] == reason].sum())
        for reason in np.unique(lost["reason"])
    }


def _after_of_replay(rig: Rig, session: Session, kind: str, warn: Warn) -> list[Reference]:
    """Give the reference that was taken after the recorded scan, where the scan is that one."""
    if rig.camera.loops != 1:
        warn(
            f"{kind}_after of the replayed file is left out, so drift is not corrected: it belongs "
            f"to the end of one scan, and [camera] loops = {rig.camera.loops} repeats it"
        )
        return []
    return [_from_driver(session, f"{kind}_after")]


def _from_driver(session: Session, kind: str) -> Reference:
    value, array = session.command("reference", name=kind)
    if array is None:
        raise CameraError(f"{kind} reference: the driver's answer holds no array")
    said: list[str] = []
    header = parse_fields(value.get("fields", {}).items(), f"{kind} reference", said)
    return Reference(kind, array, None, dict(header.items()))
