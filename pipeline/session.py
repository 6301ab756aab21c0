"""A session with one driver: its process, the link to it, and series of lines that go on.

Everything that can go away and come back is dealt with here: a camera that is unplugged, a driver
process that dies, a link that breaks. The capture sees one stream of blocks per series; lines that
were missed in between arrive as ledger rows of the next epoch. Knows slots, stream, supervise and
events; not what is done with the lines.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from threading import Event as Flag
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.config import Rig
from pipeline.errors import CameraError, StreamTimeoutError, SwathError
from pipeline.events import EventBus, Phase, PhaseKind, Warned
from pipeline.slots import SlotRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import MAX_MESSAGE, CameraInfo, End, Start
from pipeline.stream.security import private_endpoint
from pipeline.supervise import DriverProcess

#: How long a camera or driver may be away before the series is given up, s.
AWAY_S = 30.0
#: How long a driver process of our own may take to listen, s.
COLD_START_S = 30.0
#: How long to wait between two looks for a block, s; also the pace of progress.
TICK_S = 0.1


class Session:
    """One driver, from its start to its end.

    Parameters
    ----------
    rig : Rig
        The rig file.
    rig_path : Path
        Its file: the driver process reads it again.
    overrides : sequence of str
        ``KEY=VALUE`` as given with ``--set``.
    endpoint : str or None
        Where a driver that runs already listens; None starts one of our own.
    bus : EventBus
        Where warnings go.
    stop : threading.Event
        When set, a running series is ended and drained.

    Raises
    ------
    SwathError
        From ``open`` and ``arm``: when the driver cannot be started or armed.
    """

    def __init__(
        self,
        rig: Rig,
        *,
        rig_path: Path,
        overrides: tuple[str, ...],
        endpoint: str | None,
        bus: EventBus,
        stop: Flag,
    ) -> None:
        self._rig = rig
        self._bus = bus
        self._stop = stop
        self._cleanup: Callable[[], None] = lambda: None
        self._driver: DriverProcess | None = None
        self.endpoint = endpoint or rig.stream.endpoint
        if endpoint is None:
            if not self.endpoint:
                self.endpoint, self._cleanup = private_endpoint()
            self._driver = DriverProcess(rig_path, self.endpoint, overrides=overrides)
        self.link = EngineLink(
            self.endpoint,
            curve=rig.stream.curve,
            insecure=rig.stream.insecure,
            timeout_s=rig.stream.timeout_s,
        )
        self.ring: SlotRing | None = None
        self.epoch = 0
        self.block_lines = rig.stream.block_lines
        self.error = ""

    def open(self) -> None:
        """Start the driver (where it is ours) and greet it."""
        if self._driver is not None:
            self._driver.start()
        self._connect()

    def _connect(self) -> None:
        # A cold start compiles and imports; it may take longer than an answer may.
        deadline = time.monotonic() + max(self._rig.stream.timeout_s, COLD_START_S)
        while True:
            try:
                self.link.connect(0.1)
                return
            except StreamTimeoutError as error:
                if self._driver is None:
                    if time.monotonic() > deadline - COLD_START_S + self._rig.stream.timeout_s:
                        raise
                elif not self._driver.alive:
                    raise self._driver.failure() from error
                elif time.monotonic() > deadline:
                    raise

    def arm(self) -> CameraInfo:
        """Arm the camera, and make the ring of host slots that fits it."""
        value, _ = self.link.command("arm", timeout_s=60.0)
        info = msgspec.convert(value["camera"], CameraInfo)
        if self.ring is None:
            self.ring = SlotRing(
                *self._ring_size(info, int(value.get("block_lines", 0))), populate=True
            )
            self.link.ring = self.ring
        return info

    def _ring_size(self, info: CameraInfo, block_lines: int) -> tuple[int, int]:
        """Slots and bytes of each: ``buffer_seconds`` of lines, at least 8 blocks."""
        itemsize = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 9: 16, 12: 2, 13: 4, 14: 8, 15: 8}
        line = info.bands * info.samples * itemsize[info.data_type]
        block_lines = block_lines or max(1, min(self._rig.stream.block_lines, MAX_MESSAGE // line))
        slot = block_lines * line
        self.block_lines = block_lines
        wanted = self._rig.stream.buffer_seconds * (info.fps or 100.0) / block_lines
        group = -(-2 * self._rig.pipeline.pca.block_lines // block_lines)
        count = max(8, min(int(wanted) + 1, (1 << 31) // slot))
        if self._rig.pipeline.store == "pca":
            count = max(count, group)
        return count, slot

    def command(self, name: str, /, **args: Any) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """Send one command to the driver and wait for its answer.

        Raises
        ------
        SwathError
            What the driver answered, or that it died or does not answer.
        """
        try:
            return self.link.command(name, **args)
        except StreamTimeoutError as error:
            if self._driver is not None and not self._driver.alive:
                raise self._driver.failure() from error
            raise

    def series(
        self, kind: PhaseKind, *, lines: int, seconds: float = 0.0
    ) -> Iterator[Block | None]:
        """Run one series and yield its blocks; None whenever nothing arrived for a tick.

        The caller releases each block's slot and acknowledges it. A camera or driver that goes
        away is armed again, in a new epoch, for at most ``AWAY_S``; then :attr:`error` says so
        and the series ends as after a stop. ``lines`` counts lost ones; 0: until stopped.
        """
        self._bus.emit(Phase(kind=kind, lines=lines or None))
        tally = _Tally()
        began = time.monotonic()
        while True:
            name = f"{kind}-{secrets.token_hex(4)}"
            left = max(0.001, seconds - (time.monotonic() - began)) if seconds else 0.0
            self.command(
                "series",
                series=name,
                kind=kind,
                lines=lines - tally.counted if lines else 0,
                seconds=left,
                first_line=tally.stored,
                scene_line=tally.counted,
                epoch=self.epoch,
                after_host_time_ns=tally.last_ns,
            )
            end = yield from self._until_end(name, tally)
            if end is None or end.reason not in ("camera", "driver"):
                return
            if self._stop.is_set() or (lines and tally.counted >= lines):
                return
            why = end.error if end.reason == "camera" else ""
            if why:
                self._bus.emit(Warned(text=f"{why}; arming again"))
            if not (yield from self._arm_again(why or "the camera is gone")):
                return
            self.epoch += 1

    def _until_end(self, name: str, tally: _Tally) -> Generator[Block | None, None, End | None]:
        """Yield the blocks of one series until its end, which is the value; None: given up.

        The end of a series whose driver died comes from the link, behind all that had arrived,
        when a new driver has answered.
        """
        stopping = False
        away_since = next_try = 0.0
        wait = 0.2
        while True:
            if self._stop.is_set() and not stopping:
                stopping = True
                self._ask_to_stop()
            item = self.link.receive(TICK_S)
            if isinstance(item, Block):
                if item.header.series == name:
                    tally.add(item)
                    yield item
                else:
                    self.link.ack(item.header.series, item.header.seq)
                    item.slot.release()
                continue
            if isinstance(item, End):
                self.link.ack(item.series, item.blocks, end=True)
                if item.series == name:
                    return item
                continue
            if isinstance(item, Start):
                continue
            gone = self._absence()
            now = time.monotonic()
            if not gone:
                yield None
                continue
            if not away_since:
                away_since = next_try = now
                self._bus.emit(Warned(text=f"{gone}; waiting for it"))
            if stopping or now - away_since > AWAY_S:
                self.error = gone if stopping else f"{gone}; given up after {AWAY_S:g} s"
                return None
            if self._driver is not None and not self._driver.alive and now >= next_try:
                self._driver.restart()
                next_try = now + wait
                wait = min(2 * wait, 5.0)
            yield None

    def _ask_to_stop(self) -> None:
        try:
            self.link.command("stop", timeout_s=5.0)
        except SwathError as error:
            if not self._absence():
                self.error = self.error or f"stop: {error}"

    def _absence(self) -> str:
        """Say why there is no driver, or nothing while there is one."""
        if self._driver is not None and not self._driver.alive:
            return self._driver.last_words() or "the driver process ended"
        if self.link.peer_silent_s > self._rig.stream.timeout_s:
            return f"the driver at {self.endpoint} is silent"
        return ""

    def _arm_again(self, gone: str) -> Generator[None, None, bool]:
        """Arm until it works, for at most ``AWAY_S``; the value is whether it did."""
        deadline = time.monotonic() + AWAY_S
        wait = 0.2
        while time.monotonic() < deadline and not self._stop.is_set():
            try:
                self.arm()
                return True
            except SwathError as error:
                gone = str(error)
            resume = time.monotonic() + wait
            wait = min(2 * wait, 5.0)
            while time.monotonic() < resume and not self._stop.is_set():
                yield None
                time.sleep(TICK_S)
        if not self._stop.is_set():
            self.error = f"{gone}; given up after {AWAY_S:g} s"
        return False

    def close(self) -> None:
        """End the link and, where it is ours, the driver; never raises."""
        try:
            if self._driver is not None and self._driver.alive:
                self.link.command("quit", timeout_s=2.0)
        except SwathError:
            pass
        self.link.close()
        if self._driver is not None:
            self._driver.stop()
        if self.ring is not None:
            self.ring.close()
        self._cleanup()


class _Tally:
    """What has arrived of a series, over all its epochs."""

    def __init__(self) -> None:
        self.counted = 0  # lines of the scene, lost ones included
        self.stored = 0  # lines with pixels
        self.last_ns = 0  # host time of the last line, UTC

    def add(self, block: Block) -> None:
        """Count a block."""
        rows = block.rows
        self.counted += int(rows["count"].sum(dtype=np.int64))
        self.stored += block.header.lines
        if len(rows):
            self.last_ns = max(self.last_ns, int(rows["host_time_ns"].max()))


def require(info: CameraInfo, what: str) -> None:
    """Refuse a camera without the means to take a reference by itself.

    Raises
    ------
    CameraError
        When there is no shutter (black) or no way to show the panel (white).
    """
    if what == "black" and not info.has_shutter:
        raise CameraError(
            '[references] black = "take": this camera has no shutter; cover the lens and run '
            "`swath reference black`, then name the file"
        )
    if what == "white" and not info.has_panel:
        raise CameraError(
            '[references] white = "take": this rig cannot bring the panel into view by itself; '
            "put it under the camera and run `swath reference white`, then name the file"
        )
