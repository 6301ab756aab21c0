"""How fast blocks of 8 MiB come through, beside a bare PUSH/PULL; both from another process.

Skipped unless asked for: ``pytest -n0 --benchmark-only tests/stream``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from stream_flood import BLOCK

from pipeline.slots import SlotRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import End

BLOCKS = 150


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
@pytest.mark.parametrize("way", ["push", "link"])
def test_blocks_through(benchmark, ipc, way, transport):
    endpoint = ipc if transport == "ipc" else "tcp://127.0.0.1:45871"
    flood = Path(__file__).with_name("stream_flood.py")
    ring = SlotRing(8, BLOCK, populate=True)
    senders = []
    links = []

    def finish():
        for link in links:
            link.close()
        assert [sender.wait(20) for sender in senders] == [0] * len(senders)
        links.clear()
        senders.clear()

    def begin():
        finish()
        command = [sys.executable, str(flood), way, endpoint, str(BLOCKS)]
        senders.append(subprocess.Popen(command))
        if way == "link":
            links.append(EngineLink(endpoint, ring=ring))
            links[-1].connect()
            return (take_link, links[-1]), {}
        links.append(zmq.Context.instance().socket(zmq.PULL))
        links[-1].rcvhwm = 8
        links[-1].rcvtimeo = 10000
        links[-1].connect(endpoint)
        links[-1].poll(10000)
        return (take_pull, links[-1], ring), {}

    benchmark.pedantic(lambda take, *rest: take(*rest), setup=begin, rounds=3)
    benchmark.extra_info["gb_per_s"] = BLOCKS * BLOCK / 1e9 / benchmark.stats.stats.min
    print(f"{way} {transport}: {benchmark.extra_info['gb_per_s']:.2f} GB/s")
    finish()
    ring.close()
    zmq.Context.instance().term()


def take_link(link: EngineLink) -> None:
    while not isinstance(item := link.receive(5.0), End):
        if isinstance(item, Block):
            link.ack(item.header.series, item.header.seq)
            item.slot.release()
    assert item.blocks == BLOCKS
    link.ack(item.series, item.blocks, end=True)


def take_pull(socket: zmq.Socket, ring: SlotRing) -> None:
    for _ in range(BLOCKS):
        with ring.acquire() as slot:
            assert socket.recv_into(slot.memory) == BLOCK
