"""What the camera should play, computed plainly in NumPy: the formula of docs/virtual-camera.md."""

from __future__ import annotations

import numpy as np

#: Name → bits, layout.
FORMATS = {
    "Mono8": (8, "words"),
    "Mono10": (10, "words"),
    "Mono10p": (10, "bits"),
    "Mono10Packed": (10, "pairs"),
    "Mono12": (12, "words"),
    "Mono12p": (12, "bits"),
    "Mono12Packed": (12, "pairs"),
    "Mono14": (14, "words"),
    "Mono16": (16, "words"),
}


def seen(
    rows: np.ndarray,
    bits: int,
    *,
    binning: tuple[int, int] = (1, 1),
    average: tuple[bool, bool] = (False, False),
    scale: float = 1.0,
    black: float = 64.0,
    scene_black: float = 64.0,
) -> np.ndarray:
    """Counts of a frame at the sensor's bits; ``rows`` is what lies in the file, (rows, columns).

    ``binning`` and ``average`` are (vertical, horizontal), ``scale`` exposure and gain together.
    """
    down, across = binning
    height, width = rows.shape[0] // down, rows.shape[1] // across
    whole = rows[: height * down, : width * across].astype(np.int64)
    sums = whole.reshape(height, down, width, across).sum((1, 3))
    for size, mean in zip(binning, average, strict=True):
        scale /= size if mean else 1
    signal = sums.astype(np.float32) - np.float32(scene_black * down * across)
    counts = signal * np.float32(scale) + np.float32(black)
    return np.rint(np.clip(counts, 0, (1 << bits) - 1)).astype(np.uint16)


def in_format(counts: np.ndarray, bits: int, name: str) -> np.ndarray:
    """Shift counts of a sensor of so many bits to those of a pixel format."""
    by = FORMATS[name][0] - bits
    return counts << by if by >= 0 else counts >> -by


def packed(counts: np.ndarray, name: str) -> bytes:
    """Lay counts out as the format says, bit by bit."""
    bits, layout = FORMATS[name]
    values = [int(v) for v in counts.ravel()]
    if layout == "words":
        return counts.astype("<u1" if bits == 8 else "<u2").tobytes()
    if layout == "bits":
        whole = sum(v << (bits * i) for i, v in enumerate(values))
        return whole.to_bytes((len(values) * bits + 7) // 8, "little")
    low = bits - 8
    mask = (1 << low) - 1
    out = bytearray()
    for a, b in zip(values[::2], [*values[1::2], 0][: (len(values) + 1) // 2], strict=True):
        out += bytes((a >> low, (a & mask) | (b & mask) << 4, b >> low))
    return bytes(out)
