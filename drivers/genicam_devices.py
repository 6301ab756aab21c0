"""GenTL producers and the cameras behind them: find, name, open, give back.

All dealings with harvesters' device list are here, with its logging kept away from the user and
the signal handler that it replaces put back. Knows harvesters and the rig file's ``[camera]``.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from genicam.gentl import (
    ACQ_QUEUE_TYPE_LIST,
    ACQ_STOP_FLAGS_LIST,
    AccessDeniedException,
    GenericException,
    ResourceInUseException,
)

from drivers.genicam_nodes import NODE_ERRORS, first_sentence
from drivers.genicam_producers import producer_files
from pipeline.config import CameraConfig
from pipeline.errors import CameraError, ConfigError

with warnings.catch_warnings():
    # harvesters changes the process's warning filters when it is imported.
    warnings.simplefilter("ignore")
    from harvesters.core import Harvester, ParameterKey, ParameterSet

#: Buffers that a producer did not give back, for as long as the process lives.
_STRANDED: Final[list[Any]] = []
#: GenTL DEVICE_ACCESS_STATUS of a camera that can be opened, or whose state is not known.
_ACCESSIBLE: Final = (0, 1)


class Devices:
    """The cameras that some producers see; gives everything back when closed.

    Parameters
    ----------
    files : sequence of str
        Paths of producers.

    Raises
    ------
    ConfigError
        When a file is not a GenTL producer.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = list(files)
        self._harvester = Harvester(config=ParameterSet({ParameterKey.LOGGER: _quiet_logger()}))
        # Its own clean-up at exit prints a traceback where a camera is gone.
        self._harvester._finalizer.detach()
        self._give_back = weakref.finalize(self, _give_back, self._harvester)
        try:
            for file in files:
                self._harvester.add_file(file, check_existence=True, check_validity=True)
            self._harvester.update()
        except (OSError, GenericException) as error:
            self.close()
            raise ConfigError(
                f"[camera] producer: {', '.join(files)}: cannot be loaded: {first_sentence(error)}"
            ) from error

    def listed(self) -> list[dict[str, Any]]:
        """Describe each camera by what ``[camera]`` can name it with."""
        found = []
        for index, device in enumerate(self._harvester.device_info_list):
            told = device.property_dict
            found.append(
                {
                    "index": index,
                    "vendor": str(told.get("vendor") or ""),
                    "model": str(told.get("model") or ""),
                    "serial": str(told.get("serial_number") or ""),
                    "user_id": str(told.get("user_defined_name") or ""),
                    "id": str(told.get("id_") or ""),
                    "transport": str(told.get("tl_type") or ""),
                    "version": str(told.get("version") or ""),
                    "accessible": told.get("access_status") in (*_ACCESSIBLE, None),
                }
            )
        return found

    def choose(self, camera: CameraConfig) -> tuple[int, list[str]]:
        """Find the one camera that the rig file names.

        Returns
        -------
        (int, list of str)
            Its index, and warnings.

        Raises
        ------
        ConfigError
            When none or several fit; the message lists what is there.
        """
        listed = self.listed()
        there = "; ".join(map(describe, listed)) or f"none (asked {', '.join(self.files)})"
        keys = {"serial": camera.serial, "user_id": camera.user_id, "model": camera.model}
        asked = {key: value for key, value in keys.items() if value is not None}
        fitting = [one for one in listed if all(one[k] == v for k, v in asked.items())]
        if camera.index is not None:
            asked["index"] = str(camera.index)
            fitting = [one for one in fitting if one["index"] == camera.index]
        named = ", ".join(f"{key} = {value!r}" for key, value in asked.items())
        if not fitting:
            raise ConfigError(f"[camera] {named or 'driver'}: no such camera, there are: {there}")
        if len(fitting) > 1 and asked:
            raise ConfigError(f"[camera] {named}: fits {len(fitting)} cameras, there are: {there}")
        chosen = fitting[0]
        if len(fitting) > 1:
            return chosen["index"], [f"[camera] names none of the cameras, took {describe(chosen)}"]
        return chosen["index"], []

    def open(self, index: int, buffers: int) -> Any:
        """Open a camera for this process alone; gives harvesters' image acquirer.

        Raises
        ------
        CameraError
            When it is in use or does not answer.
        """
        try:
            with _signal_handler_kept():
                acquirer = self._harvester.create(index)
        except (*NODE_ERRORS, ValueError) as error:
            listed = self.listed()[index]
            in_use = isinstance(error, (AccessDeniedException, ResourceInUseException))
            why = "it is in use by another program" if in_use else first_sentence(error)
            raise CameraError(f"camera {describe(listed)}: cannot be opened: {why}") from error
        # It would keep the acquirer, with all its memory, until the process exits.
        acquirer._finalizer.detach()
        acquirer.num_buffers = max(buffers, acquirer.min_num_buffers)
        return acquirer

    def close(self) -> None:
        """Release all cameras and producers, those that are gone, too; never raises."""
        with _signal_handler_kept():
            self._give_back()


def _give_back(harvester: Any) -> None:
    """Release what a harvester holds, whether it is still there or not."""
    for acquirer in list(harvester._ias):
        release(acquirer)
    harvester._ias.clear()
    if not _works(harvester._reset):
        # It gave up on the way: the rest one by one, innermost first.
        for module in (*harvester._ifaces, *harvester._systems, *harvester._producers):
            _works(module.close)


def release(acquirer: Any) -> None:
    """Give a camera back to its producer, also one that does not answer any more; never raises.

    ``destroy()`` of harvesters asks each module for its name on the way, for a message that is not
    printed. A device that was unplugged has none to tell: ``destroy()`` fails there, releases
    nothing, and fails again with a traceback when the process exits; and the producer goes on to
    hold a device that is gone, so that the camera cannot be found when it is plugged in again.
    """
    if not _works(acquirer.destroy):
        _works(_take_apart, acquirer)
    acquirer._is_valid = False  # else whoever owns it tries again


def _take_apart(acquirer: Any) -> None:
    """Do what ``destroy()`` does, each step whether those before it worked or not."""
    if acquirer._chunk_adapter is not None:
        _works(acquirer._chunk_adapter.detach_buffer)
    for stream in acquirer._data_streams:
        module = stream.module
        _works(module.stop_acquisition, ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)
        _works(module.flush_buffer_queue, ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD)
        announced = acquirer._announced_buffers
        kept = [buffer for buffer in announced if not _works(module.revoke_buffer, buffer)]
        if not _works(module.close) and kept:
            # The producer may still write there: the memory must outlive it.
            _STRANDED.extend(kept)
    acquirer._announced_buffers.clear()
    _works(acquirer._remote_device.deregister_node_callbacks)
    _works(acquirer._remote_device.node_map.disconnect)
    _works(acquirer._device_proxy.module.close)


def _works(step: Callable[..., Any], *args: Any) -> bool:
    """Do one step of a clean-up that goes on whatever happens; tell whether it worked."""
    try:
        step(*args)
    except Exception:  # a producer may raise anything about a device that is gone
        return False
    return True


def describe(listed: dict[str, Any]) -> str:
    """Say in a few words which camera an entry of the list is."""
    names = " ".join(filter(None, (listed["vendor"], listed["model"])))
    user = f", user_id {listed['user_id']!r}" if listed["user_id"] else ""
    return f"{names or listed['id']} (index {listed['index']}, serial {listed['serial']!r}{user})"


def list_cameras(
    producers: str | Sequence[str] | None = None, warnings: list[str] | None = None
) -> list[dict[str, Any]]:
    """List the cameras that producers see.

    Parameters
    ----------
    producers : str, sequence of str or None
        Producer files; None: all on ``GENICAM_GENTL64_PATH``.
    warnings : list of str, optional
        Is appended to: producers there that cannot be loaded.

    Returns
    -------
    list of dict
        With ``index``, ``vendor``, ``model``, ``serial``, ``user_id``, ``id``, ``transport``,
        ``version``, ``accessible``.

    Raises
    ------
    ConfigError
        When there is no producer, or a file is none.
    """
    devices = Devices(producer_files(producers, warnings))
    try:
        return devices.listed()
    finally:
        devices.close()


@contextlib.contextmanager
def _signal_handler_kept() -> Iterator[None]:
    """Put the SIGINT handler back that harvesters replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _quiet_logger() -> logging.Logger:
    """Make the logger that harvesters writes to: kept for debugging, never printed."""
    logger = logging.getLogger("swath.harvesters")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    return logger
