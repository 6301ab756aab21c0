"""Fits a reference of a larger region or finer binning to a scan: crops and bins, never stretches.

Both sides say which pixels of the sensor they show (ROI, binning, flip); :func:`place` finds the
scan's pixels in the reference or says in one sentence why they are not there, and
:meth:`Placement.apply` takes them. Knows conditions and NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.reference_conditions import Conditions, Pair


@dataclass(frozen=True)
class Axis:
    """Where one axis of the scan lies in the reference, in the order of the sensor.

    ``start`` is the reference's pixel (from 0) at which the scan's first one begins; each of the
    scan's ``count`` pixels takes ``factor`` of the reference's. ``turn_from``, ``turn_to``: the
    reference, the scan has this axis turned round.
    """

    start: int
    count: int
    factor: int = 1
    turn_from: bool = False
    turn_to: bool = False


@dataclass(frozen=True)
class Placement:
    """How a reference becomes one of a scan's pixels.

    Attributes
    ----------
    bands, samples : Axis
    said : tuple of str
        What is done, in words; empty where nothing is.
    """

    bands: Axis
    samples: Axis
    said: tuple[str, ...] = ()

    @property
    def bins(self) -> bool:
        """Whether pixels are put together."""
        return self.bands.factor > 1 or self.samples.factor > 1

    def apply(
        self, array: NDArray[Any], how: Literal["mean", "sum", "deviation of mean", "deviation"]
    ) -> NDArray[np.float32]:
        """Crop and bin an array of the reference.

        Parameters
        ----------
        array : ndarray, (bands, samples) or (bands,)
            Of the reference; a panel's reflectance has no samples.
        how : {"mean", "sum", "deviation of mean", "deviation"}
            What becomes of the pixels of a bin; a standard deviation follows from the sum of
            variances, of independent pixels.

        Returns
        -------
        ndarray of float32, of the scan's shape
        """
        out = np.asarray(array, np.float64)
        size = 1
        if how.startswith("deviation"):
            out = np.square(out)
        for number, axis in enumerate((self.bands, self.samples)[: out.ndim]):
            if axis.turn_from:
                out = np.flip(out, number)
            index = slice(axis.start, axis.start + axis.count * axis.factor)
            out = out[index] if number == 0 else out[:, index]
            shape = list(out.shape)
            shape[number : number + 1] = [axis.count, axis.factor]
            out = out.reshape(shape).sum(axis=number + 1)
            if axis.turn_to:
                out = np.flip(out, number)
            size *= axis.factor
        if how.startswith("deviation"):
            out = np.sqrt(out)
        if how in ("mean", "deviation of mean"):
            out = out / size
        return np.ascontiguousarray(out, np.float32)


def place(reference: Conditions, scan: Conditions) -> Placement | str:
    """Find the scan's pixels in a reference.

    Returns
    -------
    Placement or str
        In words why the reference does not show them.
    """
    axes = []
    said = []
    for name, roi_name, index, size, roi in (
        ("spectral", "vroi", 0, (reference.bands, scan.bands), (reference.vroi, scan.vroi)),
        ("spatial", "hroi", 1, (reference.samples, scan.samples), (reference.hroi, scan.hroi)),
    ):
        turned = (name in reference.flip, name in scan.flip)
        binning = tuple(
            None if side.binning is None else side.binning[index] for side in (reference, scan)
        )
        found = _axis(size, roi, (binning[0], binning[1]), turned)
        if isinstance(found, str):
            return _explained(found, reference, scan, roi_name)
        axes.append(found)
        if found.factor > 1:
            said.append(f"{name} binning {binning[0]} made {binning[1]}")
        if found.count * found.factor != size[0]:
            first, last = roi[0] or (1, size[0])
            cut = f" cropped to {scan_text(roi[1])}" if roi[1] else " cropped"
            said.append(f"{roi_name} {first} to {last}{cut}")
        if turned[0] != turned[1]:
            said.append(f"turned round along the {name} axis")
    return Placement(axes[0], axes[1], tuple(said))


def scan_text(roi: Pair | None) -> str:
    """Write a region as ``5 to 40``."""
    return "all" if roi is None else f"{roi[0]} to {roi[1]}"


def _axis(
    size: Pair,
    roi: tuple[Pair | None, Pair | None],
    binning: tuple[int | None, int | None],
    turned: tuple[bool, bool],
) -> Axis | str:
    """Find one axis of the scan (second of each pair) in that of the reference (first)."""
    own, wanted = binning
    factor = 1
    if own is not None and wanted is not None and own != wanted:
        if wanted % own:
            return "binning"
        factor = wanted // own
    elif (own is None) != (wanted is None) and size[0] != size[1]:
        return "binning"
    have, want = roi
    if have is None or want is None:
        # Where neither tells of a region, both show the whole sensor.
        whole = have is None and want is None and size[0] // factor == size[1]
        if whole or (size[0] == size[1] and factor == 1):
            return Axis(0, size[1], factor, *turned)
        return "size"
    if have[1] - have[0] + 1 != size[0] or want[1] - want[0] + 1 != size[1]:
        return "size"
    start = (want[0] - 1) * factor - (have[0] - 1)
    if start < 0 or start + size[1] * factor > size[0]:
        return "roi"
    return Axis(start, size[1], factor, *turned)


def _explained(why: str, reference: Conditions, scan: Conditions, roi_name: str) -> str:
    """Say why an axis was not found, with what was found and what is needed."""
    if why == "binning":
        own, wanted = (_list(side.binning) for side in (reference, scan))
        return (
            f"binning is {own}, the camera's is {wanted}; a finer one whose multiple this is "
            "can be binned, no other"
        )
    scaled = ""
    if reference.binning != scan.binning:
        scaled = f" (binning {_list(reference.binning)} and {_list(scan.binning)})"
    if why == "roi":
        own, wanted = (_list(getattr(side, roi_name)) for side in (reference, scan))
        return f"{roi_name} is {own}, the camera's is {wanted}{scaled}: it does not show them all"
    return (
        f"has {reference.bands} bands × {reference.samples} samples, the camera delivers "
        f"{scan.bands} × {scan.samples}{scaled}, and {roi_name} does not say which these are"
    )


def _list(pair: Pair | None) -> str:
    return "not known" if pair is None else f"[{pair[0]}, {pair[1]}]"
