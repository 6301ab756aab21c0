"""Plain ENVI files: a header and, beside it, the bytes it describes; mapped, never copied.

Finds and maps data, encodes small cubes, writes files. Sizes are compared before anything is
mapped: a file that is shorter than its header says is an error. Knows headers and NumPy; nothing
of containers.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.container.header import Header
from pipeline.container.scaling import scale
from pipeline.errors import ContainerError, HeaderError, StorageError
from pipeline.layout import INTERLEAVES, envi_code

#: Endings of data files, tried in this order after the bare name.
DATA_ENDINGS: Final = (
    "",
    ".raw",
    ".dat",
    ".img",
    ".bil",
    ".bip",
    ".bsq",
    ".envi",
    ".bin",
    ".sli",
    ".hsi",  # a sidecar header beside its container
)
#: A header of more bytes than this is none.
MAX_HEADER: Final = 4 << 20

Cube = NDArray[Any]
Fields = Header | Mapping[str, Any] | Iterable[tuple[str, Any]]


@dataclass(frozen=True)
class EnviFile:
    """An ENVI cube that lies in a file or in an entry of a container.

    Attributes
    ----------
    header : Header
    raw : ndarray, (lines, samples, bands)
        A read-only memory map, whatever the interleave; stored values.
    path : Path
        The file that is mapped.
    """

    header: Header
    raw: Cube
    path: Path

    def read(self) -> Cube:
        """Give the values, ``(lines, samples, bands)``: scaled to float32 where a scale is set."""
        return scale(self.raw, self.header)


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read any ENVI header file.

    Returns
    -------
    Header
        A mapping, looked up by normalised names.

    Raises
    ------
    HeaderError
        Naming file, line and field.
    """
    where = Path(path)
    try:
        about = where.stat()
        size = about.st_size
        if not stat.S_ISREG(about.st_mode):
            raise HeaderError(f"{where}: cannot be read (no regular file)")
        if size > MAX_HEADER:
            raise HeaderError(f"{where}: found {size} bytes, allowed for a header are {MAX_HEADER}")
        data = where.read_bytes()
    except (OSError, ValueError) as error:
        raise HeaderError(f"{where}: cannot be read ({_reason(error)})") from error
    return Header.parse(data, where=str(where))


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def find_data(header_path: str | os.PathLike[str]) -> Path:
    """Find the data file of a header: its name without ``.hdr``, then with the usual endings.

    Raises
    ------
    ContainerError
        When there is none.
    """
    header = Path(header_path)
    base = header.with_suffix("") if header.suffix.casefold() == ".hdr" else header
    names = [base.with_name(base.name + ending) for ending in DATA_ENDINGS]
    for exact in names:
        if exact.is_file() and exact != header:
            return exact
    for name in names:
        found = in_any_case(name)
        if found is not None and found != header:
            return found
    raise ContainerError(
        f"{header}: found no data file beside it, allowed are {base.name} and {base.name} with "
        f"one of {' '.join(DATA_ENDINGS[1:])}"
    )


def in_any_case(path: Path) -> Path | None:
    """Give the file of this name, or of one that differs in capitals only; None without one.

    Raises
    ------
    ContainerError
        When the folder cannot be read.
    """
    if path.is_file():
        return path
    wanted = path.name.casefold()
    try:
        found = (entry for entry in path.parent.iterdir() if entry.name.casefold() == wanted)
        return next((entry for entry in sorted(found) if entry.is_file()), None)
    except OSError as error:
        raise ContainerError(f"{path.parent}: cannot be read ({error.strerror})") from error


def find_header(data_path: str | os.PathLike[str]) -> Path:
    """Find the header of a data file: ``NAME.hdr`` in the place of or behind its ending.

    Raises
    ------
    ContainerError
        When there is none.
    """
    data = Path(data_path)
    for found in (data.with_name(data.name + ".hdr"), data.with_suffix(".hdr")):
        if found.is_file() and found != data:
            return found
    raise ContainerError(f"{data}: found neither a .hsi container nor an ENVI header beside it")


def view(file: BinaryIO, header: Header, offset: int, available: int, *, where: str) -> Cube:
    """Map the pixels that a header describes.

    Parameters
    ----------
    file : binary file
        An open file on disk; it may be closed afterwards.
    header : Header
        Its ``header offset`` counts from ``offset``.
    offset, available : int
        First byte of the data in the file, and how many there are.
    where : str
        What the messages call it.

    Returns
    -------
    ndarray, (lines, samples, bands)
        A read-only view on the map; nothing is read yet.

    Raises
    ------
    ContainerError
        When the data are shorter than the header says, or hold no line.
    """
    if header.coded:
        raise ContainerError(
            f"{where}: data type 7 is a coded payload without pixels to map; "
            "swath export decodes it"
        )
    lines, samples, bands = header.shape
    needed = header.header_offset + header.data_bytes
    if lines == 0:
        raise ContainerError(f"{where}: lines: found 0, allowed are cubes of at least one line")
    if needed > available:
        raise ContainerError(
            f"{where}: found {available} bytes of data, {lines} × {samples} × {bands} of "
            f"{header.dtype.name} with header offset {header.header_offset} need {needed}"
        )
    sizes = (lines, samples, bands)
    order = INTERLEAVES[header.interleave]
    try:
        mapped = np.memmap(
            file,
            dtype=header.dtype,
            mode="r",
            offset=offset + header.header_offset,
            shape=tuple(sizes[axis] for axis in order),
        )
    except (OSError, ValueError) as error:
        raise ContainerError(f"{where}: cannot be mapped ({_reason(error)})") from error
    return mapped.transpose(np.argsort(order))


def open_envi(path: str | os.PathLike[str]) -> EnviFile:
    """Open a plain ENVI file by its header or its data file.

    Raises
    ------
    ContainerError
        When header or data cannot be read, or do not fit together.
    """
    given = Path(path)
    header_path = given if given.suffix.casefold() == ".hdr" else find_header(given)
    header = read_header(header_path)
    data = find_data(header_path) if header_path == given else given
    if not data.is_file():
        raise ContainerError(f"{data}: cannot be read (no regular file)")
    if data.suffix.casefold() == ".hsi" and header.header_offset == 0:
        # Read from its first byte a container would be taken for pixels.
        raise ContainerError(
            f"{header_path}: header offset: found 0 for the container {data.name}, allowed is "
            "where its data begin (swath sidecar writes such a header); or open the .hsi itself"
        )
    try:
        with data.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return EnviFile(header, view(file, header, 0, size, where=str(data)), data)
    except OSError as error:
        raise ContainerError(f"{data}: cannot be read ({error.strerror})") from error


def structured(
    fields: Fields, shape: tuple[int, int, int], dtype: np.dtype[Any], interleave: str = "bil"
) -> Header:
    """Give a copy of the fields with the structure of an array set.

    Parameters
    ----------
    fields : Header, mapping or pairs
        What else the header says.
    shape : tuple of int
        ``(lines, samples, bands)``.
    dtype : numpy.dtype
        With the byte order in which the data are written.
    interleave : {"bil", "bip", "bsq"}

    Raises
    ------
    HeaderError
        When a field cannot be written.
    ContainerError
        When ENVI has no code for the dtype.
    """
    header = fields.copy() if isinstance(fields, Header) else Header(fields)
    for name, value in zip(("lines", "samples", "bands"), shape, strict=True):
        header.set(name, value)
    header.set("header offset", 0)
    if "file type" not in header:
        header.set("file type", "ENVI Standard")
    header.set("data type", envi_code(dtype))
    header.set("interleave", interleave)
    big = dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big")
    header.set("byte order", int(big))
    return header


def encode_envi(
    array: Cube, fields: Fields = (), *, interleave: str = "bil"
) -> tuple[bytes, bytes]:
    """Encode a small cube in memory.

    Parameters
    ----------
    array : ndarray, (lines, samples, bands)
        Of any type that ENVI has, in any byte order.
    fields : Header, mapping or pairs, optional
        Further header fields.
    interleave : {"bil", "bip", "bsq"}

    Returns
    -------
    header, data : bytes
    """
    if array.ndim != 3:
        raise ContainerError(f"array: found {array.ndim} axes, allowed are (lines, samples, bands)")
    lines, samples, bands = array.shape
    header = structured(fields, (lines, samples, bands), array.dtype, interleave)
    return header.encode(), array.transpose(INTERLEAVES[header.interleave]).tobytes()


def write_envi(
    folder: str | os.PathLike[str],
    name: str,
    array: Cube,
    fields: Fields = (),
    *,
    interleave: str = "bil",
    ending: str = ".envi",
) -> Path:
    """Write ``NAME.hdr`` and ``NAME.envi`` (or another ending).

    Returns
    -------
    Path
        Of the header.

    Raises
    ------
    StorageError
        When the disk refuses.
    """
    header_bytes, data = encode_envi(array, fields, interleave=interleave)
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / (name + ending)).write_bytes(data)
        (place / (name + ".hdr")).write_bytes(header_bytes)
    except OSError as error:
        raise StorageError(f"{place / name}: cannot be written ({error.strerror})") from error
    return place / (name + ".hdr")
