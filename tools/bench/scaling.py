"""How cost grows: one of bands, samples, block size and components is varied, the others stand.

Gives rows, and a plot of nanoseconds per raw count as a plain SVG file. A flat line means that cost
grows as the data do, and no faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.data import Blocks, Geometry, Recording
from bench.kernels import chain_run, lines_per_s
from bench.limits import Copy, touched
from bench.measure import Row, Spread, compare
from bench.settings import Settings
from pipeline.config import PcaConfig
from pipeline.engine import make_engine

SECTION = "scaling"
#: What stands while something else is varied.
BASE = Geometry(1024, 224)
BLOCK_MIB, COMPONENTS = 8.0, 16
BANDS = (56, 112, 224, 448, 896)
SAMPLES = (256, 512, 1024, 2048)
BLOCKS_MIB = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
NUMBERS = (2, 4, 8, 16, 32, 64)
PASS, CHAIN = "whole pixel pass", "whole chain"


@dataclass(frozen=True)
class Point:
    """One setting of one series."""

    panel: str
    series: str
    at: float
    geometry: Geometry
    block_mib: float
    components: int

    @property
    def chosen(self) -> dict[str, Any]:
        """What the engine is armed with beside the pixel pass."""
        if self.series == PASS:
            return {}
        return {"pca": PcaConfig(components=self.components)}


def points() -> Iterator[Point]:
    """Give every setting, panel by panel."""
    for series in (PASS, CHAIN):
        base = Point("", series, 0.0, BASE, BLOCK_MIB, COMPONENTS)
        for bands in BANDS:
            yield replace(base, panel="bands", at=bands, geometry=Geometry(BASE.samples, bands))
        for samples in SAMPLES:
            shape = Geometry(samples, BASE.bands)
            yield replace(base, panel="samples", at=samples, geometry=shape)
        for mib in BLOCKS_MIB:
            yield replace(base, panel="block, MiB", at=mib, block_mib=mib)
        if series == CHAIN:
            for number in NUMBERS:
                yield replace(base, panel="components", at=number, components=number)


def rows(settings: Settings) -> Iterator[tuple[Point, Row]]:
    """Measure every setting beside memcpy; one that stands in several panels only once."""
    alike: dict[tuple[Geometry, float], list[Point]] = {}
    for point in points():
        alike.setdefault((point.geometry, point.block_mib), []).append(point)
    recordings: dict[Geometry, Recording] = {}
    for (geometry, mib), some in sorted(alike.items(), key=lambda item: str(item[0])):
        if geometry not in recordings:
            recordings = {geometry: Recording(geometry, settings.different_lines)}
        lines = geometry.block_lines(mib)
        with Blocks(recordings[geometry], lines, settings.buffer_bytes) as blocks:
            copy = Copy(blocks.raw, touched(blocks.nbytes), settings.threads)
            measured: dict[tuple[str, int], Row] = {}
            for point in some:
                what = (point.series, point.components)
                if what not in measured:
                    measured[what] = _row(point, recordings[geometry], blocks, copy, settings)
                yield point, measured[what]


def _row(point: Point, recording: Recording, blocks: Blocks, copy: Copy, settings: Settings) -> Row:
    plan = recording.plan(
        blocks.block_lines, threads=settings.threads, backend="cpu", **point.chosen
    )
    with make_engine(plan) as engine:
        rate, limit, ratio = compare(chain_run(engine, blocks), copy, settings.long_rounds)
    step = point.series
    if point.series == CHAIN:
        step += f", {point.components} components"
    return Row(
        section=SECTION,
        step=step,
        geometry=str(point.geometry),
        block_mib=blocks.mib,
        rate=rate,
        lines_per_s=lines_per_s(rate, point.geometry),
        limit="memcpy",
        limit_rate=limit,
        ratio=ratio,
    )


def nanoseconds(rate: Spread) -> tuple[float, float, float]:
    """Turn GB/s of uint16 into ns per count: median and quartiles."""
    return 2.0 / rate.median, 2.0 / rate.high, 2.0 / rate.low


# -- the plot ------------------------------------------------------------------------------

WIDTH, HEIGHT = 880, 300
PANELS = ("bands", "samples", "block, MiB", "components")
LEFT, TOP, PANEL, GAP, TALL = 64, 56, 172, 32, 180
COLOURS = {PASS: "#1b6ca8", CHAIN: "#c05a1c"}
TEXT = 'font-family="Helvetica, Arial, sans-serif"'


def plot(measured: Iterable[tuple[Point, Row]], path: Path, machine: str) -> None:
    """Write the figure: a panel for each thing varied, both axes logarithmic."""
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for point, row in measured:
        if row.rate is not None:
            series = found.setdefault((point.panel, point.series), [])
            series.append((point.at, *nanoseconds(row.rate)))
    every = [value for series in found.values() for at in series for value in at[1:]]
    levels = [step * 10.0**power for power in range(-6, 6) for step in (1, 2, 5)]
    bottom = max(level for level in levels if level <= min(every))
    top = min(level for level in levels if level >= max(every))

    def y(value: float) -> float:
        share = math.log(value / bottom) / math.log(top / bottom)
        return TOP + TALL * (1 - share)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" {TEXT} font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT - 40}" y="20" font-size="14" font-weight="bold">Nanoseconds per raw '
        "count</text>",
        *_legend(),
        *_levels([level for level in levels if bottom <= level <= top], y),
    ]
    for number, panel in enumerate(PANELS):
        left = LEFT + number * (PANEL + GAP)
        both = {name: series for (where, name), series in found.items() if where == panel}
        out += _panel(panel, left, both, y)
    out += [
        f'<text x="{LEFT - 40}" y="{HEIGHT - 10}" font-size="11" fill="#666">'
        f"{machine}; bars: quartiles. What is not varied: {BASE} × 16 components, blocks of "
        f"{BLOCK_MIB:g} MiB.</text>",
        "</svg>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n", encoding="utf-8")


def _legend() -> list[str]:
    out, x = [], LEFT + 210
    for name, colour in COLOURS.items():
        out.append(f'<circle cx="{x}" cy="16" r="4" fill="{colour}"/>')
        out.append(f'<text x="{x + 10}" y="20" fill="{colour}">{name}</text>')
        x += 150
    return out


def _levels(levels: Iterable[float], y: Callable[[float], float]) -> list[str]:
    """Draw the vertical axis."""
    out = []
    for level in levels:
        at = y(level)
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{level:g}</text>')
        for number in range(len(PANELS)):
            left = LEFT + number * (PANEL + GAP)
            out.append(
                f'<line x1="{left}" x2="{left + PANEL}" y1="{at:.1f}" y2="{at:.1f}" '
                'stroke="#e4e4e4"/>'
            )
    return out


def _panel(
    name: str,
    left: float,
    both: dict[str, list[tuple[float, float, float, float]]],
    y: Callable[[float], float],
) -> list[str]:
    out = [
        f'<text x="{left + PANEL / 2}" y="{TOP - 10}" text-anchor="middle" '
        f'font-weight="bold">{name}</text>'
    ]
    ats = sorted({at for series in both.values() for at, *_ in series})
    if not ats:
        return out
    span = math.log(ats[-1] / ats[0]) or 1.0

    def x(at: float) -> float:
        return left + 12 + (PANEL - 24) * math.log(at / ats[0]) / span

    for at in ats:
        out.append(
            f'<text x="{x(at):.1f}" y="{TOP + TALL + 18}" text-anchor="middle" '
            f'font-size="11">{at:g}</text>'
        )
    for series, values in both.items():
        colour = COLOURS[series]
        values = sorted(values)
        line = " ".join(f"{x(at):.1f},{y(mid):.1f}" for at, mid, _, _ in values)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        for at, mid, low, high in values:
            out.append(
                f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" '
                f'stroke="{colour}"/>'
            )
            out.append(f'<circle cx="{x(at):.1f}" cy="{y(mid):.1f}" r="3" fill="{colour}"/>')
    return out
