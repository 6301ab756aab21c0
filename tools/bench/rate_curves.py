"""Error against size: swath's codings and other codecs over a range of settings, with a plot.

The error is PSNR with the cube's own span as the peak, measured on decoded cubes; sizes are whole.
The plot is a plain SVG file: a panel for each cube, the ratio on a logarithmic axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import codecs, codings
from bench.codecs import Codec, Outcome
from bench.compression import SIZE, exact
from bench.cubes import Cube, measured_cubes
from bench.measure import MIN_ROUNDS, Row
from bench.settings import Settings
from pipeline.errors import ConfigError

SECTION = "rate and distortion"
#: Counts of a bound, and ratios, that curves go through.
BOUNDS = (1, 2, 4, 8, 16, 32, 64)
RATIOS = (8.0, 16.0, 32.0, 64.0, 128.0)
#: Names of curves as drawn, swath's first.
COLOURS = {
    "swath predicted": "#c0392b",
    "swath packed": "#1b6ca8",
    "swath deflate": "#2e8b57",
    "SPERR, 3-D": "#8e44ad",
    "SZ3, 3-D": "#c08a1c",
    "JPEG-LS near": "#555555",
    "JPEG 2000": "#999999",
    "JPEG XL": "#5bb5c9",
}


@dataclass(frozen=True)
class Point:
    """One cube at one setting of one codec."""

    cube: str
    series: str
    ratio: float
    psnr: float


def rows(settings: Settings, path: Path, machine: str) -> Iterator[Row]:
    """Measure every curve, then draw them."""
    cubes, _ = measured_cubes(settings.rounds < MIN_ROUNDS)
    drawn: list[Point] = []
    for cube in cubes:
        for series, outcome in outcomes(cube, settings.threads):
            found = outcome.quality
            yield Row(
                section=SECTION,
                step=outcome.codec,
                geometry=cube.name,
                unit=SIZE,
                rate=exact(outcome.ratio),
                note=f"{found.psnr:.1f} dB, {found.angle:.3f}°, max {found.max_error}",
            )
            if math.isfinite(found.psnr):
                drawn.append(Point(cube.name, series, outcome.ratio, found.psnr))
    plot(drawn, path, machine)


def outcomes(cube: Cube, threads: int) -> Iterator[tuple[str, Outcome]]:
    """Run everything on one cube; curve by curve."""
    for name, aim, values in (
        ("predicted", "max_error", BOUNDS),
        ("packed", "ratio", RATIOS),
        ("deflate", "ratio", RATIOS),
    ):
        for value in values:
            try:
                outcome = codings.run(name, cube, threads, **{aim: value}).outcome
            except ConfigError:
                continue
            series = f"swath {name}"
            sign = f"d {value}" if aim == "max_error" else f"{value:g}:1"
            yield series, _named(outcome, f"{series}, {sign}")
    for codec in (codecs.NEAR, codecs.SZ3, codecs.SPERR):
        extra = 0.0 if codec is codecs.NEAR else codecs.ROUNDING
        for bound in BOUNDS:
            yield codec.name, codecs.run(codec, cube, bound + extra, threads)
    images: Sequence[Codec] = (codecs.jpeg2000(cube), codecs.JPEG_XL)
    for codec in images if cube.nbytes < 1 << 24 else images[:1]:
        for ratio in RATIOS[:-1]:
            yield codec.name, codecs.at_ratio(codec, cube, ratio, threads)


def _named(outcome: Outcome, name: str) -> Outcome:
    return Outcome(name, outcome.ratio, outcome.quality, outcome.encode, outcome.decode)


#: Of the drawing, in pixels.
LEFT, TOP, PANEL, TALL, GAP, ROW_GAP, COLUMNS = 56, 84, 240, 190, 34, 58, 3
TEXT = 'font-family="Helvetica, Arial, sans-serif"'
LARGEST = 256.0


def plot(points: Iterable[Point], path: Path, machine: str) -> None:
    """Write the figure: a panel for each cube."""
    points = list(points)
    names = list(dict.fromkeys(point.cube for point in points))
    low = 10 * math.floor(min(point.psnr for point in points) / 10)
    high = 10 * math.ceil(max(point.psnr for point in points) / 10)
    down = -(-len(names) // COLUMNS)
    width = LEFT + COLUMNS * (PANEL + GAP)
    height = TOP + down * (TALL + ROW_GAP) + 14
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" {TEXT} font-size="12" fill="#333">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT - 40}" y="20" font-size="14" font-weight="bold">PSNR, dB, against '
        "compression ratio</text>",
        *_legend(),
    ]
    for number, name in enumerate(names):
        left = LEFT + number % COLUMNS * (PANEL + GAP)
        top = TOP + number // COLUMNS * (TALL + ROW_GAP)
        some = [point for point in points if point.cube == name]
        out += _panel(name, left, top, (low, high), some, labels=number % COLUMNS == 0)
    out += [
        f'<text x="{LEFT - 40}" y="{height - 10}" font-size="11" fill="#666">{machine}; whole '
        "cubes, everything a decoder needs counted; peak: span of the cube.</text>",
        "</svg>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n", encoding="utf-8")


def _legend() -> list[str]:
    out = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        x, y = LEFT - 34 + number % 4 * 190, 40 + number // 4 * 18
        out.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{x + 10}" y="{y}" fill="{colour}">{name}</text>')
    return out


def _panel(
    name: str,
    left: float,
    top: float,
    limits: tuple[int, int],
    points: Sequence[Point],
    *,
    labels: bool,
) -> list[str]:
    low, high = limits

    def x(ratio: float) -> float:
        return left + PANEL * math.log(min(max(ratio, 1.0), LARGEST)) / math.log(LARGEST)

    def y(psnr: float) -> float:
        return top + TALL * (1 - (psnr - low) / (high - low))

    out = [
        f'<text x="{left + PANEL / 2}" y="{top - 8}" text-anchor="middle" '
        f'font-weight="bold">{name}</text>'
    ]
    for level in range(low, high + 1, 10):
        at = y(level)
        out.append(
            f'<line x1="{left}" x2="{left + PANEL}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e4e4e4"/>'
        )
        if labels:
            out.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{level}</text>')
    for power in range(0, 9, 1):
        at = x(2.0**power)
        out.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{top + TALL}" stroke="#f2f2f2"/>'
        )
        out.append(
            f'<text x="{at:.1f}" y="{top + TALL + 16}" text-anchor="middle" '
            f'font-size="11">{2**power}</text>'
        )
    for series, colour in COLOURS.items():
        line = sorted((p.ratio, p.psnr) for p in points if p.series == series)
        line = [at for at in line if at[0] <= LARGEST]
        if not line:
            continue
        path = " ".join(f"{x(ratio):.1f},{y(psnr):.1f}" for ratio, psnr in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        out += [
            f'<circle cx="{x(ratio):.1f}" cy="{y(psnr):.1f}" r="2.5" fill="{colour}"/>'
            for ratio, psnr in line
        ]
    return out
