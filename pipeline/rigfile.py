"""Reads a rig file into :class:`~pipeline.config.Rig`, with messages that name the place.

``tomllib`` reads, :mod:`pipeline.config` says what is allowed; this module finds the first thing
that is wrong and says in one sentence where it stands (file, line, key), what was found and what is
allowed. Overrides (``--set KEY=VALUE``) are merged before the check. Whatever the file holds, the
only error is :class:`~pipeline.errors.ConfigError`. Knows config, errors and msgspec.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from pipeline.config import OutputConfig, Rig
from pipeline.errors import ConfigError
from pipeline.rig_check import Finding, findings, found
from pipeline.toml_lines import KeyPath, key_lines, parse_key

#: A rig file is written by hand; a larger file is something else (a container, say).
MAX_BYTES: Final = 1 << 20

#: Keys whose values are paths, and the words that are none.
_PATH_KEYS: Final = (
    ("camera", "file"),
    ("camera", "producer"),
    ("camera", "wavelengths"),
    ("stream", "curve", "key"),
    ("stream", "curve", "server"),
    ("stream", "curve", "clients"),
    ("references", "white"),
    ("references", "black"),
    ("references", "panel"),
    ("pipeline", "bad_pixels"),
    ("output", "folder"),
)
_NO_PATHS: Final = ("index", "take", "find")


def load_rig(path: str | Path, overrides: Sequence[str] = ()) -> Rig:
    """Load and check a rig file.

    Parameters
    ----------
    path : str or Path
        A TOML file; docs/rig-file.md describes its keys.
    overrides : sequence of str
        ``KEY=VALUE`` each: KEY dotted, VALUE read as TOML, a bare word as a string. They win over
        the file; the last of equal ones wins.

    Returns
    -------
    Rig
        Its paths are absolute: relative ones in the file count from the file's folder
        (:func:`rig_base`), those of an override and the output folder from the current one.

    Raises
    ------
    ConfigError
        For anything that is wrong; names file, line and key.
    """
    path = Path(path)
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refusal(_syntax_message(path, text, error)) from None
    except (RecursionError, ValueError) as error:  # ValueError: an integer of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refusal(f"{path}: not a rig file: {reason}") from None
    return _make(data, overrides, _Places(path, text))


def make_rig(data: dict[str, Any], overrides: Sequence[str] = ()) -> Rig:
    """Make a rig without a file: from tables as ``tomllib`` would give them, and overrides.

    Raises
    ------
    ConfigError
        For anything that is wrong, as :func:`load_rig`.
    """
    return _make(data, overrides, _Places(Path("(options)"), ""))


def rig_base(path: str | Path) -> Path:
    """Give the folder from which relative paths in a rig file count: its own."""
    return Path(path).absolute().parent


def _make(data: dict[str, Any], overrides: Sequence[str], places: _Places) -> Rig:
    for override in overrides:
        _merge(data, override, places)
    _dates_to_text(data)
    for finding in findings(data):
        raise _refusal(places.name(finding))
    output = data.setdefault("output", {})
    output.setdefault("folder", OutputConfig().folder)
    for key in _PATH_KEYS:
        _make_absolute(data, key, places)
    try:
        return msgspec.convert(data, Rig, strict=True)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise _refusal(f"{places.path}: {error}") from None


def _refusal(text: str) -> ConfigError:
    """Make the error; what a terminal cannot show in one line is written as an escape."""
    return ConfigError("".join(c if c.isprintable() else repr(c)[1:-1] for c in text))


class _Places:
    """Where each key came from: a line of the file, or an override."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._overrides: dict[KeyPath, str] = {}
        try:
            self._lines = key_lines(text)
        except (ValueError, RecursionError):  # the values are known, only their lines are not
            self._lines = {}

    def override(self, path: KeyPath, text: str) -> None:
        self._overrides[path] = text

    def base(self, key: KeyPath) -> Path:
        """Give the folder from which a relative path under ``key`` counts."""
        if key == ("output", "folder"):
            return Path.cwd()  # like --out: results go where one stands
        given = any(key[:end] in self._overrides for end in range(1, len(key) + 1))
        return Path.cwd() if given else rig_base(self.path)

    def name(self, finding: Finding) -> str:
        """Compose the message: place, key, finding."""
        path = finding.path
        sought = path[:-1] if finding.absent else path
        ways = [sought[:end] for end in range(len(sought), 0, -1)]
        given = next((way for way in ways if way in self._overrides), None)
        written = next((way for way in ways if way in self._lines), None)
        if given is not None:  # an override of a table replaces all that the file has below it
            place = f"--set {self._overrides[given]}"
        else:
            place = str(self.path) if written is None else f"{self.path}:{self._lines[written]}"
        text = f"{place}: {_key_text(path)}: {finding.text}"
        if place.startswith("--set") and "allowed is a text in quotes" in text:
            text += f"; put it in quotes: --set '{_dotted(path)}=\"…\"'"
        return text


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise _refusal(f"{path}: found a folder, a rig file is a TOML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refusal(f"{path}: no such file; a rig file is expected here") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise _refusal(f"{path}: cannot be read: {reason}") from None
    if b"\0" in data or len(data) > MAX_BYTES:
        raise _refusal(
            f"{path}: not a rig file: found binary data or more than 1 MiB, allowed is TOML text"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refusal(
            f"{path}:{line}: found the byte 0x{data[error.start]:02x}, "
            "allowed is text in UTF-8 (save the file as UTF-8)"
        ) from None


def _syntax_message(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    """``FILE:LINE: what tomllib says, at column N``."""
    message = str(error)
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if found:
        line, tail = int(found[1]), f" (column {found[2]})"
        message = message[: found.start()]
    else:
        line, tail = text.count("\n") + 1, " (at the end of the file)"
        message = re.sub(r" \(at end of document\)$", "", message)
    return f"{path}:{line}: not TOML: {message}{tail}"


def _merge(data: dict[str, Any], override: str, places: _Places) -> None:
    """Put one ``KEY=VALUE`` into ``data``."""
    key, equals, text = override.partition("=")
    if not equals:
        raise _refusal(f"--set {override}: found no '=', allowed is KEY=VALUE")
    try:
        names = parse_key(key)
    except ValueError as error:
        raise _refusal(
            f"--set {override}: {error}; allowed is a dotted key such as camera.fps"
        ) from None
    value = _override_value(override, text.strip())
    table = data
    for depth, name in enumerate(names[:-1]):
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise _refusal(
                f"--set {override}: {_dotted(names[: depth + 1])} is {found(inner)}, "
                "allowed is a table"
            )
        table = inner
    table[names[-1]] = value
    places.override(names, override)


def _override_value(override: str, text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}\n")
        if parsed.keys() == {"value"}:
            return parsed["value"]
        reason = "more than one value"
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        reason = re.sub(r" \(at .*\)$", "", str(error))
    if text[:1] in ("[", "{", '"', "'"):
        hint = ""
        if text.startswith("{") and "=" not in text:
            key = override.partition("=")[0].strip()
            hint = f"; a text with braces needs quotes: --set '{key}=\"{text}\"'"
        raise _refusal(f"--set {override}: not a TOML value: {reason}{hint}")
    if "\n" in text or "\0" in text:
        raise _refusal(f"--set {override}: found a line break, allowed is one TOML value")
    return text


def _make_absolute(data: dict[str, Any], key: tuple[str, ...], places: _Places) -> None:
    """Make the path under ``key`` absolute, or each of a list of them, where there is one."""
    table: Any = data
    for name in key[:-1]:
        table = table.get(name)
        if not isinstance(table, dict):
            return
    value = table.get(key[-1])
    base = places.base(key)
    if isinstance(value, list):
        table[key[-1]] = [str(base / _expanded(item)) for item in value]
    elif isinstance(value, str) and value and value not in _NO_PATHS:
        path = base / _expanded(value)
        if key != ("camera", "producer") or "/" in value or path.exists():
            table[key[-1]] = str(path)  # a producer's bare name is looked up by its driver


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def _dates_to_text(data: dict[str, Any]) -> None:
    """Turn TOML dates and times in [metadata] into the text that headers hold."""
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return
    for key, value in metadata.items():
        if isinstance(value, datetime.date | datetime.time):
            metadata[key] = value.isoformat()


def _key_text(path: KeyPath) -> str:
    """``[camera] faults.lose_every`` or ``[camera]``."""
    if len(path) == 1:
        return f"[{_dotted(path)}]"
    return f"[{_dotted(path[:1])}] {_dotted(path[1:])}"


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            shown = part if bare else '"' + part[:60].replace("\n", "\\n") + '"'
            text += f".{shown}" if text else shown
    return text
