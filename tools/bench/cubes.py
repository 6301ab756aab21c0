"""The cubes that compression is measured on, their noise, and how far a decoded cube is off.

Real cubes where the folder of real data is there, each as it is, and mosaics of all of them; else
cubes of the simulated scene. Knows NumPy, the reader and the simulated camera; no codec.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import swath
from bench.data import Geometry, Recording

ROOT = Path(__file__).resolve().parents[2]
#: Lines of a mosaic at least, so that every scene is met in several blocks.
MOSAIC_LINES = 1024
#: Strips of cubes side by side in the mosaics.
MOSAIC_STRIPS = (1, 2)
#: Lines measured at a time: what float64 copies of are small beside the cube.
STRIPE = 64

Pixels = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Cube:
    """An integer cube in memory.

    Attributes
    ----------
    name : str
    pixels : ndarray of an integer type, (lines, bands, samples)
        C-contiguous.
    ignore : int or None
        ``data ignore value``.
    """

    name: str
    pixels: Pixels
    ignore: int | None = None

    @property
    def nbytes(self) -> int:
        """Raw bytes, of all bands: what every ratio is formed with."""
        return self.pixels.nbytes

    @property
    def shape_text(self) -> str:
        """Lines × samples × bands."""
        lines, bands, samples = self.pixels.shape
        return f"{lines} × {samples} × {bands}"

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Bands that are not one value throughout: (bands,)."""
        low, high = self.pixels.min((0, 2)), self.pixels.max((0, 2))
        return np.asarray(low != high)

    @cached_property
    def span(self) -> int:
        """Largest less least value of the live bands, but for ignored ones: peak of the PSNR."""
        some = self.pixels[:, self.live]
        some = some if self.ignore is None else some[some != self.ignore]
        return int(some.max()) - int(some.min())

    @cached_property
    def sigma(self) -> int:
        """Noise of the cube, counts, rounded, 1 at the least; see `noise`."""
        return max(1, round(float(np.median(noise(self)))))


def noise(cube: Cube) -> NDArray[np.float64]:
    """Estimate the noise of each live band: what linear regression on all others leaves.

    Bioucas-Dias & Nascimento, Hyperspectral subspace identification, IEEE TGRS 46 (8), 2008
    (HySime). The variance of the residual is the reciprocal of a diagonal element of the inverse
    covariance; n / (n − bands) makes up for the coefficients that were fitted.

    Returns
    -------
    ndarray of float64, (live bands,)
        Standard deviations, counts.

    Raises
    ------
    ValueError
        When there are not twice as many spectra as bands.
    """
    spectra = cube.pixels[:, cube.live].transpose(0, 2, 1).reshape(-1, int(cube.live.sum()))
    if cube.ignore is not None:
        spectra = spectra[~np.any(spectra == cube.ignore, axis=1)]
    count, bands = spectra.shape
    if count < 2 * bands:
        raise ValueError(f"{cube.name}: found {count} spectra of {bands} bands, allowed are twice")
    mean = spectra.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((bands, bands))
    for at in range(0, count, 1 << 14):
        part = spectra[at : at + (1 << 14)] - mean
        scatter += part.T @ part
    left = 1.0 / np.diag(np.linalg.inv(scatter))
    return np.sqrt(np.maximum(left, 0.0) / (count - bands))


@dataclass(frozen=True)
class Quality:
    """How far a decoded cube is from the original, over the live bands.

    Attributes
    ----------
    max_error : int
        counts; over all bands, dead and ignored pixels included.
    rmse : float
        counts.
    psnr : float
        dB; the peak is the cube's own span. Infinite when nothing is off.
    angle : float
        Mean angle between spectra and decoded spectra, degrees; ignored pixels count as 0 in both.
    """

    max_error: int
    rmse: float
    psnr: float
    angle: float


def quality(cube: Cube, decoded: Pixels) -> Quality:
    """Measure every pixel of a decoded cube.

    Raises
    ------
    ValueError
        When the decoded cube has another shape.
    """
    if decoded.shape != cube.pixels.shape:
        raise ValueError(f"{cube.name}: found {decoded.shape} decoded, not {cube.pixels.shape}")
    worst, squares, values, angles, spectra = 0, 0.0, 0, 0.0, 0
    for at in range(0, len(decoded), STRIPE):
        ours, theirs = cube.pixels[at : at + STRIPE], decoded[at : at + STRIPE]
        error = theirs.astype(np.int64) - ours
        worst = max(worst, int(np.abs(error).max()))
        first = ours[:, cube.live].astype(np.float64)
        second = theirs[:, cube.live].astype(np.float64)
        if cube.ignore is not None:
            ignored = first == cube.ignore
            values -= int(ignored.sum())
            first[ignored] = second[ignored] = 0.0
        squares += float(((second - first) ** 2).sum())
        values += first.size
        some = spectral_angles(first, second)
        angles += float(some.sum())
        spectra += some.size
    rmse = float(np.sqrt(squares / max(values, 1)))
    psnr = float(20 * np.log10(cube.span / rmse)) if rmse else float("inf")
    return Quality(worst, rmse, psnr, float(np.degrees(angles / max(spectra, 1))))


def spectral_angles(first: Pixels, second: Pixels) -> NDArray[np.float64]:
    """Give the angles between spectra (axis 1), rad; a spectrum of zeros in ``first`` has none.

    Kahan's form, which keeps its digits where the cosine is next to 1.
    """
    size = np.linalg.norm(first, axis=1, keepdims=True)
    other = np.linalg.norm(second, axis=1, keepdims=True)
    one = np.divide(first, size, out=np.zeros_like(first), where=size > 0)
    two = np.divide(second, other, out=np.zeros_like(second), where=other > 0)
    angle = 2 * np.arctan2(np.linalg.norm(one - two, axis=1), np.linalg.norm(one + two, axis=1))
    return np.asarray(angle[size[:, 0] > 0])


def real_folder() -> Path | None:
    """Find the real cubes, or None where this machine has none."""
    given = os.environ.get("SWATH_REAL_DATA")
    folder = (Path(given) if given else ROOT.parent / "shared" / "data") / "cubes"
    return folder if folder.is_dir() else None


def real_cubes(folder: Path) -> list[Cube]:
    """Read every cube of a folder that has integer pixels."""
    found = []
    for path in sorted(folder.glob("*.hdr")):
        source = swath.open(path)
        raw = np.asarray(source.raw)
        if raw.dtype.kind not in "iu" or raw.dtype.itemsize > 2:
            continue
        given = source.header.get("data ignore value")
        ignore = None if given is None else int(float(str(given)))
        pixels = np.ascontiguousarray(raw.transpose(0, 2, 1).astype(raw.dtype.newbyteorder("=")))
        found.append(Cube(path.stem, pixels, ignore))
    return found


def mosaic(cubes: Sequence[Cube], strips: int, lines: int = MOSAIC_LINES) -> Cube:
    """Put all cubes below one another in turn, in one or more strips side by side.

    A strip is as wide as the narrowest cube and has at least ``lines`` lines. It holds the first
    bands of each cube that are not dead, as many as the cube with the fewest has. Every second
    turn takes the last samples of each cube, turned by 180°, and every further strip begins with
    the cube two further on: with the five real cubes no block of 128 lines holds the same spectrum
    twice, unless a cube does. Every second strip is mirrored: what was in the one before it comes
    back in it further down, and as the same runs of values, which no scan holds, a codec with a
    window of many lines would code it once.
    """
    bands = min(int(cube.live.sum()) for cube in cubes)
    samples = min(cube.pixels.shape[2] for cube in cubes)
    made = [_strip(cubes, bands, samples, lines, first=2 * k) for k in range(strips)]
    made = [strip[:, :, ::-1] if k % 2 else strip for k, strip in enumerate(made)]
    count = min(map(len, made))
    whole = np.concatenate([strip[:count] for strip in made], axis=2)
    dtype = np.int16 if int(whole.min()) < 0 else np.uint16
    # as lines come from a camera; what indexing and joining give lies otherwise in memory
    return Cube(f"mosaic, {strips * samples} samples", np.ascontiguousarray(whole, dtype))


def _strip(cubes: Sequence[Cube], bands: int, samples: int, lines: int, first: int) -> Pixels:
    parts: list[Pixels] = []
    number = first
    while sum(map(len, parts)) < lines:
        turn, at = divmod(number, len(cubes))
        cube = cubes[at]
        part = cube.pixels[:, np.flatnonzero(cube.live)[:bands]]
        if turn % 2:
            part = part[::-1, :, ::-1]
        parts.append(part[:, :, :samples].astype(np.int32))
        number += 1
    return np.concatenate(parts)


def copies(cube: Cube) -> float:
    """Give the share of spectra that are the same as one before, in per cent."""
    spectra = np.ascontiguousarray(cube.pixels.transpose(0, 2, 1)).reshape(-1, len(cube.live))
    rows = spectra.view(np.dtype((np.void, spectra.strides[0])))
    return 100.0 * (1.0 - np.unique(rows).size / rows.size)


def simulated(geometry: Geometry, lines: int) -> Cube:
    """Make a cube of the simulated scene."""
    return Cube(f"simulated, {geometry}", Recording(geometry, lines).lines)


def measured_cubes(quick: bool) -> tuple[list[Cube], str]:
    """Give all that is measured, and why it is not the real ones, if it is not."""
    folder = None if quick else real_folder()
    if folder is not None and (cubes := real_cubes(folder)):
        return [*cubes, *(mosaic(cubes, strips) for strips in MOSAIC_STRIPS)], ""
    why = "a trial" if quick else "no real cubes here: set SWATH_REAL_DATA"
    if quick:
        some = [simulated(Geometry(48, 20), 64), simulated(Geometry(64, 24), 64)]
        return [some[0], mosaic(some, 1, 192)], why
    some = [simulated(Geometry(128, 224), 256), simulated(Geometry(320, 112), 256)]
    return [*some, mosaic(some, 1)], why
