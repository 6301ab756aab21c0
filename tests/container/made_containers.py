"""Small containers made with Python's own zipfile, as a foreign program would make them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.container.envi import encode_envi


def make_hsi(
    path: Path,
    array: np.ndarray,
    fields: Mapping[str, Any] | tuple[()] = (),
    *,
    interleave: str = "bil",
    references: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]] | None = None,
    entries: Mapping[str, bytes] | None = None,
    method: int = zipfile.ZIP_STORED,
    prefix: str = "",
) -> Path:
    """Write a container; references are (bands, samples) or (lines, bands, samples) arrays."""
    header, data = encode_envi(array, fields, interleave=interleave)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(prefix + "data.envi", data)
        archive.writestr(prefix + "data.hdr", header)
        for name, (pixels, more) in (references or {}).items():
            block = pixels if pixels.ndim == 3 else pixels[None]
            hdr, raw = encode_envi(block.transpose(0, 2, 1).astype("f4"), more)
            archive.writestr(f"{prefix}Reference/{name}.envi", raw)
            archive.writestr(f"{prefix}Reference/{name}.hdr", hdr)
        for name, content in (entries or {}).items():
            archive.writestr(prefix + name, content)
    return path


def counting(shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    """Values that all differ where the type allows it; complex ones with both parts."""
    values = np.arange(np.prod(shape), dtype="f8").reshape(shape)
    if np.dtype(dtype).kind == "c":
        return (values - 3j * values).astype(dtype)
    if np.dtype(dtype).itemsize == 1:
        values %= 251
    return (values - (5 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)
