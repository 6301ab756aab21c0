"""One self-contained page that shows a folder of references: counts, noise, bad pixels, verdicts.

HTML with drawings inside, no script and nothing from elsewhere, so that it can be sent and kept.
Knows the listing and the drawing; reads files of bad pixels and wavelengths beside the references.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.container.envi import open_envi, read_header
from pipeline.errors import ContainerError
from pipeline.reference_listing import Listed, Listing, described
from pipeline.references import Reference
from pipeline.svg_drawing import Curve, Frame, drawing, embed, label, picture, plot

#: Beginning of the names of files that are maps of bad pixels.
BAD_PIXELS: Final = "bad"
#: Colours of the classes of a map, from 1 up; those beyond have the last.
_CLASSES: Final = (
    ("#d62728", (214, 39, 40)),
    ("#111111", (17, 17, 17)),
    ("#ff7f0e", (255, 127, 14)),
    ("#9467bd", (148, 103, 189)),
    ("#1f77b4", (31, 119, 180)),
    ("#8c564b", (140, 86, 75)),
    ("#b0b0b0", (176, 176, 176)),
)
_WHITE, _BLACK = "#31688e", "#6b3fa0"
_WIDTH, _HEIGHT = 1200.0, 248.0
_FIRST = Frame(14, 30, 240, 170)
_COUNTS = Frame(322, 30, 250, 170)
_NOISE = Frame(618, 30, 240, 170)
_NOISE_BANDS = Frame(924, 30, 250, 170)
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #f6f6f4; margin: 2rem auto;
  max-width: 1260px; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 0; }
section { background: #fff; border: 1px solid #ddd; border-radius: 8px; padding: 1rem 1.2rem;
  margin: 1rem 0; overflow-x: auto; }
.how { color: #666; margin: .15rem 0 .4rem; }
.verdict { display: inline-block; border-radius: 4px; padding: 0 .5em; font-size: .85rem;
  color: #fff; vertical-align: 2px; margin-left: .6em; }
.fits, .sound { background: #2a7d46; } .warned { background: #b06f00; }
.refused { background: #b3261e; }
.why { margin: .2rem 0 .6rem 1.1rem; padding: 0; }
.key { margin-right: 1.2em; white-space: nowrap; }
"""


def draw_page(listing: Listing) -> str:
    """Draw a folder of references.

    Parameters
    ----------
    listing : Listing

    Returns
    -------
    str
        A page of HTML.
    """
    name = escape(str(listing.folder))
    body = [f"<h1>References in {name}</h1>"]
    for kind, said in listing.choice.items():
        found = "takes" if listing.chosen[kind] else "finds none"
        body.append(f"<p><b>{kind}</b>: this rig {found}: {escape('; '.join(said))}</p>")
    body += [_card(item) for item in listing.items]
    body += [_bad_pixels(path) for path in _maps(listing.folder)]
    if len(body) == 1:
        body.append("<p>There is none.</p>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>References in {name}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _card(item: Listed) -> str:
    head = (
        f"<h2>{escape(item.path.name)}"
        f'<span class="verdict {item.verdict}">{item.verdict}</span></h2>'
    )
    how, svg = "", ""
    if item.judged is not None:
        how = f'<p class="how">{escape(" · ".join(described(item.judged, item.age_h)))}</p>'
        svg = draw_reference(item.judged.reference, item.judged.own_black)
    why = "".join(f"<li>{escape(one.text)}</li>" for one in item.why_not)
    return f"<section>{head}{how}{f'<ul class=why>{why}</ul>' if why else ''}{svg}</section>"


def draw_reference(reference: Reference, own_black: Reference | None) -> str:
    """Draw a reference: its counts and its noise, as pictures and by band.

    Parameters
    ----------
    reference : Reference
    own_black : Reference or None
        Of a white.

    Returns
    -------
    str
        An SVG of 1200 × 248 px.
    """
    white = reference.kind == "white"
    colour = _WHITE if white else _BLACK
    x, x_label = _bands(reference)
    curves = [_by_band(reference.mean, colour, reference.kind)]
    level = reference.conditions.saturation
    if white and own_black is not None:
        curves.append(_by_band(own_black.mean, _BLACK, "its black"))
    if white and level:
        curves.append(
            Curve(np.full(x.size, level), colour="#b3261e", label="saturation", dashed=True)
        )
    parts = [
        picture(_FIRST, reference.mean, title="counts", unit="DN"),
        plot(_COUNTS, x, curves, title="DN", x_label=x_label, floor=white),
    ]
    if reference.std is not None:
        noise = [_by_band(reference.std, colour, reference.kind)]
        if white and own_black is not None and own_black.std is not None:
            noise.append(_by_band(own_black.std, _BLACK, "its black"))
        parts += [
            picture(_NOISE, reference.std, title="noise of a line", unit="DN"),
            plot(_NOISE_BANDS, x, noise, title="noise, DN", x_label=x_label, floor=True),
        ]
    else:
        parts.append(
            label(_NOISE.x, _NOISE.y + 20, "its noise is not known: there is no _std file")
        )
    name = reference.path.name if reference.path else reference.kind
    return drawing(_WIDTH, _HEIGHT, "".join(parts), f"counts and noise of {name}")


def _by_band(values: NDArray[Any], colour: str, name: str) -> Curve:
    """Give median and 5th to 95th percentile over the samples of each band."""
    low, middle, high = np.nanpercentile(values, [5, 50, 95], axis=1)
    return Curve(middle, low, high, colour, name)


def _bands(reference: Reference) -> tuple[NDArray[np.float64], str]:
    """Give what the bands are plotted over: wavelengths where the header has them."""
    count = reference.mean.shape[0]
    if reference.path is not None:
        nm = read_header(reference.path).wavelength_nm
        if nm is not None and nm.size == count:
            return nm, "nm"
    return np.arange(1.0, count + 1.0), "band"


def _maps(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.casefold() == ".hdr" and path.stem.casefold().startswith(BAD_PIXELS)
    )


def _bad_pixels(path: Path) -> str:
    """Draw a map of bad pixels, as a picture of rows × columns or a line of (samples, bands)."""
    head = f"<h2>{escape(path.name)}</h2>"
    try:
        file = open_envi(path)
    except ContainerError as error:
        return f"<section>{head}<p>{escape(str(error))}</p></section>"
    lines, _, bands = file.raw.shape
    cube = np.asarray(file.raw)
    kinds = cube[0].T if lines == 1 and bands > 1 else cube[:, :, 0]
    names = file.header.strings("class names") or []
    if not names:  # values that nobody explains, of bad elements by camera model or the like
        kinds = (kinds != 0).astype(np.uint8)
    rgb = np.full((*kinds.shape, 3), 255, np.uint8)
    keys = []
    found = [int(v) for v in np.unique(kinds[np.isfinite(kinds)]) if v != 0]
    for value in found:
        hexed, colour = _CLASSES[min(max(value, 1), len(_CLASSES)) - 1]
        rgb[kinds == value] = colour
        name = names[value] if 0 < value < len(names) else "bad"
        count = int(np.count_nonzero(kinds == value))
        keys.append(f'<span class="key" style="color:{hexed}">■ {escape(name)}: {count:,}</span>')
    total = int(np.count_nonzero(kinds))
    how = f"{total:,} of {kinds.size:,} pixels ({100 * total / kinds.size:.2g} %)"
    width = min(1160.0, max(400.0, 2.0 * kinds.shape[1]))
    height = min(600.0, max(120.0, width * kinds.shape[0] / kinds.shape[1]))
    frame = Frame(1, 1, width, height)
    edge = f'<rect x="1" y="1" width="{width:g}" height="{height:g}" fill="none" stroke="#777"/>'
    # A bad pixel stays visible however small it becomes: each is drawn over its neighbours.
    svg = drawing(width + 2, height + 2, embed(frame, _thinned(rgb)) + edge, f"map {path.name}")
    return f'<section>{head}<p class="how">{how}</p><p>{"".join(keys)}</p>{svg}</section>'


def _thinned(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a picture to at most 1200 columns and rows so that what is not white stays."""
    for axis in (0, 1):
        step = -(-rgb.shape[axis] // 1200)
        if step > 1:
            starts = np.arange(0, rgb.shape[axis], step)
            rgb = np.minimum.reduceat(rgb, starts, axis=axis)
    return rgb
