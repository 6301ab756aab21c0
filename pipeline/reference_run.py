"""Takes one reference with the rig's camera and keeps it as an ENVI file: ``swath reference``.

The file lies where ``[references]`` of the rig file will find it, with all that makes it comparable
with a scan. Knows arming, session and references; the scan itself is :mod:`pipeline.capture`'s.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag
from typing import Literal

from pipeline.arming import Warn, settle_axis
from pipeline.config import Rig
from pipeline.container.envi import DATA_ENDINGS
from pipeline.errors import CameraError, ConfigError
from pipeline.events import Arming, EventBus, Warned
from pipeline.new_files import WRITTEN, header_path, write_new
from pipeline.reference_arming import take, take_unseen
from pipeline.reference_conditions import Conditions, camera_conditions
from pipeline.reference_panel import panel_reflectance
from pipeline.reference_taking import refuse_faulty
from pipeline.rigfile import rig_base
from pipeline.session import Session
from pipeline.spectral import SpectralAxis
from pipeline.stream.messages import CameraInfo

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
    ask: Callable[[str], bool] | None = None,
) -> Path:
    """Take a white or a black, look whether it is one, and write it.

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
    ask : callable, optional
        Asks whoever stands at the rig to do what the rig cannot (cover the lens, lay the panel
        under it) and says whether that was done. Without it, it is taken as done and told.

    Returns
    -------
    Path
        The header; the data (float32, one line) and the standard deviation lie beside it, and for
        a white its own dark (``_black``) where the camera has a shutter or somebody covers it.

    Raises
    ------
    ConfigError
        When the file that ``[references]`` names exists: no reference is overwritten.
    ReferenceMismatchError
        A saturated or too dim white, a black that is not dark; nothing is written.
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

        def warn(text: str) -> None:
            bus.emit(Warned(text=text))

        for text in (*info.warnings, *(f"{k}: {v}" for k, v in info.settings_differ.items())):
            warn(text)
        axis = settle_axis(rig, info, rig_base(rig_path), warn)
        tolerant = warn if rig.references.on_mismatch == "warn" else None
        hands = _Hands(ask, bus)
        count = lines or rig.references.lines
        if kind == "black":
            if not info.has_shutter:
                hands.need("this camera has no shutter", "cover the lens")
            black = take(session, info, "black", count, bus, flip=rig.camera.flip, warn=tolerant)
            entries = black.entries(axis)
        else:
            entries = _white(
                session, rig, info, count, bus, hands, rig_base(rig_path), axis, tolerant
            )
    finally:
        session.close()
    if stop.is_set():
        raise CameraError(f"{kind} reference: interrupted, nothing was written")
    return _write(target, kind, entries)


def conditions_of(
    rig: Rig, *, rig_path: Path, overrides: tuple[str, ...] = (), bus: EventBus
) -> Conditions:
    """Arm the camera of a rig file and say under which conditions it would scan now.

    Raises
    ------
    SwathError
        When the camera fails.
    """
    session = Session(
        rig, rig_path=rig_path, overrides=overrides, endpoint=None, bus=bus, stop=Flag()
    )
    try:
        session.open()
        return camera_conditions(session.arm(), rig.camera.flip, rig.references.binning_mode)
    finally:
        session.close()


def _white(
    session: Session,
    rig: Rig,
    info: CameraInfo,
    lines: int,
    bus: EventBus,
    hands: _Hands,
    base: Path,
    axis: SpectralAxis,
    tolerant: Warn | None,
) -> dict[str, bytes]:
    """Take a white and, with the same settings a moment later, its own dark."""
    if not info.has_panel:
        hands.need("this rig moves no panel", "lay the panel under the camera")
    white, saturated = take_unseen(session, info, "white", lines, bus, flip=rig.camera.flip)
    dark = None
    if tolerant is None:  # before somebody covers the lens for nothing
        refuse_faulty(white, info.saturation_level, None, saturated)
    if info.has_shutter or hands.can(
        "this camera has no shutter", "cover the lens, for the dark that belongs to this white"
    ):
        dark = take(session, info, "black", lines, bus, flip=rig.camera.flip, warn=tolerant)
    else:
        bus.emit(
            Warned(
                text="this camera has no shutter: the white has no dark of its own; cover the lens "
                "and run swath reference black with the same exposure"
            )
        )
    refuse_faulty(white, info.saturation_level, dark, saturated, tolerant)
    panel, said = panel_reflectance(rig.references.panel, axis, base)
    for text in said:
        bus.emit(Warned(text=text))
    fields = {**white.fields, "white reflectance": panel}
    if rig.references.panel_name:
        fields["panel name"] = rig.references.panel_name
    entries = replace(white, fields=fields).entries(axis)
    if dark is not None:
        entries.update(replace(dark, kind="white_black").entries(axis))
    return entries


class _Hands:
    """What somebody at the rig has to do, asked where there is somebody, else told."""

    def __init__(self, ask: Callable[[str], bool] | None, bus: EventBus) -> None:
        self._ask = ask
        self._bus = bus

    def need(self, why: str, act: str) -> None:
        """Ask for something without which there is no reference.

        Raises
        ------
        ConfigError
            When it is not done.
        """
        if self._ask is None:
            self._bus.emit(Warned(text=f"{why}: it is taken that you did {act}"))
        elif not self._ask(f"{why}: {act}"):
            raise ConfigError(f"{why}: {act}, then take the reference; nothing was taken")

    def can(self, why: str, act: str) -> bool:
        """Ask for something that may be left out; not done where nobody can be asked."""
        return self._ask is not None and self._ask(f"{why}: {act}")


def _target(rig: Rig, kind: str) -> Path:
    """Give the header's path; its folder can be made."""
    where = getattr(rig.references, kind)
    place = Path(FOLDER).absolute() if where in (None, "take") else Path(where)
    ending = place.suffix.casefold()
    if ending in WRITTEN and not place.is_dir():
        target = header_path(place)
    elif ending in DATA_ENDINGS[1:] and not place.is_dir():
        raise ConfigError(
            f"[references] {kind} = {str(place)!r}: a reference is written as .hdr and .envi; "
            "allowed is a name with one of these endings, or a folder"
        )
    else:
        target = place / f"{kind}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}.hdr"
    # A dark that was left behind would be taken for that of the new white.
    parts = ("", "_std", "_black", "_black_std")
    for path in (target.with_name(target.stem + part + end) for part in parts for end in WRITTEN):
        if path.exists():
            raise ConfigError(
                f"[references] {kind} = {str(path)!r}: exists, references are never overwritten; "
                "remove it, or name a folder to keep several"
            )
    check_folder(target.parent, f"[references] {kind}: ")
    return target


def check_folder(folder: Path, where: str) -> None:
    """Refuse a folder that cannot be made, before the camera is used; it is not made yet.

    What is refused afterwards leaves nothing, not even a folder.

    Raises
    ------
    ConfigError
        Begins with ``where``.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        why = "" if nearest.is_dir() else f"{nearest} is no folder"
        if not why and not os.access(nearest, os.W_OK | os.X_OK):
            why = f"{nearest} cannot be written to"
    except OSError as error:
        why = str(error.strerror)
    if why:
        raise ConfigError(f"{where}{folder} cannot be made: {why}")


def _write(target: Path, kind: str, entries: dict[str, bytes]) -> Path:
    """Write all or nothing: data before headers, and last the header that all others belong to."""
    files = [
        (target.parent / f"{target.stem}{Path(name).name.removeprefix(kind)}", entries[name])
        for name in entries
    ]
    write_new(sorted(files, key=lambda one: (one[0].suffix == ".hdr", one[0] == target)))
    return target
