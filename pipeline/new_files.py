"""Files that are made once and never overwritten: all of them, or none.

Knows the error tree and the disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.errors import StorageError

#: Endings of an ENVI file that swath writes: of its header, of its data.
WRITTEN: Final = (".hdr", ".envi")


def header_path(named: Path) -> Path:
    """Give the header of the ENVI file that is named by header or data, or without an ending.

    A dot within the name (``bad-2.5ms``) is no ending.
    """
    if named.suffix.casefold() in WRITTEN:
        return named.with_suffix(".hdr")
    return named.with_name(named.name + ".hdr")


def write_new(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write files that do not exist yet, in their order; where one fails none is left.

    Their folder is made where there is none.

    Raises
    ------
    StorageError
        When one exists by now, or the disk refuses.
    """
    made: list[Path] = []
    try:
        for path, content in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                made.append(path)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except BaseException as error:
        for path in reversed(made):
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            where = error.filename or (made[-1] if made else files[0][0])
            raise StorageError(f"{where}: cannot be written: {error.strerror}") from error
        raise
