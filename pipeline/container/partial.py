"""A container while it grows: its names on the disk, and the note that recovery starts from.

``NAME.hsi.partial`` and the folder ``NAME.hsi.partial.d``; ``Metadata/stream.json`` in the one
and ``stream.json`` in the other say the same. Knows headers and disk I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.container.finishing import GrownEnvi
from pipeline.container.header import Header
from pipeline.container.sink_io import names, storage_error
from pipeline.container.zip_writer import fresh
from pipeline.errors import ConfigError, ContainerError

PARTIAL: Final = ".partial"
NOTE: Final = "Metadata/stream.json"


def partial_of(final: Path) -> Path:
    """Give the name of the growing file."""
    return final.with_name(final.name + PARTIAL)


def beside_of(partial: Path) -> Path:
    """Give the folder of what grows beside it."""
    return partial.with_name(partial.name + ".d")


def claim(final: Path, *, explicit: bool) -> tuple[int, Path]:
    """Create the partial file under the first name of which nothing exists yet.

    Returns
    -------
    fd : int
        Open for reading and writing.
    path : Path
        The finished file's name: ``final``, or ``NAME-2.hsi`` ….

    Raises
    ------
    ConfigError
        When ``explicit`` and something exists.
    StorageError
        When the folder refuses.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(final.parent, error) from error
    for name in names(final):
        partial = partial_of(name)
        taken = next((p for p in (name, partial, beside_of(partial)) if p.exists()), None)
        if taken is None:
            try:
                return fresh(partial), name
            except FileExistsError:
                taken = partial
        if explicit:
            raise ConfigError(f"{taken}: exists, allowed is the name of a new file")
    raise AssertionError("names() never ends")


def grown_file(name: str) -> str:
    """Give the file in ``.partial.d`` to which a grown name is appended."""
    return "grown-" + name.replace("/", "_")


def stream_json(header: Header, growing: Mapping[str, GrownEnvi]) -> bytes:
    """Make ``Metadata/stream.json``: what recovery needs to know, and a header to read by eye."""
    about = {
        "swath stream": 1,
        "header": header.text().splitlines(),
        "growing": {
            entry: {"file": grown_file(spec.grown), "header": spec.header.text().splitlines()}
            for entry, spec in growing.items()
        },
    }
    return json.dumps(about, indent=1, ensure_ascii=False).encode()


@dataclass(frozen=True)
class StreamNote:
    """What ``stream.json`` says.

    Attributes
    ----------
    header : Header
        Provisional, of ``data.envi``.
    growing : mapping of entry to (file, header)
        In the order of the journal's stream numbers.
    """

    header: Header
    growing: dict[str, tuple[str, Header]]


def read_note(data: bytes, where: str) -> StreamNote:
    """Read ``stream.json``.

    Raises
    ------
    ContainerError
        When it is damaged.
    """
    try:
        about = json.loads(data)
        header = Header.parse("\n".join(about["header"]), where=where)
        growing = {
            str(entry): (
                Path(str(spec["file"])).name,
                Header.parse("\n".join(spec["header"]), where=f"{where}: {entry}"),
            )
            for entry, spec in about["growing"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ContainerError(f"{where}: found no note of a capture ({error})") from error
    return StreamNote(header, growing)
