"""A file that is written beside its place, and takes it only when it is whole.

What is written under another name first, synced and then renamed is never seen half. Knows disk
I/O and the error tree; nothing of what is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.container.sink_io import lock_file, rename_new, storage_error, sync_folder
from pipeline.container.zip_writer import fresh
from pipeline.errors import ConfigError, StorageError


def write_whole(
    target: Path,
    ending: str,
    write: Callable[[int, Path], None],
    *,
    sources: Iterable[Path],
    candidates: Iterable[Path] | None = None,
) -> Path:
    """Write ``target`` by way of a file beside it.

    Parameters
    ----------
    target : Path
    ending : str
        Of the file beside it; one that a run left which was cut short is removed.
    write : callable
        Takes an open file (reading and writing) and its name.
    sources : iterable of Path
        Files that the new one is made from; never the file beside.
    candidates : iterable of Path, optional
        Names of which the first that is free is taken; by default ``target`` is replaced.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    ConfigError
        When a source has the name of the file beside.
    StorageError
        When the disk refuses, or another process writes the same file; nothing is left beside.
    """
    work = target.with_name(target.name + ending)
    for source in sources:
        if _is_same(work, source):
            raise ConfigError(
                f"{source}: {target.name} grows in a file of this name, allowed is one of another"
            )
    fd = _begin(work)
    try:
        try:
            write(fd, work)
            os.fsync(fd)
        finally:
            os.close(fd)
        if candidates is None:
            work.replace(target)
        else:
            target = rename_new(work, candidates)
        sync_folder(target.parent)
    except OSError as error:
        work.unlink(missing_ok=True)
        raise storage_error(work, error) from error
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    return target


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _begin(work: Path) -> int:
    """Create the file beside; its lock tells a run that goes on from one that was cut short."""
    try:
        try:
            left = os.open(work, os.O_RDWR | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            pass
        else:
            try:
                if not lock_file(left):
                    raise StorageError(f"{work}: another process is writing it")
            finally:
                os.close(left)
            work.unlink(missing_ok=True)
        fd = fresh(work)
    except OSError as error:
        raise storage_error(work, error) from error
    lock_file(fd)
    return fd
