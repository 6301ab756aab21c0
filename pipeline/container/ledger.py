"""The ledger as text: ``Metadata/lines.csv``, written in chunks and read back whole.

One row a stored line, one for each gap that is not stored (docs/container.md). Times are UTC
with nanoseconds, unknown values are empty. Knows the row dtype of :mod:`pipeline.layout` and
the error tree only.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np

from pipeline.errors import ContainerError
from pipeline.layout import NO_VALUE, LedgerRows, LineStatus, LossReason, ledger_rows

#: Columns of ``Metadata/lines.csv``, in order.
COLUMNS: Final = (
    "line",
    "count",
    "status",
    "epoch",
    "frame_id",
    "device_time_ns",
    "host_time_utc",
    "exposure_ms",
    "temperature_c",
    "encoder",
    "reason",
    "saturated",
    "bad",
    "below_dark",
)
#: The first line of the file.
CSV_HEADER: Final = (",".join(COLUMNS) + "\n").encode()

#: Lines of a piece of :func:`csv_pieces`.
PIECE_LINES: Final = 4096
#: A longer line (bytes) is none of a ledger.
_MAX_LINE: Final = 1 << 16

_STATUS: Final = {int(s): s.text for s in LineStatus}
_REASON: Final = {int(r): r.text for r in LossReason}
_STATUS_CODES: Final = {text: code for code, text in _STATUS.items()}
_REASON_CODES: Final = {text: code for code, text in _REASON.items()}


def encode_csv(rows: LedgerRows, *, first: bool = True) -> bytes:
    """Write ledger rows as CSV.

    Parameters
    ----------
    rows : ndarray of LEDGER_DTYPE
    first : bool
        Whether the line of column names goes in front; False for the chunks that follow.

    Returns
    -------
    bytes
        ASCII, LF. ``line`` is empty for a gap that is not stored, the frame id of a line that was
        lost while the camera was away, a time, encoder, exposure or temperature where it is not
        known.
    """
    times = np.datetime_as_string(rows["host_time_ns"].astype("M8[ns]"), unit="ns")
    columns: list[list[str]] = [
        _integers(rows["line"], -1),
        _integers(rows["count"]),
        [_STATUS.get(code, str(code)) for code in rows["status"].tolist()],
        _integers(rows["epoch"]),
        _frame_ids(rows),
        _integers(rows["device_time_ns"], NO_VALUE),
        [
            f"{text}Z" if known else ""
            for text, known in zip(times.tolist(), rows["host_time_ns"] != 0, strict=True)
        ],
        ["" if x != x else repr(x) for x in rows["exposure_ms"].tolist()],
        ["" if x != x else str(x) for x in rows["temperature_c"]],
        _integers(rows["encoder"], NO_VALUE),
        [_REASON.get(code, str(code)) for code in rows["reason"].tolist()],
        _integers(rows["saturated"]),
        _integers(rows["bad"]),
        _integers(rows["below_dark"]),
    ]
    text = "".join(",".join(row) + "\n" for row in zip(*columns, strict=True))
    return (CSV_HEADER if first else b"") + text.encode("ascii")


def _frame_ids(rows: LedgerRows) -> list[str]:
    """Write frame ids; while a camera was away there were none."""
    lost = (rows["status"] == LineStatus.LOST) & (rows["frame_id"] == 0)
    unknown = lost & (rows["reason"] == LossReason.CAMERA_RESTART)
    ids = _integers(rows["frame_id"])
    return ["" if none else text for text, none in zip(ids, unknown.tolist(), strict=True)]


def _integers(column: Any, empty: int | None = None) -> list[str]:
    return ["" if value == empty else str(value) for value in column.tolist()]


def csv_pieces(chunks: Iterable[bytes], *, where: str = "Metadata/lines.csv") -> Iterator[bytes]:
    """Part the text of a ledger of any length into some thousand lines each.

    Yields
    ------
    bytes
        Whole lines with the column names in front.

    Raises
    ------
    ContainerError
        When a line is longer than any row can be.
    """
    names = b""
    rest = b""
    for chunk in chunks:
        rest += chunk
        if not names:
            names, newline, rest = rest.partition(b"\n")
            if not newline:
                names, rest = b"", names
        body, newline, rest = rest.rpartition(b"\n")
        if max(len(names), len(rest)) > _MAX_LINE:
            raise ContainerError(f"{where}: found a line of more than {_MAX_LINE} bytes")
        lines = body.split(b"\n") if newline else []
        for at in range(0, len(lines), PIECE_LINES):
            yield names + b"\n" + b"\n".join(lines[at : at + PIECE_LINES]) + b"\n"
    yield (names or rest) + b"\n" + (rest if names else b"")


def decode_csv(data: bytes, *, where: str = "Metadata/lines.csv", before: int = 0) -> LedgerRows:
    """Read ``Metadata/lines.csv``.

    Parameters
    ----------
    data : bytes
        The whole file. Columns may stand in any order; unknown ones are passed over, missing
        ones leave what :func:`pipeline.layout.ledger_rows` gives.
    where : str
        What the messages call it.
    before : int
        Rows that stand in front of these in the file, for the messages.

    Returns
    -------
    ndarray of LEDGER_DTYPE

    Raises
    ------
    ContainerError
        Naming the line and column, what was found and what is allowed.
    """
    text = data.decode("utf-8-sig", errors="replace")
    try:
        table = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise ContainerError(f"{where}: found no CSV ({error})") from None
    if not table or "line" not in table[0]:
        raise ContainerError(f"{where}: found no column names, allowed are {', '.join(COLUMNS)}")
    names, body = table[0], table[1:]
    for number, row in enumerate(body, 2 + before):
        if len(row) != len(names):
            raise ContainerError(
                f"{where}:{number}: found {len(row)} values, allowed are {len(names)}"
            )
    rows = ledger_rows(len(body))
    for name, decode in _DECODERS.items():
        if name not in names:
            continue
        at = names.index(name)
        field = "host_time_ns" if name == "host_time_utc" else name
        number, row = 0, names
        try:
            values = []
            for number, row in enumerate(body):  # noqa: B007 - the message names them
                values.append(decode(row[at]))
            # Row by row for the message only: a value may be too large for its column.
            for number, value in enumerate(values if _outside(values, rows.dtype[field]) else ()):
                row = body[number]
                rows[field][number : number + 1] = value
            rows[field] = values
        except (ValueError, KeyError, OverflowError):
            raise ContainerError(
                f"{where}:{number + 2 + before}: {name}: found {row[at][:40]!r}, "
                f"allowed is {_ALLOWED.get(name, 'a number')}"
            ) from None
    return rows


def _outside(values: list[Any], dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "f" or not values:
        return False
    bounds = np.iinfo(dtype)
    return bool(min(values) < bounds.min or max(values) > bounds.max)


def _integer(empty: int | None = None) -> Callable[[str], int]:
    def decode(text: str) -> int:
        if text == "" and empty is not None:
            return empty
        if not text.isascii() or "_" in text or len(text) > 20:
            raise ValueError(text)
        return int(text)

    return decode


def _real(text: str) -> float:
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text) if text else float("nan")


def _time(text: str) -> int:
    if not text:
        return 0
    zoned = "+" in text or "-" in text[10:] or "Z" in text[:-1]
    if not text.endswith("Z") or zoned or not text[:4].isdigit():
        raise ValueError(text)
    moment = np.datetime64(text[:-1], "ns")
    # A year beyond what 64 bits of nanoseconds hold wraps around silently.
    if np.isnat(moment) or str(moment)[:4] != text[:4]:
        raise ValueError(text)
    return int(moment.astype(np.int64))


_DECODERS: Final[dict[str, Callable[[str], Any]]] = {
    "line": _integer(-1),
    "count": _integer(1),
    "status": _STATUS_CODES.__getitem__,
    "epoch": _integer(0),
    "frame_id": _integer(0),
    "device_time_ns": _integer(NO_VALUE),
    "host_time_utc": _time,
    "exposure_ms": _real,
    "temperature_c": _real,
    "encoder": _integer(NO_VALUE),
    "reason": _REASON_CODES.__getitem__,
    "saturated": _integer(0),
    "bad": _integer(0),
    "below_dark": _integer(0),
}
_ALLOWED: Final = {
    "status": ", ".join(_STATUS_CODES),
    "reason": ", ".join(filter(None, _REASON_CODES)) + " or nothing",
    "host_time_utc": "YYYY-MM-DDTHH:MM:SS.fffffffffZ",
}
