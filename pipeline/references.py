"""White and black references: what they are, and what the formula takes of them.

A :class:`Reference` is the mean and standard deviation of some lines with everything that makes it
comparable; a :class:`ReferenceSet` holds those of a capture and hands them to the formula. They
come from :mod:`pipeline.reference_taking` and :mod:`pipeline.reference_library`. Knows the bottom
modules, the container's plain ENVI files and the conditions of references.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.envi import encode_envi
from pipeline.errors import ReferenceMismatchError
from pipeline.reference_conditions import Conditions, conditions, number
from pipeline.reflectance import Correction, correction
from pipeline.spectral import SpectralAxis


@dataclass(frozen=True)
class Reference:
    """A white or a black.

    Attributes
    ----------
    kind : str
        ``white``, ``black``, ``white_black``, ``white_after``, ``black_after``.
    mean, std : ndarray of float32, (bands, samples)
        Counts (DN); ``std`` is None where it is not known.
    fields : dict
        Header fields by name, of :data:`pipeline.reference_conditions.KEPT`: exposure (ms), gain,
        binning, hroi, vroi, serial number, temperature (°C), acquisition time …
    path : Path, optional
        The header that it was read from.
    """

    kind: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @property
    def exposure(self) -> float | None:
        """Exposure in ms, where it is known."""
        return number(self.fields.get("exposure"))

    @property
    def lines(self) -> int:
        """Lines it is the mean of; 1, the worst, where that is not known."""
        count = number(self.fields.get("lines averaged"))
        return int(count) if count is not None and math.isfinite(count) and count >= 1 else 1

    @property
    def conditions(self) -> Conditions:
        """How it was taken."""
        bands, samples = self.mean.shape
        return conditions(self.fields, bands, samples)

    def entries(self, axis: SpectralAxis | None = None) -> dict[str, bytes]:
        """Encode as container entries ``Reference/<kind>.envi`` and ``.hdr``, with ``_std``."""
        out: dict[str, bytes] = {}
        fields = dict(self.fields)
        if axis is not None:
            fields["wavelength"] = [float(v) for v in axis.wavelength]
            fields["wavelength units"] = axis.units
        for suffix, array in (("", self.mean), ("_std", self.std)):
            if array is None:
                continue
            cube = np.ascontiguousarray(array, np.float32).T[None]
            header, data = encode_envi(cube, fields)
            out[f"Reference/{self.kind}{suffix}.hdr"] = header
            out[f"Reference/{self.kind}{suffix}.envi"] = data
        return out


@dataclass(frozen=True)
class ReferenceSet:
    """The references of one capture; each may be missing.

    ``choices``: by kind, where it comes from and what was done with it, for the header. ``after``:
    those that a replayed recording has from after its scan, ``white_after`` and ``black_after``.
    """

    white: Reference | None = None
    black: Reference | None = None
    white_black: Reference | None = None
    panel: float | list[float] = 1.0
    panel_name: str | None = None
    choices: dict[str, list[str]] = field(default_factory=dict)
    after: tuple[Reference, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether reflectance can be computed."""
        return self.white is not None and self.black is not None

    def correction(self, exposure: float | None) -> Correction | None:
        """Give the arrays of the reflectance formula for data of this exposure (ms)."""
        if self.white is None or self.black is None:
            return None
        return correction(
            self.black.mean,
            self.white.mean,
            white_black=None if self.white_black is None else self.white_black.mean,
            panel=np.asarray(self.panel, np.float64),
            exposure=exposure,
            white_exposure=self.white.exposure,
        )

    def entries(self, axis: SpectralAxis) -> dict[str, bytes]:
        """Encode all of them as container entries."""
        out: dict[str, bytes] = {}
        for reference in (self.white, self.black, self.white_black, *self.after):
            if reference is None:
                continue
            if reference.kind in ("white", "white_after"):
                fields = {**reference.fields, "white reflectance": self.panel}
                if self.panel_name:
                    fields["panel name"] = self.panel_name
                reference = replace(reference, fields=fields)
            out.update(reference.entries(axis))
        return out


def check_pair(references: ReferenceSet) -> list[str]:
    """Look at white against black: warn of dim whites, refuse a white that is no white.

    Raises
    ------
    ReferenceMismatchError
        When white ≤ black in more than half of all (band, sample).
    """
    if references.white is None or references.black is None:
        return []
    own = references.white_black or references.black
    dark = own.mean
    said = []
    if own.exposure and references.white.exposure and own.exposure != references.white.exposure:
        said.append(
            f"the white was taken at {references.white.exposure:g} ms and has no dark of its own; "
            f"the black of {own.exposure:g} ms is taken for it, which is wrong by what the dark "
            "depends on exposure (swath reference white takes both)"
        )
    means = (references.white.mean, references.black.mean, dark)
    counted = np.logical_and.reduce([np.isfinite(mean) for mean in means])
    unknown = int(np.count_nonzero(~counted))
    if unknown > dark.size // 2:
        raise ReferenceMismatchError(
            f"white and black reference: hold no number in {unknown} of {dark.size} pixels, "
            "allowed are counts"
        )
    if unknown:
        said.append(
            f"white or black holds no number in {unknown} of {dark.size} pixels: marked invalid"
        )
    dim = int(np.count_nonzero(counted & (references.white.mean <= dark)))
    if dim > dark.size // 2:
        raise ReferenceMismatchError(
            f"white reference: not brighter than the black in {dim} of {dark.size} pixels; "
            "is the lamp on, and the panel in view?"
        )
    if dim:
        said.append(
            f"white is not brighter than black in {dim} of {dark.size} pixels: marked invalid"
        )
    return said
