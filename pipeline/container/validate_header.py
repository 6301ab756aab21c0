"""Holds the fields of one header against D4.1, 2.3 to 2.9.

Knows the header, its fields and the names of the read procedures; nothing of entries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from pipeline.container.fields import FIELDS, normalise
from pipeline.container.header import Header
from pipeline.container.microservices import find_microservice
from pipeline.container.procedures import Microservice, parse_procedures
from pipeline.errors import SwathError

#: Goes in front of a section's number.
CLAUSE: Final = "D4.1 "
#: Lists that have one value for each band.
_BY_BAND: Final = ("fwhm", "band names", "data offset values", "data gain values", "bbl")


class Finding(NamedTuple):
    """One thing that is not as it should be.

    Attributes
    ----------
    level : {"error", "warning"}
    clause : str
        Of D4.1, such as ``D4.1 2.4``.
    entry : str
        In the container; empty for the container itself.
    text : str
    """

    level: Literal["error", "warning"]
    clause: str
    entry: str
    text: str


def check_fields(entry: str, header: Header) -> list[Finding]:
    """Check the fields of any header: what parsing found odd, and what does not fit the cube."""
    out = [_from_parser(entry, text) for text in header.warnings]
    found: list[tuple[str, str]] = []
    wavelengths = header.floats("wavelength")
    if "wavelength" in header and wavelengths is None:
        found.append(("wavelength", "is no list of numbers"))
    for name in _BY_BAND:
        if name in header and name != "fwhm":
            count = len(header.strings(name) or ())
            if count != header.bands and not (name == "data offset values" and count == 1):
                found.append((name, f"has {count} values for {header.bands} bands"))
    shown = header.ints("default bands")
    if "default bands" in header and (
        shown is None
        or len(shown) not in (1, 3)
        or not all(1 <= band <= header.bands for band in shown)
    ):
        found.append(("default bands", f"found {header['default bands']}, allowed are three from "
                      f"1 to {header.bands}"))  # fmt: skip
    for name in ("reflectance scale factor", "fps", "exposure"):
        value = header.number(name)
        if value is not None and not value > 0:
            found.append((name, f"found {value:g}, allowed are positive numbers"))
    if "acquisition time" in header and header.time() is None:
        found.append(("acquisition time", f"found {header['acquisition time']!r}, no date"))
    for name, text in found:
        section = _section(name)
        level: Literal["error", "warning"] = "error" if name == "wavelength" else "warning"
        out.append(Finding(level, CLAUSE + section, entry, f"{name}: {text}"))
    return out


def _from_parser(entry: str, text: str) -> Finding:
    """Give what the parser let pass its clause: mandatory structure is an error here."""
    name = next((n for n in sorted(FIELDS, key=len, reverse=True) if text.startswith(n)), "")
    section = _section(name)
    wrong = section == "2.4" and "is missing" in text
    if name == "wavelength" and entry == "data.hdr" and "is not used" in text:
        wrong = True
    return Finding("error" if wrong else "warning", CLAUSE + section, entry, text)


def _section(name: str) -> str:
    spec = FIELDS.get(normalise(name))
    return spec.section if spec is not None and spec.section.startswith("2.") else "2.3"


@dataclass
class Procedures:
    """What ``read procedures`` asks for.

    Attributes
    ----------
    names : list of str
        Microservices, in order.
    findings : list of Finding
    """

    names: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check_procedures(header: Header) -> Procedures:
    """Check that each read procedure is known and each microservice registered."""
    out = Procedures()
    for item in header.strings("read procedures") or ():
        try:
            parsed = parse_procedures([item])
        except SwathError as error:
            out.findings.append(Finding("error", CLAUSE + "2.6", "data.hdr", str(error)))
            continue
        for procedure in parsed:
            if not isinstance(procedure, Microservice):
                continue
            out.names.append(procedure.name)
            try:
                find_microservice(procedure.name)
            except SwathError as error:  # others may have it
                out.findings.append(Finding("warning", CLAUSE + "2.6", "data.hdr", str(error)))
    return out
