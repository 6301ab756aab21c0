"""What a container keeps when its cube is written in another form: all other entries, in order.

Compressing and decompressing begin and end a file alike. Knows the reader, headers and ZIP
writing; nothing of codings.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from pipeline.container.block_records import INDEX
from pipeline.container.header import Header
from pipeline.container.partial import NOTE, stream_json
from pipeline.container.reader import Container
from pipeline.container.repack import checked_chunks, entry_order
from pipeline.container.zip_writer import ZipWriter
from pipeline.container.zipfile_layout import Archive
from pipeline.errors import ConfigError, ContainerError

#: Entry for the comment lines of a header, which swath does not write into one.
COMMENTS: Final = "Metadata/original comments.txt"
#: Entries that speak of the form of the cube: made anew.
_OF_THE_FORM: Final = (NOTE, INDEX)


def new_file(out: str | os.PathLike[str]) -> Path:
    """Check the name of a file that is to be written.

    Raises
    ------
    ConfigError
        When it exists, or its folder does not.
    """
    target = Path(out)
    if os.path.lexists(target):  # a link to nothing, too: it would not be replaced
        raise ConfigError(f"{target}: exists, allowed is the name of a new file")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: found no folder {target.parent}")
    return target


def begin_entries(
    out: ZipWriter, source: Container, header: Header, left_out: Collection[str] = ()
) -> list[str]:
    """Write what stands before ``data.envi``: the header as far as it is known, and metadata.

    Returns
    -------
    list of str
        Entries of the source that stand behind it, for :func:`copy_entries`.
    """
    out.add(NOTE, stream_json(header, {}))
    early, late = ([], []) if source.archive is None else entry_order(source.archive)
    copy_entries(out, source, early, left_out)
    if source.header.comments and COMMENTS not in out:
        out.add(COMMENTS, "".join(line + "\n" for line in source.header.comments).encode())
    return late


def copy_entries(
    out: ZipWriter, source: Container, names: list[str], left_out: Collection[str] = ()
) -> None:
    """Copy entries but for those that are left out, and check them on the way.

    Raises
    ------
    ContainerError
        When an entry is damaged.
    StorageError
        When the disk refuses.
    """
    archive = source.archive
    for name in names:
        if archive is not None and name not in _OF_THE_FORM and name not in left_out:
            out.add_chunks(name, checked_chunks(archive, name), archive.entry(name).size)


def damaged_entries(archive: Archive) -> dict[str, str]:
    """Give one sentence on each entry beside ``data.envi`` that is damaged."""
    found = {}
    for name in archive.entries:
        if name in ("data.envi", *_OF_THE_FORM):
            continue
        try:
            for _ in checked_chunks(archive, name):
                pass
        except ContainerError as error:
            found[name] = f"{name} is left out: {error}".replace(f"{archive.path}: {name}: ", "")
    return found


def without_partner(names: Collection[str]) -> set[str]:
    """Give the names of ENVI headers without data among ``names``, and of data without header."""
    alone = set()
    for name in names:
        stem, dot, ending = name.rpartition(".")
        partner = {"hdr": "envi", "envi": "hdr"}.get(ending)
        if dot and partner is not None and f"{stem}.{partner}" not in names:
            alone.add(name)
    return alone
