"""What grows beside a partial file, apart from journal and ledger.

Preview and quality strips, PCA bases: each name has a file, each append its checksum in the
journal. Room for the copy that goes into the container at the end is kept all the while. Knows
journal and disk I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.container.finishing import GrownEnvi
from pipeline.container.header import Header
from pipeline.container.journal import Journal, Kind
from pipeline.container.partial import grown_file
from pipeline.container.sink_io import GrownFile, bytes_of, crc32, read_at
from pipeline.container.space import Reserve


class GrownRows:
    """Rows of a grown BIL file, read as they are asked for; nothing of it stays in memory.

    Parameters
    ----------
    fd : int
        Open file.
    size : int
        Bytes that count.
    header : Header
        Of its ENVI entry: samples, bands and data type.

    Attributes
    ----------
    shape : tuple of int
        ``(rows, samples, bands)``.
    dtype : numpy.dtype
    """

    def __init__(self, fd: int, size: int, header: Header) -> None:
        self.dtype = header.dtype
        self._fd = fd
        self._row_bytes = header.samples * header.bands * self.dtype.itemsize
        self.shape = (size // self._row_bytes, header.samples, header.bands)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows: (rows, samples, bands)."""
        start, stop, _ = rows.indices(len(self))
        data = read_at(self._fd, max(stop - start, 0) * self._row_bytes, start * self._row_bytes)
        _, samples, bands = self.shape
        return np.frombuffer(data, self.dtype).reshape(-1, bands, samples).transpose(0, 2, 1)


class GrowingFiles:
    """The files by grown name; the caller sees to it that one thread at a time appends.

    Parameters
    ----------
    folder : Path
    registered : iterable of str
        Names that recovery knows; their number is the journal's stream number.
    journal : Journal
    reserve : Reserve
    """

    def __init__(
        self, folder: Path, registered: Iterable[str], journal: Journal, reserve: Reserve
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._reserve = reserve
        self._streams = {name: number for number, name in enumerate(registered)}
        self._files: dict[str, GrownFile] = {}
        try:
            for name in self._streams:
                self._files[name] = GrownFile(folder / grown_file(name))
        except BaseException:
            self.close()
            raise

    def keep_room(self, ledger_bytes: int, more: int = 0) -> None:
        """Keep room for the copies, the ledger's text and ``more`` bytes; raises StorageError."""
        grown = sum(file.size for file in self._files.values())
        self._reserve.keep(ledger_bytes + grown + more)

    def append(self, name: str, data: Any, ledger_bytes: int) -> None:
        """Append the bytes of an array or buffer.

        Raises
        ------
        StorageError, OSError
            When the disk is full; nothing of it is appended.
        """
        view = bytes_of(data)
        if not view.nbytes:
            return
        if name not in self._files:
            self._files[name] = GrownFile(self._folder / grown_file(name))
        self.keep_room(ledger_bytes, view.nbytes)
        self._journal.make_room(0)
        at = self._files[name].append(view)
        if name in self._streams:
            number = self._streams[name]
            self._journal.add(Kind.GROWN, at, len(view), crc32(view), stream=number)

    def rows(self, name: str, header: Header) -> GrownRows | None:
        """Give what was appended under a name as rows of a cube; None where nothing was."""
        file = self._files.get(name)
        return None if file is None else GrownRows(file.fd, file.size, header)

    def entries(self, specs: Mapping[str, GrownEnvi]) -> list[tuple[str, Header, int, int]]:
        """Give entry, header, file descriptor and size (bytes) of what grew by these specs."""
        return [
            (entry, spec.header, self._files[spec.grown].fd, self._files[spec.grown].size)
            for entry, spec in specs.items()
            if spec.grown in self._files
        ]

    def sync(self) -> None:
        """Wait until all is on the disk."""
        for file in tuple(self._files.values()):
            file.sync()

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        for file in self._files.values():
            file.close()
