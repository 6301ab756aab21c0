"""Cubes that are computed when they are read: what read procedures are made of.

A :class:`Cube` knows its shape, its wavelengths and where its lines, samples and bands come from,
and computes any box of itself from the box it needs of the cube below: reading a part of a huge
file takes only that part, whatever procedures lie in between. Knows NumPy and the error tree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ContainerError

Array = NDArray[Any]
#: Indices of an axis in the stored cube.
Index = range
#: Values that are computed at once where more are needed than are asked for.
_WIDE_VALUES: Final = 1 << 22
#: Weights of resampling an axis in one piece; more cannot be meant.
_MAX_WEIGHTS: Final = 1 << 27


class Box(NamedTuple):
    """A part of a cube: half-open ranges of lines, samples and bands."""

    lines: tuple[int, int]
    samples: tuple[int, int]
    bands: tuple[int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index."""
        return slice(*self.lines), slice(*self.samples), slice(*self.bands)


class Cube(ABC):
    """A cube of ``shape`` (lines, samples, bands) and ``dtype`` that is computed on reading.

    Attributes
    ----------
    origins : tuple of three (range or None)
        For each axis the indices in the stored cube, or None where lines, samples or bands are
        not those of the stored cube any more.
    wavelengths, fwhm : ndarray of float64 (bands,) or None
        In nm.
    name : str
        The procedure that made it.
    cost : float
        Values that are read below for one of this cube; bounds what is computed at once.
    """

    cost: float = 1.0

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        name: str,
        origins: tuple[Index | None, Index | None, Index | None],
        wavelengths: NDArray[np.float64] | None = None,
        fwhm: NDArray[np.float64] | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.name = name
        self.origins = origins
        self.wavelengths = wavelengths
        self.fwhm = fwhm

    @abstractmethod
    def read(self, box: Box) -> Array:
        """Compute a box, ``(lines, samples, bands)``; never a view that could be written to."""

    @property
    def whole(self) -> Box:
        """The box of everything."""
        lines, samples, bands = self.shape
        return Box((0, lines), (0, samples), (0, bands))

    def map(
        self,
        function: Callable[[Array, Box], Array],
        *,
        name: str,
        dtype: np.dtype[Any],
        whole_spectra: bool = False,
        bands: int | None = None,
        wavelengths: NDArray[np.float64] | None = None,
        fwhm: NDArray[np.float64] | None = None,
    ) -> Cube:
        """Make the cube of ``function(pixels, box)``, computed box by box.

        Parameters
        ----------
        function : callable
            Takes pixels ``(lines, samples, bands)`` and the box of this cube they fill; gives
            pixels of as many lines and samples.
        name : str
            For messages.
        dtype : numpy.dtype
            Of the result.
        whole_spectra : bool
            Whether the function needs all bands at once; it then gives all ``bands`` of the
            result.
        bands : int, optional
            Bands of the result if others (needs ``whole_spectra``); ``wavelengths`` and
            ``fwhm`` are then theirs.
        """
        return _Mapped(self, function, name, dtype, whole_spectra, bands, wavelengths, fwhm)


class _Mapped(Cube):
    def __init__(
        self,
        below: Cube,
        function: Callable[[Array, Box], Array],
        name: str,
        dtype: np.dtype[Any],
        whole_spectra: bool,
        bands: int | None,
        wavelengths: NDArray[np.float64] | None,
        fwhm: NDArray[np.float64] | None,
    ) -> None:
        lines, samples, old = below.shape
        same = bands is None
        super().__init__(
            (lines, samples, old if bands is None else bands),
            dtype,
            name=name,
            origins=below.origins if same else (*below.origins[:2], None),
            wavelengths=below.wavelengths if same else wavelengths,
            fwhm=below.fwhm if same else fwhm,
        )
        self._below, self._function = below, function
        self.cost = below.cost * max(1.0, old / self.shape[2])
        self._whole_spectra = whole_spectra or not same

    def read(self, box: Box) -> Array:
        if not self._whole_spectra:
            return self._function(self._below.read(box), box)
        # All bands are computed however few are asked for: a few lines at a time.
        (first, last), (left, right), (low, high) = box
        deepest = max(self.shape[2], self._below.shape[2])
        step = max(1, _WIDE_VALUES // max(1, (right - left) * deepest))
        if last - first <= step:
            return self._wide((first, last), box)
        out = np.empty((last - first, right - left, high - low), self.dtype)
        for start in range(first, last, step):
            stop = min(last, start + step)
            out[start - first : stop - first] = self._wide((start, stop), box)
        return out

    def _wide(self, lines: tuple[int, int], box: Box) -> Array:
        wide = Box(lines, box.samples, (0, self._below.shape[2]))
        return self._function(self._below.read(wide), wide)[:, :, slice(*box.bands)]


class Stored(Cube):
    """The pixels as they lie in the file, ``(lines, samples, bands)``."""

    def __init__(
        self,
        raw: Array,
        *,
        wavelengths: NDArray[np.float64] | None = None,
        fwhm: NDArray[np.float64] | None = None,
    ) -> None:
        lines, samples, bands = raw.shape
        super().__init__(
            (lines, samples, bands),
            raw.dtype.newbyteorder("="),
            name="the stored cube",
            origins=(range(lines), range(samples), range(bands)),
            wavelengths=wavelengths,
            fwhm=fwhm,
        )
        self._raw = raw

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`."""
        return np.array(self._raw[box.slices], dtype=self.dtype)


class Cropped(Cube):
    """The box of another cube, counted from its own corner."""

    def __init__(self, below: Cube, box: Box) -> None:
        lines, samples, bands = (stop - start for start, stop in box)
        a, b, c = (
            None if origin is None else origin[start:stop]
            for origin, (start, stop) in zip(below.origins, box, strict=True)
        )
        super().__init__(
            (lines, samples, bands),
            below.dtype,
            name="crop",
            origins=(a, b, c),
            wavelengths=_part(below.wavelengths, box.bands),
            fwhm=_part(below.fwhm, box.bands),
        )
        self._below, self._box = below, box
        self.cost = below.cost

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`."""
        moved = (
            (first + start, first + stop)
            for (first, _), (start, stop) in zip(self._box, box, strict=True)
        )
        return self._below.read(Box(*moved))


def _part(values: NDArray[np.float64] | None, bounds: tuple[int, int]) -> Any:
    return None if values is None else values[slice(*bounds)]


class Flipped(Cube):
    """Another cube with its lines, its samples or both in reverse."""

    def __init__(self, below: Cube, *, lines: bool, samples: bool, name: str) -> None:
        a, b, c = below.origins
        super().__init__(
            below.shape,
            below.dtype,
            name=name,
            origins=(
                a[::-1] if lines and a is not None else a,
                b[::-1] if samples and b is not None else b,
                c,
            ),
            wavelengths=below.wavelengths,
            fwhm=below.fwhm,
        )
        self._below, self._flips = below, (lines, samples)
        self.cost = below.cost

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`."""
        bounds = [
            (size - stop, size - start) if flip else (start, stop)
            for flip, size, (start, stop) in zip(self._flips, self.shape[:2], box[:2], strict=True)
        ]
        out = self._below.read(Box(bounds[0], bounds[1], box.bands))
        return out[tuple(slice(None, None, -1 if flip else 1) for flip in self._flips)]


class Turned(Cube):
    """Another cube turned by 90°, lines and samples exchanged."""

    def __init__(self, below: Cube, *, clockwise: bool) -> None:
        lines, samples, bands = below.shape
        super().__init__(
            (samples, lines, bands),
            below.dtype,
            name="rotate:" + ("clockwise" if clockwise else "counterclockwise"),
            origins=(None, None, below.origins[2]),
            wavelengths=below.wavelengths,
            fwhm=below.fwhm,
        )
        self._below, self._clockwise = below, clockwise
        self.cost = below.cost

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`."""
        lines, samples, _ = self._below.shape
        (l0, l1), (s0, s1), bands = box
        if self._clockwise:
            below = Box((lines - s1, lines - s0), (l0, l1), bands)
            return np.rot90(self._below.read(below), -1)
        below = Box((s0, s1), (samples - l1, samples - l0), bands)
        return np.rot90(self._below.read(below), 1)


class Resampled(Cube):
    """Another cube at another size: mean over the area when smaller, linear when larger.

    Pixels that are NaN count for nothing; where nothing is left the result is NaN.
    """

    def __init__(self, below: Cube, shape: tuple[int, int, int]) -> None:
        def spectral(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
            if values is None:
                return None
            start, weights = _weights(below.shape[2], shape[2], 0, shape[2])
            out: NDArray[np.float64] = weights @ values[start : start + weights.shape[1]]
            return out

        same = [a == b for a, b in zip(shape, below.shape, strict=True)]
        a, b, c = (
            origin if keep else None for origin, keep in zip(below.origins, same, strict=True)
        )
        super().__init__(
            shape,
            np.result_type(below.dtype, np.float32),
            name="resample",
            origins=(a, b, c),
            wavelengths=spectral(below.wavelengths),
            fwhm=spectral(below.fwhm),
        )
        self._below = below
        self.cost = below.cost
        for old, new in zip(below.shape, shape, strict=True):
            self.cost *= max(1.0, old / new)

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`."""
        starts_weights = [
            _weights(old, new, start, stop)
            for old, new, (start, stop) in zip(self._below.shape, self.shape, box, strict=True)
        ]
        needed = Box(*((start, start + w.shape[1]) for start, w in starts_weights))
        (first, last), (left, right), (low, high) = needed
        # Few lines of the result may need all that lie below: those are added up in pieces.
        step = max(1, _WIDE_VALUES // max(1, (right - left) * (high - low)))
        if last - first <= step:
            pixels, weight = self._weighted(needed, [matrix for _, matrix in starts_weights])
        else:
            lines, *others = (matrix for _, matrix in starts_weights)
            pixels = weight = 0
            for start in range(first, last, step):
                stop = min(last, start + step)
                part = lines[:, start - first : stop - first]
                box = Box((start, stop), needed.samples, needed.bands)
                more, counted = self._weighted(box, [part, *others])
                pixels = pixels + more
                if counted is None:
                    counted = part.sum(axis=1, dtype=np.float32)[:, None, None]
                weight = weight + counted
        if weight is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                pixels = np.where(weight > 1e-6, pixels / weight, np.nan)
        out: Array = pixels.astype(self.dtype)
        return out

    def _weighted(self, box: Box, matrices: list[NDArray[np.float64]]) -> tuple[Any, Any]:
        """Give the weighted sum over a box below, and the weights; None where all are valid."""
        pixels = self._below.read(box).astype(self.dtype)
        valid = ~np.isnan(pixels)
        all_valid = bool(valid.all())
        if not all_valid:
            pixels[~valid] = 0
        weight = None if all_valid else valid.astype(np.float32)
        for axis, matrix in enumerate(matrices):
            if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
                continue
            pixels = _along(matrix, pixels, axis)
            if weight is not None:
                weight = _along(matrix, weight, axis)
        return pixels, weight


def _along(matrix: NDArray[np.float64], pixels: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix.astype(pixels.dtype), pixels, axes=(1, axis)), 0, axis)


def _weights(old: int, new: int, start: int, stop: int) -> tuple[int, NDArray[np.float64]]:
    """Give the weights of resampling an axis from ``old`` to ``new`` points.

    Returns
    -------
    first : int
        First index of the old axis that is needed.
    weights : ndarray, (stop − start, indices needed)
        Each row sums to 1.
    """
    if (stop - start) * ((stop - start) * old / new + 2) > _MAX_WEIGHTS:
        raise ContainerError(
            f"read procedures: resample: found an axis of {old} that becomes {new}, which does "
            "not fit into memory; read a part"
        )
    points = np.arange(start, stop)
    if new <= old:
        low, high = points * old / new, (points + 1) * old / new
        first, last = int(low[0]), min(old, int(np.ceil(high[-1] - 1e-9)))
        cells = np.arange(first, last)
        overlap = np.minimum(high[:, None], cells + 1) - np.maximum(low[:, None], cells)
        weights = np.clip(overlap, 0, None)
        return first, weights / weights.sum(axis=1, keepdims=True)
    centre = np.clip((points + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.minimum(centre.astype(np.int64), max(old - 2, 0))
    first, last = int(left[0]), min(old, int(left[-1]) + 2)
    weights = np.zeros((points.size, last - first))
    rows = np.arange(points.size)
    weights[rows, left - first] = 1 - (centre - left)
    if old > 1:
        weights[rows, left - first + 1] += centre - left
    return first, weights


class Merged(Cube):
    """Several cubes laid on one plane; the first covers those behind it, gaps are ``fill``."""

    def __init__(self, parts: Sequence[tuple[Cube, int, int]], fill: int | float | None) -> None:
        bands = parts[0][0].shape[2]
        for cube, _, _ in parts:
            if cube.shape[2] != bands:
                raise ContainerError(
                    f"read procedures: merge: found a cube of {cube.shape[2]} bands, "
                    f"allowed are {bands}"
                )
        dtype = np.result_type(*(cube.dtype for cube, _, _ in parts))
        if fill is None and dtype.kind in "iu":
            dtype = np.result_type(dtype, np.float32)
        left = min(dx for _, dx, _ in parts)
        top = min(dy for _, _, dy in parts)
        right = max(dx + cube.shape[1] for cube, dx, _ in parts)
        bottom = max(dy + cube.shape[0] for cube, _, dy in parts)
        first = parts[0][0]
        super().__init__(
            (bottom - top, right - left, bands),
            dtype,
            name="merge",
            origins=(None, None, first.origins[2]),
            wavelengths=first.wavelengths,
            fwhm=first.fwhm,
        )
        self.cost = max(cube.cost for cube, _, _ in parts)
        self._parts = [(cube, dx - left, dy - top) for cube, dx, dy in parts]
        self._fill = fill if fill is not None and dtype.kind in "iu" else np.nan

    def read(self, box: Box) -> Array:
        """As :meth:`Cube.read`."""
        (l0, l1), (s0, s1), bands = box
        out = np.full((l1 - l0, s1 - s0, bands[1] - bands[0]), self._fill, self.dtype)
        for cube, dx, dy in reversed(self._parts):
            lines = max(l0, dy), min(l1, dy + cube.shape[0])
            samples = max(s0, dx), min(s1, dx + cube.shape[1])
            if lines[0] >= lines[1] or samples[0] >= samples[1]:
                continue
            out[lines[0] - l0 : lines[1] - l0, samples[0] - s0 : samples[1] - s0] = cube.read(
                Box((lines[0] - dy, lines[1] - dy), (samples[0] - dx, samples[1] - dx), bands)
            )
        return out
