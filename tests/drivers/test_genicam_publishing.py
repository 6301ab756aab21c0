"""viky through the publisher and a real link: ids in the ledger, a real loss accounted for."""

import importlib.util
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.genicam import GenicamCamera
from drivers.publisher import Publisher
from pipeline.config import CameraConfig, Rig, StreamConfig
from pipeline.layout import LineStatus, LossReason
from pipeline.slots import SlotRing
from pipeline.stream.driver_link import DriverLink
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import End

VIKY = str(Path(importlib.util.find_spec("genicam").origin).parent / "viky.cti")


class Stalling(GenicamCamera):
    """Fetches nothing for a while after the tenth frame, so that viky runs out of buffers."""

    fetched = 0

    def fetch(self, into, timeout_s):
        frame = super().fetch(into, timeout_s)
        if frame is not None:
            self.fetched += 1
            if self.fetched == 10:
                time.sleep(0.2)
        return frame


def test_a_stalled_driver_loses_lines_of_a_real_camera_and_counts_each():
    camera = CameraConfig(
        driver="genicam",
        producer=VIKY,
        serial="2",
        pixel_format="Mono8",
        fps=200.0,
        hroi=(1, 120),
        vroi=(1, 100),
        buffer_frames=8,
    )
    rig = Rig(camera=camera, stream=StreamConfig(block_lines=16))
    driver = DriverLink("tcp://127.0.0.1:*", driver="genicam")
    publisher = Publisher(Stalling(rig), rig, driver)
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    with EngineLink(driver.endpoint) as engine:
        engine.connect()
        info = engine.command("arm")[0]["camera"]
        assert (info["bands"], info["samples"]) == (100, 120)
        engine.ring = SlotRing(8, 16 * 100 * 120)
        engine.command("series", series="a", kind="scan", lines=100)
        rows, means = [], []
        while True:
            got = engine.receive(5)
            if isinstance(got, Block):
                rows.append(got.rows)
                means += got.pixels.mean((1, 2)).tolist()
                got.slot.release()
                engine.ack("a", got.header.seq)
            elif isinstance(got, End):
                engine.ack("a", 0, end=True)
                break
        engine.command("quit")
    thread.join(10)
    assert not thread.is_alive()
    ledger = np.concatenate(rows)
    lost = ledger["status"] == LineStatus.LOST
    assert ledger["frame_id"].tolist() == list(range(1, 101))
    assert ledger["line"].tolist() == list(range(100))
    assert got.lost == lost.sum() >= 10
    assert set(ledger["reason"][lost]) == {LossReason.CAMERA}
    assert (np.array(means)[lost] == 0).all()
    assert (np.array(means)[~lost] > 50).all()
