"""An open file as it lies there: header, entries, ledger, previews, and the stored pixels.

A ``.hsi`` container, or a plain ENVI file. Opening reads the directory and the header only; pixels
are mapped, or decoded block by block, everything else is read when it is asked for. Knows headers,
ZIP layout and the ledger; nothing of what is computed from pixels.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from pipeline.container.coded import CodedPayload, Decoded, open_entry, open_payload
from pipeline.container.coded_header import decoded_type, plain_header
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
from pipeline.container.zipfile_layout import Archive, scan
from pipeline.errors import ContainerError
from pipeline.layout import LedgerRows, ledger_rows, lost_count

#: Bytes of a thumbnail that are read at once.
_MAX_PICTURE: Final = 64 << 20


class OpenedFile:
    """An open container or plain ENVI file; also a context manager.

    Attributes
    ----------
    path : Path
    header : Header
        Of ``data.envi``: the stored cube.
    warnings : list of str
        What is odd about the file, as far as it has been read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
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

    def __enter__(self) -> Self:
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
        for name in ("stored", "coded"):
            self.__dict__.pop(name, None)
        if self._archive is not None:
            self._archive.close()

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
    def files(self) -> list[Path]:
        """The container, or header and data of a plain ENVI file."""
        if self._archive is None:
            return [self._envi_header, self._plain_data()]
        return [self.path]

    @property
    def entries(self) -> list[str]:
        """Names of all entries; of a plain ENVI file, of header and data file."""
        if self._archive is None:
            return [file.name for file in self.files]
        return list(self._archive.entries)

    @property
    def read_procedures(self) -> list[str]:
        """The read procedures as they are written."""
        return self.header.strings("read procedures") or []

    @property
    def lost(self) -> int:
        """Lines that were lost while recording, stored as filled lines or not at all."""
        found = self.header.whole("lines lost")
        return found if found is not None and found >= 0 else lost_count(self.ledger)

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
