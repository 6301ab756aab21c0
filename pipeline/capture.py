"""A capture: one recording from arming to the finished ``.hsi``.

Arms the camera, takes or loads references, checks space and settings, then moves blocks from the
session to the sink until the scan is over, and finishes the file with all that is known. What can
be refused is refused before anything is written; what was received is kept whatever happens.
Everything it tells goes through the event bus. Knows session, sink, references and describe; the
command line is its only caller besides tests and daemons.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag

import numpy as np

from pipeline.after_scan import take_after, wanted_after
from pipeline.arming import (
    Plan,
    plan_capture,
    refuse_existing,
    refuse_preview_endpoint,
)
from pipeline.bad_pixel_arming import arm_bad_pixels
from pipeline.coded_capture import code_capture
from pipeline.config import Rig
from pipeline.container.writer import ContainerWriter
from pipeline.container.zipfile_layout import scan
from pipeline.describe import Times
from pipeline.engine import Engine, make_engine, preview_levels
from pipeline.errors import ConfigError, StorageError, StreamError, SwathError
from pipeline.events import Armed, Arming, EventBus, Failed, Finished, Loss, Warned
from pipeline.layout import LedgerRows, LineStatus, LossReason
from pipeline.live import LivePreview
from pipeline.pace import Pace
from pipeline.products import finished_entries, growing_entries, starting_entries
from pipeline.reference_arming import arm_references
from pipeline.rig_commands import run_commands
from pipeline.scan_coder import ScanCoder, followed_bytes
from pipeline.session import Session
from pipeline.sink import Sink
from pipeline.stream.preview import PreviewPublisher


@dataclass
class CaptureResult:
    """How a capture ended; the object of ``--json``.

    ``lines`` in the file, ``lost`` of the scene, ``seconds`` of scanning, ``bytes`` of the file.
    ``coded``: how it was coded, in one sentence; ``coded_in_scan``: lines whose blocks were coded
    while the scan still ran.
    ``exit_status``: 0 all well, 1 failure at work, 3 whole but lines were lost.
    """

    file: str
    lines: int
    lost: int
    seconds: float
    bytes: int
    lines_per_second: float
    backend: str
    warnings: list[str] = field(default_factory=list)
    exit_status: int = 0
    message: str = ""
    coded: str = ""
    coded_in_scan: int = 0


def run_capture(
    rig: Rig,
    *,
    rig_path: Path,
    lines: int | None = None,
    seconds: float | None = None,
    out: Path | None = None,
    bus: EventBus | None = None,
    endpoint: str | None = None,
    stop: Flag | None = None,
    overrides: tuple[str, ...] = (),
) -> CaptureResult:
    """Record one scan into one container.

    Parameters
    ----------
    rig : Rig
        The rig file, loaded.
    rig_path : Path
        Its file; relative paths count from its folder, and the driver reads it again.
    lines, seconds : optional
        How much to record; lost lines count. The rig file's ``[scan]`` where left out; a replay
        ends with its source, anything else when ``stop`` is set.
    out : Path, optional
        The finished file; must not exist. ``[output]`` decides where left out.
    bus : EventBus, optional
        Receives what happens.
    endpoint : str, optional
        Of a driver that runs already (``swath process``); a driver of our own where left out.
    stop : threading.Event, optional
        When set, the scan ends, drains and is finished.
    overrides : tuple of str
        ``KEY=VALUE`` that were applied to ``rig``; the driver applies them, too.

    Returns
    -------
    CaptureResult

    Raises
    ------
    SwathError
        When nothing could be recorded; nothing is left behind.
    """
    capture = _Capture(rig, rig_path, bus or EventBus(), stop or Flag())
    wanted = rig.scan.lines if lines is None else lines
    limit = rig.scan.seconds if seconds is None else seconds
    try:
        return capture.run(wanted, limit, out, endpoint, overrides)
    except SwathError as error:
        capture.bus.emit(Failed(text=str(error), exit_status=error.exit_status))
        raise


class _Capture:
    """The state of one capture while it runs."""

    def __init__(self, rig: Rig, rig_path: Path, bus: EventBus, stop: Flag) -> None:
        self.rig = rig
        self.rig_path = rig_path
        self.base = rig_path.resolve().parent
        self.bus = bus
        self.stop = stop
        self.warnings: list[str] = []
        self.lost = 0
        self.counted = 0
        self.after: dict[str, bytes] = {}  # references taken after the scan
        self.coder: ScanCoder | None = None

    def warn(self, text: str) -> None:
        """Tell once, and keep it for the summary and the header."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.bus.emit(Warned(text=text))

    def run(
        self,
        lines: int,
        seconds: float,
        out: Path | None,
        endpoint: str | None,
        overrides: tuple[str, ...],
    ) -> CaptureResult:
        """Arm, record, finish."""
        refuse_existing(out)
        refuse_preview_endpoint(self.rig)
        session = Session(
            self.rig,
            rig_path=self.rig_path,
            overrides=overrides,
            endpoint=endpoint,
            bus=self.bus,
            stop=self.stop,
        )
        try:
            self.bus.emit(Arming(text="camera"))
            session.open()
            info = session.arm()
            for text in info.warnings:
                self.warn(text)
            for name, text in info.settings_differ.items():
                self.warn(f"{name}: {text}")
            references = arm_references(self.rig, info, session, self.base, self.bus, self.warn)
            bad_pixels = arm_bad_pixels(
                *(self.rig, info, references, session, self.base, self.bus, self.warn)
            )
            plan = plan_capture(
                self.rig,
                info,
                references,
                base=self.base,
                out=out,
                lines=lines,
                seconds=seconds,
                block_lines=session.block_lines,
                gaps=session.gaps,
                warn=self.warn,
                bad_pixels=bad_pixels,
            )
            self.bus.emit(Arming(text="stages"))
            with make_engine(plan.engine) as engine, self._live_preview(plan) as live:
                return self._record(session, plan, engine, live, lines, seconds)
        finally:
            session.close()

    @contextlib.contextmanager
    def _live_preview(self, plan: Plan) -> Iterator[LivePreview | None]:
        """Publish the picture while it grows, where the rig file says at which endpoint."""
        endpoint = self.rig.output.preview_endpoint
        if not endpoint or not plan.engine.preview:
            yield None
            return
        stream = self.rig.stream
        try:
            publisher = PreviewPublisher(endpoint, curve=stream.curve, insecure=stream.insecure)
        except StreamError as error:
            raise ConfigError(f"[output] preview_endpoint: {error}") from None
        factor = preview_levels(plan.info.samples)[0]
        live = LivePreview(publisher, capture=plan.final.stem, factor=factor, warn=self.warn)
        try:
            yield live
        finally:
            live.close()

    def _record(
        self,
        session: Session,
        plan: Plan,
        engine: Engine,
        live: LivePreview | None,
        lines: int,
        seconds: float,
    ) -> CaptureResult:
        """Run the rig's commands around the scan, whatever becomes of it."""
        session.refuse_stopped()
        try:
            run_commands(self.rig.scan, "before", self.base, self.bus)
            writer = ContainerWriter(
                plan.final,
                plan.header,
                first=starting_entries(plan),
                explicit=plan.explicit,
                expected_lines=lines or None,
                growing=growing_entries(plan),
                followed=followed_bytes(plan.coded),
            )
            self.bus.emit(_armed(plan, engine, writer.path, lines, seconds, self.warnings))
            try:
                with self._coding_beside(plan, writer, lines, seconds):
                    return self._fill(session, plan, engine, writer, live, lines, seconds)
            except BaseException:
                if writer.lines == 0:
                    writer.discard()
                else:
                    writer.abandon()
                raise
        finally:
            self._command_after()

    @contextlib.contextmanager
    def _coding_beside(
        self, plan: Plan, writer: ContainerWriter, lines: int, seconds: float
    ) -> Iterator[None]:
        """Have blocks coded while the scan runs, where they are to be coded at all."""
        if plan.coded is None:
            yield
            return
        expected = lines or int(seconds * (plan.info.fps or 0.0)) or plan.info.lines or 0
        with ScanCoder(writer, plan.coded, expected) as self.coder:
            yield

    def _fill(
        self,
        session: Session,
        plan: Plan,
        engine: Engine,
        writer: ContainerWriter,
        live: LivePreview | None,
        lines: int,
        seconds: float,
    ) -> CaptureResult:
        """Move the scan into the file and finish it; the caller keeps what an error leaves."""
        sink = Sink(
            writer,
            engine,
            store=plan.store,
            hurry=plan.info.open_loop,
            acknowledge=session.link.ack,
            warn=self.warn,
            live=live,
        )
        errors: list[str] = []
        start = dt.datetime.now(dt.UTC)
        began = time.monotonic()
        try:
            try:
                self._scan(session, sink, writer, lines or plan.info.lines or 0, lines, seconds)
            except StorageError as error:
                errors.append(str(error))
            except SwathError as error:
                if writer.lines == 0:
                    raise
                errors.append(str(error))
            scanned = time.monotonic() - began
            if session.error:
                errors.append(session.error)
            elif writer.lines and not errors and wanted_after(plan):
                self.after = take_after(session, plan, self.bus, self.warn)
            try:
                sink.finish()
            except StorageError as error:
                errors.append(str(error))
            if sink.failure:
                errors.append(sink.failure)
            if writer.lines == 0:
                if not errors:
                    session.refuse_stopped()
                raise errors_or_nothing(errors)
            times = Times(start, dt.datetime.now(dt.UTC))
            told = (errors, session.absences)
            return self._finish(plan, engine, writer, sink, times, scanned, told)
        finally:
            sink.abort()

    def _scan(
        self,
        session: Session,
        sink: Sink,
        writer: ContainerWriter,
        total: int,
        lines: int,
        seconds: float,
    ) -> None:
        progress = Pace(self.bus, writer, session, total or None)
        refused: StorageError | None = None
        for block in session.series("scan", lines=lines, seconds=seconds):
            if block is None:
                progress.tick(self.counted, self.lost)
                continue
            rows = block.rows
            losses = rows[rows["status"] == LineStatus.LOST]
            try:
                sink.take(block)
            except StorageError as error:
                # What is still on its way goes to the ledger as lost; only then is this over.
                refused = refused or error
                session.end_series()
                session.link.ack(block.header.series, block.header.seq)
            self.counted += int(rows["count"].sum(dtype=np.int64))
            if len(losses):
                self.lost += int(losses["count"].sum(dtype=np.int64))
                self._tell_losses(losses)
            progress.tick(self.counted, self.lost)
        progress.tick(self.counted, self.lost, force=True)
        if refused is not None:
            raise refused

    def _tell_losses(self, losses: LedgerRows) -> None:
        """Emit one event for each run of rows of the same reason."""
        for run in np.split(losses, np.flatnonzero(np.diff(losses["reason"])) + 1):
            self.bus.emit(
                Loss(
                    first_line=int(run["line"][0]),
                    count=int(run["count"].sum(dtype=np.int64)),
                    reason=LossReason(int(run["reason"][0])).text,
                )
            )

    def _finish(
        self,
        plan: Plan,
        engine: Engine,
        writer: ContainerWriter,
        sink: Sink,
        times: Times,
        scanned: float,
        told: tuple[list[str], list[str]],
    ) -> CaptureResult:
        errors, absences = told
        self.bus.emit(Arming(text="finishing the file"))
        if sink.clipped:
            self.warn(f"{sink.clipped} reflectance values beyond ±3.2767 are stored as the limit")
        if sink.untrusted:
            self.warn(
                f"{sink.untrusted} lines have a panel_strip or dark_columns that cannot be so "
                "(saturated, or a lamp beyond half to twice the white's): left uncorrected there"
            )
        self.lost = max(self.lost, writer.lost)
        if self.lost:
            self.warn(f"{self.lost} lines were lost; Metadata/lines.csv says which and why")
        header = plan.finished_header(
            times,
            lost=self.lost,
            errors=[*errors, *absences],
            pixels=sink.pca_pixels,
        )
        last = {**self.after, **finished_entries(plan, writer, self.warn)}
        file = writer.finish(header, last=last)
        coded, coded_in_scan = self._code(plan, file, errors)
        size = file.stat().st_size
        status = 1 if errors else 3 if self.lost else 0
        rate = self.counted / scanned if scanned > 0 else 0.0
        result = CaptureResult(
            file=str(file),
            lines=writer.lines,
            lost=self.lost,
            seconds=round(scanned, 3),
            bytes=size,
            lines_per_second=round(rate, 2),
            backend=engine.backend,
            warnings=[*errors, *self.warnings],
            exit_status=status,
            message=errors[0] if errors else "",
            coded=coded,
            coded_in_scan=coded_in_scan,
        )
        names = list(scan(file).entries)
        self.bus.emit(
            Finished(
                file=result.file,
                lines=result.lines,
                lost=result.lost,
                seconds=result.seconds,
                bytes=size,
                lines_per_second=result.lines_per_second,
                backend=engine.backend,
                samples=plan.info.samples,
                bands=plan.info.bands,
                store=self.rig.pipeline.store if coded else plan.store,
                coded=coded,
                warnings=result.warnings,
                entries=names,
                thumbnail="thumbnail.jpg" if "thumbnail.jpg" in names else "",
                references=sorted(
                    Path(n).stem
                    for n in names
                    if n.startswith("Reference/") and n.endswith(".envi") and "_std" not in n
                ),
                wavelength_nm=plan.axis.ends_nm,
                exit_status=status,
            )
        )
        return result

    def _code(self, plan: Plan, file: Path, errors: list[str]) -> tuple[str, int]:
        """Code the finished file where that is wanted; a failure leaves it raw, and whole.

        Gives a sentence, and the lines whose blocks were coded before.
        """
        if plan.coded is None:
            return "", 0
        self.bus.emit(Arming(text="coding the file"))
        spool, trouble = (None, "") if self.coder is None else self.coder.stop()
        try:
            return code_capture(file, plan.coded.wanted, spool, trouble)
        except SwathError as error:
            errors.append(str(error))
            return "", 0

    def _command_after(self) -> None:
        try:
            run_commands(self.rig.scan, "after", self.base, self.bus)
        except ConfigError as error:
            self.warn(str(error))


def _armed(
    plan: Plan, engine: Engine, file: Path, lines: int, seconds: float, warnings: list[str]
) -> Armed:
    info = plan.info
    return Armed(
        driver=info.driver,
        sensor_type=info.sensor_type,
        bands=info.bands,
        samples=info.samples,
        data_type=info.data_type,
        bit_depth=info.bit_depth,
        file=str(file),
        backend=engine.backend,
        why=engine.why,
        store=plan.rig.pipeline.store,
        serial=info.serial,
        exposure_ms=info.exposure_ms,
        fps=info.fps,
        temperature_c=info.temperature_c,
        wavelength_nm=plan.axis.ends_nm,
        lines=lines,
        seconds=seconds,
        warnings=list(warnings),
    )


def errors_or_nothing(errors: list[str]) -> SwathError:
    """Make the error of a capture without a single line."""
    if errors:
        return StorageError(errors[0])
    return StorageError("no line arrived, so there is no file; is the camera triggered?")
