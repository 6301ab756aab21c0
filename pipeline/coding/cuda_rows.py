"""Codes rows of integers that lie on a GPU: spreads, tables, symbols, words, each a trip there.

The bytes are those that ``rans.encode_rows`` gives for the same tables. Knows a place's memory and
the kernels in ``encode_rows.cu``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from pipeline.coding.compiled import compile_rans
from pipeline.coding.cuda_decode import ROWS, STREAMS, chunks_of, most_threads
from pipeline.coding.cuda_memory import Part, Place
from pipeline.coding.rans import CLASSES, MOST_SHIFT, SYMBOLS, classes_of, tables_of
from pipeline.coding.sections import deflated, section
from pipeline.compute.cuda_device import Shape

#: Lanes of a stream, and values from which on there are many.
LANES: Final = (32, 256)
MANY: Final = 1 << 20
#: Values of a thread where they are counted, and values of a class that are; COUNTED and WINDOW.
COUNTED: Final = 128
WINDOW: Final = 4096

Start = Callable[..., None]


class RowCoder:
    """Memory for coding up to so many rows; one matrix after the other.

    Parameters
    ----------
    place : Place
        Not begun yet.
    start : callable
        Queues a kernel: name, grid, threads, arguments.
    rows, n : int
        At most.
    shape : Shape
    """

    def __init__(self, place: Place, start: Start, rows: int, n: int, shape: Shape) -> None:
        self._place, self._start, self._shape = place, start, shape
        size = rows * n
        self._room = size + 8
        self._sent = {
            "classes": place.later(rows),
            "kinds": place.later(12 * CLASSES),
            "sizes": place.later(2 * CLASSES * SYMBOLS),
            "low_from": place.later(8 * rows),
        }
        self._made = {
            "symbols": place.room(size),
            "words": place.room(2 * self._room),
            "low": place.room(-(-size * MOST_SHIFT // 32) * 4 + 8),
            "escapes": place.room(4 * rows * chunks_of(n, shape.threads)),
            "escaped": place.room(4 * size),
            "states": place.room(4 * max(LANES)),
            "found": place.room(16),
        }
        self._totals = place.room(8 * rows)
        self._counts = place.room(4 * CLASSES * WINDOW)

    def code(self, values: Part, rows: int, n: int) -> bytes:
        """Code rows of int32; see ``rans.encode_rows``."""
        if not rows * n:
            return b""
        place, threads = self._place, self._shape.threads
        many = (rows * -(-n // (threads * COUNTED)),)
        totals = self._totals.cut(8 * rows)
        place.zero(totals)
        self._start("sum_rows", many, threads, place.at(values), place.at(totals), np.uint64(n))
        classes, shift = classes_of(place.fetch(totals)[0].view(np.uint64) / n)
        kinds = np.zeros((len(shift), 3), np.int32)
        kinds[:, 0] = shift
        place.put(self._sent["classes"], classes)
        place.put(self._sent["kinds"], kinds)
        counts = self._counts.cut(4 * len(shift) * WINDOW)
        place.zero(counts)
        fields = self._fields(values, rows, n)
        self._start("count_values", many, threads, fields, place.at(counts))
        seen = place.fetch(counts)[0].view(np.uint32).reshape(len(shift), WINDOW)
        tables = tables_of(seen, shift, compile_rans(np.dtype(np.int32)))
        kinds[:, 1], kinds[:, 2] = tables.least, tables.count
        bits = shift[classes].astype(np.uint64) * np.uint64(n)
        place.put(self._sent["kinds"], kinds)
        place.put(self._sent["sizes"], tables.frequency.astype(np.uint16))
        place.put(self._sent["low_from"], np.cumsum(bits) - bits)
        low, states, escaped, words = self._symbols(fields, rows, n, int(bits.sum()))
        return b"".join(
            (
                struct.pack("<H", len(states) // 4),
                deflated(classes),
                tables.to_bytes(),
                deflated(np.frombuffer(escaped, "<i4")),
                section(low),
                states,
                section(words),
            )
        )

    def _symbols(self, fields: Any, rows: int, n: int, bits: int) -> tuple[bytes, ...]:
        """Give low bits, states, escaped values and words."""
        place, made, threads = self._place, self._made, self._shape.threads
        low, found = made["low"].cut(-(-bits // 8)), made["found"]
        chunks = (rows * chunks_of(n, threads),)
        lanes = LANES[rows * n >= MANY]
        fields["lanes"], fields["words_there"] = lanes, self._room
        one = np.zeros((), STREAMS)
        one["at"][0] = fields
        place.zero(made["low"].cut(-(-bits // 32) * 4 + 4))
        place.zero(found)
        self._start("find_symbols", chunks, threads, fields)
        self._start("count_escapes", (*chunks, 1), threads, one)
        self._start("add_escapes", (1,), threads, one, np.uint32(threads))
        warp = self._shape.warp
        lane_threads = min(-(-lanes // warp) * warp, most_threads(self._shape))
        self._start("encode_symbols", (1,), lane_threads, fields)
        states = made["states"].cut(4 * lanes)
        low_bytes, state_bytes, seen = (part.tobytes() for part in place.fetch(low, states, found))
        taken, _, escapes, _ = np.frombuffer(seen, np.uint32).tolist()
        fields["escaped_there"] = escapes
        if escapes:
            self._start("put_escaped", chunks, threads, fields)
        escaped = made["escaped"].cut(4 * escapes)
        words = made["words"].cut(2 * taken, 2 * (self._room - taken))
        out = [part.tobytes() for part in place.fetch(escaped, words)]
        return low_bytes, state_bytes, *out

    def _fields(self, values: Part, rows: int, n: int) -> Any:
        out = np.zeros((), ROWS)
        for name, part in {**self._sent, **self._made, "values": values}.items():
            out[name] = self._place.at(part)
        out["rows"], out["n"] = rows, n
        return out
