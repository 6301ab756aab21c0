"""What the CUDA kernels compute, on the CPU: whole vectors, packed blocks, shares, sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.compute.cuda import CudaBackend
from pipeline.compute.cuda_device import Shape
from pipeline.compute.cuda_pass import BANDS, CudaPixelPass, share_out
from pipeline.layout import PIXEL_FORMATS

sys.path.insert(0, str(Path(__file__).parent / "host_shim"))
from cuda_cases import assert_equal, counts_of, expected, pack, plan_of

SHIM = Path(__file__).parent / "host_shim"
PACKED = ["Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed"]
Open = Callable[..., CudaBackend]


@pytest.mark.parametrize("kind", ["int16", "uint16", "float32", None])
@pytest.mark.parametrize("shape", [(9, 7, 40), (5, 18, 16), (4, 3, 8)])
def test_widths_of_whole_vectors_give_what_the_cpu_gives(
    open_backend: Open, rng: np.random.Generator, shape: tuple[int, int, int], kind: Any
) -> None:
    plan = plan_of(rng, shape, reflectance=kind)
    backend = open_backend()
    operation = backend.pixel_pass(plan)
    for phase in range(4):  # one after another: counters are 0 again after each
        raw = counts_of(rng, (shape[0] - phase % 2, *shape[1:]))
        valid = rng.random(len(raw)) < 0.8
        backend.load(raw)
        operation.start(valid, phase)
        rows = -(-(len(raw) + phase) // 4)
        assert_equal(operation.wait(), expected(plan, raw, valid, phase), len(raw), rows)


@pytest.mark.parametrize(("strips_each", "bands_each"), [(1, 4), (2, 8), (4, 4), (3, 20)])
def test_the_share_of_a_block_of_threads_changes_nothing(
    open_backend: Open, rng: np.random.Generator, strips_each: int, bands_each: int
) -> None:
    shape = (21, 19, 24)
    plan = plan_of(rng, shape)
    backend = open_backend()
    backend.pixel_pass(plan)
    operation = CudaPixelPass(plan, backend, strips_each, bands_each)
    raw, valid = counts_of(rng, shape), rng.random(21) < 0.9
    backend.load(raw)
    operation.start(valid, 3)
    assert_equal(operation.wait(), expected(plan, raw, valid, 3), 21, 6)


def test_what_a_block_of_threads_gets_stays_within_its_counters() -> None:
    for shape in (Shape(), Shape(8, 32), Shape(2, 4, 4)):
        for processors in (1, 16, 132):
            for tiles, strips, bands in ((1, 1, 1), (8, 10, 224), (5, 10, 448), (8, 600, 2000)):
                strips_each, bands_each = share_out(tiles, strips, bands, processors, shape)
                assert 1 <= strips_each <= min(4, strips)
                assert shape.rows <= bands_each <= max(BANDS, shape.rows)
                assert bands_each % shape.rows == 0


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("shape", [(6, 5, 16), (5, 7, 13), (3, 3, 9)])
def test_packed_blocks_give_what_their_counts_give(
    open_backend: Open, rng: np.random.Generator, name: str, shape: tuple[int, int, int]
) -> None:
    fmt = PIXEL_FORMATS[name]
    plan = plan_of(rng, shape, fmt.bits, packed=fmt)
    backend = open_backend()
    operation = backend.pixel_pass(plan)
    math = backend.group_math(plan, shape[0], 1, 2)
    valid = np.ones(shape[0], bool)
    valid[1] = False
    basis = rng.normal(size=(2, shape[1])).astype("f4")
    scores = []
    raw = counts_of(rng, shape, fmt.bits)
    packed = pack(raw, fmt)
    assert packed.shape[1] == fmt.packed_bytes(shape[1] * shape[2])
    for block in (packed, raw):
        backend.load(block)
        operation.start(valid, 1)
        math.put(0, 0, shape[0], 0)
        rows = -(-(shape[0] + 1) // 4)
        assert_equal(operation.wait(), expected(plan, raw, valid, 1), shape[0], rows)
        out = np.empty((shape[0], 2, shape[2]), "i2")
        math.project(0, shape[0], valid, np.zeros(shape[1], "f4"), basis, 0.5, out)()
        scores.append(out)
    np.testing.assert_array_equal(*scores)
    assert scores[0].any()


def test_products_by_syrk_are_those_by_gemm(open_backend: Open, rng: np.random.Generator) -> None:
    shape = (5, 9, 16)
    plan = plan_of(rng, shape)
    raw, found = counts_of(rng, shape), []
    for by in ("gemm", "syrk"):
        backend = open_backend()
        math = backend.group_math(plan, 5, 1, 2, by)
        backend.load(raw)
        math.put(0, 0, 5, 0)
        found.append(math.learn(0, np.array([0, 3, 4]), 1, np.inf, np.full(9, 2000.0))())
    assert found[0][0] == found[1][0] == 3 * 16
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=1e-5)


SANITISED = """
import sys
import numpy as np
sys.path[:0] = {paths!r}
import cupy_on_host
import cuda_cases as t
from pipeline.compute import cpu_pass
from pipeline.layout import PIXEL_FORMATS
from pathlib import Path
from pipeline.compute.cuda import CudaBackend
cpu_pass.importlib.util.find_spec = lambda name: None
rng = np.random.default_rng(3)
flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0")
for name, shape in (("Mono12p", (5, 6, 24)), ("Mono10Packed", (3, 5, 13))):
    fmt = PIXEL_FORMATS[name]
    plan = t.plan_of(rng, shape, fmt.bits, packed=fmt)
    backend = CudaBackend(cupy_on_host.make(Path({folder!r}), "eager", flags), cupy_on_host.SHAPE)
    operation, math = backend.pixel_pass(plan), backend.group_math(plan, shape[0], 1, 2)
    raw = t.counts_of(rng, shape, fmt.bits)
    valid = np.arange(shape[0]) != 1
    rows = -(-(shape[0] + 2) // 4)
    for block in (raw, t.pack(raw, fmt)):
        backend.load(block)
        operation.start(valid, 2)
        math.put(0, 0, shape[0], 0)
        t.assert_equal(operation.wait(), t.expected(plan, raw, valid, 2), shape[0], rows)
    n = math.learn(0, np.array([0, 2]), 2, 9e9, np.zeros(shape[1]))()[0]
    assert n == -(-shape[2] // 2) * 2
    out = np.empty((shape[0], 2, shape[2]), "i2")
    basis = np.ones((2, shape[1]), "f4")
    math.project(0, shape[0], valid, np.zeros(shape[1], "f4"), basis, 0.5, out)()
print("all well")
"""


def test_the_kernels_are_clean_under_the_sanitizers(tmp_path: Path) -> None:
    found = [
        subprocess.run(
            ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    if not all(Path(path).is_absolute() for path in found):
        pytest.skip("the sanitizers' libraries are not installed with g++")
    paths = [str(SHIM), str(SHIM.parents[2])]
    # leaks are the interpreter's; LLVM's code generator does not get on with poisoned stacks
    environment = os.environ | {
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "PYTHONMALLOC": "malloc",
    }
    script = tmp_path / "sanitised.py"
    script.write_text(SANITISED.format(paths=paths, folder=str(tmp_path)))
    ran = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == "all well"
