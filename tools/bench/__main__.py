"""Measure swath beside the limits of this machine, and print one table.

    python tools/bench                    everything that needs no camera; some minutes
    python tools/bench --full             the same, links and captures in all three shapes of line
    python tools/bench --quick            a trial of all rows in seconds; its figures say nothing
    python tools/bench --json             the same for machines
    python tools/bench --peers            beside what else there is, where it is installed
    python tools/bench --compression      how small, how wrong, how fast, beside other codecs
    python tools/bench --curves           error against size of the same, with a plot
    python tools/bench --scaling          how cost grows with bands, samples, blocks, components
    python tools/bench --open-loop        60 s from a camera that does not wait, ten times
    python tools/bench --coded            captures that are coded: how much while the scan runs
    python tools/bench --genicam          the same from the virtual GenICam camera, and its limit

Exit status 0 when everything was measured, whatever it came to; 1 when something failed; 2 for a
wrong option.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    # before NumPy is imported: a capture gives BLAS one thread in each of its processes
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    sys.path[:1] = [str(ROOT), str(ROOT / "tools")]
    # some rows start processes of their own
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    try:
        from bench.main import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())
