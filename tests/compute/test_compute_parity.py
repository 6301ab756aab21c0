"""Every backend against one float64 NumPy twin written here; CUDA is skipped without a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.compute import Backend, PassPlan, cpu_pass
from pipeline.compute.cpu import CpuBackend
from pipeline.compute.cuda import CudaBackend, import_cupy
from pipeline.compute.tables import pass_tables
from pipeline.errors import DeviceError
from pipeline.reflectance import Correction, apply, correction, quantise

sys.path.insert(0, str(Path(__file__).parent / "host_shim"))
import cupy_on_host

LEVEL = 4095
Make = Callable[[], Backend]


@pytest.fixture(params=["numba", "numba on 3 threads", "numpy", "cuda on the host", "cuda"])
def make_backend(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Make]:
    made: list[Backend] = []

    def make() -> Backend:
        if request.param == "cuda":
            made.append(CudaBackend())
        elif request.param == "cuda on the host":
            stand_in = cupy_on_host.make(tmp_path_factory.getbasetemp())
            made.append(CudaBackend(stand_in, cupy_on_host.SHAPE))
        else:
            made.append(CpuBackend(3 if "3" in request.param else 1, "a test"))
        return made[-1]

    if request.param == "cuda":
        try:
            import_cupy()
        except DeviceError as error:
            pytest.skip(str(error))
    elif request.param == "cuda on the host":
        if cupy_on_host.compiler() is None:
            pytest.skip("no g++ here to compile the .cu file for the CPU")
    elif request.param == "numpy":
        monkeypatch.setattr(cpu_pass.importlib.util, "find_spec", lambda name: None)
    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make_backend: Make) -> Backend:
    return make_backend()


def references(rng: np.random.Generator, bands: int, samples: int) -> Correction:
    """References with everything that goes wrong in them: no signal, white below black, NaN."""
    black = rng.uniform(40, 120, (bands, samples))
    white = black + rng.uniform(5, 3500, (bands, samples))
    white[rng.random(white.shape) < 0.02] = 0
    at = rng.random(white.shape) < 0.02
    white[at] = black[at]
    made = correction(black, white)
    made.gain[rng.random(white.shape) < 0.01] = np.nan
    return made


def counts(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Counts with both ends of the type among them."""
    raw = rng.integers(0, min(4600, np.iinfo(dtype).max), shape).astype(dtype)
    raw[rng.random(shape) < 0.01] = 0
    raw[rng.random(shape) < 0.01] = np.iinfo(dtype).max
    return raw


class Twin:
    """What the pixel pass should give, in float64 and without any cleverness."""

    def __init__(
        self,
        raw: NDArray[Any],
        valid: NDArray[np.bool_],
        plan: PassPlan,
        factors: NDArray[np.float32] | None = None,
    ) -> None:
        lines, bands, samples = raw.shape
        none = np.zeros((bands, samples), bool)
        bad = none if plan.bad_pixels is None else plan.bad_pixels
        corr = plan.correction
        black = np.zeros(none.shape) if corr is None else corr.black.astype("f8")
        gain = np.ones(none.shape) if corr is None else corr.gain.astype("f8")
        counts, level = raw.astype("f8"), raw.astype("f8")
        if factors is not None:
            counts -= factors[1, :, None, None]
            level -= np.rint(factors[1, :, None, None])  # counted in whole DN
        value = (counts - black) * gain
        if factors is not None:
            value *= factors[0, :, None, None].astype("f8")
        self.filled = none.copy()
        for s in range(samples):
            good = np.flatnonzero(~bad[:, s] & np.isfinite(gain[:, s]))
            for b in np.flatnonzero(bad[:, s]):
                value[:, b, s] = np.nan
                if len(good):
                    self.filled[b, s] = True
                    for n in range(lines):
                        value[n, b, s] = np.interp(b, good, value[n, good, s])
        value[~valid] = np.nan
        self.value = value
        seen = valid[:, None, None] & ~bad
        bright = seen & (raw >= plan.saturation_level)
        dim = seen & (level < black) if corr is not None else np.zeros(raw.shape, bool)
        self.saturated = bright.sum(axis=(1, 2))
        self.below_dark = dim.sum(axis=(1, 2))
        quality = np.zeros((lines, 6, samples), int)
        quality[:, 0] = bright.sum(axis=1)
        quality[:, 1] = bad.sum(axis=0)
        quality[:, 2] = dim.sum(axis=1)
        if corr is not None:
            with np.errstate(divide="ignore"):
                quality[:, 3] = (~(1 / corr.gain >= 0.01 * plan.saturation_level)).sum(axis=0)
        quality[:, 4] = self.filled.sum(axis=0)
        quality[~valid] = 0
        quality[~valid, 5] = bands
        self.quality = np.minimum(quality, 255)

    def sums(self, factor: int, phase: int) -> NDArray[np.float64]:
        lines, bands, samples = self.value.shape
        rows, cells = -(-(lines + phase) // factor), -(-samples // factor)
        out = np.zeros((rows, bands, cells))
        for n in range(lines):
            for s in range(samples):
                out[(n + phase) // factor, :, s // factor] += np.nan_to_num(self.value[n, :, s])
        return out


def stored(value: NDArray[np.float64], kind: str) -> tuple[NDArray[Any], int]:
    scaled = np.rint(value * 10000)
    low, high, unknown = {"int16": (-32767, 32767, -32768), "uint16": (0, 65534, 65535)}[kind]
    clipped = int(((scaled < low) | (scaled > high)).sum())
    return np.where(np.isnan(scaled), unknown, np.clip(scaled, low, high)), clipped


def line_factors(rng: np.random.Generator, lines: int, size: float) -> NDArray[np.float32]:
    """Scales and offsets, up to ``size`` of what is believed."""
    scale = 2.0 ** rng.uniform(-size, size, lines)
    return np.stack([scale, rng.uniform(-size, size, lines) * LEVEL / 16]).astype("f4")


SHAPES = [(1, 1, 1), (7, 5, 13), (9, 33, 4), (12, 20, 131), (5, 300, 6)]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        *(("u2", "int16"), ("u2", "uint16"), ("u2", "float32"), ("u2", None)),
        *(("u1", "int16"), ("i2", "int16")),
    ],
)
def test_the_pixel_pass_agrees_with_float64(
    make_backend: Make, kind: Any, dtype: str, rng: np.random.Generator
) -> None:
    for lines, bands, samples in SHAPES:
        backend = make_backend()
        plan = PassPlan(
            bands=bands,
            samples=samples,
            dtype=np.dtype(dtype),
            block_lines=lines + 2,
            saturation_level=LEVEL if dtype != "u1" else 250,
            correction=references(rng, bands, samples),
            bad_pixels=rng.random((bands, samples)) < 0.1,
            reflectance=kind,
            preview_factor=4,
            coarser=True,
        )
        raw = counts(rng, (lines, bands, samples), dtype)
        valid = rng.random(lines) < 0.8
        phase = int(rng.integers(0, 4))
        operation = backend.pixel_pass(plan)
        backend.load(raw)
        operation.start(valid, phase)
        out, clipped = operation.wait()
        twin = Twin(raw, valid, plan)
        np.testing.assert_array_equal(out.saturated[:lines], twin.saturated)
        np.testing.assert_array_equal(out.below_dark[:lines], twin.below_dark)
        np.testing.assert_array_equal(out.quality[:lines], twin.quality)
        # bit for bit the same in all backends
        numpy_pass = cpu_pass.NumpyPass(plan, pass_tables(plan), CpuBackend(1, "a test"))
        plain = numpy_pass.outputs
        assert clipped == numpy_pass.run(raw, valid, phase)
        if kind is not None:
            np.testing.assert_array_equal(out.reflectance[:lines], plain.reflectance[:lines])
        expected = twin.sums(4, phase)
        scale = 1e-6 * np.nanmax(np.abs(twin.value), initial=1) * 16
        np.testing.assert_allclose(out.sums[: len(expected)], expected, rtol=1e-5, atol=scale)
        if kind == "float32":
            assert clipped == 0
            np.testing.assert_array_equal(np.isnan(out.reflectance[:lines]), np.isnan(twin.value))
            np.testing.assert_allclose(out.reflectance[:lines], twin.value, rtol=1e-5, atol=1e-6)
        elif kind is not None:
            want, want_clipped = stored(twin.value, kind)
            got = out.reflectance[:lines].astype(int)
            # float32 rounds to the other side of a half now and then
            assert np.abs(got - want).max() <= 1
            assert (got != want).mean() < 0.02
            assert abs(clipped - want_clipped) <= 1 + raw.size // 1000


@pytest.mark.parametrize("size", [0.05, 1.0])
@pytest.mark.parametrize("kind", ["int16", "uint16", "float32", None])
def test_factors_of_lines_agree_with_float64(
    make_backend: Make, kind: Any, size: float, rng: np.random.Generator
) -> None:
    for lines, bands, samples in SHAPES:
        backend = make_backend()
        plan = PassPlan(
            bands=bands,
            samples=samples,
            dtype=np.dtype("u2"),
            block_lines=lines + 2,
            saturation_level=LEVEL,
            correction=references(rng, bands, samples),
            bad_pixels=rng.random((bands, samples)) < 0.1,
            reflectance=kind,
            preview_factor=4,
            coarser=True,
            factors=True,
        )
        raw = counts(rng, (lines, bands, samples), "u2")
        valid = rng.random(lines) < 0.8
        phase = int(rng.integers(0, 4))
        factors = line_factors(rng, lines, size)
        operation = backend.pixel_pass(plan)
        backend.load(raw)
        operation.start(valid, phase, factors)
        out, clipped = operation.wait()
        twin = Twin(raw, valid, plan, factors)
        np.testing.assert_array_equal(out.saturated[:lines], twin.saturated)
        np.testing.assert_array_equal(out.below_dark[:lines], twin.below_dark)
        np.testing.assert_array_equal(out.quality[:lines], twin.quality)
        numpy_pass = cpu_pass.NumpyPass(plan, pass_tables(plan), CpuBackend(1, "a test"))
        assert clipped == numpy_pass.run(raw, valid, phase, factors)
        if kind is not None:
            plain = numpy_pass.outputs.reflectance[:lines]
            np.testing.assert_array_equal(out.reflectance[:lines], plain)
        expected = twin.sums(4, phase)
        scale = 1e-6 * np.nanmax(np.abs(twin.value), initial=1) * 16
        np.testing.assert_allclose(out.sums[: len(expected)], expected, rtol=1e-5, atol=scale)
        if kind == "float32":
            np.testing.assert_allclose(out.reflectance[:lines], twin.value, rtol=1e-5, atol=2e-6)
        elif kind is not None:
            want, _ = stored(twin.value, kind)
            assert np.abs(out.reflectance[:lines].astype(int) - want).max() <= 1


def test_a_scale_of_1_and_an_offset_of_0_change_no_bit(
    backend: Backend, rng: np.random.Generator
) -> None:
    raw = counts(rng, (9, 30, 70), "u2")
    found = []
    for factors in (False, True):
        plan = PassPlan(
            bands=30,
            samples=70,
            dtype=raw.dtype,
            block_lines=9,
            saturation_level=LEVEL,
            correction=references(np.random.default_rng(1), 30, 70),
            bad_pixels=np.random.default_rng(2).random((30, 70)) < 0.1,
            reflectance="float32",
            factors=factors,
        )
        operation = backend.pixel_pass(plan)
        backend.load(raw)
        operation.start(np.ones(9, bool), 0, None)
        out, _ = operation.wait()
        found.append([out.reflectance.copy(), out.below_dark.copy(), out.quality.copy()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_int16_is_exactly_what_the_formula_in_float32_gives(
    backend: Backend, rng: np.random.Generator
) -> None:
    raw = counts(rng, (11, 40, 57), "u2")
    corr = references(rng, 40, 57)
    plan = PassPlan(
        bands=40,
        samples=57,
        dtype=raw.dtype,
        block_lines=11,
        saturation_level=LEVEL,
        correction=corr,
        reflectance="int16",
    )
    operation = backend.pixel_pass(plan)
    backend.load(raw)
    operation.start(np.ones(11, bool), 0)
    out, clipped = operation.wait()
    want, want_clipped = quantise(apply(raw, corr))
    np.testing.assert_array_equal(out.reflectance, want)
    assert clipped == want_clipped > 0


def test_halves_are_rounded_to_even(backend: Backend) -> None:
    # gain 2⁻¹³ and a scale of 10000: count 2^k gives exact halves for some counts
    gain = np.full((1, 4), 0.5 / 10000, "f4")
    raw = np.array([[[1, 3, 5, 7]]], "u2")
    plan = PassPlan(
        bands=1,
        samples=4,
        dtype=raw.dtype,
        block_lines=1,
        saturation_level=LEVEL,
        correction=Correction(np.zeros((1, 4), "f4"), gain),
        reflectance="int16",
    )
    operation = backend.pixel_pass(plan)
    backend.load(raw)
    operation.start(np.ones(1, bool), 0)
    np.testing.assert_array_equal(
        operation.wait()[0].reflectance, quantise(apply(raw, plan.correction))[0]
    )


def test_without_references_nothing_is_below_dark_and_previews_are_counts(
    backend: Backend, rng: np.random.Generator
) -> None:
    raw = counts(rng, (6, 3, 10), "u2")
    plan = PassPlan(
        bands=3,
        samples=10,
        dtype=raw.dtype,
        block_lines=6,
        saturation_level=LEVEL,
        preview_factor=4,
        coarser=True,
    )
    operation = backend.pixel_pass(plan)
    backend.load(raw)
    operation.start(np.ones(6, bool), 2)
    (out, _), twin = operation.wait(), Twin(raw, np.ones(6, bool), plan)
    assert not out.below_dark.any()
    np.testing.assert_array_equal(out.sums[:2], twin.sums(4, 2))


@pytest.mark.parametrize("referenced", [True, False])
@pytest.mark.parametrize("coarser", [True, False])
def test_finished_preview_rows_are_the_means_of_their_sums(
    backend: Backend, coarser: bool, referenced: bool, rng: np.random.Generator
) -> None:
    lines, bands, samples, phase = 15, 37, 90, 3
    plan = PassPlan(
        bands=bands,
        samples=samples,
        dtype=np.dtype("u2"),
        block_lines=lines,
        saturation_level=LEVEL,
        correction=references(rng, bands, samples) if referenced else None,
        bad_pixels=rng.random((bands, samples)) < 0.1,
        preview_factor=4,
        coarser=coarser,
    )
    raw = counts(rng, (lines, bands, samples), plan.dtype)
    valid = rng.random(lines) < 0.8
    valid[1:5] = True
    valid[5:9] = False  # a whole row of lost lines
    operation = backend.pixel_pass(plan)
    backend.load(raw)
    operation.start(valid, phase)
    out, _ = operation.wait()
    if out.means is None:
        return  # the stage makes them
    assert out.means.dtype == plan.preview_type
    twin = Twin(raw, valid, plan)
    seen = np.add.reduceat(~np.isnan(twin.value), np.arange(0, samples, 4), axis=2)
    for row in (1, 2, 3):
        there = slice(4 * row - phase, 4 * row - phase + 4)
        with np.errstate(invalid="ignore"):
            want = twin.sums(4, phase)[row] / seen[there].sum(axis=0)
        got = out.means[row].astype("f8")
        if not referenced:
            np.testing.assert_allclose(got, want, rtol=1e-5)
            continue
        got[got == -32768] = np.nan
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, np.clip(want * 10000, -32767, 32767), atol=0.51, rtol=1e-5)
    assert np.isnan(out.means[2]).all() if not referenced else (out.means[2] == -32768).all()


def test_saturated_spectra_are_found_whatever_the_shift(
    backend: Backend, rng: np.random.Generator
) -> None:
    bands, samples, level = 7, 60, 65535
    bad = np.zeros((bands, samples), bool)
    bad[3, :20] = True
    plan = PassPlan(
        bands=bands,
        samples=samples,
        dtype=np.dtype("u2"),
        block_lines=1,
        saturation_level=level,
        bad_pixels=bad,
    )
    raw = rng.integers(0, level, (1, bands, samples)).astype("u2")
    raw[0, 3, :40] = level  # of these the first 20 are bad pixels, and count as their neighbours
    raw[0, 4, 50] = level
    math = backend.group_math(plan, 1, 1, 1)
    backend.load(raw)
    math.put(0, 0, 1, 0)
    for _ in range(20):
        shift = rng.uniform(0, level, bands)
        n, _, _ = math.learn(0, np.array([0]), 1, level, shift)()
        assert n == samples - 20 - 1


def test_principal_components_agree_with_float64(
    backend: Backend, rng: np.random.Generator
) -> None:
    bands, samples, lines, k = 23, 31, 10, 4
    bad = np.zeros((bands, samples), bool)
    bad[5, 3] = bad[0, 7] = bad[22, 9] = True
    plan = PassPlan(
        bands=bands,
        samples=samples,
        dtype=np.dtype("u2"),
        block_lines=6,
        saturation_level=LEVEL,
        bad_pixels=bad,
    )
    raw = counts(rng, (lines, bands, samples), "u2")
    math = backend.group_math(plan, 12, 2, k)
    backend.load(np.ascontiguousarray(raw[:6]))
    math.put(1, 0, 6, 0)
    backend.load(np.ascontiguousarray(raw[6:]))
    math.put(1, 1, 3, 6)
    kept = np.concatenate([raw[:6], raw[7:]]).astype("f8")
    for band, sample, low, high in ((5, 3, 4, 6), (0, 7, 1, 1), (22, 9, 21, 21)):
        kept[:, band, sample] = (kept[:, low, sample] + kept[:, high, sample]) / 2
    chosen, shift = np.array([0, 2, 7]), np.full(bands, 1000.0)
    for every, level in ((1, LEVEL), (3, LEVEL), (2, np.inf)):
        n, first, second = math.learn(1, chosen, every, level, shift)()
        spectra = kept[chosen][:, :, ::every].transpose(0, 2, 1).reshape(-1, bands)
        spectra = spectra[(spectra < level).all(axis=1)] - 1000
        assert n == len(spectra) > 0
        np.testing.assert_allclose(first, spectra.sum(axis=0), rtol=1e-6, atol=1)
        np.testing.assert_allclose(second, spectra.T @ spectra, rtol=1e-5, atol=1e-6 * second.max())
    mean = rng.uniform(0, 4000, bands).astype("f4")
    basis = np.linalg.qr(rng.normal(size=(bands, k)))[0].T.astype("f4")
    want = basis.astype("f8") @ (kept - mean.astype("f8")[:, None])
    valid = np.ones(9, bool)
    valid[4] = False
    want[4] = 0
    for step in (0.5, 0.01):
        out = np.full((9, k, samples), -1, "i2")
        longer = math.project(1, 9, valid, mean, basis, step, out)()
        largest = np.abs(want).max(axis=(0, 2)) / step
        np.testing.assert_array_equal(longer, 2 ** np.ceil(np.log2(np.maximum(largest / 32767, 1))))
        assert step == 0.5 or longer.max() > 1
        error = out - want / (step * longer.astype("f8")[:, None])
        assert np.abs(error).max() < 0.5 + 1e-6 * 65535 * bands**0.5 / step
        assert not out[4].any()
