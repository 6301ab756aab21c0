"""The preview on the wire: corrected strips, published by the engine on a lossy socket.

A message is one frame (several would not survive CONFLATE): four bytes with the length of the
msgpack header, the header, the pixels. A reader that is too slow misses strips and sees that by
their numbers; the engine never waits for one. Knows the error tree, msgspec and zmq.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from pipeline.config import CurveConfig
from pipeline.errors import ProtocolError, StreamError
from pipeline.stream.link import Rejected, set_options
from pipeline.stream.messages import MAX_MESSAGE
from pipeline.stream.security import check_endpoint, secure_client, secure_server

#: What the pixels of a strip may consist of.
_TYPES: Final = ("|u1", "<u2", "<i2", "<f4")


class StripHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a strip is.

    ``number`` counts the strips of a publisher from 0; ``time_ns``: when it was published, UTC
    since 1970. ``line``: index in the cube of its first line, ``step``: lines and samples of the
    cube that one of its pixels stands for. ``until``: lines of the cube that are in the picture
    with this strip; where its last row goes further, that row has not all of its lines yet and
    comes again. ``shape``: (lines, bands, samples) of the strip.
    ``data_ignore``: the value of pixels without data.
    """

    number: int
    time_ns: int
    capture: str
    line: int
    shape: tuple[int, int, int]
    dtype: str
    step: int = 1
    scale: float = 1.0
    data_ignore: float | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Strip:
    """A received strip.

    Attributes
    ----------
    header : StripHeader
        What it is.
    pixels : ndarray, (lines, bands, samples)
        Read-only; divided by ``header.scale`` it is reflectance, or counts where scale is 1.
    missed : int
        Strips lost between this one and the one before.
    age_s : float
        Seconds between publication and reception, by the clocks of both machines.
    """

    header: StripHeader
    pixels: NDArray[Any]
    missed: int
    age_s: float


class PreviewPublisher:
    """XPUB that binds and drops for readers that do not keep up; used by one thread.

    Parameters
    ----------
    endpoint : str
        ``ipc://PATH`` or ``tcp://HOST:PORT``; port ``*`` takes a free one.
    curve, insecure
        As for the link: tcp beyond loopback needs keys, or an explicit word.

    Attributes
    ----------
    endpoint : str
        Where it is really bound.
    published : int
        Strips so far, sent to readers or not.

    Raises
    ------
    ConfigError
        When the endpoint or its keys are not allowed.
    StreamError
        When the endpoint cannot be bound.
    """

    def __init__(
        self, endpoint: str, *, curve: CurveConfig | None = None, insecure: bool = False
    ) -> None:
        check_endpoint(endpoint, curve, insecure)
        self.published = 0
        self._readers = False
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        self._authenticator = None
        try:
            set_options(self._socket, endpoint, largest=1024, queued=100)
            self._socket.set(zmq.SNDHWM, 2)
            self._authenticator = secure_server(self._socket, self._context, curve)
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise StreamError(f"{endpoint}: cannot be bound: {error.strerror}") from error
        except BaseException:
            self.close()
            raise
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    @property
    def has_readers(self) -> bool:
        """Whether anyone listens; without readers nothing is encoded."""
        while True:
            try:
                event = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return self._readers
            # XPUB passes on the first subscription (1) and the last cancellation (0) of a topic.
            self._readers = event[:1] == b"\x01"

    def publish(
        self,
        pixels: NDArray[Any],
        *,
        capture: str,
        line: int,
        step: int = 1,
        scale: float = 1.0,
        data_ignore: float | None = None,
        until: int | None = None,
    ) -> bool:
        """Publish one strip, never waiting.

        Parameters
        ----------
        pixels : ndarray, (lines, bands, samples)
            uint8, uint16, int16 or float32; copied.
        capture, line, step, scale, data_ignore, until
            See :class:`StripHeader`.

        Returns
        -------
        bool
            Whether anyone listens.

        Raises
        ------
        StreamError
            When the strip is of another type or too large, or the socket fails.
        """
        number = self.published
        self.published += 1
        if not self.has_readers:
            return False
        pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        if pixels.ndim != 3 or pixels.dtype.str not in _TYPES or pixels.nbytes > MAX_MESSAGE // 2:
            raise StreamError(
                f"preview: found {pixels.dtype} {pixels.shape}, allowed are (lines, bands, "
                f"samples) of {', '.join(_TYPES)} up to {MAX_MESSAGE >> 21} MiB"
            )
        header = StripHeader(
            number=number,
            time_ns=time.time_ns(),
            capture=capture,
            line=line,
            shape=pixels.shape,
            dtype=pixels.dtype.str,
            step=step,
            scale=scale,
            data_ignore=data_ignore,
            until=until,
        )
        head = msgspec.msgpack.encode(header)
        message = b"".join((len(head).to_bytes(4, "little"), head, pixels.tobytes()))
        try:
            self._socket.send(message, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            raise StreamError(f"{self.endpoint}: cannot publish: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Leave; what readers have not got by now is dropped."""
        if not self._socket.closed:
            self._socket.close(linger=0)
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.term()

    def __enter__(self) -> PreviewPublisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class PreviewSubscriber:
    """SUB that connects; used by one thread.

    Parameters
    ----------
    endpoint : str
        Where the publisher is bound.
    newest : bool
        Keep only the newest strip that was not read yet (CONFLATE).
    curve, insecure
        As for the link.

    Attributes
    ----------
    rejected : int
        Messages that were no strips.

    Raises
    ------
    ConfigError
        When the endpoint or its keys are not allowed.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        newest: bool = False,
        curve: CurveConfig | None = None,
        insecure: bool = False,
    ) -> None:
        check_endpoint(endpoint, curve, insecure)
        self._next: int | None = None
        self._rejected = Rejected(f"preview {endpoint}")
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        try:
            set_options(self._socket, endpoint, largest=MAX_MESSAGE, queued=2)
            if newest:
                self._socket.set(zmq.CONFLATE, 1)
            secure_client(self._socket, curve)
            self._socket.set(zmq.SUBSCRIBE, b"")
            self._socket.connect(endpoint)
        except BaseException:
            self.close()
            raise

    @property
    def rejected(self) -> int:
        """Messages that were no strips."""
        return self._rejected.count

    def receive(self, timeout_s: float = 0.0) -> Strip | None:
        """Give the next strip (with ``newest``: the newest); None when there is none in time."""
        deadline = time.monotonic() + timeout_s
        while self._socket.poll(max(0, math.ceil((deadline - time.monotonic()) * 1000))):
            frames = self._socket.recv_multipart(zmq.DONTWAIT)
            try:
                if len(frames) != 1:
                    raise ProtocolError(f"preview: {len(frames)} frames, one is right")
                header, pixels = decode_strip(frames[0])
            except ProtocolError as error:
                self._rejected.add(error)
                continue
            # A smaller number than expected is a publisher that was started anew.
            expected = header.number if self._next is None else self._next
            self._next = header.number + 1
            age_s = (time.time_ns() - header.time_ns) / 1e9
            return Strip(header, pixels, max(0, header.number - expected), age_s)
        return None

    def close(self) -> None:
        """Leave."""
        if not self._socket.closed:
            self._socket.close(linger=0)
            self._context.term()

    def __enter__(self) -> PreviewSubscriber:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_decoder: msgspec.msgpack.Decoder[StripHeader] = msgspec.msgpack.Decoder(StripHeader)


def decode_strip(frame: bytes) -> tuple[StripHeader, NDArray[Any]]:
    """Take a message apart.

    Returns
    -------
    (StripHeader, ndarray)
        The pixels are a read-only view on ``frame``.

    Raises
    ------
    ProtocolError
        When it is no strip.
    """
    length = int.from_bytes(frame[:4], "little")
    try:
        header = _decoder.decode(memoryview(frame)[4 : 4 + length])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"preview: message of {len(frame)} bytes: {error}") from None
    if header.dtype not in _TYPES or min(header.shape) < 0:
        raise ProtocolError(f"preview: a strip {header.dtype} {header.shape}")
    found = len(frame) - 4 - length
    if found != math.prod(header.shape) * np.dtype(header.dtype).itemsize:
        raise ProtocolError(f"preview: {found} bytes for {header.dtype} {header.shape}")
    pixels = np.frombuffer(frame, header.dtype, offset=4 + length)
    try:
        return header, pixels.reshape(header.shape)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"preview: {header.shape}: {error}") from None
