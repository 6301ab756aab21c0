"""GenTL producers as files: where they are announced, and whether one can be loaded at all.

A library that is cut off, or is no GenTL producer, must not be loaded: the first kills the process,
the second does so when harvesters calls what it does not have. Knows files, nothing of cameras.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipeline.errors import ConfigError

#: Where GenTL producers are announced (GenTL standard, 64-bit).
SEARCH_PATH: Final = "GENICAM_GENTL64_PATH"
#: Functions without which nothing works (GenTL 1.0).
_NEEDED: Final = (
    "GCInitLib",
    "GCCloseLib",
    "TLOpen",
    "TLClose",
    "IFOpenDevice",
    "DevOpenDataStream",
)
#: Of a 64-bit ELF file (System V ABI): size of its header; there, the offset of the table of
#: segments, the size of an entry of it, and their number; of an entry, its type, offset and bytes.
_ELF_HEADER: Final = 64
_SEGMENT: Final = struct.Struct("<I4xQ16xQ")
_LOADED: Final = 1


def producer_files(
    named: str | Sequence[str] | None, warnings: list[str] | None = None
) -> list[str]:
    """Give the producers to ask, as paths.

    Parameters
    ----------
    named : str, sequence of str or None
        Paths, or bare file names that are looked up on the search path and in the genicam
        package; None: all on the search path.
    warnings : list of str, optional
        Is appended to: files on the search path that cannot be loaded are passed over.

    Raises
    ------
    ConfigError
        When one that is named is not there or cannot be loaded, or there is none at all.
    """
    folders = [Path(p) for p in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if p]
    if named:
        package = importlib.util.find_spec("genicam")
        if package is not None and package.origin:
            folders.append(Path(package.origin).parent)
        files = [_located(one, folders) for one in ([named] if isinstance(named, str) else named)]
        for file in files:
            trouble = why_not(file)
            if trouble:
                raise ConfigError(f"[camera] producer: {file}: cannot be loaded: {trouble}")
        return files
    found: list[str] = []
    said: list[str] = []
    for file in _announced(folders):
        trouble = why_not(file)
        if trouble:
            said.append(f"producer {file}: cannot be loaded: {trouble}")
        elif file not in found:
            found.append(file)
    if warnings is not None:
        warnings += said
    if not found:
        state = "names no .cti file" if folders else "is not set"
        if said:
            state = f"names none that can be loaded ({'; '.join(said)})"
        raise ConfigError(
            f"producer: missing, and {SEARCH_PATH} {state}; allowed is the GenTL producer (.cti) "
            "of the camera's vendor, as [camera] producer or --producer"
        )
    return found


def why_not(file: str) -> str:
    """Say why a file cannot be loaded as a GenTL producer; empty when it can."""
    try:
        if sys.platform == "linux":
            trouble = _cut_off(file)
            if trouble:
                return trouble
        library = ctypes.CDLL(file)
    except OSError as error:
        text = str(error) if error.strerror is None else error.strerror
        return text.removeprefix(f"{file}: ")
    missing = [name for name in _NEEDED if not hasattr(library, name)]
    return f"it is no GenTL producer, it has no {missing[0]}" if missing else ""


def _cut_off(file: str) -> str:
    """Say that an ELF file ends before its segments do: to map it would kill the process."""
    size = os.stat(file).st_size
    with open(file, "rb") as opened:
        head = opened.read(_ELF_HEADER)
        if len(head) < _ELF_HEADER or head[:4] != b"\x7fELF":
            return "it is no library"
        if head[4:6] != b"\x02\x01":
            return ""  # of another machine: the loader says so itself
        (table,) = struct.unpack_from("<Q", head, 32)
        entry, count = struct.unpack_from("<HH", head, 54)
        if entry < _SEGMENT.size or table + entry * count > size:
            return f"it is cut off, it has {size} bytes"
        opened.seek(table)
        entries = opened.read(entry * count)
    for at in range(0, entry * count, entry):
        kind, offset, in_file = _SEGMENT.unpack_from(entries, at)
        if kind == _LOADED and offset + in_file > size:
            return f"it is cut off, it has {size} of {offset + in_file} bytes or more"
    return ""


def _announced(folders: Sequence[Path]) -> list[str]:
    """List the files on the search path, each once, in order."""
    found: list[str] = []
    for folder in folders:
        try:
            files = [folder] if folder.suffix == ".cti" else sorted(folder.glob("*.cti"))
            found += [str(file) for file in files if file.is_file() and str(file) not in found]
        except OSError:  # no folder that can be read, or no name of one
            continue
    return found


def _located(named: str, folders: Sequence[Path]) -> str:
    candidates = [Path(named)]
    if os.path.basename(named) == named:
        candidates += [folder / named for folder in folders]
    for path in candidates:
        try:
            if path.is_file():
                return str(path.resolve())
        except (OSError, ValueError):  # a name that no file can have
            continue
    shown = named if len(named) <= 200 else f"{named[:200]}…"
    raise ConfigError(f"[camera] producer: {shown}: no such file, allowed is a GenTL producer")
