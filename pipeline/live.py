"""The live picture: preview rows, published while the scan runs, at most 25 times a second.

Takes the rows of the smallest preview level as the stages finish them and hands them on as strips
on the lossy preview socket; who does not listen costs nothing, who is slow misses strips, and
nothing here can hold up or fail a capture. Knows the preview socket only.
"""

from __future__ import annotations

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
MAX_WAITING: Final = 2 << 20


class LivePreview:
    """Gathers preview rows and publishes them; used by one thread at a time.

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
    """

    def __init__(
        self,
        publisher: PreviewPublisher,
        *,
        capture: str,
        factor: int,
        warn: Callable[[str], None],
    ) -> None:
        self._publisher: PreviewPublisher | None = publisher
        self._capture = capture
        self._factor = factor
        self._warn = warn
        self._rows: list[NDArray[Any]] = []
        self._waiting = 0
        self._next_row = 0
        self._last = 0.0

    def show(self, rows: NDArray[Any]) -> None:
        """Take finished rows, (rows, bands, samples): int16 reflectance or float32 counts."""
        if self._publisher is None or not len(rows):
            return
        self._rows.append(rows.copy())
        self._waiting += rows.nbytes
        if time.monotonic() - self._last >= PERIOD_S or self._waiting > MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Publish what waits."""
        if self._publisher is None or not self._rows:
            return
        strip = np.concatenate(self._rows)
        self._rows.clear()
        self._waiting = 0
        self._last = time.monotonic()
        reflectance = strip.dtype == np.int16
        try:
            self._publisher.publish(
                strip,
                capture=self._capture,
                line=self._next_row * self._factor,
                step=self._factor,
                scale=float(SCALE) if reflectance else 1.0,
                data_ignore=float(IGNORE) if reflectance else None,
            )
        except StreamError as error:
            self._warn(f"[output] preview_endpoint: given up: {error}")
            self.close()
        self._next_row += len(strip)

    def close(self) -> None:
        """Leave; safe to call twice."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
