"""Becomes the command that is played to, so that signals and exit status are the command's own.

The folder that holds what happened to the cameras is for this one run: a small process in a
session of its own removes it when the command, and what it started with it, is gone. Knows the
operating system only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.errors import ConfigError

#: Reads until the last process that holds the other end is gone, then removes the folder.
_REMOVER = """
import os, shutil, sys
if os.fork():
    os._exit(0)
sys.stdin.buffer.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
#: What Python ignores, and a program expects to be ended by.
_PYTHON_IGNORES = ("SIGPIPE", "SIGXFSZ")


def find(command: str) -> str:
    """Give the path of a command's program.

    Raises
    ------
    ConfigError
        When there is none.
    """
    found = shutil.which(command)
    if found is None:
        if Path(command).is_dir():
            what = "is a folder"
        elif "/" in command and Path(command).exists():
            what = "cannot be executed"
        else:
            what = "there is no such command"
        raise ConfigError(f"-- {command}: {what}")
    return found


def folder() -> Path:
    """Make a folder that is removed when the process that this one becomes is gone.

    What removes it has a session of its own: what ends the command must not end it.
    """
    made = tempfile.mkdtemp(prefix="swath-virtual-")
    try:
        until_gone, held = os.pipe()
        remover = [sys.executable, "-I", "-S", "-c", _REMOVER, made]
        quiet = subprocess.DEVNULL
        subprocess.run(
            remover,
            stdin=until_gone,
            stdout=quiet,
            stderr=quiet,
            start_new_session=True,
            check=True,
        )
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    os.close(until_gone)
    os.set_inheritable(held, True)
    return Path(made)


def become(program: str, command: Sequence[str], names: Mapping[str, str]) -> NoReturn:
    """Run a command in the place of this process.

    Raises
    ------
    ConfigError
        When the system cannot.
    """
    for name in _PYTHON_IGNORES:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(program, list(command), os.environ | names)
    except OSError as error:
        raise ConfigError(f"-- {command[0]}: cannot be run ({error.strerror})") from error
