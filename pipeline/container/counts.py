"""Raw counts of a stored cube by line, sample and band, wherever a correction needs them.

A box that is read holds only what was asked for; the columns that always see the same, and the
neighbours of a bad pixel, may lie beside it. Where the stored cube is coded, what is needed is
decoded once more. Knows cubes only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.cube import Array, Box, Cube

Indices = NDArray[np.int64]


class Counts:
    """The counts of a cube.

    Parameters
    ----------
    raw : ndarray, (lines, samples, bands), or None
        Mapped counts; None where they must be decoded.
    decoded : Cube, optional
        Gives the counts where ``raw`` is None.
    """

    def __init__(self, raw: Array | None, decoded: Cube | None = None) -> None:
        self._raw, self._decoded = raw, decoded

    def part(self, lines: Indices, bands: Indices, samples: slice) -> NDArray[Any]:
        """Give some bands of consecutive samples, ``(lines, bands, samples)``."""
        if self._raw is not None:
            across = np.arange(samples.start, samples.stop)
            picked: NDArray[Any] = self._raw[lines[:, None, None], across, bands[:, None]]
            return picked
        return self._box(lines, samples)[:, :, bands].transpose(0, 2, 1)

    def points(self, lines: Indices, bands: Indices, samples: Indices) -> NDArray[Any]:
        """Give single pixels of each line, ``(lines, pixels)``; bands and samples go together."""
        if self._raw is not None:
            points: NDArray[Any] = self._raw[lines[:, None], samples, bands]
            return points
        first = int(samples.min())
        box = self._box(lines, slice(first, int(samples.max()) + 1))
        return box[:, samples - first, bands]

    def _box(self, lines: Indices, samples: slice) -> Array:
        """Decode whole spectra, ``(lines, samples, bands)``."""
        assert self._decoded is not None
        first, last = int(lines.min()), int(lines.max()) + 1
        across = (samples.start, samples.stop)
        box = Box((first, last), across, (0, self._decoded.shape[2]))
        return self._decoded.read(box)[lines - first]
