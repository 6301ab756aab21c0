"""What a process does that another one started: it ends with it, and may give way to it.

The other side, starting and ending such a process, is :mod:`pipeline.supervise`. Knows the
operating system only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
#: The lowest priority there is. Disk access follows it: an I/O priority that was never set comes
#: from this one (ioprio_set(2)).
_NICEST: Final = 19


def end_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent dies; nothing elsewhere."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def give_way() -> None:
    """Take processor and disk only when nobody else wants them, and be the first to lack memory.

    Not Linux's idle class: who waits for what this process holds in the kernel would wait too long.
    """
    if hasattr(os, "setpriority"):  # not os.nice, which adds to what the parent has
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICEST)
    # A session of its own is scheduled as one group where autogroups are on, and within the group
    # alone its priority counts (sched(7)).
    for file, value in (("autogroup", _NICEST), ("oom_score_adj", 1000)):
        with contextlib.suppress(OSError):
            Path(f"/proc/self/{file}").write_text(f"{value}\n")
