"""The rows of two processes: the link alone, and whole captures, beside bare pipes.

The driver is ``swath drive`` with a recording that is replayed as fast as it is taken; at the other
end stand the session of a capture, or the capture itself. The bare pipes of :mod:`bare_pipe` move
messages of the same size and write with the same calls, without any program around them.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench import bare_pipe
from bench.data import Blocks, Geometry, Recording
from bench.kernels import lines_per_s
from bench.limits import Writes
from bench.measure import Row, Run, alternate, spread
from bench.settings import Settings
from pipeline.capture import run_capture
from pipeline.container.envi import write_envi
from pipeline.errors import SwathError
from pipeline.events import Arming, Event, EventBus, Phase
from pipeline.rigfile import load_rig
from pipeline.session import Session
from pipeline.stream.engine_link import EngineLink

#: Memory of the file system that keeps files in the page cache alone.
SHARED_MEMORY = Path("/dev/shm")
#: Lines of the source: more bytes than a cache holds, replayed again and again.
SOURCE_BYTES = 1 << 30
LINK, DISK = "link", "capture to disk"

#: How blocks come from a driver on the same host, and when its slots cannot be mapped.
LINKS = (
    ("drive → process over ipc, as in a capture", True),
    ("drive → process over ipc, every byte through the socket", False),
)
RAW = ("pipeline.preview=false", "pipeline.quality=false")
#: What is captured beside the bare pipe-to-file, and what part of it it must reach.
CAPTURES: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("raw lines only", RAW, 0.85),
    ("raw lines, whole pixel pass and previews", (), 0.7),
)


class Source:
    """A recording on disk, with its references, and the rig file that replays it."""

    def __init__(self, geometry: Geometry, settings: Settings, folder: Path, place: Path) -> None:
        recording = Recording(geometry, settings.different_lines)
        self.geometry = geometry
        wanted = min(SOURCE_BYTES, settings.stream_bytes, settings.file_bytes)
        lines = max(1, geometry.lines(wanted))
        self.block_lines = geometry.block_lines(settings.block_mib)
        cube = np.take(recording.lines, np.arange(lines) % len(recording.lines), axis=0)
        fields = {
            "bit depth": recording.bit_depth,
            "exposure": "7.0",
            "wavelength": recording.wavelength.tolist(),
            "wavelength units": "Nanometers",
        }
        write_envi(folder, "source", cube.transpose(0, 2, 1), fields)
        for name, mean, exposure in (
            ("white", recording.white, "4.0"),
            ("white_black", recording.white_black, "4.0"),
            ("black", recording.black, "7.0"),
        ):
            write_envi(folder, name, mean.T[None], {"exposure": exposure})
        write_envi(folder, "bad", recording.bad_pixels.T[None].astype(np.uint8))
        most = geometry.lines(max(settings.stream_bytes, settings.file_bytes))
        self.rig = folder / "rig.toml"
        self.rig.write_text(
            f'[camera]\ndriver = "replay"\nfile = "source.hdr"\nrate = "max"\n'
            f"loops = {most // lines + 2}\n"
            f"[stream]\nblock_lines = {self.block_lines}\n"
            '[references]\nwhite = "white.hdr"\nblack = "black.hdr"\npanel = 0.95\n'
            '[pipeline]\nbackend = "cpu"\nbad_pixels = "bad.hdr"\n'
            f'[output]\nfolder = "{place}"\nname = "bench"\n'
        )

    @property
    def block_bytes(self) -> int:
        """Of a block on its way."""
        return self.block_lines * self.geometry.line_bytes


@contextlib.contextmanager
def source(geometry: Geometry, settings: Settings) -> Iterator[Source]:
    """Make a source that lies in the page cache, and a folder for what is captured."""
    roomy = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 3 * SOURCE_BYTES
    with (
        tempfile.TemporaryDirectory(
            prefix="bench-", dir=SHARED_MEMORY if roomy else settings.folder
        ) as folder,
        tempfile.TemporaryDirectory(prefix="bench-", dir=settings.folder) as place,
    ):
        yield Source(geometry, settings, Path(folder), Path(place))


def rows(settings: Settings, *, link: bool, disk: bool) -> Iterator[Row]:
    """Measure link and capture for each geometry; ``link``, ``disk``: which."""
    for number, geometry in enumerate(settings.stream_geometries):
        with source(geometry, settings) as made:
            if link:
                yield from _link_rows(made, settings)
            if disk:
                if number == 0:
                    yield _writes_row(made, settings)
                yield from _capture_rows(made, settings)


def _link_rows(made: Source, settings: Settings) -> Iterator[Row]:
    """Measure drive → process: every block received, acknowledged and forgotten."""
    lines = max(2 * made.block_lines, made.geometry.lines(settings.stream_bytes))

    def limit() -> float:
        return bare_pipe.run("pipe", made.block_bytes, lines * made.geometry.line_bytes)

    with contextlib.ExitStack() as stack:
        runs: list[Run] = [limit]
        for _, maps in LINKS:
            session = stack.enter_context(_session(made, maps))
            runs.append(partial(receive, session, lines))
        bound, *others = alternate(runs, settings.long_rounds)
    for (step, maps), said in zip(LINKS, others, strict=True):
        rate = spread(said)
        yield Row(
            section=LINK,
            step=step,
            geometry=str(made.geometry),
            block_mib=made.block_bytes / 2**20,
            rate=rate,
            lines_per_s=lines_per_s(rate, made.geometry),
            limit="bare ZeroMQ pipe",
            limit_rate=spread(bound),
            ratio=spread([a / b for a, b in zip(said, bound, strict=True)]),
            # bytes through the socket are what is left where memory cannot be shared
            required=0.85 if maps else None,
        )


@contextlib.contextmanager
def _session(made: Source, maps: bool) -> Iterator[Session]:
    """Start a driver and arm it, as a capture does; ``maps``: take its slots as they are."""
    session = Session(
        load_rig(made.rig),
        rig_path=made.rig,
        overrides=(),
        endpoint=None,
        bus=EventBus(),
        stop=threading.Event(),
    )
    try:
        if not maps:
            session.link.close()
            session.link = EngineLink(session.endpoint, maps=False)
        session.open()
        session.arm()
        yield session
    finally:
        session.close()


def receive(session: Session, lines: int) -> float:
    """Take so many lines from a driver: GB/s from the end of the first block, as a bare pipe."""
    began, taken, ended = 0.0, 0, 0.0
    for block in session.series("scan", lines=lines):
        if block is None:
            continue
        if began:
            taken += block.pixels.nbytes
        session.link.ack(block.header.series, block.header.seq)
        block.slot.release()
        ended = time.perf_counter()
        began = began or ended
    return taken / (ended - began) / 1e9


def _writes_row(made: Source, settings: Settings) -> Row:
    """Measure the sink's write calls by themselves."""
    recording = Recording(made.geometry, min(settings.different_lines, 64))
    with Blocks(recording, made.block_lines, settings.buffer_bytes) as blocks:
        total = made.geometry.lines(settings.file_bytes) * made.geometry.line_bytes
        run = Writes(blocks.raw, total, settings.folder)
        run()
        rate = spread([run() for _ in range(settings.long_rounds)])
    return Row(section="limits", step="the sink's write calls alone", rate=rate)


def _capture_rows(made: Source, settings: Settings) -> Iterator[Row]:
    """Measure whole captures in turn with the bare pipe-to-file."""
    lines = max(2 * made.block_lines, made.geometry.lines(settings.file_bytes))
    total = lines * made.geometry.line_bytes

    def bare() -> float:
        return bare_pipe.run("disk", made.block_bytes, total, settings.folder)

    def capture(overrides: tuple[str, ...]) -> float:
        return total / capture_seconds(made.rig, lines, overrides) / 1e9

    runs: list[Run] = [bare]
    runs += [partial(capture, chosen) for _, chosen, _ in CAPTURES]
    bound, *captured = alternate(runs, settings.long_rounds)
    for (step, _, required), said in zip(CAPTURES, captured, strict=True):
        rate = spread(said)
        yield Row(
            section=DISK,
            step=step,
            geometry=str(made.geometry),
            block_mib=made.block_bytes / 2**20,
            rate=rate,
            lines_per_s=lines_per_s(rate, made.geometry),
            limit="bare pipe to file",
            limit_rate=spread(bound),
            ratio=spread([a / b for a, b in zip(said, bound, strict=True)]),
            required=required,
        )


def capture_seconds(rig_path: Path, lines: int, overrides: tuple[str, ...]) -> float:
    """Run one capture and remove its file; seconds of the scan.

    From the request for the first line until every line is stored and, with stages, computed: what
    comes after that (ledger, thumbnail, closing the file) does not grow with the scan.

    Raises
    ------
    SwathError
        When it failed, or lost a line.
    """
    times: list[float] = []

    def see(event: Event) -> None:
        if isinstance(event, Phase) or (isinstance(event, Arming) and times):
            times.append(time.perf_counter())

    bus = EventBus()
    bus.subscribe(see)
    rig = load_rig(rig_path, overrides)
    result = run_capture(rig, rig_path=rig_path, lines=lines, bus=bus, overrides=overrides)
    Path(result.file).unlink()
    if result.exit_status or result.lines != lines:
        raise SwathError(
            f"the capture ended with {result.lines} of {lines} lines: {result.message}"
        )
    return times[1] - times[0]
