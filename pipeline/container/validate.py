"""Holds a container against D4.1: each finding names the clause it goes against.

Errors are what makes a file wrong or unreadable for others; warnings what is allowed but not as
the project writes it, or an optional part that does not fit. Reads every byte once, for the
CRCs, in pieces. The checks of single headers are in :mod:`pipeline.container.validate_header`.
Knows the container's own modules.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.container.block_records import INDEX
from pipeline.container.envi import MAX_HEADER
from pipeline.container.header import Header
from pipeline.container.ledger import csv_pieces, decode_csv
from pipeline.container.partial import PARTIAL
from pipeline.container.reader import Container
from pipeline.container.sink_io import crc32
from pipeline.container.validate_header import CLAUSE, Finding, check_fields, check_procedures
from pipeline.container.zip_writer import ALIGNMENT
from pipeline.container.zipfile_layout import Archive, Entry, scan
from pipeline.errors import ContainerError, HeaderError
from pipeline.layout import LineStatus

__all__ = ["Finding", "validate"]

_LEDGER: Final = "Metadata/lines.csv"
_MAX_PICTURE: Final = 64 << 20


def validate(path: str | os.PathLike[str]) -> list[Finding]:
    """Check a container.

    Returns
    -------
    list of Finding
        Empty for a file without fault; a file is valid when none has ``level == "error"``.

    Raises
    ------
    ContainerError
        When the file cannot be read at all.
    """
    file = Path(path)
    if not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
        raise ContainerError(f"{file}: found {found}, allowed is a .hsi")
    if file.name.endswith(PARTIAL):
        raise ContainerError(f"{file}: a capture that was not finished; swath recover does")
    check = _Check()
    try:
        archive = scan(file)
    except ContainerError as error:
        check.error("2.2", "", str(error))
        return check.findings
    with archive:
        check.container(archive)
    return check.findings


class _Check:
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._headers: dict[str, Header] = {}

    def error(self, clause: str, entry: str, text: str) -> None:
        self.findings.append(Finding("error", CLAUSE + clause, entry, text))

    def warn(self, clause: str, entry: str, text: str) -> None:
        self.findings.append(Finding("warning", CLAUSE + clause, entry, text))

    def container(self, archive: Archive) -> None:
        for text in archive.warnings:
            self.warn("2.2", "", text)
        for entry in archive.entries.values():
            self._bytes(archive, entry)
        for name in ("data.envi", "data.hdr"):
            if name not in archive:
                self.error("2.2", name, "missing")
        for name in archive.entries:
            self._pair(archive, name)
        header = self._headers.get("data.hdr")
        if header is None:
            return
        self._cube(archive, header)
        if header.coded and "data.envi" in archive:
            self._blocks(archive.path)
        self._references(archive, header)
        self._previews(archive, header)
        self._thumbnail(archive)
        self._ledger(archive, header)
        self._links(archive, header)

    def _bytes(self, archive: Archive, entry: Entry) -> None:
        if entry.stored_size and not entry.stored:
            self.warn("2.2", entry.name, "compressed: no direct access to its bytes")
        crc = 0
        try:
            for chunk in archive.chunks(entry.name):
                crc = crc32(chunk, crc)
        except ContainerError as error:
            self.error("2.2", entry.name, str(error))
            return
        if crc != entry.crc:
            self.error("2.2", entry.name, f"CRC-32 {crc:08x}, the directory says {entry.crc:08x}")

    def _pair(self, archive: Archive, name: str) -> None:
        """Check a header against the pixels beside it, and that both are there."""
        stem, dot, ending = name.rpartition(".")
        if not dot or ending not in ("envi", "hdr"):
            return
        if ending == "envi":
            if f"{stem}.hdr" not in archive:
                self.error("2.2", name, "its header is missing")
            return
        header = self._header(archive, name)
        if header is None:
            return
        data = archive.get(f"{stem}.envi")
        if data is None:
            if name != "data.hdr":
                self.error("2.2", name, "its data are missing")
            return
        if header.lines == 0:
            self.error("2.4", name, "lines: found 0, allowed is one or more")
        if header.coded:
            return
        need = header.data_bytes + header.header_offset
        if data.size < need:
            self.error("2.4", data.name, f"has {data.size} bytes, its header says {need}")
        elif data.size > need:
            self.warn("2.4", data.name, f"has {data.size} bytes, its header says {need}")

    def _header(self, archive: Archive, name: str) -> Header | None:
        try:
            header = Header.parse(archive.read(name, limit=MAX_HEADER), where=name)
            _ = header.shape, header.interleave  # what can only fail when looked at
        except HeaderError as error:
            structural = any(word in str(error) for word in ("missing", "data type", "interleave"))
            self.error("2.4" if structural else "2.3", name, str(error))
            return None
        except ContainerError as error:
            self.error("2.2", name, str(error))
            return None
        self._headers[name] = header
        self.findings.extend(check_fields(name, header))
        return header

    def _cube(self, archive: Archive, header: Header) -> None:
        entry = archive.get("data.envi")
        if entry is not None and entry.stored and entry.offset % ALIGNMENT:
            self.warn("2.2", "data.envi", f"starts at {entry.offset}, no multiple of {ALIGNMENT}")
        kind = header.file_type.casefold()
        if not header.coded and kind not in ("envi standard", "pca"):
            self.error("2.4", "data.hdr", f"file type: found {header.file_type}, "
                       "allowed is ENVI Standard")  # fmt: skip
        if "wavelength" not in header:
            self.error("2.5", "data.hdr", "wavelength: missing")
        services = check_procedures(header)
        self.findings.extend(services.findings)
        pairs = {"reflectance": ("white", "black"), "pca": ("pca_basis", "pca_mean")}
        for service in services.names:
            for name in pairs.get(service, ()):
                if f"Reference/{name}.envi" not in archive:
                    text = f"read procedures: microservice:{service} needs Reference/{name}.envi"
                    self.error("2.2", "data.hdr", text)

    def _blocks(self, path: Path) -> None:
        """Check every block of a coded cube against its checksum, and that all lines have one."""
        with Container(path) as container:
            try:
                payload = container.coded
            except ContainerError as error:
                self.error("2.4", "data.hdr", _behind(error, path, "data.envi"))
                return
            assert payload is not None
            if INDEX not in container.entries:
                self.warn(
                    "2.2", "data.envi", f"found no {INDEX}, blocks are found by their records"
                )
            for text in payload.warnings:
                self.warn("2.2", INDEX, text)
            for first, count in payload.without_record():
                text = f"lines {first} to {first + count - 1}: found no record of their blocks"
                self.error("2.2", "data.envi", text)
            for number in sorted(payload.blocks):
                try:
                    payload.check(number)
                except ContainerError as error:
                    self.error("2.2", "data.envi", _behind(error, path, "data.envi"))
                if not payload.record_holds(number):
                    text = f"block {number}: its record is damaged, the table of blocks serves"
                    self.error("2.2", "data.envi", text)

    def _references(self, archive: Archive, header: Header) -> None:
        pca = header.file_type.casefold() == "pca"
        bands = (header.ints("pca bands") or [header.bands])[0] if pca else header.bands
        for name, own in self._headers.items():
            folder, _, stem = name.removesuffix(".hdr").rpartition("/")
            if folder != "Reference":
                continue
            if stem.startswith(("white", "black")):
                if (own.samples, own.bands) != (header.samples, bands):
                    text = f"has {own.samples} samples, {own.bands} bands; the cube has "
                    self.error("2.2", name, f"{text}{header.samples}, {bands}")
                if own.lines > 1:
                    self.warn("2.2", name, f"has {own.lines} lines: averaged, unless a snapshot")
            elif pca and stem in ("pca_basis", "pca_mean"):
                block = (header.ints("pca block lines") or [0])[0]
                groups = -(-header.lines // block) if block > 0 else own.lines
                expected = (groups, bands, header.bands if stem == "pca_basis" else 1)
                # One group more was begun when the disk was full, or the power cut.
                if own.lines < groups or own.shape[1:] != expected[1:]:
                    text = f"has (lines, samples, bands) = {own.shape}, needed are {expected}"
                    self.error("2.4", name, text)

    def _previews(self, archive: Archive, header: Header) -> None:
        for name, own in self._headers.items():
            if not name.startswith("preview"):
                continue
            if own.file_type.casefold() != "envi standard":
                text = f"file type: found {own.file_type}, allowed is ENVI Standard"
                self.error("2.4", name, text)
            if "wavelength" not in own:
                self.warn("2.5", name, "wavelength: missing")
            if own.lines > header.lines or own.samples > header.samples:
                self.warn("2.2", name, "is larger than the cube")
        quality = self._headers.get("Exploration/quality.hdr")
        if quality is not None and quality.shape[:2] != header.shape[:2]:
            text = f"covers {quality.lines} lines of {quality.samples} samples, the cube has "
            self.warn("2.2", "Exploration/quality.hdr", f"{text}{header.lines}, {header.samples}")

    def _thumbnail(self, archive: Archive) -> None:
        if "thumbnail.jpg" not in archive:
            self.warn("2.2", "thumbnail.jpg", "missing")
            return
        try:
            data = archive.read("thumbnail.jpg", limit=_MAX_PICTURE)
        except ContainerError:
            return  # said with its bytes
        if not (data.startswith(b"\xff\xd8\xff") and data.rstrip(b"\0").endswith(b"\xff\xd9")):
            self.error("2.2", "thumbnail.jpg", "is no whole JPEG picture")

    def _ledger(self, archive: Archive, header: Header) -> None:
        if _LEDGER not in archive:
            return
        expected = lost = 0
        try:
            for piece in csv_pieces(archive.chunks(_LEDGER), where=_LEDGER):
                rows = decode_csv(piece, where=_LEDGER)
                lost += int(rows["count"][rows["status"] == LineStatus.LOST].sum(dtype=np.int64))
                stored = rows["line"][rows["line"] >= 0]
                if not np.array_equal(stored, np.arange(expected, expected + len(stored))):
                    self.error("2.8", _LEDGER, f"lines are not in order behind line {expected}")
                    return
                expected += len(stored)
        except ContainerError as error:
            self.error("2.8", _LEDGER, str(error))
            return
        if expected == 0:
            self.warn("2.8", _LEDGER, "has no rows")
        elif expected != header.lines:
            self.error("2.8", _LEDGER, f"has rows for {expected} lines, the cube {header.lines}")
        said = header.number("lines lost")
        if expected and said is not None and said != lost:
            self.warn("2.8", _LEDGER, f"calls {lost} lines lost, the header says {said:g}")

    def _links(self, archive: Archive, header: Header) -> None:
        """Check the names in the header that lead to other entries."""
        names = {name.casefold() for name in archive.entries}
        sensor = header.get("sensor type")
        if isinstance(sensor, str) and sensor:
            stem = f"metadata/{sensor}".casefold()
            if not any(name == stem or name.startswith(stem + ".") for name in names):
                self.warn("2.7", "data.hdr", f"sensor type: found no Metadata/{sensor} file")
        for field in ("classification file", "bounding boxes"):
            value = header.get(field)
            if not isinstance(value, str) or not value:
                continue
            if f"exploration/{value}".casefold() not in names:
                self.error("2.9", "data.hdr", f"{field}: found no Exploration/{value}")


def _behind(error: ContainerError, path: Path, entry: str) -> str:
    """Give an error's text without file and entry, which the finding names."""
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{entry}: ")
