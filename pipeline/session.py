"""A session with one driver: its process, the link to it, and series of lines that go on.

Everything that can go away and come back is dealt with here: a camera that is unplugged, a driver
process that dies, a link that breaks. The capture sees one stream of blocks per series; lines that
were missed in between arrive as ledger rows of the next epoch. Knows slots, stream, supervise and
events; not what is done with the lines.
"""

from __future__ import annotations

import math
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
from pipeline.errors import (
    CameraError,
    CameraLostError,
    ConfigError,
    StreamTimeoutError,
    SwathError,
)
from pipeline.events import EventBus, Phase, PhaseKind, Warned
from pipeline.layout import envi_dtype
from pipeline.slots import SlotRing
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.link import Block
from pipeline.stream.messages import MAX_MESSAGE, CameraInfo, End, Start
from pipeline.stream.security import private_endpoint
from pipeline.supervise import DriverProcess

#: A camera that cannot be armed again so often gets a new driver process: some vendors' libraries
#: do not find a camera again in a process that lost it.
FRESH_TRIES = 4
#: The most absences that are told in the header's ``errors``; the ledger has them all.
MAX_ABSENCES = 8
#: The fewest slots of the ring.
MIN_SLOTS = 8
#: How long a driver process of our own may take to listen, s.
COLD_START_S = 30.0
#: Said when a stop leaves nothing to keep.
STOPPED = "stopped before the first line of the scan: nothing was recorded"
#: How long opening a camera may take, s.
ARM_S = 60.0
#: How long a driver may take to answer a stop before it is asked again, s.
STOP_S = 5.0
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
        if endpoint is None and not self.endpoint:
            self.endpoint, self._cleanup = private_endpoint()
        try:
            if endpoint is None:
                self._driver = DriverProcess(rig_path, self.endpoint, overrides=overrides)
            self.link = EngineLink(
                self.endpoint,
                curve=rig.stream.curve,
                insecure=rig.stream.insecure,
                timeout_s=rig.stream.timeout_s,
            )
        except BaseException:  # a signal may be raised here as well
            self._cleanup()
            raise
        self.ring: SlotRing | None = None
        self.epoch = 0
        self.block_lines = rig.stream.block_lines
        self.gaps: str = rig.stream.gaps
        self.error = ""
        #: Sentences about absences that the capture survived, the first few.
        self.absences: list[str] = []
        self._away = ""
        self._away_s = rig.stream.away_s
        self._given_up = f"given up after {self._away_s:g} s"
        self._armed: CameraInfo | None = None
        self._ending = False
        self._moved: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Start the driver (where it is ours) and greet it."""
        if self._driver is not None:
            self._driver.start()
        self._connect()

    def _connect(self) -> None:
        # A driver of our own starts cold; that may take longer than an answer may.
        patience = self._rig.stream.timeout_s
        if self._driver is not None:
            patience = max(patience, COLD_START_S)
        deadline = time.monotonic() + patience
        while True:
            self.refuse_stopped()
            try:
                self.link.connect(0.1)
                return
            except StreamTimeoutError as error:
                if self._driver is not None and not self._driver.alive:
                    raise self._driver.failure() from error
                if time.monotonic() > deadline:
                    why = self.link.trouble
                    if why:
                        why = f": {why}"
                    elif self._driver is None:
                        why = "; start swath drive or swath replay there"
                    raise StreamTimeoutError(
                        f"{self.endpoint}: no driver answered within {patience:g} s{why}"
                    ) from error

    def arm(self) -> CameraInfo:
        """Arm the camera, and make the ring of host slots that fits it.

        Raises
        ------
        ConfigError
            When it is armed again and its lines have another shape than before.
        SwathError
            What the driver answered, or that it died or does not answer.
        """
        self.refuse_stopped()
        value, _ = self.command("arm", timeout_s=ARM_S)
        info = msgspec.convert(value["camera"], CameraInfo)
        self._check_same(info)
        self.gaps = str(value.get("gaps") or self.gaps)
        if self.ring is None:
            # A driver on this host lends its own slots; then these stay without memory, else the
            # link fetches it before the first block.
            local = self.endpoint.startswith("ipc://")
            size = self._ring_size(info, int(value.get("block_lines", 0)))
            self.ring = SlotRing(*size, populate=not local)
            self.link.ring = self.ring
        return info

    def _check_same(self, info: CameraInfo) -> None:
        """Refuse a camera that came back with other lines; warn of other settings."""
        before = self._armed
        if before is None:
            self._armed = info
            return
        for name in ("bands", "samples", "data_type"):
            was, now = getattr(before, name), getattr(info, name)
            if was != now:
                raise ConfigError(
                    f"the camera came back with {name} = {now}, the capture began with {was}"
                )
        for name in ("serial", "exposure_ms", "fps", "gain", "binning", "hroi", "vroi"):
            was, now = getattr(before, name), getattr(info, name)
            if was != now:
                text = f"the camera came back with {name} = {now}, the capture began with {was}"
                self._bus.emit(Warned(text=text))

    def _ring_size(self, info: CameraInfo, block_lines: int) -> tuple[int, int]:
        """Slots and bytes of each: ``buffer_seconds`` of lines; the ring checks the memory."""
        line = info.bands * info.samples * envi_dtype(info.data_type, 0).itemsize
        block_lines = block_lines or max(1, min(self._rig.stream.block_lines, MAX_MESSAGE // line))
        slot = block_lines * line
        self.block_lines = block_lines
        wanted = self._rig.stream.buffer_seconds * (info.fps or 100.0) / block_lines
        return max(MIN_SLOTS, int(wanted) + 1), slot

    def command(
        self, name: str, /, timeout_s: float | None = None, **args: Any
    ) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """Send one command to the driver and wait for its answer.

        Where shutter and panel were left is remembered, for a camera that comes back.

        Raises
        ------
        SwathError
            What the driver answered, or that it died or does not answer.
        """
        answer = self.link.command(name, timeout_s=timeout_s, watch=self._died, **args)
        if name in ("shutter", "panel"):
            self._moved[name] = args
        return answer

    def _died(self) -> SwathError | None:
        """Say that our own driver is dead: it will answer no more."""
        if self._driver is None or self._driver.alive:
            return None
        return self._driver.failure()

    def end_series(self) -> None:
        """End the running series as a stop does: what the driver has taken still arrives."""
        self._ending = True

    def resume(self) -> None:
        """Let further series run: the stop that ended the last one is over."""
        self._ending, self._stop = False, Flag()

    def _ends(self) -> bool:
        return self._ending or self._stop.is_set()

    def refuse_stopped(self) -> None:
        """Raise when a stop came before there was anything to keep."""
        if self._stop.is_set():
            raise CameraError(STOPPED)

    def series(
        self, kind: PhaseKind, *, lines: int, seconds: float = 0.0
    ) -> Iterator[Block | None]:
        """Run one series and yield its blocks; None whenever nothing arrived for a tick.

        The caller releases each block's slot and acknowledges it. A camera or driver that goes
        away is armed again, in a new epoch, for at most ``[stream] away_s``; then :attr:`error`
        says so and the series ends as after a stop. ``lines`` counts lost ones; 0: until stopped.
        """
        self._bus.emit(Phase(kind=kind, lines=lines or None))
        tally = _Tally()
        began = time.monotonic()
        armed = True  # from before, not by us
        deadline = 0.0
        while True:
            name = f"{kind}-{secrets.token_hex(4)}"
            left = max(0.001, seconds - (time.monotonic() - began)) if seconds else 0.0
            counted = tally.counted
            try:
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
            except SwathError as error:
                lost = isinstance(error, CameraLostError) or self._died() is not None
                if not lost and (armed or isinstance(error, ConfigError)):
                    raise
                why = str(error)
            else:
                end = yield from self._until_end(name, tally)
                if end is None or end.reason not in ("camera", "driver"):
                    return
                if lines and tally.counted >= lines:
                    return
                why = end.error if end.reason == "camera" else self._away
                if end.reason == "camera" and why and self._away_s and not self._ends():
                    self._bus.emit(Warned(text=f"{why}; arming again"))
            gone_s = time.monotonic()
            if not deadline or tally.counted > counted:
                deadline = gone_s + self._away_s
            if not (yield from self._arm_again(why or "the camera is gone", deadline)):
                return
            armed = False
            # The driver counts epochs on when a camera's own counter restarts.
            self.epoch = max(self.epoch, tally.epoch) + 1
            away_s = time.monotonic() - gone_s
            self._bus.emit(
                Warned(text=f"the camera is back after {away_s:.1f} s, in epoch {self.epoch}")
            )
            if len(self.absences) < MAX_ABSENCES:
                self.absences.append(f"{why or 'the camera was gone'}; epoch {self.epoch} follows")

    def _until_end(self, name: str, tally: _Tally) -> Generator[Block | None, None, End | None]:
        """Yield the blocks of one series until its end, which is the value; None: given up.

        The end of a series whose driver died comes from the link, behind all that had arrived,
        when a new driver has answered.
        """
        stopping = False
        away_since = next_try = next_stop = 0.0
        wait = 0.2
        died = ""
        while True:
            if self._ends() and time.monotonic() >= next_stop:
                stopping = True
                next_stop = math.inf if self._ask_to_stop() else time.monotonic() + STOP_S
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
                if self.link.connected:
                    away_since = 0.0
                yield None
                continue
            if not away_since:
                away_since = next_try = now
                self._away = gone
                self._bus.emit(Warned(text=f"{gone}; waiting for it"))
            if self._driver is not None and not self._driver.alive:
                died = gone
            if stopping or now - away_since > self._away_s:
                gone = died or gone
                self.error = gone if stopping else f"{gone}; {self._given_up}"
                return None
            if self._driver is not None and not self._driver.alive and now >= next_try:
                self._driver.restart()
                next_try = now + wait
                wait = min(2 * wait, 5.0)
            yield None

    def _ask_to_stop(self) -> bool:
        """Ask the driver to end the series; False when it has to be asked again."""
        try:
            self.command("stop", timeout_s=STOP_S)
        except StreamTimeoutError:
            return False
        except CameraLostError:
            pass  # what was running ends by itself
        except SwathError as error:
            if not self._absence():
                self.error = self.error or f"stop: {error}"
        return True

    def _absence(self) -> str:
        """Say why there is no driver, or nothing while there is one."""
        if self._driver is not None and not self._driver.alive:
            return self._driver.last_words() or "the driver process ended"
        if self.link.peer_silent_s > self._rig.stream.timeout_s:
            return f"the driver at {self.endpoint} is silent"
        return ""

    def _arm_again(self, gone: str, deadline: float) -> Generator[None, None, bool]:
        """Arm until it works, at most until ``deadline``; the value is whether it did.

        A driver of our own that is dead is started again; shutter and panel go back to where they
        were.
        """
        wait = 0.2
        tries = 0
        while time.monotonic() < deadline and not self._ends():
            tries += 1
            try:
                if self._driver is not None and tries % FRESH_TRIES == 0:
                    self._driver.stop()
                if self._driver is not None and not self._driver.alive:
                    gone = self._driver.last_words() or gone
                    self._driver.restart()
                    self._connect()
                self.arm()
                for name, args in self._moved.items():
                    if any(args.values()):
                        self.command(name, **args)
                return True
            except SwathError as error:
                gone = str(error)
            resume = time.monotonic() + wait
            wait = min(2 * wait, 5.0)
            while time.monotonic() < resume and not self._ends():
                yield None
                time.sleep(TICK_S)
        over = "stopped while it was away" if self._ends() else self._given_up
        self.error = f"{gone}; {over}"
        return False

    def close(self) -> None:
        """End the link and, where it is ours, the driver; never raises."""
        try:
            if self._driver is not None and self._driver.alive:
                self.command("quit", timeout_s=2.0, abandon=True)
        except SwathError:
            pass
        finally:  # a second signal may come here
            self.link.close()
            try:
                if self._driver is not None:
                    self._driver.stop()
            finally:
                if self.ring is not None:
                    self.ring.close()
                self._cleanup()


class _Tally:
    """What has arrived of a series, over all its epochs."""

    def __init__(self) -> None:
        self.counted = 0  # lines of the scene, lost ones included
        self.stored = 0  # lines with pixels
        self.last_ns = 0  # host time of the last line, UTC
        self.epoch = 0

    def add(self, block: Block) -> None:
        """Count a block."""
        rows = block.rows
        self.counted += int(rows["count"].sum(dtype=np.int64))
        self.stored += block.header.lines
        if len(rows):
            self.last_ns = max(self.last_ns, int(rows["host_time_ns"].max()))
            self.epoch = max(self.epoch, int(rows["epoch"].max()))


def require(info: CameraInfo, what: str) -> None:
    """Refuse a camera without the means to take a reference by itself.

    Raises
    ------
    ConfigError
        When there is no shutter (black) or no way to show the panel (white).
    """
    if what == "black" and not info.has_shutter:
        raise ConfigError(
            '[references] black = "take": this camera has no shutter; cover the lens and run '
            "`swath reference black`, then name the file"
        )
    if what == "white" and not info.has_panel:
        raise ConfigError(
            '[references] white = "take": this rig cannot bring the panel into view by itself; '
            "put it under the camera and run `swath reference white`, then name the file"
        )
