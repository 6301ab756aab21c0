"""A folder of references as a small library: which files are whites and blacks, and reading them.

Which of them serves a scan is :mod:`pipeline.reference_choosing`'s. Knows references and plain
ENVI files, comment lines included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pipeline.container.envi import in_any_case, open_envi
from pipeline.container.references import make_reference
from pipeline.errors import ReferenceMismatchError
from pipeline.reference_conditions import kept_fields
from pipeline.references import Reference

#: Beginnings of file names by kind, as swath and vendors write them.
BEGINNINGS: Final = {"white": ("white",), "black": ("black", "dark")}
#: Ends of names of files that belong to a reference and are none themselves.
_BELONGING: Final = ("_std", "_black", "_after", "_dark")
#: Beginnings of names of maps of bad pixels, which may lie beside references.
_MAPS: Final = "bad"
Kind = Literal["white", "black", "white_black"]


def read_reference(kind: Kind, path: Path) -> tuple[Reference, int]:
    """Read a reference, with its standard deviation where ``<name>_std.hdr`` lies beside it.

    Returns
    -------
    reference : Reference
        The mean of its lines.
    lines : int
        How many those are.

    Raises
    ------
    ContainerError
        When a file cannot be read.
    """
    file = open_envi(path)
    mean = make_reference(file.header, file.raw).array
    fields = kept_fields(file.header, file.header.comments, *mean.shape)
    std = None
    beside = _beside(path, "_std")
    if beside is not None:
        deviation = open_envi(beside)
        std = make_reference(deviation.header, deviation.raw).array
        if std.shape != mean.shape:
            raise ReferenceMismatchError(
                f"{beside}: has (bands, samples) = {std.shape}, the reference {mean.shape}"
            )
    header = path if path.suffix.casefold() == ".hdr" else path.with_suffix(".hdr")
    return Reference(kind, mean, std, fields, header), file.raw.shape[0]


def own_black_of(white: Reference) -> Reference | None:
    """Read a white's own dark, ``<white>_black.hdr`` beside it, where there is one.

    Raises
    ------
    ContainerError
        When it cannot be read, or does not have the white's shape.
    """
    if white.path is None:
        return None
    beside = _beside(white.path, "_black")
    if beside is None:
        return None
    found = read_reference("white_black", beside)[0]
    if found.mean.shape != white.mean.shape:
        raise ReferenceMismatchError(
            f"{beside}: has (bands, samples) = {found.mean.shape}, its white {white.mean.shape}"
        )
    return found


def _beside(path: Path, part: str) -> Path | None:
    """Find the header of what belongs to a reference; in capitals where its own name is."""
    found = path.with_name(path.stem + part + ".hdr")
    if found.is_file() or path.name == path.name.casefold():
        return found if found.is_file() else None
    return in_any_case(found)


def library(folder: Path) -> list[tuple[Kind, Path]]:
    """List the headers of a folder's whites and blacks, those that belong to others left out.

    Raises
    ------
    ReferenceMismatchError
        When the folder cannot be read.
    """
    found: list[tuple[Kind, Path]] = []
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.casefold() == ".hdr")
    except OSError as error:
        raise ReferenceMismatchError(f"{folder}: cannot be read ({error.strerror})") from None
    for path in paths:
        stem = path.stem.casefold()
        if stem.endswith(_BELONGING):
            continue
        if stem.startswith(BEGINNINGS["white"]):
            found.append(("white", path))
        elif stem.startswith(BEGINNINGS["black"]):
            found.append(("black", path))
    return found


def named_otherwise(folder: Path) -> int:
    """Count the headers of a folder that :func:`library` passes over for their names."""
    whole = {path for _, path in library(folder)}
    return sum(
        path.suffix.casefold() == ".hdr"
        and path not in whole
        and not path.stem.casefold().endswith(_BELONGING)
        and not path.stem.casefold().startswith(_MAPS)
        for path in folder.iterdir()
    )


def listed_fields(reference: Reference) -> dict[str, Any]:
    """Give what a list of the library shows of a reference."""
    known = reference.conditions
    return {
        "exposure": known.exposure,
        "gain": known.gain,
        "binning": known.binning,
        "hroi": known.hroi,
        "vroi": known.vroi,
        "bands": known.bands,
        "samples": known.samples,
        "serial": known.serial,
        "pixel_format": known.pixel_format,
        "temperature": known.temperature,
        "time": None if known.time is None else known.time.isoformat(),
        "lines": reference.fields.get("lines averaged"),
        "panel": reference.fields.get("panel name"),
    }
