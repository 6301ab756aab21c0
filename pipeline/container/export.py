"""Out of a container: a plain ENVI folder, or a header that opens the container in place.

``export`` computes what :meth:`Container.read` gives and writes it block by block, so that
memory stays bounded whatever the size; ``sidecar`` writes only a header. Knows the reader and
headers.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.container.coded_header import ERROR_FIELDS
from pipeline.container.cube import Array, Cube
from pipeline.container.envi import structured
from pipeline.container.header import Header
from pipeline.container.microservices import decoded_dtype, lay_microservice, pca
from pipeline.container.reader import Container
from pipeline.container.selection import Selection, resolve, select
from pipeline.errors import ContainerError, ReferenceMismatchError, StorageError
from pipeline.reflectance import IGNORE, SCALE, quantise

if TYPE_CHECKING:
    from pipeline.coding.backend import Wish

Form = Literal["raw", "reflectance", "float32"]
#: Values of a block that is computed and written at once (8 MiB as float32).
_BLOCK_VALUES: Final = 1 << 21
#: Fields with one value a band, taken along when bands are chosen.
_BY_BAND: Final = ("band names", "bbl", "data gain values", "data offset values")
_SAFE_NAME: Final = re.compile(r"[\w][\w .()+-]*\Z")


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes
    ----------
    header, data : Path
    shape : tuple of int
        ``(lines, samples, bands)``.
    clipped : int
        Reflectance values beyond ±3.2767 that were stored as the limit.
    """

    header: Path
    data: Path
    shape: tuple[int, int, int]
    clipped: int


def default_form(container: Container) -> Form:
    """Give what is exported if nothing is said: reflectance where it can be had, else raw."""
    return "reflectance" if _has_reflectance(container) or _can_correct(container) else "raw"


def _has_reflectance(container: Container) -> bool:
    return (
        "microservice:reflectance" in container.read_procedures
        or "reflectance scale factor" in container.header
    )


def _can_correct(container: Container) -> bool:
    entries = container.entries
    return "Reference/white.envi" in entries and "Reference/black.envi" in entries


def export(
    path: str | os.PathLike[str] | Container,
    folder: str | os.PathLike[str],
    *,
    form: Form | None = None,
    lines: Selection = None,
    samples: Selection = None,
    bands: Selection = None,
    backend: Wish = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a container as a plain ENVI folder: ``data.hdr``, ``data.img`` and the metadata.

    Parameters
    ----------
    path : path or Container
    folder : path
        Made if it is not there; must hold no ``data.hdr`` or ``data.img``.
    form : {"raw", "reflectance", "float32"}, optional
        ``raw``: the sensor's integers as stored (decoded, if coded), no procedures applied.
        ``reflectance``: int16 × 10000. ``float32``: what ``read()`` gives. By default
        reflectance where there are references, else raw.
    lines, samples, bands : int, slice or sequence of int, optional
        Counted as in the result without them.
    backend : {"cpu", "cuda", "auto"}
        What decodes coded blocks; the pixels are the same.
    progress : callable, optional
        Called with lines done and lines in all.

    Returns
    -------
    Exported

    Raises
    ------
    ContainerError
        When the file cannot be read so, or the folder holds an export already.
    ConfigError, DeviceError
        When the backend has nothing for this coding, there is no GPU, or it fails.
    StorageError
        When the disk refuses; nothing half-written is left under the final names.
    """
    if not isinstance(path, Container):
        with Container(path) as container:
            return export(
                container,
                folder,
                form=form,
                lines=lines,
                samples=samples,
                bands=bands,
                backend=backend,
                progress=progress,
            )
    if path.coded is not None:
        path.coded.decode_on(backend)
    chosen = form or default_form(path)
    cube, dtype = _cube(path, chosen)
    indices = [
        resolve(name, part, size)[0]
        for name, part, size in zip(
            ("lines", "samples", "bands"), (lines, samples, bands), cube.shape, strict=True
        )
    ]
    shape = indices[0].size, indices[1].size, indices[2].size
    if 0 in shape:
        raise ContainerError(f"export: found {shape} lines, samples, bands, allowed are none of 0")
    header = _header(path, chosen, cube, indices, dtype)
    place = Path(folder)
    new = False
    try:
        new = not place.exists()
        if not new and not place.is_dir():
            raise ContainerError(f"{place}: found a file, allowed is a folder, or a name for one")
        place.mkdir(parents=True, exist_ok=True)
        for name in ("data.hdr", "data.img"):
            if (place / name).exists():
                raise ContainerError(f"{place / name}: exists, allowed is a folder without it")
        clipped = _write(place / "data.img", cube, indices, dtype, chosen, progress)
        try:
            _copy_entries(path, place, references=chosen == "raw" and "read procedures" in header)
            (place / "data.hdr").write_bytes(header.encode())
        except BaseException:
            for name in ("data.hdr", "data.img"):
                (place / name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        if new:
            with contextlib.suppress(OSError):  # only an empty folder goes
                place.rmdir()
    return Exported(place / "data.hdr", place / "data.img", shape, clipped)


def _cube(container: Container, form: Form) -> tuple[Cube, np.dtype[Any]]:
    """Give the cube that is exported and the type it is stored as."""
    header = container.header
    if form == "raw":
        return stored_counts(container), decoded_dtype(header)
    cube = container.cube
    if form == "reflectance" and not _has_reflectance(container):
        if not _can_correct(container):
            raise ReferenceMismatchError(
                f"{container.path}: found no white and black references, "
                "allowed are raw and float32"
            )
        cube = lay_microservice("reflectance", cube, container)
    if cube.dtype.kind == "c":
        raise ContainerError(f"{container.path}: found complex data, allowed is raw")
    return cube, np.dtype(np.int16 if form == "reflectance" else np.float32)


def stored_counts(container: Container) -> Cube:
    """Give the sensor's integers as stored, decoded if coded; PCA scores as float32 counts."""
    header = container.header
    if not header.coded and header.file_type.casefold() == "pca":
        return pca(container.stored, container)
    return container.stored


def _write(
    path: Path,
    cube: Cube,
    indices: list[NDArray[np.int64]],
    dtype: np.dtype[Any],
    form: Form,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write the pixels as BIL, little endian; give how many were clipped."""
    lines, samples, bands = indices
    step = max(1, _BLOCK_VALUES // (samples.size * bands.size))
    partial = path.with_name(path.name + ".partial")
    clipped = 0
    try:
        with partial.open("wb") as file:
            for start in range(0, lines.size, step):
                part = lines[start : start + step]
                pixels = select(cube, (part, samples, bands), block_values=_BLOCK_VALUES)
                if form == "reflectance":
                    pixels, beyond = quantise(pixels)
                    clipped += beyond
                out = _as(pixels, dtype).transpose(0, 2, 1)
                file.write(np.ascontiguousarray(out).data)
                if progress is not None:
                    progress(start + part.size, lines.size)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return clipped


def _as(pixels: Array, dtype: np.dtype[Any]) -> Array:
    little = dtype.newbyteorder("<")
    if dtype.kind in "iu" and pixels.dtype.kind == "f":
        bounds = np.iinfo(dtype)
        pixels = np.clip(np.rint(np.nan_to_num(pixels)), bounds.min, bounds.max)
    with np.errstate(all="ignore"):
        return pixels.astype(little, copy=False)


def _header(
    container: Container,
    form: Form,
    cube: Cube,
    indices: list[NDArray[np.int64]],
    dtype: np.dtype[Any],
) -> Header:
    source = container.plain_header
    shape = indices[0].size, indices[1].size, indices[2].size
    header = structured(source, shape, dtype.newbyteorder("<"))
    whole = form == "raw" and shape == source.shape
    decoded = source.file_type.casefold() == "pca"
    header.set("file type", "ENVI Standard")
    for name in list(header):
        key = name.casefold()
        if decoded and (key.startswith("pca ") or key in _BY_BAND):
            header.remove(name)
    if not whole:
        header.remove("read procedures")
    elif decoded:
        steps = [step for step in container.read_procedures if step != "microservice:pca"]
        header.set("read procedures", steps) if steps else header.remove("read procedures")
    if form != "raw":
        scaling = ("data gain values", "data offset values", "reflectance scale factor")
        for name in (*scaling, *ERROR_FIELDS):  # those are counts
            header.remove(name)
        header.remove("data ignore value")
    if form == "reflectance":
        for name in ("bit depth", "saturation level"):
            header.remove(name)
        header.set("reflectance scale factor", SCALE)
        header.set("data ignore value", IGNORE)
    if not decoded:
        _choose_bands(source, header, cube, indices[2])
    _spectrum(source, header, cube, indices[2], decoded)
    _regions(header, cube, indices)
    return header


def _choose_bands(source: Header, header: Header, cube: Cube, bands: NDArray[np.int64]) -> None:
    """Take along what a header says by band."""
    origin = cube.origins[2]
    stored = None if origin is None else [origin[band] for band in bands]
    for name in _BY_BAND:
        values = source.strings(name)
        if values is None or name not in header:
            continue
        if stored is None or len(values) != source.bands:
            if stored is None or len(values) != 1:
                header.remove(name)
        elif all(values[band] for band in stored):
            header.set(name, [values[band] for band in stored])
        else:
            header.remove(name)
    shown = source.ints("default bands")
    if shown is None:
        return
    if stored is not None and all(band - 1 in stored for band in shown):
        header.set("default bands", [stored.index(band - 1) + 1 for band in shown])
    else:
        header.remove("default bands")


def _spectrum(
    source: Header, header: Header, cube: Cube, bands: NDArray[np.int64], decoded: bool
) -> None:
    for name, values in (("wavelength", cube.wavelengths), ("fwhm", cube.fwhm)):
        stored = source.strings(name) if source.floats(name) is not None else None
        origin = cube.origins[2]
        if name == "fwhm" and cube.wavelengths is None:
            values = None  # its units are those of the wavelengths
        if values is not None:
            own = None if decoded or stored is None or len(stored) != source.bands else stored
            units = str(source.get("wavelength units", "")).casefold()
            if own is not None and units == "nanometers" and origin is not None:
                header.set(name, [own[origin[band]] for band in bands])
            else:
                header.set(name, [round(float(values[band]), 6) for band in bands])
            header.set("wavelength units", "Nanometers")
        elif decoded or origin is None or stored is None or len(stored) != source.bands:
            header.remove(name)
            if name == "wavelength":
                header.set(name, list(range(1, bands.size + 1)))
                header.set("wavelength units", "Index")
        else:
            header.set(name, [stored[origin[band]] for band in bands])


def _regions(header: Header, cube: Cube, indices: list[NDArray[np.int64]]) -> None:
    """Move ``hroi`` and ``vroi`` along, or take them out where pixels are not the sensor's."""
    for name, axis in (("hroi", 1), ("vroi", 2)):
        region = header.ints(name)
        if region is None:
            continue
        origin, chosen = cube.origins[axis], indices[axis]
        if len(region) != 2 or origin is None or np.any(np.diff(chosen) != 1) or origin.step != 1:
            header.remove(name)
            continue
        first = region[0] + origin[int(chosen[0])]
        header.set(name, [first, first + chosen.size - 1])


def _copy_entries(container: Container, place: Path, *, references: bool) -> None:
    """Copy ``Metadata/``, with raw data ``Reference/`` too, and write the header's comments."""
    folders = ("Metadata", "Reference") if references else ("Metadata",)
    for entry in container.entries:
        folder, slash, name = entry.rpartition("/")
        if slash and folder in folders and _SAFE_NAME.match(name):
            (place / folder).mkdir(exist_ok=True)
            with (place / folder / name).open("wb") as file:
                for chunk in container.entry_chunks(entry):
                    file.write(chunk)
    target = place / "Metadata" / "original comments.txt"
    if container.header.comments and not target.exists():
        target.parent.mkdir(exist_ok=True)
        target.write_bytes("".join(c + "\n" for c in container.header.comments).encode())


def sidecar(path: str | os.PathLike[str]) -> Path:
    """Write ``NAME.hdr`` beside ``NAME.hsi``, so that ENVI readers open it in place.

    Returns
    -------
    Path
        Of the header: that of ``data.envi`` with ``header offset`` set to where it lies.

    Raises
    ------
    ContainerError
        When the stored bits are no pixels or not in one piece, or another ``NAME.hdr`` is there.
    StorageError
        When it cannot be written.
    """
    with Container(path) as container:
        source = container.path
        offset = container.data_offset
        if source.suffix.casefold() != ".hsi":
            raise ContainerError(f"{source}: found no .hsi container, a sidecar is for one")
        if container.header.coded:
            raise ContainerError(
                f"{source}: found coded data, which no ENVI reader can open; swath export decodes"
            )
        if offset is None:
            raise ContainerError(
                f"{source}: found data.envi compressed, allowed is stored; swath repack stores it"
            )
        container.raw  # noqa: B018 - the sizes are checked before anybody maps them
        header = container.header.copy()
        header.set("header offset", offset + container.header.header_offset)
    target = source.with_suffix(".hdr")
    data = header.encode()
    try:
        if target.exists() and target.read_bytes() != data:
            raise ContainerError(f"{target}: exists and says something else, move it away first")
        target.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror})") from error
    return target
