"""The driver process: camera → slots → link, and the commands of the engine in between.

One thread does everything in turn: it answers commands, takes the next frame into a slot, sends
what is due. Nothing here waits longer than a frame may take, so a command is answered and a
block leaves in time also while no frame arrives. Knows the Camera protocol, slots and the link;
nothing of what the engine does with the lines.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from typing import Any, Final

import msgspec
import numpy as np

from drivers.armed import ArmedCamera
from drivers.blocks import Blocks, Series
from drivers.camera import Bulk, Camera, EndOfFrames
from drivers.gaps import restart_gap
from drivers.process import ProcessWatch
from pipeline.config import Rig
from pipeline.errors import CameraError, CameraLostError, ConfigError, SwathError
from pipeline.layout import LossReason
from pipeline.stream.driver_link import CommandReceived, DriverLink, PeerJoined
from pipeline.stream.messages import (
    PROTOCOL,
    Answer,
    Command,
    End,
    Heartbeat,
    Start,
)

#: The longest that a turn waits for a frame or a message, seconds.
TURN_S: Final = 0.02
#: A link that carries frames is asked for messages at least this often, seconds.
POLL_S: Final = 0.002
#: The acknowledgement of an end may come so much later than the next command, seconds.
ACKNOWLEDGE_S: Final = 1.0
#: Time for the last answer to leave, seconds.
GOODBYE_S: Final = 0.05
KINDS: Final = ("black", "white", "scan")


class Publisher:
    """Runs one camera for one link.

    Parameters
    ----------
    camera : Camera
        Not yet opened; the publisher closes it.
    rig : Rig
        The rig file.
    link : DriverLink
        Bound; the publisher closes it.
    watch : ProcessWatch, optional
        Tells when signals or the parent ask for the end.
    """

    def __init__(
        self, camera: Camera, rig: Rig, link: DriverLink, *, watch: ProcessWatch | None = None
    ) -> None:
        self._camera = camera
        self._rig = rig
        self._link = link
        self._watch = watch or ProcessWatch(None)
        self._armed = ArmedCamera(camera, rig)
        self._bulk = camera if isinstance(camera, Bulk) else None
        self._series: Series | None = None
        self._polled_s = 0.0
        self._waiting: list[Command] = []
        self._waiting_until_s = 0.0
        self._frames = 0
        self._dropped = 0
        self._temperature_c: float | None = None
        self._joined = False
        self._quit = False
        self._gave_up = ""

    def run(self) -> int:
        """Serve commands and series until the end; returns the exit status."""
        try:
            while self._turn():
                pass
        finally:
            self._close()
        if self._gave_up:
            with contextlib.suppress(OSError):  # whoever read it may be what is gone
                print(f"swath: {self._gave_up}; the camera was closed", file=sys.stderr, flush=True)
            return 1
        return 0

    # -- one turn ------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do what is due now; False when there is nothing left to do."""
        series = self._series
        acquiring = series is not None and series.acquiring
        now = time.monotonic()
        if not acquiring or now - self._polled_s >= POLL_S:
            self._poll(0.0 if acquiring else TURN_S)
        if self._watch.orphaned():
            return self._give_up("the process that started the driver is gone")
        if self._engine_gone():
            return self._give_up(f"the engine was silent for {self._link.peer_silent_s:.0f} s")
        if self._watch.hurried:
            return False
        if self._watch.end_asked:
            self._quit = True
        series = self._series
        if series is None:
            return not self._quit
        if self._quit:
            self._stop("driver")
        if series.acquiring:
            self._take(series)
        else:
            self._drain(series)
        self._send(series)
        # A closing driver waits for its last blocks to be stored, but not for ever.
        return not (self._quit and self._watch.patience_over(self._rig.stream.timeout_s))

    def _poll(self, timeout_s: float) -> None:
        self._link.status = Heartbeat(
            frames=self._frames,
            dropped=self._dropped,
            free_slots=self._armed.ring.free if self._armed.ring else 0,
            temperature_c=self._temperature_c,
        )
        for event in self._link.poll(timeout_s):
            if isinstance(event, CommandReceived):
                self._receive(event.command)
            elif isinstance(event, PeerJoined):
                self._joined = True
                if not event.resumed:
                    self._abandon()
        self._polled_s = time.monotonic()
        if self._waiting and (not self._ending() or self._polled_s >= self._waiting_until_s):
            waiting, self._waiting = self._waiting, []
            for command in waiting:
                self._answer(command)

    def _receive(self, command: Command) -> None:
        """Answer a command now, or when the end of the series before it is acknowledged.

        An engine that has the end may ask for the next series before its acknowledgement is here.
        """
        if command.name in ("arm", "series") and self._ending():
            self._waiting.append(command)
            self._waiting_until_s = time.monotonic() + ACKNOWLEDGE_S
        else:
            self._answer(command)

    def _ending(self) -> bool:
        series = self._series
        return series is not None and series.end_sent and not self._link.ended_acknowledged

    def _give_up(self, why: str) -> bool:
        """End without an engine; the camera is closed, then ``why`` is said."""
        self._gave_up = why
        return False

    def _engine_gone(self) -> bool:
        """Tell whether the engine of a capture was there and is silent for too long.

        A parent that died is noticed at once (:meth:`ProcessWatch.orphaned`); one that lives may
        be held up for seconds by a busy machine, and that must not cost lines (decision 0005).
        """
        capture = self._watch.parent_pid is not None
        silent_s = self._link.peer_silent_s
        return capture and self._joined and silent_s >= self._rig.stream.timeout_s

    def _take(self, series: Series) -> None:
        """Take the next frame, if one comes before something else is due."""
        blocks, info = series.blocks, self._armed.require("series")
        late = series.seconds and time.monotonic() - series.began_s >= series.seconds
        if late or blocks.is_full():
            self._stop("done")
            return
        row = blocks.row()
        if not info.open_loop and (row is None or self._link.credits <= len(blocks.sealed)):
            self._send(series)
            self._poll(TURN_S)
            return
        due_s = blocks.due_s()
        timeout_s = TURN_S if due_s is None else min(TURN_S, max(due_s, 0.001))
        try:
            if self._bulk is not None and not info.open_loop and self._take_many(series):
                return
            frame = self._camera.fetch(row, timeout_s)
        except EndOfFrames:
            self._stop("source")
            return
        except Exception as error:  # a vendor's library may raise anything
            self._lost_camera(error)
            return
        if frame is None:
            return
        self._frames += 1
        if not math.isnan(frame.temperature_c):
            self._temperature_c = frame.temperature_c
        fresh = series.ids.last is None
        step = series.ids.step(frame.frame_id)
        if step.repeated:
            self._dropped += 1
            return
        if step.restarted:
            blocks.epoch += 1
        # A source that waits lost nothing while it was away.
        if (fresh or step.restarted) and info.open_loop:
            away = restart_gap(
                (series.after_host_time_ns, frame.host_time_ns),
                self._armed.fps,
                (series.after_device_time_ns, frame.device_time_ns),
            )
            blocks.lose(away, LossReason.CAMERA_RESTART, 0, frame.host_time_ns)
            if blocks.is_full():
                return
        series.after_host_time_ns = frame.host_time_ns
        series.after_device_time_ns = frame.device_time_ns
        if row is None:
            self._dropped += 1
            blocks.dropped(frame, step.frame_id, step.missing)
        else:
            blocks.took(frame, step.frame_id, step.missing)

    def _take_many(self, series: Series) -> bool:
        """Take the next lines at once, where there are some; whether there were."""
        places = series.blocks.places()
        if self._bulk is None or places is None:
            return False
        rows = self._bulk.fetch_many(places)
        if rows is None:
            return False
        if not series.ids.run(rows["frame_id"]):
            raise CameraError("fetch_many: the frame ids do not follow each other")
        self._frames += len(rows)
        if not math.isnan(rows["temperature_c"][-1]):
            self._temperature_c = float(rows["temperature_c"][-1])
        series.after_host_time_ns = int(rows["host_time_ns"][-1])
        series.blocks.took_many(rows)
        return True

    def _drain(self, series: Series) -> None:
        """Bring what is left on its way, then the end; the series is over when that is stored."""
        blocks = series.blocks
        if not series.end_sent:
            self._send(series)
            if blocks.finish() and not blocks.sealed:
                end = End(
                    series=series.name,
                    blocks=series.sent,
                    stored=blocks.stored,
                    lost=blocks.lost,
                    reason=series.reason,
                    error=series.error,
                )
                self._link.end(end)
                series.end_sent = True
        elif self._link.ended_acknowledged:
            self._series = None

    def _send(self, series: Series) -> None:
        """Send sealed blocks as far as credit goes, and a partial one that is old enough."""
        blocks, link, ring = series.blocks, self._link, self._armed.ring
        assert ring is not None
        due_s = blocks.due_s()
        # A partial block takes a whole slot: at most half of them may go that way, so that the
        # rest can buffer whole blocks when the engine pauses.
        roomy = ring.free * 2 >= ring.count
        if due_s is not None and due_s <= 0 and roomy and link.credits > len(blocks.sealed):
            blocks.seal()
        while blocks.sealed and link.credits > 0:
            block = blocks.sealed.popleft()
            nbytes = block.lines * blocks.plan.line_bytes
            link.send_block(block.first_line, block.lines, block.ledger, block.slot, nbytes)
            series.sent += 1

    def _stop(self, reason: str, error: str = "") -> None:
        """End the acquisition of the running series; what was taken is still sent."""
        series = self._series
        if series is None or not series.acquiring:
            return
        series.acquiring = False
        series.reason = reason
        series.error = error
        try:
            self._camera.stop()
        except Exception as trouble:  # a lost camera cannot be stopped, and that is no news
            if not error:
                series.error = f"{type(trouble).__name__}: {trouble}"

    def _lost_camera(self, error: Exception) -> None:
        text = str(error) if isinstance(error, SwathError) else f"{type(error).__name__}: {error}"
        self._stop("camera", text or type(error).__name__)
        self._armed.disarm()

    def _abandon(self) -> None:
        """Forget the running series: a new engine came that does not go on with it."""
        series, self._series = self._series, None
        self._waiting.clear()
        if series is None:
            return
        if series.acquiring:
            with contextlib.suppress(Exception):  # a vendor's library may raise anything
                self._camera.stop()
        series.blocks.discard()

    # -- commands ------------------------------------------------------------------------

    def _answer(self, command: Command) -> None:
        """Carry out one command and answer it, whatever it asks for."""
        array = None
        try:
            handler = getattr(self, f"_on_{command.name}", None)
            if handler is None:
                names = "arm, series, shutter, panel, set, reference, stop, quit"
                raise ConfigError(f"command: found {command.name!r}, allowed are {names}")
            result = handler(command.args)
            value, array = result if isinstance(result, tuple) else (result, None)
            answer = Answer(id=command.id, value=value)
        except SwathError as error:
            if isinstance(error, CameraLostError):
                self._lost_camera(error)
            answer = Answer(id=command.id, error=str(error), exit_status=error.exit_status)
        except (KeyError, TypeError, ValueError) as error:
            text = f"command {command.name}: {type(error).__name__}: {error}"
            answer = Answer(id=command.id, error=text, exit_status=2)
        except Exception as error:  # a vendor's library may raise anything
            text = f"command {command.name}: {type(error).__name__}: {error}"
            answer = Answer(id=command.id, error=text, exit_status=1)
        self._link.answer(answer, array)

    def _on_arm(self, args: dict[str, Any]) -> dict[str, Any]:
        self._none_running("arm")
        info = self._armed.arm()
        self._temperature_c = info.temperature_c
        camera: dict[str, Any] = msgspec.to_builtins(info)
        return {
            "camera": camera,
            "block_lines": self._armed.block_lines,
            "gaps": self._rig.stream.gaps,
        }

    def _on_series(self, args: dict[str, Any]) -> dict[str, Any]:
        self._none_running("series")
        info, ring = self._armed.require("series"), self._armed.slots()
        kind = str(args["kind"])
        if kind not in KINDS:
            raise ConfigError(f"series: found kind {kind!r}, allowed are {', '.join(KINDS)}")
        plan = self._armed.plan(args)
        series = Series(str(args["series"]), Blocks(ring, plan), self._armed.frame_ids())
        series.seconds = float(args.get("seconds") or 0)
        series.after_host_time_ns = int(args.get("after_host_time_ns") or 0)
        start = Start(
            protocol=PROTOCOL,
            series=series.name,
            kind=kind,
            camera=info,
            block_lines=plan.block_lines,
            first_line=plan.first_line,
            epoch=plan.epoch,
        )
        # A source that waits goes on where it was; a live camera has no such place.
        seek = getattr(self._camera, "seek", None)
        if seek is not None:
            series.ids.expect(seek(int(args.get("scene_line") or 0)))
        if hasattr(self._camera, "epoch"):
            self._camera.epoch = plan.epoch
        self._camera.start(kind)
        try:
            self._link.start(start, ring)
        except SwathError:
            self._camera.stop()
            raise
        series.began_s = time.monotonic()
        self._series = series
        return {"block_lines": plan.block_lines}

    def _on_shutter(self, args: dict[str, Any]) -> dict[str, Any]:
        self._armed.require("shutter")
        self._camera.shutter(bool(args["closed"]))
        return {}

    def _on_panel(self, args: dict[str, Any]) -> dict[str, Any]:
        self._armed.require("panel")
        self._camera.panel(bool(args["in_view"]))
        return {}

    def _on_set(self, args: dict[str, Any]) -> dict[str, Any]:
        self._armed.require("set")
        taken = self._camera.set_feature(str(args["name"]), args["value"])
        plain = taken is None or isinstance(taken, bool | int | float | str)
        return {"value": taken if plain else str(taken)}

    def _on_reference(self, args: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        self._armed.require("reference")
        array, fields = self._camera.reference(str(args["name"]))
        return {"fields": dict(fields)}, np.ascontiguousarray(array, np.float32)

    def _on_stop(self, args: dict[str, Any]) -> dict[str, Any]:
        self._stop("stop")
        return {}

    def _on_quit(self, args: dict[str, Any]) -> dict[str, Any]:
        if args.get("abandon"):
            # The engine leaves: nobody will take or acknowledge what is still here.
            self._abandon()
            self._link.abandon()
        self._quit = True
        return {}

    def _none_running(self, name: str) -> None:
        series = self._series
        if series is not None and series.end_sent and self._link.ended_acknowledged:
            self._series = series = None
        if series is not None:
            raise CameraError(f"{name}: series {series.name} still runs, stop it first")

    def _close(self) -> None:
        self._abandon()
        self._armed.disarm()
        # The last answer is still on its way, and nothing lingers in a link that is closed.
        self._link.poll(GOODBYE_S)
        self._link.close()
        self._armed.close()
