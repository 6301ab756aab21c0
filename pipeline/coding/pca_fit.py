"""The basis of a block and what a step makes of it: eigenvectors, scores, and their cost.

The exact scatter matrix of a block's spectra is formed about a fixed shift; of its eigenvectors
those are kept whose scores, in whole steps, are worth their place. What a step costs is estimated
from some of the spectra. Knows matrices of blocks and models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.apart import Matrix
from pipeline.coding.compiled import compile_centre, compile_fit
from pipeline.coding.rans import Rows
from pipeline.coding.rebuild import BASIS_BITS, STEP_BITS, Model
from pipeline.coding.room import room

#: A score goes to the next whole step from this fraction of it on: a bit costs what 0.12 step² of
#: error cost, and small scores are more often below their interval's middle than above.
ROUND_UP: Final = 0.6
#: Squared error in step² that a bit has to save. 6 dB a bit, of step² / 12, make 0.12; with a
#: little more PSNR stays and angles gain.
WORTH: Final = 0.2
#: Bits that an element of a basis vector is stored with, beyond the spread of scores in steps.
SPARE_BITS: Final = 6
#: Bits of such an element, for each that it is stored with, that its entropy coder takes.
CODED_BITS: Final = 0.7
#: Cost of a step is estimated from so many spectra, and scores are about their mean.
SAMPLE: Final = 4800
#: Widest step that is tried, in 1/16 count.
LARGEST: Final = 1 << 22
#: Halvings of the octaves that a step is looked for in; 2^(22 / 2^12) is 0.4 %.
HALVINGS: Final = 12
#: After them so many steps are estimated at most, until one is as near as this.
STEPS: Final = 8
NEAR: Final = 0.006
#: Spread of the weakest component that is looked at, in steps.
WEAKEST: Final = 0.4
#: And so many more components than are worth their bytes by the estimate.
MORE: Final = 2
#: Scores are expected to be within so many times the spread of the strongest component.
NARROW: Final = 16
#: Columns that are projected together: about their means they stay in the cache.
TILE: Final = 1024
#: Spectra for each band that a basis is learned from; twice as many gain less than 0.05 dB.
ENOUGH: Final = 128
GOLDEN: Final = (5**0.5 - 1) / 2
#: And whose products are summed up together: fewer sums in float64.
LEARNED: Final = 1024

Floats = NDArray[np.float64]
_Singles = NDArray[np.float32]


class Fit:
    """A matrix's mean, scatter and eigenvectors, and what a step makes of them.

    Attributes
    ----------
    level : float
        Mean of all means, counts.
    learned : int
        Spectra that the basis was learned from.
    columns : int
    """

    def __init__(self, matrix: Matrix) -> None:
        self._cube = matrix.cube
        self._size, self.columns = matrix.shape
        self._centre = compile_centre(matrix.cube.dtype)
        self._means = np.zeros(self._size, np.int32)
        self._some = self._sample()
        self.level = float(self._means.mean()) if self._size else 0.0
        scatter, self.learned = self._scatter(matrix.learnable())
        values, vectors = np.linalg.eigh(scatter) if self._size else (np.zeros(0), scatter)
        self._power = np.maximum(values[::-1], 0.0) / max(self.learned, 1)
        self._vectors = np.ascontiguousarray(vectors[:, ::-1].T)
        self._single = self._vectors.astype(np.float32)
        self._estimates: dict[int, tuple[float, int]] = {}
        self._sampled: _Singles = np.empty((0, self._some.shape[1]), np.float32)

    def model(self, step: int) -> Model:
        """Quantise with a step, in 1/16 count; a larger one where products would not be exact."""
        while True:
            made = self._quantised(step)
            if made.exact():
                return made
            step *= 2

    def step_for(self, size: float, factor: float = 1.0) -> int:
        """Find the step whose bytes, as estimated and times a factor, are nearest to a size."""
        step = guessed_step(self._power, self.columns, size / factor)
        low, high = 0.0, float(np.log2(LARGEST))
        turned = False
        for _ in range(STEPS):
            found = factor * self.estimate(_whole(step))
            if abs(found - size) < NEAR * size or high - low < NEAR:
                break
            low, high = (step, high) if found > size else (low, step)
            # Twice the step is a bit less for each score; but where a scene's own components end a
            # little less of a step costs many scores: halved, once both sides were seen.
            guess = step + float(np.log2(max(found, 1.0) / size))
            turned = turned or (low > 0.0 and high < float(np.log2(LARGEST)))
            step = (low + high) / 2 if turned or not low < guess < high else guess
        return _whole(step)

    def estimate(self, whole: int) -> float:
        """Estimate the bytes of basis and scores that a step, in 1/16 count, leaves."""
        size, _ = self._estimated(whole)
        return size

    def _estimated(self, whole: int) -> tuple[float, int]:
        """Estimate the bytes, and how many components are worth theirs."""
        if whole in self._estimates:
            return self._estimates[whole]
        step = whole / (1 << STEP_BITS)
        # What is weaker has a score of a step here and there, too few to be worth a basis vector.
        count = int(np.count_nonzero(self._power > (WEAKEST * step) ** 2))
        exact, stored = self._projected(count), stored_bits(self._power[:count], step)
        scale, add = np.float32(1 / step), np.float32(1 - ROUND_UP)
        bits, last = compile_fit().count_bits(
            exact, scale, add, stored, self._size, self.columns, WORTH, CODED_BITS
        )
        found = float(bits) / 8 + 4 * self._size, min(int(last) + MORE, count)
        self._estimates[whole] = found
        return found

    def _scatter(self, chosen: NDArray[np.intp]) -> tuple[Floats, int]:
        """Sum the products of the spectra that are chosen, about the shift; of how many.

        Where there are many more than there are bands, of a part of them.
        """
        total = np.zeros((self._size, self._size))
        flags = None
        if len(chosen) < self.columns:
            flags = np.zeros(self.columns, np.bool_)
            flags[chosen] = True
        share = ENOUGH * self._size / max(len(chosen), 1)
        count = 0
        for first, tile in self._tiles(LEARNED, share):
            some = tile if flags is None else tile[:, flags[first : first + tile.shape[1]]]
            total += some @ some.T
            count += some.shape[1]
        return total, count

    def _tiles(self, most: int, share: float = 1.0) -> Iterator[tuple[int, _Singles]]:
        """Give columns about their means, some after others; the array is used again.

        All of them, or a share of the tiles: those whose multiples of the golden ratio have the
        least fractions, which no period of a scene or sensor has a part in.
        """
        tile = np.empty((self._size, min(most, self.columns)), np.float32)
        for number, first in enumerate(range(0, self.columns, most)):
            if number * GOLDEN % 1.0 >= share:
                continue
            if (wide := self.columns - first) < most:
                tile = np.empty((self._size, wide), np.float32)
            self._centre(self._cube, first, 1, self._means, tile)
            yield first, tile

    def _sample(self) -> _Singles:
        """Give some spectra about their mean, which becomes that of all."""
        # odd: sensors and scenes have patterns of two, four, … samples
        every = self.columns // SAMPLE | 1
        some = np.empty((self._size, -(-self.columns // every)), np.float32)
        if self.columns:
            self._centre(self._cube, 0, every, self._means, some)
            # Of masked values the matrix holds their band's mean.
            self._means[:] = np.rint(some.mean(axis=1))
            some -= self._means[:, None].astype(np.float32)
        return some

    def _projected(self, count: int) -> _Singles:
        """Project these spectra on so many components."""
        have = len(self._sampled)
        if count > have:
            more = self._single[have:count] @ self._some
            self._sampled = np.concatenate([self._sampled, more])
        return self._sampled[:count]

    def _scores(self, count: int) -> Iterator[tuple[int, _Singles]]:
        """Project all spectra on so many components, some columns after others.

        The array is used again. Nothing is kept: to write and read it takes a tenth as long as to
        project, and few blocks are rounded with a second step.
        """
        made = np.empty((count, 0), np.float32)
        for first, tile in self._tiles(TILE):
            if tile.shape[1] != made.shape[1]:
                made = np.empty((count, tile.shape[1]), np.float32)
            yield first, np.matmul(self._single[:count], tile, out=made)

    def _quantised(self, whole: int) -> Model:
        step = whole / (1 << STEP_BITS)
        _, count = self._estimated(whole)
        largest = float(np.sqrt(self._power[:1].max(initial=0))) * NARROW / step
        narrow = np.iinfo(np.int16).max
        scores: Rows = room("scores", (count, self.columns), np.int16)
        wide = largest > narrow
        if not wide:
            saved, hits, tops = self._round(step, scores)
            wide = int(tops.max(initial=0)) > narrow
        if wide:
            scores = np.empty((count, self.columns), np.int32)
            saved, hits, tops = self._round(step, scores)
        bits = stored_bits(self._power[:count], step)
        kept, basis = chosen_basis(self._vectors[:count], bits, self.columns, saved, hits)
        first_ones = len(kept) == 0 or kept[-1] == len(kept) - 1
        chosen = scores[: len(kept)] if first_ones else scores[kept]
        return Model(basis, chosen, whole, self._means, tops[kept])

    def _round(self, step: float, scores: Rows) -> tuple[Floats, NDArray[np.int64], NDArray[Any]]:
        """Round scores to whole steps; gives what they save, how many are not 0, the largest."""
        saved, (hits, tops) = np.zeros(len(scores)), np.zeros((2, len(scores)), np.int64)
        scale, add = np.float32(1 / step), np.float32(1 - ROUND_UP)
        round_scores = compile_fit().round_scores[scores.dtype]
        for first, tile in self._scores(len(scores)):
            round_scores(tile, scale, add, first, scores, saved, hits, tops)
        return saved, hits, tops


def stored_bits(power: Floats, step: float) -> Floats:
    """Give the bits that the elements of basis vectors are stored with.

    Parameters
    ----------
    power : ndarray (components,)
        Mean squares of the scores, counts².
    step : float
        counts.
    """
    spread = np.sqrt(power) / step
    bits: Floats = np.ceil(np.log2(np.maximum(spread, 1e-3))) + SPARE_BITS
    return np.clip(bits, 4, BASIS_BITS)


def chosen_basis(
    vectors: Floats, bits: Floats, columns: int, saved: Floats, hits: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Choose the components that are worth their place, and round their basis vectors.

    Parameters
    ----------
    vectors : ndarray (components, rows)
    bits : ndarray (components,)
        As of ``stored_bits``.
    columns : int
    saved, hits : ndarray (components,)
        The squared error that scores save, in steps, and how many of them are not 0.

    Returns
    -------
    kept : ndarray
        Numbers of the components.
    basis : ndarray of int32 (kept, rows)
    """
    rare = np.log2(np.maximum(columns / np.maximum(hits, 1), 1))
    cost = CODED_BITS * bits * vectors.shape[1] + hits * (2 + rare)
    kept = np.flatnonzero((hits > 0) & (saved > WORTH * cost))
    one = 1 << BASIS_BITS
    units = (2.0 ** (BASIS_BITS - bits[kept]))[:, None]
    basis = np.rint(vectors[kept] * one / units) * units
    return kept, np.clip(basis, -one, one - units).astype(np.int32)


def guessed_step(power: Floats, columns: int, size: float) -> float:
    """Guess the logarithm (to base 2) of the step that leaves so many bytes.

    A score costs about log2 (3 spread / step) bits.
    """
    spread = 3.0 * np.sqrt(power) * (1 << STEP_BITS)
    low, high = 0.0, float(np.log2(LARGEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        bits = columns * np.log2(np.maximum(spread / 2**middle, 1.0)).sum()
        low, high = (middle, high) if bits > 8 * size else (low, middle)
    return high


def _whole(step: float) -> int:
    """Give a step in whole 1/16 counts of its logarithm."""
    return max(1, round(float(np.exp2(step))))
