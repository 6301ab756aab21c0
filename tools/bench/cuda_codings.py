"""The rows of the codings on a GPU: blocks in the host's memory, coded bytes there again, and back.

What is asked for is a rate, so the limit is that rate; the same by the CPU, in the same run, stands
beside it. Without a GPU every row says so, and none has a figure.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.data import Geometry, Recording
from bench.measure import MIN_ROUNDS, Row, Spread, alternate, spread
from bench.settings import Settings
from pipeline.coding.choose import make_coding
from pipeline.coding.interface import BlockShape, Coding, Noise
from pipeline.container.in_order import default_threads, in_order

BLOCK_LINES = 128
#: Threads that hand blocks in: of a few the copies and the arithmetic overlap, others find
#: eigenvectors and take blocks apart.
THREADS = 16
#: The sensor's noise at the exposure of the recordings, counts².
NOISE = Noise(16.0)


class Step(NamedTuple):
    """A coding, what is asked of it, and the rate that it is to reach, GB/s of pixels."""

    words: str
    name: str
    asked: dict[str, Any]
    aim: float | None
    decoding: bool


STEPS = (
    Step("packed at the noise, coded host to host", "packed", {"noise": NOISE}, 5.0, False),
    Step("packed at the noise, decoded host to host", "packed", {"noise": NOISE}, 5.0, True),
    Step("packed with residual, coded host to host", "packed", {"max_error": 4}, 1.0, False),
    Step("packed with residual, decoded host to host", "packed", {"max_error": 4}, 1.0, True),
    Step("predicted, lossless, decoded host to host", "predicted", {}, None, True),
)


class Run:
    """Blocks through a coding, in order, several at a time: GB/s of pixels."""

    def __init__(self, coding: Coding, blocks: Sequence[NDArray[Any]], coded: Sequence[bytes],
                 threads: int) -> None:  # fmt: skip
        self._coding, self._blocks, self._coded = coding, blocks, coded
        self._threads = threads

    def __call__(self) -> float:
        """Code every block, or decode it where it is coded already."""
        tasks: list[Callable[[], Any]] = [
            functools.partial(self._coding.decode, data, len(block))
            for data, block in zip(self._coded, self._blocks, strict=False)
        ] or [functools.partial(self._coding.encode, block) for block in self._blocks]
        began = time.perf_counter()
        for _ in in_order(iter(tasks), self._threads):
            pass
        seconds = time.perf_counter() - began
        return sum(block.nbytes for block in self._blocks) / seconds / 1e9


def rows(settings: Settings, section: str, coder: Any) -> Iterator[Row]:
    """Measure each step on every geometry.

    Parameters
    ----------
    coder : pipeline.coding.cuda.Coder
    """
    from pipeline.coding.cuda import CudaCoding

    for geometry in settings.geometries:
        blocks = _blocks(geometry, settings)
        shape = BlockShape(geometry.bands, geometry.samples, np.dtype(np.uint16))
        for step in STEPS:
            on_cpu: Any = make_coding(step.name, shape, block_lines=BLOCK_LINES, **step.asked)
            coded: list[bytes] = []
            if step.decoding:
                coded = [on_cpu.encode(block).data for block in blocks]
            runs = (
                Run(CudaCoding(on_cpu, coder), blocks, coded, THREADS),
                Run(on_cpu, blocks, coded, default_threads()),
            )
            fast, slow = alternate(runs, settings.rounds)
            yield _row(section, step, geometry, fast, slow)


def missing(section: str) -> Iterator[Row]:
    """Give the rows of a machine without a GPU."""
    for step in STEPS:
        yield Row(
            section=section,
            step=step.words,
            limit=_limit(step),
            required=None if step.aim is None else 1.0,
            note="no GPU here",
        )


def _row(
    section: str, step: Step, geometry: Geometry, fast: Sequence[float], slow: Sequence[float]
) -> Row:
    limit = spread(slow)
    ratio = spread([one / other for one, other in zip(fast, slow, strict=True)])
    if step.aim is not None:
        limit = Spread(step.aim, step.aim, step.aim, MIN_ROUNDS)
        ratio = spread([one / step.aim for one in fast])
    return Row(
        section=section,
        step=step.words,
        geometry=str(geometry),
        block_mib=BLOCK_LINES * geometry.line_bytes / 2**20,
        rate=spread(fast),
        limit=_limit(step),
        limit_rate=limit,
        ratio=ratio,
        required=None if step.aim is None else 1.0,
        note=f"{spread(slow).median:.2f} GB/s on the CPU, {default_threads()} threads",
    )


def _limit(step: Step) -> str:
    return "the same on the CPU" if step.aim is None else f"{step.aim:g} GB/s asked for"


def _blocks(geometry: Geometry, settings: Settings) -> list[NDArray[np.uint16]]:
    lines = Recording(geometry, settings.different_lines).lines
    count = max(2, settings.buffer_bytes // (BLOCK_LINES * geometry.line_bytes))
    at = np.arange(BLOCK_LINES)
    return [
        np.take(lines, (at + number * BLOCK_LINES) % len(lines), axis=0) for number in range(count)
    ]
