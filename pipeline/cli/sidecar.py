"""``swath sidecar``: a header beside the container, with which ENVI readers open it."""

from __future__ import annotations

from pipeline.cli.options import HsiFile


def sidecar(file: HsiFile) -> None:
    """Let ENVI readers open the .hsi in place.

    Writes NAME.hdr beside NAME.hsi, with the offset of the data inside the container.
    GDAL, Spectral Python and ENVI then open the .hsi itself, without unpacking.
    """
    from pipeline.cli.output import short_path
    from pipeline.container.export import sidecar as write_sidecar

    header = write_sidecar(file)
    print(short_path(header))
    names = short_path(header), short_path(file)
    print(f"  GDAL opens {names[1]}, Spectral Python spectral.envi.open{names}")
