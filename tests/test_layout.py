"""ENVI types, pixel formats, the ledger row."""

from __future__ import annotations

import pytest

from pipeline.errors import ContainerError
from pipeline.layout import (
    ENVI_TYPES,
    LEDGER_DTYPE,
    PIXEL_FORMATS,
    LineStatus,
    envi_code,
    envi_dtype,
    fill_value,
    ledger_rows,
    lost_count,
)


@pytest.mark.parametrize("code", ENVI_TYPES)
def test_envi_codes_and_dtypes_are_each_others_inverse(code: int) -> None:
    for order in (0, 1):
        dtype = envi_dtype(code, order)
        assert envi_code(dtype) == code
        swapped = dtype.newbyteorder("<>"[order])
        assert dtype == swapped


@pytest.mark.parametrize(("code", "order"), [(7, 0), (0, 0), (16, 0), (12, 2)])
def test_unknown_codes_are_refused(code: int, order: int) -> None:
    with pytest.raises(ContainerError, match="allowed"):
        envi_dtype(code, order)
    with pytest.raises(ContainerError, match="ENVI can hold"):
        envi_code("f2")


@pytest.mark.parametrize(
    ("name", "pixels", "size"),
    [
        ("Mono8", 7, 7),
        ("Mono12", 7, 14),
        ("Mono12p", 7, 11),
        ("Mono10p", 4, 5),
        ("Mono12Packed", 3, 6),
        ("Mono10Packed", 2, 3),
    ],
)
def test_packed_sizes(name: str, pixels: int, size: int) -> None:
    assert PIXEL_FORMATS[name].packed_bytes(pixels) == size


def test_a_ledger_row_has_the_same_size_everywhere_and_counts_losses() -> None:
    assert LEDGER_DTYPE.itemsize == 80  # on the wire and in journals: a change breaks old files
    rows = ledger_rows(3)
    rows["status"][1:] = LineStatus.LOST
    rows["count"][2] = 1000
    assert lost_count(rows) == 1001


@pytest.mark.parametrize(("depth", "value"), [(8, 0), (10, 65535), (12, 65535), (16, 0)])
def test_fill_values(depth: int, value: int) -> None:
    assert fill_value(depth) == value
