"""Finishes the file of a capture that was cut short, up to the last line that holds.

Works in place, so that a full disk is no obstacle, and can be cut short itself: journal and
partial file stay until the finished file has its name, and a second run comes to the same
result. Knows the salvage of the lines and how a container is finished.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.container.finishing import GrownEnvi, Tail, publish, settle, write_tail
from pipeline.container.growing import GrownRows
from pipeline.container.header import Header
from pipeline.container.ledger_store import LedgerStore
from pipeline.container.partial import PARTIAL, beside_of, partial_of
from pipeline.container.repack import undo_append
from pipeline.container.salvage import Salvage, salvage
from pipeline.container.sink_io import lock_file, storage_error
from pipeline.container.spool import SPOOL
from pipeline.container.zip_writer import ZipWriter
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ContainerError
from pipeline.layout import lost_count

#: ``(lines, samples, bands)`` picture, wavelengths in nm or None, whether it is reflectance.
Thumbnail = Callable[[GrownRows, NDArray[np.float64] | None, bool], bytes]


@dataclass(frozen=True)
class RecoveryReport:
    """What came of a recovery.

    Attributes
    ----------
    file : Path
        The finished container.
    lines : int
        Lines in it.
    lost : int
        Lines that its ledger calls lost.
    damaged : int
        Of these, lines whose checksum fails though they had been on the disk.
    dropped_bytes : int
        Payload behind the last line that holds.
    journalled : bool
        Whether checksums proved the lines; else they were counted by size.
    warnings : list of str
    """

    file: Path
    lines: int
    lost: int = 0
    damaged: int = 0
    dropped_bytes: int = 0
    journalled: bool = True
    warnings: list[str] = field(default_factory=list)


def recover(path: str | os.PathLike[str], *, thumbnail: Thumbnail | None = None) -> RecoveryReport:
    """Make a finished container of ``NAME.hsi.partial``.

    Parameters
    ----------
    path : path
        The partial file, the folder beside it, or the name that the finished file was to have.
    thumbnail : callable, optional
        Makes ``thumbnail.jpg`` from the smallest preview.

    Raises
    ------
    ContainerError
        When nothing can be recovered; nothing was changed then.
    StorageError
        When the disk refuses; the partial file is still there.
    """
    given = Path(path)
    name = given.name.removesuffix(".d")
    if name.endswith(PARTIAL):
        partial = given.with_name(name)
        final = given.with_name(name.removesuffix(PARTIAL))
    else:
        partial, final = partial_of(given), given
    beside = beside_of(partial)
    if not partial.exists():
        return _already_whole(given, final, beside)
    try:
        fd = os.open(partial, os.O_RDWR | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ContainerError(f"{partial}: cannot be opened ({error.strerror})") from error
    try:
        if not lock_file(fd):
            raise ContainerError(f"{partial}: a running capture writes it; nothing was changed")
        return _recover(fd, partial, beside, final, thumbnail)
    except OSError as error:
        raise storage_error(partial, error) from error
    finally:
        os.close(fd)


def _already_whole(given: Path, final: Path, beside: Path) -> RecoveryReport:
    """Clear away what may lie beside a file that has its name."""
    if not final.exists():
        raise ContainerError(f"{given}: found no such file, allowed is a .hsi.partial")
    undone = undo_append(final)
    with scan(final) as archive:
        lines = Header.parse(archive.read("data.hdr"), where=f"{final}: data.hdr").lines
    if not undone and not beside.exists():
        raise ContainerError(f"{final}: is whole, there is nothing to recover")
    shutil.rmtree(beside, ignore_errors=True)
    return RecoveryReport(final, lines)


def _recover(
    fd: int, partial: Path, beside: Path, final: Path, thumbnail: Thumbnail | None
) -> RecoveryReport:
    had_beside = beside.exists()
    scratch = beside / "recovery"
    shutil.rmtree(scratch, ignore_errors=True)
    for name in ("reserve", "reserve.header", "ledger.rows", "ledger.index", SPOOL):
        (beside / name).unlink(missing_ok=True)  # kept room, and what journal and lines have too
    scratch.mkdir(parents=True)
    try:
        ledger = LedgerStore(scratch)
        try:
            found = salvage(fd, partial, beside, ledger)
            return _finish(fd, partial, beside, final, found, ledger, thumbnail)
        finally:
            ledger.close()
    except ContainerError:
        shutil.rmtree(scratch if had_beside else beside, ignore_errors=True)
        raise


def _finish(
    fd: int,
    partial: Path,
    beside: Path,
    final: Path,
    found: Salvage,
    ledger: LedgerStore,
    thumbnail: Thumbnail | None,
) -> RecoveryReport:
    payload = found.lines * found.line_bytes
    begun = found.records[-1].size > 0
    dropped = 0 if begun else os.fstat(fd).st_size - found.start - payload
    out = ZipWriter(fd, partial, records=found.records)
    out.complete("data.envi", payload, found.crc)
    settle(fd, partial)
    out.cut(out.position)
    lost = sum(lost_count(rows) for rows in ledger.pieces())
    header = _header(found, ledger, lost)
    errors = ["recovered after an interruption"]
    if found.damaged:
        errors.append(f"{found.damaged} lines are damaged on the disk and lost")
    if not begun and dropped >= found.line_bytes:
        errors.append(f"{dropped // found.line_bytes} lines at the end did not hold")
    files: list[int] = []
    try:
        grown = []
        for entry, own, file, size in _grown(found):
            if size >= GrownEnvi("", own).row_bytes:
                files.append(os.open(beside / file, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
                grown.append((entry, own, files[-1], size))
        last = _thumbnail(thumbnail, grown, found)
        tail = Tail(
            header=header,
            fallback=found.note.header,
            lines=found.lines,
            rows=ledger.pieces(),
            row_count=len(ledger),
            grown=grown,
            last=last,
            errors=errors,
        )
        write_tail(out, tail)
        target = publish(fd, partial, beside, final)
    finally:
        for opened in files:
            os.close(opened)
    return RecoveryReport(
        target,
        found.lines,
        lost,
        found.damaged,
        max(dropped, 0),
        found.journalled,
        [*found.warnings, *tail.errors[1:]],
    )


def _header(found: Salvage, ledger: LedgerStore, lost: int) -> Header:
    header = found.note.header.copy()
    header.set("lines", found.lines)
    if lost:
        header.set("lines lost", lost)
    if found.journalled:
        rows = ledger.rows(found.lines - 1, 1)
        if len(rows) and rows["host_time_ns"][0] > 0:
            stop = datetime.fromtimestamp(int(rows["host_time_ns"][0]) / 1e9, UTC)
            header.set("stop time", stop.strftime("%H:%M:%S"))
    return header


def _grown(found: Salvage) -> list[tuple[str, Header, str, int]]:
    """Give what grew, cut to whole rows and to what belongs to the recovered lines."""
    cube = found.note.header
    out = []
    for number, (entry, (file, header)) in enumerate(found.note.growing.items()):
        row = GrownEnvi("", header).row_bytes
        if entry.startswith("Reference/pca_"):
            per_row = max((cube.ints("pca block lines") or [1])[0], 1)
        else:
            per_row = max(round(cube.samples / header.samples), 1)
        rows = min(found.grown.get(number, 0) // row, -(-found.lines // per_row))
        out.append((entry, header, file, rows * row))
    return out


def _thumbnail(
    make: Thumbnail | None, grown: list[tuple[str, Header, int, int]], found: Salvage
) -> dict[str, bytes | Path]:
    preview = next((item for item in grown if item[0] == "preview"), None)
    if make is None or preview is None:
        return {}
    _, header, fd, size = preview
    try:
        rows = GrownRows(fd, size, header)
        scaled = header.number("reflectance scale factor")
        return {"thumbnail.jpg": make(rows, header.wavelength_nm, scaled is not None)}
    except Exception as error:  # a picture must not cost the lines
        found.warnings.append(f"thumbnail.jpg is left out: {error}")
        return {}
