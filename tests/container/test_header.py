"""ENVI headers: what is read from odd ones, what is refused, and how ours are written."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.container.fields import FIELDS, parse_time
from pipeline.container.header import Header, sanitise
from pipeline.errors import HeaderError, SwathError

STRUCTURE = (
    "samples = 4\nlines = 3\nbands = 2\nheader offset = 0\nfile type = ENVI Standard\n"
    "data type = 12\ninterleave = bil\nbyte order = 0\n"
)


def parse(more: str | bytes = "", structure: str = STRUCTURE) -> Header:
    if isinstance(more, bytes):
        return Header.parse(b"ENVI\n" + structure.encode() + more, where="x.hdr")
    return Header.parse("ENVI\n" + structure + more, where="x.hdr")


def test_structure_is_typed() -> None:
    header = parse()
    assert header.shape == (3, 4, 2)
    assert header.dtype == np.dtype("<u2")
    assert (header.interleave, header.header_offset, header.file_type) == (
        "bil",
        0,
        "ENVI Standard",
    )
    assert header.data_bytes == 48
    assert not header.warnings


def test_look_up_normalises_names_and_iteration_keeps_unknown_spellings() -> None:
    header = parse("My_Field\t2 = a\nWavelength_Units = nm\n")
    assert header["my field 2"] == header["MY FIELD  2"] == "a"
    assert list(header)[-2:] == ["My_Field\t2", "wavelength units"]
    assert "wavelength_UNITS" in header


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_bom_tabs_and_cp1252_are_read(end: str) -> None:
    text = "ENVI\n" + STRUCTURE + "Wavelength\tUnits\t=\tµm\nwavelength = {0.4,\n 0.5}\n"
    for data in (
        b"\xef\xbb\xbf" + text.replace("\n", end).encode(),
        text.replace("\n", end).encode("cp1252"),
    ):
        header = Header.parse(data)
        assert header["wavelength units"] == "µm"
        assert header.wavelength_nm is not None
        np.testing.assert_allclose(header.wavelength_nm, [400, 500])


def test_braces_are_counted() -> None:
    header = parse("read procedures = {crop:{0:3, 0:4, 0:2}, rotate:180}\nnext = 1\n")
    assert header["read procedures"] == ["crop:{0:3, 0:4, 0:2}", "rotate:180"]
    assert header["next"] == "1"
    assert Header.parse(header.text()) == header


def test_comments_are_no_fields_and_keep_their_order() -> None:
    header = parse("; one\nwavelength = {\n;Exposure (ms) = 100\n 400, 500}\n  ;two = 2\n")
    assert header.comments == ["one", "Exposure (ms) = 100", "two = 2"]
    assert header["wavelength"] == [400, 500]
    assert "two" not in header
    assert ";" not in header.text()


def test_description_is_one_string_with_its_commas() -> None:
    header = parse("description = {a, b,\n c}\ndevice = x, y\n")
    assert header["description"] == "a, b,\nc"
    assert header["device"] == "x, y"
    assert Header.parse(header.text()) == header


def test_equals_in_values_is_kept() -> None:
    header = parse("a = b = c\nerrors={x = 1}\n")
    assert header["a"] == "b = c"
    assert header["errors"] == ["x = 1"]


def test_missing_defaults_are_warned_about_and_read() -> None:
    header = parse(structure="samples=1\nlines=1\nbands=1\ndata type=4\ninterleave=BSQ\n")
    assert (header["byte order"], header["header offset"]) == (0, 0)
    assert header["file type"] == "ENVI Standard"
    assert len(header) == 5
    assert header.interleave == "bsq"
    assert "byte order is missing, little-endian assumed" in header.warnings
    again = Header.parse(header.text())
    assert again == header
    assert not again.warnings


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("MFF\n", 1, "first line is not ENVI"),
        ("", 1, "first line is not ENVI"),
        ("ENVI\n" + STRUCTURE.replace("bil", "bup"), 8, "interleave"),
        ("ENVI\n" + STRUCTURE.replace("interleave = bil\n", ""), 9, "interleave is missing"),
        ("ENVI\n" + STRUCTURE.replace("data type = 12\n", ""), 9, "data type is missing"),
        ("ENVI\n" + STRUCTURE.replace("= 12", "= 8"), 7, "data type"),
        ("ENVI\n" + STRUCTURE.replace("= 12", "= 7"), 10, "data type"),
        ("ENVI\n" + STRUCTURE.replace("= 4", "= four"), 2, "samples"),
        ("ENVI\n" + STRUCTURE.replace("= 4", "= 1_0"), 2, "samples"),
        ("ENVI\n" + STRUCTURE.replace("= 4", "= 0"), 2, "samples"),
        ("ENVI\n" + STRUCTURE.replace("= 4", "= {4}"), 2, "samples"),
        ("ENVI\n" + STRUCTURE.replace("order = 0", "order = 2"), 9, "byte order"),
        ("ENVI\n" + STRUCTURE + "LINES = 4\n", 10, "LINES"),
        ("ENVI\n" + STRUCTURE + "wavelength = {1,\n2\nfoo = 3\n", 10, "wavelength"),
        ("ENVI\n" + STRUCTURE + "x = {1} 2\n", 10, "x"),
        ("ENVI\n" + STRUCTURE + " = 2\n", 10, "field name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_line_and_field(
    text: str, line: int, field: str
) -> None:
    with pytest.raises(HeaderError) as caught:
        Header.parse(text, where="x.hdr")
    assert f"x.hdr:{line}:" in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize("data", [b"E\x00N\x00", b"\xff\xfeE\x00N\x00", b"ENVI\n\x00\x01\x02"])
def test_binary_and_utf16_are_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        Header.parse(data)


def test_duplicates_warn_and_the_last_holds() -> None:
    header = parse("lines = 3\ntarget = a\nTARGET = b\n")
    assert header["target"] == "b"
    assert len([w for w in header.warnings if "twice" in w]) == 2


def test_specim_fields() -> None:
    header = parse(
        "tint = 4.5\nacquisition date = DATE(yyyy-mm-dd): 2020-10-01\n"
        "Start Time = UTC TIME: 07:20:03\nbinning = {2, 1}\ntemperature = {\n33.69,\n149.00\n}\n"
        "errors={none}\n"
    )
    assert header["exposure"] == 4.5
    assert header["acquisition time"] == "2020-10-01"
    assert header.time() == datetime(2020, 10, 1, tzinfo=UTC)
    assert header["start time"] == "07:20:03"
    assert header["binning"] == [2, 1]
    assert header["temperature"] == [33.69, 149.0]
    assert any("temperature" in warning for warning in header.warnings)
    assert "tint" in header.text()


def test_every_field_of_d41_has_its_own_type() -> None:
    sections = {spec.section for spec in FIELDS.values()}
    assert {"2.4", "2.5", "2.6", "2.7", "2.8", "2.9"} <= sections
    values = {
        "int": 3,
        "float": 2.5,
        "str": "text, with comma",
        "ints": [1, 2],
        "floats": [1.5, 2.0],
        "strs": ["a b", "c"],
        "text": "one, two",
        "procs": ["rotate:180", "crop:{0:1, 0:1, 0:1}"],
        "time": "2026-01-02T03:04:05.678901Z",
        "clock": "03:04:05",
    }
    header = parse()
    expected = {}
    for name, spec in FIELDS.items():
        if spec.section != "2.4":
            header.set(name, values[spec.kind])
            expected[name] = values[spec.kind]
    again = Header.parse(header.text())
    for name, value in expected.items():
        assert again[name] == value, name
        assert type(again[name]) is type(value), name
    assert again == header
    assert max(map(len, header.text().split("\n"))) < 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02T03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.25-02:30", datetime(2026, 1, 2, 5, 34, 5, 250000, tzinfo=UTC)),
        ("2026-01-02T03:04:05:502:00", datetime(2026, 1, 2, 1, 4, 5, 500000, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("DATE(yyyy-mm-dd): 2020-10-01", datetime(2020, 10, 1, tzinfo=UTC)),
        ("2026-13-02", None),
        ("yesterday", None),
        ("0001-01-01T00:00:00.0+23:59", None),
    ],
)
def test_times(text: str, expected: datetime | None) -> None:
    assert parse_time(text) == expected


def test_times_are_written_in_utc() -> None:
    header = parse()
    zone = timezone(timedelta(hours=2))
    header.set("acquisition time", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=zone))
    assert header["acquisition time"] == "2026-01-02T01:04:05.000006Z"


@pytest.mark.parametrize(
    ("units", "factor"),
    [("nm", 1), ("NANOMETERS", 1), ("um", 1e3), ("µm", 1e3), ("μm", 1e3), ("Micrometers", 1e3)],
)
def test_wavelength_units(units: str, factor: float) -> None:
    header = parse(f"wavelength units = {units}\nwavelength = {{1, 2}}\nfwhm = {{0.1, 0.2}}\n")
    assert header.wavelength_nm is not None
    assert header.fwhm_nm is not None
    np.testing.assert_allclose(header.wavelength_nm, [factor, 2 * factor])
    np.testing.assert_allclose(header.fwhm_nm, [0.1 * factor, 0.2 * factor])


def test_wavelengths_that_are_none_are_not_used() -> None:
    assert parse("wavelength units = Index\nwavelength = {1, 2}\n").wavelength_nm is None
    assert parse("wavelength units = Unknown\nwavelength = {1, 2}\n").wavelength_nm is None
    header = parse("wavelength units = nm\nwavelength = {400, 500, 600}\n")
    assert header.wavelength_nm is None
    assert any("3 values for 2 bands" in warning for warning in header.warnings)
    header = parse("wavelength units = nm\nwavelength = {400p, 500}\n")
    assert header["wavelength"] == ["400p", "500"]
    assert "wavelength holds an item that is not a number" in header.warnings


def test_structure_is_written_first_and_lists_are_wrapped() -> None:
    header = Header({"target": "x", "wavelength": np.linspace(400, 1000, 1200)})
    structure = {"byte order": 0, "interleave": "BIL", "data type": 2, "bands": 1200}
    for name, value in {**structure, "lines": 1, "samples": 1}.items():
        header.set(name, value)
    lines = header.text().split("\n")
    assert [line.split(" = ")[0] for line in lines[1:9]] == [
        "samples", "lines", "bands", "header offset",
        "file type", "data type", "interleave", "byte order",
    ]  # fmt: skip
    assert lines[7] == "interleave = bil"
    assert max(map(len, lines)) <= 130


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "a{b"),
        ("target", "a}b"),
        ("target", "two\nlines"),
        ("target", "carriage\rreturn"),
        ("problem", ["a,b"]),
        ("problem", ["a", ""]),
        ("exposure", "long"),
        ("bands", 0),
        ("binning", [1.5, 1]),
        ("interleave", "bup"),
        ("acquisition time", "tomorrow"),
        ("read procedures", ["crop:{0:1"]),
        ("free", "x" * 10000),
        ("free", None),
        ("free", object()),
        ("a = b", "x"),
        ("", "x"),
        ("; comment", "x"),
        ("free", "\ud800"),
    ],
)
def test_what_the_syntax_cannot_hold_is_refused_with_the_field(name: str, value: object) -> None:
    header = parse()
    with pytest.raises(HeaderError) as caught:
        header.set(name, value)
    assert name.strip() in str(caught.value)


def test_what_a_camera_says_is_made_to_fit() -> None:
    header = parse()
    header.set("device", sanitise("a{1}\n b,c", in_list=False))
    header.set("optics", [sanitise("a, b", in_list=True)])
    assert header["device"] == "a(1)  b,c"
    assert header["optics"] == ["a; b"]


def test_set_replaces_in_place_and_remove_takes_out() -> None:
    header = parse("one = 1\ntwo = 2\n")
    header.set("ONE", 5)
    assert list(header)[-2:] == ["ONE", "two"]
    header.remove("one")
    assert "one" not in header
    other = header.copy()
    other.set("two", "3")
    assert header["two"] == "2"
    assert header != other
    other.adopt(header, "two")
    assert header == other


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="={}"), min_size=1).filter(
    lambda s: s.strip() and not s.strip().startswith(";")
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBERS = st.one_of(st.integers(-(10**15), 10**15), st.floats(allow_nan=False))
VALUES = st.one_of(TEXT, NUMBERS, st.lists(st.one_of(TEXT, NUMBERS), max_size=30), st.booleans())


@given(st.lists(st.tuples(st.one_of(NAMES, st.sampled_from(sorted(FIELDS))), VALUES), max_size=8))
@example([("long " * 20, [])])
def test_a_header_written_and_read_is_equal(fields: list[tuple[str, object]]) -> None:
    header = parse()
    for name, value in fields:
        try:
            header.set(name, value)
        except HeaderError:
            continue
    again = Header.parse(header.encode())
    assert again == header
    assert again.text() == header.text()
    assert [again[name] for name in header] == [header[name] for name in header]


LINES = st.lists(
    st.one_of(
        st.sampled_from([*STRUCTURE.split("\n"), "wavelength = {", "1, 2", "}", "a = {b, {c}}"]),
        st.text(st.sampled_from("ab={}, ;\t\r\n\x85é1"), max_size=20),
    ),
    max_size=20,
)


@given(LINES, st.sampled_from(["utf-8", "cp1252", "latin-1"]))
def test_any_text_is_read_or_refused_and_what_is_read_stays(lines: list[str], code: str) -> None:
    text = "ENVI\n" + STRUCTURE + "\n".join(lines)
    try:
        header = Header.parse(text.encode(code, errors="replace"))
    except HeaderError:
        return
    again = Header.parse(header.encode())
    assert again == header
    assert dict(again.items()).keys() == dict(header.items()).keys()
    assert again.wavelength_nm is None or again.wavelength_nm.shape == (header.bands,)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_header_or_our_own_error(data: bytes) -> None:
    for start in (b"", b"ENVI\n", b"ENVI\n" + STRUCTURE.encode()):
        try:
            Header.parse(start + data).text()
        except SwathError:
            pass


def test_reading_loads_nothing_heavy_and_nothing_posix() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['fcntl', 'resource', 'termios'])); "
        "import swath, pipeline.container.export; "
        "heavy = {'numba', 'zmq', 'cupy', 'harvesters', 'msgspec', 'imagecodecs'}; "
        "bad = heavy & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
