"""What vendors write into the comment lines of a header only: serial number, binning, region.

Headwall's recorders put the sensor's serial number, its binning and the area that was read out
into lines that begin with ``;``, which ENVI takes for comments. :func:`comment_fields` gives them
under D4.1's names, so that a reference and a scan are compared by them. Knows the names of fields
only; nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from pipeline.container.fields import parse_float, parse_int

_LINE: Final = re.compile(r"\s*;?\s*(?P<name>[^=:;]{1,60}?)\s*[=:]\s*(?P<value>[^=]{1,80}?)\s*\Z")
#: Rows of the area sensor run along the spectrum, columns along the slit.
_SPECTRAL: Final = ("row binning", "spectral binning")
_SPATIAL: Final = ("col binning", "spatial binning")


def comment_fields(comments: Iterable[str], bands: int, samples: int) -> dict[str, Any]:
    """Give what the comment lines say that makes a reference comparable.

    Parameters
    ----------
    comments : iterable of str
        As ``Header.comments`` has them.
    bands, samples : int
        Of the cube: a region that does not give them is not believed.

    Returns
    -------
    dict
        Of ``serial number``, ``binning``, ``hroi``, ``vroi``, ``exposure`` (ms), ``gain``: those
        that are there. Regions are D4.1's: first and last binned pixel, from 1, both included.

    Notes
    -----
    Headwall's ``AOI`` is what the sensor reads out, counted from 0 in its own pixels; ``POST AOI``
    is cut out of that and ``POST … binning`` applied behind it. That the first band of the real
    files lies at ``Pixel0 + (AOI top + POST AOI top) · AverageDispersion`` shows how they add up.
    """
    said: dict[str, str] = {}
    for line in comments:
        found = _LINE.match(line)
        if found is not None:
            said[" ".join(found["name"].split()).casefold()] = found["value"]
    fields: dict[str, Any] = {}
    if said.get("serial number"):
        fields["serial number"] = said["serial number"]
    for name, key in (("exposure", "exposure (ms)"), ("gain", "analog gain")):
        number = parse_float(said.get(key, ""))
        if number is not None:
            fields[name] = number
    spectral, spatial = _factor(said, _SPECTRAL), _factor(said, _SPATIAL)
    if spectral is None and spatial is None:
        return fields
    binning = (spectral or (1, 1), spatial or (1, 1))
    fields["binning"] = [own * post for own, post in binning]
    places = (
        ("vroi", "top", "height", binning[0], bands),
        ("hroi", "left", "width", binning[1], samples),
    )
    for name, edge, size, factors, count in places:
        region = _region(said, edge, size, factors, count)
        if region is not None:
            fields[name] = region
    return fields


def _factor(said: dict[str, str], names: tuple[str, str]) -> tuple[int, int] | None:
    """Give the binning of the sensor and the one behind it; None where neither is told."""
    own = next((parse_int(said[name]) for name in names if name in said), None)
    post = parse_int(said.get(f"post {names[0]}", ""))
    if own is None and post is None:
        return None
    return max(own or 1, 1), max(post or 1, 1)


def _region(
    said: dict[str, str], edge: str, size: str, factors: tuple[int, int], count: int
) -> list[int] | None:
    """Give first and last binned pixel, where what is told gives ``count`` of them."""
    first, width = parse_int(said.get(f"aoi {edge}", "")), parse_int(said.get(f"aoi {size}", ""))
    if first is None or width is None or first < 0:
        return None
    own, post = factors
    inner = parse_int(said.get(f"post aoi {edge}", "")) or 0
    width = parse_int(said.get(f"post aoi {size}", "")) or width
    total = own * post
    start = first + inner * own
    # Whether sizes count pixels before or behind the binning differs from version to version.
    if start % total or count not in (width, width // post, width // total):
        return None
    return [start // total + 1, start // total + count]
