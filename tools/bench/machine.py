"""Says what was measured on: processor, memory, versions, date and the state of the code."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "numba", "pyzmq", "imagecodecs", "cupy-cuda12x", "cupy-cuda13x")
PEERS = ("scikit-learn", "spectral", "openhsi")


def describe(cores: int, *, peers: bool = False) -> dict[str, str]:
    """Describe machine and software, in the order in which it is shown."""
    found = {
        "processor": f"{_processor()}, {cores} cores",
        "memory": _memory(),
        "GPU": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
    }
    for name in PACKAGES + (PEERS if peers else ()):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["swath"] = _revision()
    found["date"] = dt.datetime.now(dt.UTC).date().isoformat()
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return f"{int(line.split()[1]) / 2**20:.0f} GiB"
    except OSError:
        pass
    return ""


def _gpu() -> str:
    from pipeline.compute import choose_backend
    from pipeline.errors import DeviceError

    try:
        backend = choose_backend("cuda")
    except DeviceError:
        return "none"
    try:
        return backend.why.removeprefix("found ")
    finally:
        backend.close()


def _revision() -> str:
    """Name the commit of the checkout, and say whether files differ from it."""
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(ROOT), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=20,
            ).stdout.strip()
            for arguments in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        )
    except (OSError, subprocess.SubprocessError):
        return "of unknown revision"
    return commit + (" with changes" if changed else "")
