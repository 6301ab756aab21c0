"""How commands write numbers for people and objects for programs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any


def print_json(value: Any) -> None:
    """Write one JSON object to stdout: indented on a terminal, on one line in a pipe."""
    import msgspec

    try:
        data = msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:  # a name of a file that is no UTF-8, which JSON has to be
        data = msgspec.json.encode(_shown(msgspec.to_builtins(value, enc_hook=_plain)))
    if sys.stdout.isatty():
        data = msgspec.json.format(data, indent=2)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write one warning to stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    """Make NumPy values, mappings and paths fit for JSON."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value.items())
    return str(value)


def _shown(value: Any) -> Any:
    """Replace in all texts of a tree what is no UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_shown(key): _shown(one) for key, one in value.items()}
    return [_shown(one) for one in value] if isinstance(value, list | tuple) else value


def size_text(count: float) -> str:
    """Write a number of bytes: ``46.1 MB`` (decimal, as disks count)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration_text(seconds: float) -> str:
    """Write a time span: ``4.2 s``, ``3:07``, ``2:03:07``, ``5 days``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{second:02}"
    hours, minute = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{hours // 24:,} days"


def count_text(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 line``, ``2,000 lines``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quoted(path: str) -> str:
    """Quote a path for a shell, where it needs that."""
    return shlex.quote(path)


def called() -> str:
    """Give the command that swath was called with, so that advice can be copied.

    ``swath`` where the shell finds this very one, else the path that was typed.
    """
    typed = sys.argv[0]
    if Path(typed).stem != "swath":  # python -m, or a program that uses the commands
        return "swath"
    found = shutil.which("swath")
    if found is not None and os.path.realpath(found) == os.path.realpath(typed):
        return "swath"
    return quoted(typed)


def short_path(path: str | Path) -> str:
    """Write a path as seen from the current folder, where that is shorter."""
    path = Path(path)
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
