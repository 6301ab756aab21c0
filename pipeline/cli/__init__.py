"""The command line: one module a command, put together in :mod:`pipeline.cli.app`.

Everything heavy (cameras, links, kernels, rich) is imported by the command that needs it, when it
runs: ``swath info`` starts as fast as Python and NumPy do.
"""

from __future__ import annotations


def main() -> None:
    """Run the ``swath`` command with the arguments of this process, and exit with its status."""
    import os
    import sys

    # Before NumPy: idle BLAS threads take processor time from the kernels.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from pipeline.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # also while the imports run
        print("swath: interrupted", file=sys.stderr)
        status = 1
    sys.exit(status)
