"""Takes one reference with the rig's camera and keeps it as an ENVI file: ``swath reference``.

The file lies where ``[references]`` of the rig file will find it, with all that makes it comparable
with a scan. Knows arming, session and references; the scan itself is :mod:`pipeline.capture`'s.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Literal

from pipeline.arming import settle_axis
from pipeline.config import Rig
from pipeline.errors import CameraError, ConfigError, StorageError
from pipeline.events import Arming, EventBus, Warned
from pipeline.reference_arming import take
from pipeline.rigfile import rig_base
from pipeline.session import Session

#: Where references go that the rig file has no place for, in the current folder.
FOLDER = "references"


def take_reference(
    rig: Rig,
    kind: Literal["white", "black"],
    *,
    rig_path: Path,
    overrides: tuple[str, ...] = (),
    lines: int | None = None,
    bus: EventBus | None = None,
    stop: Flag | None = None,
) -> Path:
    """Take a white or a black, and write it.

    Parameters
    ----------
    rig : Rig
        The rig file, loaded.
    kind : {"white", "black"}
    rig_path : Path
        Its file.
    overrides : tuple of str
        ``KEY=VALUE`` that were applied to ``rig``; the driver applies them, too.
    lines : int, optional
        Lines to average; ``[references] lines`` where left out.
    bus : EventBus, optional
        Receives what happens.
    stop : threading.Event, optional
        When set, the reference is given up.

    Returns
    -------
    Path
        The header; the data (float32, one line) and the standard deviation lie beside it, and for
        a white its own dark (``_black``) where the camera has a shutter.

    Raises
    ------
    ConfigError
        When the file that ``[references]`` names exists: no reference is overwritten.
    SwathError
        When the camera or the disk fails.
    """
    bus = bus or EventBus()
    stop = stop or Flag()
    target = _target(rig, kind)
    session = Session(
        rig, rig_path=rig_path, overrides=overrides, endpoint=None, bus=bus, stop=stop
    )
    try:
        bus.emit(Arming(text="camera"))
        session.open()
        info = session.arm()
        warnings = [*info.warnings, *(f"{k}: {v}" for k, v in info.settings_differ.items())]
        if kind == "black" and not info.has_shutter:
            warnings.append("this camera has no shutter: the lens has to be covered now")
        if kind == "white" and not info.has_panel:
            warnings.append("this rig moves no panel: it has to lie under the camera now")
        for text in warnings:
            bus.emit(Warned(text=text))
        axis = settle_axis(rig, info, rig_base(rig_path), lambda text: bus.emit(Warned(text=text)))
        count = lines or rig.references.lines
        entries = take(session, info, kind, count, bus).entries(axis)
        if kind == "white" and info.has_shutter:
            # the white's own dark: same exposure, same minute
            dark = take(session, info, "black", count, bus)
            entries.update(replace(dark, kind="white_black").entries(axis))
    finally:
        session.close()
    if stop.is_set():
        raise CameraError(f"{kind} reference: interrupted, nothing was written")
    return _write(target, kind, entries)


def _target(rig: Rig, kind: str) -> Path:
    """Give the header's path; its folder exists."""
    where = getattr(rig.references, kind)
    place = Path(FOLDER).absolute() if where in (None, "take") else Path(where)
    if place.suffix and not place.is_dir():
        target = place.with_suffix(".hdr")
    else:
        target = place / f"{kind}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}.hdr"
    for path in (target, target.with_suffix(".envi")):
        if path.exists():
            raise ConfigError(
                f"[references] {kind} = {str(path)!r}: exists, references are never overwritten; "
                "remove it, or name a folder to keep several"
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"[references] {kind}: {target.parent} cannot be made: {error.strerror}"
        ) from None
    return target


def _write(target: Path, kind: str, entries: dict[str, bytes]) -> Path:
    """Write data before headers, so that a header never stands without its data."""
    try:
        for name in sorted(entries, key=lambda name: name.endswith(".hdr")):
            suffix = Path(name).name.removeprefix(kind)
            with (target.parent / f"{target.stem}{suffix}").open("xb") as file:
                file.write(entries[name])
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{target.parent}: cannot be written: {error.strerror}") from error
    return target
