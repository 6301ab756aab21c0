"""The read procedures of D4.1, 2.6: parsed, checked and laid over a cube in the written order.

``crop``, ``resample``, ``rotate`` in its five forms, ``merge`` and ``microservice:``, as
docs/container.md reads them. Knows cubes and names of microservices; what a microservice does
is in :mod:`pipeline.container.microservices`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.container.cube import Array, Box, Cropped, Cube, Flipped, Merged, Resampled, Turned
from pipeline.errors import ContainerError

#: The five forms of ``rotate``.
ROTATIONS: Final = (
    "clockwise",
    "counterclockwise",
    "180",
    "swap-left-right",
    "swap-up-down",
)
#: An axis that resample or merge makes longer than this is a mistake.
MAX_POINTS: Final = 1 << 24
#: More procedures than this are a mistake, or meant to exhaust the reader.
MAX_PROCEDURES: Final = 100


@dataclass(frozen=True)
class Crop:
    """Inclusive 0-based first and last sample, line and band."""

    samples: tuple[int, int]
    lines: tuple[int, int]
    bands: tuple[int, int]


@dataclass(frozen=True)
class Resample:
    """New numbers of samples, lines and bands."""

    samples: int
    lines: int
    bands: int


@dataclass(frozen=True)
class Rotate:
    """One of :data:`ROTATIONS`."""

    form: str


@dataclass(frozen=True)
class Merge:
    """Other cubes: (path inside the file's folder, offset in samples, offset in lines)."""

    others: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Microservice:
    """A procedure that is registered with the program by name."""

    name: str


Procedure = Crop | Resample | Rotate | Merge | Microservice

_RANGES: Final = re.compile(
    r"\{\s*" + r"\s*,\s*".join([r"([0-9]{1,18})\s*:\s*([0-9]{1,18})"] * 3) + r"\s*\}\Z"
)
_SIZES: Final = re.compile(r"\{\s*" + r"\s*,\s*".join([r"([0-9]{1,18})"] * 3) + r"\s*\}\Z")
_OFFSET: Final = re.compile(r"[+-]?[0-9]{1,18}\Z")
_NAME: Final = re.compile(r"[\w.-]+\Z")


def parse_procedures(items: Sequence[str]) -> list[Procedure]:
    """Read the items of ``read procedures``.

    Raises
    ------
    ContainerError
        Naming the item and what is allowed.
    """
    if len(items) > MAX_PROCEDURES:
        raise ContainerError(
            f"read procedures: found {len(items)} of them, allowed are {MAX_PROCEDURES}"
        )
    return [_parse(item.strip()) for item in items if item.strip()]


def _parse(item: str) -> Procedure:
    kind, _, rest = item.partition(":")
    kind, rest = kind.strip().casefold(), rest.strip()
    if kind == "microservice" and _NAME.match(rest):
        return Microservice(rest)
    if kind == "rotate" and rest.casefold() in ROTATIONS:
        return Rotate(rest.casefold())
    if kind == "crop" and (found := _RANGES.match(rest)):
        numbers = [int(group) for group in found.groups()]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        if all(first <= last for first, last in pairs):
            return Crop(*pairs)
        raise ContainerError(f"read procedures: found {_short(item)}, whose range is reversed")
    if kind == "resample" and (found := _SIZES.match(rest)):
        sizes = [int(group) for group in found.groups()]
        if all(size > 0 for size in sizes):
            return Resample(*sizes)
    if kind == "merge" and rest.startswith("{") and rest.endswith("}"):
        return Merge(tuple(_other(item, part.strip()) for part in rest[1:-1].split(",")))
    raise ContainerError(
        f"read procedures: found {_short(item)}, allowed are microservice:NAME, "
        "crop:{s0:s1, l0:l1, b0:b1}, resample:{samples, lines, bands}, "
        f"rotate:FORM with FORM one of {', '.join(ROTATIONS)}, and merge:{{ID:dx:dy, …}}"
    )


def _other(item: str, part: str) -> tuple[str, int, int]:
    for offsets in (2, 1):  # D4.1 has one or two of them
        name, *numbers = (piece.strip() for piece in part.rsplit(":", offsets))
        if name and len(numbers) == offsets and all(map(_OFFSET.match, numbers)):
            return name, int(numbers[0]), int(numbers[1]) if offsets == 2 else 0
    raise ContainerError(f"read procedures: found {_short(item)}, allowed in merge are ID:dx:dy")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def lay_over(
    cube: Cube,
    procedures: Sequence[Procedure],
    *,
    microservice: Callable[[str, Cube], Cube],
    other: Callable[[str], Cube],
    fill: int | float | None,
) -> Cube:
    """Lay procedures over a cube, in order.

    Parameters
    ----------
    cube : Cube
    procedures : sequence
        As :func:`parse_procedures` gives them.
    microservice : callable
        Lays the microservice of a name over a cube.
    other : callable
        Opens the cube that a ``merge`` names.
    fill : int, float or None
        What fills the gaps of a ``merge`` in integer data; None makes them NaN.

    Raises
    ------
    ContainerError
        When a procedure does not fit the cube it is laid over.
    """
    for procedure in procedures:
        match procedure:
            case Crop():
                cube = _crop(cube, procedure)
            case Resample(samples, lines, bands):
                if cube.dtype.kind == "c":
                    raise ContainerError("read procedures: resample: found complex data")
                _bounded("resample", (lines, samples, bands), cube)
                if fill is not None and cube.dtype.kind in "iu":
                    cube = _without(cube, fill)
                cube = Resampled(cube, (lines, samples, bands))
            case Rotate("clockwise" | "counterclockwise" as form):
                cube = Turned(cube, clockwise=form == "clockwise")
            case Rotate(form):
                cube = Flipped(
                    cube,
                    lines=form in ("180", "swap-up-down"),
                    samples=form in ("180", "swap-left-right"),
                    name=f"rotate:{form}",
                )
            case Merge(others):
                parts = [(other(name), dx, dy) for name, dx, dy in others]
                merged = Merged([(cube, 0, 0), *parts], fill)
                _bounded("merge", merged.shape, cube)
                cube = merged
            case Microservice(name):
                cube = microservice(name, cube)
    return cube


def _without(cube: Cube, ignored: int | float) -> Cube:
    """Give integer pixels as floating point with NaN for what is to be ignored."""
    dtype = np.result_type(cube.dtype, np.float32)

    def known(pixels: Array, box: Box) -> Array:
        return np.where(pixels == np.asarray(ignored, pixels.dtype), np.nan, pixels.astype(dtype))

    return cube.map(known, name=cube.name, dtype=dtype)


def _bounded(name: str, shape: tuple[int, int, int], below: Cube) -> None:
    for made, size in zip(shape, below.shape, strict=True):
        if made > max(size, MAX_POINTS):
            raise ContainerError(
                f"read procedures: {name}: found (lines, samples, bands) = {shape}, "
                f"allowed is up to {MAX_POINTS} each"
            )


def _crop(cube: Cube, crop: Crop) -> Cube:
    ranges = (crop.lines, crop.samples, crop.bands)
    for axis, (_, last), size in zip(("line", "sample", "band"), ranges, cube.shape, strict=True):
        if last >= size:
            raise ContainerError(
                f"read procedures: crop: found last {axis} {last}, allowed are 0 to {size - 1}"
            )
    return Cropped(cube, Box(*((first, last + 1) for first, last in ranges)))
