"""Which lines are missing: frame ids unwrapped and compared, and the ledger rows of what is lost.

Pure logic: a frame id goes in, the number of lines that were lost before it comes out. Knows the
ledger row and nothing of cameras, slots or the link. Gaps are counted from frame ids only, never
from a camera's events (those are lost with the frames they speak of).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.layout import NO_VALUE, LedgerRows, LineStatus, LossReason, ledger_rows

#: A frame this many ids back is a late or repeated one; one further back means that the camera
#: began to count anew. Producers deliver in order, so both are rare and the border is a guess.
LATE_WINDOW = 8
#: The longest that a frame is taken to have waited before it was fetched, ns.
FETCH_DELAY_NS = 500_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame id says.

    Attributes
    ----------
    frame_id : int
        Unwrapped: it grows by one a frame within an epoch, also when the camera's counter wraps.
    missing : int
        Frames lost between the one before and this one.
    repeated : bool
        The frame came again, or so late that its place is taken: it is not a new line.
    restarted : bool
        The camera began to count anew: an epoch begins with this frame, and its id says nothing
        about what was lost before it.
    """

    frame_id: int
    missing: int = 0
    repeated: bool = False
    restarted: bool = False


class FrameIds:
    """Unwraps the frame ids of a series and counts what is missing between them.

    Parameters
    ----------
    frame_id_max, frame_id_first : int
        The id after ``frame_id_max`` is ``frame_id_first`` (65535 → 1 with 16-bit GigE Vision
        ids); 0: ids never wrap. A camera that is said to wrap and still delivers a larger id
        counts further than was thought, and wraps no more from then on.
    """

    def __init__(self, frame_id_max: int = 0, frame_id_first: int = 0) -> None:
        self._max = frame_id_max
        self._first = frame_id_first
        self._raw: int | None = None
        self._unwrapped = 0

    @property
    def last(self) -> int | None:
        """The unwrapped id of the newest frame, None before the first."""
        return None if self._raw is None else self._unwrapped

    def expect(self, frame_id: int) -> None:
        """Know the id that the first frame has if none is missing before it."""
        self._raw = self._unwrapped = frame_id - 1

    def step(self, frame_id: int) -> Step:
        """Take the id of the next frame."""
        if frame_id > self._max:
            self._max = 0
        if self._raw is None:
            self._raw = self._unwrapped = frame_id
            return Step(frame_id)
        ahead = frame_id - self._raw
        if self._max:
            # Of the two ways round the counter the shorter one is taken.
            period = self._max - self._first + 1
            ahead = (ahead + period // 2) % period - period // 2
        if ahead <= 0:
            began_anew = frame_id == self._first and ahead < 0
            if -ahead <= LATE_WINDOW and not began_anew:
                return Step(self._unwrapped + ahead, repeated=True)
            self._raw = self._unwrapped = frame_id
            return Step(frame_id, restarted=True)
        self._raw = frame_id
        self._unwrapped += ahead
        return Step(self._unwrapped, missing=ahead - 1)

    def run(self, frame_ids: NDArray[np.uint64]) -> bool:
        """Take the ids of frames that came together; False when they do not follow each other.

        Then none of them is taken.
        """
        first = int(frame_ids[0])
        if self._max or first != (first if self._raw is None else self._unwrapped + 1):
            return False
        if (np.diff(frame_ids) != 1).any():
            return False
        self._raw = self._unwrapped = int(frame_ids[-1])
        return True


@dataclass(slots=True)
class Loss:
    """A run of consecutive lost lines with one reason, not yet written anywhere.

    ``frame_id``: of the first of them, 0 where nobody knows. ``host_time_ns``: when it was seen.
    ``epoch``: written to the rows.
    """

    count: int
    reason: LossReason
    frame_id: int
    host_time_ns: int
    epoch: int = 0

    def joins(self, other: Loss) -> bool:
        """Tell whether ``other`` goes on where this run ends, for the same reason."""
        ids = bool(self.frame_id) == bool(other.frame_id)
        follows = not self.frame_id or self.frame_id + self.count == other.frame_id
        alike = self.reason == other.reason and self.epoch == other.epoch
        return alike and ids and follows


class Losses:
    """Runs of lost lines that wait for their place in the stream, oldest first.

    Parameters
    ----------
    fill : bool
        Lost lines keep their place in the cube (``gaps = "fill"``).
    max_gap_lines : int
        A gap of more lines is not filled.
    """

    def __init__(self, *, fill: bool, max_gap_lines: int) -> None:
        self._fill = fill
        self._max_gap_lines = max_gap_lines
        self._runs: deque[Loss] = deque()

    def __bool__(self) -> bool:
        return bool(self._runs)

    @property
    def lines(self) -> int:
        """Lines of all runs together: the length of the gap."""
        return sum(run.count for run in self._runs)

    @property
    def filled(self) -> bool:
        """Whether the gap as it is now keeps its place in the cube."""
        return self._fill and self.lines <= self._max_gap_lines

    def add(self, loss: Loss) -> None:
        """Append a run; one that goes on where the last ends, for the same reason, joins it."""
        if loss.count <= 0:
            return
        if self._runs and self._runs[-1].joins(loss):
            self._runs[-1].count += loss.count
        else:
            self._runs.append(loss)

    def take_filled(self, lines: int, first_line: int) -> LedgerRows:
        """Take up to ``lines`` lost lines of the oldest run as rows that keep their place.

        Parameters
        ----------
        lines : int
            How many there is room for.
        first_line : int
            Index in the cube of the first of them.
        """
        run = self._runs[0]
        count = min(lines, run.count)
        rows = self._rows(run, count)
        for index in range(count):
            rows[index]["line"] = first_line + index
            if run.frame_id:
                rows[index]["frame_id"] = run.frame_id + index
        run.count -= count
        if run.frame_id:
            run.frame_id += count
        if not run.count:
            self._runs.popleft()
        return rows

    def take_gap(self) -> LedgerRows:
        """Take the oldest run as the one row of a gap that is not stored."""
        run = self._runs.popleft()
        rows = self._rows(run, 1)
        rows["count"] = run.count
        return rows

    def _rows(self, run: Loss, count: int) -> LedgerRows:
        rows = ledger_rows(count)
        rows["frame_id"] = run.frame_id
        rows["host_time_ns"] = run.host_time_ns
        rows["device_time_ns"] = NO_VALUE
        rows["epoch"] = run.epoch
        rows["status"] = LineStatus.LOST
        rows["reason"] = run.reason
        return rows


def restart_gap(
    host_times_ns: tuple[int, int],
    fps: float | None,
    device_times_ns: tuple[int, int] = (NO_VALUE, NO_VALUE),
) -> int:
    """Count the lines that passed while the camera was away, from time and rate.

    The camera's own clock is believed where it went on: a host's times are those of fetching, which
    a busy machine shakes by more than a line. It went on where both clocks agree on how long it
    took, but for what frames may wait before they are fetched (``FETCH_DELAY_NS``).

    Parameters
    ----------
    host_times_ns : (int, int)
        Of the last line of the epoch before, 0 when there was none, and of the first frame of this
        epoch.
    fps : float or None
        Lines a second, Hz.
    device_times_ns : (int, int)
        The camera's times of the same two, ``NO_VALUE`` where it does not say.
    """
    before_ns, first_ns = host_times_ns
    if before_ns <= 0 or not fps or first_ns <= before_ns:
        return 0
    away_ns = first_ns - before_ns
    if NO_VALUE not in device_times_ns:
        by_device_ns = device_times_ns[1] - device_times_ns[0]
        if by_device_ns > 0 and abs(by_device_ns - away_ns) <= FETCH_DELAY_NS:
            away_ns = by_device_ns
    return max(0, round(away_ns * 1e-9 * fps) - 1)
