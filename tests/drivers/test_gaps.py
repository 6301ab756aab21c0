"""Frame ids become gaps: whatever is lost, repeated or wrapped, the count is right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.gaps import LATE_WINDOW, FrameIds, Loss, Losses, restart_gap
from pipeline.layout import NO_VALUE, LineStatus, LossReason, lost_count


def wrapped(index: int, largest: int, first: int) -> int:
    """The id that a counter from ``first`` to ``largest`` shows for frame ``index``."""
    return first + (index - first) % (largest - first + 1)


@given(
    start=st.integers(1, 200_000),
    gaps=st.lists(st.integers(0, 2000), max_size=60),
    counter=st.sampled_from([(0, 0), (65535, 1), (65535, 0), (255, 0)]),
)
@settings(max_examples=200, deadline=None)
def test_every_lost_frame_is_counted_whatever_the_counter_wraps_at(start, gaps, counter):
    largest, first = counter
    gaps = [min(gap, (largest or 10_000) // 2 - 2) for gap in gaps]
    ids = FrameIds(largest, first)
    index = start
    shown = wrapped(index, largest, first) if largest else index
    base = ids.step(shown).frame_id
    for gap in gaps:
        index += 1 + gap
        shown = wrapped(index, largest, first) if largest else index
        step = ids.step(shown)
        assert step.missing == gap
        assert not step.repeated
        assert not step.restarted
        assert step.frame_id - base == index - start


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=50),
    st.sampled_from([(0, 0), (65535, 1)]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_ids_come_the_unwrapped_ones_grow(raw, counter):
    ids = FrameIds(*counter)
    last = None
    for frame_id in raw:
        step = ids.step(frame_id)
        assert step.missing >= 0
        if not step.repeated:
            if step.restarted:
                assert (step.frame_id, step.missing) == (frame_id, 0)
            else:
                assert last is None or step.frame_id == last + 1 + step.missing
            last = step.frame_id
        assert ids.last == last


def test_a_16_bit_id_follows_65535_with_1():
    ids = FrameIds(65535, 1)
    assert [ids.step(i).missing for i in (65534, 65535, 1, 2, 5)] == [0, 0, 0, 0, 2]
    assert ids.last == 65540


def test_an_id_beyond_the_stated_largest_shows_that_the_counter_is_longer():
    ids = FrameIds(65535, 1)
    assert [ids.step(i).missing for i in (65535, 65536, 65540)] == [0, 0, 3]


def test_a_repeated_or_late_frame_is_no_new_line():
    ids = FrameIds(0, 0)
    steps = [ids.step(i) for i in (100, 103, 103, 102, 104)]
    assert [s.repeated for s in steps] == [False, False, True, True, False]
    assert [s.missing for s in steps] == [0, 2, 0, 0, 0]
    assert steps[3].frame_id == 102


@pytest.mark.parametrize("new", [1, 1000 - LATE_WINDOW - 1])
def test_a_counter_that_begins_anew_goes_on_from_its_new_id(new):
    ids = FrameIds(0, 1)
    ids.step(999)
    ids.step(1000)
    step = ids.step(new)
    assert step.restarted
    assert step.missing == 0
    assert step.frame_id == new
    assert ids.step(new + 3).missing == 2


def test_what_is_missing_before_the_first_frame_shows_where_its_id_is_expected():
    ids = FrameIds(0, 1)
    ids.expect(7)
    assert ids.step(10).missing == 3


def test_consecutive_losses_with_one_reason_are_one_run():
    losses = Losses(fill=False, max_gap_lines=1000)
    losses.add(Loss(2, LossReason.NO_ROOM, 10, 5))
    losses.add(Loss(1, LossReason.NO_ROOM, 12, 6))
    losses.add(Loss(4, LossReason.CAMERA, 13, 7, epoch=3))
    losses.add(Loss(0, LossReason.CAMERA, 17, 7))
    assert losses.lines == 7
    first, second = losses.take_gap(), losses.take_gap()
    assert not losses
    assert first["count"].tolist() == [3]
    assert first["line"].tolist() == [-1]
    assert first["reason"].tolist() == [LossReason.NO_ROOM]
    assert second["count"].tolist() == [4]
    assert second["epoch"].tolist() == [3]
    assert lost_count(np.concatenate([first, second])) == 7


def test_losses_of_two_epochs_are_two_runs():
    losses = Losses(fill=False, max_gap_lines=1000)
    losses.add(Loss(2, LossReason.NO_ROOM, 10, 5, epoch=0))
    losses.add(Loss(3, LossReason.NO_ROOM, 12, 6, epoch=1))
    rows = np.concatenate([losses.take_gap(), losses.take_gap()])
    assert rows["count"].tolist() == [2, 3]
    assert rows["epoch"].tolist() == [0, 1]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from(list(LossReason)[1:])), min_size=1),
    st.integers(1, 17),
)
def test_filled_lines_keep_count_place_and_frame_id(runs, room):
    losses = Losses(fill=True, max_gap_lines=10**6)
    frame_id = 50
    for count, reason in runs:
        losses.add(Loss(count, reason, frame_id, 1))
        frame_id += count
    total, line = losses.lines, 7
    assert losses.filled
    while losses:
        rows = losses.take_filled(room, line)
        assert 0 < len(rows) <= room
        assert rows["line"].tolist() == list(range(line, line + len(rows)))
        assert (rows["frame_id"] - rows["line"] == 50 - 7).all()
        assert (rows["status"] == LineStatus.LOST).all()
        line += len(rows)
    assert line - 7 == total


@pytest.mark.parametrize(
    ("fill", "count", "filled"), [(True, 10, True), (True, 11, False), (False, 1, False)]
)
def test_a_gap_is_filled_up_to_the_largest_that_the_rig_allows(fill, count, filled):
    losses = Losses(fill=fill, max_gap_lines=10)
    losses.add(Loss(count, LossReason.CAMERA, 1, 1))
    assert losses.filled is filled


SECOND = 1_000_000_000


def test_the_gap_of_a_restart_follows_from_time_and_rate():
    assert restart_gap((1 * SECOND, 3 * SECOND), 100.0) == 199
    assert restart_gap((1 * SECOND, 1 * SECOND + SECOND // 100), 100.0) == 0
    assert restart_gap((0, 3 * SECOND), 100.0) == 0
    assert restart_gap((1 * SECOND, 3 * SECOND), None) == 0
    assert restart_gap((3 * SECOND, 1 * SECOND), 100.0) == 0


@pytest.mark.parametrize(
    ("host_s", "device_s", "lines"),
    [
        (0.03, (5.0, 5.01), 0),  # the host was late to fetch, the camera made no pause
        (0.002, (5.0, 5.02), 1),  # it caught up with what had waited
        (2.0, (5.0, 6.9), 189),
        (2.0, (5.0, 0.1), 199),  # the camera's clock began anew …
        (2.0, (0.3, 0.4), 199),  # … and says nothing, though it is later
        (2.0, (0.1, 60.0), 199),
    ],
)
def test_the_cameras_clock_is_believed_where_it_went_on(host_s, device_s, lines):
    host = (SECOND, SECOND + round(host_s * SECOND))
    device = tuple(round(s * SECOND) for s in device_s)
    assert restart_gap(host, 100.0, device) == lines


def test_a_camera_without_a_clock_is_timed_by_the_host():
    assert restart_gap((SECOND, 3 * SECOND), 100.0, (NO_VALUE, 5 * SECOND)) == 199
    assert restart_gap((SECOND, 3 * SECOND), 100.0, (5 * SECOND, NO_VALUE)) == 199
