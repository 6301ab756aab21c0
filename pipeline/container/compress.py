"""The coded form of a container or ENVI cube, beside everything else it has.

What can be coded and how is checked before anything is written; the source is only read, and the
new file has its name once it is whole. Knows the reader, headers and how blocks are coded; nothing
of how a coding works.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.coding.backend import Wish
from pipeline.coding.interface import DTYPES, BlockShape, BlockStats, Noise
from pipeline.container.block_codings import BlockCodings, Wanted
from pipeline.container.coded import MOST_BLOCKS
from pipeline.container.coded_header import beside_bytes, masks_of, stated_error
from pipeline.container.coding_job import CodingJob, Progress
from pipeline.container.header import Header
from pipeline.container.in_order import default_threads
from pipeline.container.reader import Container
from pipeline.container.rewriting import new_file
from pipeline.container.sensor_noise import sensor_noise
from pipeline.container.spool import Spool
from pipeline.container.whole_file import write_whole
from pipeline.errors import ConfigError, ContainerError

__all__ = ["Compressed", "Wanted", "compress"]

#: Ending of the file while it grows.
_GROWING: Final = ".compressing"


@dataclass(frozen=True)
class Compressed:
    """What was written.

    Attributes
    ----------
    path : Path
    coding, file_type : str
    lines, block_lines : int
    raw_bytes, coded_bytes : int
        Of the pixels as they were, and of the new file without what it took over as it was
        (references, previews, ledger …).
    stats : BlockStats
        Error over every pixel.
    warnings : list of str
    """

    path: Path
    coding: str
    file_type: str
    lines: int
    block_lines: int
    raw_bytes: int
    coded_bytes: int
    ahead: int
    stats: BlockStats
    warnings: list[str]

    @property
    def ratio(self) -> float:
        """Raw bytes for a coded one."""
        return self.raw_bytes / max(self.coded_bytes, 1)


def compress(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    wanted: Wanted | None = None,
    *,
    threads: int = 0,
    backend: Wish = "cpu",
    progress: Progress | None = None,
    spool: Spool | None = None,
) -> Compressed:
    """Write a cube of integers as a coded container.

    Parameters
    ----------
    path : path
        A container or ENVI file.
    out : path or None
        A new file; None: the source is replaced once the new one is whole.
    wanted : Wanted, optional
    threads : int
        That code blocks; 0: one a processor.
    backend : {"cpu", "cuda", "auto"}
        What codes them; bytes may differ, but not what is promised of them.
    progress : callable, optional
        Called with lines done and lines in all.
    spool : Spool, optional
        Blocks that were coded before: taken where they were coded in the same way, of the same
        lines.

    Raises
    ------
    ConfigError
        When ``out`` exists, the cube cannot be coded as asked, or the source has the name of the
        file that grows beside ``out``.
    DeviceError
        When there is no GPU, or it fails.
    ContainerError
        When the source is not what it says, damaged, or no cube of integers.
    StorageError
        When the disk refuses; nothing is left of the new file.
    """
    target = Path(path) if out is None else new_file(out)
    with Container(path) as source:
        codings = replace(_codings(source, wanted or Wanted()), backend=backend)
        if spool is not None and spool.key != codings.to_json():
            spool = None
        job = CodingJob(source, codings, threads or default_threads(), progress or _silent, spool)
        candidates = None if out is None else [target]
        made = write_whole(target, _GROWING, job.write, sources=source.files, candidates=candidates)
        lines = source.header.lines
        return Compressed(
            made,
            codings.coding.name,
            codings.coding.file_type,
            lines,
            codings.block_lines,
            lines * codings.shape.line_bytes(),
            job.written.size,
            job.written.ahead,
            job.written.stats,
            _warnings(source, job.written.emptied) + _missed(job, codings),
        )


def _silent(done: int, lines: int) -> None:
    """Tell nobody how far it is."""


def _warnings(source: Container, emptied: int) -> list[str]:
    found = list(source.warnings)
    if "wavelength" not in source.header:
        found.append(
            f"{source.path} has no wavelengths, which D4.1 asks for: the new file is not valid"
        )
    if emptied:
        found.append(
            f"{emptied} lines that were lost hold 0, as packed pixels have no room for another "
            "value; the ledger names them"
        )
    earlier = stated_error(source.header)
    if earlier:
        found.append(
            f"{source.path} was coded with an error of up to {earlier} counts before: the new "
            "file goes on to state it"
        )
    return found


def _missed(job: CodingJob, codings: BlockCodings) -> list[str]:
    ratio, size = codings.wanted.ratio, max(job.written.size, 1)
    found = job.lines * codings.shape.line_bytes() / size
    if ratio is None or found >= ratio:
        return []
    return [f"ratio: asked for {ratio:g}, these pixels and their header come down to {found:.2f}"]


def _shape(source: Container) -> BlockShape:
    header = source.header
    if not header.coded and header.file_type.casefold() == "pca":
        raise ContainerError(
            f"{source.path}: found PCA scores, allowed is a cube of integers (swath export decodes)"
        )
    dtype = source.dtype.newbyteorder("=")
    if dtype not in DTYPES:
        allowed = ", ".join(map(str, DTYPES))
        raise ContainerError(
            f"{source.path}: data type: found {dtype}, allowed for coding are {allowed}"
        )
    return BlockShape(header.bands, header.samples, dtype)


def _codings(source: Container, wanted: Wanted) -> BlockCodings:
    shape = _shape(source)
    noise = sensor_noise(source) if wanted.noise else None
    lines = source.header.lines
    codings = settle_codings(source.plain_header, shape, wanted, noise).for_lines(lines)
    if lines > codings.block_lines * MOST_BLOCKS:
        least = -(-lines // MOST_BLOCKS)
        raise ConfigError(f"block lines: found {codings.block_lines}, allowed are {least} and more")
    earlier = stated_error(source.header)
    if earlier and not wanted.lossless:
        raise ContainerError(
            f"{source.path}: was coded with an error of up to {earlier} counts before, so that "
            "a further one could not be known; allowed is lossless"
        )
    return codings


def settle_codings(
    header: Header, shape: BlockShape, wanted: Wanted, noise: Noise | None
) -> BlockCodings:
    """Settle how the blocks of a cube are coded, whatever its number of lines.

    Parameters
    ----------
    header : Header
        Of the plain cube. What only the end of a capture knows does not matter.
    shape : BlockShape
    wanted : Wanted
    noise : Noise or None
        Where ``wanted.noise``.

    Raises
    ------
    ConfigError
        When there is no such coding, or it cannot do what is wanted.
    """
    codings = BlockCodings(shape, wanted, noise, masks_of(header, shape.dtype))
    if wanted.ratio is None:
        return codings
    return replace(codings, beside=beside_bytes(header, codings.coding))
