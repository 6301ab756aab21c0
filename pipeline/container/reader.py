"""``swath.open``: a ``.hsi`` container, or a plain ENVI file, as one object.

Opening reads the directory and the header only; pixels are mapped, everything else is read when
it is asked for. Read procedures are laid over the map and computed box by box. Knows headers,
ZIP layout, cubes and the ledger; nothing of how files are written.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import Kind, is_bad
from pipeline.container.coded import CodedPayload, Decoded, open_entry, open_payload
from pipeline.container.coded_header import decoded_type, plain_header
from pipeline.container.counts import Counts
from pipeline.container.cube import Array, Cube, Stored
from pipeline.container.envi import (
    MAX_HEADER,
    EnviFile,
    find_data,
    find_header,
    open_envi,
    read_header,
    view,
)
from pipeline.container.header import Header
from pipeline.container.ledger import csv_pieces, decode_csv
from pipeline.container.microservices import lay_microservice
from pipeline.container.procedures import Microservice, lay_over, parse_procedures
from pipeline.container.references import FORMULA, Reference, Reflectance, make_reference
from pipeline.container.scaling import ignore_value, is_scaled, scale
from pipeline.container.selection import Selection, select
from pipeline.container.uncertainty import Uncertainty
from pipeline.container.zipfile_layout import Archive, scan
from pipeline.errors import ContainerError, ReferenceMismatchError
from pipeline.layout import LedgerRows, ledger_rows, lost_count
from pipeline.reflectance import Correction

#: Values that a block of a read may hold: bounds what lies between file and result.
_BLOCK_VALUES = 1 << 21
#: Cubes that one file may merge, with those that they merge in turn.
_MAX_MERGED: Final = 256
#: Bytes of a thumbnail that are read at once.
_MAX_PICTURE: Final = 64 << 20
#: References that are no counts of the cube's bands and samples.
_NO_REFERENCE = ("pca_basis", "pca_mean", "bad_pixels")


def open_container(path: str | os.PathLike[str]) -> Container:
    """Open a ``.hsi`` container, or a plain ENVI file by its header or data file.

    Returns
    -------
    Container
        In milliseconds, whatever the size.

    Raises
    ------
    ContainerError
        When the file is not what it says.
    """
    return Container(path)


class Container:
    """An open container; also a context manager.

    Attributes
    ----------
    path : Path
    header : Header
        Of ``data.envi``: the stored cube.
    warnings : list of str
        What is odd about the file, as far as it has been read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        _within: tuple[Path, ...] = (),
        _merged: list[Path] | None = None,
    ) -> None:
        self.path = Path(path)
        self._within = _within
        self._merged: list[Path] = [] if _merged is None else _merged  # one for the whole tree
        self._archive: Archive | None = None
        self._raw: Array | None = None
        self.warnings: list[str] = []
        try:
            is_file, is_folder = self.path.is_file(), self.path.is_dir()
        except (OSError, ValueError) as error:
            raise ContainerError(f"{str(self.path)[:200]}: cannot be read ({error})") from None
        if not is_file:
            found = "a folder" if is_folder else "no such file"
            raise ContainerError(f"{self.path}: found {found}, allowed are .hsi and ENVI files")
        if self.path.name.endswith(".partial"):
            raise ContainerError(
                f"{self.path}: a capture that was not finished; swath recover does"
            )
        if _is_envi(self.path):
            self._envi_header = (
                self.path if self.path.suffix.casefold() == ".hdr" else find_header(self.path)
            )
            self.header = read_header(self._envi_header)
        else:
            self._archive = scan(self.path)
            self.header = self._entry_header("data")
            self.warnings += self._archive.warnings
        self.warnings += self.header.warnings

    # -- as an object ----------------------------------------------------------------------

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; arrays that were handed out keep their map."""
        self._raw = None
        for name in ("cube", "stored", "coded", "references", "reflectance", "bad_pixels"):
            self.__dict__.pop(name, None)
        if self._archive is not None:
            self._archive.close()

    def __repr__(self) -> str:
        lines, samples, bands = self.header.shape
        return f"<Container {self.path.name}: {lines} lines, {samples} samples, {bands} bands>"

    # -- what is in it ---------------------------------------------------------------------

    @property
    def raw(self) -> Array:
        """The stored cube, ``(lines, samples, bands)``: a read-only memory map, no copy.

        Raises
        ------
        ContainerError
            When the cube is coded: there are no pixels to map, :attr:`stored` decodes them.
        """
        if self.header.coded:
            raise ContainerError(
                f"{self.path}: data.envi: found coded blocks, which cannot be mapped; "
                "read(procedures=False) decodes them"
            )
        if self._raw is None:
            if self._archive is None:
                self._raw = self._open_plain().raw
            else:
                self._raw = self._map("data", self.header)
        return self._raw

    @cached_property
    def coded(self) -> CodedPayload | None:
        """The blocks of a coded ``data.envi``; None where it holds plain pixels.

        Raises
        ------
        ContainerError
            When the coding is not known, or the header does not describe it.
        """
        if not self.header.coded:
            return None
        if self._archive is None:
            payload = open_payload(self._plain_data(), self.header)
        else:
            before = len(self._archive.warnings)
            payload = open_entry(self._archive, self.header)
            self.warnings += self._archive.warnings[before:]
        self.warnings += payload.warnings
        return payload

    @cached_property
    def stored(self) -> Cube:
        """The stored cube without scaling and read procedures; a coded one is decoded as read."""
        header = self.header
        payload = self.coded
        if payload is not None:
            return Decoded(payload, wavelengths=header.wavelength_nm, fwhm=header.fwhm_nm)
        return Stored(self.raw, wavelengths=header.wavelength_nm, fwhm=header.fwhm_nm)

    @property
    def plain_header(self) -> Header:
        """The header of the stored cube; of a coded one, as it would be without the coding."""
        payload = self.coded
        return self.header if payload is None else plain_header(self.header, payload.coding)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the stored pixels with its byte order; of coded ones, once decoded."""
        return decoded_type(self.header) if self.header.coded else self.header.dtype

    @property
    def data_offset(self) -> int | None:
        """First byte of the stored cube in the file; None when it is compressed."""
        if self._archive is None:
            return self.header.header_offset
        return self._archive.data_offset

    @property
    def archive(self) -> Archive | None:
        """The entries as they lie in the file; None for a plain ENVI file."""
        return self._archive

    @property
    def entries(self) -> list[str]:
        """Names of all entries; of a plain ENVI file, of header and data file."""
        if self._archive is None:
            return [self._envi_header.name, self._plain_data().name]
        return list(self._archive.entries)

    @property
    def read_procedures(self) -> list[str]:
        """The read procedures as they are written."""
        return self.header.strings("read procedures") or []

    @property
    def wavelengths(self) -> NDArray[np.float64] | None:
        """Centre wavelengths in nm of the bands that :meth:`read` gives; None where unknown.

        Of the stored bands where the read procedures cannot be applied.
        """
        return self._spectrum("wavelength")

    @property
    def fwhm(self) -> NDArray[np.float64] | None:
        """Full widths at half maximum in nm of the bands that :meth:`read` gives."""
        return self._spectrum("fwhm")

    def _spectrum(self, name: str) -> NDArray[np.float64] | None:
        try:
            cube = self.cube
        except ContainerError:
            header = self.header
            return header.wavelength_nm if name == "wavelength" else header.fwhm_nm
        return cube.wavelengths if name == "wavelength" else cube.fwhm

    @property
    def lost(self) -> int:
        """Lines that were lost while recording, stored as filled lines or not at all."""
        found = self.header.number("lines lost")
        return int(found) if found is not None and found >= 0 else lost_count(self.ledger)

    @cached_property
    def ledger(self) -> LedgerRows:
        """The per-line record, array of ``LEDGER_DTYPE``; empty where there is none."""
        if self._archive is None or self._archive.get("Metadata/lines.csv") is None:
            return ledger_rows(0)
        where = f"{self.path}: Metadata/lines.csv"
        entry = self._archive.entry("Metadata/lines.csv")
        crc = 0

        def chunks(archive: Archive) -> Iterator[bytes]:
            nonlocal crc
            for chunk in archive.chunks(entry.name):
                crc = zlib.crc32(chunk, crc)
                yield chunk

        # A row a line and one a gap: many more are no record of this cube.
        allowed = 2 * self.header.lines + (1 << 20)
        parts: list[LedgerRows] = []
        count = 0
        for piece in csv_pieces(chunks(self._archive), where=where):
            parts.append(decode_csv(piece, where=where, before=count))
            count += len(parts[-1])
            if count > allowed:
                raise ContainerError(f"{where}: found more than {allowed} rows")
        if crc != entry.crc:
            raise ContainerError(f"{where}: its bytes do not match its CRC-32")
        return np.concatenate(parts)

    @property
    def thumbnail(self) -> bytes:
        """The bytes of ``thumbnail.jpg``; empty where there is none."""
        if self._archive is None or "thumbnail.jpg" not in self._archive:
            return b""
        return self._archive.read("thumbnail.jpg", limit=_MAX_PICTURE)

    def entry(self, name: str) -> bytes:
        """Give the bytes of a whole (small) entry.

        Raises
        ------
        ContainerError
            When there is none.
        """
        if self._archive is None:
            raise ContainerError(f"{self.path}: found no entry {name}, it is a plain ENVI file")
        return self._archive.read(name)

    def entry_chunks(self, name: str) -> Iterator[bytes]:
        """Give the bytes of an entry of any size, piece by piece."""
        if self._archive is not None:
            yield from self._archive.chunks(name)

    def preview(self, lod: int | str | None = None) -> EnviFile:
        """Open a preview: the smallest, or a level of detail of the file.

        Parameters
        ----------
        lod : int or str, optional
            ``1`` for ``preview_1.envi``; 0 is the smallest, the one that every file has that
            has previews at all.

        Raises
        ------
        ContainerError
            When there is none.
        """
        name = "preview" if lod in (None, 0) else f"preview_{lod}"
        if self._archive is None or f"{name}.hdr" not in self._archive:
            have = [e.removesuffix(".hdr") for e in self.entries if _is_preview(e)]
            raise ContainerError(
                f"{self.path}: found no {name}, it has {', '.join(have) or 'no previews'}"
            )
        header = self._entry_header(name)
        return EnviFile(header, self._map(name, header), self.path)

    def reference_cube(self, name: str) -> tuple[Header, Array]:
        """Give header and mapped pixels (lines, samples, bands) of ``Reference/NAME.envi``.

        Raises
        ------
        ContainerError
            When there is none.
        """
        header = self._entry_header(f"Reference/{name}")
        return header, self._map(f"Reference/{name}", header)

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """White and black references by name (``white``, ``black``, ``white_black`` …)."""
        found: dict[str, Reference] = {}
        for entry in self.entries:
            folder, _, name = entry.rpartition("/")
            stem = name.removesuffix(".hdr")
            if folder != "Reference" or stem == name or stem in _NO_REFERENCE:
                continue
            if self._archive is None or f"Reference/{stem}.envi" not in self._archive:
                self.warnings.append(f"{entry} has no Reference/{stem}.envi beside it")
                continue
            try:
                header, raw = self.reference_cube(stem)
                found[stem] = make_reference(header, raw)
            except ContainerError as error:
                if stem in FORMULA:
                    raise
                # D4.1 (2.2) allows further files of any format in this folder.
                self.warnings.append(f"Reference/{stem}.envi is not used: {error}")
                continue
            if raw.shape[0] > 1 and found[stem].frames is None:
                self.warnings.append(
                    f"Reference/{stem}.envi has {raw.shape[0]} lines: their mean is taken"
                )
        return found

    @cached_property
    def reflectance(self) -> Reflectance:
        """The reflectance formula with this file's references.

        Raises
        ------
        ReferenceMismatchError
            When they are missing or do not fit.
        """
        lines, samples, bands = self.header.shape
        decoded = self.header.number("pca bands")
        if self.header.file_type.casefold() == "pca" and decoded is not None:
            bands = int(decoded)
        # Times are needed only where references are interpolated.
        drifts = any(name.endswith("_after") for name in self.references)
        ledger = self.ledger if drifts else ledger_rows(0)
        shape = (lines, samples, bands)
        kinds = self.bad_pixels
        if kinds is not None and kinds.shape != (bands, samples):
            raise ReferenceMismatchError(
                f"Reference/bad_pixels.envi: found (bands, samples) = {kinds.shape}, the cube has "
                f"{(bands, samples)}"
            )
        return Reflectance(
            self.header,
            self.references,
            shape,
            ledger,
            bad=None if kinds is None or not is_bad(kinds).any() else is_bad(kinds),
            counts=self._counts(),
        )

    def _counts(self) -> Counts:
        """Give the counts of the stored cube, decoded where they are coded."""
        header = self.header
        if header.coded:
            return Counts(None, self.stored)
        if header.file_type.casefold() != "pca":
            return Counts(self.raw)
        scores = Stored(self.raw, wavelengths=header.wavelength_nm, fwhm=header.fwhm_nm)
        return Counts(None, lay_microservice("pca", scores, self))

    @cached_property
    def bad_pixels(self) -> NDArray[np.uint8] | None:
        """Kinds of the pixels of a line (:class:`pipeline.bad_pixels.Kind`), (bands, samples).

        None where the file has no ``Reference/bad_pixels.envi``.
        """
        if self._archive is None or "Reference/bad_pixels.hdr" not in self._archive:
            return None
        _, raw = self.reference_cube("bad_pixels")
        # a picture of bands × samples, or one line of (samples, bands)
        flags = np.asarray(raw[0]).T if raw.shape[0] == 1 < raw.shape[2] else raw[:, :, 0]
        known = (flags >= 0) & (flags < len(Kind))
        return np.where(known, flags, Kind.LISTED).astype(np.uint8)

    def correction(self, line: int = 0) -> Correction:
        """Give the arrays of the reflectance formula for one line of the stored cube."""
        return self.reflectance.correction(line)

    # -- reading ---------------------------------------------------------------------------

    @cached_property
    def cube(self) -> Cube:
        """The stored cube with its scaling and all read procedures laid over it.

        Raises
        ------
        ContainerError
            When a procedure is unknown, out of order or does not fit.
        """
        procedures = parse_procedures(self.read_procedures)
        header = self.header
        if not self._within:
            self._merged.clear()
        cube = self.stored
        services = {p.name for p in procedures if isinstance(p, Microservice)}
        # Both start from the stored integers and bring their own scale.
        if is_scaled(header) and not services & {"reflectance", "pca"}:
            dtype = np.dtype(np.float32) if cube.dtype.kind != "c" else cube.dtype
            cube = cube.map(
                lambda pixels, box: scale(pixels, header, bands=slice(*box.bands)),
                name="the stored cube",
                dtype=dtype,
            )
        return lay_over(
            cube,
            procedures,
            microservice=lambda name, below: lay_microservice(name, below, self),
            other=self._other,
            fill=None if cube.dtype.kind == "f" else ignore_value(header, cube.dtype),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(lines, samples, bands)`` after the read procedures."""
        return self.cube.shape

    def read(
        self,
        lines: Selection = None,
        samples: Selection = None,
        bands: Selection = None,
        *,
        procedures: bool = True,
    ) -> Array:
        """Read pixels.

        Parameters
        ----------
        lines, samples, bands : int, slice or sequence of int, optional
            Which to take, counted after the read procedures; negative ones from the end. An int
            drops its axis, as in NumPy.
        procedures : bool
            Whether the read procedures and the scaling of the header are applied. Without, the
            stored values are given.

        Returns
        -------
        ndarray, (lines, samples, bands)
            A copy in native byte order. Reflectance and scaled values are float32, 1.0 = 100 %,
            NaN where invalid or lost.

        Raises
        ------
        ContainerError
            When an index is out of range or a procedure cannot be applied.
        """
        cube = self.cube if procedures else self.stored
        return select(cube, (lines, samples, bands), block_values=_BLOCK_VALUES)

    def uncertainty(
        self, lines: Selection = None, samples: Selection = None, bands: Selection = None
    ) -> Array:
        """Give the standard uncertainty of the reflectance that :meth:`read` gives.

        From the standard deviations of black and white and the shot noise of the light, to first
        order (:mod:`pipeline.container.uncertainty`; docs/container.md has the formula).

        Parameters
        ----------
        lines, samples, bands
            As for :meth:`read`.

        Returns
        -------
        ndarray of float32, (lines, samples, bands)
            One standard deviation of a single pixel, 1.0 = 100 %; NaN where there is no
            reflectance, and for replaced pixels.

        Raises
        ------
        ContainerError
            When the file gives no reflectance, or a read procedure mixes pixels.
        ReferenceMismatchError
            When a standard deviation is missing.
        """
        cube = self.cube
        raw = "microservice:reflectance" in self.read_procedures
        if not raw and "reflectance scale factor" not in self.header:
            raise ContainerError(f"{self.path}: uncertainty: found no reflectance, only counts")
        sigma = Uncertainty(self.reflectance, self.references, raw=raw).laid_over(cube)
        return select(sigma, (lines, samples, bands), block_values=_BLOCK_VALUES)

    def blocks(
        self,
        lines: int = 64,
        *,
        samples: Selection = None,
        bands: Selection = None,
        procedures: bool = True,
    ) -> Iterator[Array]:
        """Read the whole cube a few lines at a time, with bounded memory.

        Parameters
        ----------
        lines : int
            Of each block; the last may have fewer.
        samples, bands, procedures
            As for :meth:`read`.
        """
        total = self.shape[0] if procedures else self.header.lines
        for start in range(0, total, max(1, lines)):
            chosen = slice(start, min(total, start + max(1, lines)))
            yield self.read(chosen, samples, bands, procedures=procedures)

    # -- below -----------------------------------------------------------------------------

    def _entry_header(self, name: str) -> Header:
        assert self._archive is not None
        data = self._archive.read(f"{name}.hdr", limit=MAX_HEADER)
        return Header.parse(data, where=f"{self.path}: {name}.hdr")

    def _map(self, name: str, header: Header) -> Array:
        assert self._archive is not None
        before = len(self._archive.warnings)
        file, offset, size = self._archive.open_payload(f"{name}.envi")
        self.warnings += self._archive.warnings[before:]
        try:
            return view(file, header, offset, size, where=f"{self.path}: {name}.envi")
        finally:
            if self._archive.entry(f"{name}.envi").stored:
                file.close()

    def _plain_data(self) -> Path:
        return find_data(self._envi_header) if self.path == self._envi_header else self.path

    def _open_plain(self) -> EnviFile:
        return open_envi(self._envi_header if self.path == self._envi_header else self.path)

    def _other(self, name: str) -> Cube:
        """Open the cube that ``merge`` names: a path inside this file's own folder."""
        folder = self.path.resolve().parent
        within = (*self._within, self.path.resolve())
        try:
            other = (folder / name.replace("\\", "/")).resolve()
            inside = other.is_relative_to(folder)
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise ContainerError(
                f"read procedures: merge: found {name[:60]!r}, allowed are paths inside {folder}"
            )
        if other in within or len(within) > 16:
            raise ContainerError(f"read procedures: merge: found {name[:60]!r} merged into itself")
        if len(self._merged) >= _MAX_MERGED:
            raise ContainerError(
                f"read procedures: merge: found more than {_MAX_MERGED} cubes, those of the merged "
                "files included"
            )
        self._merged.append(other)
        return Container(other, _within=within, _merged=self._merged).cube


def _is_envi(path: Path) -> bool:
    if path.suffix.casefold() == ".hdr":
        return True
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ContainerError(f"{path}: cannot be read ({error.strerror})") from error
    if magic[:2] == b"PK" or path.suffix.casefold() == ".hsi":
        return False
    beside: Sequence[Path] = (path.with_name(path.name + ".hdr"), path.with_suffix(".hdr"))
    return any(found.is_file() for found in beside)


def _is_preview(entry: str) -> bool:
    return entry == "preview.hdr" or (entry.startswith("preview_") and entry.endswith(".hdr"))
