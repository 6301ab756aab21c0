"""Bad pixels when a capture is armed: found in its references, loaded, or those of a replayed file.

``[pipeline] bad_pixels`` says which; the result is what the camera's lines show of them. Knows
references, maps and the session.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.arming import Warn
from pipeline.bad_pixel_map import describe, load_map
from pipeline.bad_pixels import Findings, Kind, Statistics, find, is_bad
from pipeline.config import Rig
from pipeline.errors import CameraError, ConfigError
from pipeline.events import Arming, EventBus
from pipeline.references import Reference, ReferenceSet
from pipeline.session import Session
from pipeline.stream.messages import CameraInfo

#: What ``[pipeline] bad_pixels`` says to look for them in the references of the capture.
FIND = "find"
#: A camera with more of them than this part is not believed: the reference is at fault.
MOST = 0.1


def arm_bad_pixels(
    rig: Rig,
    info: CameraInfo,
    references: ReferenceSet,
    session: Session,
    base: Path,
    bus: EventBus,
    warn: Warn,
) -> NDArray[np.uint8] | None:
    """Give the kinds of a line's pixels, (bands, samples), as the rig file says; None: not known.

    Raises
    ------
    ConfigError
        When the map does not fit, or there is no black to find them in.
    """
    where = rig.pipeline.bad_pixels
    if where is None:
        return _from_driver(info, session) if "bad_pixels" in info.references else None
    if where != FIND:
        path = base / Path(where).expanduser()
        kinds, said = load_map(path, info, rig.camera.flip)
        bus.emit(Arming(text=said))
        warn_of_many(is_bad(kinds), warn, f"look at the map {path} first")
        return kinds
    found = find_in(references, info.saturation_level, rig.references.dark_columns)
    bus.emit(Arming(text=describe(found.kinds)))
    warn_of_many(found.bad, warn)
    return found.kinds


def find_in(
    references: ReferenceSet, saturation_level: int, dark_columns: tuple[int, int] | None
) -> Findings:
    """Find the bad pixels that a set of references shows, with ``[references] dark_columns``.

    Raises
    ------
    ConfigError
        When there is no black.
    """
    if references.black is None:
        raise ConfigError(
            f'[pipeline] bad_pixels = "{FIND}": needs a black reference, there is none; name it '
            "under [references]"
        )
    white, own = references.white, references.white_black
    return find(
        _statistics(references.black),
        None if white is None else _statistics(white),
        None if own is None else _statistics(own),
        saturation_level=saturation_level,
        unlit=None if dark_columns is None else slice(dark_columns[0] - 1, dark_columns[1]),
    )


def warn_of_many(
    bad: NDArray[np.bool_],
    warn: Warn,
    advice: str = "look at the references first (lamp, panel, shutter, exposure)",
) -> None:
    """Warn when so many pixels are bad that what they were found in must be at fault."""
    share = float(bad.mean())
    if share > MOST:
        warn(f"bad pixels: {100 * share:.0f} % of all, more than any camera has: {advice}")


def _statistics(reference: Reference) -> Statistics:
    known = "lines averaged" in reference.fields
    return Statistics(reference.mean, reference.std, reference.lines if known else 0)


def _from_driver(info: CameraInfo, session: Session) -> NDArray[np.uint8]:
    _, array = session.command("reference", name="bad_pixels")
    if array is None or array.shape != (info.bands, info.samples):
        raise CameraError("bad pixels: the driver's answer does not fit its lines")
    kinds: NDArray[np.uint8] = np.clip(array, 0, max(Kind)).astype(np.uint8)
    return kinds
