"""How much a run measures, and where: what the options of the command line settle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bench.data import GEOMETRIES, Geometry
from bench.measure import MIN_ROUNDS


@dataclass(frozen=True)
class Settings:
    """What the options settled.

    Attributes
    ----------
    geometries, stream_geometries : tuple of Geometry
        Of rows within one process, and of those with a driver process.
    block_mib : float or None
        Size of a block; None: a capture's own choice.
    threads : int
        Of the engine, and of the copies that it is compared with.
    rounds, long_rounds : int
        Of each pair, and of those that start processes or take a peer's time.
    buffer_bytes : int
        Memory that blocks rotate through.
    different_lines : int
        Lines that are no copies.
    stream_bytes, file_bytes : int
        That go through a link, or into a file, in one round.
    folder : Path
        Where files are written.
    """

    geometries: tuple[Geometry, ...] = GEOMETRIES
    stream_geometries: tuple[Geometry, ...] = GEOMETRIES
    block_mib: float | None = None
    threads: int = 1
    rounds: int = MIN_ROUNDS
    long_rounds: int = MIN_ROUNDS
    buffer_bytes: int = 1 << 30
    different_lines: int = 256
    stream_bytes: int = 3 << 30
    file_bytes: int = 2 << 30
    folder: Path = Path()

    def quick(self) -> Settings:
        """Give a trial: everything runs, over so little that its figures say nothing."""
        return replace(
            self,
            rounds=2,
            long_rounds=1,
            buffer_bytes=64 << 20,
            different_lines=32,
            stream_bytes=64 << 20,
            file_bytes=64 << 20,
        )
