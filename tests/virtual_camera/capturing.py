"""Captures from the virtual camera: the rig file, and the cube compared with what was played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rigs import write_rig

import swath
from pipeline.container.validate import validate
from pipeline.layout import LineStatus

#: Lines that a test's scene has; frame n shows line n mod this.
SCENE_LINES = 97


def rig_file(folder: Path, producer: Path, camera: str = "", more: str = "") -> Path:
    """Write a rig file for VC0001 with room for a stall of the machine; ``camera`` goes first."""
    given = {line.partition("=")[0].strip() for line in camera.splitlines()}
    default = {
        "pixel_format": '"Mono12"',
        "fps": "500.0",
        "exposure_ms": "1.0",
        "buffer_frames": "400",
        "wavelengths": "{ first = 400.0, last = 1000.0 }",
    }
    keys = "\n".join(f"{k} = {v}" for k, v in default.items() if k not in given)
    return write_rig(
        folder,
        f"""
[camera]
driver = "genicam"
producer = "{producer}"
serial = "VC0001"
{camera}
{keys}
[pipeline]
backend = "cpu"
[output]
folder = "out"
name = "virtual"
{more}
""",
    )


def check(file: str | Path, played: np.ndarray, *, first_id: int | dict[int, int] = 0) -> Any:
    """Compare a container with the scene, line by line by frame id; gives its ledger.

    Parameters
    ----------
    file : path
        The ``.hsi``.
    played : (lines, bands, samples)
        Counts as the camera delivers them.
    first_id : int or dict
        The id that the frame with line 0 has, in each epoch or by epoch.
    """
    assert [str(f) for f in validate(file) if f.level == "error"] == []
    with swath.open(file) as container:
        ledger = np.asarray(container.ledger)
        raw = np.asarray(container.raw)
    stored = ledger[ledger["line"] >= 0]
    assert stored["line"].tolist() == list(range(len(raw)))
    kept = stored["status"] == LineStatus.OK
    epochs = stored["epoch"][kept].tolist()
    first = [first_id[e] if isinstance(first_id, dict) else first_id for e in epochs]
    lines = (stored["frame_id"][kept].astype(np.int64) - np.array(first, np.int64)) % len(played)
    assert np.array_equal(raw[kept], played[lines].transpose(0, 2, 1))
    if not kept.all():
        fill = 65535 if raw.dtype == np.uint16 else 0
        assert (raw[~kept] == fill).all()
    return ledger
