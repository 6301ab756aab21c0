"""What gpu_check.py compares of the codings: blocks of real width, and several at a time.

Decoded pixels must be those of the CPU's decoder, coded blocks must decode to what was measured of
them. A case raises AssertionError or says what it saw. Knows the codings; numba and imagecodecs are
loaded when a case runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cuda import CudaBackend

#: Lines, bands, samples.
REAL = ((128, 224, 640), (33, 211, 1001))
SMALL = ((5, 9, 40),)
#: Name of a coding and what is asked of it.
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("packed", {"ratio": 20.0}),
    ("packed", {"max_error": 0}),
    ("deflate", {"max_error": 5}),
    ("predicted", {"max_error": 0}),
    ("smallest", {"max_error": 5}),
)
AT_ONCE = 8
Open = Callable[[], CudaBackend]
Case = Callable[[], str]


def cases(opened: Open, *, quick: bool = False) -> Iterator[tuple[str, Case]]:
    """Give names and cases."""
    for shape in SMALL if quick else REAL:
        words = " × ".join(map(str, shape))
        for name, aim in ASKED:
            ((what, value),) = aim.items()
            yield (
                f"coding {name}, {what.replace('_', ' ')} {value:g}, {words}",
                lambda s=shape, n=name, a=aim: coding_case(opened, s, n, a),
            )


def scene(shape: tuple[int, int, int], seed: int) -> NDArray[np.uint16]:
    """Make mixtures of a few spectra with noise; some saturated, some as if from nowhere."""
    lines, bands, samples = shape
    rng = np.random.default_rng(seed)
    ends = 400 + 80 * rng.normal(size=(4, bands)).cumsum(axis=1)
    shares = rng.dirichlet(np.ones(4), size=(lines, samples))
    cube = np.einsum("lse,eb->lbs", shares, ends) + rng.normal(0, 6, shape)
    cube[rng.random(shape) < 1e-4] = 4095
    cube[:, 1, ::7] += rng.integers(-300, 300, (lines, -(-samples // 7)))
    out: NDArray[np.uint16] = cube.round().clip(0, 4095).astype(np.uint16)
    return out


def coding_case(opened: Open, shape: tuple[int, int, int], name: str, aim: dict[str, Any]) -> str:
    """Blocks coded and decoded by several threads at once."""
    for needed in ("numba", "imagecodecs"):
        try:
            importlib.import_module(needed)
        except ImportError:
            raise AssertionError(f"{needed} is not installed here: pip install {needed}") from None
    from pipeline.coding.choose import make_coding
    from pipeline.coding.cuda import Coder, CudaCoding
    from pipeline.coding.interface import BlockShape, Masks

    masks = Masks((False, False, True), None, 4095)
    on_cpu: Any = make_coding(
        name, BlockShape(shape[1], shape[2], np.dtype(np.uint16)), masks=masks, **aim
    )
    backend = opened()
    try:
        device = backend.device
        on_cuda = CudaCoding(on_cpu, Coder(device.cupy, device.shape))

        def block(seed: int) -> tuple[int, int]:
            cube = scene(shape, seed)
            coded = on_cuda.encode(cube)
            decoded = on_cpu.decode(coded.data, shape[0])
            off = int(np.abs(decoded.astype(np.int32) - cube).max())
            assert off == coded.stats.max_error, (
                f"decodes with an error of {off}, {coded.stats.max_error} was measured"
            )
            assert off <= aim.get("max_error", off), f"found an error of {off} counts"
            for data in (coded.data, on_cpu.encode(cube).data):
                np.testing.assert_array_equal(
                    on_cuda.decode(data, shape[0]), on_cpu.decode(data, shape[0])
                )
            return cube.nbytes, len(coded.data)

        with ThreadPoolExecutor(4) as pool:
            sizes = list(pool.map(block, range(AT_ONCE if shape in REAL else 2)))
    finally:
        backend.close()
    raw, small = map(sum, zip(*sizes, strict=True))
    return f"equal to the CPU, {raw / small:.2f} : 1"
