"""What of a block is not fitted: spectra that repeat, bad bands, nodata and saturated pixels.

A block becomes a matrix of its bands (rows) and its distinct spectra (columns). Products that were
put on a map grid by nearest neighbour hold one spectrum in six twice; nodata is one spectrum. The
rest is stored here, exactly. Knows blocks and sections.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.coding.compiled import compile_pixels
from pipeline.coding.interface import BlockShape, Masks, Pixels
from pipeline.coding.room import room
from pipeline.coding.sections import Sections, bad, deflated

#: Copies are worth their list from one spectrum in so many on.
WORTH: Final = 256

#: Bands that tell first whether there are copies at all.
LOOKED_AT: Final = 8
#: Share of a band from which on its masked values say nothing about spectra.
MOSTLY: Final = 0.5
#: Spectra are learned from if they are more than one in so many.
FEW: Final = 16

#: Flags of the bits: ``True`` where a value is coded by the fit.
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """The part of a block that is fitted.

    Attributes
    ----------
    cube : ndarray (lines, rows, samples) of the pixels' type, C-contiguous
        The bands that are fitted (rows), of the spectra that are no copies (columns, line by line).
        Where all are, the block itself; where some are copies, one line of the others. What is
        masked holds its band's mean.
    masked : ndarray of bool (rows, columns) or None
        Values that are stored apart.
    apart : bytes
        What ``Apart`` reads.
    weights : ndarray of float64 (columns,)
        Of how many spectra of the block each is one: itself and its copies.
    base : ndarray of float64 (columns,)
        Sum of the squares of a spectrum's values in the bands that are apart, counts².
    """

    cube: NDArray[Any]
    masked: Flags | None
    apart: bytes
    weights: NDArray[np.float64]
    base: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        lines, rows, samples = self.cube.shape
        return rows, lines * samples

    @cached_property
    def rows(self) -> NDArray[Any]:
        """The matrix itself, (rows, columns), C-contiguous."""
        return self.cube[0] if len(self.cube) == 1 else self.rows_as(self.cube.dtype)

    def rows_as(self, dtype: DTypeLike) -> NDArray[Any]:
        """Give a copy of the matrix, (rows, columns), C-contiguous, of a type."""
        lines, rows, samples = self.cube.shape
        out = room("rows", self.shape, dtype)
        np.copyto(out.reshape(rows, lines, samples), self.cube.transpose(1, 0, 2), casting="unsafe")
        return out

    def learnable(self) -> NDArray[np.intp]:
        """Give the columns to learn from: none of their values is masked.

        But for those of bands that are masked for the most part (dead ones, of nodata alone). Where
        hardly a spectrum is left, all.
        """
        every = np.arange(self.shape[1])
        if self.masked is None:
            return every
        alive = self.masked.mean(axis=1) < MOSTLY if len(every) else np.zeros(0, np.bool_)
        whole = np.flatnonzero(~self.masked[alive].any(axis=0))
        return whole if len(whole) * FEW > len(every) else every


def take_apart(pixels: Pixels, masks: Masks) -> Matrix:
    """Take a block apart.

    Parameters
    ----------
    pixels : ndarray (lines, bands, samples)
    masks : Masks

    Returns
    -------
    Matrix
        Its ``apart`` is five zlib sections: ``uint8`` (bands,), 1 for a band that is apart; the
        values of these bands, as differences from the pixel before (modulo the type); ``uint32``
        for each pixel, how many pixels before it the same spectrum is, 0 if it is none's copy;
        ``uint32`` for each masked value of the matrix, how many values it is behind the masked one
        before it (the first: behind the first value); these values.
    """
    bands = pixels.shape[1]
    pixels = np.ascontiguousarray(pixels)
    good = np.ones(bands, np.bool_)
    good[: len(masks.bad_bands)] = ~np.array(masks.bad_bands, np.bool_)[:bands]
    back, weights = _copies(pixels)
    own = np.flatnonzero(back == 0) if len(weights) < len(back) else None
    cube = _gathered(pixels, good, own)
    aside = _rows(pixels[:, ~good])
    masked = _masked(cube, masks)
    places, values = np.zeros(0, np.intp), np.zeros(0, cube.dtype)
    if masked is not None:
        rows, masked = _rows(cube), _rows(masked)
        places = np.flatnonzero(masked)
        values = rows.reshape(-1)[places]
        free = np.maximum((~masked).sum(axis=1), 1)
        means = np.rint(np.where(masked, 0, rows.astype(np.int64)).sum(axis=1) / free)
        cube = np.where(masked, means[:, None].astype(rows.dtype), rows)[None]
    little = cube.dtype.newbyteorder("<")
    apart = b"".join(
        (
            deflated(~good),
            deflated(np.diff(aside, axis=1, prepend=0).astype(little)),
            deflated(back.astype("<u4")),
            deflated(np.diff(places, prepend=0).astype("<u4")),
            deflated(values.astype(little)),
        )
    )
    chosen = aside if own is None else aside[:, own]
    base = np.einsum("ij,ij->j", chosen, chosen, dtype=np.float64)
    return Matrix(cube, masked, apart, weights, base)


def _masked(rows: NDArray[Any], masks: Masks) -> Flags | None:
    """Tell which values are of no use to a fit; None where all are."""
    masked: Flags | None = None
    if masks.ignore is not None:
        masked = rows == masks.ignore
    if masks.saturation is not None:
        above = rows >= masks.saturation
        masked = above if masked is None else masked | above
    return masked if masked is not None and masked.any() else None


class Apart:
    """Reads what ``take_apart`` stored, and puts a block together again.

    Raises
    ------
    ContainerError
        When the bytes are not such.
    """

    def __init__(self, data: Sections, shape: BlockShape, lines: int) -> None:
        self.shape, self._lines = shape, lines
        pixels, little = lines * shape.samples, shape.dtype.newbyteorder("<").str
        aside = data.inflated("u1", shape.bands)
        if (aside > 1).any():
            raise bad("a band that is neither apart nor not")
        self._good = aside == 0
        self.rows = int(self._good.sum())
        steps = data.inflated(little, (shape.bands - self.rows) * pixels)
        self._aside = np.cumsum(steps.reshape(-1, pixels), axis=1, dtype=shape.dtype)
        back = data.inflated("<u4", pixels).astype(np.int64)
        own = back == 0
        self.columns = int(own.sum())
        source = np.arange(pixels) - back
        if (source < 0).any() or not own[source].all():
            raise bad("a spectrum that is the copy of none")
        self._source = None if own.all() else (np.cumsum(own) - 1)[source]
        values = self.rows * self.columns
        self._places = np.cumsum(data.inflated_some("<u4", values).astype(np.int64))
        if len(self._places) and self._places[-1] >= values:
            raise bad("a masked value beyond the last")
        self._values = data.inflated(little, len(self._places))

    def matrix(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Put the decoded matrix, (rows, columns), and what is apart together: (bands, pixels)."""
        if len(self._places):
            rows = rows.copy()
            rows.reshape(-1)[self._places] = self._values
        if self._source is not None:
            rows = rows[:, self._source]
        if self._good.all():
            return rows
        whole = np.empty((self.shape.bands, rows.shape[1]), rows.dtype)
        whole[self._good] = rows
        whole[~self._good] = self._aside
        return whole

    def together(self, rows: NDArray[Any]) -> Pixels:
        """Give the block of a decoded matrix: (lines, bands, samples)."""
        bands, samples = self.shape.bands, self.shape.samples
        out = np.empty((self._lines, bands, samples), self.shape.dtype)
        cube = self.matrix(rows).reshape(bands, self._lines, samples)
        np.copyto(out, cube.transpose(1, 0, 2), casting="unsafe")
        return out

    def target(self) -> tuple[Pixels, NDArray[np.int64]]:
        """Give where compiled loops put decoded pixels, (lines, bands, samples), and rows' bands.

        It is the block itself, or where spectra are copies the matrix, as one line.
        """
        if self._source is not None:
            out = np.empty((1, self.rows, self.columns), self.shape.dtype)
            return out, np.arange(self.rows, dtype=np.int64)
        return self._block(), np.flatnonzero(self._good).astype(np.int64)

    def finish(self, out: Pixels) -> Pixels:
        """Give the block of a filled target."""
        bands = np.flatnonzero(self._good).astype(np.int64)
        if len(self._places):
            row, column = np.divmod(self._places, self.columns)
            if self._source is not None:
                out[0, row, column] = self._values
            else:
                samples = self.shape.samples
                out[column // samples, bands[row], column % samples] = self._values
        if self._source is not None:
            matrix, out = out[0], self._block()
            compile_pixels(out.dtype).spread(matrix, self._source, bands, out)
        if self.rows < self.shape.bands:
            aside = self._aside.reshape(-1, self._lines, self.shape.samples)
            out[:, ~self._good] = aside.transpose(1, 0, 2)
        return out

    def _block(self) -> Pixels:
        return np.empty((self._lines, self.shape.bands, self.shape.samples), self.shape.dtype)


def _gathered(pixels: Pixels, good: NDArray[np.bool_], own: NDArray[np.intp] | None) -> Pixels:
    """Give the good bands of a block's own spectra: (lines, bands, samples), or as one line."""
    if own is None:
        return pixels if good.all() else np.ascontiguousarray(pixels[:, good])
    rows = room("matrix", (int(good.sum()), len(own)), pixels.dtype)
    bands = np.flatnonzero(good).astype(np.int64)
    compile_pixels(pixels.dtype).gather(pixels, own.astype(np.int64), bands, rows)
    return rows[None]


def _rows(pixels: Pixels) -> NDArray[Any]:
    lines, bands, samples = pixels.shape
    return np.ascontiguousarray(pixels.transpose(1, 0, 2)).reshape(bands, lines * samples)


def _copies(pixels: Pixels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find spectra that are copies.

    Returns
    -------
    back : ndarray of int64 (pixels,)
        How many pixels back the first same spectrum is; zeros where copies are few.
    weights : ndarray of float64
        Of each spectrum that is no copy, how many it stands for.
    """
    lines, bands, samples = pixels.shape
    hashes = np.empty(lines * samples, np.uint64)
    back = np.zeros(len(hashes), np.int64)
    least = max(len(hashes) // WORTH, 1)
    kernels = compile_pixels(pixels.dtype)
    first = np.empty(len(hashes), np.int64)
    equal = np.empty(len(hashes), np.bool_)
    # of a few bands first: spectra that differ in them are no copies, and those that do not are
    # copies in most scenes; where some are not, of all bands
    for every in (max(bands // LOOKED_AT, 1), 1):
        kernels.hash_spectra(pixels, every, hashes)
        table = np.full(2 << (len(hashes) - 1).bit_length(), -1, np.int64)
        alike = kernels.first_equal(hashes, table, first)
        if alike < least:
            return back, np.ones(len(hashes))
        kernels.same_spectra(pixels, first, equal)
        if alike - np.count_nonzero(equal) < least:
            break
    here = np.flatnonzero(equal)
    back[here] = here - first[here]
    counts = np.bincount(np.arange(len(hashes)) - back, minlength=len(hashes))
    return back, counts[back == 0].astype(np.float64)
