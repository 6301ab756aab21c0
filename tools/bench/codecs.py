"""Other codecs on the same cubes, through imagecodecs: bytes and decoded pixels of whole cubes.

Each is given what it does best with: codecs of pictures get one band of all lines at a time, as
uint16 from 0 on; SZ3 and SPERR the cube in three dimensions as float32, with a bound that uses the
rounding to integers (d + 0.49 holds d); blosc2 one band, or all spectra.
Bands of one value cost them nothing but their mark. Counted are the codes themselves and what a
decoder must know beside them: the least value and the mark of each band, no sizes of codes.
Nothing of them is copied here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from bench.cubes import Cube, Pixels, Quality, quality

#: What the bound of a codec of real numbers may be above d, when its pixels are rounded.
ROUNDING = 0.49
#: Bytes of the least value, and of that of a band of one value.
LEAST_BYTES = 2
#: A size is searched until it is this close above the ratio asked for.
CLOSE = 1.001
SEARCH_STEPS = 14
JXL_EFFORTS = (3, 5, 7)


@dataclass(frozen=True)
class Outcome:
    """One cube through one codec.

    Attributes
    ----------
    codec : str
        With what was set.
    ratio : float
        Raw bytes for each byte.
    quality : Quality
    encode, decode : float
        GB/s of raw input, once, in as many threads as the run has.
    """

    codec: str
    ratio: float
    quality: Quality
    encode: float
    decode: float


@dataclass(frozen=True)
class Codec:
    """How one codec is called.

    Attributes
    ----------
    name : str
    takes : {"band", "spectra", "volume"}
        What it is called with: each band, uint16; all spectra, uint16; the cube, float32.
    encode : callable
        Takes (lines, samples), (lines, samples, bands) or (bands, lines, samples), and the setting.
    decode : callable
        Takes the code and what was coded, for its shape and type alone.
    setting : str
        What the setting is, to be shown.
    lower, upper : float
        Settings between which a ratio is searched; ``lower`` gives the larger ratio.
    """

    name: str
    takes: str
    encode: Callable[[Pixels, float], bytes]
    decode: Callable[[bytes, Pixels], Pixels]
    setting: str = ""
    lower: float = 0.0
    upper: float = 0.0


class Planes:
    """A cube as other codecs are given it.

    Attributes
    ----------
    cube : Cube
    least : int
        Subtracted from the live bands.
    side : int
        Bytes of what a decoder must know: marks of the bands, their values where they are dead.
    """

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._bands = cube.pixels[:, cube.live].transpose(1, 0, 2)
        self.least = int(self._bands.min())
        dead = int((~cube.live).sum())
        self.side = LEAST_BYTES + (-(-len(cube.live) // 8) if dead else 0) + LEAST_BYTES * dead

    def given(self, codec: Codec) -> list[Pixels]:
        """Make what a codec is called with."""
        if codec.takes == "volume":
            return [np.ascontiguousarray(self._bands, np.float32)]
        counts = [(band.astype(np.int32) - self.least).astype(np.uint16) for band in self._bands]
        return [np.stack(counts, axis=-1)] if codec.takes == "spectra" else counts

    def restored(self, codec: Codec, decoded: Sequence[Pixels]) -> Pixels:
        """Make a cube of what a codec gave back, rounded and within its type."""
        cube = self.cube.pixels
        out = np.empty_like(cube)
        out[:, ~self.cube.live] = cube[:1, ~self.cube.live, :1]
        limits = np.iinfo(cube.dtype)
        planes: Any = decoded
        if codec.takes != "band":
            planes = decoded[0] if codec.takes == "volume" else np.moveaxis(decoded[0], -1, 0)
        for band, plane in zip(np.flatnonzero(self.cube.live), planes, strict=True):
            if codec.takes == "volume":
                counts = np.rint(plane)
            else:
                counts = plane.astype(np.int32) + self.least
            out[:, band] = np.clip(counts, limits.min, limits.max)
        return out


def run(codec: Codec, cube: Cube, setting: float, threads: int) -> Outcome:
    """Code and decode a cube, and measure what came of it."""
    planes = Planes(cube)
    given = planes.given(codec)
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        codes = list(pool.map(lambda part: codec.encode(part, setting), given))
        coded = time.perf_counter()
        decoded = list(pool.map(codec.decode, codes, given))
        ended = time.perf_counter()
    size = total(codes, planes)
    return Outcome(
        f"{codec.name}{f', {codec.setting} {setting:.4g}' if codec.setting else ''}",
        cube.nbytes / size,
        quality(cube, planes.restored(codec, decoded)),
        cube.nbytes / (coded - began) / 1e9,
        cube.nbytes / (ended - coded) / 1e9,
    )


def total(codes: Sequence[bytes], planes: Planes) -> int:
    """Count the bytes of codes and of all that their decoder must know."""
    return sum(map(len, codes)) + planes.side


def at_ratio(codec: Codec, cube: Cube, ratio: float, threads: int) -> Outcome:
    """Search the setting at which a cube gets just above a ratio, and run that.

    The logarithm of the ratio is nearly linear in what is set: false position, between halvings.
    """
    planes = Planes(cube)
    given = planes.given(codec)

    def reached(setting: float) -> float:
        with ThreadPoolExecutor(threads) as pool:
            codes = pool.map(lambda part: codec.encode(part, setting), given)
            return math.log(cube.nbytes / total(list(codes), planes) / ratio)

    # ``more`` compresses enough, ``less`` does not
    more, less = codec.lower, codec.upper
    above, below = reached(more), reached(less)
    for step in range(SEARCH_STEPS):
        if above <= math.log(CLOSE) or below >= 0:
            break
        share = 0.5 if step % 3 == 2 else above / (above - below)
        setting = more + (less - more) * min(max(share, 0.02), 0.98)
        value = reached(setting)
        if value >= 0:
            more, above = setting, value
        else:
            less, below = setting, value
    return run(codec, cube, more, threads)


def jpegls(name: str = "JPEG-LS", setting: str = "") -> Codec:
    """CharLS; the setting is the largest error, 0: lossless."""
    return Codec(
        name,
        "band",
        lambda band, near: imagecodecs.jpegls_encode(band, level=round(near)),
        lambda code, band: imagecodecs.jpegls_decode(code),
        setting,
    )


def jpeg2000(cube: Cube) -> Codec:
    """OpenJPEG with loss; the setting is a PSNR, the same for all bands.

    Equal error in each band is best for the error of all.
    """
    bits = max((int(cube.pixels.max()) - int(cube.pixels[:, cube.live].min())).bit_length(), 1)
    return Codec(
        "JPEG 2000",
        "band",
        lambda band, level: imagecodecs.jpeg2k_encode(
            band, level=level, reversible=False, codecformat="J2K", bitspersample=bits
        ),
        lambda code, band: imagecodecs.jpeg2k_decode(code),
        "dB",
        10.0,
        120.0,
    )


def jpeg_xl(effort: int) -> Codec:
    """Libjxl without loss."""
    return Codec(
        f"JPEG XL, effort {effort}",
        "band",
        lambda band, setting: imagecodecs.jpegxl_encode(band, lossless=True, effort=effort),
        lambda code, band: imagecodecs.jpegxl_decode(code),
    )


def _volume_decoder(decode: Callable[..., Any]) -> Callable[[bytes, Pixels], Pixels]:
    return lambda code, volume: np.asarray(decode(code)).reshape(volume.shape)


LOSSLESS_JPEGLS = jpegls()
LOSSLESS_JPEG2000 = Codec(
    "JPEG 2000",
    "band",
    lambda band, setting: imagecodecs.jpeg2k_encode(
        band, level=0, reversible=True, codecformat="J2K", bitspersample=_bits(band)
    ),
    lambda code, band: imagecodecs.jpeg2k_decode(code),
)
BLOSC2 = tuple(
    Codec(
        f"blosc2, bitshuffle and zstd 9, {order}",
        takes,
        lambda counts, setting: imagecodecs.blosc2_encode(
            counts, level=9, compressor="zstd", shuffle="bitshuffle"
        ),
        lambda code, counts: np.frombuffer(imagecodecs.blosc2_decode(code), np.uint16).reshape(
            counts.shape
        ),
    )
    for order, takes in (("by band", "band"), ("by spectrum", "spectra"))
)
JPEG_XL = Codec(
    "JPEG XL",
    "band",
    lambda band, distance: imagecodecs.jpegxl_encode(band, distance=distance, effort=5),
    lambda code, band: imagecodecs.jpegxl_decode(code),
    "distance",
    25.0,
    0.02,
)
NEAR = jpegls("JPEG-LS near", "d")
SZ3 = Codec(
    "SZ3, 3-D",
    "volume",
    lambda volume, bound: imagecodecs.sz3_encode(volume, mode="abs", abs=bound),
    lambda code, volume: np.asarray(imagecodecs.sz3_decode(code, volume.shape, volume.dtype)),
    "bound",
    2000.0,
    0.4,
)
SPERR = Codec(
    "SPERR, 3-D",
    "volume",
    lambda volume, bound: imagecodecs.sperr_encode(volume, bound, mode="pwe"),
    _volume_decoder(imagecodecs.sperr_decode),
    "bound",
)
SPERR_RATE = Codec(
    "SPERR, 3-D",
    "volume",
    lambda volume, bits: imagecodecs.sperr_encode(volume, bits, mode="bpp"),
    _volume_decoder(imagecodecs.sperr_decode),
    "bits",
    0.02,
    16.0,
)


def _bits(band: Pixels) -> int:
    return max(int(band.max()).bit_length(), 1)


def lossless(cube: Cube, threads: int) -> Iterator[Outcome]:
    """Run every codec that can be lossless."""
    for codec in (
        LOSSLESS_JPEGLS,
        *map(jpeg_xl, JXL_EFFORTS),
        LOSSLESS_JPEG2000,
        *BLOSC2,
    ):
        yield run(codec, cube, 0, threads)
    yield run(SZ3, cube, ROUNDING, threads)


def bounded(cube: Cube, d: int, threads: int) -> Iterator[Outcome]:
    """Run every codec that takes a bound, at one that holds ``d`` in integers."""
    yield run(NEAR, cube, d, threads)
    yield run(SZ3, cube, d + ROUNDING, threads)
    for bound in (d, d + ROUNDING):
        yield run(SPERR, cube, bound, threads)


def at_rate(cube: Cube, ratio: float, threads: int, *, every: bool = True) -> Iterator[Outcome]:
    """Run every codec that takes a size or can be searched for one, or the two best known."""
    for codec in (jpeg2000(cube), SPERR_RATE, *((SZ3, JPEG_XL) if every else ())):
        yield at_ratio(codec, cube, ratio, threads)
