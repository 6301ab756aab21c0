"""Bad pixels, found from a black and a white: which pixels of a line are not to be relied upon.

Every criterion compares a pixel with its neighbours by medians, so that bad pixels do not hide
themselves, and with the noise where standard deviations are known. There is no norm that draws the
line: EMVA 1288 (release 4.0, section 8.4) leaves the thresholds to the application. The factors of
2 for noise and 1/2 for response are those usual for focal plane arrays; outliers are told by the
median absolute deviation (Leys et al., J. Exp. Soc. Psychol. 49 (2013) 764–766). Knows NumPy only;
maps and files are in :mod:`pipeline.bad_pixel_map`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

#: A dark beyond its neighbours by so many robust standard deviations of all darks is hot.
HOT_SIGMAS: Final = 10.0
#: … and by so many times the noise of one line, where that is known: less does no harm.
HOT_NOISE: Final = 3.0
#: A noise of so many times what is expected is too much.
NOISY: Final = 2.0
#: … and so many standard errors of a standard deviation of N lines beyond it.
NOISY_ERRORS: Final = 6.0
#: A variance of so many times the usual one says nothing about shot noise.
FAR_TOO_NOISY: Final = 10.0
#: A noise below this part of the others' is none.
STILL: Final = 0.1
#: Below these parts of its neighbours' response a pixel has low response, or none.
LOW: Final = 0.5
NONE: Final = 0.05
#: Samples to each side that are neighbours in the same band.
REACH: Final = 8
#: A response is judged where the neighbours' signal is so many times the noise of the dark.
LEAST_SIGNAL: Final = 10.0
#: Makes a median absolute deviation a standard deviation of normal values.
_MAD: Final = 1.4826


class Kind(enum.IntEnum):
    """What is wrong with a pixel; the worst counts. Values are those of the map's classes."""

    GOOD = 0
    STUCK = 1
    DEAD = 2
    HOT = 3
    NOISY = 4
    LOW_RESPONSE = 5
    LISTED = 6  # in a map that does not say what is wrong
    NOT_EXAMINED = 7  # outside the part of the sensor that was looked at

    @property
    def text(self) -> str:
        """The name in headers and on screens."""
        return self.name.lower().replace("_", " ")


#: Kinds that make a pixel bad, the worst first.
BAD: Final = (Kind.STUCK, Kind.DEAD, Kind.HOT, Kind.NOISY, Kind.LOW_RESPONSE, Kind.LISTED)


@dataclass(frozen=True)
class Statistics:
    """Mean and noise of some lines of one view.

    Attributes
    ----------
    mean : array_like, (bands, samples)
        DN.
    std : array_like, (bands, samples), optional
        Standard deviation of a line, DN.
    lines : int
        Lines averaged; 0: unknown.
    """

    mean: ArrayLike
    std: ArrayLike | None = None
    lines: int = 0


@dataclass(frozen=True)
class Findings:
    """What :func:`find` found.

    Attributes
    ----------
    kinds : ndarray of uint8, (bands, samples)
        Values of :class:`Kind`.
    not_brighter : int
        Pixels whose white is not brighter than their dark, bad ones included.
    """

    kinds: NDArray[np.uint8]
    not_brighter: int = 0

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Where a pixel is bad, (bands, samples)."""
        return is_bad(self.kinds)


def is_bad(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which kinds make a pixel bad."""
    bad: NDArray[np.bool_] = (kinds != Kind.GOOD) & (kinds != Kind.NOT_EXAMINED)
    return bad


def count_kinds(kinds: NDArray[np.uint8]) -> dict[str, int]:
    """Count the bad pixels by the name of their kind; kinds without any are left out."""
    counts = np.bincount(kinds.reshape(-1), minlength=len(Kind))
    return {kind.text: int(counts[kind]) for kind in BAD if counts[kind]}


def find(
    black: Statistics,
    white: Statistics | None = None,
    white_black: Statistics | None = None,
    *,
    saturation_level: int = 0,
    unlit: slice | None = None,
) -> Findings:
    """Find the bad pixels of a line.

    A *dead* pixel responds less than 5 % as its neighbours do, or gives no number; a *stuck* one
    does not respond either, and has no noise or stands where no dark does; a *hot* one has a dark
    far above the others; a *noisy* one more than twice the noise that is expected (of the dark: the
    median of its band; of the white: that and the shot noise of its signal); one of *low response*
    less than half of its neighbours'. The factors are the constants of this module.

    Parameters
    ----------
    black, white, white_black : Statistics
        ``white_black`` is the dark taken with the white; ``black`` where it is left out. Without a
        white there are no dead pixels nor low responses, and only the dark tells of stuck ones.
    saturation_level : int
        DN; a dark at or above it is stuck. 0: unknown.
    unlit : slice, optional
        Samples that no light reaches: their response is not judged.
    """
    dark = np.asarray(black.mean, np.float64)
    noise = None if black.std is None else np.asarray(black.std, np.float64)
    kinds = np.zeros(dark.shape, np.uint8)
    known = np.isfinite(dark)
    residual = _beside_others(dark)
    spread = _deviation(residual[known])
    limit = HOT_SIGMAS * spread
    if noise is not None:
        limit = max(limit, HOT_NOISE * float(np.nanmedian(noise)))
    outlying = np.abs(residual) > limit
    still = np.zeros(dark.shape, np.bool_)
    if noise is not None:
        still = noise <= STILL * np.nanmedian(noise)
    full = (dark >= saturation_level) if saturation_level > 0 else np.zeros(dark.shape, np.bool_)

    silent, low, shaky = (np.zeros(dark.shape, np.bool_) for _ in range(3))
    not_brighter = 0
    if white is not None:
        own = black if white_black is None else white_black
        signal = np.asarray(white.mean, np.float64) - np.asarray(own.mean, np.float64)
        known &= np.isfinite(signal)
        not_brighter = int(np.count_nonzero(~(signal > 0)))
        usual = np.zeros(dark.shape)
        lit = np.ones(dark.shape[1], np.bool_)
        if unlit is not None:
            lit[unlit] = False
        usual[:, lit] = _along_the_line(signal[:, lit])
        floor = spread if noise is None else float(np.nanmedian(noise))
        judged = usual >= LEAST_SIGNAL * max(floor, np.finfo(np.float64).tiny)
        silent, low = judged & (signal < NONE * usual), judged & (signal < LOW * usual)
        if white.std is not None and own.std is not None:
            bright = np.asarray(white.std, np.float64)
            shaky |= _noisy_white(bright, np.asarray(own.std, np.float64), signal, white.lines)
            still &= bright <= STILL * np.nanmedian(bright)
    if noise is not None:
        usual = np.nanmedian(noise, axis=1, keepdims=True)
        shaky |= (noise > _too_noisy(black.lines) * usual) & (usual > 0)

    # The worst last: it stays.
    stands = still & (outlying if white is None else outlying | silent)
    for kind, where in (
        (Kind.LOW_RESPONSE, low),
        (Kind.NOISY, shaky),
        (Kind.HOT, residual > limit),
        (Kind.DEAD, silent | ~known),
        (Kind.STUCK, stands | full | (silent & outlying)),
    ):
        kinds[where] = kind
    return Findings(kinds, not_brighter)


def _deviation(values: Float64) -> float:
    """Give the standard deviation of normal values, outliers left aside."""
    return float(_MAD * np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _beside_others(dark: Float64) -> Float64:
    """Give the dark without what its band and its column have in common."""
    with np.errstate(invalid="ignore"):
        rest = dark - _median(dark, axis=1)
        return rest - _median(rest, axis=0)


def _median(values: Float64, axis: int) -> Float64:
    """Give medians along an axis, NaN left aside; 0 where there is nothing else."""
    unknown = ~np.isfinite(values)
    if not unknown.any():
        return np.asarray(np.median(values, axis=axis, keepdims=True))
    clean = np.where(unknown, np.nan, values)
    clean = np.where(unknown.all(axis=axis, keepdims=True), 0.0, clean)
    return np.asarray(np.nanmedian(clean, axis=axis, keepdims=True))


def _along_the_line(signal: Float64) -> Float64:
    """Give the median signal of each pixel's neighbours in the same band."""
    clean = np.where(np.isfinite(signal), signal, 0.0)
    reach = min(REACH, clean.shape[1] - 1)
    padded = np.pad(clean, ((0, 0), (reach, reach)), mode="reflect")
    windows = sliding_window_view(padded, 2 * reach + 1, axis=1)
    # band by band: the windows of all of them would take 17 times the memory
    return np.stack([np.median(band, axis=1) for band in windows])


def _too_noisy(lines: int) -> float:
    """Give how many times the expected noise is too much, seen in so many lines.

    The standard deviation of N normal values has a relative standard error of 1 / √(2 (N − 1)).
    """
    if lines < 2:
        return NOISY
    return float(max(NOISY, 1.0 + NOISY_ERRORS / np.sqrt(2.0 * (lines - 1))))


def _noisy_white(bright: Float64, dark: Float64, signal: Float64, lines: int) -> NDArray[np.bool_]:
    """Tell which pixels of a white are noisier than read noise and shot noise make them.

    Shot noise has a variance of (counts an electron) · signal; the counts an electron come from
    all pixels together, as in the photon transfer method (EMVA 1288, section 6.6).
    """
    lit = np.isfinite(signal) & (signal > 0)
    if not lit.any():
        return np.zeros(signal.shape, np.bool_)
    gain = shot_gain(bright, dark, signal)
    usual = np.nanmedian(np.square(dark), axis=1, keepdims=True)
    expected = np.sqrt(usual + gain * np.where(lit, signal, 0.0))
    return np.asarray((bright > _too_noisy(lines) * expected) & (expected > 0))


def shot_gain(bright: ArrayLike, dark: ArrayLike, signal: ArrayLike) -> float:
    """Give the counts an electron makes, from the noise of a white and of its dark.

    (Variance of the white − of the dark) / signal, over all lit pixels together but those that are
    far too noisy: the photon transfer method (Janesick; EMVA 1288, release 4.0, section 6.6). Not
    below 0.

    Parameters
    ----------
    bright, dark : array_like, (bands, samples)
        Standard deviations of a line, DN.
    signal : array_like, (bands, samples)
        White − its dark, DN.
    """
    above = np.square(np.asarray(bright, np.float64)) - np.square(np.asarray(dark, np.float64))
    light = np.asarray(signal, np.float64)
    lit = np.isfinite(light) & np.isfinite(above) & (light > 0)
    if not lit.any():
        return 0.0
    # where there is little light the read noise hides what is looked for
    lit &= light >= np.median(light[lit])
    above, light = above[lit], light[lit]
    # The median tells what is too noisy; by itself it is too small where lines are few, as
    # variances scatter to one side.
    usual = above <= FAR_TOO_NOISY * max(float(np.median(above / light)), 0.0) * light
    if not usual.any():
        return 0.0
    return max(0.0, float(above[usual].sum() / light[usual].sum()))


def replacements(
    bad: NDArray[np.bool_], good: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find for each bad pixel the nearest good bands at its sample, and the weight of the upper.

    Its value is that of the band below, plus weight · (above − below): linear in the band number.

    Parameters
    ----------
    bad, good : ndarray of bool, (bands, samples)
        A pixel may be neither: it has no value, and is not replaced.

    Returns
    -------
    fix : ndarray of int32, (n, 4)
        A row for each bad pixel: band, sample, and the nearest good bands below and above, both the
        same at the ends of the spectrum, −1 when there is none.
    weight : ndarray of float32, (n,)
        Of the band above.
    """
    bands = bad.shape[0]
    index = np.arange(bands)[:, None]
    below = np.maximum.accumulate(np.where(good, index, -1), axis=0)
    above = np.minimum.accumulate(np.where(good, index, bands)[::-1], axis=0)[::-1]
    band, sample = np.nonzero(bad)
    low, high = below[band, sample], above[band, sample]
    low, high = (
        np.where(low < 0, np.where(high < bands, high, -1), low),
        np.where(high >= bands, low, high),
    )
    weight = np.zeros(len(band), np.float32)
    between = low != high
    weight[between] = ((band - low)[between] / (high - low)[between]).astype(np.float32)
    return np.stack([band, sample, low, high], axis=1).astype(np.int32), weight
