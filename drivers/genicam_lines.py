"""Frames of a line-scan camera as lines: one frame is Height lines of one band, handed out in turn.

The frame is copied once, so that its buffer goes back at once, however many lines it has. Line ids
follow from the frame's: a lost frame is Height lost lines. Knows frames, nothing of the camera.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from drivers.camera import Frame
from pipeline.layout import NO_VALUE


class FrameLines:
    """The lines of the newest frame that are not fetched yet.

    Parameters
    ----------
    height, width : int
        Lines of a frame, and samples of a line.
    dtype : numpy.dtype
        Of a pixel.
    flipped : bool
        Samples run backwards.
    """

    def __init__(
        self, height: int, width: int, dtype: np.dtype[np.generic], *, flipped: bool
    ) -> None:
        self.height = height
        self._pixels = np.empty((height, width), dtype)
        self._flipped = flipped
        self._frame: Frame | None = None
        self._next = 0
        self._last_id: int | None = None

    def ids(self, frame_id_max: int, frame_id_first: int) -> tuple[int, int]:
        """Give where line ids wrap, from where frame ids do; 0: never."""
        if not frame_id_max:
            return 0, 0
        return frame_id_max * self.height + self.height - 1, frame_id_first * self.height

    def put(self, frame: Frame, pixels: NDArray[np.generic] | None) -> None:
        """Take the next frame; ``pixels`` (height, width) are copied, None where there are none.

        One that comes a second time is no new lines.
        """
        if frame.frame_id == self._last_id:
            return
        self._last_id = frame.frame_id
        if pixels is not None:
            self._pixels[:] = pixels[:, ::-1] if self._flipped else pixels
        self._frame, self._next = frame, 0

    def take(self, into: NDArray[np.generic] | None) -> Frame | None:
        """Copy the next line into ``into``, (1, samples); None when there is none left.

        The first line has the time and the encoder's value of its frame; of the others the camera
        says nothing.
        """
        frame, row = self._frame, self._next
        if frame is None:
            return None
        if frame.complete and into is not None:
            into[0] = self._pixels[row]
        self._next += 1
        if self._next == self.height:
            self._frame = None
        line_id = frame.frame_id * self.height + row
        if row == 0:
            return replace(frame, frame_id=line_id)
        return replace(frame, frame_id=line_id, device_time_ns=NO_VALUE, encoder=NO_VALUE)

    def clear(self) -> None:
        """Forget the lines that are left, and the ids of this series."""
        self._frame = self._last_id = None
