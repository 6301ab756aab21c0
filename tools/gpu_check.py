"""Check everything that needs a GPU, measure it, and print a short table last.

    python tools/gpu_check.py                 checks, then rates beside the limits of the machine
    python tools/gpu_check.py --quick         the same in seconds; its rates say nothing
    python tools/gpu_check.py --only checks   or: rates, sweep

Runs from a checkout, installed or not: it needs NumPy, msgspec, imagecodecs, numba and CuPy
(cupy-cuda12x or -cuda13x), and pytest and hypothesis for the tests. Exit status 0 when all checks
passed on a GPU, 1 when one failed, 2 when there is no usable GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    # before NumPy is imported: a capture gives BLAS one thread
    for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")
    sys.path[:1] = [str(ROOT), str(ROOT / "tools")]

import gpu_cases  # noqa: E402
import gpu_codings  # noqa: E402
import numpy as np  # noqa: E402
from bench import cuda, table  # noqa: E402
from bench.measure import Row, spread  # noqa: E402
from bench.settings import Settings  # noqa: E402

from pipeline.compute.cuda import CudaBackend  # noqa: E402
from pipeline.compute.cuda_pass import CudaPixelPass  # noqa: E402
from pipeline.errors import SwathError  # noqa: E402

PARTS = ("checks", "rates", "sweep")
TESTS = [
    "tests/compute/test_compute_parity.py",
    "tests/compute/test_compute_nvrtc.py",
    "tests/coding/test_coding_cuda.py",
    "tests/coding/test_coding_cuda_encode.py",
]
#: Strips of lines and bands of a block of threads that the sweep tries; 0: what is chosen itself.
SHARES = ((0, 0), (1, 16), (1, 64), (2, 32), (4, 16), (4, 64), (4, 224))
SWEEP_BYTES, SWEEP_TIMES = 256 << 20, 20
Open = Callable[[], CudaBackend]


@dataclass(frozen=True)
class Outcome:
    """Of one check."""

    name: str
    passed: bool
    words: str


def main(arguments: Sequence[str] | None = None, opened: Open = CudaBackend) -> int:
    """Run what the options ask for; give the exit status."""
    parser = argparse.ArgumentParser(description="Check and measure what needs a GPU.")
    parser.add_argument("--quick", action="store_true", help="small and short; rates say nothing")
    parser.add_argument("--only", action="append", choices=PARTS, help="some parts only")
    args = parser.parse_args(arguments)
    try:
        backend = opened()
    except SwathError as error:
        print(f"no GPU to check: {error}", file=sys.stderr)
        return 2
    name = backend.device.name
    backend.close()
    print(f"checking on {name}", flush=True)
    parts = args.only or PARTS
    outcomes: list[Outcome] = []
    rows: list[Row] = []
    if "checks" in parts:
        outcomes += checks(opened, quick=args.quick)
        outcomes += tests()
    settings = Settings().quick() if args.quick else Settings()
    for part, measured in (("sweep", lambda: sweep(opened, settings)),
                           ("rates", lambda: cuda.rows(settings))):  # fmt: skip
        if part in parts:
            failed = collect(rows, measured())
            outcomes.append(Outcome(part, not failed, failed or "measured"))
    print_table(name, outcomes, rows)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def checks(opened: Open, *, quick: bool = False) -> Iterator[Outcome]:
    """Compare with the CPU at full size, and under load; a check that fails stops no other."""
    every = (gpu_cases.cases(opened, quick=quick), gpu_codings.cases(opened, quick=quick))
    for name, case in itertools.chain(*every):
        began = time.monotonic()
        try:
            words = case()
            outcome = Outcome(name, True, words)
        except (AssertionError, SwathError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            outcome = Outcome(name, False, " ".join(lines)[:300])
        print(
            f"{name}: {'passed' if outcome.passed else 'FAILED'}, {outcome.words} "
            f"({time.monotonic() - began:.1f} s)",
            flush=True,
        )
        yield outcome


def tests() -> Iterator[Outcome]:
    """Run the parity tests on the device, where pytest is installed."""
    if importlib.util.find_spec("pytest") is None:
        yield Outcome("parity tests", False, "pytest is not installed here: pip install pytest")
        return
    # the checkout's settings name plug-ins that need not be here
    command = [
        *(sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={ROOT}"),
        *("-p", "no:cacheprovider", "-q", "-rs", "-k", "cuda or nvrtc or kernels", *TESTS),
    ]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, check=False)
    yield Outcome("parity tests", ran.returncode == 0, f"pytest's status {ran.returncode}")


def sweep(opened: Open, settings: Settings) -> Iterator[Row]:
    """Measure the fused kernel with other shares of work, and both ways to form products."""
    size = min(SWEEP_BYTES, settings.buffer_bytes)
    for geometry in settings.geometries:
        samples, bands = geometry.samples, geometry.bands
        lines = max(1, size // (2 * samples * bands))
        plan, raw = gpu_cases.large(samples, bands, lines)
        backend = opened()
        try:
            chosen = backend.pixel_pass(plan)
            for strips_each, bands_each in SHARES:
                operation = chosen
                if strips_each:
                    operation = CudaPixelPass(plan, backend, strips_each, bands_each)
                backend.load(raw)
                operation.again()  # untold
                rates = [_rate(backend, operation.again, 2 * raw.nbytes) for _ in range(3)]
                share = f"{operation.strips_each} strips × {operation.bands_each} bands"
                yield Row(
                    section="sweep",
                    step=f"fused kernel, {share}{'' if strips_each else ' (chosen)'}",
                    geometry=f"{samples} × {bands}",
                    rate=spread(rates),
                )
        finally:
            backend.close()
        yield from _products(opened, samples, bands)


def _products(opened: Open, samples: int, bands: int) -> Iterator[Row]:
    """Measure learning from 8192 spectra both ways."""
    lines = -(-8192 // samples)
    plan, raw = gpu_cases.large(samples, bands, lines)
    for by in ("gemm", "syrk"):
        backend = opened()
        try:
            math = backend.group_math(plan, lines, 1, 16, by)
            backend.load(raw)
            math.put(0, 0, lines, 0)
            chosen, shift = np.arange(lines), np.full(bands, 1000.0)

            def learn(math: Any = math, chosen: Any = chosen, shift: Any = shift) -> None:
                math.learn(0, chosen, 1, np.inf, shift)()

            learn()
            flops = 2.0 * lines * samples * bands**2
            rates = [_rate(backend, learn, flops) for _ in range(3)]
            yield Row(
                section="sweep",
                step=f"moments of {lines * samples} spectra by {by}, with copies",
                geometry=f"{samples} × {bands}",
                unit="GFLOP/s",
                rate=spread(rates),
            )
        finally:
            backend.close()


def _rate(backend: CudaBackend, work: Callable[[], None], amount: float) -> float:
    """How much a second, in units of 10⁹."""
    backend.device.settle()
    began = time.perf_counter()
    for _ in range(SWEEP_TIMES):
        work()
    backend.device.settle()
    return amount * SWEEP_TIMES / (time.perf_counter() - began) / 1e9


def collect(rows: list[Row], measured: Iterable[Row]) -> str:
    """Take rows as they come; give the words of an error that ends them."""
    try:
        for row in measured:
            rows.append(row)
            assert row.rate is not None, row.note
            print(f"{row.step} {row.geometry}: {table.with_spread(row.rate, row.unit)}", flush=True)
    except (SwathError, AssertionError) as error:
        return str(error)[:300]
    return ""


def print_table(name: str, outcomes: Iterable[Outcome], rows: Iterable[Row]) -> None:
    """Print what came of everything, one line each."""
    print(f"\n{'':4} {'on ' + name:<64} {'measured':>12} {'limit':>10} {'ratio':>7} {'needs':>7}")
    for row in rows:
        limit = table.figure(row.limit_rate.median) if row.limit_rate else ""
        ratio = table.figure(row.ratio.median) if row.ratio else ""
        rate = table.with_spread(spread([row.rate.median]), row.unit) if row.rate else row.note
        print(
            f"{table.mark(row):4.4} {row.step + ' ' + row.geometry:<64} {rate:>12} {limit:>10} "
            f"{ratio:>7} {table.required(row):>7}"
        )
    for outcome in outcomes:
        print(f"{'ok' if outcome.passed else 'FAIL':4} {outcome.name}: {outcome.words}")


if __name__ == "__main__":
    raise SystemExit(main())
