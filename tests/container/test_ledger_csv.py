"""The ledger as CSV: what is written is read back bit for bit, what is broken is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.container.ledger import COLUMNS, CSV_HEADER, decode_csv, encode_csv
from pipeline.errors import ContainerError, SwathError
from pipeline.layout import LEDGER_DTYPE, LineStatus, LossReason, ledger_rows


@given(st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_rows_come_back_bit_for_bit(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    rows = ledger_rows(count)
    rows["line"] = rng.integers(-1, 2**62, count)
    for name in ("frame_id",):
        rows[name] = rng.integers(0, 2**64 - 1, count, dtype="u8")
    for name in ("device_time_ns", "encoder"):
        rows[name] = np.where(rng.random(count) < 0.5, rows[name], rng.integers(-(2**62), 2**62))
    rows["host_time_ns"] = np.where(rng.random(count) < 0.3, 0, rng.integers(1, 2**62, count))
    rows["exposure_ms"] = np.where(rng.random(count) < 0.3, np.nan, rng.random(count) * 100)
    rows["temperature_c"] = np.where(rng.random(count) < 0.3, np.nan, rng.random(count) * 100)
    for name in ("count", "epoch", "saturated", "bad", "below_dark"):
        rows[name] = rng.integers(0, 2**32 - 1, count)
    rows["status"], rows["reason"] = rng.integers(0, 4, count), rng.integers(0, 6, count)
    middle = count // 2
    text = encode_csv(rows[:middle]) + encode_csv(rows[middle:], first=False)
    assert text == encode_csv(rows)
    assert decode_csv(text).tobytes() == rows.tobytes()


def test_the_text_is_for_people() -> None:
    rows = ledger_rows(2)
    rows["line"][0], rows["host_time_ns"][0] = 7, 1_764_000_000_123_456_789
    rows["status"][1], rows["reason"][1], rows["count"][1] = 1, 2, 5000
    head, first, second = encode_csv(rows).decode().splitlines()
    assert head.startswith(
        "line,count,status,epoch,frame_id,device_time_ns,host_time_utc,exposure_ms,"
        "temperature_c,encoder"
    )
    assert first == "7,1,ok,0,0,,2025-11-24T16:00:00.123456789Z,,,,,0,0,0"
    assert second == ",5000,lost,0,0,,,,,,no room,0,0,0"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"x" + b"," * (len(COLUMNS) - 1), ":2: line"),
        (b"1,2", ":2: found 2 values"),
        (b"1,1,fine" + b"," * (len(COLUMNS) - 3), "status"),
        (b"1,-1,ok" + b"," * (len(COLUMNS) - 3), "count"),
    ],
)
def test_what_is_no_ledger_is_named(body: bytes, what: str) -> None:
    with pytest.raises(ContainerError, match=what):
        decode_csv(CSV_HEADER + body + b"\n")
    with pytest.raises(ContainerError, match="column names"):
        decode_csv(b"")


def test_columns_may_be_missing_further_or_in_another_order() -> None:
    rows = decode_csv(b"\xef\xbb\xbfstatus,line,colour\r\nlost,3,red\r\n")
    assert rows.dtype == LEDGER_DTYPE
    assert (rows["line"][0], rows["status"][0], rows["count"][0]) == (3, 1, 1)


@given(st.binary(max_size=200), st.text(st.sampled_from('0123456789,.-TZ:"\n\ree'), max_size=100))
def test_anything_ends_in_rows_or_our_own_error(data: bytes, text: str) -> None:
    for body in (data, CSV_HEADER + data, CSV_HEADER + text.encode()):
        try:
            decode_csv(body)
        except SwathError:
            pass


def test_lines_lost_while_the_camera_was_away_have_no_frame_id():
    rows = ledger_rows(3)
    rows["status"] = LineStatus.LOST
    rows["reason"] = [LossReason.CAMERA_RESTART, LossReason.CAMERA, LossReason.STORAGE]
    text = encode_csv(rows).decode().splitlines()
    column = text[0].split(",").index("frame_id")
    assert [line.split(",")[column] for line in text[1:]] == ["", "0", "0"]
    assert decode_csv(encode_csv(rows))["frame_id"].tolist() == [0, 0, 0]
