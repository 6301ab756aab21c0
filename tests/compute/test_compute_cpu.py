"""The compiled pixel pass: whole vectors, strips cut short, rows that need care, packed blocks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.compute import cpu_pass
from pipeline.compute.cpu import CpuBackend
from pipeline.compute.cpu_groups import CompiledPca
from pipeline.compute.cpu_pass import CpuPixelPass
from pipeline.compute.interface import ALIGNMENT, PassOutputs, aligned, make_outputs
from pipeline.compute.kernels import STREAMED_BYTES
from pipeline.compute.tables import PassPlan, pass_tables
from pipeline.layout import PIXEL_FORMATS
from pipeline.reflectance import Correction

sys.path.insert(0, str(Path(__file__).parent / "host_shim"))
from cuda_cases import assert_equal, counts_of, pack, plan_of

PACKED = ["Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed"]


def with_numpy(
    plan: PassPlan,
    raw: Any,
    valid: Any,
    phase: int,
    monkeypatch: pytest.MonkeyPatch,
    factors: Any = None,
) -> tuple[PassOutputs, int]:
    """What the plain pass makes of a block."""
    with monkeypatch.context() as patch:
        patch.setattr(cpu_pass.importlib.util, "find_spec", lambda name: None)
        backend = CpuBackend(1, "a test")
        operation = backend.pixel_pass(plan)
    assert not operation.compiled
    return run(backend, operation, raw, valid, phase, factors)


def run(
    backend: CpuBackend,
    operation: CpuPixelPass,
    raw: Any,
    valid: Any,
    phase: int,
    factors: Any = None,
) -> tuple[PassOutputs, int]:
    backend.load(raw)
    operation.start(valid, phase, factors)
    return operation.wait()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["int16", "uint16", "float32", None])
@pytest.mark.parametrize("shape", [(9, 35, 96), (6, 70, 64), (3, 5, 103), (17, 33, 31)])
def test_it_gives_what_numpy_gives(
    shape: tuple[int, int, int],
    kind: Any,
    threads: int,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, bands, samples = shape
    plan = plan_of(rng, shape, reflectance=kind, preview_factor=4 * int(rng.integers(0, 2)))
    backend = CpuBackend(threads, "a test")
    operation = backend.pixel_pass(plan)
    assert operation.compiled
    for phase in range(4):  # one after another: nothing may be left of the block before
        raw = counts_of(rng, (lines - phase % 2, bands, samples))
        valid = rng.random(len(raw)) < (0.7, 1.1)[phase % 2]
        rows = -(-(len(raw) + phase) // 4) if plan.preview_factor else 0
        want = with_numpy(plan, raw, valid, phase, monkeypatch)
        assert_equal(run(backend, operation, raw, valid, phase), want, len(raw), rows)
    backend.close()


@pytest.mark.parametrize("samples", [1024, 1000])
def test_large_results_are_written_past_the_caches_where_rows_begin_at_cache_lines(
    samples: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (10, 300, samples)
    plan = plan_of(rng, shape)
    assert make_outputs(plan).reflectance.nbytes >= STREAMED_BYTES
    backend = CpuBackend(2, "a test")
    operation = backend.pixel_pass(plan)
    raw, valid = counts_of(rng, shape), np.ones(10, bool)
    valid[6] = False
    want = with_numpy(plan, raw, valid, 2, monkeypatch)
    assert_equal(run(backend, operation, raw, valid, 2), want, 10, 3)
    backend.close()


@pytest.mark.parametrize("with_factors", [False, True])
@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_bad_pixels_take_their_value_before_it_is_written_past_the_caches(
    kind: Any, with_factors: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (18, 150, 1024)
    black = np.full(shape[1:], 64.0, "f4")
    gain = rng.uniform(3e-4, 6e-4, shape[1:]).astype("f4")
    bad = rng.random(shape[1:]) < 2e-3
    gain[rng.random(gain.shape) < 1e-3] = np.nan  # few in a row: blanked one by one
    gain[4, ::7] = np.nan  # many
    gain[7] = 5e-3  # a bright count leads beyond int16
    bad[8, 100] = True  # its neighbour's value is beyond int16, though its row looks harmless
    bad[6:9, 40] = bad[0, 3] = bad[149, 5] = True
    bad[:, 11] = True  # nothing to take a value from
    plan = plan_of(
        rng,
        shape,
        correction=Correction(black, gain),
        bad_pixels=bad,
        reflectance=kind,
        factors=with_factors,
    )
    assert make_outputs(plan).reflectance.nbytes >= STREAMED_BYTES
    factors = None
    if with_factors:
        factors = np.stack([rng.uniform(0.9, 1.1, 18), rng.uniform(-6, 6, 18)]).astype("f4")
    backend = CpuBackend(2, "a test")
    operation = backend.pixel_pass(plan)
    for phase in (0, 2):
        raw = rng.integers(50, 700, shape).astype("u2")
        raw[:, bad] = 4095  # hot: their rows have a count beyond what is safe
        raw[4:8, 6] = 4095
        raw[8:12, 7, 100] = 4095
        valid = np.ones(18, bool)
        valid[9] = False
        want = with_numpy(plan, raw, valid, phase, monkeypatch, factors)
        found = run(backend, operation, raw, valid, phase, factors)
        assert_equal(found, want, 18, -(-(18 + phase) // 4))
    backend.close()


def test_the_quality_mask_follows_lines_that_come_and_go(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(rng, (6, 20, 33))
    backend = CpuBackend(1, "a test")
    operation = backend.pixel_pass(plan)
    for lines in (6, 4, 6, 6, 5, 6, 6, 6):  # each output of the pass is used more than once
        raw, valid = counts_of(rng, (lines, 20, 33)), rng.random(lines) < 0.6
        want = with_numpy(plan, raw, valid, 0, monkeypatch)
        assert_equal(run(backend, operation, raw, valid, 0), want, lines, -(-lines // 4))
    backend.close()


def test_a_block_is_begun_while_the_one_before_is_under_way(rng: np.random.Generator) -> None:
    plan = plan_of(rng, (8, 50, 64))
    backend = CpuBackend(3, "a test")
    operation = backend.pixel_pass(plan)
    blocks = [counts_of(rng, (8, 50, 64)) for _ in range(7)]
    valid = np.ones(8, bool)
    alone = []
    for raw in blocks:
        out, clipped = run(backend, operation, raw, valid, 0)
        alone.append((out.reflectance.copy(), out.quality.copy(), out.saturated.copy(), clipped))
    under_way = 0
    for n in range(len(blocks) + backend.depth):
        if n >= backend.depth:  # the outputs of one block are in use while the next are made
            out, clipped = operation.wait()
            under_way -= 1
        if n < len(blocks):
            backend.load(blocks[n])
            operation.start(valid, 0)
            under_way += 1
        assert under_way <= backend.depth
        if n >= backend.depth:
            for got, want in zip(
                (out.reflectance, out.quality, out.saturated, clipped),
                alone[n - backend.depth],
                strict=True,
            ):
                np.testing.assert_array_equal(got, want)
    backend.close()


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_values_at_the_limits_are_stored_and_counted_in_rows_that_looked_harmless(
    kind: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (8, 6, 40)
    black = np.full(shape[1:], 10.0, "f4")
    gain = np.full(shape[1:], 3.2767 / 1000, "f4")  # 1010 counts are the limit of int16
    gain[1] = 3.2767 / 2000
    gain[2, 7] = np.nan
    gain[3] = -gain[3]
    black[4] = 70000
    black[5] = 0
    plan = plan_of(
        rng,
        shape,
        correction=Correction(black, gain),
        bad_pixels=None,
        reflectance=kind,
        saturation_level=60000,
    )
    backend = CpuBackend(2, "a test")
    operation = backend.pixel_pass(plan)
    raw = rng.integers(1000, 1021, shape).astype("u2")
    raw[4:, :, ::5] = 65535
    raw[:, 0, 3] = 0
    valid = np.ones(8, bool)
    got, clipped = run(backend, operation, raw, valid, 0)
    assert clipped > 0
    assert_equal((got, clipped), with_numpy(plan, raw, valid, 0, monkeypatch), 8, 2)
    raw[:] = 500  # nothing is clipped now where the limits are known beforehand
    got = run(backend, operation, raw, valid, 0)
    assert_equal(got, with_numpy(plan, raw, valid, 0, monkeypatch), 8, 2)


def test_the_safe_count_is_safe_and_not_far_off(rng: np.random.Generator) -> None:
    plan = plan_of(rng, (4, 40, 50), bad_pixels=None)
    tables = pass_tables(plan)
    tables.gain[np.isnan(tables.gain)] = 1e-3
    tables.gain[7, 3] = np.nan
    safe = cpu_pass.safe_counts(tables.black, tables.gain, "int16")
    assert safe[7] == -1
    known = np.flatnonzero(safe >= 0)
    assert len(known) > 30

    def largest(count: Any) -> Any:
        return ((count[:, None] - tables.black[known]) * tables.gain[known]).max(axis=1) * 10000

    assert (largest(safe[known]) <= 32767).all()
    few = safe[known] < 65535
    assert (largest(safe[known] + 3.0)[few] > 32767).all()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("shape", [(6, 37, 64), (5, 7, 13), (9, 3, 103)])
def test_packed_blocks_give_what_their_counts_give(
    name: str,
    shape: tuple[int, int, int],
    compiled: bool,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not compiled:
        monkeypatch.setattr(cpu_pass.importlib.util, "find_spec", lambda name: None)
    fmt = PIXEL_FORMATS[name]
    plan = plan_of(rng, shape, fmt.bits, packed=fmt)
    backend = CpuBackend(2, "a test")
    operation = backend.pixel_pass(plan)
    assert operation.compiled == compiled
    math = backend.group_math(plan, shape[0], 1, 2)
    raw, valid = counts_of(rng, shape, fmt.bits), np.ones(shape[0], bool)
    valid[1] = False
    basis = rng.normal(size=(2, shape[1])).astype("f4")
    want = with_numpy(plan, raw, valid, 1, monkeypatch)
    scores = []
    for block in (pack(raw, fmt), raw):
        got = run(backend, operation, block, valid, 1)
        assert_equal(got, want, shape[0], -(-(shape[0] + 1) // 4))
        math.put(0, 0, shape[0], 0)
        out = np.empty((shape[0], 2, shape[2]), "i2")
        math.project(0, shape[0], valid, np.zeros(shape[1], "f4"), basis, 0.5, out)()
        scores.append(out)
    np.testing.assert_array_equal(*scores)
    assert scores[0].any()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("samples", [77, 128])  # rows of 256 bytes are padded where they are kept
def test_scores_are_those_of_float64(
    samples: int, compiled: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(cpu_pass.importlib.util, "find_spec", lambda name: None)
    lines, bands, k = 3, 61, 11
    plan = plan_of(rng, (lines, bands, samples))
    backend = CpuBackend(2, "a test")
    math = backend.group_math(plan, lines, 2, k)
    assert isinstance(math._loops, CompiledPca) == compiled
    assert (math._kept.shape[3] > samples) == (samples == 128)
    raw = counts_of(rng, (lines, bands, samples))
    backend.load(raw)
    math.put(1, 0, lines, 0)
    bad = pass_tables(plan).fix
    kept = raw.astype("f8")
    for i, (band, sample, low, high) in enumerate(bad):
        if low >= 0:
            below, above = raw[:, low, sample].astype("f8"), raw[:, high, sample].astype("f8")
            kept[:, band, sample] = below + (above - below) * pass_tables(plan).fix_weight[i]
    basis = np.linalg.qr(rng.normal(size=(bands, k)))[0].T.astype("f4")
    mean = rng.uniform(0, 4000, bands).astype("f4")
    want = basis.astype("f8") @ (kept - mean.astype("f8")[:, None])
    out = np.empty((lines, k, samples), "i2")
    longer = math.project(1, lines, np.ones(lines, bool), mean, basis, 0.5, out)()
    error = out * (0.5 * longer.astype("f8"))[:, None] - want
    assert np.abs(error).max() <= 0.25 * longer.max() + 1e-6 * 4095 * bands**0.5
    chosen = np.array([0, 2])
    for every in (1, 3):
        used, first, second = math.learn(1, chosen, every, np.inf, mean.astype("f8"))()
        about = (kept - mean.astype("f8")[:, None])[chosen][:, :, ::every]
        spectra = about.transpose(1, 0, 2).reshape(bands, -1)
        assert used == spectra.shape[1]
        largest = np.abs(spectra @ spectra.T).max()
        np.testing.assert_allclose(first, spectra.sum(axis=1), atol=1e-5 * largest**0.5 * used)
        np.testing.assert_allclose(second, spectra @ spectra.T, atol=1e-5 * largest)
    backend.close()


def test_arrays_for_vectors_begin_at_a_cache_line() -> None:
    for shape in ((0,), (3,), (5, 7, 11), (400, 1000)):
        array = aligned(shape, np.dtype("f4"))
        assert array.shape == shape
        assert array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT == 0 or not array.size
        assert not array.any()
