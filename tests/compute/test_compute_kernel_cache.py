"""Where compiled kernels are kept: never in the package."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("numba")

from pipeline import kernel_cache

CODE = """
import numpy as np
from pipeline import kernel_cache
from pipeline.compute import unpack_kernels
from pathlib import Path
beside = Path(unpack_kernels.__file__).parent
before = set(beside.rglob("*.nb[ic]"))
loop = unpack_kernels.compile_unpack("lsb", 12)
out = np.zeros(2, np.uint16)
loop(np.array([0x21, 0x43, 0x65], np.uint8), out)
assert [hex(value) for value in out] == ["0x321", "0x654"]
assert set(beside.rglob("*.nb[ic]")) == before
print(kernel_cache.keep_kernels())
"""

HITS = """
from pipeline.coding.compiled import compile_pixels
print(sum(compile_pixels("u2").same_spectra.stats.cache_hits.values()))
"""


def unpack_once(**settings: str) -> str:
    """Compile and use a kernel in a fresh process; gives whether it could be kept."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="the folder has another name there")
def test_kernels_are_kept_in_the_users_cache_folder(tmp_path: Path) -> None:
    assert unpack_once(XDG_CACHE_HOME=str(tmp_path)) == "True"
    kept = list(tmp_path.rglob("*.nbc"))
    assert kept
    assert all(path.is_relative_to(tmp_path / "swath") for path in kept)


def test_the_folder_that_numba_is_told_wins(tmp_path: Path) -> None:
    given = {"XDG_CACHE_HOME": str(tmp_path / "x"), "NUMBA_CACHE_DIR": str(tmp_path / "own")}
    assert unpack_once(**given) == "True"
    assert list((tmp_path / "own").rglob("*.nbc"))
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the folder has another name there")
def test_without_a_folder_kernels_are_compiled_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert unpack_once(XDG_CACHE_HOME=str(tmp_path / "file")) == "False"
    assert unpack_once(NUMBA_CACHE_DIR=str(tmp_path / "file")) == "False"


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
def test_of_two_that_need_a_kernel_one_compiles_it(tmp_path: Path) -> None:
    settings = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HITS], env=settings, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    hits = [int(process.communicate()[0]) for process in processes]
    assert sorted(hits) == [0, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
def test_a_lock_that_is_never_given_back_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(kernel_cache, "PATIENCE", 0.3)
    monkeypatch.setattr(kernel_cache, "_waited", [0.0])
    file = tmp_path / "kernel.lock"
    with file.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        begun = time.monotonic()
        with kernel_cache.one_at_a_time(file):
            assert time.monotonic() - begun >= 0.3
        begun = time.monotonic()
        with kernel_cache.one_at_a_time(file):  # nor once more
            assert time.monotonic() - begun < 0.3
    with kernel_cache.one_at_a_time(tmp_path / "no folder" / "kernel.lock"):
        pass
