"""Puts the commands together and turns every end of one into a sentence and an exit status.

0: all well; 1: failure at work; 2: bad input, no scan was started; 3: the file is whole but lines
were lost. No traceback reaches a user; ``SWATH_DEBUG=1`` shows it to whoever looks for the cause.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from pipeline.cli.bad_pixels import bad_pixels
from pipeline.cli.cameras import cameras
from pipeline.cli.capture import capture
from pipeline.cli.compare import compare
from pipeline.cli.compress import compress
from pipeline.cli.decompress import decompress
from pipeline.cli.drive import drive
from pipeline.cli.export import export
from pipeline.cli.info import info
from pipeline.cli.keys import keys
from pipeline.cli.process import process
from pipeline.cli.recover import recover
from pipeline.cli.reference import reference
from pipeline.cli.references import references
from pipeline.cli.repack import repack
from pipeline.cli.replay import replay
from pipeline.cli.sidecar import sidecar
from pipeline.cli.validate import validate
from pipeline.cli.version import version
from pipeline.errors import ConfigError, SwathError

app = typer.Typer(
    name="swath",
    help="Acquisition for push-broom hyperspectral rigs: from camera to finished .hsi container.",
    add_completion=False,
    pretty_exceptions_enable=False,
    # Square brackets in help texts are tables of the rig file, not markup.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _command in (
    *(capture, drive, process, replay, reference, references, bad_pixels, cameras),
    *(info, validate, recover, repack, export, sidecar),
    *(compress, decompress, compare, keys, version),
):
    app.command()(_command)

#: Base of what the parser raises for wrong arguments; typer hands on only its grandchildren.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def run(argv: Sequence[str]) -> int:
    """Run one command line, and give the exit status.

    Parameters
    ----------
    argv : sequence of str
        Arguments without the program's name.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we live
        elif isinstance(stream, io.TextIOWrapper):  # a terminal that knows no ×
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s".lower())
    try:
        # Not ``main()``, which would end some errors in its own way.
        command = typer.main.get_command(app)
        given = ["version"] if list(argv) == ["--version"] else list(argv)
        with command.make_context("swath", given or ["--help"]) as context:
            status: Any = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as ended:  # --help
        return int(ended.exit_code) if argv else ConfigError.exit_status
    except BrokenPipeError:
        _discard_output()  # the reader (``| head``) has seen enough
        return 0
    except Exception as error:
        return _failure(error)
    except KeyboardInterrupt:
        print("swath: interrupted", file=sys.stderr)
        return SwathError.exit_status
    return status if isinstance(status, int) else 0


def _discard_output() -> None:
    """Keep the interpreter from flushing once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failure(error: Exception) -> int:
    """Say in one sentence what went wrong, and give the exit status."""
    if isinstance(error, typer.Abort):
        print("swath: interrupted", file=sys.stderr)
        return SwathError.exit_status
    if os.environ.get("SWATH_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, SwathError):
        print(f"swath: {error}", file=sys.stderr)
        return error.exit_status
    if isinstance(error, _UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "swath"
        text = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
        print(f"{command}: {text}; see {command} --help", file=sys.stderr)
        return ConfigError.exit_status
    if isinstance(error, MemoryError):
        print("swath: not enough memory for this", file=sys.stderr)
        return SwathError.exit_status
    if isinstance(error, OSError) and error.filename is not None:
        print(f"swath: {error.filename}: {error.strerror}", file=sys.stderr)
        return SwathError.exit_status
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
        print(f"swath: what it prints cannot be written: {error.strerror}", file=sys.stderr)
        _discard_output()
        return SwathError.exit_status
    print(
        f"swath: internal error, please report it: {type(error).__name__}: {error} "
        "(SWATH_DEBUG=1 shows where)",
        file=sys.stderr,
    )
    return SwathError.exit_status
