"""Codes the blocks of a capture beside it: a process of the lowest priority, and its owner.

:class:`ScanCoder` starts the process when a capture is armed and takes over what it has coded when
the scan has ended; the capture neither waits for it nor hears of its end. ``python -m
pipeline.scan_coder`` is the process itself. What it needs is handed to it as one argument.
Knows supervise and the container's following and spool; nothing of lines or links.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from pipeline.child import end_with_parent, give_way
from pipeline.container.block_codings import BlockCodings
from pipeline.container.following import Followed, Follower
from pipeline.container.spool import SPOOL, Spool
from pipeline.container.writer import ContainerWriter
from pipeline.errors import SwathError
from pipeline.supervise import ChildProcess

#: How often the process looks for new lines, s.
_LOOK_S: Final = 0.1
#: How long its end is waited for: while a line waits for its place on the disk, and else, s.
_AT_ONCE_S: Final = 0.2
_END_S: Final = 5.0
#: Of the blocks that come last two stay in the page cache, in so many bytes at most.
_CACHED_BLOCKS: Final = 2
_MOST_CACHED: Final = 256 << 20


def followed_bytes(codings: BlockCodings | None) -> int:
    """Give what the writer of a capture is to leave in the page cache for who codes its blocks."""
    if codings is None:
        return 0
    block = codings.block_lines * codings.shape.line_bytes()
    return min(_CACHED_BLOCKS * block, _MOST_CACHED)


class _Order(msgspec.Struct, frozen=True):
    """What the process is told."""

    parent: int
    partial: str
    journal: str
    spool: str
    start: int
    lines: int
    codings: msgspec.Raw


class ScanCoder:
    """The process that codes what a writer has written; a context manager that ends it.

    Parameters
    ----------
    writer : ContainerWriter
        Open, with no line yet. When its disk is full, the coded blocks make room.
    codings : BlockCodings
    lines : int
        Expected in all; 0: not known.
    """

    def __init__(self, writer: ContainerWriter, codings: BlockCodings, lines: int) -> None:
        self._key = codings.to_json()
        self._spool = writer.beside / SPOOL
        self._fd = -1
        self._lock = threading.Lock()
        self._full = self._gave_room = False
        order = _Order(
            parent=os.getpid(),
            partial=str(writer.partial),
            journal=str(writer.journal),
            spool=str(self._spool),
            start=writer.payload_start,
            lines=lines,
            codings=msgspec.Raw(self._key),
        )
        text = msgspec.json.encode(order).decode()
        command = [sys.executable, "-P", "-m", "pipeline.scan_coder", text]
        self._process = ChildProcess(command, name="coding")
        writer.give_room = self.give_room

    def __enter__(self) -> ScanCoder:
        """Start the process; where it cannot be, nothing is coded before the scan has ended."""
        if sys.platform == "win32":  # a file that another process has open cannot be renamed there
            return self
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with contextlib.suppress(OSError, SwathError):
            self._fd = os.open(self._spool, flags | getattr(os, "O_CLOEXEC", 0), 0o644)
            self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    def give_room(self) -> bool:
        """Give the room of all coded blocks back to the disk; says whether there was any."""
        with self._lock:
            if self._fd >= 0 and not self._full:
                self._full = True
                self._process.kill(_AT_ONCE_S)
                with contextlib.suppress(OSError):
                    self._gave_room = os.fstat(self._fd).st_size > 0
                    os.ftruncate(self._fd, 0)
            return self._gave_room

    def stop(self) -> tuple[Spool | None, str]:
        """End the process, at once; give its blocks, and why it had ended before, if it had."""
        trouble = "the disk was full" if self._full else self._process.last_words()
        self._process.kill(_END_S)
        try:
            return (Spool(self._fd, self._key) if self._fd >= 0 else None), trouble
        except OSError:
            return None, trouble

    def close(self) -> None:
        """End the process, and leave nothing behind; a second call does nothing."""
        self._process.kill(_END_S)
        if not self._process.alive:
            self._process.stop()
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
        # With the capture's own folder it is gone already, unless the capture was.
        with contextlib.suppress(OSError):
            self._spool.unlink(missing_ok=True)


def main(text: str) -> int:
    """Be the process: code blocks until the parent ends it, or is gone."""
    order = msgspec.json.decode(text, type=_Order)
    end_with_parent()
    give_way()
    capture = Followed(
        Path(order.partial), Path(order.journal), Path(order.spool), order.start, order.lines
    )
    try:
        follower = Follower(capture, BlockCodings.from_json(bytes(order.codings)))
        while os.getppid() == order.parent:
            if not follower.step():
                time.sleep(_LOOK_S)
    except SwathError as error:
        print(f"swath: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"swath: {error.filename or order.partial}: {error.strerror}", file=sys.stderr)
        return SwathError.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
