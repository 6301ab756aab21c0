"""For a bound, or none to the error: whichever of prediction and PCA is smaller, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.coding.interface import Aim, BlockShape, Encoded, Masks, Pixels
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.sections import bad


@dataclass(frozen=True)
class SmallestCoding:
    """A byte, 1 for ``predicted`` and 2 for PCA ``packed``, and a block of that coding.

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
        return {"smallest version": 1}

    def encode(self, pixels: Pixels) -> Encoded:
        """Code a block both ways; see ``Coding``."""
        return self.smaller(pixels, lambda coding, given: coding.encode(given))

    def smaller(
        self, pixels: Pixels, encode: Callable[[PredictedCoding | PcaCoding, Pixels], Encoded]
    ) -> Encoded:
        """Code a block with both codings by what codes with one; give the smaller."""
        both = [(kind, encode(coding, pixels)) for kind, coding in self._codings().items()]
        kind, least = min(both, key=lambda each: len(each[1].data))
        return Encoded(bytes([kind]) + least.data, least.stats)

    def decode(self, data: bytes | memoryview, lines: int) -> Pixels:
        """Decode a block; see ``Coding``."""
        view = memoryview(data).cast("B")
        codings = self._codings()
        if not len(view) or view[0] not in codings:
            raise bad("no coding that is known")
        return codings[view[0]].decode(view[1:], lines)

    def _codings(self) -> dict[int, PredictedCoding | PcaCoding]:
        shape, lines, aim = self.shape, self.block_lines, Aim(self.max_error, masks=self.masks)
        return {
            1: PredictedCoding(shape, lines, self.max_error, self.masks, self.numba),
            2: PcaCoding(shape, lines, "packed", aim, self.numba),
        }
