"""Starts, watches, restarts and stops a process; used by the capture and by the daemon.

:class:`DriverProcess` is ``swath drive`` as a child in a session of its own: a Ctrl-C at the
terminal never reaches it, it dies with its parent, and what it said last on stderr is kept, so that
a death can be told in one sentence. :class:`BackOff` says how long to wait before it is started
again. Knows subprocess and the error tree, nothing of lines or links.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from pipeline.errors import CameraError, ConfigError, SwathError

#: Lines of stderr that are kept, and how long one may be.
TAIL_LINES: Final = 40
TAIL_LINE_BYTES: Final = 4096
#: What an error on stderr begins with.
ERROR: Final = "swath:"


class BackOff:
    """How long to wait before the next start: doubles with each failure, up to a limit.

    Parameters
    ----------
    first_s, limit_s : float
        The first wait and the longest, s.
    good_s : float
        A run of at least so many seconds counts as good: the next wait is ``first_s`` again.
    """

    def __init__(self, first_s: float = 0.2, limit_s: float = 10.0, good_s: float = 60.0) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._good_s = good_s
        self._next_s = first_s

    def after(self, ran_s: float) -> float:
        """Give the wait in s after a run of ``ran_s`` seconds that ended by itself."""
        if ran_s >= self._good_s:
            self._next_s = self._first_s
        wait = self._next_s
        self._next_s = min(2 * wait, self._limit_s)
        return wait


class ChildProcess:
    """A child process with its own session, a kept tail of stderr, and a sure end.

    Start it from a thread that lives as long as the child should: where the child asks to die with
    its parent, Linux means the thread that started it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    name : str
        How messages call it.
    on_line : callable, optional
        Receives each line of its stderr as it comes, in the reading thread.
    """

    def __init__(
        self, command: Sequence[str], *, name: str, on_line: Callable[[str], None] | None = None
    ) -> None:
        self.command = list(command)
        self.name = name
        self.starts = 0
        self._on_line = on_line
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._started = 0.0

    def start(self) -> None:
        """Start the process; it must not run yet.

        Raises
        ------
        ConfigError
            When the system cannot start it.
        """
        assert not self.alive, f"{self.name} runs already"
        self._reap()
        self._tail = collections.deque(maxlen=TAIL_LINES)
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(
                f"{self.name}: {self.command[0]} cannot be started: {error}"
            ) from None
        self.starts += 1
        self._started = time.monotonic()
        assert self._process.stderr is not None
        self._reader = threading.Thread(
            target=self._read,
            args=(self._process.stderr, self._tail),
            name=f"{self.name} stderr",
            daemon=True,
        )
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id, None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """How the last run ended: exit status, or minus the signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def ran_s(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self._started

    @property
    def tail(self) -> list[str]:
        """The last lines of its stderr."""
        return list(self._tail)

    def last_words(self) -> str:
        """Say in one sentence how it ended and what it said last; empty while it runs.

        Its last words are the last line in which swath itself tells an error; a complaint about bad
        input stands alone, as it says everything.
        """
        code = self.returncode
        if code is None:
            return ""
        if self._reader is not None:
            self._reader.join(1.0)  # what it wrote may still be in the pipe
        if code < 0:
            try:
                how = f"was ended by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was ended by signal {-code}"
        else:
            how = f"ended with exit status {code}"
        lines = (line for line in reversed(self._tail) if line.startswith(ERROR))
        said = next(lines, "").removeprefix(ERROR).strip()
        if said and code == ConfigError.exit_status:
            return said
        return f"the {self.name} process {how}" + (f": {said}" if said else "")

    def failure(self) -> SwathError:
        """Give its end as an error: ``ConfigError`` where it complained about bad input."""
        kind = ConfigError if self.returncode == ConfigError.exit_status else CameraError
        return kind(self.last_words())

    def restart(self) -> None:
        """End it, should it still run, and start it again, at once."""
        self.stop()
        self.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask it to end (SIGTERM), make it after ``timeout_s`` (SIGKILL); safe to call twice."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reap()

    def kill(self, timeout_s: float | None = None) -> None:
        """End it at once, with all that it started in its session, and wait for that.

        For ``timeout_s`` at most: what waits for a disk ends when the disk lets it.
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)

    def watch(
        self,
        stop: threading.Event,
        *,
        back_off: BackOff | None = None,
        on_death: Callable[[str, float], None] | None = None,
    ) -> None:
        """Keep it running until ``stop`` is set, then stop it.

        Parameters
        ----------
        stop : threading.Event
            Ends the watch.
        back_off : BackOff, optional
            The waits between starts.
        on_death : callable, optional
            Receives the last words and the wait in s before the next start.
        """
        back_off = back_off or BackOff()
        try:
            while not stop.is_set():
                if self._process is None:
                    self.start()
                if self.alive:
                    stop.wait(0.1)
                    continue
                wait = back_off.after(self.ran_s)
                if on_death is not None:
                    on_death(self.last_words(), wait)
                if not stop.wait(wait):
                    self.start()
        finally:
            self.stop()

    def __enter__(self) -> ChildProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _read(self, stream: IO[bytes], tail: collections.deque[str]) -> None:
        """Keep the tail; a line beyond the limit is cut into several."""
        with stream:
            while chunk := stream.readline(TAIL_LINE_BYTES):
                line = chunk.decode("utf-8", "replace").rstrip("\r\n")
                tail.append(line)
                if self._on_line is not None:
                    self._on_line(line)

    def _reap(self) -> None:
        """Wait for the reader of a process that has ended, so that its pipe is closed."""
        if self._reader is not None and not self.alive:
            # A grandchild may hold the pipe open: then the daemon thread is left behind.
            self._reader.join(0.5)
            self._reader = None


class DriverProcess(ChildProcess):
    """``swath drive RIG`` as a child of this process.

    Parameters
    ----------
    rig_path : Path
        The rig file; the driver reads it itself.
    endpoint : str
        Where it listens.
    overrides : sequence of str
        ``KEY=VALUE``, handed on as ``--set``.
    on_line : callable, optional
        Receives each line of its stderr.
    """

    def __init__(
        self,
        rig_path: str | Path,
        endpoint: str,
        *,
        overrides: Sequence[str] = (),
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        command = [sys.executable, "-P", "-m", "pipeline.cli", "drive", str(rig_path)]
        command += ["--endpoint", endpoint, "--parent", str(os.getpid())]
        for override in overrides:
            command += ["--set", override]
        super().__init__(command, name="driver", on_line=on_line)


def _environment() -> dict[str, str]:
    """Environment of a child that finds this very package, and gives BLAS one thread.

    The child runs with ``-P``, so that a ``pipeline.py`` in the user's folder cannot stand in the
    way; a checkout that is not installed is named in PYTHONPATH instead.
    """
    environment = dict(os.environ)
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    root = Path(__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        given = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{given}" if given else str(root)
    return environment
