"""How far one cube is from another: errors and spectral angles, block by block.

Compares stored counts, decoded where they are coded; no read procedures. Knows the reader and
NumPy.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.container.cube import Cube
from pipeline.container.export import stored_counts
from pipeline.container.in_order import default_threads, in_order
from pipeline.container.reader import Container
from pipeline.errors import ContainerError

#: Values of a block that is compared at once.
_BLOCK_VALUES: Final = 1 << 21


@dataclass(frozen=True)
class Errors:
    """Errors over one band, or all.

    Attributes
    ----------
    max_error, rmse : float
        Counts. A value that is NaN in one cube only is an infinite error.
    psnr : float
        dB: 20 · log10(range / rmse), range = largest − least value of the first cube in that band,
        or in all. Infinite without an error, NaN where the first cube is constant and there is one.
    """

    max_error: float
    rmse: float
    psnr: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes
    ----------
    shape : tuple of int
        ``(lines, samples, bands)``.
    differing : int
        Values that are not equal.
    total : Errors
        Over all values.
    bands : list of Errors
    angle_mean, angle_max : float
        Between the spectra of each pixel, rad; one that is zero in one cube only is at π/2 from
        the other's, pixels that are zero in both or have a NaN do not count.
    """

    shape: tuple[int, int, int]
    differing: int
    total: Errors
    bands: list[Errors]
    angle_mean: float
    angle_max: float


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare two cubes of the same shape, whatever form they are stored in.

    Raises
    ------
    ContainerError
        When one cannot be read, their shapes differ, or they hold complex values.
    """
    with Container(first) as a, Container(second) as b:
        cubes = stored_counts(a), stored_counts(b)
        for name, mine, other in zip(
            ("lines", "samples", "bands"), cubes[0].shape, cubes[1].shape, strict=True
        ):
            if mine != other:
                raise ContainerError(
                    f"{b.path}: {name}: found {other}, allowed are {mine} as in {a.path}"
                )
        for cube, source in zip(cubes, (a, b), strict=True):
            if cube.dtype.kind == "c":
                raise ContainerError(f"{source.path}: found complex values, allowed are real ones")
        threads = default_threads()
        return _compare(*cubes, threads, progress or (lambda done, total: None))


def _compare(
    first: Cube, second: Cube, threads: int, progress: Callable[[int, int], None]
) -> Comparison:
    lines, samples, bands = first.shape
    step = max(1, _BLOCK_VALUES // (samples * bands))
    boxes = [
        first.whole._replace(lines=(start, min(lines, start + step)))
        for start in range(0, lines, step)
    ]
    sums = _Sums(bands)
    # Both are read in order by this thread, so that no block of a coded cube is decoded twice.
    tasks = (functools.partial(_Sums.of, first.read(box), second.read(box)) for box in boxes)
    for box, more in zip(boxes, in_order(tasks, threads), strict=True):
        sums.add(more)
        progress(box.lines[1], lines)
    return sums.result(first.shape)


class _Sums:
    """What is added up from block to block, by band."""

    def __init__(self, bands: int) -> None:
        self._largest = np.zeros(bands)
        self._squares = np.zeros(bands)
        self._counts = np.zeros(bands, np.int64)
        self._low = np.full(bands, np.inf)
        self._high = np.full(bands, -np.inf)
        self._differing = 0
        self._angles = 0.0
        self._spectra = 0
        self._widest = 0.0

    def add(self, other: _Sums) -> None:
        """Add those of another block."""
        self._largest = np.maximum(self._largest, other._largest)
        self._squares += other._squares
        self._counts += other._counts
        self._low = np.minimum(self._low, other._low)
        self._high = np.maximum(self._high, other._high)
        self._differing += other._differing
        self._angles += other._angles
        self._spectra += other._spectra
        self._widest = max(self._widest, other._widest)

    @classmethod
    def of(cls, a: NDArray[Any], b: NDArray[Any]) -> _Sums:
        """Give the sums of a block, ``(lines, samples, bands)`` of both cubes."""
        sums = cls(a.shape[2])
        # Lines, bands, samples: as both lie in memory.
        x, y = (np.ascontiguousarray(part.transpose(0, 2, 1), np.float64) for part in (a, b))
        with np.errstate(all="ignore"):
            error = y - x
            if a.dtype.kind == "f" or b.dtype.kind == "f":
                gone = np.isnan(x), np.isnan(y)
                error[x == y] = 0  # of infinities too
                error[gone[0] ^ gone[1]] = np.inf
                error[gone[0] & gone[1]] = 0
                sums._counts += np.count_nonzero(~(gone[0] & gone[1]), axis=(0, 2))
                finite = np.isfinite(x)
                sums._low = np.where(finite, x, np.inf).min(axis=(0, 2))
                sums._high = np.where(finite, x, -np.inf).max(axis=(0, 2))
            else:
                sums._counts += x.shape[0] * x.shape[2]
                sums._low, sums._high = x.min(axis=(0, 2)), x.max(axis=(0, 2))
            sums._differing = int(np.count_nonzero(error))
            sums._largest = np.maximum(error.max(axis=(0, 2)), -error.min(axis=(0, 2))) + 0.0
            squares = np.square(error, out=error)
            sums._squares = squares.sum(axis=(0, 2))
            sums._add_angles(x, y, squares.sum(axis=1))
        return sums

    def _add_angles(
        self, x: NDArray[np.float64], y: NDArray[np.float64], apart: NDArray[np.float64]
    ) -> None:
        """Add the angles between spectra, from how far their ends are apart (squared).

        chord² = |x/|x| − y/|y||² = (|x − y|² − (|x| − |y|)²) / (|x| |y|), which holds for small
        angles too, where the cosine is 1 to the last digit.
        """
        a, b = (np.sqrt(np.square(part).sum(axis=1)) for part in (x, y))
        zero = a == 0, b == 0
        chord = np.sqrt(np.maximum(apart - np.square(a - b), 0) / (a * b))
        angles = 2 * np.arcsin(np.minimum(chord / 2, 1))
        angles[zero[0] ^ zero[1]] = np.pi / 2
        angles[apart == 0] = 0
        angles = angles[np.isfinite(a + b) & ~(zero[0] & zero[1])]
        self._angles = float(angles.sum())
        self._spectra = angles.size
        self._widest = float(angles.max(initial=0.0))

    def result(self, shape: tuple[int, int, int]) -> Comparison:
        """Give the errors of all that was added."""
        total = _errors(
            self._largest.max(),
            self._squares.sum(),
            self._counts.sum(),
            self._high.max() - self._low.min(),
        )
        ranges = self._high - self._low
        rows = zip(self._largest, self._squares, self._counts, ranges, strict=True)
        return Comparison(
            shape,
            self._differing,
            total,
            [_errors(*row) for row in rows],
            self._angles / max(self._spectra, 1),
            self._widest,
        )


def _errors(largest: Any, squares: Any, count: Any, value_range: Any) -> Errors:
    rmse = math.sqrt(squares / max(int(count), 1)) if squares < math.inf else math.inf
    if rmse == 0:
        psnr = math.inf
    elif not 0 < value_range < math.inf:
        psnr = math.nan
    elif rmse == math.inf:
        psnr = -math.inf
    else:
        psnr = 20 * math.log10(value_range / rmse)
    return Errors(float(largest), rmse, psnr)
