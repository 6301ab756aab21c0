"""Memory that the blocks of a thread are coded in, one after another.

New memory comes from the system as zeros: to write these, block after block, takes a tenth of the
time in which a large block is coded. Knows arrays only.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Smaller arrays are left to the allocator, which keeps what small ones had.
LEAST_BYTES: Final = 1 << 20


class _Kept(threading.local):
    def __init__(self) -> None:
        self.by_purpose: dict[str, NDArray[np.uint8]] = {}


def _references(arrays: dict[str, NDArray[np.uint8]], purpose: str) -> int:
    return sys.getrefcount(arrays[purpose])


_kept = _Kept()
#: Of an array that only the dictionary knows.
_UNUSED: Final = _references({"": np.empty(0, np.uint8)}, "")


def room(purpose: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Give an array, not initialised, C-contiguous.

    It is where this thread's last one for the same purpose was, if nobody has that any more (nor a
    view of it), and until the thread ends that memory stays.

    Parameters
    ----------
    purpose : str
    shape : tuple of int
    dtype : numpy dtype
    """
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    if nbytes < LEAST_BYTES:
        return np.empty(shape, kind)
    kept = _kept.by_purpose
    usable = purpose in kept and len(kept[purpose]) >= nbytes
    if not usable or _references(kept, purpose) > _UNUSED:
        kept[purpose] = np.empty(nbytes, np.uint8)
    return kept[purpose][:nbytes].view(kind).reshape(shape)
