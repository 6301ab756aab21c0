"""The same pixels through what a user would pick instead, side by side with swath.

Each peer is called as its documentation shows, through its public functions, on data in the order
it likes best, and is imported only where it is installed::

    pip install scikit-learn spectral openhsi

Nothing of them is copied here. A peer is given less data in a round than swath, since it is slower,
and one BLAS thread or as many as swath has threads, whichever it is faster with (threadpoolctl,
which comes with scikit-learn, sets them); a capture itself has one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import EXPOSURE_MS, Blocks, Geometry, Recording
from bench.kernels import COMPONENTS, chain_run, lines_per_s
from bench.measure import Row, Run, compare
from bench.settings import Settings
from pipeline.config import PcaConfig
from pipeline.engine import make_engine
from pipeline.errors import DeviceError
from pipeline.reflectance import Correction

SECTION = "peers"
#: Seconds that a peer may take in a round, roughly; its share of the blocks follows.
ROUND_S = 1.0
#: Lines that components are learned from at a time, as in a capture.
GROUP_LINES = PcaConfig().block_lines

#: Works on one piece, and forgets the result.
Work = Callable[[Any], Any]


class Peer:
    """One alternative.

    Parameters
    ----------
    name : str
    module : str
        That must be there; empty: always is.
    package : str
        What ``pip install`` calls it.
    task : {"reflectance", "components"}
        Which chain of swath stands beside it.
    required : float or None
        How many times as fast swath must be.
    make : callable
        Takes the blocks and a recording; gives the function to call and the pieces to give it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        package: str,
        task: str,
        required: float | None,
        make: Callable[[Recording, Blocks], tuple[Work, list[Any], int]],
    ) -> None:
        self.name, self.module, self.package = name, module, package
        self.task, self.required, self.make = task, required, make

    @property
    def missing(self) -> str:
        """Why it cannot be measured, or nothing."""
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"not installed: pip install {self.package}"
        return ""


#: What swath does beside a peer of each task.
SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "reflectance": (
        "correction to int16 reflectance",
        {"reflectance": "int16", "quality": False, "preview": False},
    ),
    "components": (
        f"whole chain, {COMPONENTS} components",
        {"pca": PcaConfig(components=COMPONENTS)},
    ),
}


def rows(settings: Settings) -> Iterator[Row]:
    """Measure every peer that is there, at the first geometry."""
    geometry = settings.geometries[0]
    recording = Recording(geometry, settings.different_lines)
    lines = geometry.block_lines(settings.block_mib)
    with Blocks(recording, lines, settings.buffer_bytes) as blocks:
        for peer in PEERS:
            if why := peer.missing or gpu_missing(peer):
                yield Row(
                    section=SECTION,
                    step=SUBJECTS[peer.task][0],
                    geometry=str(geometry),
                    limit=peer.name,
                    required=peer.required,
                    note=why,
                )
                continue
            yield _row(peer, recording, blocks, settings)


def gpu_missing(peer: Peer) -> str:
    """Say that a peer on the GPU finds none, or nothing."""
    if peer.module != "cupy":
        return ""
    from pipeline.compute import choose_backend

    try:
        choose_backend("cuda").close()
    except DeviceError:
        return "no GPU here"
    return ""


def _row(peer: Peer, recording: Recording, blocks: Blocks, settings: Settings) -> Row:
    step, chosen = SUBJECTS[peer.task]
    backend = "cuda" if peer.module == "cupy" else "cpu"
    plan = recording.plan(blocks.block_lines, threads=settings.threads, backend=backend, **chosen)
    with ExitStack() as stack:
        # some draw progress bars
        stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        work, pieces, size = peer.make(recording, blocks)
        engine = stack.enter_context(make_engine(plan))
        limit = fastest(settings.threads, peer_run(work, pieces, size))
        rate, bound, ratio = compare(chain_run(engine, blocks), limit, settings.long_rounds)
    return Row(
        section=SECTION,
        step=step,
        geometry=str(recording.geometry),
        block_mib=blocks.mib,
        rate=rate,
        lines_per_s=lines_per_s(rate, recording.geometry),
        limit=peer.name,
        limit_rate=bound,
        ratio=ratio,
        required=peer.required,
    )


def fastest(threads: int, run: Run) -> Run:
    """Give BLAS one thread or so many while something runs, whichever is faster in a trial."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return run
    control = importlib.import_module("threadpoolctl").ThreadpoolController()

    def limited(count: int) -> float:
        with control.limit(limits=count, user_api="blas"):
            return run()

    best = max({1, threads}, key=limited)
    return lambda: limited(best)


def peer_run(work: Work, pieces: list[Any], size: int) -> Run:
    """Make a run over as many pieces, of ``size`` raw bytes each, as fit in about a second."""
    work(pieces[0])
    began = time.perf_counter()
    work(pieces[-1])
    count = max(1, min(len(pieces), int(ROUND_S / (time.perf_counter() - began))))
    at = 0

    def run() -> float:
        nonlocal at
        began = time.perf_counter()
        for _ in range(count):
            work(pieces[at % len(pieces)])
            at += 1
        return count * size / (time.perf_counter() - began) / 1e9

    return run


def numpy_expression(recording: Recording, blocks: Blocks) -> tuple[Work, list[Any], int]:
    """Prepare the formula as one writes it in NumPy, on whole blocks."""
    return _expression(np, recording.correction), list(blocks.raw), blocks.raw[0].nbytes


def _expression(xp: Any, references: Correction) -> Work:
    black, gain = xp.asarray(references.black), xp.asarray(references.gain)

    def work(raw: NDArray[np.uint16]) -> Any:
        reflectance = (xp.asarray(raw) - black) * gain
        return xp.clip(xp.rint(reflectance * 10000), -32767, 32767).astype(xp.int16)

    return work


def cupy_expression(recording: Recording, blocks: Blocks) -> tuple[Work, list[Any], int]:
    """Prepare the same in CuPy: to the GPU, the formula, and back."""
    cupy = importlib.import_module("cupy")
    formula = _expression(cupy, recording.correction)
    return lambda raw: formula(raw).get(), list(blocks.raw), blocks.raw[0].nbytes


def openhsi_line(recording: Recording, blocks: Blocks) -> tuple[Work, list[Any], int]:
    """Prepare openhsi's own transforms from counts to reflectance, line by line.

    ``CameraProperties`` composes ``dn2rad`` and ``rad2ref_6SV``; smile correction and binning,
    which swath does not do, are left out, and lines come as (samples, bands), its own order.
    """
    data = importlib.import_module("openhsi.data")
    geometry = recording.geometry
    camera = data.CameraProperties()
    camera.settings, camera.calibration = _openhsi_camera(recording, geometry)
    camera.binned_wavelengths = recording.wavelength.astype(np.float32)
    setup = [camera.crop, camera.fast_smile, camera.dn2rad, camera.rad2ref_6SV]
    camera.set_processing_lvl(custom_tfms=setup)
    camera.tfm_list = [camera.dn2rad, camera.rad2ref_6SV]
    lines = [np.ascontiguousarray(line.T) for line in recording.lines]
    return camera.pipeline, lines, geometry.line_bytes


def _openhsi_camera(
    recording: Recording, geometry: Geometry
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make settings and calibration of the same references: panel at luminance 1, dark at 0."""
    xarray = importlib.import_module("xarray")
    interp1d = importlib.import_module("scipy.interpolate").interp1d
    nm, shape = recording.wavelength, (geometry.samples, geometry.bands)
    bright = recording.black + 1 / recording.correction.gain
    levels = np.stack([recording.black.T, bright.T])[None]
    settings = {
        "row_slice": [0, geometry.samples],
        "resolution": list(shape),
        "fwhm_nm": float(nm[1] - nm[0]),
        "exposure_ms": EXPOSURE_MS,
        "luminance": 1,
    }
    calibration = {
        "smile_shifts": np.zeros(geometry.samples, np.int64),
        "wavelengths": nm,
        "wavelengths_linear": nm,
        "rad_ref": xarray.DataArray(
            levels,
            dims=("exposure", "luminance", "cross_track", "wavelength_index"),
            coords={"exposure": [EXPOSURE_MS], "luminance": [0, 1]},
        ),
        "sfit": interp1d(nm, np.ones(len(nm)), fill_value="extrapolate"),
        "rad_fit": interp1d(nm, np.ones(len(nm)), fill_value="extrapolate"),
        "spec_rad_ref_luminance": 1.0,
        "flat_field_pic": recording.lines[0].T.copy(),
    }
    return settings, calibration


def groups(recording: Recording) -> list[NDArray[np.uint16]]:
    """Give groups of lines as (lines, samples, bands), contiguous: what tools for images take."""
    count = min(GROUP_LINES, len(recording.lines))
    starts = range(0, len(recording.lines) - count + 1, count)
    return [
        np.ascontiguousarray(recording.lines[at : at + count].transpose(0, 2, 1)) for at in starts
    ]


def spectral_components(recording: Recording, blocks: Blocks) -> tuple[Work, list[Any], int]:
    """Prepare Spectral Python's components of a group, and its transform."""
    spectral = importlib.import_module("spectral")

    def work(group: NDArray[np.uint16]) -> Any:
        components = spectral.principal_components(group)
        return components.reduce(num=COMPONENTS).transform(group)

    parts = groups(recording)
    return work, parts, parts[0].nbytes


def sklearn_components(recording: Recording, blocks: Blocks) -> tuple[Work, list[Any], int]:
    """Prepare scikit-learn's incremental components of groups of lines."""
    parts = groups(recording)
    return components_of_groups(), parts, parts[0].nbytes


def components_of_groups() -> Work:
    """Give scikit-learn's incremental components of a group's pixels, fit and transform."""
    make = importlib.import_module("sklearn.decomposition").IncrementalPCA

    def work(group: NDArray[np.uint16]) -> Any:
        pixels = group.reshape(-1, group.shape[-1])
        return make(n_components=COMPONENTS).fit(pixels).transform(pixels)

    return work


PEERS = (
    Peer("NumPy, whole blocks", "", "numpy", "reflectance", 8.0, numpy_expression),
    Peer("openhsi, line by line", "openhsi", "openhsi", "reflectance", 4.0, openhsi_line),
    Peer("CuPy, whole blocks", "cupy", "cupy-cuda12x", "reflectance", None, cupy_expression),
    Peer(
        "Spectral Python, principal_components",
        "spectral",
        "spectral",
        "components",
        None,
        spectral_components,
    ),
    Peer(
        "scikit-learn, IncrementalPCA",
        "sklearn",
        "scikit-learn",
        "components",
        80.0,
        sklearn_components,
    ),
)
