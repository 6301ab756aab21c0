"""Commands that the engine has sent, until their answers come or can come no more.

Knows the messages and the error tree; has no socket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CameraError, ConfigError, ProtocolError, SwathError
from pipeline.stream.messages import Answer, Command

#: What an answer's array may consist of.
_ARRAY_TYPES: Final = ("|u1", "<u2", "<u4", "|i1", "<i2", "<i4", "<i8", "<f4", "<f8")


@dataclass(slots=True)
class Pending:
    """A command on its way, and what became of it."""

    command: Command
    done: threading.Event = field(default_factory=threading.Event)
    value: dict[str, Any] = field(default_factory=dict)
    array: NDArray[Any] | None = None
    error: SwathError | None = None


class Commands:
    """The commands under way; any thread may call its methods."""

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}
        self._lock = threading.Lock()

    def add(self, pending: Pending) -> None:
        """Note a command that is about to be sent."""
        with self._lock:
            self._pending[pending.command.id] = pending

    def forget(self, pending: Pending) -> None:
        """Wait no longer for an answer."""
        with self._lock:
            self._pending.pop(pending.command.id, None)

    def unanswered(self) -> list[Command]:
        """Give the commands that have to be sent again on a new connection."""
        with self._lock:
            return [one.command for one in self._pending.values()]

    def fail(self, error: SwathError) -> None:
        """Answer all of them with an error."""
        with self._lock:
            pending, self._pending = list(self._pending.values()), {}
        for one in pending:
            one.error = error
            one.done.set()

    def answered(self, answer: Answer, array: Callable[[], bytes]) -> None:
        """Take an answer; ``array`` gives the frame behind it.

        Raises
        ------
        ProtocolError
            When its array is none.
        """
        with self._lock:
            pending = self._pending.get(answer.id)
        if pending is None:
            return  # came twice, or after its time-out
        if answer.error:
            kind = ConfigError if answer.exit_status == 2 else CameraError
            pending.error = kind(answer.error)
        elif answer.dtype:
            pending.array = array_of(answer, array())
        pending.value = answer.value
        self.forget(pending)
        pending.done.set()


def array_of(answer: Answer, data: bytes) -> NDArray[Any]:
    """Make the array of an answer from its bytes.

    Raises
    ------
    ProtocolError
        When they are not what the answer says.
    """
    try:
        if answer.dtype not in _ARRAY_TYPES:
            raise ValueError(f"allowed are {', '.join(_ARRAY_TYPES)}")
        dtype = np.dtype(answer.dtype)
        return np.frombuffer(data, dtype).reshape([max(0, n) for n in answer.shape]).copy()
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(
            f"answer: {len(data)} bytes are no array {answer.dtype} {answer.shape}: {error}"
        ) from None
