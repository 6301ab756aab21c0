"""The text of an ENVI header: how it is read, line by line with braces counted, and written.

Fills and is used by :class:`pipeline.container.header.Header`, which holds what was read. Knows
the syntax of D4.1, section 2.3, and the eight fields that describe the bytes; the types of all
others are those of :mod:`pipeline.container.fields`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.container.fields import STRUCTURE, Content, FieldSpec, Value, normalise, spec_of
from pipeline.errors import HeaderError
from pipeline.layout import ENVI_TYPES, INTERLEAVES

if TYPE_CHECKING:
    from pipeline.container.header import Header

#: ``data type`` of a payload whose bits are no pixels; GDAL and Spectral Python refuse it.
CODED: Final = 7
#: What a structural field reads as where it is missing.
DEFAULTS: Final = {"byte order": "0", "header offset": "0", "file type": "ENVI Standard"}
#: Structural fields that must be there.
NEEDED: Final = tuple(name for name in STRUCTURE if name not in DEFAULTS)
_WRAP: Final = 100  # characters a line of a wrapped list; the readers' limit is 10,000


class Parser:
    """Fills a header from text; remembers the line it is at for the messages."""

    def __init__(self, header: Header, where: str) -> None:
        self._header = header
        self._where = where
        self._lines: list[str] = []
        self._at = 0  # 0-based index of the current line

    def read(self, data: bytes | str) -> None:
        """Read the whole text into the header; raises HeaderError."""
        text = data if isinstance(data, str) else self._decode(data)
        self._lines = re.split("\r\n|\n|\r", text.removeprefix("\ufeff"))
        if "\x00" in text:
            raise HeaderError(f"{self._where}: found binary data, allowed is a text header")
        if self._lines[0].strip() != "ENVI":
            raise HeaderError(
                f"{self._where}:1: the first line is not ENVI, found {self._lines[0][:40]!r}"
            )
        self._at = 1
        while self._at < len(self._lines):
            self._field()
        self._check_structure()
        self._check_spectrum()

    def _decode(self, data: bytes) -> str:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise HeaderError(f"{self._where}: found UTF-16 text, allowed are UTF-8 and cp1252")
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._header.warnings.append("the text is not UTF-8, read as cp1252")
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def _fail(self, line: int, name: str, text: str) -> HeaderError:
        return HeaderError(f"{self._where}:{line + 1}: {name[:60]}: {text}")

    def _field(self) -> None:
        start = self._at
        line = self._lines[start].strip()
        self._at += 1
        if not line:
            return
        if line.startswith(";"):
            self._header.comments.append(line[1:].strip())
            return
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not equals:
            self._header.comments.append(line)
            self._header.warnings.append(
                f"line {start + 1} is neither field nor comment: {line[:60]!r}"
            )
            return
        if not normalise(name):
            raise self._fail(start, "field name", "found nothing before the =")
        content: Content = value
        if value.startswith("{"):
            inner = self._braces(name, value)
            spec = spec_of(name)
            if spec is not None and spec.kind == "text":
                content = "\n".join(part.strip() for part in inner.split("\n")).strip()
            else:
                content = _items(inner)
                if len(content) > 1 and not content[-1]:
                    content.pop()
                    self._header.warnings.append(f"{name} ends with a comma")
        self._store(start, name, content)

    def _braces(self, name: str, value: str) -> str:
        """Collect what stands between the brace that opens ``value`` and the one closing it."""
        start = self._at - 1
        depth, text = 0, value
        parts: list[str] = []
        while True:
            for brace in re.finditer("[{}]", text):
                depth += 1 if brace.group() == "{" else -1
                if depth == 0:
                    behind = text[brace.end() :].strip()
                    if behind.startswith(";"):
                        self._header.comments.append(behind[1:].strip())
                        self._header.warnings.append(f"{name} has a comment behind its brace")
                    elif behind:
                        raise self._fail(
                            self._at - 1, name, f"found {behind[:40]!r} behind the closing brace"
                        )
                    return "\n".join([*parts, text[: brace.start()]])[1:]
            parts.append(text)
            while True:
                if self._at >= len(self._lines):
                    raise self._fail(start, name, "the brace that opens here is never closed")
                text = self._lines[self._at]
                self._at += 1
                if not text.lstrip().startswith(";"):
                    break
                self._header.comments.append(text.strip()[1:].strip())

    def _store(self, start: int, name: str, content: Content) -> None:
        header = self._header
        key = normalise(name)
        before = header._fields.get(key)
        problem = header._put(name, content)
        now = header._fields[key]
        wrong = structural_problem(key, now.value)
        if wrong:
            raise self._fail(start, name, wrong)
        if before is not None:
            if key in STRUCTURE and str(before.value).casefold() != str(now.value).casefold():
                raise self._fail(
                    start, name, f"found {now.value!r}, but {before.value!r} further up"
                )
            header.warnings.append(f"{key} stands twice, the last one holds")
        if problem:
            header.warnings.append(f"{key} {problem}")

    def _check_structure(self) -> None:
        header = self._header
        missing = [name for name in NEEDED if name not in header]
        if missing:
            text = ", ".join(f"{name} is missing" for name in missing)
            raise HeaderError(f"{self._where}:{len(self._lines)}: {text} at the header's end")
        if "byte order" not in header:
            header.warnings.append("byte order is missing, little-endian assumed")
        if "header offset" not in header:
            header.warnings.append("header offset is missing, 0 assumed")
        if "file type" not in header:
            header.warnings.append("file type is missing, ENVI Standard assumed")
        if header.coded and "decoded data type" not in header:
            raise HeaderError(
                f"{self._where}:{len(self._lines)}: data type: found {CODED} (coded) without "
                f"decoded data type, allowed are {', '.join(map(str, ENVI_TYPES))}"
            )

    def _check_spectrum(self) -> None:
        header = self._header
        for name in ("wavelength", "fwhm"):
            found = header._fields.get(name)
            if found is None:
                continue
            count = len(found.content) if isinstance(found.content, list) else 1
            if count != header.bands:
                header.warnings.append(
                    f"{name} has {count} values for {header.bands} bands and is not used"
                )
        if "wavelength" in header and "wavelength units" not in header:
            header.warnings.append("wavelength units is missing")


def _items(inner: str) -> list[str]:
    """Part the inside of a list at the commas outside further braces."""
    if not inner.strip():
        return []
    if "{" not in inner:
        parts = inner.split(",")
    else:
        parts, depth, start = [], 0, 0
        for mark in re.finditer("[{},]", inner):
            depth += {"{": 1, "}": -1, ",": 0}[mark.group()]
            if mark.group() == "," and depth == 0:
                parts.append(inner[start : mark.start()])
                start = mark.end()
        parts.append(inner[start:])
    return [" ".join(filter(None, map(str.strip, part.split("\n")))) for part in parts]


def written(name: str, spec: FieldSpec | None, content: Content) -> str:
    """Write one field, a long list over several lines."""
    if isinstance(content, str):
        if spec is not None and spec.kind == "text" and _balanced(content):
            return f"{name} = {{{content}}}"
        return f"{name} = {content}".rstrip()
    single = f"{name} = {{{', '.join(content)}}}"
    if len(single) <= _WRAP or not content:
        return single
    lines, current = [f"{name} = {{"], ""
    for index, item in enumerate(content):
        part = item + ("," if index + 1 < len(content) else "}")
        # A line that began with ; would be a comment.
        if current and len(current) + len(part) > _WRAP and not part.startswith(";"):
            lines.append(current)
            current = ""
        current += (" " if current or not part.startswith(";") else lines.pop()) + part
    return "\n".join([*lines, current])


def _balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


def structural_problem(key: str, value: Value) -> str | None:
    """Say what is wrong with the value of a structural field; None for all others."""
    if key not in STRUCTURE:
        return None
    found = f"found {value!r:.60}" if not isinstance(value, str) else f"found {value[:60]!r}"
    if key == "file type":
        return None if isinstance(value, str) else f"{found}, allowed is one text"
    if key == "interleave":
        good = isinstance(value, str) and value.casefold() in INTERLEAVES
        return None if good else f"{found}, allowed are bil, bip, bsq"
    if not isinstance(value, int):
        return f"{found}, allowed is one integer"
    if key == "data type":
        codes = (*ENVI_TYPES, CODED)
        return None if value in codes else f"{found}, allowed are {', '.join(map(str, codes))}"
    if key == "byte order":
        return None if value in (0, 1) else f"{found}, allowed are 0 and 1"
    least = 1 if key in ("samples", "bands") else 0
    return None if value >= least else f"{found}, allowed are integers from {least}"
