"""What both ends of the link share: its times, its sizes, socket options, and the received block.

The exchange itself is in :mod:`pipeline.stream.driver_link` and
:mod:`pipeline.stream.engine_link`; docs/wire.md tells it on one page. Knows layout, slots, the
messages and zmq; nothing of cameras, stages or files.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

import zmq
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.layout import LedgerRows, envi_dtype
from pipeline.slots import Slot
from pipeline.stream.messages import MAX_MESSAGE, Lines

#: Seconds between two heartbeats, in each direction.
HEARTBEAT_S: Final = 0.5
#: Seconds without any message after which a peer counts as gone.
SILENT_S: Final = 2.0

log = logging.getLogger("swath.stream")


@dataclass(slots=True)
class Block:
    """One received block; whoever takes it owns one count of ``slot`` and releases it.

    Attributes
    ----------
    header : Lines
        Series, sequence number, first line.
    rows : LEDGER_DTYPE array
        Ledger rows, own memory; those with ``line`` ≥ 0 have pixels, in order.
    pixels : ndarray, (lines, bands, samples)
        View on the slot; valid until it is released.
    """

    slot: Slot
    header: Lines
    rows: LedgerRows
    pixels: NDArray[Any]


def block_bytes(bands: int, samples: int, data_type: int, block_lines: int) -> int:
    """Give the bytes of a full block, and refuse one that no message can hold.

    Parameters
    ----------
    bands, samples : int
        Of a line.
    data_type : int
        ENVI code of a pixel.
    block_lines : int
        The most lines of a block.

    Raises
    ------
    ConfigError
        When the block is larger than 16 MiB.
    """
    line = bands * samples * envi_dtype(data_type, 0).itemsize
    if line * block_lines > MAX_MESSAGE:
        most = MAX_MESSAGE // line
        allowed = f"allowed are at most {most} lines" if most else "not even one line fits"
        raise ConfigError(
            f"[stream] block_lines: {block_lines} lines of {bands} bands × {samples} samples "
            f"({line} bytes) make {line * block_lines / 2**20:.1f} MiB, a message holds "
            f"{MAX_MESSAGE >> 20} MiB; {allowed}"
        )
    return line * block_lines


def set_options(socket: zmq.Socket[bytes], endpoint: str, *, largest: int, queued: int) -> None:
    """Set what every socket of the link has, before it binds or connects.

    ``largest``: bytes of a frame beyond which the peer is cut off. ``queued``: messages that may
    wait to be received. Nothing lingers, and a peer that is cut off without a goodbye is noticed.
    """
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.MAXMSGSIZE, largest)
    socket.set(zmq.RCVHWM, queued)
    socket.set(zmq.HANDSHAKE_IVL, 5000)
    socket.set(zmq.HEARTBEAT_IVL, 2000)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 10000)
    if endpoint.startswith("tcp://["):
        socket.set(zmq.IPV6, 1)


class Rejected:
    """Counts messages that are not what they should be, and logs at most one of them a second."""

    def __init__(self, where: str) -> None:
        self.count = 0
        self._where = where
        self._logged = 0
        self._next = 0.0

    def add(self, reason: object) -> None:
        """Count one, for this reason."""
        self.count += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1.0
            more = self.count - self._logged
            self._logged = self.count
            log.warning("%s: %d message(s) refused, the last one: %s", self._where, more, reason)
