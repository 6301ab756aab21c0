"""References when a capture is armed: taken from the camera, loaded, or asked of the driver.

:func:`arm_references` gives a capture the set that its rig file wants; :func:`take` takes one, with
the shutter closed or the panel in view. Knows session, references and the wavelengths that arming
settles.
"""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arming import Warn, settle_axis
from pipeline.config import Rig
from pipeline.describe import parse_fields
from pipeline.errors import CameraError
from pipeline.events import EventBus, PhaseKind, Progress, ReferenceTaken
from pipeline.layout import LineStatus
from pipeline.references import (
    Accumulator,
    Reference,
    ReferenceSet,
    check_pair,
    load,
    load_white_black,
    panel_reflectance,
)
from pipeline.session import Session, require
from pipeline.stream.messages import CameraInfo


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
    kinds: tuple[PhaseKind, ...] = ("black", "white")
    for kind in kinds:
        where = getattr(rig.references, kind)
        if where == "take":
            require(info, kind)
            found[kind] = take(session, info, kind, rig.references.lines, bus)
        elif where:
            said: list[str] = []
            loaded = load(kind, where, base, info, said)
            found[kind] = loaded
            if kind == "white":
                found["white_black"] = load_white_black(loaded, info)
            for text in said:
                warn(text)
        elif kind in info.references:
            found[kind] = _from_driver(session, kind)
            if kind == "white" and "white_black" in info.references:
                found["white_black"] = _from_driver(session, "white_black")
        reference = found[kind]
        if reference is not None and where != "take":
            bus.emit(
                ReferenceTaken(
                    kind=kind,
                    lines=int(reference.fields.get("lines averaged", 1)),
                    mean=float(np.nanmean(reference.mean)),
                    source=str(where or "the replayed file"),
                )
            )
    own_panel = None if found["white"] is None else found["white"].fields.get("white reflectance")
    panel: Any = rig.references.panel
    if own_panel is not None and panel == 1.0:
        values = own_panel if isinstance(own_panel, list) else [own_panel]
        panel = [float(v) for v in values] if len(values) > 1 else float(values[0])
    if isinstance(panel, (str, float, int)):
        panel = panel_reflectance(panel, settle_axis(rig, info, base, warn), base)[0]
    references = ReferenceSet(
        found["white"], found["black"], found["white_black"], panel, rig.references.panel_name
    )
    for text in check_pair(references):
        warn(text)
    return references


def take(
    session: Session, info: CameraInfo, kind: PhaseKind, lines: int, bus: EventBus
) -> Reference:
    """Take one reference from the camera: ``lines`` lines, averaged.

    The shutter closes for a black where there is one, the panel comes into view for a white.
    """
    moved = (kind == "black" and info.has_shutter) or (kind == "white" and info.has_panel)
    command, key = ("shutter", "closed") if kind == "black" else ("panel", "in_view")
    began = time.monotonic()
    sums = Accumulator(info.bands, info.samples, info.saturation_level)
    moments: list[int] = []  # of lines, ns since 1970
    if moved:
        session.command(command, **{key: True})
    try:
        for block in session.series(kind, lines=lines):
            if block is None:
                continue
            rows = block.rows[block.rows["line"] >= 0]
            sums.add(block.pixels[rows["status"] == LineStatus.OK])
            moments += [int(ns) for ns in rows["host_time_ns"][[0, -1]] if ns] if len(rows) else []
            session.link.ack(block.header.series, block.header.seq)
            block.slot.release()
            bus.emit(Progress(lines=sums.lines, total=lines, seconds=time.monotonic() - began))
    finally:
        if moved:
            session.command(command, **{key: False})
    if session.error:
        raise CameraError(f"{kind} reference: {session.error}")
    session.refuse_stopped()
    # The middle of its lines: drift is interpolated between the times of two references.
    when = dt.datetime.now(dt.UTC)
    if moments:
        when = dt.datetime.fromtimestamp((min(moments) + max(moments)) / 2e9, dt.UTC)
    reference = sums.reference(kind, info, when)
    bus.emit(
        ReferenceTaken(
            kind=kind,
            lines=sums.lines,
            mean=float(reference.mean.mean()),
            saturated=sums.saturated / (sums.lines * reference.mean.size),
            full_scale=info.saturation_level,
        )
    )
    return reference


def _from_driver(session: Session, kind: str) -> Reference:
    value, array = session.command("reference", name=kind)
    if array is None:
        raise CameraError(f"{kind} reference: the driver's answer holds no array")
    said: list[str] = []
    header = parse_fields(value.get("fields", {}).items(), f"{kind} reference", said)
    return Reference(kind, array, None, dict(header.items()))
