"""What of a block is not fitted: spectra that repeat, bad bands, nodata and saturated pixels.

A block becomes a matrix of its bands (rows) and its distinct spectra (columns). Products that were
put on a map grid by nearest neighbour hold one spectrum in five twice; nodata is one spectrum. The
rest is stored here, exactly. Knows blocks and sections.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.interface import BlockShape, Masks, Pixels
from pipeline.coding.sections import Sections, bad, deflated

BANDS: Final = 1
COPIES: Final = 2
MASKED: Final = 4
#: Copies are worth their list from one spectrum in so many on.
WORTH: Final = 256

#: Flags of the bits: ``True`` where a value is coded by the fit.
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """The part of a block that is fitted.

    Attributes
    ----------
    rows : ndarray of int32 (rows, columns)
        The bands that are fitted, of the spectra that are no copies, in the order of lines and
        samples. What is masked holds its band's mean.
    masked : ndarray of bool (rows, columns) or None
        Values that are stored apart.
    apart : bytes
        What ``Apart`` reads.
    """

    rows: NDArray[np.int32]
    masked: Flags | None
    apart: bytes


def take_apart(pixels: Pixels, masks: Masks) -> Matrix:
    """Take a block apart.

    Parameters
    ----------
    pixels : ndarray (lines, bands, samples)
    masks : Masks

    Returns
    -------
    Matrix
        Its ``apart``: ``uint8`` flags. 1: a zlib section of a ``uint8`` for each band, 1 where it
        is apart, and one of these bands' values, as differences from the pixel before (modulo the
        type), low bytes before high bytes. 2: a zlib section of a ``uint32`` for each pixel: how
        many pixels before it the same spectrum is, 0: it is none's copy. 4: a zlib section of a
        bit for each value of the matrix (the first in the lowest bit), 1 where masked, ``uint32``
        count and a zlib section of these values.
    """
    bands = pixels.shape[1]
    pixels = np.ascontiguousarray(pixels)
    flags, parts = 0, []
    good = np.ones(bands, np.bool_)
    good[: len(masks.bad_bands)] = ~np.array(masks.bad_bands, np.bool_)[:bands]
    if not good.all():
        flags |= BANDS
        aside = _rows(pixels[:, ~good])
        parts += [deflated(~good), deflated(_byte_planes(np.diff(aside, axis=1, prepend=0)))]
    back = _copies(pixels)
    rows = _rows(pixels[:, good] if flags else pixels)
    if back is not None:
        flags |= COPIES
        parts.append(deflated(back.astype("<u4")))
        rows = rows[:, back == 0]
    masked = np.zeros(rows.shape, np.bool_)
    if masks.ignore is not None:
        masked |= rows == masks.ignore
    if masks.saturation is not None:
        masked |= rows >= masks.saturation
    wide = rows.astype(np.int32)
    if not masked.any():
        return Matrix(wide, None, struct.pack("<B", flags) + b"".join(parts))
    flags |= MASKED
    values = rows[masked]
    parts += [
        deflated(np.packbits(masked, bitorder="little")),
        struct.pack("<I", len(values)),
        deflated(values.astype(values.dtype.newbyteorder("<"))),
    ]
    free = np.maximum((~masked).sum(axis=1), 1)
    means = np.rint(np.where(masked, 0, wide).sum(axis=1) / free).astype(np.int32)
    return Matrix(
        np.where(masked, means[:, None], wide),
        masked,
        struct.pack("<B", flags) + b"".join(parts),
    )


class Apart:
    """Reads what ``take_apart`` stored, and puts a block together again.

    Raises
    ------
    ContainerError
        When the bytes are not such.
    """

    def __init__(self, data: Sections, shape: BlockShape, lines: int) -> None:
        self._shape, self._lines = shape, lines
        pixels = lines * shape.samples
        size = shape.dtype.itemsize
        (self._flags,) = data.numbers("B")
        self.rows, self.columns = shape.bands, pixels
        if self._flags & BANDS:
            aside = data.inflated("u1", shape.bands)
            if (aside > 1).any():
                raise bad("a band that is neither apart nor not")
            self._good = aside == 0
            self.rows = int(self._good.sum())
            planes = data.inflated("u1", (shape.bands - self.rows) * pixels * size)
            steps = planes.reshape(size, shape.bands - self.rows, pixels)
            wide = sum(steps[i].astype(np.uint16) << (8 * i) for i in range(size))
            self._aside = np.cumsum(wide, axis=1, dtype=np.uint16)
        if self._flags & COPIES:
            back = data.inflated("<u4", pixels).astype(np.int64)
            own = back == 0
            self.columns = int(own.sum())
            source = np.arange(pixels) - back
            if (source < 0).any() or not own[source].all():
                raise bad("a spectrum that is the copy of none")
            self._source = (np.cumsum(own) - 1)[source]
        if self._flags & MASKED:
            bits = data.inflated("u1", -(-self.rows * self.columns // 8))
            masked = np.unpackbits(bits, count=self.rows * self.columns, bitorder="little")
            self._masked = masked.astype(np.bool_).reshape(self.rows, self.columns)
            (count,) = data.numbers("I")
            if count != int(masked.sum()):
                raise bad("another number of masked values than is marked")
            self._values = data.inflated(shape.dtype.newbyteorder("<").str, count)

    def together(self, rows: NDArray[Any]) -> Pixels:
        """Put the decoded matrix, (rows, columns), and what is apart together."""
        shape, lines = self._shape, self._lines
        matrix = rows.astype(shape.dtype)
        if self._flags & MASKED:
            matrix[self._masked] = self._values
        if self._flags & COPIES:
            matrix = matrix[:, self._source]
        if self._flags & BANDS:
            whole = np.empty((shape.bands, lines * shape.samples), shape.dtype)
            whole[self._good] = matrix
            whole[~self._good] = self._aside.astype(shape.dtype)
            matrix = whole
        cube = matrix.reshape(shape.bands, lines, shape.samples)
        return np.ascontiguousarray(cube.transpose(1, 0, 2))


def _rows(pixels: Pixels) -> NDArray[Any]:
    lines, bands, samples = pixels.shape
    return np.ascontiguousarray(pixels.transpose(1, 0, 2)).reshape(bands, lines * samples)


def _byte_planes(values: NDArray[Any]) -> NDArray[np.uint8]:
    raw = values.astype(values.dtype.newbyteorder("<")).view(np.uint8)
    return np.ascontiguousarray(raw.reshape(values.size, -1).T)


def _copies(pixels: Pixels) -> NDArray[np.int64] | None:
    """Give how many pixels back the first same spectrum is; None where copies are few."""
    from pipeline.coding.kernels import compile_pixels

    lines, _, samples = pixels.shape
    hashes = np.empty(lines * samples, np.uint64)
    compile_pixels(pixels.dtype).hash_spectra(pixels, hashes)
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    if len(hashes) - len(first) < max(len(hashes) // WORTH, 1):
        return None
    source = first[which]
    here = np.flatnonzero(source != np.arange(len(hashes)))
    there = source[here]
    equal = (
        pixels[here // samples, :, here % samples] == pixels[there // samples, :, there % samples]
    ).all(axis=1)
    back = np.zeros(len(hashes), np.int64)
    back[here[equal]] = (here - there)[equal]
    return back
