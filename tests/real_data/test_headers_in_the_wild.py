"""Every header found in the wild is read with the expected values, or refused for the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.container.envi import read_header
from pipeline.container.header import Header
from pipeline.errors import HeaderError

STRUCTURE = ("samples", "lines", "bands", "header offset", "data type", "interleave", "byte order")


def test_every_header_is_read_as_expected_or_refused(real_data: Path) -> None:
    folder = real_data / "headers"
    index = json.loads((folder / "index.json").read_text())
    assert len(index) > 50
    assert {p.name for p in folder.glob("*.hdr")} == set(index)
    for name, expected in index.items():
        if expected["verdict"] == "refuse":
            with pytest.raises(HeaderError) as caught:
                read_header(folder / name)
            text = str(caught.value)
            why = expected["why"].replace("interleave bup", "interleave: found 'bup'")
            assert why in text, (name, text)
            assert f"{name}:" in text
            assert text.split(f"{name}:")[1].split(":")[0].isdigit(), text
            continue
        header = read_header(folder / name)
        assert len(header) == expected["fields"], name
        for field in STRUCTURE:
            assert header[field] == expected.get(field, 0), (name, field)
        count = expected.get("wavelength count", 0)
        assert len(header.strings("wavelength") or []) == count, name
        if "wavelength first" in expected:
            wavelengths = header["wavelength"]
            assert isinstance(wavelengths, list)
            assert wavelengths[0] == expected["wavelength first"], name
            assert wavelengths[-1] == expected["wavelength last"], name
        if "warning" in expected:
            assert expected["warning"] in header.warnings, name
        used = header.wavelength_nm
        assert used is None or used.size == header.bands, name


def test_every_header_that_is_read_comes_back_equal(real_data: Path) -> None:
    read = 0
    for path in sorted((real_data / "headers").glob("*.hdr")):
        try:
            header = read_header(path)
        except HeaderError:
            continue
        again = Header.parse(header.encode(), where=path.name)
        assert again == header, path.name
        order = [name for name in header if name in again]
        assert order == list(header), path.name
        assert not again.comments
        read += 1
    assert read > 50


def test_headwall_comments_are_kept(real_data: Path) -> None:
    name = "majo-erazo__spectral-water-detection__darkReference.hdr"
    header = read_header(real_data / "headers" / name)
    assert "Serial number = mvx-2019" in header.comments
    assert len(header.comments) == 17
    assert header["wavelength"] == [400.0 + 2 * i for i in range(301)]
