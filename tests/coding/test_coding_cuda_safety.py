"""The kernels of the codings compile for every GPU, and touch nothing that is not theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.coding.cuda import KERNELS, PIXEL_TYPES, SOURCES, compile_options
from pipeline.compute.cuda_device import source

HERE = Path(__file__).parent
SHIM = HERE.parent / "compute" / "host_shim"
sys.path[:0] = [str(SHIM.parent), str(SHIM)]
import cupy_on_host  # noqa: E402
from test_compute_nvrtc import Nvrtc, check, nvrtc  # noqa: E402

__all__ = ["nvrtc"]  # a fixture


def test_the_kernels_compile_for_every_architecture(nvrtc: Nvrtc) -> None:
    for number in nvrtc.architectures():
        options = compile_options(np.dtype(np.uint16))
        ptx = nvrtc.compile(source(SOURCES), (*options, f"--gpu-architecture=compute_{number}"))
        check(ptx, f"sm_{number}", KERNELS)


@pytest.mark.parametrize("code", PIXEL_TYPES)
def test_the_kernels_compile_for_every_type_of_pixels(nvrtc: Nvrtc, code: str) -> None:
    numbers = nvrtc.architectures()
    number = 90 if 90 in numbers else numbers[-1]
    options = (*compile_options(np.dtype(code)), f"--gpu-architecture=sm_{number}")
    assert nvrtc.compile(source(SOURCES), options, binary=True)[:4] == b"\x7fELF"


SANITISED = """
import ctypes
import sys
from pathlib import Path
import numpy as np
sys.path[:0] = {paths!r}
import cupy_on_host
from cuda_blocks_made import wild_block
from made_cubes import KINDS, made_cube
from pipeline.coding.choose import make_coding
from pipeline.coding.cuda import Coder, CudaCoding
from pipeline.coding.cuda_memory import Place
from pipeline.coding.interface import BlockShape, Masks
from pipeline.errors import ContainerError

library = ctypes.CDLL(None)
address = [ctypes.c_void_p, ctypes.c_size_t]
poison, free = library.__asan_poison_memory_region, library.__asan_unpoison_memory_region
poison.argtypes = free.argtypes = address


class Walled(Place):  # what lies between the parts of a block's memory may not be touched
    walls = ()

    def clear(self):
        for wall in self.walls:
            free(*wall)
        super().clear()

    def begin(self):
        super().begin()
        self.walls = list(self.gaps())
        for wall in self.walls:
            poison(*wall)


class Walls(Coder):
    def make_place(self):
        return Walled(self.device, 64)


flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O0")
coder = Walls(cupy_on_host.make(Path({folder!r}), "eager", flags), cupy_on_host.SHAPE, 1)
if {broken!r}:
    from pipeline.coding import cuda_decode
    cuda_decode.chunks_of = lambda n, threads: -(-n // (threads * 8)) - 1
seen = 0
for seed, kind in enumerate(KINDS):
    cube = made_cube(kind, np.dtype("u2"), (5, 7, 33), seed)
    for name in ("packed", "deflate", "predicted", "smallest"):
        masks = Masks((False, True), int(cube[0, 0, 0]), None)
        coding = make_coding(name, BlockShape(7, 33, cube.dtype), max_error=seed, masks=masks)
        data = coding.encode(cube).data
        np.testing.assert_array_equal(
            CudaCoding(coding, coder).decode(data, 5), coding.decode(data, 5)
        )
    for aim in ({{"max_error": seed}}, {{"ratio": 6.0}}):
        coding = make_coding("packed", BlockShape(7, 33, cube.dtype), masks=masks, **aim)
        coded = CudaCoding(coding, coder).encode(cube)
        back = coding.decode(coded.data, 5).astype(int)
        assert abs(back - cube).max() == coded.stats.max_error
shape = BlockShape(5, 17, np.dtype("u2"))
for seed in range(150):
    name = ("packed", "predicted")[seed % 2]
    data = wild_block(shape, 4, np.random.default_rng(seed), name)
    try:
        CudaCoding(make_coding(name, shape, max_error=1), coder).decode(data, 4)
    except ContainerError as error:
        seen += 1
print("all well", seen)
"""


def sanitised(folder: Path, *, broken: bool) -> subprocess.CompletedProcess[str]:
    """Run the script above, with walls between the parts of a block's memory."""
    if cupy_on_host.compiler() is None:
        pytest.skip("no g++ here to compile the .cu files for the CPU")
    found = [
        subprocess.run(
            ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    if not all(Path(path).is_absolute() for path in found):
        pytest.skip("the sanitizers' libraries are not installed with g++")
    paths = [str(HERE), str(SHIM), str(HERE.parents[1])]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "PYTHONMALLOC": "malloc",
    }
    script = folder / "sanitised.py"
    script.write_text(SANITISED.format(paths=paths, folder=str(folder), broken=broken))
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )


def test_whatever_the_bytes_the_kernels_stay_within_their_memory(tmp_path: Path) -> None:
    ran = sanitised(tmp_path, broken=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    well, seen = ran.stdout.rsplit(" ", 1)
    assert well == "all well"
    assert int(seen) > 100


def test_the_walls_hold(tmp_path: Path) -> None:
    ran = sanitised(tmp_path, broken=True)
    assert ran.returncode != 0
    assert "AddressSanitizer: use-after-poison" in ran.stderr
