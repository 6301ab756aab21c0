"""Which part of a cube is read: indices as NumPy takes them, computed in bounded pieces.

Turns ints, slices and lists into the smallest boxes that hold them, so that no more of a file is
read than is asked for. Knows cubes and NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.cube import Array, Box, Cube
from pipeline.errors import ContainerError

#: What ``lines``, ``samples`` and ``bands`` may be; None is all.
Selection = int | slice | Sequence[int] | NDArray[np.integer[Any]] | None
_AXES = ("lines", "samples", "bands")


def resolve(name: str, chosen: Selection, size: int) -> tuple[NDArray[np.int64], bool]:
    """Turn a selection into indices.

    Returns
    -------
    indices : ndarray of int64
        Each from 0 to ``size`` − 1.
    drop : bool
        Whether it was one int, whose axis is dropped.

    Raises
    ------
    ContainerError
        When it is out of range or no selection.
    """
    if chosen is None:
        return np.arange(size), False
    allowed = f"allowed are ints from {-size} to {size - 1}, slices and lists of them"
    try:
        if isinstance(chosen, slice):
            return np.arange(*chosen.indices(size)), False
        if isinstance(chosen, (list, tuple, range, np.ndarray)) and np.ndim(chosen) == 1:
            found = np.array([_index(item) for item in chosen], np.int64)
            drop = False
        else:
            found = np.array([_index(chosen)], np.int64)
            drop = True
    except (TypeError, ValueError, OverflowError):
        raise ContainerError(f"{name}: found {chosen!r:.60}, {allowed}") from None
    wrong = found[(found < -size) | (found >= size)]
    if wrong.size:
        raise ContainerError(f"{name}: found {wrong[0]}, {allowed}")
    return np.where(found < 0, found + size, found), drop


def _index(item: Any) -> int:
    if isinstance(item, (bool, np.bool_)):
        raise TypeError(item)
    return operator.index(item)


def select(
    cube: Cube, chosen: tuple[Selection, Selection, Selection], *, block_values: int
) -> Array:
    """Compute a part of a cube.

    Parameters
    ----------
    cube : Cube
    chosen : tuple of three selections
        Lines, samples, bands.
    block_values : int
        About how many values are computed at once.

    Returns
    -------
    ndarray, (lines, samples, bands)
        Without the axes that were chosen by one int.

    Raises
    ------
    ContainerError
        When a selection is out of range, or the result does not fit into memory.
    """
    try:
        return _select(cube, chosen, block_values)
    except (MemoryError, RecursionError):
        raise ContainerError(
            f"read: {cube.shape} lines, samples, bands with these procedures do not fit into "
            "memory; read a part, or use blocks()"
        ) from None


def _select(cube: Cube, chosen: tuple[Selection, Selection, Selection], block_values: int) -> Array:
    resolved = [
        resolve(name, part, size)
        for name, part, size in zip(_AXES, chosen, cube.shape, strict=True)
    ]
    lines, samples, bands = (indices for indices, _ in resolved)
    try:
        out = np.empty((lines.size, bands.size, samples.size), cube.dtype).transpose(0, 2, 1)
    except (MemoryError, ValueError):
        raise ContainerError(
            f"read: {lines.size} lines × {samples.size} samples × {bands.size} bands do not fit "
            "into memory; read a part, or use blocks()"
        ) from None
    if out.size:
        sample_runs, band_runs = list(_runs(samples)), list(_runs(bands))
        widest = max((b - a for _, (a, b) in sample_runs), default=1)
        deepest = max((b - a for _, (a, b) in band_runs), default=1)
        most = max(1, int(block_values / (widest * deepest * cube.cost)))
        for line_part, line_box in _runs(lines, most):
            for sample_part, sample_box in sample_runs:
                for band_part, band_box in band_runs:
                    with np.errstate(all="ignore"):
                        pixels = cube.read(Box(line_box, sample_box, band_box))
                    for axis, (indices, part, box) in enumerate(
                        (
                            (lines, line_part, line_box),
                            (samples, sample_part, sample_box),
                            (bands, band_part, band_box),
                        )
                    ):
                        wanted = indices[part] - box[0]
                        if not np.array_equal(wanted, np.arange(pixels.shape[axis])):
                            pixels = pixels.take(wanted, axis)
                    out[line_part, sample_part, band_part] = pixels
    picks: tuple[Any, ...] = tuple(0 if drop else slice(None) for _, drop in resolved)
    result: Array = out[picks]
    return result


def _runs(
    indices: NDArray[np.int64], most: int | None = None
) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Part indices into runs that lie close together.

    Yields
    ------
    part : slice
        Of ``indices``.
    box : tuple of int
        The half-open range of the cube that holds them.
    """
    # A gap of more than a few is worth a read of its own.
    breaks = np.flatnonzero(np.abs(np.diff(indices)) > 8) + 1
    for start, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), indices.size], strict=True):
        step = most or max(stop - start, 1)
        for first in range(start, stop, step):
            part = slice(first, min(stop, first + step))
            chosen = indices[part]
            yield part, (int(chosen.min()), int(chosen.max()) + 1)
