"""What Headwall writes into comment lines only, under D4.1's names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.container.vendor_comments import comment_fields

NIR = [
    "AOI height = 256",
    "AOI left = 0",
    "AOI top = 0",
    "AOI width = 320",
    "Col binning = 1",
    "POST AOI height = 70",
    "POST AOI left = 0",
    "POST AOI top = 94",
    "POST AOI width = 320",
    "POST Col binning = 1",
    "POST Row binning = 1",
    "Row binning = 1",
    "Serial Number = uVS-251",
]


def test_serial_number_binning_and_region_are_read() -> None:
    assert comment_fields(NIR, 70, 320) == {
        "serial number": "uVS-251",
        "binning": [1, 1],
        "vroi": [95, 164],
        "hroi": [1, 320],
    }


def test_other_spellings_of_the_same_vendor_are_read() -> None:
    lines = [
        ";AOI left = 4",
        ";AOI top = 2",
        ";AOI width : 1020",
        ";AOI height = 301",
        ";Exposure (ms) = 100.0033437",
        ";Spectral binning = 2",
        ";Col binning = 1",
        ";Serial number = mvx-2019",
        ";analog gain = 13.8999996",
    ]
    assert comment_fields(lines, 301, 1020) == {
        "serial number": "mvx-2019",
        "exposure": 100.0033437,
        "gain": 13.8999996,
        "binning": [2, 1],
        "vroi": [2, 302],
        "hroi": [5, 1024],
    }


@pytest.mark.parametrize(
    ("change", "bands"),
    [("POST AOI height = 69", 70), ("AOI top = -1", 70), ("AOI top = x", 70), ("", 64)],
)
def test_a_region_that_does_not_give_the_lines_is_not_believed(change: str, bands: int) -> None:
    name = change.split(" = ")[0]
    lines = [change if line.startswith(f"{name} =") else line for line in NIR]
    found = comment_fields(lines, bands, 320)
    assert "vroi" not in found
    assert found["hroi"] == [1, 320]


@given(st.lists(st.text(max_size=120), max_size=20))
def test_any_comments_are_read_without_harm(lines: list[str]) -> None:
    found = comment_fields([*lines, *NIR], 70, 320)
    assert set(found) <= {"serial number", "binning", "vroi", "hroi", "exposure", "gain"}
