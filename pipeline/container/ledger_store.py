"""The ledger while a capture grows: rows in a file, found again by line, never in memory.

Two files: the rows as they come (gaps among them), and for each stored line the number of its
row. Writer and recovery fill it; at the end it is read from front to back. Knows the ledger's
row type and disk I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.container.sink_io import GrownFile, bytes_of, read_at, write_at
from pipeline.layout import LEDGER_DTYPE, LedgerRows, LineStatus, LossReason, ledger_rows

_ROW: Final = LEDGER_DTYPE.itemsize
_ROWS_AT_ONCE: Final = 4096


class LedgerStore:
    """Ledger rows on the disk.

    Parameters
    ----------
    folder : Path
        Where ``ledger.rows`` and ``ledger.index`` are created; they must not exist.

    Attributes
    ----------
    lines : int
        Rows of stored lines.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = GrownFile(folder / "ledger.rows")
        self._index = GrownFile(folder / "ledger.index")
        self.lines = 0

    def __len__(self) -> int:
        return self._rows.size // _ROW

    def make_room(self, rows: int) -> None:
        """See to it that so many more rows fit; raises StorageError."""
        self._rows.make_room(rows * _ROW)
        self._index.make_room(rows * 8)

    def append(self, rows: LedgerRows) -> None:
        """Append rows; those of stored lines must follow the last one."""
        base = len(self)
        self._rows.append(rows)
        own = base + np.flatnonzero(rows["line"] >= 0).astype("<i8")
        self._index.append(own)
        self.lines += len(own)

    def amend(self, first_line: int, rows: LedgerRows) -> None:
        """Replace the rows of the stored lines from ``first_line`` on; gaps stay."""
        where = np.frombuffer(read_at(self._index.fd, 8 * len(rows), 8 * first_line), "<i8")
        breaks = np.flatnonzero(np.diff(where) != 1) + 1
        for part, at in zip(np.split(rows, breaks), np.split(where, breaks), strict=True):
            if len(part):
                write_at(self._rows.fd, bytes_of(part), int(at[0]) * _ROW)

    def rows(self, first_line: int, count: int) -> LedgerRows:
        """Read the rows of stored lines, without the gaps among them."""
        where = np.frombuffer(read_at(self._index.fd, 8 * count, 8 * first_line), "<i8")
        breaks = np.flatnonzero(np.diff(where) != 1) + 1
        parts = [
            np.frombuffer(read_at(self._rows.fd, len(run) * _ROW, int(run[0]) * _ROW), LEDGER_DTYPE)
            for run in np.split(where, breaks)
            if len(run)
        ]
        return np.concatenate(parts) if parts else np.empty(0, LEDGER_DTYPE)

    def pieces(self) -> Iterator[LedgerRows]:
        """Yield all rows in order, some thousand at a time."""
        step = _ROWS_AT_ONCE * _ROW
        for at in range(0, self._rows.size, step):
            data = read_at(self._rows.fd, min(step, self._rows.size - at), at)
            yield np.frombuffer(data, LEDGER_DTYPE)

    def close(self) -> None:
        """Close both files; a second call does nothing."""
        self._rows.close()
        self._index.close()


def refused_row(lines: int, first: LedgerRows) -> LedgerRows:
    """Make the row that says how many lines the disk refused.

    Parameters
    ----------
    lines : int
    first : ndarray of LEDGER_DTYPE, (1,)
        What the camera said of the first of them.
    """
    row = ledger_rows(1)
    for name in ("frame_id", "epoch", "host_time_ns"):
        row[name] = first[name]
    row["count"] = min(lines, np.iinfo(np.uint32).max)
    row["status"] = LineStatus.LOST
    row["reason"] = LossReason.STORAGE
    return row
