"""``swath.open``: a ``.hsi`` container, or a plain ENVI file, as one object.

What an open file is, with read procedures, scaling and references laid over its pixels and computed
box by box. Knows cubes, procedures and references; nothing of how files lie or are written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.bad_pixels import Kind, is_bad
from pipeline.container.counts import Counts
from pipeline.container.cube import Array, Cube, Stored
from pipeline.container.microservices import lay_microservice
from pipeline.container.opened import OpenedFile
from pipeline.container.procedures import Microservice, lay_over, parse_procedures
from pipeline.container.references import FORMULA, Reference, Reflectance, make_reference
from pipeline.container.scaling import ignore_value, is_scaled, scale
from pipeline.container.selection import Selection, select
from pipeline.container.uncertainty import Uncertainty
from pipeline.errors import ContainerError, ReferenceMismatchError
from pipeline.layout import ledger_rows
from pipeline.reflectance import Correction

#: Values that a block of a read may hold: bounds what lies between file and result.
_BLOCK_VALUES = 1 << 21
#: Cubes that one file may merge, with those that they merge in turn.
_MAX_MERGED: Final = 256
#: References that are no counts of the cube's bands and samples.
_NO_REFERENCE = ("pca_basis", "pca_mean", "bad_pixels")


def open_container(path: str | os.PathLike[str]) -> Container:
    """Open a ``.hsi`` container, or a plain ENVI file by its header or data file.

    Returns
    -------
    Container
        In milliseconds, whatever the size.

    Raises
    ------
    ContainerError
        When the file is not what it says.
    """
    return Container(path)


class Container(OpenedFile):
    """An open container: its pixels with scaling, read procedures and references laid over them."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        _within: tuple[Path, ...] = (),
        _merged: list[Path] | None = None,
    ) -> None:
        super().__init__(path)
        self._within = _within
        self._merged: list[Path] = [] if _merged is None else _merged  # one for the whole tree

    # -- as an object ----------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the file; arrays that were handed out keep their map."""
        for name in ("cube", "references", "reflectance", "bad_pixels"):
            self.__dict__.pop(name, None)
        super().close()

    def __repr__(self) -> str:
        lines, samples, bands = self.header.shape
        return f"<Container {self.path.name}: {lines} lines, {samples} samples, {bands} bands>"

    # -- what is in it ---------------------------------------------------------------------

    @property
    def wavelengths(self) -> NDArray[np.float64] | None:
        """Centre wavelengths in nm of the bands that :meth:`read` gives; None where unknown.

        Of the stored bands where the read procedures cannot be applied.
        """
        return self._spectrum("wavelength")

    @property
    def fwhm(self) -> NDArray[np.float64] | None:
        """Full widths at half maximum in nm of the bands that :meth:`read` gives."""
        return self._spectrum("fwhm")

    def _spectrum(self, name: str) -> NDArray[np.float64] | None:
        try:
            cube = self.cube
        except ContainerError:
            header = self.header
            return header.wavelength_nm if name == "wavelength" else header.fwhm_nm
        return cube.wavelengths if name == "wavelength" else cube.fwhm

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """White and black references by name (``white``, ``black``, ``white_black`` …)."""
        found: dict[str, Reference] = {}
        for entry in self.entries:
            folder, _, name = entry.rpartition("/")
            stem = name.removesuffix(".hdr")
            if folder != "Reference" or stem == name or stem in _NO_REFERENCE:
                continue
            if self._archive is None or f"Reference/{stem}.envi" not in self._archive:
                self.warnings.append(f"{entry} has no Reference/{stem}.envi beside it")
                continue
            try:
                header, raw = self.reference_cube(stem)
                found[stem] = make_reference(header, raw)
            except ContainerError as error:
                if stem in FORMULA:
                    raise
                # D4.1 (2.2) allows further files of any format in this folder.
                self.warnings.append(f"Reference/{stem}.envi is not used: {error}")
                continue
            if raw.shape[0] > 1 and found[stem].frames is None:
                self.warnings.append(
                    f"Reference/{stem}.envi has {raw.shape[0]} lines: their mean is taken"
                )
        return found

    @cached_property
    def reflectance(self) -> Reflectance:
        """The reflectance formula with this file's references.

        Raises
        ------
        ReferenceMismatchError
            When they are missing or do not fit.
        """
        lines, samples, bands = self.header.shape
        decoded = self.header.whole("pca bands")
        if self.header.file_type.casefold() == "pca" and decoded is not None:
            bands = decoded
        # Times are needed only where references are interpolated.
        drifts = any(name.endswith("_after") for name in self.references)
        ledger = self.ledger if drifts else ledger_rows(0)
        shape = (lines, samples, bands)
        kinds = self.bad_pixels
        if kinds is not None and kinds.shape != (bands, samples):
            raise ReferenceMismatchError(
                f"Reference/bad_pixels.envi: found (bands, samples) = {kinds.shape}, the cube has "
                f"{(bands, samples)}"
            )
        return Reflectance(
            self.header,
            self.references,
            shape,
            ledger,
            bad=None if kinds is None or not is_bad(kinds).any() else is_bad(kinds),
            counts=self._counts(),
        )

    def _counts(self) -> Counts:
        """Give the counts of the stored cube, decoded where they are coded."""
        header = self.header
        if header.coded:
            return Counts(None, self.stored)
        if header.file_type.casefold() != "pca":
            return Counts(self.raw)
        scores = Stored(self.raw, wavelengths=header.wavelength_nm, fwhm=header.fwhm_nm)
        return Counts(None, lay_microservice("pca", scores, self))

    @cached_property
    def bad_pixels(self) -> NDArray[np.uint8] | None:
        """Kinds of the pixels of a line (:class:`pipeline.bad_pixels.Kind`), (bands, samples).

        None where the file has no ``Reference/bad_pixels.envi``.
        """
        if self._archive is None or "Reference/bad_pixels.hdr" not in self._archive:
            return None
        _, raw = self.reference_cube("bad_pixels")
        # a picture of bands × samples, or one line of (samples, bands)
        flags = np.asarray(raw[0]).T if raw.shape[0] == 1 < raw.shape[2] else raw[:, :, 0]
        known = (flags >= 0) & (flags < len(Kind))
        return np.where(known, flags, Kind.LISTED).astype(np.uint8)

    def correction(self, line: int = 0) -> Correction:
        """Give the arrays of the reflectance formula for one line of the stored cube."""
        return self.reflectance.correction(line)

    # -- reading ---------------------------------------------------------------------------

    @cached_property
    def cube(self) -> Cube:
        """The stored cube with its scaling and all read procedures laid over it.

        Raises
        ------
        ContainerError
            When a procedure is unknown, out of order or does not fit.
        """
        procedures = parse_procedures(self.read_procedures)
        header = self.header
        if not self._within:
            self._merged.clear()
        cube = self.stored
        services = {p.name for p in procedures if isinstance(p, Microservice)}
        # Both start from the stored integers and bring their own scale.
        if is_scaled(header) and not services & {"reflectance", "pca"}:
            dtype = np.dtype(np.float32) if cube.dtype.kind != "c" else cube.dtype
            cube = cube.map(
                lambda pixels, box: scale(pixels, header, bands=slice(*box.bands)),
                name="the stored cube",
                dtype=dtype,
            )
        return lay_over(
            cube,
            procedures,
            microservice=lambda name, below: lay_microservice(name, below, self),
            other=self._other,
            fill=None if cube.dtype.kind == "f" else ignore_value(header, cube.dtype),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(lines, samples, bands)`` after the read procedures."""
        return self.cube.shape

    def read(
        self,
        lines: Selection = None,
        samples: Selection = None,
        bands: Selection = None,
        *,
        procedures: bool = True,
    ) -> Array:
        """Read pixels.

        Parameters
        ----------
        lines, samples, bands : int, slice or sequence of int, optional
            Which to take, counted after the read procedures; negative ones from the end. An int
            drops its axis, as in NumPy.
        procedures : bool
            Whether the read procedures and the scaling of the header are applied. Without, the
            stored values are given.

        Returns
        -------
        ndarray, (lines, samples, bands)
            A copy in native byte order. Reflectance and scaled values are float32, 1.0 = 100 %,
            NaN where invalid or lost.

        Raises
        ------
        ContainerError
            When an index is out of range or a procedure cannot be applied.
        """
        cube = self.cube if procedures else self.stored
        return select(cube, (lines, samples, bands), block_values=_BLOCK_VALUES)

    def uncertainty(
        self, lines: Selection = None, samples: Selection = None, bands: Selection = None
    ) -> Array:
        """Give the standard uncertainty of the reflectance that :meth:`read` gives.

        From the standard deviations of black and white and the shot noise of the light, to first
        order (:mod:`pipeline.container.uncertainty`; docs/container.md has the formula).

        Parameters
        ----------
        lines, samples, bands
            As for :meth:`read`.

        Returns
        -------
        ndarray of float32, (lines, samples, bands)
            One standard deviation of a single pixel, 1.0 = 100 %; NaN where there is no
            reflectance, and for replaced pixels.

        Raises
        ------
        ContainerError
            When the file gives no reflectance, or a read procedure mixes pixels.
        ReferenceMismatchError
            When a standard deviation is missing.
        """
        cube = self.cube
        raw = "microservice:reflectance" in self.read_procedures
        if not raw and "reflectance scale factor" not in self.header:
            raise ContainerError(f"{self.path}: uncertainty: found no reflectance, only counts")
        sigma = Uncertainty(self.reflectance, self.references, raw=raw).laid_over(cube)
        return select(sigma, (lines, samples, bands), block_values=_BLOCK_VALUES)

    def blocks(
        self,
        lines: int = 64,
        *,
        samples: Selection = None,
        bands: Selection = None,
        procedures: bool = True,
    ) -> Iterator[Array]:
        """Read the whole cube a few lines at a time, with bounded memory.

        Parameters
        ----------
        lines : int
            Of each block; the last may have fewer.
        samples, bands, procedures
            As for :meth:`read`.
        """
        total = self.shape[0] if procedures else self.header.lines
        for start in range(0, total, max(1, lines)):
            chosen = slice(start, min(total, start + max(1, lines)))
            yield self.read(chosen, samples, bands, procedures=procedures)

    # -- below -----------------------------------------------------------------------------

    def _other(self, name: str) -> Cube:
        """Open the cube that ``merge`` names: a path inside this file's own folder."""
        folder = self.path.resolve().parent
        within = (*self._within, self.path.resolve())
        try:
            other = (folder / name.replace("\\", "/")).resolve()
            inside = other.is_relative_to(folder)
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise ContainerError(
                f"read procedures: merge: found {name[:60]!r}, allowed are paths inside {folder}"
            )
        if other in within or len(within) > 16:
            raise ContainerError(f"read procedures: merge: found {name[:60]!r} merged into itself")
        if len(self._merged) >= _MAX_MERGED:
            raise ContainerError(
                f"read procedures: merge: found more than {_MAX_MERGED} cubes, those of the merged "
                "files included"
            )
        self._merged.append(other)
        return Container(other, _within=within, _merged=self._merged).cube
