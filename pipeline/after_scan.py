"""References taken after the scan, so that drift can be interpolated when the file is read.

The lines are in the file by then: whatever fails here costs a warning, never a line. Knows the
session and references.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.arming import Plan, Warn
from pipeline.errors import SwathError
from pipeline.events import EventBus, PhaseKind
from pipeline.reference_arming import take
from pipeline.references import ReferenceSet, check_pair
from pipeline.session import Session


def wanted_after(plan: Plan) -> list[PhaseKind]:
    """Give the kinds of reference that the rig file wants after the scan.

    The white first, as before the scan it comes last: so whites lie between the darks, and a
    white's own dark is known for its time.
    """
    config = plan.rig.references
    kinds: list[PhaseKind] = []
    if config.white_after:
        kinds.append("white")
    if config.black_after:
        kinds.append("black")
    return kinds


def take_after(session: Session, plan: Plan, bus: EventBus, warn: Warn) -> dict[str, bytes]:
    """Take them, and give their container entries ``Reference/<kind>_after``."""
    entries: dict[str, bytes] = {}
    session.resume()
    for kind in wanted_after(plan):
        try:
            reference = take(
                session,
                plan.info,
                kind,
                plan.rig.references.lines,
                bus,
                flip=plan.rig.camera.flip,
                dark=plan.references.black if kind == "white" else None,
            )
            if kind == "white":
                check_pair(ReferenceSet(white=reference, black=plan.references.black))
                reference = replace(
                    reference,
                    fields={**reference.fields, "white reflectance": plan.references.panel},
                )
        except SwathError as error:
            warn(f"{kind}_after: left out, so drift of it is not corrected: {error}")
            continue
        entries.update(replace(reference, kind=f"{kind}_after").entries(plan.axis))
    return entries
