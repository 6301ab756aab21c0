"""How fast a consumer that does nothing gets frames: what is left for everything else."""

from __future__ import annotations

import ctypes as c
import time
from pathlib import Path
from typing import Any

import numpy as np

from virtual_camera.consumer import camera

#: Frames that are not measured.
_ROUND = 512


def measure(producer: Path, seconds: float, copy: bool, **features: Any) -> dict[str, float]:
    """Fetch frames as fast as they come.

    Parameters
    ----------
    producer : Path
    seconds : float
    copy : bool
        Copy each frame, as a driver has to; else only queue it again.
    **features
        Set before, such as ``PixelFormat="Mono12p"``.

    Returns
    -------
    dict
        ``frames`` a second, and ``gb`` (10⁹ bytes) a second.
    """
    with camera(producer) as one:
        one.set_all(**{"AcquisitionFrameRate": 0.0, **features})
        payload = int(one.get("PayloadSize"))
        into = np.empty(payload, np.uint8)
        one.start(buffers=8)
        lib, stream = one.library, one.stream
        # The first round fills the camera's cache of rendered frames, as far as it goes.
        for _ in one.frames(_ROUND):
            pass
        data, size = (c.c_void_p * 2)(), c.c_size_t(16)
        get, queue = lib.dll.EventGetData, lib.dll.DSQueueBuffer
        began, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < seconds:
            if get(one.event, data, c.byref(size), c.c_uint64(1000)):
                raise RuntimeError(lib.last_error())
            buffer = c.c_void_p(data[0])
            if copy:
                address = lib.info("DSGetBufferInfo", stream, buffer, c.c_int32(0))
                c.memmove(into.ctypes.data, address, payload)
            queue(stream, buffer)
            count += 1
        one.stop()
    return {"frames": count / spent, "gb": count * payload / spent / 1e9}
