"""Decodes a block on a GPU: what was read of it goes up, pixels and what was found come back.

Which kernels run, over what, in which order; what they compute is in ``decode_rows.cu`` and
``decode_pixels.cu``. Knows blocks as read, their memory and the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.coding.cuda_blocks import Aside, CodedRows, PcaBlock, PredictedBlock
from pipeline.coding.cuda_memory import Part, Place
from pipeline.coding.interface import BlockShape, Pixels
from pipeline.coding.sections import bad
from pipeline.compute.cuda_device import Shape

#: Values of a thread where rows are cut into chunks, rows of the matrix, threads that predict;
#: ITEMS, ROWS_EACH and COLUMNS in the source.
ITEMS: Final = 8
ROWS_EACH: Final = 8
COLUMNS: Final = 128
#: Words and states that a stream may not end with.
TOO_FEW: Final = 0xFFFFFFFF

#: ``struct Rows`` and ``struct Streams`` of the source.
ROWS: Final = np.dtype(
    [(name, "u8") for name in ("states", "words", "sizes", "kinds", "classes", "escaped", "low")]
    + [(name, "u8") for name in ("low_from", "slots", "symbols", "escapes", "values", "found")]
    + [("n", "u8")]
    + [(name, "u4") for name in ("rows", "lanes", "words_there", "class_count")]
    + [(name, "u4") for name in ("escaped_there", "planes")],
    align=True,
)
STREAMS: Final = np.dtype([("at", ROWS, (2,))], align=True)
#: ``struct Matrix`` of the source.
MATRIX: Final = np.dtype(
    [(name, "u8") for name in ("first", "scores", "residual", "means", "bits", "out", "columns")]
    + [(name, "u4") for name in ("rows", "count", "step", "factor")]
    + [("least", "i4"), ("most", "i4")],
    align=True,
)

Block = PcaBlock | PredictedBlock


class Decoding:
    """One block on its way through a place.

    Parameters
    ----------
    place : Place
        Cleared by whoever lends it.
    kernels : dict
        Compiled for the type of the pixels.
    block : PcaBlock or PredictedBlock
    shape : BlockShape
    lines : int
    threads : Shape
        How the device is cut up.
    """

    def __init__(
        self,
        place: Place,
        kernels: dict[str, Any],
        block: Block,
        shape: BlockShape,
        lines: int,
        threads: Shape,
    ) -> None:
        self._place, self._kernels, self._block = place, kernels, block
        self._shape, self._lines, self._threads = shape, lines, threads
        scores = block.scores if isinstance(block, PcaBlock) else None
        self._coded = [rows for rows in (scores, block.residual) if rows is not None and _any(rows)]

    def run(self) -> Pixels:
        """Decode it.

        Raises
        ------
        ContainerError
            When the block is damaged.
        """
        place, shape, aside = self._place, self._shape, self._block.aside
        item = shape.dtype.itemsize
        streams = [Stream(place, coded, self._threads.threads) for coded in self._coded]
        found = place.room(16 * max(len(streams), 1))
        parts = self._matrix_parts()
        matrix = place.room(aside.rows * aside.columns * item)
        together = queue_together(place, aside)
        out = place.room(self._lines * shape.line_bytes())
        place.begin()
        place.zero(found)
        self._streams(streams, found)
        if aside.rows * aside.columns:
            self._fit(streams, parts, matrix)
        together(self._start, self._threads.threads, shape, self._lines, matrix, out)
        decoded, seen = place.fetch(out, found)
        self._check(seen.view(np.uint32).reshape(-1, 4))
        pixels_out = decoded.view(shape.dtype).reshape(self._lines, shape.bands, shape.samples)
        return pixels_out.copy()

    def _streams(self, streams: list[Stream], found: Part) -> None:
        """Queue what makes values of coded rows."""
        if not streams:
            return
        place, count, threads = self._place, len(streams), self._threads.threads
        both = np.zeros((), STREAMS)
        for i, stream in enumerate(streams):
            both["at"][i] = stream.fields(place)
            both["at"][i]["found"] = place.at(found) + np.uint64(16 * i)
        coded = [stream.coded for stream in streams]
        packed = [rows for rows in coded if rows.tables is not None and rows.states is not None]
        chunks = max(rows.rows * chunks_of(rows.n, threads) for rows in coded)
        if packed:
            classes = max(len(rows.tables.shift) for rows in packed if rows.tables is not None)
            lanes = max(len(rows.states) for rows in packed if rows.states is not None)
            self._start("build_slots", (classes, count), threads, both)
            warp, most = self._threads.warp, self.most_threads
            self._start("decode_symbols", (count,), min(-(-lanes // warp) * warp, most), both)
            self._start("count_escapes", (chunks, count), threads, both)
            self._start("add_escapes", (count,), threads, both, np.uint32(threads))
        self._start("join_values", (chunks, count), threads, both)

    @property
    def most_threads(self) -> int:
        """Threads of a block at most."""
        return most_threads(self._threads)

    def _matrix_parts(self) -> dict[str, Part]:
        block, place = self._block, self._place
        if isinstance(block, PcaBlock):
            return {"first": place.send(block.basis), "means": place.send(block.means)}
        return {
            "first": place.send(block.weights),
            "means": place.send(block.means),
            "bits": place.send(block.bits),
        }

    def _fit(self, streams: list[Stream], parts: dict[str, Part], out: Part) -> None:
        """Queue what makes the matrix of values."""
        block, aside, place = self._block, self._block.aside, self._place
        info = np.iinfo(self._shape.dtype)
        fields = np.zeros((), MATRIX)
        for name, part in {**parts, "out": out}.items():
            fields[name] = place.at(part)
        fields["columns"], fields["rows"] = aside.columns, aside.rows
        fields["factor"] = 2 * block.bound + 1
        fields["least"], fields["most"] = info.min, info.max
        for stream in streams:
            name = "residual" if stream.coded is block.residual else "scores"
            fields[name] = place.at(stream.values)
        if isinstance(block, PcaBlock):
            fields["count"], fields["step"] = len(block.basis), block.step
            threads = self._threads.threads
            groups = -(-aside.rows // ROWS_EACH)
            self._start("settle", (groups * -(-aside.columns // threads),), threads, fields)
        else:
            fields["count"] = len(block.weights)
            threads = min(COLUMNS, self._threads.threads)
            self._start("restore", (-(-aside.columns // threads),), threads, fields)

    def _check(self, found: NDArray[np.uint32]) -> None:
        """Raise what the GPU found wrong."""
        block = self._block
        for coded, seen in zip(self._coded, found.tolist(), strict=False):
            words, states, escapes, top = seen
            if not coded.planes:
                if coded.words is not None and words != len(coded.words) // 2:
                    raise bad("words that do not end with the rows")
                if states:
                    raise bad("states that do not end where they began")
                if coded.escaped is not None and escapes != len(coded.escaped):
                    raise bad("another number of escaped values than of escapes")
            if isinstance(block, PcaBlock) and coded is block.scores and not block.exact(top):
                raise bad("numbers too large for an exact product")

    def _start(self, name: str, grid: tuple[int, ...], threads: int, *arguments: Any) -> None:
        self._kernels[name](grid, (threads,), arguments, stream=self._place.stream)


class Stream:
    """Coded rows in a place: what of them goes up, and room for what becomes of them."""

    def __init__(self, place: Place, coded: CodedRows, threads: int) -> None:
        self.coded = coded
        size = coded.rows * coded.n
        self.values = place.room(4 * size)
        self._parts = {"low": place.send(coded.low)}
        tables = coded.tables
        if tables is None or coded.classes is None:
            return
        assert coded.states is not None
        assert coded.words is not None
        assert coded.escaped is not None
        bits = tables.shift[coded.classes].astype(np.uint64) * np.uint64(coded.n)
        kinds = np.stack([tables.shift, tables.least, tables.count], axis=1).astype(np.int32)
        sent = {
            "states": coded.states,
            "words": coded.words,
            "sizes": tables.frequency.astype(np.uint16),
            "kinds": kinds,
            "classes": coded.classes,
            "escaped": coded.escaped,
            "low_from": np.cumsum(bits) - bits,
        }
        self._parts |= {name: place.send(array) for name, array in sent.items()}
        self._parts["slots"] = place.room(4 * len(kinds) << 12)
        self._parts["symbols"] = place.room(size)
        self._parts["escapes"] = place.room(4 * coded.rows * chunks_of(coded.n, threads))

    def fields(self, place: Place) -> NDArray[Any]:
        """Give what the kernels are told; memory must be there."""
        coded, out = self.coded, np.zeros((), ROWS)
        for name, part in {**self._parts, "values": self.values}.items():
            out[name] = place.at(part)
        out["n"], out["rows"], out["planes"] = coded.n, coded.rows, coded.planes
        if coded.states is not None and coded.words is not None and coded.escaped is not None:
            out["lanes"], out["words_there"] = len(coded.states), len(coded.words) // 2
            out["escaped_there"] = len(coded.escaped)
        if coded.tables is not None:
            out["class_count"] = len(coded.tables.shift)
        return out


def queue_together(place: Place, aside: Aside) -> Callable[..., None]:
    """Let what is apart go up; give what queues the kernels that put a block together.

    That takes what starts a kernel, the threads of a block, the block's shape and lines, and the
    parts of its decoded matrix and of the whole.
    """
    steps, source = place.send(aside.steps), place.send(aside.source)
    values, places = place.send(aside.values), place.send(aside.places)
    column = None if aside.column is None else place.send(aside.column)

    def queue(
        start: Callable[..., None],
        threads: int,
        shape: BlockShape,
        lines: int,
        matrix: Part,
        out: Part,
    ) -> None:
        at, pixels = place.at, np.uint64(lines * shape.samples)
        if count := len(aside.places):
            parts = map(at, (matrix, places, values))
            start("put_masked", (-(-count // threads),), threads, *parts, np.uint32(count))
        if aside.rows < shape.bands:
            start("add_up", (shape.bands - aside.rows,), threads, at(steps), pixels)
        start(
            *("put_together", (lines * shape.bands,), threads),
            *map(at, (matrix, steps, source)),
            *(np.uint64(0) if column is None else at(column), at(out)),
            *(np.uint64(aside.columns), np.uint32(shape.bands), np.uint32(shape.samples), pixels),
        )

    return queue


def most_threads(shape: Shape) -> int:
    """Give the threads of a block at most; MOST_THREADS in the source."""
    return 4 * shape.threads


def chunks_of(n: int, threads: int) -> int:
    """Give the chunks of a row of n values."""
    return -(-n // (threads * ITEMS))


def _any(coded: CodedRows) -> bool:
    return bool(coded.rows * coded.n)
