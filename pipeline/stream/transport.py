"""The engine's socket: connected, watched, and made anew when it has been given up.

Says when a connection begins, which the link answers with a hello. Wakes up for zmq, and for a
byte that any thread may send. Knows zmq, the error tree and security; not what messages mean.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from pipeline.config import CurveConfig
from pipeline.errors import ConfigError
from pipeline.stream.link import set_options
from pipeline.stream.messages import MAX_MESSAGE
from pipeline.stream.security import secure_client

#: Seconds without a connection after which the socket is made anew: libzmq gives a peer up for
#: good that once spoke another language, and the driver may come back at the same place.
_REOPEN_S: Final = 3.0


class Transport:
    """DEALER with its monitor; all but :meth:`wake` belongs to one thread.

    Attributes
    ----------
    socket : zmq.Socket
        Changes when the socket is made anew.
    up : bool
        Whether there is a connection.
    trouble : str
        Why the last handshake failed, empty if it did not.

    Raises
    ------
    ConfigError
        When the keys cannot be used, or the endpoint cannot be connected to.
    """

    def __init__(self, endpoint: str, curve: CurveConfig | None) -> None:
        self.endpoint = endpoint
        self.up = False
        self.trouble = ""
        self._curve = curve
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def wake(self) -> None:
        """End the wait of the thread that owns the socket; from any thread."""
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # full: it will wake anyway; closed: there is nothing left to do

    def wait(self, timeout_s: float, *, reading: bool) -> bool:
        """Wait for messages (unless not ``reading``), a wake-up, or news of the connection.

        Returns
        -------
        bool
            Whether a new connection has begun.
        """
        self._poller.modify(self.socket, zmq.POLLIN if reading else 0)
        ready = dict(self._poller.poll(int(timeout_s * 1000 + 0.999)))
        if self._woken.fileno() in ready:
            try:
                self._woken.recv(4096)
            except BlockingIOError:
                pass
        return self._monitor in ready and self._watch()

    def reopen_if_given_up(self) -> None:
        """Make the socket anew when there was no connection for 3 s."""
        if not self.up and time.monotonic() - self._down_since > _REOPEN_S:
            self._shut()
            self._open()

    def send(self, frame: bytes) -> bool:
        """Send one frame; False when there is no connection, nothing is queued for a later one."""
        try:
            self.socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def skip(self) -> None:
        """Discard what is left of the message that was begun to be read."""
        while self.socket.get(zmq.RCVMORE):
            self.socket.recv_into(bytearray())

    def close(self) -> None:
        """Close everything; what was not sent is dropped."""
        self._shut()
        self._context.term()
        self._waker.close()
        self._woken.close()

    def _open(self) -> None:
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket()
        set_options(self.socket, self.endpoint, largest=MAX_MESSAGE, queued=32)
        # Nothing is queued for a connection that is not there: it would be stale when it comes.
        self.socket.set(zmq.IMMEDIATE, 1)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RECONNECT_IVL, 50)
        self.socket.set(zmq.RECONNECT_IVL_MAX, 500)
        self.socket.set(zmq.CONNECT_TIMEOUT, 2000)
        self._poller = zmq.Poller()
        self._poller.register(self.socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._woken.fileno(), zmq.POLLIN)
        self._down_since = time.monotonic()
        secure_client(self.socket, self._curve)
        try:
            self.socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            raise ConfigError(f"{self.endpoint}: cannot be connected: {error.strerror}") from error

    def _shut(self) -> None:
        if not self.socket.closed:
            self.socket.disable_monitor()
            self._monitor.close(linger=0)
            self.socket.close(linger=0)

    def _watch(self) -> bool:
        begun = False
        while True:
            try:
                event = recv_monitor_message(self._monitor, zmq.DONTWAIT)["event"]
            except zmq.Again:
                return begun and self.up
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.up = begun = True
                self.trouble = ""
            elif event == zmq.EVENT_DISCONNECTED:
                self.up = False
                self._down_since = time.monotonic()
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self.trouble = (
                    "the driver does not admit this key; add its public file to clients of "
                    "[stream.curve] there"
                )
            elif event in (
                zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
                zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
            ):
                self.trouble = "the handshake with the driver failed: are the keys right?"
