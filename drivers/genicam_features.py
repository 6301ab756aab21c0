"""All features of a camera with their ranges, as ``swath cameras --features`` shows them.

Opens one camera, reads, and gives it back; sets nothing. Knows devices and features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drivers.genicam_devices import Devices
from drivers.genicam_nodes import NODE_ERRORS, Nodes
from drivers.genicam_producers import producer_files
from pipeline.config import CameraConfig
from pipeline.errors import ConfigError


def features_of(
    producers: str | Sequence[str] | None, camera: str, warnings: list[str] | None = None
) -> dict[str, Any]:
    """Describe a camera and every feature of it that can be read or set.

    Parameters
    ----------
    producers : str, sequence of str or None
        Producer files; None: all on ``GENICAM_GENTL64_PATH``.
    camera : str
        Its serial number, user id or index.
    warnings : list of str, optional
        Is appended to: producers on the search path that cannot be loaded.

    Returns
    -------
    dict
        What :func:`~drivers.genicam_devices.list_cameras` says of it, and ``features``: name →
        ``value``, ``writable``, and where it has them ``min``, ``max``, ``step``, ``unit`` and
        ``choices``.

    Raises
    ------
    ConfigError
        When there is no such camera; lists those that are there.
    CameraError
        When it is in use or does not answer.
    """
    devices = Devices(producer_files(producers, warnings))
    try:
        index = _index(devices, camera)
        listed = devices.listed()[index]
        node_map = devices.open(index, 1).remote_device.node_map
        nodes = Nodes(node_map)
        features = {name: _described(node_map, nodes, name) for name in nodes.listed()}
        return listed | {"features": features}
    finally:
        devices.close()


def _index(devices: Devices, camera: str) -> int:
    for one in devices.listed():
        if camera in (one["serial"], one["user_id"]):
            return int(one["index"])
    config = {"index": int(camera)} if camera.isdecimal() else {"serial": camera}
    try:
        return devices.choose(CameraConfig(driver="genicam", **config))[0]
    except ConfigError as error:
        raise ConfigError(str(error).replace("[camera] ", "--features: ", 1)) from None


def _described(node_map: Any, nodes: Nodes, name: str) -> dict[str, Any]:
    node = getattr(node_map, name)
    told: dict[str, Any] = {"value": nodes.get(name), "writable": nodes.writable(name)}
    choices = nodes.choices(name)
    if choices:
        told["choices"] = choices
    if type(node).__name__ in ("IInteger", "IFloat") and told["writable"]:
        for key, attribute in (("min", "min"), ("max", "max"), ("step", "inc")):
            try:
                value = getattr(node, attribute)
            except (*NODE_ERRORS, AttributeError):
                continue
            if isinstance(value, int | float) and not (key == "step" and value in (0, 1)):
                told[key] = value
    try:
        if node.unit:
            told["unit"] = str(node.unit)
    except (*NODE_ERRORS, AttributeError):
        pass
    return told
