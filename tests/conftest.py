"""Fixtures and settings for all tests: the real data, seeded random numbers, hypothesis."""

from __future__ import annotations

import os

# Before NumPy is imported anywhere: idle BLAS threads cost more than they give here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "swath",
    print_blob=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "swath"))


def real_data_folder() -> Path | None:
    """Find the folder with real cubes and headers, or None where this machine has none."""
    given = os.environ.get("SWATH_REAL_DATA")
    checkout = Path(__file__).resolve().parents[1]
    folder = Path(given) if given else checkout.parent / "shared" / "data"
    return folder if (folder / "cubes").is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with ``cubes/``, ``headers/`` and ``references/``; skips where it is missing."""
    folder = real_data_folder()
    if folder is None:
        pytest.skip("real data missing: set SWATH_REAL_DATA to a folder with cubes/ and headers/")
    return folder


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers, the same for a test in each run; SWATH_TEST_SEED sets another seed.

    pytest shows the printed seed when the test fails.
    """
    given = os.environ.get("SWATH_TEST_SEED")
    seed = int(given) if given else zlib.crc32(request.node.nodeid.encode())
    print(f"seed of rng: {seed} (SWATH_TEST_SEED={seed} repeats it)")
    return np.random.default_rng(seed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)
