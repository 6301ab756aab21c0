"""For a bound, or none to the error: whichever of prediction and PCA is smaller, block by block.

Where two scenes lie side by side (a panel beside the sample, two conveyor lanes), a basis or
predictor for both is worse than one for each: then a block is two parts. Knows both codings.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import Aim, BlockShape, Encoded, Masks, Pixels
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.sections import Sections, bad

#: The first byte of a block of two parts.
PARTS: Final = 3
#: Of the left part: samples, and bytes.
PARTS_HEAD: Final = "<HI"
#: A block may be cut at these fractions of its samples.
CUTS: Final = (0.25, 0.5, 0.75)
#: It is tried if this part of the bytes is expected to be left.
WORTH: Final = 0.97
#: Bytes are foreseen from so many spectra.
SAMPLE: Final = 8192
#: Bits of an element of a basis vector, about.
ELEMENT_BITS: Final = 8.0

Floats = NDArray[np.float64]
#: Number of spectra, Σ x, Σ x·xᵀ.
Moments = tuple[int, Floats, Floats]
Encode = Callable[[PredictedCoding | PcaCoding, Pixels], Encoded]


@dataclass(frozen=True)
class SmallestCoding:
    """A byte, 1 for ``predicted`` and 2 for PCA ``packed``, and a block of that coding.

    Or 3, and two of these side by side.

    Parameters
    ----------
    shape, block_lines, max_error, masks, numba
        As of ``PredictedCoding``.
    """

    shape: BlockShape
    block_lines: int
    max_error: int = 0
    masks: Masks = field(default_factory=Masks)
    numba: bool = True

    name = "smallest"
    file_type = "SMALLEST"

    def fields(self) -> dict[str, object]:
        """Give the header fields; blocks say all else themselves."""
        return {"smallest version": 2}

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block both ways; see ``Coding``."""
        return self.smaller(pixels, lambda coding, given: coding.encode(given))

    def smaller(self, pixels: Pixels, encode: Encode) -> Encoded:
        """Code a block with both codings by what codes with one; give the smallest.

        Whole, and where that may be worth it in two parts.
        """
        whole = self._smaller(pixels, encode)
        cut = worthy_cut(pixels, self.max_error)
        if not cut:
            return whole
        sides = zip(self.parts(cut), (pixels[..., :cut], pixels[..., cut:]), strict=True)
        left, right = (part._smaller(np.ascontiguousarray(side), encode) for part, side in sides)
        head = struct.pack("<B" + PARTS_HEAD[1:], PARTS, cut, len(left.data))
        data = head + left.data + right.data
        return Encoded(data, left.stats + right.stats) if len(data) < len(whole.data) else whole

    def _smaller(self, pixels: Pixels, encode: Encode) -> Encoded:
        both = [(kind, encode(coding, pixels)) for kind, coding in self._codings().items()]
        kind, least = min(both, key=lambda each: len(each[1].data))
        return Encoded(bytes([kind]) + least.data, least.stats)

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        view = memoryview(data).cast("B")
        if found := self.split(view):
            sides = [part.decode(side, lines) for part, side in found]
            return np.concatenate(sides, axis=2)
        codings = self._codings()
        if not len(view) or view[0] not in codings:
            raise bad("no coding that is known")
        return codings[view[0]].decode(view[1:], lines)

    def split(self, data: memoryview) -> list[tuple[SmallestCoding, memoryview]]:
        """Give both parts of a block and their codings; nothing where it is whole.

        Raises
        ------
        ContainerError
            When the bytes are no such parts.
        """
        if not len(data) or data[0] != PARTS:
            return []
        take = Sections(data[1:])
        cut, size = take.numbers(PARTS_HEAD[1:])
        rest = data[1 + struct.calcsize(PARTS_HEAD) :]
        if not 0 < cut < self.shape.samples or size > len(rest):
            raise bad("parts beyond the block")
        sides = rest[:size], rest[size:]
        if any(len(side) and side[0] == PARTS for side in sides):
            raise bad("parts of a part")
        return list(zip(self.parts(cut), sides, strict=True))

    def parts(self, cut: int) -> tuple[SmallestCoding, SmallestCoding]:
        """Give the codings of the samples before a cut and from it on."""
        shape = self.shape
        left, right = (
            replace(self, shape=replace(shape, samples=samples))
            for samples in (cut, shape.samples - cut)
        )
        return left, right

    def _codings(self) -> dict[int, PredictedCoding | PcaCoding]:
        shape, lines, aim = self.shape, self.block_lines, Aim(self.max_error, masks=self.masks)
        return {
            1: PredictedCoding(shape, lines, self.max_error, self.masks, self.numba),
            2: PcaCoding(shape, lines, "packed", aim, self.numba),
        }


def worthy_cut(pixels: Pixels, bound: int) -> int:
    """Give the sample before which a block is best cut in two; 0 where it is better whole.

    Foreseen from the variances along the eigenvectors of some spectra, of the whole and of each
    side: a Gaussian of variance v takes log2(1 + v / D) / 2 bits (reverse water-filling without its
    threshold; Cover & Thomas, Elements of Information Theory, 10.3), D that of an interval of
    2 · bound + 1 counts; and each component its basis vector.

    Parameters
    ----------
    pixels : ndarray (lines, bands, samples)
    bound : int
        counts.
    """
    lines, bands, samples = pixels.shape
    cuts = sorted({int(samples * each) for each in CUTS} - {0})
    least = max(SAMPLE // max(samples, 1), 1)
    # odd: sensors and scenes have patterns of two, four, … lines
    some = pixels[:: lines // least | 1].astype(np.float64)
    if samples < 2 or some.shape[0] * cuts[0] < 2 * bands:
        return 0
    edges = [0, *cuts, samples]
    sums = [
        _moments(some[..., a:b].transpose(1, 0, 2).reshape(bands, -1)) for a, b in pairwise(edges)
    ]
    more = lines / some.shape[0]
    whole = _bits(sums, bound, more)
    both = [
        _bits(sums[:k], bound, more) + _bits(sums[k:], bound, more) for k in range(1, len(sums))
    ]
    best = int(np.argmin(both))
    return cuts[best] if both[best] < WORTH * whole else 0


def _moments(spectra: Floats) -> Moments:
    return spectra.shape[1], spectra.sum(axis=1), spectra @ spectra.T


def _bits(sums: list[Moments], bound: int, more: float) -> float:
    """Foresee the bits of ``more`` times as many spectra as have these moments."""
    count = sum(n for n, _, _ in sums)
    mean = np.sum([each for _, each, _ in sums], axis=0) / count
    scatter = np.sum([each for _, _, each in sums], axis=0) / count - np.outer(mean, mean)
    power = np.maximum(np.linalg.eigvalsh(scatter), 0.0) * 12 / (2 * bound + 1) ** 2
    basis = ELEMENT_BITS * len(mean) * np.count_nonzero(power > 1.0)
    return float(more * count * np.log2(1 + power).sum() / 2 + basis)
