"""The cameras there are: the one place that knows all of them.

A new camera is one file with a class like :class:`~drivers.camera.Camera`, and one branch here.
"""

from __future__ import annotations

from drivers.camera import Camera
from pipeline.config import Rig
from pipeline.errors import ConfigError


def make_camera(rig: Rig) -> Camera:
    """Make the camera that ``[camera] driver`` names; its module is imported only now.

    Raises
    ------
    ConfigError
        When a package that this camera needs is not installed.
    """
    name = rig.camera.driver
    try:
        if name == "simulated":
            from drivers.simulated import SimulatedCamera

            return SimulatedCamera(rig)
        if name == "replay":
            from drivers.replay import ReplayCamera

            return ReplayCamera(rig)
        from drivers.genicam import GenicamCamera

        return GenicamCamera(rig)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"[camera] driver = {name!r}: the package {error.name} is not installed here; "
            f"pip install {error.name}"
        ) from error
