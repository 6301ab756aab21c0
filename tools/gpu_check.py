"""Run everything that needs a GPU, tests first, then benchmarks, and print a short table last.

    python tools/gpu_check.py

Exit status 0 when the tests passed on a GPU, 1 when one failed, 2 when there is no usable GPU.
Knows the tests' file names and the compute backends; measures nothing itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARITY = ["tests/compute/test_compute_parity.py", "tests/compute/test_compute_nvrtc.py"]
BENCHMARKS = "tests/compute/test_compute_benchmark.py"


def main() -> int:
    """Run the checks; give the exit status."""
    # before NumPy is imported, here and in the processes started below
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    from pipeline.compute import choose_backend
    from pipeline.errors import DeviceError

    try:
        backend = choose_backend("cuda")
    except DeviceError as error:
        print(f"no GPU to check: {error}", file=sys.stderr)
        return 2
    device = backend.why.removeprefix("found ")
    backend.close()
    print(f"checking on {device}", flush=True)
    began = time.monotonic()
    passed = pytest(*PARITY, "-v", "-k", "cuda or nvrtc or kernels") == 0
    took = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "rates.json"
        measured = pytest(BENCHMARKS, "--benchmark-only", f"--benchmark-json={results}") == 0
        rates = json.loads(results.read_text())["benchmarks"] if results.exists() else []
    print(f"\n{'what':<52} {'ms':>9} {'GB/s raw':>9}")
    for rate in rates:
        best = rate["stats"]["min"]
        name = rate["name"].removeprefix("test_rate_of_")
        print(f"{name:<52} {best * 1e3:9.3f} {rate['extra_info']['raw_bytes'] / best / 1e9:9.2f}")
    print(f"{'device':<52} {device:>19}")
    what = f"parity tests, {took:.1f} s"
    print(f"{what:<52} {'passed' if passed else 'FAILED':>19}")
    print(f"{'benchmarks':<52} {'done' if measured else 'FAILED':>19}")
    return 0 if passed and measured else 1


def pytest(*arguments: str) -> int:
    """Run pytest in the checkout, in one process; give its exit status."""
    command = [sys.executable, "-m", "pytest", "-n", "0", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
