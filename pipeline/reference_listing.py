"""What lies in a folder of references: each with age and verdict, and which a rig would take.

Made for ``swath references``: rows for people, objects for programs, and what the page draws.
Knows the library and choosing; nothing of cameras.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.config import ReferencesConfig
from pipeline.errors import ContainerError, ReferenceMismatchError
from pipeline.reference_checks import Misfit, age_h, hours
from pipeline.reference_choosing import Judged, as_it_is, choose, judge
from pipeline.reference_conditions import Conditions
from pipeline.reference_library import (
    BEGINNINGS,
    Kind,
    library,
    listed_fields,
    named_otherwise,
)


@dataclass(frozen=True)
class Listed:
    """One reference of a folder.

    Attributes
    ----------
    kind : {"white", "black"}
    path : Path
    judged : Judged or None
        None where it cannot be read.
    age_h : float or None
        Hours before the scan, or before now.
    why_not : tuple of Misfit
        What speaks against it.
    verdict : {"fits", "sound", "warned", "refused"}
        What the rig file does with it; ``sound`` where there is none to fit.
    """

    kind: Kind
    path: Path
    judged: Judged | None
    age_h: float | None
    why_not: tuple[Misfit, ...]
    verdict: Literal["fits", "sound", "warned", "refused"]

    def as_object(self) -> dict[str, Any]:
        """Give what ``--json`` has of it."""
        fields = {} if self.judged is None else listed_fields(self.judged.reference)
        return {
            "kind": self.kind,
            "file": str(self.path),
            "verdict": self.verdict,
            "why_not": [{"what": one.what, "text": one.text} for one in self.why_not],
            "age_h": self.age_h,
            "own_black": self.judged is not None and self.judged.own_black is not None,
            **fields,
        }

    def as_text(self) -> list[str]:
        """Give two lines for people: what it is, and the verdict."""
        parts = [self.path.name]
        if self.judged is not None:
            parts += described(self.judged, self.age_h)
        changes = ""
        if self.judged is not None and self.judged.placement is not None:
            changes = "; ".join(self.judged.placement.said)
        if self.why_not:
            verdict = f"{self.verdict}: " + "; ".join(one.text for one in self.why_not)
        else:
            verdict = self.verdict + (f": {changes}" if changes else "")
        return ["  " + " · ".join(parts), "    " + verdict]


@dataclass(frozen=True)
class Listing:
    """All references of a folder.

    Attributes
    ----------
    folder : Path
    items : list of Listed
        Whites first, each kind by name.
    passed_over : int
        Headers whose names begin with none of the words for a kind.
    choice : dict
        By kind what a rig would take and do with it, or why nothing; empty without a rig.
    chosen : dict
        By kind whether there is one.
    """

    folder: Path
    items: list[Listed]
    passed_over: int = 0
    choice: dict[str, list[str]] = field(default_factory=dict)
    chosen: dict[str, bool] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        """Give what ``--json`` ends with."""
        return {
            "folder": str(self.folder),
            "references": [item.as_object() for item in self.items],
            "passed_over": self.passed_over,
            "choice": {
                kind: {"found": self.chosen[kind], "said": said}
                for kind, said in self.choice.items()
            },
        }

    def as_text(self) -> list[str]:
        """Give the same for people."""
        counts = {kind: sum(i.kind == kind for i in self.items) for kind in ("white", "black")}
        words = [f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items()]
        lines = [f"{self.folder}: {', '.join(words)}"]
        for item in self.items:
            lines += item.as_text()
        if self.passed_over:
            begins = sorted(word for some in BEGINNINGS.values() for word in some)
            plural = "" if self.passed_over == 1 else "s"
            lines.append(
                f"  passed over: {self.passed_over} header{plural} with a name that does not begin "
                f"with {', '.join(begins[:-1])} or {begins[-1]}"
            )
        for kind, said in self.choice.items():
            found = "this rig takes" if self.chosen[kind] else "this rig finds none"
            lines.append(f"{kind}: {found}: {'; '.join(said)}")
        return lines


def described(judged: Judged, age: float | None) -> list[str]:
    """Say in a few words each how a reference was taken."""
    known = judged.reference.conditions
    parts = [f"{known.samples} × {known.bands}"]
    if known.exposure is not None:
        parts.append(f"{known.exposure:g} ms")
    if known.gain is not None:
        parts.append(f"gain {known.gain:g}")
    if known.binning is not None:
        parts.append(f"binning {known.binning[0]}, {known.binning[1]}")
    if known.serial is not None:
        parts.append(known.serial)
    if known.temperature is not None:
        parts.append(f"{known.temperature:.1f} °C")
    averaged = judged.reference.fields.get("lines averaged")
    if averaged is not None:
        parts.append(f"{averaged} lines")
    if judged.own_black is not None:
        parts.append("with its own dark")
    if age is not None:
        parts.append(f"{hours(age)} old")
    return parts


def list_references(folder: Path, scan: Conditions | None, config: ReferencesConfig) -> Listing:
    """Judge every reference of a folder.

    Parameters
    ----------
    folder : Path
    scan : Conditions, optional
        Of an armed camera; without it each is judged for a scan like itself, now.
    config : ReferencesConfig
        Limits, and what becomes of what goes beyond them.

    Raises
    ------
    ReferenceMismatchError
        When the folder cannot be read.
    """
    items = [_listed(kind, path, scan, config) for kind, path in library(folder)]
    items.sort(key=lambda item: item.kind != "white")
    listing = Listing(folder, items, named_otherwise(folder))
    if scan is None:
        return listing
    kinds: tuple[Literal["white", "black"], ...] = ("white", "black")
    for kind in kinds:
        said: list[str] = []
        try:
            found = choose(kind, str(folder.absolute()), Path("/"), scan, config, said)
            listing.choice[kind], listing.chosen[kind] = found.said, True
        except ReferenceMismatchError as error:
            listing.choice[kind], listing.chosen[kind] = [str(error)], False
    return listing


def _listed(kind: Kind, path: Path, scan: Conditions | None, config: ReferencesConfig) -> Listed:
    try:
        judged = judge(kind, path, scan, config)
    except ContainerError as error:
        return Listed(kind, path, None, None, (Misfit("file", str(error)),), "refused")
    age = age_h(judged.reference.conditions, scan or as_it_is(judged.reference))
    verdict: Literal["fits", "sound", "warned", "refused"] = "sound" if scan is None else "fits"
    if judged.never or (judged.against and config.on_mismatch == "refuse"):
        verdict = "refused"
    elif judged.against:
        verdict = "warned"
    return Listed(kind, path, judged, age, judged.why_not, verdict)
