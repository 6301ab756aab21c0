"""A coded recording as a camera: the lines that it decodes to, with all that is known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.camera import EndOfFrames
from drivers.replay import ReplayCamera
from pipeline.config import CameraConfig, Rig
from pipeline.container.compress import Wanted, compress
from pipeline.container.envi import write_envi
from pipeline.container.reader import Container
from pipeline.errors import ContainerError


@pytest.fixture
def source(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A scene of 40 lines, 6 samples and 5 bands."""
    scene = np.cumsum(rng.integers(0, 9, (40, 6, 5)), axis=2) + 500
    return write_envi(tmp_path, "scene", scene.astype("u2"), {"fps": 100.0, "mine": "kept"})


def opened(file: Path) -> tuple[ReplayCamera, list[str], dict[str, str]]:
    camera = ReplayCamera(Rig(camera=CameraConfig(driver="replay", file=str(file), rate="max")))
    info = camera.open()
    assert (info.lines, info.bands, info.samples, info.data_type) == (40, 5, 6, 12)
    camera.start("scan")
    return camera, info.warnings, dict(info.header)


@pytest.mark.parametrize("many", [False, True])
def test_the_lines_are_those_that_were_coded(source: Path, tmp_path: Path, many: bool) -> None:
    compress(source, tmp_path / "a.hsi", Wanted(block_lines=16))
    camera, _, fields = opened(tmp_path / "a.hsi")
    assert fields["mine"] == "kept"
    assert not {name for name in fields if name.startswith(("pca", "coded", "decoded"))}
    got = np.empty((40, 5, 6), "u2")
    at = 0
    while at < 40:
        rows = camera.fetch_many(got[at : at + 11]) if many else None
        if rows is None:
            assert camera.fetch(got[at], 1.0) is not None
            at += 1
        else:
            at += len(rows)
    with pytest.raises(EndOfFrames):
        camera.fetch(got[0], 1.0)
    camera.close()
    with Container(source) as plain:
        np.testing.assert_array_equal(got.transpose(0, 2, 1), plain.raw)


def test_what_a_coding_cost_is_said_and_kept(source: Path, tmp_path: Path) -> None:
    made = compress(source, tmp_path / "a.hsi", Wanted("packed", max_error=3))
    camera, warnings, fields = opened(tmp_path / "a.hsi")
    camera.close()
    assert any(f"up to {made.stats.max_error} counts" in text for text in warnings)
    assert fields["pca max error"] == str(made.stats.max_error)


def test_a_damaged_block_ends_the_replay_with_its_name(source: Path, tmp_path: Path) -> None:
    compress(source, tmp_path / "a.hsi", Wanted(block_lines=16))
    with Container(tmp_path / "a.hsi") as cube:
        assert cube.coded is not None
        assert cube.data_offset is not None
        place = cube.data_offset + cube.coded.blocks[1].offset + 40
    data = bytearray((tmp_path / "a.hsi").read_bytes())
    data[place] ^= 1
    (tmp_path / "a.hsi").write_bytes(data)
    camera, _, _ = opened(tmp_path / "a.hsi")
    line = np.empty((5, 6), "u2")
    for _ in range(16):
        assert camera.fetch(line, 1.0) is not None
    with pytest.raises(ContainerError, match=r"block 1 \(lines 16 to 31\)"):
        camera.fetch(line, 1.0)
    camera.close()
