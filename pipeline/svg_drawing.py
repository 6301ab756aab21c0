"""Draws curves over bands and pictures of a line's pixels as SVG, for pages that people look at.

A picture is a PNG inside the SVG, a curve a path with the band between two percentiles; axes have
round numbers. Knows NumPy and imagecodecs; nothing of what is drawn.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray

#: Colours from dark to bright that are equally far apart to the eye (viridis of matplotlib, CC0).
VIRIDIS: Final = np.array(
    [
        (68, 1, 84),
        (72, 40, 120),
        (62, 74, 137),
        (49, 104, 142),
        (38, 130, 142),
        (31, 158, 137),
        (53, 183, 121),
        (109, 205, 89),
        (180, 222, 44),
        (253, 231, 37),
    ],
    np.float64,
)
#: Most pixels of a picture along each axis; larger ones are averaged.
MOST_PIXELS: Final = 640
#: Colour of what has no value.
NOTHING: Final = (225, 225, 225)
_INK, _FAINT, _GRID = "#333", "#777", "#e4e4e4"


@dataclass(frozen=True)
class Curve:
    """One curve of a plot.

    Attributes
    ----------
    y : ndarray, (n,)
    low, high : ndarray, (n,), optional
        Between which an area is filled.
    colour : str
    label : str
    dashed : bool
    """

    y: NDArray[Any]
    low: NDArray[Any] | None = None
    high: NDArray[Any] | None = None
    colour: str = "#3e4a89"
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Frame:
    """Where on the drawing something goes, px."""

    x: float
    y: float
    width: float
    height: float


def plot(
    frame: Frame, x: NDArray[Any], curves: list[Curve], *, title: str, x_label: str, floor: bool
) -> str:
    """Draw curves over bands.

    Parameters
    ----------
    frame : Frame
        Of the axes; numbers stand outside it.
    x : ndarray, (n,)
        Wavelengths or numbers of bands.
    curves : list of Curve
    title, x_label : str
    floor : bool
        Whether the vertical axis begins at 0.
    """
    values = np.concatenate(
        [np.ravel(v) for c in curves for v in (c.y, c.low, c.high) if v is not None]
    )
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if floor:
        low = min(low, 0.0)
    margin = (high - low) * 0.06 or 1.0
    low, high = (low if floor and low == 0 else low - margin), high + margin
    left, right = float(np.min(x)), float(np.max(x))
    if left == right:
        left, right = left - 0.5, right + 0.5

    def across(v: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(frame.x + (v - left) / (right - left) * frame.width)

    def down(v: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(frame.y + frame.height - (v - low) / (high - low) * frame.height)

    parts = [label(frame.x, frame.y - 10, title, weight="600")]
    for tick in ticks(low, high, 5):
        at = float(down(np.array(tick)))
        parts.append(
            f'<path d="M{frame.x:.1f} {at:.1f}h{frame.width:.1f}" stroke="{_GRID}"/>'
            + label(frame.x - 6, at + 4, _number(tick), anchor="end", colour=_FAINT)
        )
    for tick in ticks(left, right, 5):
        at = float(across(np.array(tick)))
        base = frame.y + frame.height
        parts.append(
            f'<path d="M{at:.1f} {base:.1f}v4" stroke="{_FAINT}"/>'
            + label(at, base + 16, _number(tick), anchor="middle", colour=_FAINT)
        )
    middle, base = frame.x + frame.width / 2, frame.y + frame.height + 32
    parts.append(label(middle, base, x_label, anchor="middle", colour=_FAINT))
    for curve in curves:
        if curve.low is not None and curve.high is not None:
            there = _points(across(x), down(curve.high))
            back = _points(across(x)[::-1], down(curve.low)[::-1])
            parts.append(f'<path d="M{there}L{back}Z" fill="{curve.colour}" fill-opacity="0.18"/>')
        dash = ' stroke-dasharray="5 4"' if curve.dashed else ""
        parts.append(
            f'<path d="M{_points(across(x), down(curve.y))}" fill="none" '
            f'stroke="{curve.colour}" stroke-width="1.6"{dash}/>'
        )
    parts.append(_legend(frame, [c for c in curves if c.label]))
    parts.append(
        f'<path d="M{frame.x:.1f} {frame.y:.1f}v{frame.height:.1f}h{frame.width:.1f}" '
        f'fill="none" stroke="{_FAINT}"/>'
    )
    return "".join(parts)


def picture(frame: Frame, values: NDArray[Any], *, title: str, unit: str) -> str:
    """Draw a picture of bands (down) × samples (across), coloured from the 1st to 99th percentile.

    Parameters
    ----------
    frame : Frame
        Of the picture; what the colours mean stands below.
    values : ndarray, (bands, samples)
    title, unit : str
    """
    known = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(known, [1, 99])) if known.size else (0.0, 1.0)
    share = np.clip((shrunk(values) - low) / ((high - low) or 1.0), 0, 1)
    steps = np.linspace(0, 1, len(VIRIDIS))
    scale = np.linspace(0, 1, 128)[None]
    bar = Frame(frame.x, frame.y + frame.height + 22, frame.width, 8)
    end = bar.y + 22
    return "".join(
        (
            label(frame.x, frame.y - 10, title, weight="600"),
            embed(frame, _coloured(share, steps)),
            label(frame.x, frame.y + frame.height + 15, "samples →, bands ↓", colour=_FAINT),
            embed(bar, _coloured(scale, steps)),
            label(bar.x, end, _number(low), colour=_FAINT),
            label(bar.x + bar.width / 2, end, unit, anchor="middle", colour=_FAINT),
            label(bar.x + bar.width, end, _number(high), anchor="end", colour=_FAINT),
        )
    )


def embed(frame: Frame, rgb: NDArray[np.uint8]) -> str:
    """Place a picture, ``(rows, columns, 3)``; its pixels stay sharp."""
    data = base64.b64encode(imagecodecs.png_encode(np.ascontiguousarray(rgb))).decode()
    return (
        f'<image x="{frame.x:.1f}" y="{frame.y:.1f}" width="{frame.width:.1f}" '
        f'height="{frame.height:.1f}" preserveAspectRatio="none" image-rendering="pixelated" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    )


def drawing(width: float, height: float, body: str, label: str) -> str:
    """Put parts together to one SVG."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}" '
        f'font-family="system-ui, sans-serif" font-size="12">{body}</svg>'
    )


def shrunk(values: NDArray[Any]) -> NDArray[np.float64]:
    """Average a picture down to at most :data:`MOST_PIXELS` along each axis."""
    out = np.asarray(values, np.float64)
    for axis in (0, 1):
        step = math.ceil(out.shape[axis] / MOST_PIXELS)
        if step > 1:
            starts = np.arange(0, out.shape[axis], step)
            sizes = np.diff(np.append(starts, out.shape[axis]))
            total = np.add.reduceat(out, starts, axis=axis)
            out = total / (sizes[:, None] if axis == 0 else sizes)
    return out


def ticks(low: float, high: float, about: int) -> list[float]:
    """Give round numbers from ``low`` to ``high``, about so many."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return []
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= about)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def _coloured(share: NDArray[Any], steps: NDArray[Any]) -> NDArray[np.uint8]:
    known = np.isfinite(share)
    filled = np.where(known, share, 0.0)
    rgb = np.stack([np.interp(filled, steps, VIRIDIS[:, i]) for i in range(3)], axis=-1)
    rgb[~known] = NOTHING
    return rgb.astype(np.uint8)


def _points(x: NDArray[Any], y: NDArray[Any]) -> str:
    good = np.isfinite(x) & np.isfinite(y)
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x[good], y[good], strict=True)) or "0 0"


def _legend(frame: Frame, curves: list[Curve]) -> str:
    parts = []
    at = frame.x + frame.width
    for curve in reversed(curves):
        parts.append(label(at, frame.y - 10, curve.label, anchor="end", colour=curve.colour))
        at -= 7 * len(curve.label) + 14
    return "".join(parts)


def label(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = _INK, weight: str = "400"
) -> str:
    """Write a text; ``y`` is its base line."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
