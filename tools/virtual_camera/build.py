"""Compiles the producer with the Makefile beside it, once for each state of its sources."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "swath_virtual.cti"


class CannotBuildError(RuntimeError):
    """There is no compiler or no make, or they failed; the text says which."""


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
    """
    cxx = compiler()
    digest = hashlib.sha256(f"{cxx} {sanitize}".encode())
    for file in sorted([HERE / "Makefile", *(HERE / "src").iterdir()]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    base = folder or Path(tempfile.gettempdir()) / f"swath-virtual-build-{os.getuid()}"
    target = base / digest.hexdigest()[:16]
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.getuid():
        # what lies there is loaded into this process
        raise CannotBuildError(f"{base}: belongs to another user")
    if (target / NAME).exists():
        return target / NAME
    # One process builds, others wait for it; moved into place, so that none sees half a library.
    with (base / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=base) as aside:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / NAME).exists():
            return target / NAME
        command = ["make", "-s", f"-j{os.cpu_count() or 1}", f"CXX={cxx}", f"SANITIZE={sanitize}"]
        made = subprocess.run(
            [*command, f"BUILD={aside}/out", "-C", str(HERE)],
            capture_output=True,
            text=True,
            check=False,
            # A sanitizer that is loaded into this process has no business in the compiler.
            env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
        )
        if made.returncode:
            raise CannotBuildError(f"{cxx} failed:\n{made.stderr[-4000:]}")
        target.mkdir(exist_ok=True)
        os.replace(Path(aside) / "out" / NAME, target / NAME)
    return target / NAME
