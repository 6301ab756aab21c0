"""What the camera says of each frame in the frame itself: chunk data of exposure and encoder.

The chunks are read through the node map, as GenApi means it: which chunk is where in the buffer, in
which type and byte order, is each vendor's own, described in the camera's file. That costs 20 to
35 µs a frame for three values, 2 to 4 % of a core at 1,000 frames a second (5 µs to hand the buffer
over, the rest to read the values); reading the known trailers of GigE Vision and USB3 Vision by
hand would spare most of it, and know no type. The frame id is always the buffer's: a chunk's means
other things on some cameras.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from genicam.gentl import GenericException

from drivers.genicam_buffers import info
from drivers.genicam_nodes import NODE_ERRORS, Nodes
from pipeline.errors import CameraLostError, SwathError
from pipeline.layout import NO_VALUE

#: Values of ChunkSelector that the ledger has a place for. ``Timestamp`` is for producers whose
#: buffers have none.
WANTED: Final = ("Timestamp", "ExposureTime", "EncoderValue")
_WHERE: Final = "chunk data"


class FrameFacts(NamedTuple):
    """What the chunks of a frame said: NaN and ``NO_VALUE`` where they did not."""

    exposure_ms: float = math.nan
    encoder: int = NO_VALUE
    timestamp: int = NO_VALUE


NOTHING: Final = FrameFacts()


def switch_on(nodes: Nodes) -> None:
    """Have the camera send the chunks that swath keeps, where it can; nobody asked for them.

    Raises
    ------
    CameraLostError
        When it does not answer any more.
    """
    try:
        if not nodes.writable("ChunkModeActive"):
            return
        nodes.set("ChunkModeActive", True, _WHERE)
        for name in WANTED:
            if name in nodes.choices("ChunkSelector"):
                nodes.set("ChunkSelector", name, _WHERE)
                if nodes.writable("ChunkEnable"):
                    nodes.set("ChunkEnable", True, _WHERE)
    except CameraLostError:
        raise
    except SwathError:
        return


class Chunks:
    """Reads the chunks of one camera's buffers.

    Parameters
    ----------
    acquirer : harvesters.core.ImageAcquirer
        Whose chunk adapter connects a buffer with the node map.
    nodes : Nodes
        Set as they will be while frames come: whether there are chunks is decided now.
    """

    def __init__(self, acquirer: Any, nodes: Nodes) -> None:
        self._acquirer = acquirer
        active = nodes.get("ChunkModeActive") is True
        # The nodes are not readable before a buffer came: they are taken as they are. Looking one
        # up by its name costs as much as reading it.
        find = nodes.chunk if active else lambda name: None
        self._exposure = find("ChunkExposureTime")
        self._encoder = find("ChunkEncoderValue")
        self._timestamp = find("ChunkTimestamp")
        self.active = any((self._exposure, self._encoder, self._timestamp))

    def read(self, buffer: Any) -> FrameFacts:
        """Read what a buffer's chunks say; it must not be queued before."""
        if not self.active or not _carries_chunks(buffer):
            # The nodes still show what the buffer before had.
            return NOTHING
        try:
            # harvesters' public way to this makes an image of each buffer first.
            self._acquirer._update_chunk_data(buffer=buffer, is_manual=True)
        except NODE_ERRORS:
            return NOTHING
        exposure_us, encoder = _value(self._exposure), _value(self._encoder)
        timestamp = _value(self._timestamp)
        return FrameFacts(
            math.nan if exposure_us is None else float(exposure_us) / 1e3,
            NO_VALUE if encoder is None else int(encoder),
            NO_VALUE if timestamp is None else int(timestamp),
        )


def _carries_chunks(buffer: Any) -> bool:
    try:
        return bool(buffer.is_containing_chunk_data())
    except GenericException:
        return info(buffer, "num_chunks", 0) > 0


def _value(node: Any) -> Any:
    if node is None:
        return None
    try:
        return node.value
    except (*NODE_ERRORS, AttributeError):
        return None
