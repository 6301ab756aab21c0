"""Small captures for the tests of writing, recovery, validation and repacking."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np

from pipeline.container.header import Header
from pipeline.container.writer import ContainerWriter, GrownEnvi
from pipeline.layout import envi_code, ledger_rows

SAMPLES, BANDS = 8, 3
LINE_BYTES = SAMPLES * BANDS * 2


def header(samples=SAMPLES, bands=BANDS, dtype="u2", **fields):
    """Give a header as a capture has it at its start."""
    return Header(
        {
            "samples": samples,
            "lines": 0,
            "bands": bands,
            "header offset": 0,
            "file type": "ENVI Standard",
            "data type": envi_code(dtype),
            "interleave": "bil",
            "byte order": 0,
            "wavelength": [400.0 + 10 * band for band in range(bands)],
            "wavelength units": "Nanometers",
            **{name.replace("_", " "): value for name, value in fields.items()},
        }
    )


def cube(rng, lines):
    """Give (lines, bands, samples) counts, none of them zero."""
    return rng.integers(1, 4096, (lines, BANDS, SAMPLES)).astype("<u2")


def rows_for(first, count):
    """Give ledger rows of stored lines whose frame id is 1000 + line."""
    rows = ledger_rows(count)
    rows["line"] = np.arange(first, first + count)
    rows["frame_id"] = 1000 + np.arange(first, first + count)
    rows["host_time_ns"] = 1_700_000_000_000_000_000 + np.arange(first, first + count) * 3_000_000
    return rows


def growing():
    return {
        "preview": GrownEnvi("preview0", header(SAMPLES // 4)),
        "Exploration/quality": GrownEnvi("quality", header(SAMPLES, 6, "u1")),
    }


def thumbnail():
    return imagecodecs.jpeg8_encode(np.zeros((4, 4, 3), np.uint8))


def begin(path, *, sync_seconds=3600.0, **options):
    """Open a writer that syncs only when told to."""
    return ContainerWriter(
        path,
        header(),
        first={"Metadata/camera.json": b"{}"},
        growing=growing(),
        sync_seconds=sync_seconds,
        **options,
    )


def feed(writer, pixels, first=0, step=5):
    """Write blocks with their quality and preview strips."""
    for at in range(0, len(pixels), step):
        block = pixels[at : at + step]
        writer.write(block, rows_for(first + at, len(block)))
        writer.append("quality", np.ones((len(block), 6, SAMPLES), np.uint8))
        if at // 4 != (at + len(block)) // 4:
            writer.append("preview0", np.full((1, BANDS, SAMPLES // 4), at + 1, "<u2"))


def captured(path: Path, pixels, **fields):
    """Write a whole container."""
    writer = begin(path)
    feed(writer, pixels)
    return writer.finish(header(**fields), last={"thumbnail.jpg": thumbnail()})


def stored(path):
    """Read the pixels back as (lines, bands, samples), by the container's own header."""
    from pipeline.container.zipfile_layout import scan

    with scan(path) as archive:
        own = Header.parse(archive.read("data.hdr"))
        flat = np.fromfile(path, "<u2", own.data_bytes // 2, offset=archive.data_offset)
    return flat.reshape(own.lines, own.bands, own.samples)
