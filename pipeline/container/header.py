"""ENVI headers: parsed with braces counted, kept in order, written the one way of this project.

D4.1 sections 2.3–2.9; where it is silent docs/container.md says what is done. A header is read
right or refused with line and field, never misread. Knows the fields' types
(:mod:`pipeline.container.fields`) and sample types (:mod:`pipeline.layout`); knows nothing of
files and pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.container.fields import (
    ALIASES,
    CONTROL,
    STRUCTURE,
    Content,
    FieldSpec,
    Value,
    normalise,
    parse_time,
    render,
    sanitise,
    spec_of,
    typed,
)
from pipeline.container.header_text import (
    CODED,
    DEFAULTS,
    NEEDED,
    Parser,
    structural_problem,
    written,
)
from pipeline.errors import HeaderError
from pipeline.layout import INTERLEAVES, envi_dtype

__all__ = ["Header", "Value", "normalise", "sanitise"]

#: Factor to nanometres for each accepted spelling (casefolded) of ``wavelength units``.
_NM: Final[dict[str, float]] = {
    **dict.fromkeys(("nm", "nanometers", "nanometres", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns"), 1e3),
    **dict.fromkeys(("micrometers", "micrometres", "micrometer", "micrometre"), 1e3),
    **dict.fromkeys(("mm", "millimeters", "millimetres", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("m", "meters", "metres"), 1e9),
    **dict.fromkeys(("a", "å", "angstroms", "angstrom"), 0.1),
}


@dataclass(frozen=True)
class _Field:
    spelling: str
    spec: FieldSpec | None
    content: Content
    value: Value


class Header(Mapping[str, Value]):
    """An ENVI header: an ordered mapping, looked up by normalised name.

    ``header["Wavelength_Units"]`` and ``header["wavelength units"]`` are the same look-up.
    Iteration gives the names as they were spelt, in order. A missing ``byte order``, ``header
    offset`` or ``file type`` is not in it, but looked up it gives what it reads as. Two headers
    are equal when their content is, whatever the order, spelling and comments.

    Parameters
    ----------
    fields : mapping or iterable of (name, value), optional
        Set one after the other.

    Attributes
    ----------
    comments : list of str
        Comment lines of the text that was parsed, in order, without their ``;``. Not written.
    warnings : list of str
        What was odd in the text that was parsed.
    """

    def __init__(self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._fields: dict[str, _Field] = {}
        self.comments: list[str] = []
        self.warnings: list[str] = []
        for name, value in fields.items() if isinstance(fields, Mapping) else fields:
            self.set(name, value)

    @classmethod
    def parse(cls, data: bytes | str, *, where: str = "header") -> Header:
        """Read a header.

        Parameters
        ----------
        data : bytes or str
            UTF-8 (with or without BOM) or cp1252; LF, CRLF or CR.
        where : str
            What the messages call it, usually the file's name.

        Raises
        ------
        HeaderError
            Naming ``where``, the line and the field.
        """
        header = cls()
        Parser(header, where).read(data)
        return header

    # -- as a mapping ----------------------------------------------------------------------

    def _find(self, name: str) -> _Field | None:
        key = normalise(name)
        found = self._fields.get(key)
        if found is None:
            for alias in ALIASES.get(key, ()):
                found = found or self._fields.get(alias)
        return found

    def __getitem__(self, name: str) -> Value:
        found = self._find(name)
        if found is not None:
            return found.value
        default = DEFAULTS.get(normalise(name))
        if default is None:
            raise KeyError(name)
        return int(default) if default.isdigit() else default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (field.spelling for field in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Header):
            return NotImplemented
        return self._comparable() == other._comparable()

    __hash__ = None  # type: ignore[assignment]

    def _comparable(self) -> dict[str, Content]:
        content: dict[str, Content] = dict(DEFAULTS)
        for key, field in self._fields.items():
            kept = field.content
            if key in STRUCTURE and key != "file type":
                kept = str(field.value).casefold()
            elif field.spec is not None and isinstance(field.value, list):
                kept = [str(item) for item in field.value]  # as text, so that nan equals nan
            elif field.spec is not None:
                kept = str(field.value)
            content[key] = kept
        return content

    def __repr__(self) -> str:
        return f"<Header of {len(self)} fields>"

    # -- changing --------------------------------------------------------------------------

    def set(self, name: str, value: Any) -> None:
        """Set a field; one that exists is replaced and keeps its place.

        Raises
        ------
        HeaderError
            When the syntax cannot hold the value, or it is not of the field's type.
        """
        spelling = name.strip()
        if not normalise(name) or spelling.startswith(";") or re.search("[={}]", name):
            raise HeaderError(f"field name: found {name!r}, allowed is text without = and braces")
        if CONTROL.search(name.replace("\t", " ")):
            raise HeaderError(f"field name: found {name!r}, allowed is text of one line")
        if value is None:
            raise HeaderError(f"{name}: found None, allowed are text, numbers and lists")
        content = render(name, value)
        problem = structural_problem(normalise(name), typed(spec_of(name), content)[0])
        if problem:
            raise HeaderError(f"{name}: {problem}")
        self._put(spelling, content)

    def adopt(self, other: Header, name: str) -> None:
        """Take over a field of another header exactly as it stands there."""
        found = other._fields[normalise(name)]
        self._put(found.spelling, found.content)

    def remove(self, name: str) -> None:
        """Take a field out; one that is not there is no error."""
        self._fields.pop(normalise(name), None)

    def copy(self) -> Header:
        """Give an independent copy with comments and warnings."""
        other = Header()
        other._fields = dict(self._fields)
        other.comments = list(self.comments)
        other.warnings = list(self.warnings)
        return other

    def _put(self, spelling: str, content: Content) -> str | None:
        spec = spec_of(spelling)
        value, problem = typed(spec, content)
        shown = spec.name if spec is not None else spelling
        self._fields[normalise(spelling)] = _Field(shown, spec, content, value)
        return problem

    # -- typed look-ups --------------------------------------------------------------------

    def floats(self, name: str) -> list[float] | None:
        """Give a field as numbers; None where it is missing or holds something else."""
        value = self.get(name)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value]
        numbers, problem = typed(FieldSpec(name, "floats", ""), [str(item) for item in items])
        return None if problem or not isinstance(numbers, list) else [float(x) for x in numbers]

    def number(self, name: str) -> float | None:
        """Give a field as one number; None where it is missing, a longer list or no number."""
        numbers = self.floats(name)
        return numbers[0] if numbers is not None and len(numbers) == 1 else None

    def whole(self, name: str) -> int | None:
        """Give a field as one number without its fraction; None too where it is not finite."""
        value = self.number(name)
        return int(value) if value is not None and math.isfinite(value) else None

    def ints(self, name: str) -> list[int] | None:
        """Give a field as integers; None where it is missing or holds something else."""
        value = self.get(name)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value]
        numbers, problem = typed(FieldSpec(name, "ints", ""), [str(item) for item in items])
        return None if problem or not isinstance(numbers, list) else [int(x) for x in numbers]

    def strings(self, name: str) -> list[str] | None:
        """Give a field as a list of texts; None where it is missing."""
        found = self._find(name)
        if found is None:
            return None
        return [found.content] if isinstance(found.content, str) else list(found.content)

    def time(self, name: str = "acquisition time") -> datetime | None:
        """Give a date or time in UTC; None where it is missing or no time."""
        value = self.get(name)
        return parse_time(value) if isinstance(value, str) else None

    # -- structure -------------------------------------------------------------------------

    def _whole(self, name: str) -> int:
        value = self.get(name)
        if not isinstance(value, int):
            found = "nothing" if value is None else repr(value)
            raise HeaderError(f"{name}: found {found}, allowed is an integer")
        return value

    @property
    def lines(self) -> int:
        """Lines of the cube."""
        return self._whole("lines")

    @property
    def samples(self) -> int:
        """Samples of a line."""
        return self._whole("samples")

    @property
    def bands(self) -> int:
        """Bands of the stored data."""
        return self._whole("bands")

    @property
    def header_offset(self) -> int:
        """Bytes before the first pixel."""
        return self._whole("header offset")

    @property
    def file_type(self) -> str:
        """``file type`` as it stands; ``ENVI Standard`` where it is missing."""
        return str(self["file type"])

    @property
    def interleave(self) -> str:
        """``bil``, ``bip`` or ``bsq``."""
        value = self.get("interleave")
        if not isinstance(value, str) or value.casefold() not in INTERLEAVES:
            raise HeaderError(f"interleave: found {value!r}, allowed are bil, bip, bsq")
        return value.casefold()

    @property
    def coded(self) -> bool:
        """Whether the payload is a coding whose bits are no pixels (``data type = 7``)."""
        return self._whole("data type") == CODED

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The stored sample type with its byte order.

        Raises
        ------
        ContainerError
            For a coded payload, or an unknown code.
        """
        return envi_dtype(self._whole("data type"), self._whole("byte order"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(lines, samples, bands)``."""
        return self.lines, self.samples, self.bands

    @property
    def data_bytes(self) -> int:
        """Bytes of all pixels."""
        return self.lines * self.samples * self.bands * self.dtype.itemsize

    def nanometres(self, name: str = "wavelength") -> NDArray[np.float64] | None:
        """Give ``wavelength``, ``fwhm`` … in nm whatever their number.

        Returns
        -------
        ndarray of float64 or None
            None where the field is missing or not of numbers, or the units are none of length.
            Without units, values from 100 to 20,000 are taken as nm.
        """
        values = self.floats(name)
        if not values:
            return None
        numbers = np.array(values, np.float64)
        units = self.get("wavelength units")
        if units is None:
            centres = np.array(self.floats("wavelength") or values, np.float64)
            return numbers if np.all((centres >= 100) & (centres <= 20000)) else None
        factor = _NM.get(str(units).casefold().strip())
        return None if factor is None else numbers * factor

    @property
    def wavelength_nm(self) -> NDArray[np.float64] | None:
        """Centre wavelengths in nm, ``(bands,)``; None where unknown or of another number."""
        return self._by_band("wavelength")

    @property
    def fwhm_nm(self) -> NDArray[np.float64] | None:
        """Full widths at half maximum in nm, ``(bands,)``; None as for the wavelengths."""
        return self._by_band("fwhm")

    def _by_band(self, name: str) -> NDArray[np.float64] | None:
        found = self.nanometres(name)
        return found if found is not None and found.size == self.bands else None

    # -- writing ---------------------------------------------------------------------------

    def text(self) -> str:
        """Write the header: structure first, then all else in order, lists wrapped, LF.

        Raises
        ------
        HeaderError
            When a structural field is missing.
        """
        for name in NEEDED:
            if name not in self:
                raise HeaderError(f"{name}: missing, a header cannot be written without it")
        out = ["ENVI"]
        for name in STRUCTURE:
            value = self[name]
            out.append(f"{name} = {self.interleave if name == 'interleave' else value}")
        rest = [
            written(field.spelling, field.spec, field.content)
            for key, field in self._fields.items()
            if key not in STRUCTURE or (key == "file type" and isinstance(field.content, list))
        ]
        # GDAL reads nothing behind a line of 10,000 characters: those go last.
        rest.sort(key=lambda text: max(map(len, text.split("\n"))) > 9000)
        return "\n".join(out + rest) + "\n"

    def encode(self) -> bytes:
        """Write the header as bytes: ASCII, else UTF-8 without BOM."""
        return self.text().encode(errors="replace")
