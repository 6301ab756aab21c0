"""Which reference serves a scan: judged, refused or warned about, the best chosen and adapted.

:func:`judge` says of one reference whether it fits; :func:`choose` takes the best of a file or a
folder, and computes a black between two exposures. Knows the library, conditions, checks, geometry
and the fit of blacks; nothing of cameras.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.config import ReferencesConfig
from pipeline.errors import ContainerError, ReferenceMismatchError
from pipeline.reference_bias import BiasRate, black_at, fit_bias_rate
from pipeline.reference_checks import (
    Misfit,
    age_h,
    black_faults,
    exposure_faults,
    hours,
    misfits,
    same_exposure,
    white_faults,
)
from pipeline.reference_conditions import Conditions
from pipeline.reference_geometry import Placement, place
from pipeline.reference_library import Kind, library, own_black_of, read_reference
from pipeline.references import Reference


@dataclass(frozen=True)
class Judged:
    """A reference, and what is to be said of it for a scan.

    Attributes
    ----------
    reference : Reference
        As it was read.
    own_black : Reference or None
        A white's own dark.
    placement : Placement or None
        Where the scan's pixels lie in it; None where they do not.
    never : tuple of Misfit
        Why it cannot serve, whatever the rig file says.
    against : tuple of Misfit
        Why it should not: refused or warned about as the rig file says.
    averaged : int
        Lines of the file, where there are several.
    """

    reference: Reference
    own_black: Reference | None
    placement: Placement | None
    never: tuple[Misfit, ...] = ()
    against: tuple[Misfit, ...] = ()
    averaged: int = 1

    @property
    def why_not(self) -> tuple[Misfit, ...]:
        """All that speaks against it."""
        return self.never + self.against


@dataclass(frozen=True)
class Chosen:
    """The reference that serves a scan, with its pixels.

    ``own_black``: a white's own dark. ``said``: for the header, where it comes from and what was
    done with it.
    """

    reference: Reference
    own_black: Reference | None
    said: list[str]


def judge(kind: Kind, path: Path, scan: Conditions | None, config: ReferencesConfig) -> Judged:
    """Read a reference and say whether it fits a scan; without one, whether it is sound and young.

    Raises
    ------
    ContainerError
        When it cannot be read.
    """
    reference, lines = read_reference(kind, path)
    own = own_black_of(reference) if kind == "white" else None
    return judge_read(reference, own, lines, scan or as_it_is(reference), config)


def as_it_is(reference: Reference) -> Conditions:
    """Give the conditions of a scan now, with which a reference is judged where there is no rig."""
    return replace(
        reference.conditions, time=dt.datetime.now(dt.UTC), day_only=False, temperature=None
    )


def judge_read(
    reference: Reference,
    own: Reference | None,
    lines: int,
    scan: Conditions,
    config: ReferencesConfig,
) -> Judged:
    """Judge a reference that was read, with a white's own dark; ``lines``: of its file."""
    kind = reference.kind
    conditions = reference.conditions
    placed = place(conditions, scan)
    never = [Misfit("geometry", placed)] if isinstance(placed, str) else []
    if isinstance(placed, Placement) and placed.bins:
        never += [Misfit("binning mode", text) for text in _bin_faults(kind, own, scan)]
    never += exposure_faults(kind, conditions)
    against = misfits(kind, conditions, scan, config)
    if own is not None:
        against += [
            Misfit("own dark", f"its own dark does not fit it: {one.text}")
            for one in misfits("black", own.conditions, conditions, config, of="the white's")
        ]
    saturation = conditions.saturation
    if kind == "white":
        dark = None if own is None else own.mean
        faults = white_faults(reference.mean, dark, saturation)
    else:
        faults = black_faults(reference.mean, saturation)
    against += [Misfit("counts", text) for text in faults]
    placement = None if isinstance(placed, str) else placed
    return Judged(reference, own, placement, tuple(never), tuple(against), lines)


def choose(
    kind: Literal["white", "black"],
    where: str,
    base: Path,
    scan: Conditions,
    config: ReferencesConfig,
    warnings: list[str],
) -> Chosen:
    """Take a reference from an ENVI file, or the best of a folder.

    The best has least against it, then the nearest exposure, then is the newest. A black of
    another exposure gives way to one that is computed from the blacks of two exposures or more.

    Parameters
    ----------
    kind : {"white", "black"}
    where : str
        File or folder, relative to ``base``.
    scan : Conditions
        That it has to fit.
    config : ReferencesConfig
        Limits, and whether what does not fit is refused or warned about.
    warnings : list of str
        Is appended to.

    Raises
    ------
    ReferenceMismatchError
        When nothing fits; says which property differs, and both values.
    """
    path = (base / where).expanduser()
    if not path.exists():
        raise ReferenceMismatchError(
            f"[references] {kind} = {where!r}: {path} does not exist; allowed are an ENVI file, "
            f'a folder of them, or "take"; {_hint(kind)}'
        )
    if not path.is_dir():
        judged = judge(kind, path, scan, config)
        _refuse(judged, config)
        return _taken(judged, scan, warnings)
    judged_all, refused = _judge_all(kind, path, scan, config)
    if kind == "black":
        fitted = _fitted(judged_all, scan)
        if fitted is not None:
            warnings.extend(_outside(fitted[0], scan))
            return _computed(*fitted, scan)
    usable = [j for j in judged_all if not j.never]
    if config.on_mismatch == "refuse":
        usable = [j for j in usable if not j.against]
    if not usable:
        refused += [_sentence(j) for j in judged_all]
        detail = f"; {'; '.join(refused[:3])}"
        if not refused:
            detail = f": it holds no {kind}; {_hint(kind)}"
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise ReferenceMismatchError(
            f"[references] {kind}: none of the files in {path} fits this camera{detail}{more}"
            f"{_advice(kind, judged_all)}"
        )
    best = max(usable, key=lambda j: _rank(j, scan))
    return _taken(best, scan, warnings)


def own_black_for(
    white: Chosen, folder: Path, scan: Conditions, config: ReferencesConfig
) -> Chosen | None:
    """Find or compute a dark for a white that has none of its own, from a folder of blacks.

    Returns
    -------
    Chosen or None
        A black of the white's exposure, of its pixels; None where there is none.
    """
    exposure = white.reference.exposure
    if exposure is None or not folder.is_dir():
        return None
    wanted = replace(scan, exposure=exposure)
    judged, _ = _judge_all("black", folder, wanted, config)
    fits = [j for j in judged if not j.why_not]
    if fits:
        found = _taken(max(fits, key=lambda j: _rank(j, wanted)), wanted, [])
    else:
        fitted = _fitted(judged, wanted)
        if fitted is None or _outside(fitted[0], wanted):
            return None
        found = _computed(*fitted, wanted)
    return replace(found, reference=replace(found.reference, kind="white_black"))


def _judge_all(
    kind: Kind, folder: Path, scan: Conditions, config: ReferencesConfig
) -> tuple[list[Judged], list[str]]:
    """Judge all of a kind in a folder; what cannot be read is told."""
    judged, refused = [], []
    for found, path in library(folder):
        if found != kind:
            continue
        try:
            judged.append(judge(kind, path, scan, config))
        except ContainerError as error:
            refused.append(str(error))
    return judged, refused


def _rank(judged: Judged, scan: Conditions) -> tuple[int, float, float]:
    exposure, wanted = judged.reference.exposure, scan.exposure
    apart = 0.0
    if exposure is not None and wanted:
        apart = abs(math.log(exposure / wanted)) if exposure > 0 else math.inf
    time = judged.reference.conditions.time
    return -len(judged.against), -apart, 0.0 if time is None else time.timestamp()


def _fitted(judged: Sequence[Judged], scan: Conditions) -> tuple[BiasRate, Reference] | None:
    """Fit bias and rate where no black has the scan's exposure and two exposures fit otherwise."""
    exposure = scan.exposure
    if exposure is None:
        return None
    fitting: list[Reference] = []
    for one in judged:
        same = same_exposure(one.reference.exposure, exposure)
        if any(misfit.what != "exposure" for misfit in one.why_not):
            continue
        if same or one.placement is None:
            return None
        fitting.append(_adapted(one.reference, one.placement, scan))
    if len(fitting) < 2:
        return None
    try:
        fit = fit_bias_rate(fitting)
    except ReferenceMismatchError:
        return None
    return fit, min(fitting, key=lambda b: abs((b.exposure or 0.0) - exposure))


def _computed(fit: BiasRate, nearest: Reference, scan: Conditions) -> Chosen:
    assert scan.exposure is not None
    first, last = fit.exposures
    said = [
        f"computed for {scan.exposure:g} ms from {fit.blacks} blacks of {first:g} to {last:g} ms",
    ]
    return Chosen(black_at(fit, scan.exposure, nearest), None, said)


def _outside(fit: BiasRate, scan: Conditions) -> list[str]:
    """Warn of a black that is computed beyond the exposures of those that were taken."""
    assert scan.exposure is not None
    if fit.inside(scan.exposure):
        return []
    first, last = fit.exposures
    return [
        f"the black is computed for {scan.exposure:g} ms from blacks of {first:g} to {last:g} ms, "
        "which do not enclose it; take one nearby (swath reference black)"
    ]


def _taken(judged: Judged, scan: Conditions, warnings: list[str]) -> Chosen:
    """Adapt the one that was chosen, and tell what was done with it."""
    reference, placement = judged.reference, judged.placement
    assert placement is not None
    name = reference.path.name if reference.path else reference.kind
    said = [name]
    if judged.averaged > 1:
        warnings.append(
            f"{reference.kind} reference {name}: its {judged.averaged} lines are averaged"
        )
    warnings += [f"{reference.kind} reference {name}: {one.text}" for one in judged.against]
    age = age_h(reference.conditions, scan)
    if age is not None:
        said.append(f"{hours(age)} apart from the scan")
    own, wanted = reference.exposure, scan.exposure
    if reference.kind == "white" and own and wanted and not same_exposure(own, wanted):
        said.append(f"exposure {own:g} ms scaled to {wanted:g} ms")
    if reference.kind == "white" and wanted and not own:
        warnings.append(
            f"white reference {name}: its exposure is not known, that of the scan ({wanted:g} ms) "
            "is taken for it"
        )
    said += placement.said
    said += [f"warned: {one.text}" for one in judged.against]
    dark = None if judged.own_black is None else _adapted(judged.own_black, placement, scan)
    return Chosen(_adapted(reference, placement, scan), dark, said)


def _adapted(reference: Reference, placement: Placement, scan: Conditions) -> Reference:
    """Give the reference with the scan's pixels, and the fields that say so."""
    if not placement.said:
        return reference
    adds = placement.bins and scan.mode in ("sum", "charge", "unsure")
    fields = dict(reference.fields)
    for name, value in (("binning", scan.binning), ("hroi", scan.hroi), ("vroi", scan.vroi)):
        if value is not None:
            fields[name] = list(value)
    fields["flip"] = list(scan.flip)
    if not scan.flip:
        del fields["flip"]
    panel = fields.get("white reflectance")
    if isinstance(panel, list) and len(panel) == reference.mean.shape[0] > 1:
        fields["white reflectance"] = placement.apply(np.array(panel), "mean").tolist()
    if adds:
        fields.pop("saturation level", None)  # of one count, not of their sum
    std = reference.std
    if std is not None:
        std = placement.apply(std, "deviation" if adds else "deviation of mean")
    mean = placement.apply(reference.mean, "sum" if adds else "mean")
    return replace(reference, mean=mean, std=std, fields=fields)


def _bin_faults(kind: str, own: Reference | None, scan: Conditions) -> list[str]:
    """Say why a reference of finer binning cannot be binned for this camera."""
    if scan.mode is None:
        return [
            "its binning is finer than the camera's, and whether the camera averages or adds is "
            'not known; say [references] binning_mode = "mean", "sum" or "charge"'
        ]
    if kind == "black" and scan.mode == "charge":
        return [
            "its binning is finer than the camera's, which adds charges before one conversion: "
            "the offset of a bin is not that of its pixels; take a black at the camera's binning"
        ]
    if kind == "black" and scan.mode == "unsure":
        return [
            "its binning is finer than the camera's, and whether that adds counts or charges is "
            'not known; say [references] binning_mode = "sum" or "charge", or take a black at the '
            "camera's binning"
        ]
    if kind == "white" and own is None and scan.mode in ("charge", "unsure"):
        return [
            "its binning is finer than the camera's, and it has no dark of its own that could be "
            "binned with it; take it with swath reference white"
        ]
    return []


def _refuse(judged: Judged, config: ReferencesConfig) -> None:
    if judged.never or (judged.against and config.on_mismatch == "refuse"):
        raise ReferenceMismatchError(_sentence(judged) + _advice(judged.reference.kind, [judged]))


def _sentence(judged: Judged) -> str:
    reference = judged.reference
    why = "; ".join(one.text for one in judged.why_not)
    return f"{reference.kind} reference {reference.path}: {why}"


def _hint(kind: str) -> str:
    return f"`swath reference {kind} RIG.toml` takes one"


def _advice(kind: str, judged: Sequence[Judged]) -> str:
    """Say what can be done where the rig file alone forbids."""
    if any(not j.never and j.against for j in judged):
        return (
            f"; take one now (swath reference {kind}), or say [references] on_mismatch = "
            '"warn" to use it all the same'
        )
    return ""
