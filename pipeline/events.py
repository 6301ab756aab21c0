"""What a capture tells the world: armed, phases, progress, losses, finished or failed.

The command line's display, ``--json``, metrics and pages read these and nothing else. Events are
frozen structures tagged by ``t``, so that they can be encoded as JSON as they are. Knows msgspec
only; the capture emits, whoever wants subscribes to the :class:`EventBus`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

import msgspec

_log = logging.getLogger(__name__)

#: What a series of lines is for.
PhaseKind = Literal["black", "white", "scan"]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """Base of all events; the tag names the event in JSON."""


class Arming(_Event, frozen=True, tag="arming"):
    """One step of arming that takes noticeable time (``text`` says which), or a plain note."""

    text: str


class Armed(_Event, frozen=True, tag="armed"):
    """Everything is checked and ready; from here on nothing can be misconfigured.

    ``bands``, ``samples``: of a line as delivered. ``exposure_ms`` ms, ``fps`` Hz, None where the
    camera does not say. ``wavelength_nm``: first and last, None where unknown. ``backend``: ``cpu``
    or ``cuda``, ``why``: one sentence. ``file``: where the finished capture will be.
    ``lines``, ``seconds``: what was asked for, 0 until stopped.
    """

    driver: str
    sensor_type: str
    bands: int
    samples: int
    data_type: int
    bit_depth: int
    file: str
    backend: str
    why: str
    store: str = "raw"
    serial: str = ""
    exposure_ms: float | None = None
    fps: float | None = None
    temperature_c: float | None = None
    wavelength_nm: tuple[float, float] | None = None
    lines: int = 0
    seconds: float = 0.0
    warnings: list[str] = []


class Phase(_Event, frozen=True, tag="phase"):
    """A series begins: ``lines`` is how many it will have, None until stopped."""

    kind: PhaseKind
    lines: int | None = None


class Progress(_Event, frozen=True, tag="progress"):
    """Where the running series stands; emitted a few times a second.

    ``lines`` counts lines of the scene, the ``lost`` ones included; ``total`` is None when it runs
    until stopped. ``seconds`` since the series began, ``lines_per_second`` over the last moments,
    ``bytes`` written so far. ``free_seconds``: how long the disk lasts at this rate.
    ``free_slots``: places left in the engine's ring. ``eta_s``: time left. ``temperature_c`` of the
    camera. None where unknown.
    """

    lines: int
    total: int | None = None
    lost: int = 0
    seconds: float = 0.0
    lines_per_second: float = 0.0
    bytes: int = 0
    free_seconds: float | None = None
    free_slots: int | None = None
    eta_s: float | None = None
    temperature_c: float | None = None


class Loss(_Event, frozen=True, tag="loss"):
    """``count`` lines are lost from ``first_line`` (0-based, −1 for a gap that is not stored)."""

    first_line: int
    count: int
    reason: str


class Warned(_Event, frozen=True, tag="warned"):
    """Something worth knowing that stops nothing: one sentence."""

    text: str


class ReferenceTaken(_Event, frozen=True, tag="reference"):
    """A reference is ready: taken (``lines`` averaged), or loaded (``source`` says from where).

    ``mean``: of all its counts (DN), of ``full_scale`` (0: unknown). ``saturated``: share of pixels
    at the saturation level, 0–1. ``rejected``: lines that stood out and were left out.
    """

    kind: str
    lines: int
    mean: float
    rejected: int = 0
    saturated: float = 0.0
    full_scale: float = 0.0
    source: str = ""


class Finished(_Event, frozen=True, tag="finished"):
    """The file is whole; ``exit_status`` is 0, 3 when lines were lost, or 1 after a failure.

    ``file``: where it is. ``lines`` in the file, ``lost`` of the scene; ``samples``, ``bands``;
    ``bytes`` of the file; ``entries``: names of what is in it; ``thumbnail``: the name of the one
    that is a picture, empty where there is none. ``wavelength_nm``: first and last.
    ``references``: names of those in the file. ``coded``: one sentence on how and when it was
    coded, empty where it was not.
    """

    file: str
    lines: int
    lost: int
    seconds: float
    bytes: int
    lines_per_second: float
    backend: str
    samples: int = 0
    bands: int = 0
    store: str = "raw"
    warnings: list[str] = []
    entries: list[str] = []
    thumbnail: str = ""
    references: list[str] = []
    wavelength_nm: tuple[float, float] | None = None
    exit_status: int = 0
    coded: str = ""


class Failed(_Event, frozen=True, tag="failed"):
    """The capture ended early; ``text`` says where and why, ``exit_status`` is 1 or 2."""

    text: str
    exit_status: int = 1


Event = Arming | Armed | Phase | Progress | Loss | Warned | ReferenceTaken | Finished | Failed
Subscriber = Callable[[Event], None]


class EventBus:
    """Hands each event to every subscriber, in order, in the thread that emits it.

    Safe to use from any thread: two emitters never run subscribers at once. A subscriber that
    raises is logged and kept; it costs neither the others nor the capture anything.
    """

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()
        self._lock = threading.RLock()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function takes it off again."""
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(s for s in self._subscribers if s is not subscriber)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Hand ``event`` to all subscribers and return when they are done with it."""
        with self._lock:
            for subscriber in self._subscribers:
                try:
                    subscriber(event)
                except Exception:
                    _log.exception("a subscriber failed at %s", type(event).__name__)
