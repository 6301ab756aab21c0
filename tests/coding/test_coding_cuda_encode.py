"""What a GPU codes: any decoder gives what was measured, and what was promised holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from made_cubes import KINDS, cubes, kept_exactly, made_cube, masks_of, off_by

from pipeline.coding import cuda_rows
from pipeline.coding.choose import coding_of, make_coding
from pipeline.coding.cuda import Coder, CudaCoding
from pipeline.coding.cuda_rows import RowCoder
from pipeline.coding.interface import BlockShape, Encoded, Masks, Noise
from pipeline.coding.pca import PcaCoding
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.rans import decode_rows, encode_rows
from pipeline.coding.sections import Sections
from pipeline.errors import ConfigError

pytest.importorskip("numba")

some = settings(max_examples=30, deadline=None)


def measured(cube: Any, decoded: Any) -> tuple[int, float, float, int]:
    """Largest and squared error, sum of angles and how many there are."""
    a, b = (x.transpose(1, 0, 2).reshape(cube.shape[1], -1).astype(float) for x in (cube, decoded))
    seen = (a.any(axis=0)) & (b.any(axis=0))
    alone = int((a.any(axis=0) ^ b.any(axis=0)).sum())
    error, a, b = b - a, a[:, seen], b[:, seen]
    aa, ae, ee = (a * a).sum(axis=0), (a * (b - a)).sum(axis=0), ((b - a) ** 2).sum(axis=0)
    angle = np.arctan2(np.sqrt(np.maximum(aa * ee - ae**2, 0)), aa + ae)
    total = float(angle.sum()) + alone * np.pi / 2
    return int(np.abs(error).max()), float((error**2).sum()), total, int(seen.sum()) + alone


def coded(coder: Coder, name: str, cube: Any, **aim: Any) -> tuple[Encoded, Any]:
    """Code on the GPU, decode on the CPU, and see that it is what was measured."""
    shape = BlockShape(cube.shape[1], cube.shape[2], cube.dtype)
    writing = make_coding(name, shape, **aim)
    assert isinstance(writing, PcaCoding | PredictedCoding) or name == "smallest"
    on_cuda = CudaCoding(writing, coder)  # type: ignore[arg-type]
    encoded = on_cuda.encode(cube)
    reading = coding_of(writing.file_type, writing.fields(), shape, writing.block_lines)
    decoded = reading.decode(encoded.data, len(cube))
    np.testing.assert_array_equal(on_cuda.decode(encoded.data, len(cube)), decoded)
    largest, squared, angle, spectra = measured(cube, decoded)
    stats = encoded.stats
    assert stats.values == cube.size
    assert stats.max_error == largest == int(off_by(cube, decoded).max())
    assert stats.squared_error == pytest.approx(squared)
    assert stats.angle == pytest.approx(angle, abs=1e-6 * max(spectra, 1))
    assert stats.spectra == spectra
    return encoded, decoded


@some
@given(data=st.data(), bound=st.sampled_from([0, 1, 7, 300, 65535]))
def test_the_bound_holds_for_any_pixels(coder: Coder, data: st.DataObject, bound: int) -> None:
    cube = data.draw(cubes())
    masks = data.draw(masks_of(cube))
    _, decoded = coded(coder, "packed", cube, max_error=bound, masks=masks)
    assert off_by(cube, decoded).max() <= bound
    assert not off_by(cube, decoded)[kept_exactly(cube, masks)].any()


@some
@given(data=st.data(), variance=st.sampled_from([0.25, 9.0, 1e4]))
def test_masked_values_come_back_exactly(
    coder: Coder, data: st.DataObject, variance: float
) -> None:
    cube = data.draw(cubes())
    masks = data.draw(masks_of(cube))
    _, decoded = coded(coder, "packed", cube, noise=Noise(variance), masks=masks)
    assert not off_by(cube, decoded)[kept_exactly(cube, masks)].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("aim", [{"max_error": 2}, {"ratio": 8.0}, {"noise": Noise(9.0)}])
def test_files_are_as_small_as_those_of_the_cpu(
    coder: Coder, kind: str, aim: dict[str, Any]
) -> None:
    cube = made_cube(kind, np.dtype(np.uint16), (8, 20, 60), 3)
    encoded, _ = coded(coder, "packed", cube, **aim)
    wanted = make_coding("packed", BlockShape(20, 60, cube.dtype), **aim).encode(cube)
    # what a ratio allows may be used
    allowed = max(1.02 * len(wanted.data) + 32, cube.nbytes / aim.get("ratio", np.inf))
    assert len(encoded.data) <= allowed
    assert encoded.stats.squared_error <= 1.1 * wanted.stats.squared_error + 1e-6 * cube.size


@pytest.mark.parametrize("ratio", [2.5, 4.0, 12.0])
def test_a_ratio_is_kept(coder: Coder, ratio: float) -> None:
    cube = made_cube("scene", np.dtype(np.int16), (16, 20, 90), 4)
    encoded, _ = coded(coder, "packed", cube, ratio=ratio)
    assert 0.9 * cube.nbytes / ratio < len(encoded.data) <= cube.nbytes / ratio


def test_the_smaller_of_two_codings_is_taken(coder: Coder) -> None:
    shape = (6, 12, 50)
    kinds = set()
    for kind in ("scene", "copies", "noise", "steps"):
        cube = made_cube(kind, np.dtype(np.uint8), shape, 2)
        encoded, _ = coded(coder, "smallest", cube, max_error=1)
        kinds.add(encoded.data[0])
        own = make_coding("predicted", BlockShape(12, 50, cube.dtype), max_error=1).encode(cube)
        assert len(encoded.data) <= len(own.data) + 1
    assert kinds == {1, 2}


@some
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 9),
    n=st.integers(1, 400),
    many=st.booleans(),
)
def test_rows_of_any_spread_come_back(
    coder: Coder, seed: int, rows: int, n: int, many: bool
) -> None:
    rng = np.random.default_rng(seed)
    spread = 2.0 ** rng.uniform(-6, 22, rows)
    values = (rng.standard_cauchy((rows, n)) * spread[:, None]).clip(-(1 << 22), 1 << 22)
    values = values.astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_rows, "MANY", 0 if many else 1 << 30)
        data = row_bytes(coder, values)
    np.testing.assert_array_equal(decode_rows(Sections(data), rows, n), values)
    assert len(data) < 1.02 * len(encode_rows(values)) + (1000 if many else 64)


def row_bytes(coder: Coder, values: Any) -> bytes:
    shape, kernels = coder._shape, coder._kernels(np.dtype(np.uint16))
    with coder._place() as place:

        def start(name: str, grid: Any, threads: int, *arguments: Any) -> None:
            kernels[name](grid, (threads,), arguments, stream=place.stream)

        there = place.send(values)
        rows = RowCoder(place, start, *values.shape, shape)
        place.begin()
        return rows.code(there, *values.shape)


def test_pixels_of_another_shape_are_refused(coder: Coder) -> None:
    coding = make_coding("packed", BlockShape(4, 9, np.dtype(np.uint16)), max_error=0)
    with pytest.raises(ConfigError, match="found a block of"):
        CudaCoding(coding, coder).encode(np.zeros((2, 4, 8), np.uint16))  # type: ignore[arg-type]


def test_masks_that_leave_nothing_to_fit(coder: Coder) -> None:
    cube = made_cube("scene", np.dtype(np.uint16), (3, 2, 20), 1)
    encoded, decoded = coded(
        coder, "packed", cube, max_error=3, masks=Masks((True, True), None, None)
    )
    assert encoded.stats.max_error == 0
    np.testing.assert_array_equal(decoded, cube)
