"""What a recording says about its lines, and its header fields as text.

Turns a ledger into arrays by line of the cube: where each line stood in the scene (lost lines
before it included), which ones are lost, when they were due. Knows the ledger row and headers;
nothing of cameras and pace.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from pipeline.container.fields import STRUCTURE, normalise
from pipeline.container.header import Header
from pipeline.layout import NO_VALUE, LedgerRows, LineStatus, LossReason, ledger_rows


class Recording:
    """The lines of a recording.

    Parameters
    ----------
    ledger : ndarray of LEDGER_DTYPE
        May be empty; one that does not fit the cube is not used.
    lines : int
        Lines of the cube.
    warnings : list of str
        Is appended to.

    Attributes
    ----------
    lines : int
        Lines of the cube.
    position : ndarray of int64, (lines,)
        Place of each line in the scene, from 0; gaps that are not stored count.
    length : int
        Lines of the scene, those of a gap at the end included.
    trailing : int
        Lines of a gap at the end that is not stored; no frame follows to show it.
    lost, incomplete : ndarray of bool, (lines,)
        Filled lines, and lines of which only a part came.
    first_id : int
        Frame id of the scene's first line.
    seconds : ndarray of float64, (lines,), or None
        When each line came after the first; None where the ledger does not say.
    loop_seconds : float
        From the first line of a loop to that of the next; 0 where unknown.
    """

    def __init__(self, ledger: LedgerRows, lines: int, warnings: list[str]) -> None:
        self.lines = lines
        self.position = np.arange(lines)
        self.length = lines
        self.lost = np.zeros(lines, bool)
        self.incomplete = np.zeros(lines, bool)
        self.first_id = 1
        self.seconds: NDArray[np.float64] | None = None
        self.loop_seconds = 0.0
        self._rows: LedgerRows | None = None
        if ledger.size:
            stored = ledger[ledger["line"] >= 0]
            if np.array_equal(stored["line"], np.arange(lines)):
                self._take(ledger, stored)
            else:
                warnings.append(
                    f"the ledger of the replayed file has {stored.size} lines that do not fit the "
                    f"{lines} of its cube, it is not used"
                )
        self.trailing = self.length - 1 - int(self.position[-1])
        held = np.flatnonzero(~self.lost)
        self._held = (int(held[0]), int(held[-1])) if held.size else (lines, -1)

    def outside(self, line: int) -> bool:
        """Whether a lost line stands before the first or behind the last that was not lost."""
        return not self._held[0] <= line <= self._held[1]

    @property
    def fps(self) -> float | None:
        """Mean lines a second, Hz; None where the ledger does not say."""
        return self.length / self.loop_seconds if self.loop_seconds > 0 else None

    def frame_id(self, loop: int, line: int) -> int:
        """Give the frame id of a line of the cube, the loops before it counted."""
        return self.first_id + loop * self.length + int(self.position[line])

    def plain(self, line: int, most: int) -> int:
        """Count the lines from ``line`` on, at most so many, that are whole and follow each other.

        Each of them is the next line of the scene after the one before.
        """
        end = min(line + most, self.lines)
        odd = self.lost[line:end] | self.incomplete[line:end]
        odd[1:] |= np.diff(self.position[line:end]) != 1
        return int(np.argmax(odd)) if odd.any() else end - line

    def rows(self, loop: int, line: int, count: int) -> LedgerRows:
        """Make the ledger rows of so many lines of the cube as a camera gives them.

        Host times are those of the recording, later by its length with each loop, or now where it
        has none; ``line`` and ``epoch`` are left to the driver, so are losses.
        """
        rows = ledger_rows(count)
        base = self.first_id + loop * self.length
        rows["frame_id"] = base + self.position[line : line + count]
        rows["host_time_ns"] = time.time_ns()
        if self._rows is None:
            return rows
        own = self._rows[line : line + count]
        later = loop * round(self.loop_seconds * 1e9)
        known = own["host_time_ns"] > 0
        rows["host_time_ns"][known] = own["host_time_ns"][known] + later
        known = own["device_time_ns"] != NO_VALUE
        rows["device_time_ns"][known] = own["device_time_ns"][known] + later
        for name in ("encoder", "exposure_ms", "temperature_c"):
            rows[name] = own[name]
        return rows

    def _take(self, ledger: LedgerRows, stored: LedgerRows) -> None:
        self._rows = stored
        counts = np.where(ledger["line"] >= 0, 1, ledger["count"].astype(np.int64))
        ends = np.cumsum(counts)
        self.position = (ends - counts)[ledger["line"] >= 0]
        self.length = int(ends[-1])
        self.lost = stored["status"] == LineStatus.LOST
        self.incomplete = stored["status"] == LineStatus.INCOMPLETE
        self._take_ids(stored)
        self._take_times(stored["host_time_ns"].astype(np.int64))

    def _take_ids(self, stored: LedgerRows) -> None:
        """Go on with the camera's ids where they are one row in one epoch."""
        # The ids of lines that never came may be unknown.
        came = ~self.lost | (stored["reason"] == LossReason.INCOMPLETE)
        ids = stored["frame_id"][came].astype(np.int64) - self.position[came]
        if ids.size and (ids == ids[0]).all() and ids[0] >= 0:
            self.first_id = int(ids[0])

    def _take_times(self, host_ns: NDArray[np.int64]) -> None:
        """Take the pace from the host's times, where every line that came has one."""
        came = np.flatnonzero(~self.lost)
        times = host_ns[came]
        if came.size < 2 or (times <= 0).any() or times[-1] <= times[0]:
            return
        since = np.maximum.accumulate(times - times[0]) * 1e-9
        steps = self.position[came[-1]] - self.position[came[0]]
        step = float(since[-1]) / int(steps)
        before = float(self.position[came[0]]) * step
        seconds = np.interp(self.position, self.position[came], since)
        # Beyond both ends lines follow each other at the mean pace.
        behind = np.maximum(self.position - self.position[came[-1]], 0)
        early = np.minimum(self.position - self.position[came[0]], 0)
        self.seconds = np.asarray(seconds + (behind + early) * step + before, np.float64)
        self.loop_seconds = self.length * step


def source_fields(header: Header) -> list[tuple[str, str]]:
    """Give the fields of a header that do not describe its bytes, as (name, text) in order.

    ``name = text`` is the field as the project writes it; a list keeps its braces and may run over
    several lines.
    """
    fields: list[tuple[str, str]] = []
    depth = 0
    for line in header.text().split("\n")[1:]:
        if depth > 0:
            name, text = fields.pop()
            text += "\n" + line
        else:
            name, equals, text = (part.strip() for part in line.partition("="))
            if not equals:
                continue
        if depth > 0 or text.startswith("{"):
            depth = text.count("{") - text.count("}")
        fields.append((name, text))
    return [(name, text) for name, text in fields if normalise(name) not in STRUCTURE]
