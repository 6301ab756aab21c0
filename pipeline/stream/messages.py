"""The messages of the link between driver and engine, and how they are encoded.

A message is ZeroMQ multipart: one msgpack frame with one of the structures below (msgspec, tagged
by ``t``), then for ``lines`` two more frames: ledger rows (``LEDGER_DTYPE`` bytes) and pixels
(``lines × bands × samples``, C order, little-endian, not copied; left out where both ends map the
same memory), and for an ``answer`` that carries an array one more frame. docs/wire.md describes
the exchange. Knows errors and msgspec.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pipeline.errors import ProtocolError

#: Another number is refused.
PROTOCOL: Final = 1
#: Largest message, bytes; larger ones fall off malloc's fast path.
MAX_MESSAGE: Final = 16 << 20


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """Base of all messages; the tag is the lower-case class name."""


class CameraInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a camera says about itself once it is armed.

    ``bands``, ``samples``: of a line as delivered (after binning and ROI). ``sensor_rows``,
    ``sensor_columns``: unbinned, spectral and spatial. ``binning``: (spectral, spatial). ``hroi``
    (spatial) and ``vroi`` (spectral): first and last, 1-based inclusive, in binned pixels.
    ``exposure_ms`` ms, ``fps`` Hz, ``temperature_c`` °C. ``data_type``: ENVI code of a pixel.
    ``open_loop``: true for a camera that goes on whether lines are taken or not; false for one
    that waits (a replay). ``features``: every readable feature by SFNC name.
    ``header``: fields of a replayed source, (name, text) in order. ``references``: names that the
    ``reference`` command can deliver (white, black, white_black …). ``wavelength``, ``fwhm``: nm by
    band, where the driver knows them (replay, simulated).
    ``settings_differ``: feature or rig-file key → what was asked for and what the camera took.
    """

    driver: str
    sensor_type: str
    bands: int
    samples: int
    data_type: int
    bit_depth: int
    saturation_level: int
    pixel_format: str = ""
    vendor: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    user_id: str = ""
    sensor_rows: int = 0
    sensor_columns: int = 0
    binning: tuple[int, int] = (1, 1)
    hroi: tuple[int, int] | None = None
    vroi: tuple[int, int] | None = None
    exposure_ms: float | None = None
    fps: float | None = None
    gain: float | None = None
    temperature_c: float | None = None
    open_loop: bool = True
    has_shutter: bool = False
    has_panel: bool = False
    lines: int | None = None
    wavelength: list[float] | None = None
    fwhm: list[float] | None = None
    wavelength_units: str = "Nanometers"
    features: dict[str, Any] = {}
    header: list[tuple[str, str]] = []
    comments: list[str] = []
    references: list[str] = []
    settings_differ: dict[str, str] = {}
    warnings: list[str] = []


class Hello(_Message, frozen=True, tag="hello"):
    """Engine → driver, first on every (re)connection.

    ``session`` is random, one for each engine process. The driver goes on with a running series
    for the same session, or where ``resume`` is true; otherwise it stops the series. ``greeting``
    counts the hellos of a session, so that an answer or a credit finds the one it belongs to.
    ``maps``: this engine answers a ``start`` that offers memory with ``mapped``.
    """

    protocol: int
    session: str
    resume: bool = False
    greeting: int = 0
    maps: bool = False


class Welcome(_Message, frozen=True, tag="welcome"):
    """Driver → engine, the answer to ``hello`` number ``greeting``.

    ``series`` is empty when none runs. ``instance`` is random, one for each driver process.
    With ``error`` set the engine is refused, and that is why.
    """

    protocol: int
    driver: str
    series: str = ""
    greeting: int = 0
    instance: str = ""
    error: str = ""


class Credit(_Message, frozen=True, tag="credit"):
    """Engine → driver: ``blocks`` more may be sent; void after any hello but ``greeting``."""

    blocks: int
    greeting: int = 0


class Ack(_Message, frozen=True, tag="ack"):
    """Engine → driver: block ``seq`` of ``series`` is stored; with ``end`` the ``end`` message."""

    series: str
    seq: int
    end: bool = False


class Command(_Message, frozen=True, tag="command"):
    """Engine → driver. Names: arm, series, shutter, panel, set, reference, stop, quit."""

    id: int
    name: str
    args: dict[str, Any] = {}


class Answer(_Message, frozen=True, tag="answer"):
    """Driver → engine. ``error`` is empty when all went well; ``exit_status`` of that error.

    With ``dtype`` and ``shape`` set, one more frame carries the array.
    """

    id: int
    value: dict[str, Any] = {}
    error: str = ""
    exit_status: int = 1
    dtype: str = ""
    shape: list[int] = []


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The slots of a driver, for an engine on the same host.

    ``pid`` and ``fd``: process and file descriptor there. ``count`` slots of ``slot_bytes`` bytes,
    then ``token``: random bytes, by which the engine knows that it found them.
    """

    pid: int
    fd: int
    count: int
    slot_bytes: int
    token: bytes


class Mapped(_Message, frozen=True, tag="mapped"):
    """Engine → driver: the memory with ``token`` is mapped; without: it cannot be.

    From then on, until another hello, blocks come as numbers of slots and need no credit. Each
    block's acknowledgement then also says that its slot is not looked at any more.
    """

    series: str
    greeting: int
    token: bytes = b""


class Start(_Message, frozen=True, tag="start"):
    """Driver → engine: a series begins (again after each reconnection).

    ``kind`` is ``black``, ``white`` or ``scan``. ``first_line``: index in the cube of the first
    line that will be sent. ``block_lines``: the most lines a block can have. With ``memory`` no
    block follows before the engine has answered with ``mapped``.
    """

    protocol: int
    series: str
    kind: str
    camera: CameraInfo
    block_lines: int
    first_line: int = 0
    epoch: int = 0
    memory: Memory | None = None


class Lines(_Message, frozen=True, tag="lines"):
    """Driver → engine: one block; ``rows`` ledger rows and ``lines`` lines of pixels follow.

    ``lines`` rows (those with ``line`` ≥ 0) have pixels, in order, lost lines that are filled
    included; further rows with ``line`` = −1 stand for gaps that are not stored. ``slot``: the
    pixels lie there in the memory of ``start``, and are no frame of this message; −1: they are.
    """

    series: str
    seq: int
    first_line: int
    lines: int
    rows: int
    slot: int = -1


class End(_Message, frozen=True, tag="end"):
    """Driver → engine: the series is over; complete when acknowledged.

    ``reason``: ``done`` (as many lines as asked for), ``stop`` (asked to), ``source`` (a replay is
    at its end), ``camera`` (lost, ``error`` says how), ``driver`` (closing).
    ``blocks``: how many were sent. ``stored`` lines have pixels, ``lost`` includes filled ones.
    """

    series: str
    blocks: int
    stored: int
    lost: int
    reason: str
    error: str = ""


class Heartbeat(_Message, frozen=True, tag="heartbeat"):
    """Both ways, every half second. From the driver: frames fetched and dropped, temperature."""

    frames: int = 0
    dropped: int = 0
    free_slots: int = 0
    temperature_c: float | None = None


Message = (
    Hello | Welcome | Credit | Ack | Command | Answer | Start | Mapped | Lines | End | Heartbeat
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Encode the header frame of a message."""
    return _encoder.encode(message)


def decode(frame: bytes | memoryview) -> Message:
    """Decode the header frame of a message.

    Raises
    ------
    ProtocolError
        When the bytes are not one of the messages.
    """
    try:
        return _decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"message of {len(frame)} bytes: {error}") from None
