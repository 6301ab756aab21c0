"""A GenTL producer with virtual push-broom cameras, and what goes with it.

    python tools/virtual_camera build                  compile it, print the path of the .cti file
    python tools/virtual_camera render scene.raw       render the simulated camera's scene to a file
    python tools/virtual_camera play FILE              print the environment that plays FILE
    python tools/virtual_camera play FILE -- COMMAND   run COMMAND with it
    python tools/virtual_camera measure [FILE]         how fast a bare consumer gets frames

docs/virtual-camera.md describes the cameras. Exit status 0: all well; 1: failure at work; 2: bad
input; with ``-- COMMAND`` that of the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    sys.path[:1] = [str(ROOT), str(ROOT / "tools")]
    try:
        from virtual_camera.command import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())
