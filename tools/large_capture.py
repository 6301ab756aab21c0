"""Capture more than 4 GiB for real, and let outside readers judge the file.

    python tools/large_capture.py [--lines 16000] [--folder FOLDER]

A replayed source runs through driver, wire and sink into one container; then ``unzip -t`` and
``python -m zipfile -t`` check it, and swath, GDAL (inside the container and through the sidecar)
and Spectral Python read its last pixel. Exit status 1 when any of them disagrees.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import swath
from pipeline.capture import run_capture
from pipeline.container.envi import write_envi
from pipeline.container.export import sidecar
from pipeline.rigfile import load_rig

SAMPLES, BANDS, SOURCE_LINES = 640, 224, 500


def last_pixels(file: Path) -> dict[str, list[int]]:
    """Read all bands of the last pixel in four ways."""
    import rasterio
    from spectral.io import envi

    found: dict[str, list[int]] = {}
    with swath.open(file) as cube:
        lines, samples, _ = cube.raw.shape
        found["swath"] = cube.raw[-1, -1].tolist()
    header = sidecar(file)
    window = ((lines - 1, lines), (samples - 1, samples))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, path in (
            ("GDAL inside", f"/vsizip/{{{file}}}/data.envi"),
            ("GDAL sidecar", str(file)),
        ):
            with rasterio.open(path) as source:
                found[name] = source.read(window=window)[:, 0, 0].tolist()
    image = envi.open(str(header), str(file))
    found["Spectral Python"] = np.asarray(image.read_pixel(lines - 1, samples - 1)).tolist()
    return found


def main() -> int:
    """Capture, check, print a line for each reader."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=16_000)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swath-large-", dir=args.folder) as name:
        folder = Path(name)
        rng = np.random.default_rng(4)
        cube = rng.integers(0, 4096, (SOURCE_LINES, SAMPLES, BANDS), np.uint16)
        write_envi(folder, "source", cube, {"bit depth": 12})
        rig = folder / "rig.toml"
        rig.write_text(
            f'[camera]\ndriver = "replay"\nfile = "source.hdr"\nrate = "max"\n'
            f"loops = {-(-args.lines // SOURCE_LINES)}\n"
            f'[output]\nfolder = "{folder}"\nname = "large"\n'
        )
        result = run_capture(load_rig(rig), rig_path=rig, lines=args.lines)
        file = Path(result.file)
        print(f"{result.bytes / 2**30:.2f} GiB, {result.lines} lines, {result.lost} lost")
        good = result.exit_status == 0 and result.bytes > 1 << 32
        for name, command in (
            ("unzip -t", ["unzip", "-tq", str(file)]),
            ("python -m zipfile -t", [sys.executable, "-m", "zipfile", "-t", str(file)]),
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = (done.stdout or done.stderr).strip().splitlines()
            print(f"{name}: {said[-1] if said else ''}")
            good = good and done.returncode == 0
        expected = cube[(args.lines - 1) % SOURCE_LINES, -1].tolist()
        for reader, pixel in last_pixels(file).items():
            same = pixel == expected
            print(f"{reader}: last pixel {'equal' if same else 'DIFFERENT'}")
            good = good and same
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
