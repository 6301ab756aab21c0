"""The streaming writer: blocks of whole lines in, a finished ``.hsi`` out, whatever happens.

``NAME.hsi.partial`` grows line by line; everything else that grows (journal, ledger rows,
preview strips …) goes to files in ``NAME.hsi.partial.d/`` and is copied in at the end. A thread
syncs payload, then journal, at least once a second. Room for what follows the payload is kept,
so that a full disk costs the lines that do not fit and nothing else. docs/container-writing.md
says why it is done this way. Knows the container's own modules and the bottom of the project.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.finishing import (
    CSV_ROW_BYTES,
    GrownEnvi,
    Tail,
    publish,
    settle,
    write_tail,
)
from pipeline.container.growing import GrowingFiles, GrownRows
from pipeline.container.header import Header
from pipeline.container.journal import JOURNAL, Journal, Kind
from pipeline.container.ledger_store import LedgerStore, refused_row
from pipeline.container.partial import beside_of, claim, partial_of, stream_json
from pipeline.container.payload import Payload, Put
from pipeline.container.sink_io import bytes_of, fdatasync, lock_file, storage_error, sync_folder
from pipeline.container.space import Reserve, free_space_check
from pipeline.container.zip_writer import ZipWriter
from pipeline.errors import ConfigError, ContainerError, StorageError
from pipeline.layout import LEDGER_DTYPE, LedgerRows, lost_count

__all__ = ["ContainerWriter", "GrownEnvi"]

_Bytes = bytes  # inside the class, the name is a property


class ContainerWriter:
    """Writes one container. One thread writes; amending and appending may be others.

    Parameters
    ----------
    final : Path
        The finished file's name; ``NAME-2.hsi`` … where it is taken.
    header : Header
        Provisional and complete enough to recover with: samples, bands, data type and
        ``interleave = bil`` are as stored; ``lines`` may be 0.
    first : mapping of entry to bytes
        What is known now (references, camera description); goes before ``data.envi``.
    explicit : bool
        Whether the user named the file: then one that exists is refused.
    expected_lines : int, optional
        Refused where the disk has no room for them; not a limit.
    sync_seconds : float
        What was written is on the disk after at most this time (s).
    growing : mapping of entry (without ending) to GrownEnvi
        ENVI entries that grow by :meth:`append`; recovery can rebuild them too.
    followed : int
        Bytes of the last lines that stay in the page cache, for who follows the file.

    Attributes
    ----------
    give_room : callable
        Called when the disk is full, by any thread that writes; what could not be written is
        tried once more where it says that there is more room now.
    lost : int
        Lines that the ledger calls lost.
    synced_lines : int
        Lines whose pixels and journal records are known to be on the disk.
    path, partial : Path
        The intended name, and that of the file while it grows.

    Raises
    ------
    ConfigError
        When ``explicit`` and the file exists, the header has another interleave than bil, or
        the disk no room for the expected lines.
    StorageError
        When the folder refuses, or has no room for the start.
    """

    def __init__(
        self,
        final: str | os.PathLike[str],
        header: Header,
        *,
        first: Mapping[str, _Bytes] | None = None,
        explicit: bool = False,
        expected_lines: int | None = None,
        sync_seconds: float = 1.0,
        growing: Mapping[str, GrownEnvi] | None = None,
        followed: int = 0,
    ) -> None:
        if header.interleave != "bil":
            raise ConfigError(f"interleave: found {header.interleave}, allowed is bil")
        self._provisional = header.copy()
        self._provisional.set("lines", 0)
        self._line_bytes = GrownEnvi("", header).row_bytes
        self._growing = dict(growing or {})
        self._followed = followed
        self.give_room: Callable[[], bool] = lambda: False
        self.lost = 0
        self.synced_lines = 0
        self._changes = self._synced_changes = 0  # journal records, of the syncs apart
        self._failed: StorageError | None = None
        self._unstored = 0
        self._first_unstored: LedgerRows | None = None
        self._lock = threading.RLock()
        self._done = False
        free_space_check(Path(final).parent, self._line_bytes, expected_lines or 0, 0.0)
        self._fd, self.path = claim(Path(final), explicit=explicit)
        self.partial = partial_of(self.path)
        self._beside = beside_of(self.partial)
        try:
            self._open(dict(first or {}))
        except BaseException as error:
            self._drop()
            if isinstance(error, OSError):
                raise storage_error(self.partial, error) from error
            raise
        self._stop = threading.Event()
        self._interval = 0.3 * sync_seconds  # the rest is for the disk
        self._syncer = threading.Thread(target=self._keep_synced, name="swath-sync", daemon=True)
        self._syncer.start()

    # -- starting --------------------------------------------------------------------------

    def _open(self, first: dict[str, _Bytes]) -> None:
        lock_file(self._fd)  # keeps recovery away while this process lives
        self._beside.mkdir()
        self._journal = Journal(self.journal)
        self._ledger = LedgerStore(self._beside)
        self._reserve = Reserve(self._beside, len(self._provisional.encode()) + 100 * len(first))
        registered = [spec.grown for spec in self._growing.values()]
        self._grown = GrowingFiles(self._beside, registered, self._journal, self._reserve)
        about = stream_json(self._provisional, self._growing)
        with (self._beside / "stream.json").open("xb") as note:
            note.write(about)
            note.flush()
            os.fsync(note.fileno())
        self._zip = ZipWriter(self._fd, self.partial)
        self._zip.add("Metadata/stream.json", about)
        for name, data in first.items():
            self._zip.add(name, data)
        start = self._zip.begin("data.envi")
        self._payload = Payload(self._fd, start, self._line_bytes, self._followed)
        os.fsync(self._fd)
        sync_folder(self._beside)
        sync_folder(self._beside.parent)

    # -- while recording -------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        """Payload bytes stored."""
        return self._payload.size

    @property
    def lines(self) -> int:
        """Stored lines, filled ones included."""
        return self._payload.lines

    @property
    def beside(self) -> Path:
        """The folder of what grows beside the partial file."""
        return self._beside

    @property
    def journal(self) -> Path:
        """The journal, for who follows the file."""
        return self._beside / JOURNAL

    @property
    def payload_start(self) -> int:
        """First byte of the first line in the partial file."""
        return self._payload.start

    def write(self, pixels: NDArray[Any] | Sequence[NDArray[Any]], rows: LedgerRows) -> None:
        """Store a block; it counts as written (not yet as synced) when this returns.

        Parameters
        ----------
        pixels : ndarray or sequence of ndarray, C-contiguous, (lines, bands, samples)
            Whole stored lines, in runs that follow each other.
        rows : ndarray of LEDGER_DTYPE
            One row for each line (``line`` ≥ 0; numbered here), and rows of gaps among them.

        Raises
        ------
        StorageError
            The disk is full or refuses. Lines that went in whole stay, the others stand in the
            ledger as lost; :meth:`finish` still works. Every later call raises again.
        """
        runs = [pixels] if isinstance(pixels, np.ndarray) else pixels
        views = [bytes_of(run) for run in runs if run.size]
        total = sum(map(len, views))
        count, rest = divmod(total, self._line_bytes)
        own = np.array(rows, LEDGER_DTYPE)
        stored = own["line"] >= 0
        if rest or np.count_nonzero(stored) != count:
            raise ValueError(
                f"block of {total} bytes with {np.count_nonzero(stored)} ledger rows, a line "
                f"has {self._line_bytes} bytes"
            )
        if self._failed is not None:
            self._give_up(own, self._failed)
        own["line"][stored] = np.arange(self.lines, self.lines + count)
        try:
            self._with_room(lambda: self._room_for(own))
        except StorageError as error:
            self._give_up(own, error)
        put = self._payload.put(views, count)
        if put.error is not None and self.give_room():
            put = self._payload.put(views, count)
        stays = np.ones(len(own), bool)
        if put.error is not None:
            behind = np.flatnonzero(own["line"] == self.lines + put.lines)
            stays[int(behind[0]) if len(behind) else 0 :] = False
        try:
            self._enter(own[stays], put)
        except StorageError as error:
            self._payload.forget()
            self._give_up(own, error)
        if put.error is not None:
            self._give_up(own[~stays], storage_error(self.partial, put.error))

    def _room_for(self, rows: LedgerRows) -> None:
        """See to it that all fits which a block needs beside its pixels; raises StorageError."""
        with self._lock:
            self._journal.make_room(rows.nbytes + LEDGER_DTYPE.itemsize)
            self._ledger.make_room(len(rows) + 1)
            self._grown.keep_room(self._ledger_bytes(len(rows) + 1))

    def _with_room(self, action: Callable[[], None]) -> None:
        """Do what the disk may refuse, and once more when room was given back for it."""
        try:
            action()
        except (StorageError, OSError):
            if not self.give_room():
                raise
            action()

    def _enter(self, rows: LedgerRows, put: Put) -> None:
        """Put a block that is in the file into journal and ledger."""
        with self._lock:
            self._journal.add(Kind.BLOCK, self.lines, put.lines, put.crc, rows.tobytes())
            self._ledger.append(rows)
            self._payload.keep(put)
            self.lost += lost_count(rows)
            self._changes += 1

    def _give_up(self, rows: LedgerRows, error: StorageError) -> None:
        """Count rows that cannot be stored, and raise."""
        self._failed = error
        gone = int(rows["count"].sum(dtype=np.int64))
        if self._first_unstored is None and gone:
            self._first_unstored = rows[:1].copy()
        self._unstored += gone
        self.lost += gone
        raise StorageError(str(error)) from error

    def _ledger_bytes(self, more: int) -> int:
        return (len(self._ledger) + more) * CSV_ROW_BYTES

    def append(self, name: str, data: NDArray[Any] | _Bytes) -> None:
        """Append to what grows under this name; nothing of it stays in memory.

        Raises
        ------
        StorageError
            When the disk is full; the bytes are not appended.
        """
        with self._lock:
            try:
                self._with_room(lambda: self._grown.append(name, data, self._ledger_bytes(1)))
            except OSError as error:
                raise storage_error(self._beside, error) from error
            self._changes += 1

    def amend_rows(self, first_line: int, rows: LedgerRows) -> None:
        """Replace the ledger rows of stored lines by ones that know more (quality counts).

        Parameters
        ----------
        first_line : int
            Index in the cube of the line that the first row is about; one row a line.
        rows : ndarray of LEDGER_DTYPE

        Raises
        ------
        StorageError
            When the disk is full; the earlier rows stay.
        """
        if first_line < 0 or first_line + len(rows) > self.lines:
            raise ValueError(
                f"rows for lines {first_line} to {first_line + len(rows)}, stored are {self.lines}"
            )
        own = np.array(rows, LEDGER_DTYPE)
        own["line"] = np.arange(first_line, first_line + len(own))
        own["count"] = 1
        with self._lock:
            self._with_room(lambda: self._journal.make_room(own.nbytes))
            self._journal.add(Kind.ROWS, first_line, len(own), payload=own.tobytes())
            self._ledger.amend(first_line, own)
            self._changes += 1

    def free_seconds(self, lines_per_second: float) -> float:
        """Time (s) until the disk is full at this rate; infinite at rate 0."""
        return free_space_check(self.partial.parent, self._line_bytes, 0, lines_per_second).seconds

    def read_back(self, first_line: int, lines: int) -> NDArray[Any]:
        """Read stored lines again, for what could not be computed while they were in memory.

        Returns
        -------
        ndarray, (lines, bands, samples), of the stored dtype, C-contiguous

        Raises
        ------
        StorageError
            When the disk does not give them.
        """
        header = self._provisional
        try:
            data = self._payload.read(first_line, lines)
        except OSError as error:
            raise storage_error(self.partial, error) from error
        return np.frombuffer(data, header.dtype).reshape(lines, header.bands, header.samples)

    def rows_back(self, first_line: int, lines: int) -> LedgerRows:
        """Read the ledger rows of stored lines, without the gaps among them; a copy."""
        with self._lock:
            return self._ledger.rows(first_line, lines).copy()

    def grown(self, entry: str) -> GrownRows | None:
        """Give what has grown so far for an entry of ``growing``, to be read row by row."""
        spec = self._growing.get(entry)
        return None if spec is None else self._grown.rows(spec.grown, spec.header)

    # -- syncing ---------------------------------------------------------------------------

    def _keep_synced(self) -> None:
        while not self._stop.wait(self._interval):
            if not self._synced():
                return

    def _synced(self) -> bool:
        try:
            self.sync()
        except OSError as error:
            self._failed = self._failed or storage_error(self.partial, error)
        except StorageError as error:
            self._failed = self._failed or error
        else:
            return True
        return False

    def sync(self) -> None:
        """Wait until all that was written so far is on the disk: payload, then journal.

        Raises
        ------
        OSError, StorageError
            When the disk refuses.
        """
        with self._lock:
            lines, changes = self.lines, self._changes
        if changes == self._synced_changes:
            return
        fdatasync(self._fd)
        self._grown.sync()
        self._journal.add(Kind.SYNC, lines)
        self._journal.sync()
        self.synced_lines = lines
        self._synced_changes = changes

    # -- ending ----------------------------------------------------------------------------

    def finish(
        self, header: Header, *, last: Mapping[str, _Bytes | Path | GrownEnvi] | None = None
    ) -> Path:
        """Complete the file and give it its name.

        Parameters
        ----------
        header : Header
            Of ``data.envi``, complete but for ``lines``; of its structure what was written
            holds. A value that cannot be written is left out and named in ``errors``.
        last : mapping of entry to bytes, file or GrownEnvi
            What is known only now. Entries of ``growing`` are added by themselves, with the
            header given there unless one is given here.

        Returns
        -------
        Path
            The finished file; ``NAME-2.hsi`` … where the name was taken meanwhile.

        Raises
        ------
        ContainerError
            When not one line was stored; nothing is left behind.
        StorageError
            When header or directory cannot be written; the partial file can be recovered.
        """
        self._halt()
        if not self.lines:
            self.discard()
            raise ContainerError(f"{self.path}: found no line to store, allowed is one or more")
        errors = []
        self._reserve.free_tail()
        unstored: list[LedgerRows] = []
        if self._failed is not None:
            errors.append(f"{self._failed}; {self._unstored} lines were not stored")
            unstored = self._enter_unstored()
        self._zip.complete("data.envi", self.bytes, self._payload.crc)
        settle(self._fd, self.partial)
        items = {n: c for n, c in (last or {}).items() if not isinstance(c, GrownEnvi)}
        specs = self._growing | {
            n.removesuffix(".envi"): c for n, c in (last or {}).items() if isinstance(c, GrownEnvi)
        }
        tail = Tail(
            header=header,
            fallback=self._provisional,
            lines=self.lines,
            rows=itertools.chain(self._ledger.pieces(), unstored),
            row_count=len(self._ledger) + len(unstored),
            grown=self._grown.entries(specs),
            last=items,
            errors=errors,
            before_header=self._reserve.free_header,
        )
        write_tail(self._zip, tail)
        self.path = publish(self._fd, self.partial, self._beside, self.path)
        self._close()
        return self.path

    def _enter_unstored(self) -> list[LedgerRows]:
        """Give the row, if any, that says how many lines the disk refused.

        It goes straight into the finished file, whose room was kept: the files beside it may be
        what the disk refused.
        """
        if self._first_unstored is None:
            return []
        row = refused_row(self._unstored, self._first_unstored)
        try:
            self._journal.add(Kind.BLOCK, self.lines, 0, 0, row.tobytes())
        except StorageError:
            pass  # only a recovery, should the end fail, too, would read it
        return [row]

    def discard(self) -> None:
        """Leave nothing behind: for a capture that is not wanted, or has no line."""
        self._halt()
        self._drop()

    def abandon(self) -> None:
        """Close everything and leave the partial file to recovery."""
        self._halt()
        self._close()

    def _halt(self) -> None:
        self._stop.set()
        self._syncer.join()
        if not self._done:
            self._synced()

    def _close(self) -> None:
        self._done = True
        for name in ("_journal", "_ledger", "_reserve", "_grown"):
            file = getattr(self, name, None)
            if file is not None:
                file.close()
        fd, self._fd = self._fd, -1  # before it is closed: a signal may end this in between
        if fd >= 0:
            os.close(fd)

    def _drop(self) -> None:
        self._close()
        self.partial.unlink(missing_ok=True)
        shutil.rmtree(self._beside, ignore_errors=True)
