"""The PCA's arithmetic on the CPU: groups of lines kept as counts, moments, projection.

Compiled loops where there are any for the raw type, else NumPy, within the stated bounds. Knows the
tables and the interface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.compute.cpu_pass import counts_of, has_kernels
from pipeline.compute.interface import ALIGNMENT, Moments, aligned
from pipeline.compute.tables import PassPlan, PassTables, pass_tables

if TYPE_CHECKING:
    from pipeline.compute.cpu import CpuBackend

#: Rows so many bytes apart, or a multiple, use a quarter of a first-level cache's sets or less.
SETS_BYTES: Final = 256


class CpuGroupMath:
    """The PCA's arithmetic on the CPU; see :class:`pipeline.compute.interface.GroupMath`."""

    def __init__(
        self, plan: PassPlan, lines: int, groups: int, components: int, backend: CpuBackend
    ) -> None:
        self._plan, self._backend = plan, backend
        # (groups, lines, bands, samples and what a row is padded with)
        pitch = row_pitch(plan.samples, plan.dtype.itemsize)
        self._kept = aligned((groups, lines, plan.bands, pitch), plan.dtype)
        tables = pass_tables(plan)
        self._loops: CompiledPca | NumpyPca
        if has_kernels(plan):
            self._loops = CompiledPca(plan, tables, lines, components, backend)
        else:
            self._loops = NumpyPca(tables, backend)

    def put(self, group: int, first: int, count: int, at: int) -> None:
        """Copy lines of the loaded block, lines shared over the threads."""
        kept = self._kept[group, at : at + count, :, : self._plan.samples]
        raw = self._backend.raw[first : first + count]

        def work(start: int, stop: int, thread: int) -> int:
            kept[start:stop] = counts_of(raw[start:stop], self._plan)
            return 0

        self._backend.each(work, count)

    def learn(
        self,
        group: int,
        lines: NDArray[np.intp],
        every: int,
        level: float,
        shift: NDArray[np.float64],
    ) -> Callable[[], Moments]:
        """Nothing is done before the moments are asked for, by whichever thread."""
        kept = self._kept[group]

        def moments() -> Moments:
            bands, width = self._plan.bands, -(-self._plan.samples // every)
            first, second = np.zeros(bands), np.zeros((bands, bands))
            spectra = aligned((bands, width), np.dtype(np.float32))
            product = np.empty((bands, bands), np.float32)
            shift_f4 = shift.astype(np.float32)
            used = 0
            for line in lines:
                used += self._loops.gather(kept[line], every, level, shift_f4, spectra, first)
                second += np.matmul(spectra, spectra.T, out=product)
            return used, first, second

        return moments

    def project(
        self,
        group: int,
        lines: int,
        valid: NDArray[np.bool_],
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        step: float,
        out: NDArray[np.int16],
    ) -> Callable[[], NDArray[np.float32]]:
        """Project at once, lines shared over the threads."""
        longer = self._loops.project(self._kept[group, :lines], valid, mean, basis, step, out)
        return lambda: longer


def row_pitch(samples: int, itemsize: int) -> int:
    """Give the samples from row to row of lines that are kept.

    The projection goes down the bands. Rows a power of two apart fall into the same few sets of a
    core's caches, and push each other out: then a cache line is put between them.
    """
    return samples + (ALIGNMENT // itemsize if samples * itemsize % SETS_BYTES == 0 else 0)


class CompiledPca:
    """The PCA's loops with numba."""

    def __init__(
        self,
        plan: PassPlan,
        tables: PassTables,
        lines: int,
        components: int,
        backend: CpuBackend,
    ) -> None:
        from pipeline.compute.pca_kernels import COMPONENTS, compile_pca

        self._project, self._round, self._gather = compile_pca(plan.dtype)
        self._fix, self._weight, self._backend = tables.fix, tables.fix_weight, backend
        padded = -(-components // COMPONENTS) * COMPONENTS
        single = np.dtype(np.float32)
        self._basis = aligned((plan.bands, padded), single)
        self._projected = aligned((lines, padded, plan.samples), single)
        self._largest = np.zeros((backend.threads, padded), np.int32)

    def gather(
        self,
        line: NDArray[Any],
        every: int,
        level: float,
        shift: NDArray[np.float32],
        spectra: NDArray[np.float32],
        sums: NDArray[np.float64],
    ) -> int:
        """Gather the spectra of a line.

        Parameters
        ----------
        line : counts (bands, samples and more)
        every : takes each ``every``-th sample
        level : spectra with a count at or above it become 0
        shift : (bands,), subtracted
        spectra : (bands, width), filled
        sums : (bands,), gains the sum of each band

        Returns
        -------
        int
            Spectra used.
        """
        top = np.empty(spectra.shape[1], line.dtype)  # two threads may learn at once
        return self._gather(line, every, level, shift, self._fix, self._weight, top, spectra, sums)

    def project(
        self,
        kept: NDArray[Any],
        valid: NDArray[np.bool_],
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        step: float,
        out: NDArray[np.int16],
    ) -> NDArray[np.float32]:
        """Fill ``out``, (lines, K, samples), as :class:`GroupMath` says; gives ``longer``, (K,)."""
        count = len(basis)
        self._basis[:, :count] = basis.T
        self._largest[:] = 0
        flags = valid.view(np.uint8)

        def project(first: int, last: int, t: int) -> int:
            return self._project(
                *(kept, first, last, flags, mean, self._basis, self._fix, self._weight),
                *(self._projected, self._largest[t]),
            )

        self._backend.each(project, len(kept))
        longer = lengths(self._largest.max(axis=0).view(np.float32)[:count], step)
        factor = (1 / (step * longer)).astype(np.float32)

        def round_off(first: int, last: int, t: int) -> int:
            return self._round(self._projected, first, last, factor, out)

        self._backend.each(round_off, len(kept))
        return longer


class NumpyPca:
    """The same with NumPy, for any raw type; makes temporary arrays of a line."""

    def __init__(self, tables: PassTables, backend: CpuBackend) -> None:
        self._fix, self._weight, self._backend = tables.fix, tables.fix_weight, backend

    def gather(
        self,
        line: NDArray[Any],
        every: int,
        level: float,
        shift: NDArray[np.float32],
        spectra: NDArray[np.float32],
        sums: NDArray[np.float64],
    ) -> int:
        """Do as :class:`CompiledPca` does."""
        spectra[:] = self._counts(line[:, : spectra.shape[1] * every])[:, ::every]
        bad = ~(spectra < level).all(axis=0)
        spectra -= shift[:, None]
        spectra[:, bad] = 0
        sums += spectra.sum(axis=1, dtype=np.float64)
        return int(spectra.shape[1] - np.count_nonzero(bad))

    def project(
        self,
        kept: NDArray[Any],
        valid: NDArray[np.bool_],
        mean: NDArray[np.float32],
        basis: NDArray[np.float32],
        step: float,
        out: NDArray[np.int16],
    ) -> NDArray[np.float32]:
        """Do as :class:`CompiledPca` does."""
        projected = np.empty(out.shape, np.float32)

        def work(first: int, last: int, thread: int) -> int:
            for n in range(first, last):
                counts = self._counts(kept[n, :, : out.shape[2]])
                np.matmul(basis, counts - mean[:, None], out=projected[n])
            return 0

        self._backend.each(work, len(kept))
        projected[~valid] = 0
        largest = np.maximum(projected.max(axis=(0, 2)), -projected.min(axis=(0, 2)))
        longer = lengths(largest, step)
        projected *= (1 / (step * longer)).astype(np.float32)[:, None]
        np.copyto(out, np.rint(projected, out=projected), casting="unsafe")
        return longer

    def _counts(self, line: NDArray[Any]) -> NDArray[np.float32]:
        """One line as float32, bad pixels taken from their neighbours along the spectrum."""
        counts: NDArray[np.float32] = line.astype(np.float32)
        if len(self._fix):
            band, sample, low, high = self._fix.T
            low, high = np.where(low < 0, band, low), np.where(high < 0, band, high)
            below, above = counts[low, sample], counts[high, sample]
            counts[band, sample] = below + (above - below) * self._weight
        return counts


def lengths(largest: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Give the least powers of two that bring scores of these magnitudes into int16."""
    # powers of two, so that lengthening a basis vector is exact in float32
    room = np.maximum(largest / np.float32(step * 32767), 1)
    return np.asarray(np.exp2(np.ceil(np.log2(room))), np.float32)
