"""Names and numbers of the C interface are those that other GenTL software uses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

gentl = pytest.importorskip("genicam.gentl", reason="genicam is not here")


def ours():
    header = Path(sys.modules["virtual_camera"].__file__).parent / "src" / "gentl.h"
    return {
        name: [(k, int(v)) for k, v in re.findall(r"(\w+) = (-?\d+)", body)]
        for name, body in re.findall(r"enum (\w+) : \w+ \{(.*?)\}", header.read_text(), re.DOTALL)
    }


@pytest.mark.parametrize("name", sorted(ours()))
def test_each_enumeration_has_the_numbers_of_the_standard(name):
    theirs = getattr(gentl, name)
    values = ours()[name]
    assert values
    for entry, number in values:
        assert int(getattr(theirs, entry)) == number, entry


def test_every_function_that_the_header_names_is_exported(producer):
    from virtual_camera.consumer import Library

    library = Library(producer)
    header = Path(sys.modules["virtual_camera"].__file__).parent / "src" / "gentl.h"
    names = re.findall(r"GENTL_EXPORT GC_ERROR (\w+)\(", header.read_text())
    assert len(names) > 60
    for name in names:
        assert getattr(library.dll, name)


@pytest.mark.parametrize("code", ["Mono8", "Mono10", "Mono10p", "Mono12", "Mono12p", "Mono16"])
def test_pixel_formats_have_their_pfnc_codes(opened, code):
    from harvesters.util.pfnc import symbolics

    with opened() as camera:
        assert symbolics[camera.entries("PixelFormat")[code]] == code
