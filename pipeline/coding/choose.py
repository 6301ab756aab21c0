"""Which coding a header names, and which one a user asks for.

``coding_of`` is for reading, ``make_coding`` for writing; what cannot be is refused here, before
any pixel is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.coding.images import ImageCoding
from pipeline.coding.interface import MOST_PIXELS, Aim, BlockShape, Coding, Masks, Noise
from pipeline.coding.packints import PackintsCoding
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.smallest import SmallestCoding
from pipeline.errors import ConfigError, ContainerError

#: Names of codings, as ``make_coding`` takes them.
NAMES: Final = ("packed", "deflate", "predicted", "smallest", "jpegxl", "jpeg2000", "packints")
#: File types of coded payloads.
FILE_TYPES: Final = ("PCA", "PREDICTED", "SMALLEST", "JPEGXL", "JPEG2000", "PACKINTS")
#: Versions of this format's own blocks.
VERSIONS: Final = {
    "PCA": ("pca version", (2,)),
    "PREDICTED": ("predicted version", (1,)),
    "SMALLEST": ("smallest version", (1, 2)),
}


def coding_of(
    file_type: str,
    fields: Mapping[str, object],
    shape: BlockShape,
    block_lines: int,
    *,
    numba: bool = True,
) -> Coding:
    """Give the coding that a header of a coded payload names.

    Parameters
    ----------
    file_type : str
        ``file type`` of the header.
    fields : mapping
        Header fields by their names, numbers or their text; those of ``Coding.fields`` are read.
    shape : BlockShape
    block_lines : int
        ``coded block lines``.
    numba : bool
        ``False``: decodes with NumPy alone.

    Raises
    ------
    ContainerError
        When a field is missing or is not known here.
    """
    kind = file_type.strip().upper()
    if not 1 <= block_lines * shape.bands * shape.samples <= MOST_PIXELS:
        raise ContainerError(
            f"coded block lines: found {block_lines} lines of {shape.bands} bands and"
            f" {shape.samples} samples, allowed are 1 to {MOST_PIXELS} pixels"
        )
    if kind in VERSIONS:
        field, versions = VERSIONS[kind]
        if _number(fields, field) not in versions:
            allowed = " and ".join(map(str, versions))
            verb = "is" if len(versions) == 1 else "are"
            raise ContainerError(f"{field}: found {fields[field]}, allowed {verb} {allowed}")
    if kind == "PCA":
        name = str(fields.get("pca coding", "")).strip().lower()
        if name not in ("packed", "deflate"):
            raise ContainerError(
                f"pca coding: found {name or 'none'}, allowed are packed and deflate"
            )
        return PcaCoding(shape, block_lines, name, numba=numba)
    if kind == "PREDICTED":
        return PredictedCoding(shape, block_lines, numba=numba)
    if kind == "SMALLEST":
        return SmallestCoding(shape, block_lines, numba=numba)
    if kind in ("JPEGXL", "JPEG2000"):
        return ImageCoding(shape, block_lines, kind)
    if kind == "PACKINTS":
        try:
            return PackintsCoding(shape, block_lines, _number(fields, "packints bits"))
        except ConfigError as error:
            raise ContainerError(str(error)) from None
    raise ContainerError(
        f"file type: found {file_type!r}, allowed for a coded payload are {', '.join(FILE_TYPES)}"
    )


def make_coding(
    name: str,
    shape: BlockShape,
    *,
    block_lines: int = 128,
    max_error: int | None = None,
    ratio: float | None = None,
    noise: Noise | None = None,
    masks: Masks | None = None,
    bits: int = 12,
) -> Coding:
    """Make a coding for writing.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    shape : BlockShape
    block_lines : int
    max_error : int or None
        The bound d in counts; 0: lossless. ``packed``, ``deflate``, ``predicted``, ``smallest``.
    ratio : float or None
        Bytes of raw pixels for each coded byte, at least. ``packed``, ``deflate``.
    noise : Noise or None
        The step becomes the noise's standard deviation. ``packed``, ``deflate``.
    masks : Masks or None
        What comes back exactly from a lossy coding.
    bits : int
        Of a pixel. ``packints``.

    Raises
    ------
    ConfigError
        When there is no such coding, or it cannot do what is asked.
    """
    kind = name.strip().lower()
    if kind not in NAMES:
        raise ConfigError(f"coding: found {name!r}, allowed are {', '.join(NAMES)}")
    if not 1 <= block_lines * shape.bands * shape.samples <= MOST_PIXELS:
        raise ConfigError(
            f"block_lines: found {block_lines} lines of {shape.bands} bands and {shape.samples}"
            f" samples, allowed are 1 to {MOST_PIXELS} pixels"
        )
    aim = Aim(max_error, ratio, noise, masks or Masks())
    if kind in ("packed", "deflate"):
        if max_error is None and ratio is None and noise is None:
            raise ConfigError(f"{kind}: found no max_error, ratio or noise, needs one of them")
        return PcaCoding(shape, block_lines, kind, aim)
    if ratio is not None or noise is not None:
        raise ConfigError(
            f"{kind}: found a ratio or noise as its aim, allowed are these with packed and deflate"
        )
    if kind == "predicted":
        return PredictedCoding(shape, block_lines, max_error or 0, aim.masks)
    if kind == "smallest":
        return SmallestCoding(shape, block_lines, max_error or 0, aim.masks)
    if max_error:
        raise ConfigError(f"{kind}: found a max_error of {max_error}, allowed is 0: it is lossless")
    if kind == "packints":
        return PackintsCoding(shape, block_lines, bits)
    return ImageCoding(shape, block_lines, kind.upper())


def _number(fields: Mapping[str, object], name: str) -> int:
    found = fields.get(name)
    try:
        return int(str(found))
    except ValueError:
        raise ContainerError(f"{name}: found {found}, needs a whole number") from None
