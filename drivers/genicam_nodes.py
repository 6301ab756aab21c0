"""Features of a GenICam camera by their SFNC names: look up, check, set, read back, list.

Vendors of older cameras spell some features differently; a small table leads from the SFNC name to
theirs. Wraps a node map of the genicam package and turns what that raises into sentences. Knows
nothing of producers, buffers or the rig file's structure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from genicam import gentl
from genicam.genapi import AccessException, GenericException

from drivers.camera import Asked
from pipeline.errors import CameraError, CameraLostError, ConfigError

#: What access to a node raises: GenApi's own errors, and those of the producer's port behind it,
#: which are no GenApi errors.
NODE_ERRORS: Final = (GenericException, gentl.GenericException)
#: Of these the ones with which a device refuses; any other error of the port means that it is gone.
_REFUSALS: Final = (
    gentl.AccessDeniedException,
    gentl.InvalidAddressException,
    gentl.InvalidParameterException,
    gentl.InvalidValueException,
    gentl.NotImplementedException,
    gentl.ResourceInUseException,
)

#: SFNC name → names that stand for the same on cameras before SFNC 2 or of single vendors.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "ExposureTime": ("ExposureTimeAbs",),
    "AcquisitionFrameRate": (
        "AcquisitionFrameRateAbs",
        "AcquisitionLineRate",
        "AcquisitionLineRateAbs",
    ),
    "AcquisitionFrameRateEnable": ("AcquisitionFrameRateEnabled",),
    "ChunkExposureTime": ("ChunkExposureTimeAbs",),
    "Gain": ("GainAbs", "GainRaw"),
    "DeviceTemperature": ("SensorTemperature", "DeviceTemperatureAbs", "TemperatureAbs"),
    "DeviceSerialNumber": ("DeviceID",),
    "DeviceFirmwareVersion": ("DeviceVersion",),
    "SensorWidth": ("SensorWidthMax",),
    "SensorHeight": ("SensorHeightMax",),
}
#: Kinds of nodes that have a value a file can hold.
_VALUES: Final = ("IInteger", "IFloat", "IBoolean", "IEnumeration", "IString")
#: Features to ask a camera for when it may be gone, the first that it has.
_ASKED: Final = ("DeviceTemperature", "Width", "PayloadSize")
#: genapi.EAccessMode: write only, read only, read and write.
_WRITE_ONLY, _READ_ONLY, _READ_WRITE = 2, 3, 4


class Nodes:
    """The features of one camera.

    Parameters
    ----------
    node_map : genicam.genapi.NodeMap
        Of the remote device.
    """

    def __init__(self, node_map: Any) -> None:
        self._map = node_map
        self._differ: dict[str, tuple[str, str]] = {}

    @property
    def differ(self) -> dict[str, str]:
        """Feature, or the key that asked for it → what was asked for, and what was taken."""
        return dict(self._differ.values())

    def name_of(self, name: str) -> str | None:
        """Give the name that this camera has for an SFNC feature; None when it has none."""
        for one in (name, *ALIASES.get(name, ())):
            if self._map.has_node(one) and self._access(one) > 1:
                return one
        return None

    def writable(self, name: str) -> bool:
        """Tell whether the feature is there and can be set now."""
        own = self.name_of(name)
        return own is not None and self._access(own) in (_WRITE_ONLY, _READ_WRITE)

    def chunk(self, name: str) -> Any:
        """Give the node of a chunk's value, readable or not yet; None when there is none."""
        for one in (name, *ALIASES.get(name, ())):
            if self._map.has_node(one):
                return self._node(one)
        return None

    def get(self, name: str) -> Any:
        """Read a feature; None when it is missing, not readable, or the camera does not answer."""
        own = self.name_of(name)
        if own is None or self._access(own) not in (_READ_ONLY, _READ_WRITE):
            return None
        try:
            return _plain(self._node(own).value)
        except (*NODE_ERRORS, AttributeError):
            return None

    def number(self, name: str) -> float | None:
        """Read a feature that is a number; None when it is missing or something else."""
        value = self.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number and math.isfinite(value) else None

    def text(self, name: str) -> str:
        """Read a feature as text; empty when it is missing."""
        value = self.get(name)
        return "" if value is None else str(value)

    def alive(self) -> bool:
        """Tell whether the camera still answers when asked for a feature that it has."""
        for name in _ASKED:
            own = self.name_of(name)
            if own is None or self._access(own) not in (_READ_ONLY, _READ_WRITE):
                continue
            try:
                node = self._node(own)
                # What GenApi keeps from before would be an answer, too, but not the camera's.
                node.node.invalidate_node()
                _ = node.value
            except (*NODE_ERRORS, AttributeError) as error:
                return isinstance(error, (AccessException, AttributeError, *_REFUSALS))
            return True
        # Nothing of it can be asked any more: a camera that is there has at least a width.
        return not self._map.has_node("Width")

    def largest(self, name: str) -> int | None:
        """Give the largest value that an integer feature takes now."""
        own = self.name_of(name)
        try:
            return None if own is None else int(self._node(own).max)
        except (*NODE_ERRORS, AttributeError):
            return None

    def choices(self, name: str) -> list[str]:
        """Give the values of an enumeration that can be chosen now."""
        own = self.name_of(name)
        if own is None:
            return []
        found = []
        try:
            node = self._node(own)
            symbols = list(getattr(node, "symbolics", ()))
        except NODE_ERRORS:
            return []
        for symbol in symbols:
            try:
                entry = node.get_entry_by_name(symbol)
                if entry is None or entry.node.get_access_mode() > 1:
                    found.append(str(symbol))
            except (*NODE_ERRORS, AttributeError):
                found.append(str(symbol))
        return found

    def set(self, name: str, value: Any, where: str, asked: Asked | None = None) -> Any:
        """Set a feature and read back what the camera took.

        Numbers off the camera's raster go to the nearest step; what was taken instead of what was
        asked for is noted in :attr:`differ`.

        Parameters
        ----------
        name : str
            SFNC name.
        value : int, float, bool or str
            ``True`` executes a command.
        where : str
            What asks for it, for messages: ``[camera] exposure_ms``.
        asked : Asked, optional
            The key and unit in which a difference is told; by default the feature's own name.

        Raises
        ------
        ConfigError
            When the camera has no such feature, does not let it be set, or not to this value.
        CameraError
            When the camera refuses it.
        CameraLostError
            When it does not answer any more.
        """
        own = self.name_of(name)
        if own is None:
            self._require_answer(where)
            raise ConfigError(f"{where}: this camera has no feature {name}")
        if self._access(own) not in (_WRITE_ONLY, _READ_WRITE):
            found = self.get(name)
            if found is not None and _same(value, found):
                return found
            self._require_answer(where)
            raise ConfigError(
                f"{where}: {own} cannot be set now (it is {found!r}), asked for {value!r}"
            )
        try:
            node = self._node(own)
            kind = type(node).__name__
            if kind == "ICommand":
                _checked(value, where, own, "true: it is a command", lambda v: v is True)
                node.execute()
                return value
            node.value = self._fitting(node, kind, own, value, where)
            taken = _plain(node.value) if self._access(own) == _READ_WRITE else value
        except NODE_ERRORS as error:
            text = f"{where}: {own} = {value!r}"
            if is_loss(error):
                raise CameraLostError(f"{text}: {first_sentence(error)}") from error
            raise CameraError(f"{text}: the camera refuses: {first_sentence(error)}") from error
        if not _same(value, taken):
            asked = asked or Asked(own)
            self._differ[own] = asked.key, asked.differs(value, taken)
        else:
            self._differ.pop(own, None)
        return taken

    def readable(self) -> dict[str, Any]:
        """Read every feature that can be read now: name → int, float, bool or str."""
        found: dict[str, Any] = {}
        for node in self._map.nodes:
            if type(node).__name__ not in _VALUES:
                continue
            try:
                base = node.node
                if not base.is_feature() or base.get_access_mode() not in (
                    _READ_ONLY,
                    _READ_WRITE,
                ):
                    continue
                found[str(base.name)] = _plain(node.value)
            except (*NODE_ERRORS, AttributeError, UnicodeDecodeError):
                continue
        return dict(sorted(found.items()))

    def listed(self) -> list[str]:
        """Name every feature that has a value and can be read or set now, in order."""
        found = []
        for node in self._map.nodes:
            if type(node).__name__ not in _VALUES:
                continue
            try:
                base = node.node
                if base.is_feature() and base.get_access_mode() > 1:
                    found.append(str(base.name))
            except (*NODE_ERRORS, AttributeError, UnicodeDecodeError):
                continue
        return sorted(found)

    def _require_answer(self, where: str) -> None:
        """Raise when a feature is missing only because the camera is."""
        if not self.alive():
            raise CameraLostError(f"{where}: the camera does not answer any more")

    def _node(self, own: str) -> Any:
        return getattr(self._map, own)

    def _access(self, own: str) -> int:
        try:
            return int(self._node(own).node.get_access_mode())
        except (*NODE_ERRORS, AttributeError):
            return 0

    def _fitting(self, node: Any, kind: str, own: str, value: Any, where: str) -> Any:
        """Check a value against the node's kind and limits, and round it to its raster."""
        if kind == "IBoolean":
            return _checked(value, where, own, "true or false", lambda v: isinstance(v, bool))
        if kind == "IString":
            return _checked(value, where, own, "a text", lambda v: isinstance(v, str))
        if kind == "IEnumeration":
            allowed = self.choices(own)
            return _checked(value, where, own, ", ".join(allowed), lambda v: v in allowed)
        if kind not in ("IInteger", "IFloat"):
            raise ConfigError(f"{where}: {own} is not a feature that has a value")
        low, high = node.min, node.max
        _checked(
            value,
            where,
            own,
            f"a number from {low:g} to {high:g}",
            lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high,
        )
        if kind == "IFloat":
            return float(value)
        step = max(1, int(getattr(node, "inc", 1) or 1))
        low = int(low)
        return min(low + round((value - low) / step) * step, low + (int(high) - low) // step * step)


def is_loss(error: BaseException) -> bool:
    """Tell whether an error of node access says that the camera is gone, not that it refuses."""
    return isinstance(error, gentl.GenericException) and not isinstance(error, _REFUSALS)


def first_sentence(error: BaseException) -> str:
    """Shorten what GenApi and GenTL say to what a user can read."""
    text = " ".join(str(error).split()).removeprefix("GenTL exception: ")
    for mark in (" : ", " (Message from the source:", " (file '"):
        text = text.split(mark, 1)[0]
    return text.rstrip(". ") or type(error).__name__


def _checked(value: Any, where: str, own: str, allowed: str, good: Callable[[Any], bool]) -> Any:
    if not good(value):
        raise ConfigError(f"{where}: found {value!r}, {own} of this camera allows {allowed}")
    return value


def _plain(value: Any) -> Any:
    """Turn what a node gives into what JSON and msgpack can hold."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def _same(asked: Any, taken: Any) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (asked, taken))
    if numbers:
        return math.isclose(asked, taken, rel_tol=1e-6, abs_tol=1e-9)
    return bool(asked == taken)
