"""Cubes that codings find hard, of any type: what the tests of this folder code."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.coding.interface import DTYPES, Masks

KINDS = ("scene", "noise", "constant", "checkerboard", "extremes", "outliers", "copies", "steps")


def made_cube(
    kind: str, dtype: np.dtype[Any], shape: tuple[int, int, int], seed: int
) -> NDArray[Any]:
    """Make a cube (lines, bands, samples)."""
    rng = np.random.default_rng(seed)
    lines, bands, samples = shape
    info = np.iinfo(dtype)
    if kind == "noise":
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if kind == "extremes":
        return rng.choice(np.array([info.min, info.max], dtype), shape)
    if kind == "constant":
        return np.full(shape, rng.integers(info.min, info.max, endpoint=True), dtype)
    if kind == "checkerboard":
        odd = np.indices(shape).sum(axis=0) % 2 == 1
        return np.where(odd, info.max, info.min).astype(dtype)
    if kind == "steps":
        return np.cumsum(rng.integers(-2, 3, shape), axis=2).clip(info.min, info.max).astype(dtype)
    ends = rng.normal(size=(3, bands)).cumsum(axis=1)
    shares = rng.dirichlet(np.ones(3), size=(lines, samples))
    level = (info.max - info.min) / 8
    cube = info.min + level * (4 + np.einsum("lse,eb->lbs", shares, ends))
    cube += rng.normal(size=shape) * level / 100
    out = cube.round().clip(info.min, info.max).astype(dtype)
    if kind == "outliers":
        for at in zip(*(rng.integers(0, n, 4) for n in shape), strict=True):
            out[at] = rng.choice([info.min, info.max])
    if kind == "copies":
        out[:, :, 1::2] = out[:, :, : samples - samples % 2 : 2]
        out[1::2] = out[: lines - lines % 2 : 2]
    return out


@st.composite
def cubes(draw: st.DrawFn) -> NDArray[Any]:
    """Any kind, type and size up to a few thousand pixels."""
    shape = draw(
        st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 14) | st.integers(40, 70))
    )
    return made_cube(
        draw(st.sampled_from(KINDS)),
        draw(st.sampled_from(DTYPES)),
        shape,
        draw(st.integers(0, 2**32 - 1)),
    )


@st.composite
def masks_of(draw: st.DrawFn, cube: NDArray[Any]) -> Masks:
    """Masks that fit a cube: any bands bad, one of its values ignored, a level saturated."""
    bands = draw(st.just(()) | st.tuples(*(st.booleans() for _ in range(cube.shape[1]))))
    values = [int(v) for v in np.unique(cube)]
    some = st.none() | st.sampled_from(values)
    return Masks(bands, draw(some), draw(some))


def off_by(cube: NDArray[Any], decoded: NDArray[Any]) -> NDArray[np.int64]:
    """Give the magnitude of every pixel's error."""
    return np.abs(cube.astype(np.int64) - decoded.astype(np.int64))


def kept_exactly(cube: NDArray[Any], masks: Masks) -> NDArray[np.bool_]:
    """Tell for every pixel whether masks keep it out of the fit."""
    kept = np.zeros(cube.shape, np.bool_)
    if masks.bad_bands:
        kept[:, np.array(masks.bad_bands)] = True
    if masks.ignore is not None:
        kept |= cube == masks.ignore
    if masks.saturation is not None:
        kept |= cube >= masks.saturation
    return kept
