"""A camera that is armed: what it said about itself, the slots made for its lines, series to plan.

Sizes are settled here, once, when the camera is armed; nothing is allocated for a block after
that. Knows the Camera protocol, slots and the rig file; nothing of the link.
"""

from __future__ import annotations

import math
from typing import Any, Final

from drivers.blocks import SeriesPlan
from drivers.camera import Camera
from drivers.gaps import FrameIds
from pipeline.config import Rig
from pipeline.errors import CameraError, ConfigError
from pipeline.layout import LEDGER_DTYPE, envi_dtype, fill_value
from pipeline.slots import SlotRing, available_memory
from pipeline.stream.messages import MAX_MESSAGE, CameraInfo

#: Slots of a camera that waits for room.
WAITING_SLOTS: Final = 8
#: Slots of a camera whose rate nobody knows.
UNKNOWN_RATE_SLOTS: Final = 32
#: The part of the available memory that the slots may take: a quarter.
MEMORY_PART: Final = 4
#: Room for the header frame of a message, bytes.
HEADER_ROOM: Final = 4096


class ArmedCamera:
    """One camera and its slots, from the first ``arm`` on.

    Attributes
    ----------
    info : CameraInfo or None
        None until the camera is armed, and after it was lost.
    ring : SlotRing or None
        Kept when the camera is armed again and its lines fit.
    block_lines : int
        The most lines of a block: what the rig file asks for, or fewer.
    """

    def __init__(self, camera: Camera, rig: Rig) -> None:
        self.camera = camera
        self.info: CameraInfo | None = None
        self.ring: SlotRing | None = None
        self.block_lines = rig.stream.block_lines
        self._rig = rig

    @property
    def fps(self) -> float | None:
        """Lines a second, Hz: what the camera says, else the rig file."""
        return (self.info.fps if self.info else None) or self._rig.camera.fps

    def arm(self) -> CameraInfo:
        """Open the camera, anew if it is open, and make slots for its lines."""
        if self.info is not None:
            self.disarm()
        try:
            info = self.camera.open()
            self._make_slots(info)
        except BaseException:
            self.camera.close()
            raise
        self.info = info
        return info

    def disarm(self) -> None:
        """Close the camera; the slots stay."""
        self.info = None
        self.camera.close()

    def require(self, name: str) -> CameraInfo:
        """Give the info of the armed camera.

        Raises
        ------
        CameraError
            When it is not armed; ``name`` is what was asked for.
        """
        if self.info is None:
            raise CameraError(f"{name}: the camera is not armed, arm comes first")
        return self.info

    def plan(self, args: dict[str, Any]) -> SeriesPlan:
        """Plan a series from the arguments of the ``series`` command."""
        info, stream = self.require("series"), self._rig.stream
        return SeriesPlan(
            bands=info.bands,
            samples=info.samples,
            dtype=envi_dtype(info.data_type, 0),
            block_lines=self.block_lines,
            max_latency_s=stream.max_latency_ms * 1e-3,
            fill=stream.gaps == "fill",
            fill_value=fill_value(info.bit_depth),
            max_gap_lines=stream.max_gap_lines,
            target=int(args.get("lines") or 0),
            first_line=int(args.get("first_line") or 0),
            epoch=int(args.get("epoch") or 0),
        )

    def slots(self) -> SlotRing:
        """Give the ring for the next series.

        A new one where an engine that left without giving them back may still look at some slots.
        """
        self.require("series")
        assert self.ring is not None
        if self.ring.free < self.ring.count and self.ring.mapped_elsewhere:
            count, slot_bytes = self.ring.count, self.ring.slot_bytes
            self.ring.close()
            self.ring = SlotRing(count, slot_bytes, "swath-driver", populate=True)
        return self.ring

    def frame_ids(self) -> FrameIds:
        """Make the counter of a new series."""
        return FrameIds(self.camera.frame_id_max, self.camera.frame_id_first)

    def close(self) -> None:
        """Release the camera and the slots."""
        self.disarm()
        if self.ring is not None:
            self.ring.close()
            self.ring = None

    def _make_slots(self, info: CameraInfo) -> None:
        line_bytes = info.bands * info.samples * envi_dtype(info.data_type, 0).itemsize
        self.block_lines = block_lines(line_bytes, self._rig.stream.block_lines)
        slot_bytes = self.block_lines * line_bytes
        fps = info.fps or self._rig.camera.fps
        count = slot_count(
            slot_bytes,
            lines=self._rig.stream.buffer_seconds * fps if fps else None,
            block_lines=self.block_lines,
            open_loop=info.open_loop,
            available=available_memory(),
        )
        if self.ring is not None:
            # Slots are whole pages, so a ring for slightly smaller blocks may fit as it is.
            if slot_bytes <= self.ring.slot_bytes < 2 * slot_bytes and self.ring.count >= count:
                return
            self.ring.close()
            self.ring = None
        self.ring = SlotRing(count, slot_bytes, "swath-driver", populate=True)


def block_lines(line_bytes: int, asked: int) -> int:
    """Lower the lines of a block so that a message stays below ``MAX_MESSAGE``, to a multiple of 4.

    Raises
    ------
    ConfigError
        When a single line is too large.
    """
    # Before each line there can be a gap that is not stored: two ledger rows a line.
    row_bytes = 2 * LEDGER_DTYPE.itemsize
    most = (MAX_MESSAGE - HEADER_ROOM) // (line_bytes + row_bytes)
    if most < 1:
        raise ConfigError(
            f"camera: found a line of {line_bytes} bytes, allowed are "
            f"{MAX_MESSAGE - HEADER_ROOM - row_bytes}; binning or a region of interest make it "
            "smaller"
        )
    if asked <= most:
        return asked
    # Whole rows of the preview, where there is the choice: none has to be carried over.
    return most // 4 * 4 if most >= 4 else most


def slot_count(
    slot_bytes: int,
    *,
    lines: float | None,
    block_lines: int,
    open_loop: bool,
    available: int | None,
) -> int:
    """Give the number of slots for a buffer of ``lines`` (rate × seconds; None: rate unknown).

    At least 4, and else at most a quarter of the ``available`` bytes of memory.
    """
    if not open_loop:
        count = WAITING_SLOTS
    elif lines is None:
        count = UNKNOWN_RATE_SLOTS
    else:
        count = math.ceil(lines / block_lines) + 2
    if available is not None:
        count = min(count, available // MEMORY_PART // slot_bytes)
    return max(4, count)
