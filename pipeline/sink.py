"""The sink: blocks in, a growing container out; the disk before the arithmetic.

One thread (the capture's) stores each block and acknowledges it; with ``store = "raw"`` the stages
run in a second thread that always takes lines in order: when the ring of slots runs short, a block
gives its slot back at once and its lines are read from the file again later, so that computing
never holds up recording. With ``"reflectance"`` and ``"pca"`` the stages' result is what is stored.
Knows slots, stages, engine and the container's writer; not the link, but for the function that
acknowledges.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backlog import Backlog, Task
from pipeline.container.ledger_store import refused_row
from pipeline.container.writer import ContainerWriter
from pipeline.engine import BlockResult, Engine, PcaGroup
from pipeline.errors import StorageError, SwathError
from pipeline.layout import LedgerRows, LineStatus
from pipeline.live import LivePreview
from pipeline.slots import Ring
from pipeline.stream.link import Block

#: Below this share of free slots the stages let go of their slots.
LOW_RING = 0.25


class Sink:
    """Stores blocks and runs the stages on them.

    Parameters
    ----------
    writer : ContainerWriter
        Open for blocks.
    engine : Engine or None
        The armed stages; None stores raw lines only.
    store : {"raw", "reflectance", "pca"}
    hurry : bool
        The camera does not wait: where slots run short the stages let go of theirs. Otherwise
        lines come as fast as the stages take them.
    acknowledge : callable
        Called with (series, seq) when a block is stored.
    warn : callable
        Called with one sentence.
    live : LivePreview, optional
        Shows the rows of the smallest preview while they are made.

    Attributes
    ----------
    clipped : int
        Reflectance values that were stored as the limit.
    untrusted : int
        Lines whose factors were not believed.
    made_up : int
        Lines that the stages took from the file again.
    pca_pixels : int
        Spectra that bases were learned from.
    failure : str
        Why the stages stopped before the last line; empty while they work.
    """

    def __init__(
        self,
        writer: ContainerWriter,
        engine: Engine | None,
        *,
        store: str,
        hurry: bool = True,
        acknowledge: Callable[[str, int], None],
        warn: Callable[[str], None],
        live: LivePreview | None = None,
    ) -> None:
        self._live = live
        self._writer = writer
        self._engine = engine
        self._store = store
        self._hurry = hurry
        self._acknowledge = acknowledge
        self._warn = warn
        self._backlog = Backlog(engine.plan.block_lines if engine is not None else 1)
        self._lines = 0
        self._pending: list[LedgerRows] = []
        self.clipped = 0
        self.untrusted = 0
        self.made_up = 0
        self.pca_pixels = 0
        self.failure = ""
        self._aborted = False
        self._under_way: deque[Task] = deque()
        self._others_stand = False  # after a failure: what is under way can still be collected
        self._pinned: Ring | None = None
        self._refused: StorageError | None = None
        self._thread: threading.Thread | None = None
        if engine is not None and store == "raw":
            self._thread = threading.Thread(target=self._compute, name="swath-stages", daemon=True)
            self._thread.start()

    def take(self, block: Block) -> None:
        """Store one block, acknowledge it and give its slot back (now or when computed).

        Raises
        ------
        StorageError
            The disk refuses; all lines stored before are kept.
        """
        try:
            if self._store == "raw":
                self._take_raw(block)
            else:
                self._take_result(block)
        finally:
            block.slot.release()

    def _take_raw(self, block: Block) -> None:
        ring = block.slot.ring  # the driver's own on the same host
        late = self._thread is not None and self._hurry and ring.free < ring.count * LOW_RING
        rows = block.rows
        if late:
            rows = rows.copy()
            rows["status"][rows["status"] == LineStatus.OK] = LineStatus.NOT_INSPECTED
        try:
            self._writer.write(block.pixels, rows)
        except StorageError:
            self._inspect(block, rows, late)  # what went in before the disk was full
            raise
        self._acknowledge(block.header.series, block.header.seq)
        self._inspect(block, rows, late)

    def _inspect(self, block: Block, rows: LedgerRows, late: bool) -> None:
        """Have the stages look at the lines of a block that are stored."""
        lines = self._writer.lines - self._lines
        if self._thread is None or lines == 0:
            return
        first, self._lines = self._lines, self._lines + lines
        if late:
            self._backlog.put(Task(first, lines))
            return
        block.slot.retain()
        own = rows[rows["line"] >= 0][:lines].copy()
        self._backlog.put(Task(first, lines, own, block.slot, block.pixels[:lines]))

    def _take_result(self, block: Block) -> None:
        assert self._engine is not None
        rows = block.rows
        stored = rows["line"] >= 0
        valid = rows["status"][stored] != LineStatus.LOST
        if self._store == "reflectance":
            result = self._engine.process(block.pixels, valid)
            rows = rows.copy()
            _count(rows, stored, result)
            assert result.reflectance is not None
            self._writer.write(result.reflectance, rows)
            self._side(result)
        else:
            self._pending.append(rows.copy())
            result = self._engine.process(block.pixels, valid)
            _count(self._pending[-1], stored, result)
            self._store_groups(result.pca)
            self._side(result)
        # With pca a block counts as stored once the engine holds it: a group of lines needs
        # more blocks than a driver may keep unacknowledged (docs/decisions).
        self._acknowledge(block.header.series, block.header.seq)

    def _side(self, result: BlockResult) -> None:
        """Append what the stages made beside the lines."""
        self.clipped += result.clipped
        self.untrusted += result.untrusted
        if result.quality is not None and result.quality.size:
            self._writer.append("quality", result.quality)
        for level, strip in result.previews:
            if strip.size:
                self._writer.append(f"preview{level}", strip)
        if self._live is not None:
            rows = next((strip for level, strip in result.previews if level == 0), None)
            self._live.show(rows, result.first_line + result.lines, result.begun)

    def _store_groups(self, groups: list[PcaGroup]) -> None:
        for group in groups:
            rows = self._rows_for(group.lines)
            if self._refused is None:
                try:
                    # Before the scores: lines without their basis would be of no use.
                    self._writer.append("pca_mean", group.mean)
                    self._writer.append("pca_basis", np.ascontiguousarray(group.basis))
                    self.pca_pixels += group.pixels
                except StorageError as error:
                    self._refused = error
            if self._refused is not None:
                self._refuse(rows)
                continue
            try:
                self._writer.write(group.scores, rows)
            except StorageError as error:
                self._refused = error
        if self._refused is not None:
            raise self._refused

    def _refuse(self, rows: LedgerRows) -> None:
        """Enter lines that cannot be decoded, for want of their basis, as lost."""
        row = refused_row(int(rows["count"].sum(dtype=np.int64)), rows[:1])
        with contextlib.suppress(StorageError):  # then the writer has counted them
            self._writer.write(np.empty(0, np.int16), row)

    def _rows_for(self, lines: int) -> LedgerRows:
        """Take from the pending rows those of the next ``lines`` stored lines, gaps included."""
        rows = np.concatenate(self._pending)
        ends = np.flatnonzero(rows["line"] >= 0)
        cut = len(rows) if len(ends) <= lines else int(ends[lines - 1]) + 1
        self._pending = [rows[cut:]] if cut < len(rows) else []
        return rows[:cut]

    def _compute(self) -> None:
        """Be the thread of the stages: as many blocks under way as the engine is deep."""
        assert self._engine is not None
        while True:
            # While there is nothing new, what is under way is waited for: the picture must come.
            if self._under_way and (
                len(self._under_way) >= self._engine.depth or not len(self._backlog)
            ):
                self._attend(self._under_way.popleft(), self._collect)
                continue
            task = self._backlog.take(self._idle)
            if task is None:
                return
            self._attend(task, self._submit)

    def _attend(self, task: Task, do: Callable[[Task], bool]) -> None:
        """Do one step of a task; when it fails, the stages stop and the raw lines go on."""
        over = True
        try:
            if self.failure and not (self._others_stand and do == self._collect):
                self._not_inspected(task)
            elif not self._aborted:
                over = do(task)
        except Exception as error:  # whatever it is, the raw lines go on
            # A block that could not be begun leaves those before it as they are.
            self._others_stand = not self.failure and do == self._submit
            if not self.failure:
                text = str(error) if isinstance(error, SwathError) else repr(error)
                self.failure = f"stages stopped at line {task.first_line}: {text}"
                self._warn(f"{self.failure}; raw lines are still stored")
            with contextlib.suppress(SwathError):
                self._not_inspected(task)
        finally:
            if over:
                task.release()

    def _idle(self) -> None:
        """Show what waits: when lines pause, the picture must not lag behind them."""
        if self._live is not None:
            self._live.flush()

    def _submit(self, task: Task) -> bool:
        """Send a task on its way; it is not over yet."""
        assert self._engine is not None
        if task.pixels is None or task.rows is None:
            task.pixels = self._writer.read_back(task.first_line, task.lines)
            task.rows = self._writer.rows_back(task.first_line, task.lines)
            self.made_up += task.lines
        elif task.slot is not None and task.slot.ring is not self._pinned:
            self._pin(task.slot.ring)
        self._engine.submit(task.pixels, task.rows["status"] != LineStatus.LOST)
        self._under_way.append(task)
        return False

    def _pin(self, ring: Ring) -> None:
        """Make the slots fast to reach for a GPU, and let those of a driver that is gone go."""
        assert self._engine is not None
        while self._under_way:
            self._attend(self._under_way.popleft(), self._collect)
        if self._pinned is not None:
            self._engine.unpin(self._pinned.memory)
        self._engine.pin(ring.memory)
        self._pinned = ring

    def _collect(self, task: Task) -> bool:
        """Take the result of the task that was sent on its way first."""
        assert self._engine is not None
        assert task.rows is not None
        result = self._engine.collect()
        self._side(result)
        rows = task.rows
        rows["status"][rows["status"] == LineStatus.NOT_INSPECTED] = LineStatus.OK
        _count(rows, np.ones(task.lines, bool), result)
        self._writer.amend_rows(task.first_line, rows)
        return True

    def _not_inspected(self, task: Task) -> None:
        """Say in the ledger that the stages have not seen these lines."""
        rows = task.rows
        if rows is None:
            rows = self._writer.rows_back(task.first_line, task.lines)
        rows["status"][rows["status"] == LineStatus.OK] = LineStatus.NOT_INSPECTED
        self._writer.amend_rows(task.first_line, rows)

    def finish(self) -> BlockResult | None:
        """Wait until every line is computed, and flush the stages.

        Raises
        ------
        StorageError
            The disk refuses what the stages still held.
        """
        if self._thread is not None:
            self._backlog.close()
            self._thread.join()
            self._thread = None
            if self.failure:
                return None
        if self._engine is None:
            return None
        result = self._engine.finish()
        if self._store == "pca":
            self._store_groups(result.pca)
            if self._pending:
                rest = np.concatenate(self._pending)
                self._writer.write(np.empty(0, np.int16), rest[rest["line"] < 0])
        self._side(result)
        if self._live is not None:
            self._live.flush()
        return result

    def abort(self) -> None:
        """Stop computing; what is stored stays."""
        self._aborted = True
        if self._thread is not None:
            self._backlog.close()
            self._thread.join(timeout=10.0)
            self._thread = None


def _count(rows: LedgerRows, stored: NDArray[np.bool_], result: BlockResult) -> None:
    """Write the stages' counts into the rows of stored lines."""
    for name, counts in (
        ("saturated", result.saturated),
        ("bad", result.bad),
        ("below_dark", result.below_dark),
    ):
        column: Any = rows[name]
        column[stored] = counts
