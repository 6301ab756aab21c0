"""What is asked of a coded cube, and the coding of each of its blocks that follows from it.

All blocks are coded alike, but for a ratio: then each has its own number of bytes, so that the
whole reaches it with its records, its table, its headers and the structures of the ZIP file. What
a block may take follows from its place alone: any of them can be coded before the last line is
known. Knows codings and what stands beside blocks; nothing of files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np

from pipeline.coding.backend import Wish, coding_on
from pipeline.coding.choose import make_coding
from pipeline.coding.interface import MOST_PIXELS, BlockShape, Coding, Encoded, Masks, Noise, Pixels
from pipeline.container.block_records import RECORD, Block, encode_row
from pipeline.errors import ConfigError, SwathError

#: Lines of a block, and pixels of one beyond which it has fewer lines.
BLOCK_LINES_DEFAULT: Final = 128
_BLOCK_PIXELS: Final = 1 << 26
#: The largest ratio that a block can be asked for.
_MOST_RATIO: Final = 10_000.0
#: What stands beside the blocks takes at most this part of the bytes of the blocks that pay it.
_PART: Final = 1 / 8


@dataclass(frozen=True)
class Wanted:
    """What is asked of a compressed file; lossless where nothing is.

    Attributes
    ----------
    coding : str or None
        Its name; None: ``smallest`` with a bound or without an error, else ``packed``.
    max_error : int or None
        Counts that a pixel may be off; 0 is lossless.
    ratio : float or None
        Bytes of raw pixels for one of the coded cube, at least, with all that belongs to it.
    noise : bool
        The step follows from the sensor's noise, which the references tell.
    block_lines : int or None
        Lines of a block; 128 by default.
    """

    coding: str | None = None
    max_error: int | None = None
    ratio: float | None = None
    noise: bool = False
    block_lines: int | None = None

    @property
    def lossless(self) -> bool:
        """Whether every bit has to come back."""
        return not self.max_error and self.ratio is None and not self.noise


@dataclass(frozen=True)
class BlockCodings:
    """The codings of a cube's blocks.

    Attributes
    ----------
    shape : BlockShape
    wanted : Wanted
    noise : Noise or None
        Where ``wanted.noise``.
    masks : Masks
    beside : int
        Bytes beside the blocks, their records and their rows of the table, which the first blocks
        have less to take, an eighth of theirs at most.
    share : float
        Part of its bytes that a block may take.
    backend : {"cpu", "cuda", "auto"}
        What codes them.

    Raises
    ------
    ConfigError
        From :attr:`coding`, when there is no such coding, or it cannot do what is wanted.
    """

    shape: BlockShape
    wanted: Wanted
    noise: Noise | None = None
    masks: Masks = field(default_factory=Masks)
    beside: int = 0
    share: float = 1.0
    backend: Wish = "cpu"

    @cached_property
    def coding(self) -> Coding:
        """What all blocks decode with; codes each of them unless a ratio is wanted."""
        return self._make(self.wanted.ratio)

    @property
    def block_lines(self) -> int:
        """Lines of every block but the last."""
        return self.coding.block_lines

    def of(self, first_line: int, lines: int) -> Coding:
        """Give the coding of one block."""
        ratio = self.wanted.ratio
        if ratio is None:
            return self.coding
        raw = lines * self.shape.line_bytes()
        # Offset and size have as many digits at most as those of the raw lines.
        end = Block(first_line, lines, first_line * self.shape.line_bytes(), raw, 0)
        around = RECORD.size + len(encode_row(end))
        paid = self._paid(first_line + lines) - self._paid(first_line)
        budget = self.share * raw / ratio - around - paid
        return self._make(min(max(raw / budget, 1.0), _MOST_RATIO) if budget > 0 else _MOST_RATIO)

    def encode(self, first_line: int, pixels: Pixels) -> Encoded:
        """Code one block, and hold what was measured against what is wanted.

        Raises
        ------
        ConfigError
            When the pixels cannot be coded so.
        SwathError
            When a pixel would be off by more than the bound: never, if there is no bug.
        """
        encoded = self.of(first_line, len(pixels)).encode(pixels)
        bound = 0 if self.wanted.lossless else self.wanted.max_error
        if bound is not None and encoded.stats.max_error > bound:
            raise SwathError(
                f"coding lines {first_line} and on with {self.coding.name} found an error of "
                f"{encoded.stats.max_error} counts, allowed are {bound}: a bug, please report it"
            )
        return encoded

    def _paid(self, line: int) -> float:
        """Give what the blocks before a line pay of what stands beside them."""
        assert self.wanted.ratio is not None
        return min(self.beside, _PART * line * self.shape.line_bytes() / self.wanted.ratio)

    def for_lines(self, lines: int) -> BlockCodings:
        """Give those for a cube of so many lines, where the first blocks alone could not pay."""
        if self.wanted.ratio is None or self._paid(lines) >= self.beside:
            return self
        whole = lines * self.shape.line_bytes() / self.wanted.ratio
        if self.beside >= whole:  # not possible: blocks have the ratio that is wanted
            return replace(self, beside=0)
        return replace(self, beside=0, share=self.share * (1 - self.beside / whole))

    def tighter(self, factor: float) -> BlockCodings:
        """Give those of which each block may take only this part of its bytes."""
        return replace(self, share=self.share * factor)

    def to_json(self) -> bytes:
        """Write all that decides how blocks are coded, for another process, or to compare."""
        about = asdict(self)
        del about["backend"]
        about["shape"] = self.shape.bands, self.shape.samples, self.shape.dtype.str
        return msgspec.json.encode(about)

    @classmethod
    def from_json(cls, text: bytes) -> BlockCodings:
        """Read what :meth:`to_json` wrote."""
        about: dict[str, Any] = msgspec.json.decode(text)
        bands, samples, dtype = about["shape"]
        return cls(
            BlockShape(bands, samples, np.dtype(dtype)),
            msgspec.convert(about["wanted"], Wanted),
            msgspec.convert(about["noise"], Noise | None),
            msgspec.convert(about["masks"], Masks),
            about["beside"],
            about["share"],
        )

    def _make(self, ratio: float | None) -> Coding:
        lines = self.wanted.block_lines
        pixels = self.shape.bands * self.shape.samples
        if lines is not None and not 1 <= lines <= max(MOST_PIXELS // pixels, 1):
            raise ConfigError(
                f"block lines: found {lines}, allowed are 1 to {max(MOST_PIXELS // pixels, 1)}"
            )
        if lines is None:
            lines = max(1, min(BLOCK_LINES_DEFAULT, _BLOCK_PIXELS // pixels))
        exact = ratio is None and self.noise is None
        bound = self.wanted.max_error
        made = make_coding(
            self.wanted.coding or ("smallest" if exact else "packed"),
            self.shape,
            block_lines=lines,
            max_error=(bound or 0) if exact else bound,
            ratio=ratio,
            noise=self.noise,
            masks=self.masks,
        )
        return coding_on(made, self.backend, writing=True)
