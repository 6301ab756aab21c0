"""The sending half of the benchmark, a process of its own: the link, or a bare PUSH socket.

``python stream_flood.py link|push ENDPOINT BLOCKS``; blocks of 8 MiB, straight from slots.
"""

from __future__ import annotations

import sys

import numpy as np
import zmq

from pipeline.layout import ledger_rows
from pipeline.slots import SlotRing
from pipeline.stream.driver_link import DriverLink
from pipeline.stream.messages import PROTOCOL, CameraInfo, End, Start

LINES, BANDS, SAMPLES = 16, 256, 1024
BLOCK = LINES * BANDS * SAMPLES * 2


def flood_link(endpoint: str, blocks: int) -> None:
    ring = SlotRing(8, BLOCK, populate=True)
    link = DriverLink(endpoint)
    while not link.credits:
        link.poll(0.1)
    camera = CameraInfo(
        driver="flood",
        sensor_type="",
        bands=BANDS,
        samples=SAMPLES,
        data_type=12,
        bit_depth=16,
        saturation_level=65535,
    )
    link.start(Start(protocol=PROTOCOL, series="s", kind="scan", camera=camera, block_lines=LINES))
    rows = ledger_rows(LINES)
    for seq in range(blocks):
        while (slot := ring.acquire()) is None:
            link.poll(0.1)
        rows["line"] = seq * LINES + np.arange(LINES)
        link.send_block(seq * LINES, LINES, rows, slot, BLOCK)
        link.poll(0)
    link.end(End(series="s", blocks=0, stored=0, lost=0, reason="done"))
    while not link.ended_acknowledged:
        link.poll(0.1)
    link.close()


def flood_push(endpoint: str, blocks: int) -> None:
    ring = SlotRing(8, BLOCK, populate=True)
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.sndhwm = 8
        socket.bind(endpoint)
        slots = [ring.acquire() for _ in range(8)]
        for seq in range(blocks):
            socket.send(slots[seq % 8].memory[:BLOCK], copy=False)
        socket.setsockopt(zmq.LINGER, 5000)


if __name__ == "__main__":
    {"link": flood_link, "push": flood_push}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
