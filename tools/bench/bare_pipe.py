"""What two processes, ZeroMQ and the disk can do with no program around them: the limits of a link.

    python tools/bench/bare_pipe.py pipe --message-mib 14
    python tools/bench/bare_pipe.py disk --message-mib 14 --folder /data

A sender pushes messages of one size from rotating buffers without a copy; the receiver takes each
into a rotating slot with ``recv_into``, and either forgets it or writes it, by the same system
calls as a sink that keeps the page cache small: ``pwrite``, ``sync_file_range`` at once, waited
for and dropped some MiB behind. Prints one JSON object. Imports nothing of swath.

``shared`` and ``shared-disk`` are the same with the pixels in memory that both processes map: the
sender copies each message into a slot there, and ZeroMQ carries its number.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

KINDS = ("pipe", "disk", "shared", "shared-disk")
#: Slots of the receiver, and messages under way: as many as a link grants at the least.
SLOTS = 8
#: Memory that the sender's buffers take: more than any cache keeps to itself, bytes.
ROTATING_BYTES = 1 << 30
#: Bytes that may lie behind the write position before they are waited for and dropped, twice over.
DROP_BYTES = 32 << 20
#: After so long without a message the other side is given up, ms.
SILENT_MS = 20_000
_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_WAIT_WRITE_WAIT = 7  # … WAIT_BEFORE | WRITE | WAIT_AFTER


def run(kind: str, message_bytes: int, total_bytes: int, folder: str | Path | None = None) -> float:
    """Send so many bytes through a bare pipe and say how fast they came.

    Parameters
    ----------
    kind : {"pipe", "disk", "shared", "shared-disk"}
        Forget or write what comes; over a socket, or in shared memory.
    message_bytes : int
        Of each message.
    total_bytes : int
        Rounded down to whole messages, two at least.
    folder : path, optional
        Where ``disk`` writes; the file is removed again.

    Returns
    -------
    float
        GB/s, from the first message's arrival to the last one's end.

    Raises
    ------
    ValueError
        When there is no such kind.
    RuntimeError
        When the sender fails.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: found {kind!r}, allowed are {', '.join(KINDS)}")
    count = max(2, total_bytes // message_bytes)
    with tempfile.TemporaryDirectory(prefix="bare-") as scratch:
        command = [sys.executable, __file__, kind, "--send", f"{scratch}/pipe"]
        command += ["--message-bytes", str(message_bytes), "--count", str(count)]
        # a session of its own: Ctrl-C is for this process, which then ends it
        sender = subprocess.Popen(command, start_new_session=True)
        try:
            seconds = _receive(kind, f"{scratch}/pipe", message_bytes, count, folder)
            if sender.wait(SILENT_MS / 1000):
                raise RuntimeError(f"the sender ended with status {sender.returncode}")
        finally:
            sender.kill()
            sender.wait()
    return (count - 1) * message_bytes / seconds / 1e9


def _receive(kind: str, path: str, size: int, count: int, folder: str | Path | None) -> float:
    """Take ``count`` messages; returns the seconds from the first to the last."""
    with contextlib.ExitStack() as stack:
        write: Callable[[memoryview], None] = lambda view: None  # noqa: E731
        if kind.endswith("disk"):
            write = stack.enter_context(_file(folder))
        context = stack.enter_context(zmq.Context())
        socket = stack.enter_context(context.socket(zmq.DEALER))
        socket.rcvtimeo = SILENT_MS
        socket.linger = 0
        socket.rcvhwm = SLOTS
        socket.connect(f"ipc://{path}")
        socket.send(b"go")
        return (_take_shared if kind.startswith("shared") else _take)(socket, size, count, write)


def _take(socket: Any, size: int, count: int, write: Callable[[memoryview], None]) -> float:
    slots = memoryview(mmap.mmap(-1, SLOTS * _pages(size)))
    _touch(slots)
    began = 0.0
    for number in range(count):
        at = number % SLOTS * _pages(size)
        slot = slots[at : at + size]
        if socket.recv_into(slot) != size:
            raise RuntimeError("a message of another size")
        write(slot)
        socket.send(b"")  # what a receiver gives back: its place is free
        if not number:
            began = time.perf_counter()
    return time.perf_counter() - began


def _take_shared(socket: Any, size: int, count: int, write: Callable[[memoryview], None]) -> float:
    where = json.loads(socket.recv())
    fd = os.open(f"/proc/{where['pid']}/fd/{where['fd']}", os.O_RDWR)
    slots = memoryview(mmap.mmap(fd, 0))
    os.close(fd)
    began = 0.0
    for number in range(count):
        at = int.from_bytes(socket.recv(), "little") * _pages(size)
        write(slots[at : at + size])
        socket.send(b"")
        if not number:
            began = time.perf_counter()
    return time.perf_counter() - began


@contextlib.contextmanager
def _file(folder: str | Path | None) -> Any:
    """Make a function that writes one view behind the last one, as a sink does."""
    path = tempfile.mktemp(prefix="bare-", dir=folder)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    sync = ctypes.CDLL(None, use_errno=True).sync_file_range
    sync.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    at = dropped = 0

    def write(view: memoryview) -> None:
        nonlocal at, dropped
        start, left = at, view
        while left:
            done = os.pwrite(fd, left, at)
            at += done
            left = left[done:]
        sync(fd, start, at - start, _WRITE)
        if at - dropped >= 2 * DROP_BYTES:
            length = at - DROP_BYTES - dropped
            sync(fd, dropped, length, _WAIT_WRITE_WAIT)
            os.posix_fadvise(fd, dropped, length, os.POSIX_FADV_DONTNEED)
            dropped += length

    try:
        yield write
    finally:
        os.close(fd)
        os.unlink(path)


def _send(kind: str, path: str, size: int, count: int) -> None:
    """Be the sender: at most ``SLOTS`` messages are not yet given back."""
    buffers = max(SLOTS + 1, min(count, ROTATING_BYTES // _pages(size)))
    source = memoryview(mmap.mmap(-1, buffers * _pages(size)))
    _touch(source)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.rcvtimeo = socket.sndtimeo = SILENT_MS
        socket.router_mandatory = 1
        socket.bind(f"ipc://{path}")
        peer, _ = socket.recv_multipart()
        shared = None
        if kind.startswith("shared"):
            fd = os.memfd_create("bare")
            os.ftruncate(fd, SLOTS * _pages(size))
            shared = memoryview(mmap.mmap(fd, SLOTS * _pages(size)))
            _touch(shared)
            socket.send_multipart([peer, json.dumps({"pid": os.getpid(), "fd": fd}).encode()])
        for number in range(count):
            if number >= SLOTS:
                socket.recv_multipart()
            at = number % buffers * _pages(size)
            buffer = source[at : at + size]
            socket.send(peer, zmq.SNDMORE)
            if shared is None:
                socket.send(buffer, copy=False)
            else:
                slot = number % SLOTS
                _copy(shared[slot * _pages(size) :][:size], buffer)
                socket.send(slot.to_bytes(4, "little"))
        for _ in range(min(count, SLOTS)):
            socket.recv_multipart()
        del shared


def _copy(into: memoryview, source: memoryview) -> None:
    """Copy without the interpreter lock being of interest: nobody else wants it here."""
    into[:] = source


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _touch(memory: memoryview) -> None:
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = at // mmap.PAGESIZE % 251 + 1


def main() -> int:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--message-mib", type=float, default=14.0)
    parser.add_argument("--total-gib", type=float, default=4.0)
    parser.add_argument("--folder", help="where disk writes")
    parser.add_argument("--message-bytes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--send", help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = args.message_bytes or int(args.message_mib * (1 << 20))
    if args.send:
        _send(args.kind, args.send, size, args.count)
        return 0
    free = shutil.disk_usage(args.folder or tempfile.gettempdir()).free
    total = int(args.total_gib * (1 << 30))
    if args.kind.endswith("disk") and free < 2 * total:
        print(f"{free / 1e9:.1f} GB are free, {2 * total / 1e9:.1f} are needed", file=sys.stderr)
        return 2
    rate = run(args.kind, size, total, args.folder)
    print(json.dumps({"kind": args.kind, "message_bytes": size, "gb_per_s": round(rate, 3)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
