"""Compiles the producer with the Makefile beside it, once for each state of its sources."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from pipeline.errors import SwathError

HERE = Path(__file__).resolve().parent
NAME = "swath_virtual.cti"
_PR_SET_PDEATHSIG = 1
#: What make has to end in after it was asked to, s.
_END_S = 5.0


class CannotBuildError(SwathError):
    """There is no compiler or no make, or they failed; the text says which."""


class BuildFolderError(CannotBuildError):
    """Builds cannot be kept in the folder that was given."""

    exit_status = 2


def compiler() -> str:
    """Find the compiler: ``CXX``, else g++ or clang++.

    Raises
    ------
    CannotBuildError
        When there is none, or no make.
    """
    given = os.environ.get("CXX", "")
    found = next((name for name in (given, "g++", "clang++") if name and shutil.which(name)), None)
    if found is None:
        raise CannotBuildError("no C++ compiler: neither g++ nor clang++ is here, nor CXX set")
    if shutil.which("make") is None:
        raise CannotBuildError("make is not here")
    return found


def build(folder: Path | None = None, sanitize: str = "") -> Path:
    """Compile what is not compiled yet.

    Parameters
    ----------
    folder : Path, optional
        Where builds are kept, each under a name made from its sources; by default in the system's
        folder for temporary files.
    sanitize : str
        Sanitizers, ``address,undefined`` for example.

    Returns
    -------
    Path
        The producer, ``swath_virtual.cti``.

    Raises
    ------
    CannotBuildError
        When there is no compiler, or it fails.
    BuildFolderError
        When nothing can be kept in the folder.
    """
    cxx = compiler()
    digest = hashlib.sha256(f"{cxx} {sanitize}".encode())
    for file in sorted([HERE / "Makefile", *(HERE / "src").iterdir()]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    base = folder or Path(tempfile.gettempdir()) / f"swath-virtual-build-{os.getuid()}"
    target = base.absolute() / digest.hexdigest()[:16]
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid != os.getuid():
            # what lies there is loaded into this process
            raise BuildFolderError(f"{base}: belongs to another user")
        if (target / NAME).exists():
            return target / NAME
        # One process builds, others wait for it; none sees half a library.
        with (base / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (target / NAME).exists():
                _compile(cxx, sanitize, target)
    except OSError as error:
        raise BuildFolderError(
            f"{base}: builds cannot be kept there ({error.strerror}), allowed is a folder that can "
            "be written to"
        ) from error
    return target / NAME


def _compile(cxx: str, sanitize: str, target: Path) -> None:
    """Compile beside the target, then move it into place; holds the lock."""
    aside = target.parent / "unfinished"
    shutil.rmtree(aside, ignore_errors=True)  # of a build that was killed
    command = ["make", "-s", f"-j{os.cpu_count() or 1}", f"CXX={cxx}", f"SANITIZE={sanitize}"]
    try:
        aside.mkdir()
        status, said = _make([*command, "BUILD=out", "-f", str(HERE / "Makefile")], aside)
        if status:
            raise CannotBuildError(f"{cxx} failed:\n{said[-4000:]}")
        made = aside / "out" / NAME
        if not made.exists():
            raise CannotBuildError(f"{cxx} ended well, but made no {NAME}: is it a C++ compiler?")
        target.mkdir(exist_ok=True)
        os.replace(made, target / NAME)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _make(command: list[str], folder: Path) -> tuple[int, str]:
    """Run make; its status and stderr. It and its compilers end when this process is ended."""
    prctl = ctypes.CDLL(None).prctl
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A sanitizer that is loaded into this process has no business in the compiler.
        env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
        start_new_session=True,
        # A kill that cannot be caught reaches make this way, which ends its compilers.
        preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
    ) as made:
        try:
            _, said = made.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(made.pid, signal.SIGTERM)
            try:
                made.communicate(timeout=_END_S)
            except subprocess.TimeoutExpired:
                os.killpg(made.pid, signal.SIGKILL)
            raise
    return made.returncode, said
