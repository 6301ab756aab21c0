"""Compiles kernels with numba, and keeps them for the next process in the user's own cache folder.

numba's default is ``__pycache__`` beside the source: files there that pip did not install stay
behind when it removes the package, and what is left shadows another installation of it. Imported
by the modules with kernels only; knows numba and folders, nothing of pixels.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numba

#: Where kernels and what they call are.
PACKAGES: Final = ("compute", "coding")
#: How long a process waits in all for others that compile the same functions, seconds: one that
#: stands still holds its lock.
PATIENCE: Final = 60.0
_PAUSE: Final = 0.05
#: So far.
_waited = [0.0]


def compile_kernel(
    function: Callable[..., Any], signature: Any, **options: Any
) -> Callable[..., Any]:
    """Compile a function for one signature, or load it from the cache.

    Where there is no folder to cache in, it is compiled anew in each process.

    Parameters
    ----------
    function : callable
    signature : numba signature
    **options
        For ``numba.njit``.
    """
    if keep_kernels():
        try:
            with one_at_a_time(Path(numba.config.CACHE_DIR) / f"{function.__name__}.lock"):
                return numba.njit(signature, cache=True, **options)(function)  # type: ignore[no-any-return]
        except (RuntimeError, OSError):  # the source is no file, or the disk is full
            pass
    return numba.njit(signature, **options)(function)  # type: ignore[no-any-return]


@contextlib.contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Hold a file's lock, which ends with the process; after a while, go on without any.

    Who waited finds the kernel in the cache. And numba's list of a function's kernels is read,
    extended and written: of two that do so at once, one is forgotten.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with contextlib.ExitStack() as stack:
        # where there can be no lock, the worst is a kernel that is compiled twice
        with contextlib.suppress(OSError):
            held = stack.enter_context(file.open("ab"))
            while _waited[0] < PATIENCE:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_PAUSE)
                    _waited[0] += _PAUSE
        yield


@functools.cache
def keep_kernels() -> bool:
    """Settle numba's cache folder; ``NUMBA_CACHE_DIR`` wins. Gives whether it can be written."""
    try:
        folder = Path(numba.config.CACHE_DIR or cache_folder()) / sources()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return False
    # The attribute, not the environment: numba may have been imported by somebody else before.
    numba.config.CACHE_DIR = str(folder)
    return True


def cache_folder() -> Path:
    """Give the folder of this user, Python and numba."""
    if sys.platform == "win32":
        given = os.environ.get("LOCALAPPDATA")
    else:
        given = os.environ.get("XDG_CACHE_HOME")
    top = Path(given) if given and os.path.isabs(given) else Path.home() / ".cache"
    return top / "swath" / f"numba-{platform.python_version()}-{numba.__version__}"


def sources() -> str:
    """Give a checksum of the kernels' sources.

    numba looks at the file of the function that it compiles, not at those of the functions that
    this one calls: a change there must not find yesterday's kernel.
    """
    check = 0
    for package in PACKAGES:
        for path in sorted((Path(__file__).parent / package).glob("*.py")):
            check = zlib.crc32(path.read_bytes(), check)
    return f"{check:08x}"
