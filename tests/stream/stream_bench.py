"""Both ends of a link in one process, over real sockets."""

from __future__ import annotations

import time

import numpy as np

from pipeline.layout import ledger_rows
from pipeline.slots import SlotRing
from pipeline.stream.driver_link import CommandReceived, DriverLink
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import PROTOCOL, Answer, CameraInfo, End, Start

BANDS, SAMPLES, BLOCK_LINES = 6, 50, 4
SLOT_BYTES = BLOCK_LINES * BANDS * SAMPLES * 2


def camera_info(**changes) -> CameraInfo:
    values = {
        "driver": "test",
        "sensor_type": "none",
        "bands": BANDS,
        "samples": SAMPLES,
        "data_type": 12,
        "bit_depth": 12,
        "saturation_level": 4095,
    }
    return CameraInfo(**(values | changes))


def pixels_of(seq: int, lines: int = BLOCK_LINES) -> np.ndarray:
    rng = np.random.default_rng(seq)
    return rng.integers(0, 4096, (lines, BANDS, SAMPLES), dtype=np.uint16)


class Bench:
    """A driver, engines, and the short exchanges that the tests are made of."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.rings: list[SlotRing] = []
        self.links: list[DriverLink | EngineLink] = []
        self.driver_ring = self.ring(16)
        self.events: list[object] = []

    def ring(self, count: int, slot_bytes: int = SLOT_BYTES) -> SlotRing:
        self.rings.append(SlotRing(count, slot_bytes))
        return self.rings[-1]

    def driver(self, **options) -> DriverLink:
        link = DriverLink(options.pop("endpoint", self.endpoint), driver="test", **options)
        self.links.append(link)
        return link

    def engine(self, endpoint: str | None = None, slots: int = 8, **options) -> EngineLink:
        link = EngineLink(endpoint or self.endpoint, **({"timeout_s": 8.0} | options))
        link.ring = self.ring(slots)
        self.links.append(link)
        return link

    def pump(self, driver: DriverLink, until, timeout_s: float = 8.0) -> None:
        """Poll the driver (which answers every command) until something is so."""
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, "the exchange did not get there in time"
            for event in driver.poll(0.01):
                self.events.append(event)
                if isinstance(event, CommandReceived):
                    driver.answer(Answer(id=event.command.id, value=dict(event.command.args)))

    def join(self, driver: DriverLink, engine: EngineLink) -> None:
        """Have them greet each other."""
        engine._io.start()
        self.pump(driver, lambda: engine.connected and driver.credits > 0)

    def start(self, driver: DriverLink, series: str = "s1", *, shared: bool = False) -> None:
        driver.start(
            Start(
                protocol=PROTOCOL,
                series=series,
                kind="scan",
                camera=camera_info(),
                block_lines=BLOCK_LINES,
            ),
            self.driver_ring if shared else None,
        )

    def send(self, driver: DriverLink, seq: int, meanwhile=lambda: None) -> None:
        """Send block ``seq``, whose pixels follow from its number."""
        deadline = time.monotonic() + 8.0
        while (slot := self.driver_ring.acquire()) is None:
            assert time.monotonic() < deadline, "no slot became free in time"
            self.events += driver.poll(0.005)
            meanwhile()
        pixels = pixels_of(seq)
        slot.array(pixels.shape, pixels.dtype)[:] = pixels
        rows = ledger_rows(BLOCK_LINES)
        rows["line"] = seq * BLOCK_LINES + np.arange(BLOCK_LINES)
        assert driver.send_block(seq * BLOCK_LINES, BLOCK_LINES, rows, slot, pixels.nbytes) == seq

    def end(self, driver: DriverLink, series: str = "s1") -> None:
        driver.end(End(series=series, blocks=0, stored=0, lost=0, reason="done"))

    def close(self) -> None:
        for link in self.links:
            link.close()
        for ring in self.rings:
            ring.close()


def check_block(block: object, seq: int) -> None:
    assert isinstance(block, Block), block
    assert block.header.seq == seq
    assert block.rows["line"].tolist() == [seq * BLOCK_LINES + i for i in range(BLOCK_LINES)]
    assert np.array_equal(block.pixels, pixels_of(seq))
