"""The Camera protocol: what every camera does for the publisher, and nothing more.

A camera is one class in one file of this package with the methods of :class:`Camera`; the
publisher owns slots, link, gaps and ledger. docs/adding-a-camera.md walks through one. Knows the
rig file's structures, the messages and the error tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CameraError
from pipeline.layout import NO_VALUE, LedgerRows
from pipeline.stream.messages import CameraInfo


@dataclass(slots=True)
class Frame:
    """What the camera said about one frame (one line); its pixels are where ``fetch`` put them.

    ``frame_id`` counts within an epoch (the publisher unwraps 16-bit ids). ``host_time_ns`` UTC;
    ``device_time_ns`` and ``encoder`` are ``NO_VALUE`` where the camera does not say.
    ``complete`` is false when only a part of the frame arrived.
    """

    frame_id: int
    host_time_ns: int
    device_time_ns: int = NO_VALUE
    exposure_ms: float = float("nan")
    temperature_c: float = float("nan")
    encoder: int = NO_VALUE
    complete: bool = True


class Asked(NamedTuple):
    """How a feature was asked for: by which ``key``, in which ``unit`` (``factor`` × its own)."""

    key: str
    unit: str = ""
    factor: float = 1.0

    def text(self, value: Any) -> str:
        """Write a value of the feature as a user writes it: ``2.5 ms``."""
        if self.factor != 1.0 or isinstance(value, float):
            value = f"{value * self.factor:.9g}"
        return f"{value} {self.unit}".rstrip()

    def differs(self, value: Any, taken: Any) -> str:
        """Say that the camera took something else."""
        return f"asked for {self.text(value)}, the camera took {self.text(taken)}"


#: Keys of the rig file for features that SFNC has in other units or under other names.
EXPOSURE: Final = Asked("exposure_ms", "ms", 1e-3)
RATE: Final = Asked("fps", "Hz")
GAIN: Final = Asked("gain")


class EndOfFrames(Exception):  # noqa: N818 - an end, not an error
    """Raised by ``fetch`` of a camera whose source is at its end (a replay)."""


class Camera(Protocol):
    """A source of lines, used by one thread.

    Order of calls: ``open`` once; then for each series ``start``, ``fetch`` …, ``stop``; between
    series ``shutter``, ``panel`` and ``set_feature``; at last ``close``, which never raises.
    Every method may raise :class:`~pipeline.errors.CameraError` (or ``ConfigError`` for what the
    rig file asks in vain), and :class:`~pipeline.errors.CameraLostError` when the camera is gone.

    Three more things a camera may have. ``seek(line) -> int``, where the source waits: before each
    ``start``, go to that line of the scene and give its frame id. ``epoch``, an attribute: set
    before each ``start``, 0 until the camera went away for the first time. ``fetch_many``, where
    the source waits and has lines at hand: see :class:`Bulk`.
    """

    #: Frame ids wrap from ``frame_id_max`` to ``frame_id_first`` (65535 → 1 on GigE); 0: never.
    frame_id_max: int
    frame_id_first: int

    def open(self) -> CameraInfo:
        """Connect, apply the rig file's settings, read back what the camera really took."""

    def start(self, kind: str) -> None:
        """Begin to acquire; ``kind`` is ``black``, ``white`` or ``scan``."""

    def fetch(self, into: NDArray[np.generic] | None, timeout_s: float) -> Frame | None:
        """Wait for the next frame and copy it once, oriented, into ``into``.

        Parameters
        ----------
        into : ndarray, (bands, samples), of the data type that ``open`` announced, or None
            Where the line goes; None drops the frame's pixels (there is no room) and still
            returns what the camera said about it.
        timeout_s : float
            After so long without a frame, return None. Cameras that hold the interpreter lock
            while they wait keep their own waits short.

        Raises
        ------
        EndOfFrames
            The source is at its end.
        CameraLostError
            The camera is gone.
        """

    def stop(self) -> None:
        """End the acquisition; frames still buffered are dropped."""

    def shutter(self, closed: bool) -> None:
        """Close or open the shutter; ``CameraError`` where there is none."""

    def panel(self, in_view: bool) -> None:
        """Bring the white panel into view, or the scene; ``CameraError`` where it cannot."""

    def set_feature(self, name: str, value: Any) -> Any:
        """Set one feature by SFNC name while armed, and return what the camera took."""

    def reference(self, name: str) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Deliver a reference that the source has: (bands, samples) float32 and header fields."""

    def close(self) -> None:
        """Release the camera; never raises."""


@runtime_checkable
class Bulk(Protocol):
    """A camera that waits and can give many lines at once, which costs less than one by one."""

    def fetch_many(self, into: NDArray[np.generic]) -> LedgerRows | None:
        """Copy the next lines, oriented, into the first places of ``into``; never waits.

        Parameters
        ----------
        into : ndarray, (places, bands, samples), of the data type that ``open`` announced

        Returns
        -------
        LEDGER_DTYPE array or None
            What the camera says of each line: ``frame_id`` (not wrapped, one after the other,
            the first one after the last line that was fetched), times, encoder, exposure and
            temperature. None when the next line has to be taken by ``fetch``: it is not due yet,
            incomplete, behind a gap, or there is none.

        Raises
        ------
        CameraLostError
            The camera is gone.
        """


def no_reference(name: str) -> CameraError:
    """Make the error of a camera that has no references of its own."""
    return CameraError(f"reference: asked for {name!r}, this camera has none of its own")


def orient(
    frame: NDArray[np.generic], spectral_axis: str, flip: list[str] | tuple[str, ...]
) -> NDArray[np.generic]:
    """View a frame (height, width) as (bands, samples), without a copy.

    ``spectral_axis``: which axis of the frame is the spectrum, ``height`` or ``width``. ``flip``:
    any of ``spectral`` and ``spatial``.
    """
    view = frame if spectral_axis == "height" else frame.T
    if "spectral" in flip:
        view = view[::-1]
    if "spatial" in flip:
        view = view[:, ::-1]
    return view
