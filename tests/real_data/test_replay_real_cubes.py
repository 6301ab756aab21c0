"""Real cubes, replayed: every pixel, field and wavelength as in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.camera import EndOfFrames
from drivers.replay import ReplayCamera
from pipeline.config import CameraConfig, Rig
from pipeline.container.envi import open_envi
from pipeline.layout import envi_dtype

CUBES = ("abu-airport-1", "abu-beach-1", "abu-urban-3", "enmap-potsdam", "jasper-ridge")


@pytest.mark.parametrize("name", CUBES)
def test_a_replayed_cube_is_the_source(real_data: Path, name: str) -> None:
    path = real_data / "cubes" / f"{name}.hdr"
    source = open_envi(path)
    camera = ReplayCamera(Rig(camera=CameraConfig(driver="replay", file=str(path), rate="max")))
    info = camera.open()
    line = np.empty((info.bands, info.samples), envi_dtype(info.data_type, 0))
    camera.start("scan")
    for index in range(source.raw.shape[0]):
        assert camera.fetch(line, 1.0) is not None
        assert np.array_equal(line, source.raw[index].T)
    with pytest.raises(EndOfFrames):
        camera.fetch(line, 1.0)
    kept = {n for n, _ in info.header}
    assert kept == set(source.header) - {
        "samples",
        "lines",
        "bands",
        "header offset",
        "file type",
        "data type",
        "interleave",
        "byte order",
    }
    nm = source.header.wavelength_nm
    assert info.wavelength == (
        list(range(1, info.bands + 1)) if nm is None else pytest.approx(nm.tolist())
    )
