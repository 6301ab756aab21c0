"""Lines out of frames of a line scan, without a camera."""

import numpy as np
import pytest

pytest.importorskip("genicam", reason="the GenICam driver needs harvesters")

from drivers.camera import Frame
from drivers.gaps import FrameIds
from drivers.genicam_lines import FrameLines
from pipeline.layout import NO_VALUE

HEIGHT, WIDTH = 4, 3


def taken(lines, into=None):
    found = []
    while (frame := lines.take(into)) is not None:
        found.append((frame, None if into is None else into[0].tolist()))
    return found


def test_a_frame_that_comes_twice_is_no_new_lines():
    lines = FrameLines(HEIGHT, WIDTH, np.dtype("u2"), flipped=False)
    pixels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    into = np.zeros((1, WIDTH), np.uint16)
    lines.put(Frame(7, 1, device_time_ns=5, encoder=6), pixels)
    got = taken(lines, into)
    assert [frame.frame_id for frame, _ in got] == [28, 29, 30, 31]
    assert [row for _, row in got] == pixels.tolist()
    assert [frame.encoder for frame, _ in got] == [6, NO_VALUE, NO_VALUE, NO_VALUE]
    lines.put(Frame(7, 2), pixels)
    assert taken(lines) == []
    lines.clear()
    lines.put(Frame(7, 2), pixels)
    assert len(taken(lines)) == HEIGHT


@pytest.mark.parametrize("frames", [[65534, 65535, 1, 2], [65535, 2]])
def test_line_ids_wrap_where_frame_ids_do(frames):
    lines = FrameLines(HEIGHT, WIDTH, np.dtype("u1"), flipped=True)
    ids = FrameIds(*lines.ids(65535, 1))
    missing = 0
    for frame_id in frames:
        lines.put(Frame(frame_id, 0, complete=False), None)
        for frame, _ in taken(lines):
            step = ids.step(frame.frame_id)
            assert not step.restarted
            assert not step.repeated
            missing += step.missing
    assert missing == (0 if len(frames) == 4 else HEIGHT)
    assert lines.ids(0, 0) == (0, 0)
