"""What each header field is: its type, unit and place in D4.1, and how text becomes a value.

One table, :data:`FIELDS`, and the two ways through it: :func:`typed` (text → value) and
:func:`render` (value → text). Knows the syntax of single values, not of whole headers (that is
:mod:`pipeline.container.header`). Knows NumPy and the error tree only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, Literal

import numpy as np

from pipeline.errors import HeaderError

Kind = Literal["int", "float", "str", "ints", "floats", "strs", "text", "procs", "time", "clock"]
#: What a header look-up gives.
Value = str | int | float | list[int] | list[float] | list[str]
#: What the file holds: a plain text, or the items between braces.
Content = str | list[str]

#: Longest text in one line; GDAL stops reading at a line of 10,000 characters.
MAX_TEXT: Final = 9000


@dataclass(frozen=True)
class FieldSpec:
    """One known field.

    Attributes
    ----------
    name : str
        As it is written.
    kind : str
        ``int``, ``float``, ``str``: a scalar. ``ints``, ``floats``, ``strs``, ``procs``: a list
        in braces (``procs`` may hold braces in an item). ``text``: one string in braces, its
        commas kept. ``time``: a date or date and time. ``clock``: a time of day.
    section : str
        Of D4.1; ``ENVI`` for the original standard, ``swath`` for what this project adds.
    unit : str
    """

    name: str
    kind: Kind
    section: str
    unit: str = ""


_TABLE: Final[tuple[tuple[str, Kind, str, str], ...]] = (
    ("samples", "int", "2.4", ""),
    ("lines", "int", "2.4", ""),
    ("bands", "int", "2.4", ""),
    ("header offset", "int", "2.4", "bytes"),
    ("file type", "str", "2.4", ""),
    ("data type", "int", "2.4", ""),
    ("interleave", "str", "2.4", ""),
    ("byte order", "int", "2.4", ""),
    ("wavelength", "floats", "2.5", "wavelength units"),
    ("wavelength units", "str", "2.5", ""),
    ("band names", "strs", "2.6", ""),
    ("default bands", "ints", "2.6", "1-based"),
    ("pixel size", "floats", "2.6", "m"),
    ("reflectance scale factor", "float", "2.6", ""),
    ("data offset values", "floats", "2.6", ""),
    ("data gain values", "floats", "ENVI", ""),
    ("description", "text", "2.6", ""),
    ("read procedures", "procs", "2.6", ""),
    ("acquisition time", "time", "2.7", "UTC"),
    ("problem", "strs", "2.7", ""),
    ("series", "str", "2.7", ""),
    ("target", "str", "2.7", ""),
    ("target info", "strs", "2.7", ""),
    ("measurement", "str", "2.7", ""),
    ("sensor type", "str", "2.7", ""),
    ("device", "str", "2.7", ""),
    ("optics", "strs", "2.7", ""),
    ("fwhm", "floats", "2.8", "wavelength units"),
    ("temperature", "float", "2.8", "°C"),
    ("start time", "clock", "2.8", "UTC"),
    ("stop time", "clock", "2.8", "UTC"),
    ("errors", "strs", "2.8", ""),
    ("fps", "float", "2.8", "Hz"),
    ("exposure", "float", "2.8", "ms"),
    ("binning", "ints", "2.8", "spectral, spatial"),
    ("hroi", "ints", "2.8", "binned pixels, 1-based inclusive"),
    ("vroi", "ints", "2.8", "binned pixels, 1-based inclusive"),
    ("humidity", "float", "2.8", "%"),
    ("light condition", "str", "2.8", ""),
    ("pressure", "float", "2.8", "hPa"),
    ("class", "str", "2.9", ""),
    ("classification file", "str", "2.9", ""),
    ("classes", "int", "2.9", ""),
    ("class lookup", "ints", "2.9", "RGB"),
    ("class names", "strs", "2.9", ""),
    ("bounding boxes", "str", "2.9", ""),
    ("data ignore value", "float", "ENVI", ""),
    ("bbl", "floats", "ENVI", ""),
    ("map info", "strs", "ENVI", ""),
    ("projection info", "strs", "ENVI", ""),
    ("coordinate system string", "text", "ENVI", ""),
    ("bit depth", "int", "swath", "bit"),
    ("saturation level", "int", "swath", "DN"),
    ("gain", "float", "swath", ""),
    ("lines lost", "int", "swath", ""),
    ("gaps", "str", "swath", ""),
    ("decoded data type", "int", "swath", ""),
    ("lines averaged", "int", "swath", ""),
    ("lines rejected", "int", "swath", ""),
    ("white reflectance", "floats", "swath", ""),
    ("panel name", "str", "swath", ""),
    ("white choice", "strs", "swath", ""),
    ("black choice", "strs", "swath", ""),
    ("white black choice", "strs", "swath", ""),
    ("flip", "strs", "swath", ""),
    ("serial number", "str", "swath", ""),
    ("pixel format", "str", "swath", ""),
    ("reference", "str", "swath", ""),
    ("pca version", "int", "swath", ""),
    ("pca coding", "str", "swath", ""),
    ("pca bands", "int", "swath", ""),
    ("pca block lines", "int", "swath", ""),
    ("pca step", "float", "swath", ""),
    ("pca steps", "floats", "swath", "DN: least and largest of all blocks"),
    ("pca data type", "int", "swath", ""),
    ("pca wavelength", "floats", "swath", "wavelength units of the cube: nm"),
    ("pca fwhm", "floats", "swath", "nm"),
    ("pca max error", "int", "swath", "DN, over every pixel"),
    ("pca rmse", "float", "swath", "DN"),
    ("pca mean spectral angle", "float", "swath", "rad"),
    ("pca pixels", "int", "swath", "spectra that bases were learned from"),
    ("coded block lines", "int", "swath", "lines"),
    ("coded max error", "int", "swath", "DN, over every pixel"),
    ("coded rmse", "float", "swath", "DN"),
    ("coded mean spectral angle", "float", "swath", "rad"),
)

#: Known fields by name.
FIELDS: Final[dict[str, FieldSpec]] = {row[0]: FieldSpec(*row) for row in _TABLE}
#: The eight fields that describe the bytes, in the order in which they are written.
STRUCTURE: Final[tuple[str, ...]] = tuple(row[0] for row in _TABLE[:8])
#: A field that is missing is looked up under these names too (Specim's).
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "exposure": ("tint",),
    "acquisition time": ("acquisition date",),
}
_ALIAS_SPECS: Final = {
    alias: FieldSpec(alias, FIELDS[name].kind, "vendor", FIELDS[name].unit)
    for name, aliases in ALIASES.items()
    for alias in aliases
}

_INT: Final = re.compile(r"[+-]?[0-9]{1,19}\Z")
_FLOAT: Final = re.compile(
    r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z|[+-]?(nan|inf|infinity)\Z",
    re.IGNORECASE,
)
_TIME: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.:](?P<fraction>[0-9]+?))?"
    r"(?P<zone>Z|[+-][0-9]{2}(?::?[0-9]{2})?|[0-9]{2}:[0-9]{2})?)?\Z"
)
_SPECIM_DATE: Final = re.compile(r"DATE\(yyyy-mm-dd\)\s*:\s*", re.IGNORECASE)
_SPECIM_CLOCK: Final = re.compile(r"UTC TIME\s*:\s*", re.IGNORECASE)
#: Control characters (line breaks of every kind among them) that no value can hold.
CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def normalise(name: str) -> str:
    """Give the form under which a name is looked up: case, ``_`` and runs of blanks undone."""
    return " ".join(name.replace("_", " ").split()).casefold()


def spec_of(name: str) -> FieldSpec | None:
    """Give what is known of a field, by any spelling of its name."""
    key = normalise(name)
    return FIELDS.get(key) or _ALIAS_SPECS.get(key)


def parse_int(text: str) -> int | None:
    """Read a decimal integer of at most 19 digits; None where the text is none."""
    return int(text) if _INT.match(text) else None


def parse_float(text: str) -> float | None:
    """Read a decimal number, ``nan`` or ``inf``; None where the text is none of them."""
    return float(text) if _FLOAT.match(text) else None


def parse_time(text: str) -> datetime | None:
    """Read ``acquisition time`` in the forms of D4.1, 2.7, and Specim's ``DATE(yyyy-mm-dd)``.

    Returns
    -------
    datetime or None
        In UTC (a time without a zone is taken as UTC); None where the text is no such time.
    """
    found = _TIME.match(_SPECIM_DATE.sub("", text.strip(), count=1))
    if found is None:
        return None
    zone = found["zone"] or "Z"
    try:
        moment = datetime.fromisoformat(f"{found['date']}T{found['clock'] or '00:00:00'}")
        if found["fraction"]:
            moment += timedelta(microseconds=round(float("0." + found["fraction"]) * 1e6))
        if zone == "Z":
            return moment.replace(tzinfo=UTC)
        sign = -1 if zone.startswith("-") else 1
        digits = zone.lstrip("+-").replace(":", "")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
        return moment.replace(tzinfo=timezone(sign * offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """Write a time as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``; one without a zone is taken as UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def typed(spec: FieldSpec | None, content: Content) -> tuple[Value, str | None]:
    """Turn the content of a field into its value.

    Returns
    -------
    value : str, int, float or list
        Of the field's own type; as found where that cannot be had.
    problem : str or None
        What is wrong, as the rest of a sentence that starts with the field's name.
    """
    if spec is None:
        return (content if isinstance(content, str) else list(content)), None
    if spec.kind == "text":
        return (content if isinstance(content, str) else ", ".join(content)), None
    if spec.kind in ("ints", "floats", "strs", "procs"):
        items = [content] if isinstance(content, str) else content
        if spec.kind in ("strs", "procs"):
            return list(items), None
        return _numbers(items, spec.kind == "ints")
    if isinstance(content, list):
        if spec.kind in ("int", "float"):
            value, problem = _numbers(content, spec.kind == "int")
        else:
            value, problem = list(content), None
        return value, problem or "holds a list where D4.1 has one value, kept as a list"
    return _scalar(spec.kind, content)


def _scalar(kind: Kind, text: str) -> tuple[Value, str | None]:
    if kind == "int":
        whole = parse_int(text)
        return (text, "is not an integer") if whole is None else (whole, None)
    if kind == "float":
        number = parse_float(text)
        return (text, "is not a number") if number is None else (number, None)
    if kind == "time":
        shown = _SPECIM_DATE.sub("", text, count=1)
        return shown, None if parse_time(text) else "is not a date or time of D4.1, 2.7"
    if kind == "clock":
        return _SPECIM_CLOCK.sub("", text, count=1), None
    return text, None


def _numbers(items: Sequence[str], whole: bool) -> tuple[Value, str | None]:
    if whole:
        integers = [parse_int(item) for item in items]
        if None not in integers:
            return [n for n in integers if n is not None], None
        return list(items), "holds an item that is not an integer"
    numbers = [parse_float(item) for item in items]
    if None not in numbers:
        return [x for x in numbers if x is not None], None
    return list(items), "holds an item that is not a number"


def render(name: str, value: Any) -> Content:
    """Turn a value into the content of a field, refusing what the syntax cannot hold.

    Parameters
    ----------
    name : str
        Of the field, for its type and for the message.
    value : str, int, float, bool, datetime, NumPy scalar, or a list or array of them

    Raises
    ------
    HeaderError
        Naming the field, what was found and what is allowed.
    """
    spec = spec_of(name)
    content: Content
    if isinstance(value, (list, tuple, np.ndarray)):
        content = [_render_item(name, spec, item) for item in value]
    else:
        content = _render_text(name, spec, _plain(name, value))
        if spec is not None and spec.kind in ("ints", "floats", "strs", "procs"):
            content = [_render_item(name, spec, value)]
    if spec is not None and not isinstance(value, datetime):
        problem = typed(spec, content)[1]
        if problem is not None and "kept as a list" not in problem:
            raise HeaderError(f"{name}: found {_shorten(value)}, which {problem}")
    return content


def _plain(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, np.floating):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime):
        return format_time(value)
    raise HeaderError(f"{name}: found a {type(value).__name__}, allowed are text, numbers, lists")


def _render_text(name: str, spec: FieldSpec | None, text: str) -> str:
    _check(name, text, "{}")
    if len(text) > MAX_TEXT:
        raise HeaderError(f"{name}: found a text of {len(text)} characters, allowed are {MAX_TEXT}")
    return text


def _render_item(name: str, spec: FieldSpec | None, value: Any) -> str:
    text = _plain(name, value)
    if spec is not None and spec.kind == "procs":
        _check(name, text, "")
        depth = 0
        for char in text:
            depth += (char == "{") - (char == "}")
            if depth < 0 or (char == "," and depth == 0):
                break
        else:
            if depth == 0 and text:
                return text
        raise HeaderError(f"{name}: found {_shorten(text)}, allowed are whole read procedures")
    _check(name, text, "{},")
    if not text:
        raise HeaderError(f"{name}: found an empty item, allowed are items with text")
    if len(text) > MAX_TEXT:
        raise HeaderError(
            f"{name}: found an item of {len(text)} characters, allowed are {MAX_TEXT}"
        )
    return text


def _check(name: str, text: str, forbidden: str) -> None:
    for char in forbidden:
        if char in text:
            raise HeaderError(
                f"{name}: found {char!r} in {_shorten(text)}, which a header cannot hold there"
            )
    found = CONTROL.search(text)
    if found is not None:
        raise HeaderError(
            f"{name}: found the character {found.group()!r} in {_shorten(text)}, "
            "allowed is text of one line"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HeaderError(f"{name}: found {text[:60]!a}, which is not valid Unicode") from None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def sanitise(text: str, in_list: bool) -> str:
    """Replace what the syntax cannot hold in a text that a camera gave.

    Parameters
    ----------
    text : str
    in_list : bool
        Whether the text becomes an item of a list, where a comma would part it.

    Returns
    -------
    str
        Braces as parentheses, line breaks and control characters as blanks, in lists ``,`` as
        ``;``; shortened to what a line may hold.
    """
    clean = CONTROL.sub(" ", text).replace("{", "(").replace("}", ")")
    if in_list:
        clean = clean.replace(",", ";")
    return clean.encode(errors="replace").decode()[:MAX_TEXT].strip()
