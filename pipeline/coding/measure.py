"""How far decoded pixels are from the pixels: over all of them, never estimated."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.compiled import compile_pixels
from pipeline.coding.interface import BlockStats, Pixels


def measured(
    pixels: Pixels, decoded: NDArray[Any], learned: int = 0, components: int = 0
) -> BlockStats:
    """Measure a block, (lines, bands, samples), against what its decoder gives, (bands, pixels).

    The angle between a spectrum a and a + e is ``atan2(√(a·a e·e − (a·e)²), a·a + a·e)``, which,
    unlike the arc cosine, keeps its digits where it is small. It is π/2 where one is zero and the
    other is not, as in ``container.compare``.
    """
    kernel = compile_pixels(pixels.dtype).measure
    scratch = np.empty((3, pixels.shape[2]), np.float64)
    largest, squared, angle, spectra = kernel(
        np.ascontiguousarray(pixels), np.ascontiguousarray(decoded, np.int32), scratch
    )
    return BlockStats(
        pixels.size, int(largest), float(squared), float(angle), int(spectra), learned, components
    )
