"""Reads options of the tools; what is wrong with one is said by argparse, with exit status 2."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path


def number(
    kind: type[int] | type[float], least: float, most: float
) -> Callable[[str], int | float]:
    """Make what reads a number between two limits."""

    def read(text: str) -> int | float:
        try:
            value = kind(text) if text.isascii() else math.nan
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"found {text!r}, allowed are {least:g} to {most:g}")
        return value

    return read


def folder(text: str) -> str:
    """Take the name of a folder in which files can be made."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"found {text!r}, which is no folder")
    try:
        with tempfile.NamedTemporaryFile(prefix="swath-", dir=text):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, where no file can be made ({error.strerror})"
        ) from None
    return text


def file_to_write(text: str) -> str:
    """Take the name of a file that can be made, or written anew."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"found {text!r}, which is a folder")
    folder(str(path.parent))
    return text
