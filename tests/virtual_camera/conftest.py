"""The producer, compiled once, and scenes for it to play."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS)]

from virtual_camera.build import CannotBuildError, build  # noqa: E402
from virtual_camera.consumer import Camera, camera  # noqa: E402
from virtual_camera.playing import Playing  # noqa: E402
from virtual_camera.settings import environment  # noqa: E402


def _build() -> Path:
    """Compile what is not compiled; SWATH_VIRTUAL_SANITIZE asks for sanitizers."""
    return build(sanitize=os.environ.get("SWATH_VIRTUAL_SANITIZE", ""))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Compile before the first test: on a busy machine that takes longer than a test may."""
    needed = any("producer" in getattr(item, "fixturenames", ()) for item in items)
    if needed and not config.option.collectonly:
        with contextlib.suppress(CannotBuildError):
            _build()


@pytest.fixture(scope="session")
def producer() -> Path:
    """swath_virtual.cti, or skip and say why there is none."""
    try:
        return _build()
    except CannotBuildError as error:
        pytest.skip(f"the virtual camera cannot be built: {error}")


@pytest.fixture
def settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, producer: Path
) -> Callable[..., None]:
    """Set features as a camera has them when it is opened; other tests' cameras are no matter."""
    for name in [n for n in os.environ if n.startswith("SWATH_VIRTUAL_")]:
        monkeypatch.delenv(name)

    def apply(**features: Any) -> None:
        for name, value in environment(producer, features, tmp_path / "locks").items():
            monkeypatch.setenv(name, value)

    apply()
    return apply


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., tuple[np.ndarray, Playing]]:
    """Write random counts to a file: (lines, bands, samples), and what plays them."""

    def make(
        lines: int = 6, bands: int = 12, samples: int = 21, bits: int = 12
    ) -> tuple[np.ndarray, Playing]:
        rng = np.random.default_rng([lines, bands, samples, bits])
        dtype = np.uint8 if bits <= 8 else np.uint16
        cube = rng.integers(0, 1 << bits, (lines, bands, samples)).astype(dtype)
        file = tmp_path / f"scene_{bits}.raw"
        file.write_bytes(b"header!" + cube.tobytes())
        return cube, Playing(file, 7, lines, bands, samples, bits)

    return make


@pytest.fixture
def opened(producer: Path, settings: Callable[..., None]) -> Callable[..., Any]:
    """Open the camera with plain ctypes, features set as at power-on."""

    @contextmanager
    def make(index: int = 0, /, **features: Any) -> Iterator[Camera]:
        settings(**features)
        with camera(producer, index) as one:
            yield one

    return make
