"""References with the camera's own shutter: no hand is needed, and it is open again afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from capturing import SCENE_LINES, check, rig_file
from rigs import capture

import swath

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.genicam_nodes import Nodes
from drivers.genicam_shutter import Shutter
from pipeline.events import Event, Warned
from pipeline.reference_run import take_reference
from pipeline.rigfile import load_rig

BLACK = 64  # BlackLevel of the camera at power-on, counts


@pytest.fixture
def rig(producer, settings, scene, tmp_path):
    cube, playing = scene(lines=SCENE_LINES)
    settings(**playing.features())
    more = f'[references]\nlines = 10\nblack = "{tmp_path}/black.hdr"'
    return rig_file(tmp_path, producer, more=more), cube


def test_a_black_is_taken_without_a_hand(rig):
    path, _ = rig
    events: list[Event] = []
    from pipeline.events import EventBus

    bus = EventBus()
    bus.subscribe(events.append)
    header = take_reference(load_rig(path), "black", rig_path=path, bus=bus)
    assert [event.text for event in events if isinstance(event, Warned)] == []
    with swath.open(header) as black:
        assert np.all(np.asarray(black.raw) == BLACK)


def test_a_scan_after_its_black_sees_the_scene(rig):
    path, cube = rig
    result = capture(path, "references.black=take", lines=30)
    assert (result.exit_status, result.lost) == (0, 0)
    check(result.file, cube)
    with swath.open(result.file) as container:
        assert np.all(container.references["black"].array == BLACK)


class _NoShutter:
    def has_node(self, name):
        return False


def test_a_camera_without_one_asks_for_the_cap():
    assert Shutter(Nodes(_NoShutter())).spelling is None
