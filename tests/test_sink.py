"""The sink on its own: stages that fail or fall behind never cost a raw line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swath
from pipeline.container.header import Header
from pipeline.container.writer import ContainerWriter, GrownEnvi
from pipeline.engine import EnginePlan, make_engine
from pipeline.errors import DeviceError
from pipeline.layout import LineStatus, ledger_rows
from pipeline.sink import Sink
from pipeline.slots import SlotRing
from pipeline.stream.link import Block
from pipeline.stream.messages import Lines

BANDS, SAMPLES, BLOCK = 5, 16, 8


def header(samples: int, bands: int, code: int) -> Header:
    return Header(
        {
            "samples": samples,
            "lines": 0,
            "bands": bands,
            "header offset": 0,
            "file type": "ENVI Standard",
            "data type": code,
            "interleave": "bil",
            "byte order": 0,
            "wavelength": list(range(1, bands + 1)),
            "wavelength units": "Index",
        }
    )


class Rig:
    """A writer, an engine and a ring, and blocks of counts that say where they belong."""

    def __init__(self, folder: Path, slots: int = 8, *, hurry: bool = True) -> None:
        self.plan = EnginePlan(
            bands=BANDS,
            samples=SAMPLES,
            dtype=np.dtype("u2"),
            block_lines=BLOCK,
            saturation_level=4095,
            backend="cpu",
            threads=1,
        )
        self.writer = ContainerWriter(
            folder / "a.hsi",
            header(SAMPLES, BANDS, 12),
            growing={"Exploration/quality": GrownEnvi("quality", header(SAMPLES, 6, 1))},
        )
        self.engine = make_engine(self.plan)
        self.ring = SlotRing(slots, BLOCK * BANDS * SAMPLES * 2)
        self.acknowledged: list[tuple[str, int, int]] = []
        self.warned: list[str] = []
        self.sink = Sink(
            self.writer,
            self.engine,
            store="raw",
            hurry=hurry,
            acknowledge=lambda series, seq: self.acknowledged.append(
                (series, seq, self.writer.lines)
            ),
            warn=self.warned.append,
        )

    def block(self, number: int) -> Block:
        slot = self.ring.acquire(5.0)
        assert slot is not None
        pixels: Any = slot.array((BLOCK, BANDS, SAMPLES), np.dtype("u2"))
        pixels[:] = number
        pixels[0, 0, 0] = 4095  # one saturated pixel a block
        rows = ledger_rows(BLOCK)
        rows["line"] = np.arange(number * BLOCK, (number + 1) * BLOCK)
        rows["frame_id"] = rows["line"] + 1
        head = Lines(series="s", seq=number, first_line=number * BLOCK, lines=BLOCK, rows=BLOCK)
        return Block(slot, head, rows, pixels)

    def finish(self) -> Path:
        self.sink.finish()
        self.sink.abort()
        self.engine.close()
        made = header(SAMPLES, BANDS, 12)
        made.set("bit depth", 12)
        return self.writer.finish(made, last={})


def test_a_block_is_acknowledged_when_its_lines_are_in_the_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for number in range(3):
        rig.sink.take(rig.block(number))
    assert rig.acknowledged == [("s", 0, 8), ("s", 1, 16), ("s", 2, 24)]
    with swath.open(rig.finish()) as cube:
        assert cube.ledger["saturated"].tolist() == ([1] + [0] * 7) * 3
        assert np.all(cube.ledger["status"] == LineStatus.OK)
        assert np.array_equal(cube.raw[:, 1, 1], np.repeat([0, 1, 2], BLOCK))
    assert rig.ring.free == rig.ring.count


def test_lines_that_found_no_room_are_looked_at_later(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    keep = [rig.ring.acquire() for _ in range(6)]  # less than a quarter of the ring is free
    for number in range(6):
        rig.sink.take(rig.block(number))
    for slot in keep:
        assert slot is not None
        slot.release()
    file = rig.finish()
    assert rig.sink.made_up == 6 * BLOCK
    with swath.open(file) as cube:
        assert np.all(cube.ledger["status"] == LineStatus.OK)
        assert cube.ledger["saturated"].tolist() == ([1] + [0] * 7) * 6
        quality = cube.entry("Exploration/quality.envi")
        assert len(quality) == 6 * BLOCK * 6 * SAMPLES
    assert rig.ring.free == rig.ring.count


def test_a_source_that_waits_waits_for_the_stages(tmp_path: Path) -> None:
    rig = Rig(tmp_path, hurry=False)
    keep = [rig.ring.acquire() for _ in range(6)]
    for number in range(6):
        rig.sink.take(rig.block(number))
    file = rig.finish()
    assert rig.sink.made_up == 0
    with swath.open(file) as cube:
        assert np.all(cube.ledger["status"] == LineStatus.OK)
    for slot in keep:
        assert slot is not None
        slot.release()


class DeepEngine:
    """An engine that has three blocks under way, as one on a GPU has; the slots must stay."""

    depth = 3

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._blocks: list[tuple[Any, Any, Any]] = []
        self.pins: list[tuple[str, int]] = []
        self.deepest = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def pin(self, memory: memoryview) -> None:
        self.pins.append(("pin", len(memory)))

    def unpin(self, memory: memoryview) -> None:
        assert not self._blocks
        self.pins.append(("unpin", len(memory)))

    def submit(self, raw: Any, valid: Any = None) -> None:
        assert len(self._blocks) < self.depth
        self._blocks.append((raw, raw.copy(), valid))
        self.deepest = max(self.deepest, len(self._blocks))

    def collect(self) -> Any:
        raw, copy, valid = self._blocks.pop(0)
        assert np.array_equal(raw, copy)
        return self._engine.process(raw, valid)


def test_a_deep_engine_has_several_blocks_under_way(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    deep = rig.sink._engine = DeepEngine(rig.engine)  # type: ignore[assignment]
    with rig.sink._backlog._changed:  # the stages see all of them at once
        for number in range(5):
            rig.sink.take(rig.block(number))
    with swath.open(rig.finish()) as cube:
        assert cube.ledger["saturated"].tolist() == ([1] + [0] * 7) * 5
        assert np.all(cube.ledger["status"] == LineStatus.OK)
    assert deep.deepest == 3
    assert deep.pins == [("pin", len(rig.ring.memory))]
    assert rig.ring.free == rig.ring.count


@pytest.mark.parametrize("step", ["submit", "collect"])
@pytest.mark.parametrize("error", [DeviceError("the GPU went away"), ValueError("a bug")])
def test_stages_that_fail_cost_no_line_and_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    rig = Rig(tmp_path)
    do = getattr(rig.engine, step)
    calls = []

    def broken(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise error
        return do(*args)

    monkeypatch.setattr(rig.engine, step, broken)
    for number in range(5):
        rig.sink.take(rig.block(number))
    file = rig.finish()
    assert "stages stopped at line 16" in rig.sink.failure
    assert len(rig.warned) == 1
    with swath.open(file) as cube:
        assert np.array_equal(cube.raw[:, 1, 1], np.repeat(range(5), BLOCK))
        assert np.all(cube.ledger["status"][:16] == LineStatus.OK)
        assert np.all(cube.ledger["status"][16:] == LineStatus.NOT_INSPECTED)
    assert rig.ring.free == rig.ring.count
