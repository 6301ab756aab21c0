"""Coded storage modes of a capture: what is asked for, and coding the file when the scan is over.

While a scan runs its lines are spooled raw, which nothing holds up; of their blocks as many are
coded beside it as time allows (:mod:`pipeline.scan_coder`), the others afterwards. The coded file
takes the raw one's place only when it is whole. Knows the rig file's structures and the container.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from pipeline.coding.interface import DTYPES, BlockShape, Noise
from pipeline.config import PcaConfig, PipelineConfig
from pipeline.container.block_codings import BlockCodings, Wanted
from pipeline.container.compress import Compressed, compress, settle_codings
from pipeline.container.header import Header
from pipeline.container.sensor_noise import noise_of
from pipeline.container.spool import Spool
from pipeline.errors import ConfigError, SwathError
from pipeline.layout import envi_dtype
from pipeline.references import ReferenceSet
from pipeline.stream.messages import CameraInfo

#: Bits of a pixel that 'store = "packints"' holds.
PACKED_BITS = 12


class _Rig(msgspec.Struct):
    """Of a rig file what is read again."""

    pipeline: PipelineConfig


def wanted_coding(pipeline: PipelineConfig) -> Wanted | None:
    """Give what is asked of the coding; None where lines are stored as they are, or as scores."""
    if pipeline.store == "packints":
        return Wanted("packints", max_error=0)
    pca = pipeline.pca
    if pipeline.store != "pca" or not pca.coded:
        return None
    return Wanted(
        pca.coding or None,
        max_error=0 if pca.lossless else pca.max_error,
        ratio=pca.ratio,
        noise=pca.noise,
        block_lines=pca.block_lines,
    )


def compress_options(rig: bytes) -> str | None:
    """Give the options of ``swath compress`` that code as a rig file wanted a capture coded.

    Parameters
    ----------
    rig : bytes
        ``config.RIG_ENTRY`` of its container.

    Returns
    -------
    str or None
        None where it wanted no coding, or cannot be read.
    """
    try:
        wanted = wanted_coding(msgspec.json.decode(rig, type=_Rig, strict=False).pipeline)
    except msgspec.MsgspecError:
        return None
    if wanted is None:
        return None
    parts = []
    if wanted.noise:
        parts.append("--noise")
    elif wanted.ratio is not None:
        parts.append(f"--ratio {wanted.ratio:g}")
    else:
        parts.append(f"--max-error {wanted.max_error}" if wanted.max_error else "--lossless")
    if wanted.coding is not None:
        parts.append(f"--coding {wanted.coding}")
    if wanted.block_lines not in (None, PcaConfig().block_lines):
        parts.append(f"--block-lines {wanted.block_lines}")
    return " ".join(parts)


def check_coding(wanted: Wanted, store: str, info: CameraInfo, references: ReferenceSet) -> None:
    """Refuse what will not work when the scan is over.

    Raises
    ------
    ConfigError
        When the camera's pixels cannot be coded so, or noise is wanted and nothing tells it.
    """
    dtype = envi_dtype(info.data_type, 0).newbyteorder("=")
    if dtype not in DTYPES:
        allowed = ", ".join(map(str, DTYPES))
        raise ConfigError(
            f'[pipeline] store = "{store}": found pixels of {dtype}, allowed are {allowed}'
        )
    if store == "packints" and (info.bit_depth > PACKED_BITS or dtype != np.uint16):
        raise ConfigError(
            f'[pipeline] store = "packints": the camera delivers {info.bit_depth} bits in {dtype}, '
            f"allowed are 9 to {PACKED_BITS} in uint16"
        )
    if wanted.noise and (references.black is None or references.black.std is None):
        raise ConfigError(
            "[pipeline.pca] noise: needs a black reference that was taken with its deviation; "
            "allowed are max_error, lossless and ratio"
        )
    shape = BlockShape(info.bands, info.samples, dtype)
    try:
        _ = BlockCodings(shape, wanted, Noise(1.0) if wanted.noise else None).coding
    except ConfigError as error:
        raise ConfigError(f'[pipeline] store = "{store}": {error}') from None


def capture_codings(wanted: Wanted, header: Header, references: ReferenceSet) -> BlockCodings:
    """Give how the blocks of a capture will be coded, as far as is known when it is armed.

    The finished file says it for good, and nearly always the same: what was coded otherwise
    meanwhile is coded anew.

    Parameters
    ----------
    wanted : Wanted
    header : Header
        Of the raw cube.
    references : ReferenceSet
        Tell the noise, where that is wanted.

    Raises
    ------
    SwathError
        When they cannot be coded so.
    """
    shape = BlockShape(header.bands, header.samples, header.dtype.newbyteorder("="))
    noise = None
    if wanted.noise:
        found = {}
        for reference in (references.white, references.black):
            if reference is not None:
                found[reference.kind] = np.ascontiguousarray(reference.mean, np.float32)
                if reference.std is not None:
                    found[f"{reference.kind}_std"] = np.ascontiguousarray(reference.std, np.float32)
        noise = noise_of(header, found, "[pipeline.pca]")
    return settle_codings(header, shape, wanted, noise)


def code_capture(
    file: Path, wanted: Wanted, spool: Spool | None = None, trouble: str = ""
) -> tuple[str, int]:
    """Code a finished capture in its place.

    Parameters
    ----------
    file : Path
    wanted : Wanted
    spool : Spool, optional
        Blocks that were coded while the scan ran.
    trouble : str
        Why that ended before the scan did; empty where it did not.

    Returns
    -------
    sentence : str
        What became of it.
    lines : int
        Whose blocks were coded while the scan ran.

    Raises
    ------
    SwathError
        When it cannot be; the raw file is as it was.
    """
    try:
        made = compress(file, None, wanted, spool=spool)
    except SwathError as error:
        raise type(error)(f"{file} is whole, with raw lines, and was not coded: {error}") from None
    return _sentence(made, wanted, trouble), made.ahead


def _sentence(made: Compressed, wanted: Wanted, trouble: str) -> str:
    error = made.stats.max_error
    exact = "lossless" if error == 0 else f"max error {error} count{'s' if error > 1 else ''}"
    rest = made.lines - made.ahead
    if rest == 0:
        when = f"{made.lines:,} lines were coded while the scan ran"
    elif made.ahead == 0:
        when = f"{rest:,} lines were spooled raw and coded when the scan had ended"
    else:
        when = (
            f"{made.ahead:,} lines were coded while the scan ran, {rest:,} were spooled raw and "
            "coded when it had ended"
        )
    if trouble:
        when += f" ({trouble})"
    ratio = f"{made.ratio:.2f} : 1"
    if wanted.ratio is not None and made.ratio < wanted.ratio:
        ratio += f" where {wanted.ratio:g} : 1 were asked for"
    return f"{when}: {made.coding}, {ratio}, {exact}"
