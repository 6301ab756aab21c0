"""The live picture: when strips leave, what is in them, and that rows come again until full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import StreamError
from pipeline.live import MAX_WAITING, PERIOD_S, LivePreview

FACTOR = 4


class Publisher:
    """Keeps what is published; fails when told to."""

    def __init__(self) -> None:
        self.strips: list[tuple[int, int, NDArray[Any]]] = []
        self.closed = False
        self.fails = False

    def publish(self, pixels: NDArray[Any], *, line: int, until: int, **_: Any) -> bool:
        if self.fails:
            raise StreamError("no")
        self.strips.append((line, until, pixels.copy()))
        return True

    def close(self) -> None:
        self.closed = True


class Scan:
    """A scan whose line n has the value n, seen as rows of FACTOR lines of one pixel."""

    def __init__(self) -> None:
        self.now = 100.0
        self.publisher = Publisher()
        self.warnings: list[str] = []
        self.lines = 0
        publisher: Any = self.publisher
        self.live = LivePreview(
            publisher,
            capture="c",
            factor=FACTOR,
            warn=self.warnings.append,
            clock=lambda: self.now,
        )

    def take(self, lines: int, *, after_s: float = 1.0, width: int = 1) -> None:
        self.now += after_s
        first, self.lines = self.lines // FACTOR, self.lines + lines
        rows = np.zeros((self.lines // FACTOR - first, 1, width), np.float32)
        for i in range(len(rows)):
            rows[i] = np.arange((first + i) * FACTOR, (first + i + 1) * FACTOR).mean()
        self.live.show(rows if len(rows) else None, self.lines, self.begun)

    def begun(self) -> NDArray[Any] | None:
        first = self.lines // FACTOR * FACTOR
        if first == self.lines:
            return None
        return np.full((1, 1, 1), np.arange(first, self.lines).mean(), np.float32)

    def seen(self) -> list[tuple[int, int, list[float]]]:
        return [(line, until, p.ravel().tolist()) for line, until, p in self.publisher.strips]


def test_a_line_is_seen_when_it_comes_and_its_row_again_when_more_is_known() -> None:
    scan = Scan()
    for _ in range(5):
        scan.take(1)
    rows = [[0.0], [0.5], [1.0], [1.5], [4.0]]
    places = [(0, 1), (0, 2), (0, 3), (0, 4), (4, 5)]
    assert scan.seen() == [(*place, row) for place, row in zip(places, rows, strict=True)]


def test_whole_rows_and_the_one_behind_them_make_one_strip() -> None:
    scan = Scan()
    scan.take(10)
    scan.take(2)
    scan.take(4)
    assert scan.seen() == [(0, 10, [1.5, 5.5, 8.5]), (8, 12, [9.5]), (12, 16, [13.5])]


def test_what_comes_too_soon_waits_and_is_flushed_with_the_newest_lines() -> None:
    scan = Scan()
    scan.take(2)
    scan.take(2, after_s=0.0)  # after a pause there may be two at once
    scan.take(1, after_s=0.3 * PERIOD_S)
    scan.take(4, after_s=0.3 * PERIOD_S)
    assert len(scan.publisher.strips) == 2
    scan.live.flush()
    assert scan.seen()[2:] == [(4, 9, [5.5, 8.0])]
    scan.live.flush()
    assert len(scan.publisher.strips) == 3, "nothing new, nothing to show"


@pytest.mark.parametrize("period", [0.3, 0.58, 0.97, 1.0])
def test_quick_blocks_make_25_pictures_a_second_no_more_and_hardly_fewer(period: float) -> None:
    scan = Scan()
    blocks = round(10 / (period * PERIOD_S))
    for _ in range(blocks):
        scan.take(3, after_s=period * PERIOD_S)
    seconds = blocks * period * PERIOD_S
    assert 0.96 * 25 * seconds - 1 <= len(scan.publisher.strips) <= 25 * seconds + 2
    line = 0
    for first, until, _ in scan.seen():
        assert first == line // FACTOR * FACTOR
        line = until


def test_much_that_waits_does_not_wait() -> None:
    scan = Scan()
    width = MAX_WAITING // 4
    for _ in range(2):
        scan.take(4, after_s=0.0, width=width)
    assert len(scan.publisher.strips) == 2
    scan.take(4, after_s=0.0, width=width)
    assert len(scan.publisher.strips) == 2
    scan.take(4, after_s=0.0, width=width)
    assert len(scan.publisher.strips) == 3


def test_the_end_of_a_scan_shows_a_row_that_never_filled() -> None:
    scan = Scan()
    scan.take(4)
    scan.take(2, after_s=0.0)
    # The stages finish: the row is complete as it is, and nothing has begun behind it.
    scan.live.show(np.full((1, 1, 1), 4.5, np.float32), scan.lines)
    scan.live.flush()
    assert scan.seen() == [(0, 4, [1.5]), (4, 6, [4.5])]
    scan.live.flush()
    assert len(scan.publisher.strips) == 2


def test_rows_are_copied() -> None:
    scan = Scan()
    rows = np.full((1, 1, 1), 3.0, np.float32)
    scan.take(1)
    scan.live.show(rows, 4)
    rows[:] = 9.0
    scan.live.flush()
    assert scan.seen()[-1] == (0, 4, [3.0])


def test_a_socket_that_fails_costs_one_warning_and_no_more() -> None:
    scan = Scan()
    scan.publisher.fails = True
    scan.take(4)
    scan.take(4)
    scan.live.flush()
    assert len(scan.warnings) == 1
    assert "preview_endpoint" in scan.warnings[0]
    assert scan.publisher.closed
