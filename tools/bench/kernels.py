"""The rows of one process: stages over blocks in memory, and unpacking, beside memcpy.

The engine is armed and fed as a capture arms and feeds it; its outputs stay where it puts them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import extras
from bench.data import Blocks, Geometry, Recording, packed
from bench.limits import Copy, Gemm, touched
from bench.measure import Row, Run, Spread, alternate, compare, spread
from bench.settings import Settings
from pipeline.compute.unpack import unpack
from pipeline.config import PcaConfig
from pipeline.engine import BlockResult, Engine, make_engine
from pipeline.layout import PIXEL_FORMATS

SECTION = "CPU"
COMPONENTS = 16
PCA_ALONE = f"counts and {COMPONENTS} components only"
#: What unpacking is judged by.
ALL_CORES = "memcpy of all threads"
PACKED = ("Mono12p", "Mono10p", "Mono12Packed")

#: What is armed, and what part of memcpy it must reach.
CHAINS: tuple[tuple[str, dict[str, Any], float | None], ...] = (
    (
        "correction to int16 reflectance",
        {"reflectance": "int16", "quality": False, "preview": False},
        0.8,
    ),
    ("whole pixel pass, reflectance stored", {"reflectance": "int16"}, 0.75),
    ("whole pixel pass, raw stored", {}, 0.75),
    (
        f"whole chain, {COMPONENTS} components",
        {"pca": PcaConfig(components=COMPONENTS)},
        0.15,
    ),
)


def feed(
    engine: Engine,
    blocks: Sequence[NDArray[Any]],
    see: Callable[[BlockResult], None] = lambda result: None,
    ages: list[float] | None = None,
) -> float:
    """Move blocks through an engine, as many at a time as it takes; seconds.

    Parameters
    ----------
    engine, blocks
    see : callable
        Is shown each result.
    ages : list of float, optional
        Receives the seconds from each block's submission to its result.
    """
    began = time.perf_counter()
    submitted: deque[float] = deque()

    def collect() -> None:
        see(engine.collect())
        if ages is not None:
            ages.append(time.perf_counter() - submitted[0])
        submitted.popleft()

    for block in blocks:
        if engine.under_way == engine.depth:
            collect()
        submitted.append(time.perf_counter())
        engine.submit(block)
    while engine.under_way:
        collect()
    return time.perf_counter() - began


def chain_run(engine: Engine, blocks: Blocks) -> Run:
    """Make a run of all blocks through an engine: GB/s of raw input."""
    return lambda: blocks.nbytes / feed(engine, blocks.raw) / 1e9


def rows(settings: Settings) -> Iterator[Row]:
    """Measure every geometry; the unpacking, which does not depend on it, with the first."""
    for number, geometry in enumerate(settings.geometries):
        recording = Recording(geometry, settings.different_lines)
        lines = geometry.block_lines(settings.block_mib)
        with Blocks(recording, lines, settings.buffer_bytes) as blocks:
            into = touched(blocks.nbytes)
            if number == 0:
                yield from limit_rows(blocks, into, settings)
                yield from unpack_rows(recording, blocks, into, settings)
            yield from _chain_rows(recording, blocks, into, settings)
        watched = Recording(geometry, settings.different_lines, watched=True)
        with Blocks(watched, lines, settings.buffer_bytes) as blocks:
            yield from extras.rows(settings, SECTION, watched, blocks)


def limit_rows(blocks: Blocks, into: NDArray[np.uint8], settings: Settings) -> Iterator[Row]:
    """Measure the limits by themselves, to be seen beside each other."""
    for threads in sorted({1, settings.threads}):
        run: Run = Copy(blocks.raw, into, threads)
        yield _alone(f"memcpy, {_threads(threads)}", "GB/s", run, settings.rounds)
    run = Gemm(settings.threads)
    yield _alone(f"sgemm, {_threads(settings.threads)}", "GFLOP/s", run, settings.rounds)


def _alone(step: str, unit: str, run: Run, rounds: int) -> Row:
    run()
    rate = spread([run() for _ in range(rounds)])
    return Row(section="limits", step=step, unit=unit, rate=rate)


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _chain_rows(
    recording: Recording, blocks: Blocks, into: NDArray[np.uint8], settings: Settings
) -> Iterator[Row]:
    copy = Copy(blocks.raw, into, settings.threads)
    few = recording.geometry.bands < COMPONENTS
    for step, chosen, required in CHAINS:
        if few and "pca" in chosen:
            yield _too_few_bands(step, recording.geometry)
            continue
        plan = recording.plan(blocks.block_lines, threads=settings.threads, backend="cpu", **chosen)
        with make_engine(plan) as engine:
            subject, limit, ratio = compare(chain_run(engine, blocks), copy, settings.rounds)
        yield Row(
            section=SECTION,
            step=step,
            geometry=str(recording.geometry),
            block_mib=blocks.mib,
            rate=subject,
            lines_per_s=lines_per_s(subject, recording.geometry),
            limit="memcpy",
            limit_rate=limit,
            ratio=ratio,
            required=required,
        )
    yield (
        _too_few_bands(PCA_ALONE, recording.geometry)
        if few
        else _pca_row(recording, blocks, settings)
    )


def _too_few_bands(step: str, geometry: Geometry) -> Row:
    note = f"needs {COMPONENTS} bands"
    return Row(section=SECTION, step=step, geometry=str(geometry), note=note)


def lines_per_s(rate: Spread, geometry: Geometry) -> float:
    """Lines a second at so many GB/s of raw input."""
    return rate.median * 1e9 / geometry.line_bytes


def _pca_row(recording: Recording, blocks: Blocks, settings: Settings) -> Row:
    """Measure the components alone, as arithmetic: what learning and projecting must multiply."""
    geometry = recording.geometry
    plan = recording.plan(
        blocks.block_lines,
        threads=settings.threads,
        backend="cpu",
        quality=False,
        preview=False,
        pca=PcaConfig(components=COMPONENTS),
    )
    flops = 0.0

    def see(result: BlockResult) -> None:
        nonlocal flops
        for group in result.pca:
            # the products of a spectrum with itself are symmetric: half of a square, twice
            flops += group.pixels * geometry.bands**2
            flops += 2.0 * COMPONENTS * group.lines * geometry.pixels

    def run() -> float:
        nonlocal flops
        flops = 0.0
        seconds = feed(engine, blocks.raw, see)
        return flops / seconds / 1e9

    with make_engine(plan) as engine:
        subject, limit, ratio = compare(run, Gemm(settings.threads), settings.rounds)
    return Row(
        section=SECTION,
        step=PCA_ALONE,
        geometry=str(geometry),
        block_mib=blocks.mib,
        unit="GFLOP/s",
        rate=subject,
        limit="sgemm",
        limit_rate=limit,
        ratio=ratio,
    )


def unpack_rows(
    recording: Recording, blocks: Blocks, into: NDArray[np.uint8], settings: Settings
) -> Iterator[Row]:
    """Measure unpacking frames of one line into rotating memory, by one thread."""
    pixels = recording.geometry.pixels
    copies = {
        ALL_CORES: Copy(blocks.raw, into, settings.threads),
        "memcpy of one thread": Copy(blocks.raw, into, 1),
    }
    count = blocks.nbytes // (2 * pixels)
    out = into[: count * 2 * pixels].view(np.uint16).reshape(count, pixels)
    for name in PACKED:
        fmt = PIXEL_FORMATS[name]
        few = packed(recording.lines, fmt)
        frames = touched(count * few.shape[1]).reshape(count, few.shape[1])
        for at in range(0, count, len(few)):
            frames[at : at + len(few)] = few[: count - at]

        def run() -> float:
            began = time.perf_counter()
            for frame, line in zip(frames, out, strict=True):  # noqa: B023 - run before the next
                unpack(frame, fmt, pixels, line)  # noqa: B023
            return out.nbytes / (time.perf_counter() - began) / 1e9

        own, *others = alternate([run, *copies.values()], settings.rounds)
        rate = spread(own)
        for limit, other in zip(copies, others, strict=True):
            yield Row(
                section=SECTION,
                step=f"unpacking {name}, one core, bytes out, beside {limit}",
                geometry=str(recording.geometry),
                rate=rate,
                lines_per_s=lines_per_s(rate, recording.geometry),
                limit=limit,
                limit_rate=spread(other),
                ratio=spread([a / b for a, b in zip(own, other, strict=True)]),
                required=0.6 if limit == ALL_CORES else None,
            )
