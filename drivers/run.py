"""The driver as it is started: camera, link and publisher, from the rig file to the exit status.

Knows cameras, the publisher and the link; the command line is its only caller.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from drivers.cameras import make_camera
from drivers.process import ProcessWatch
from drivers.publisher import Publisher
from pipeline.config import CurveConfig, Rig
from pipeline.stream.driver_link import DriverLink


def run_driver(
    rig: Rig,
    endpoint: str,
    *,
    base: Path,
    parent_pid: int | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Drive the rig's camera until a ``quit`` command, a signal or the end of the parent.

    Parameters
    ----------
    rig : Rig
        The rig file.
    endpoint : str
        Where the link binds, ``ipc://…`` or ``tcp://…``.
    base : Path
        Folder that key files named by relative paths are looked up in.
    parent_pid : int, optional
        The process that started this one for a capture: the driver ignores SIGINT, ends with
        that process, and ends when the engine falls silent for ``[stream] timeout_s``.
    on_ready : callable, optional
        Called with the endpoint really bound, once commands can come.

    Returns
    -------
    int
        Exit status: 0 when asked to end, 1 when the parent or engine went away.

    Raises
    ------
    SwathError
        When the camera's package or the endpoint cannot be had.
    """
    watch = ProcessWatch(parent_pid)
    with watch.signals():
        camera = make_camera(rig)
        link = DriverLink(
            endpoint,
            curve=_located(rig.stream.curve, base),
            insecure=rig.stream.insecure,
            driver=rig.camera.driver,
        )
        if on_ready is not None:
            on_ready(link.endpoint)
        try:
            return Publisher(camera, rig, link, watch=watch).run()
        finally:
            if parent_pid is not None and os.getppid() != parent_pid:
                _clear_away(link.endpoint)


def _clear_away(endpoint: str) -> None:
    """Remove the private folder of an endpoint, which a parent that was killed left behind."""
    path = Path(endpoint.removeprefix("ipc://"))
    if endpoint.startswith("ipc://") and path.parent.name.startswith("swath-"):
        with contextlib.suppress(OSError):  # not empty: then it is not ours alone
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def _located(curve: CurveConfig | None, base: Path) -> CurveConfig | None:
    """Make the paths of key files absolute."""
    if curve is None:
        return None
    return msgspec.structs.replace(
        curve,
        key=str(base / curve.key),
        server=None if curve.server is None else str(base / curve.server),
        clients=[str(base / client) for client in curve.clients],
    )
