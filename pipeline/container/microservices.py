"""``microservice:NAME``: procedures that the program brings, found by name.

A microservice is a function ``(cube, source) -> Cube`` that lays something over a
:class:`~pipeline.container.cube.Cube`; ``source`` is the open container. Packages add theirs
through the entry point group ``swath.microservices``; a file can only name what is registered,
never bring code of its own. ``reflectance`` and ``pca`` are here. Knows cubes and references.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.container.coded_header import decoded_type
from pipeline.container.cube import Array, Box, Cube
from pipeline.container.header import Header
from pipeline.container.references import Reference, Reflectance, box_indices, lost_lines
from pipeline.container.scaling import ignore_value
from pipeline.errors import ContainerError, SwathError
from pipeline.layout import ENVI_TYPES, LedgerRows

#: Entry point group to which users add microservices.
GROUP: Final = "swath.microservices"


class Source(Protocol):
    """What a microservice may ask of the open container."""

    @property
    def header(self) -> Header:
        """Of ``data.envi``."""

    @property
    def references(self) -> Mapping[str, Reference]:
        """References by name."""

    @property
    def ledger(self) -> LedgerRows:
        """One row a line; empty where there is none."""

    @property
    def reflectance(self) -> Reflectance:
        """The formula with this file's references."""

    def reference_cube(self, name: str) -> tuple[Header, Array]:
        """Header and mapped pixels (lines, samples, bands) of ``Reference/NAME.envi``."""


Service = Callable[[Cube, Source], Cube]


@cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def find_microservice(name: str) -> Service:
    """Find a microservice by name.

    Raises
    ------
    ContainerError
        When none of this name is registered, or it cannot be loaded.
    """
    if name in _OWN:
        return _OWN[name]
    installed = _installed()
    if name not in installed:
        known = sorted({*_OWN, *installed})
        raise ContainerError(
            f"read procedures: found microservice:{name}, registered are {', '.join(known)}"
        )
    try:
        service: Service = installed[name].load()
    except Exception as error:
        raise ContainerError(
            f"read procedures: microservice:{name} cannot be loaded ({error})"
        ) from error
    return service


def lay_microservice(name: str, cube: Cube, source: Source) -> Cube:
    """Lay a microservice over a cube; what it raises becomes a ContainerError."""
    service = find_microservice(name)
    try:
        made = service(cube, source)
    except SwathError:
        raise
    except Exception as error:
        raise ContainerError(f"microservice:{name} failed ({error!r})") from error
    if not isinstance(made, Cube):
        raise ContainerError(
            f"microservice:{name}: found a {type(made).__name__}, allowed is a Cube"
        )
    return made


def reflectance(cube: Cube, source: Source) -> Cube:
    """Turn raw counts into reflectance with the file's references.

    What lies below must leave each pixel where the references can be found for it: ``crop``,
    ``swap-left-right`` and the like are applied to them too; ``resample`` of samples, lines or
    bands, a rotation by 90° and ``merge`` are refused.

    Returns
    -------
    Cube
        float32; NaN where the white is not above its black, for the data ignore value and for
        lines that the ledger calls lost.

    Raises
    ------
    ContainerError
        When the order of procedures is not allowed.
    ReferenceMismatchError
        When references are missing or do not fit.
    """
    if None in cube.origins:
        raise ContainerError(
            f"read procedures: found {cube.name} before microservice:reflectance, allowed there "
            "are crop, rotate:180, swap-left-right, swap-up-down and microservice:pca"
        )
    if cube.dtype.kind == "c":
        raise ContainerError("microservice:reflectance: found complex data, allowed are counts")
    formula = source.reflectance
    ignored = ignore_value(source.header, cube.dtype)
    lost = None
    if source.header.number("lines lost") != 0 and source.ledger.size:
        lost = lost_lines(source.ledger, formula.shape[0])

    def corrected(pixels: Array, box: Box) -> Array:
        lines, samples, bands = box_indices(cube.origins, box)
        assert lines is not None
        assert samples is not None
        assert bands is not None
        out: Array = formula.apply(pixels, lines, samples, bands)
        if ignored is not None:
            mask = pixels == np.asarray(ignored, pixels.dtype)
            if mask.any():
                np.copyto(out, np.nan, where=mask)
        if lost is not None:
            out[lost[lines]] = np.nan
        return out

    return cube.map(corrected, name="microservice:reflectance", dtype=np.dtype(np.float32))


def pca(cube: Cube, source: Source) -> Cube:
    """Decode PCA scores to counts: ``scores · step @ basis + mean``, by group of lines.

    Bases and means are ``Reference/pca_basis.envi`` (lines = groups, samples = bands of the
    cube, bands = components) and ``Reference/pca_mean.envi`` (one band).

    Returns
    -------
    Cube
        float32 counts, ``pca bands`` bands.

    Raises
    ------
    ContainerError
        When fields or bases are missing, or do not fit, or it is not the first procedure.
    """
    header = source.header
    if cube.name != "the stored cube":
        raise ContainerError(
            f"read procedures: found {cube.name} before microservice:pca, it must be the first"
        )
    coding = str(header.get("pca coding", "")).casefold()
    if header.get("pca version") != 1 or coding not in ("int16", "int32"):
        raise ContainerError(
            f"pca: found version {header.get('pca version')!r} and coding {coding!r}, "
            "allowed are version 1 and coding int16"
        )
    bands, group = _whole(header, "pca bands"), _whole(header, "pca block lines")
    step = header.number("pca step")
    if step is None or not np.isfinite(step):
        raise ContainerError(f"pca step: found {header.get('pca step')!r}, allowed is a number")
    lines, _, components = cube.shape
    basis, mean = (source.reference_cube(f"pca_{name}")[1] for name in ("basis", "mean"))
    groups = -(-lines // group)
    for name, array, needed in (
        ("basis", basis, (groups, bands, components)),
        ("mean", mean, (groups, bands, 1)),
    ):
        if array.shape[0] < groups or array.shape[1:] != needed[1:]:
            raise ContainerError(
                f"Reference/pca_{name}.envi: found (lines, samples, bands) = {array.shape}, "
                f"needed are {needed}"
            )

    def decoded(scores: Array, box: Box) -> Array:
        (first, last), _, _ = box
        out = np.empty((*scores.shape[:2], bands), np.float32)
        for g in range(first // group, (last - 1) // group + 1):
            part = slice(max(first, g * group) - first, min(last, (g + 1) * group) - first)
            weights = np.asarray(basis[g], np.float32).T * np.float32(step)
            out[part] = scores[part].astype(np.float32) @ weights
            out[part] += np.asarray(mean[g, :, 0], np.float32)
        return out

    made = cube.map(
        decoded,
        name="microservice:pca",
        dtype=np.dtype(np.float32),
        bands=bands,
        wavelengths=pca_spectrum(header, "wavelength", bands),
        fwhm=pca_spectrum(header, "fwhm", bands),
    )
    made.origins = (cube.origins[0], cube.origins[1], range(bands))
    return made


def _whole(header: Header, name: str) -> int:
    value = header.get(name)
    if not isinstance(value, int) or not 1 <= value <= 1 << 31:
        raise ContainerError(f"{name}: found {value!r}, allowed is a positive integer")
    return value


def pca_spectrum(header: Header, name: str, bands: int) -> NDArray[np.float64] | None:
    """Give ``pca wavelength`` or ``pca fwhm`` in nm, ``(bands,)``; None where unknown."""
    twin = Header()
    values = header.floats(f"pca {name}")
    units = header.get("pca wavelength units", "Nanometers")
    if values is None or len(values) != bands:
        return None
    twin.set(name, values)
    twin.set("wavelength units", units)
    return twin.nanometres(name)


def decoded_dtype(header: Header) -> np.dtype[Any]:
    """Give the sample type that the pixels of a file have once decoded."""
    if header.coded:
        return decoded_type(header)
    code = header.get("pca data type")
    if header.file_type.casefold() == "pca" and code in ENVI_TYPES:
        return np.dtype(ENVI_TYPES[int(str(code))])
    return header.dtype.newbyteorder("=")


_OWN: Final[dict[str, Service]] = {"reflectance": reflectance, "pca": pca}
