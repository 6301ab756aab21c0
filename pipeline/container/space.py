"""Room on the disk: checked when arming, and kept for what comes after the last line.

Knows disk I/O and the error tree; nothing of what is stored.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.container.sink_io import GrownFile
from pipeline.errors import ConfigError, StorageError

#: For thumbnail, small tables and headers that are made at the end (bytes).
_AT_END: Final = 1 << 20
#: For ``data.hdr`` and the central directory alone (bytes).
_FOR_HEADER: Final = 256 << 10
#: What journal, ledger rows and CSV take beside a line (bytes); typical, not a bound.
LEDGER_LINE_BYTES: Final = 400


class SpaceCheck(NamedTuple):
    """What :func:`free_space_check` found.

    Attributes
    ----------
    free_bytes : int
        Free for this user.
    needed_bytes : int or None
        What the requested lines take; None where none were requested.
    seconds : float
        Time (s) until the disk is full at this rate; infinite where the rate is unknown.
    warning : str or None
        What the user should know.
    """

    free_bytes: int
    needed_bytes: int | None
    seconds: float
    warning: str | None


def free_space_check(
    folder: str | os.PathLike[str],
    line_bytes: float,
    lines: int,
    lines_per_second: float,
    *,
    beside: float = 0.0,
    warn_seconds: float = 3600.0,
) -> SpaceCheck:
    """Compare what a capture will take with what is free.

    Parameters
    ----------
    folder : path
        Where the file will be; need not exist yet.
    line_bytes : float
        Stored bytes of a line.
    lines : int
        Requested lines; 0 where the capture goes on until it is stopped.
    lines_per_second : float
        0 where it is not known.
    beside : float
        Bytes a line that grow beside it (previews, quality mask); kept twice, because their
        copy at the end needs room too.
    warn_seconds : float
        An endless capture warns when the disk lasts for less (s).

    Raises
    ------
    ConfigError
        When the requested lines exceed the free space.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    per_line = line_bytes + LEDGER_LINE_BYTES + 2 * beside
    usable = max(free - _AT_END - 2 * _FOR_HEADER, 0)
    fit = int(usable / per_line)
    seconds = fit / lines_per_second if lines_per_second > 0 else float("inf")
    needed = int(lines * per_line) + _AT_END + 2 * _FOR_HEADER if lines else None
    if lines and fit < lines:
        raise ConfigError(
            f"{folder}: found {free / 1e9:.2f} GB free, {lines} lines need "
            f"{(needed or 0) / 1e9:.2f} GB; allowed are {fit} lines"
        )
    warning = None
    if not lines and seconds < warn_seconds:
        warning = (
            f"the disk of {folder} has {free / 1e9:.1f} GB free: enough for {seconds:,.0f} s "
            f"({fit:,} lines)"
        )
    return SpaceCheck(free, needed, seconds, warning)


def check_space(
    folder: str | os.PathLike[str], line_bytes: float, lines: int, lines_per_second: float
) -> str | None:
    """Give the warning of :func:`free_space_check`, or None; raises as it does."""
    return free_space_check(folder, line_bytes, lines, lines_per_second).warning


class Reserve:
    """Room held by two files beside the partial one, given back when the end is written.

    The first grows with what will be copied in; the second holds what header and directory
    take, so that they fit even when something else did not.
    """

    def __init__(self, folder: Path, header_bytes: int) -> None:
        self._tail = GrownFile(folder / "reserve")
        self._header = GrownFile(folder / "reserve.header")
        try:
            self._header.make_room(_FOR_HEADER + 2 * header_bytes)
            self.keep(0)
        except StorageError:
            self.close()
            raise

    def keep(self, count: int) -> None:
        """Hold room for ``count`` bytes and what is made at the end; raises StorageError."""
        self._tail.make_room(_AT_END + count)

    def free_tail(self) -> None:
        """Give back all but the header's room."""
        self._tail.close()
        self._tail.path.unlink(missing_ok=True)

    def free_header(self) -> None:
        """Give back the rest."""
        self._header.close()
        self._header.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close both files; a second call does nothing."""
        self._tail.close()
        self._header.close()
