"""The live picture: preview rows, published while the scan runs, at most 25 times a second.

Takes the rows of the smallest preview level as the stages finish them, and the row that has begun,
and hands them on as strips on the lossy preview socket; who does not listen costs nothing, who is
slow misses strips, and nothing here can hold up or fail a capture. Knows the preview socket only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StreamError
from pipeline.reflectance import IGNORE, SCALE
from pipeline.stream.preview import PreviewPublisher

#: Shortest time between two strips, s.
PERIOD_S: Final = 1 / 25
#: Rows that may wait for the next strip; more are published at once, bytes.
MAX_WAITING: Final = 4 << 20


class LivePreview:
    """Gathers preview rows and publishes them; used by one thread at a time.

    A strip ends with the row that has begun, as far as it goes; the next strip begins with that
    row again. So at slow rates a line is seen when it comes, not when its row is full.

    Parameters
    ----------
    publisher : PreviewPublisher
        Bound; closed by :meth:`close`.
    capture : str
        Name of the capture, in each strip's header.
    factor : int
        Lines and samples of the cube to a preview pixel.
    warn : callable
        Receives one sentence when publishing fails; it is then given up.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        publisher: PreviewPublisher,
        *,
        capture: str,
        factor: int,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher: PreviewPublisher | None = publisher
        self._capture = capture
        self._factor = factor
        self._warn = warn
        self._clock = clock
        self._rows: list[NDArray[Any]] = []
        self._waiting = 0
        self._begun: Callable[[], NDArray[Any] | None] = lambda: None
        self._next_row = 0
        self._until = 0
        self._shown = 0
        self._due = -math.inf

    def show(
        self,
        rows: NDArray[Any] | None,
        until: int,
        begun: Callable[[], NDArray[Any] | None] = lambda: None,
    ) -> None:
        """Take what a block added, and publish it if it is time.

        Parameters
        ----------
        rows : ndarray, (rows, bands, samples), or None
            Finished rows: int16 reflectance or float32 counts; copied.
        until : int
            Lines of the cube that are in the picture by now.
        begun : callable
            Gives the row that follows them, with the lines it has so far, (1, bands, samples), or
            None. Called by this call or by a :meth:`flush` before the next one.
        """
        fresh = rows is not None and len(rows) > 0
        if self._publisher is None or (until <= self._until and not fresh):
            return
        if rows is not None and fresh:
            self._rows.append(rows.copy())
            self._waiting += rows.nbytes
        self._until, self._begun = until, begun
        if self._clock() >= self._due or self._waiting > MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Publish what waits."""
        if self._publisher is None or self._until == self._shown:
            return
        finished = sum(len(rows) for rows in self._rows)
        begun = self._begun()
        parts = self._rows if begun is None else [*self._rows, begun]
        if not parts:
            return
        strip = np.concatenate(parts)
        self._rows = []
        self._waiting = 0
        # A strip that is late by less than a period does not delay the one after it.
        now = self._clock()
        self._due = max(self._due, now - PERIOD_S) + PERIOD_S
        reflectance = strip.dtype == np.int16
        try:
            self._publisher.publish(
                strip,
                capture=self._capture,
                line=self._next_row * self._factor,
                until=self._until,
                step=self._factor,
                scale=float(SCALE) if reflectance else 1.0,
                data_ignore=float(IGNORE) if reflectance else None,
            )
        except StreamError as error:
            self._warn(f"[output] preview_endpoint: given up: {error}")
            self.close()
        self._next_row += finished
        self._shown = self._until

    def close(self) -> None:
        """Leave; safe to call twice."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
