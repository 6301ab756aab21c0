"""The engine: what is refused when arming, what comes out, and that nothing grows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from pipeline.compute import cuda
from pipeline.config import PcaConfig
from pipeline.engine import QUALITY_FLAGS, BlockResult, EnginePlan, make_engine
from pipeline.errors import ConfigError, DeviceError
from pipeline.reflectance import apply, correction, quantise
from pipeline.stages.stage import check_chain

BANDS, SAMPLES, LINES = 24, 50, 8


def plan(**changes: Any) -> EnginePlan:
    values: dict[str, Any] = {
        "bands": BANDS,
        "samples": SAMPLES,
        "dtype": np.dtype("u2"),
        "block_lines": LINES,
        "saturation_level": 4095,
        "backend": "cpu",
        "threads": 1,
    }
    return EnginePlan(**(values | changes))


def references(rng: np.random.Generator) -> Any:
    black = rng.uniform(80, 120, (BANDS, SAMPLES))
    return correction(black, black + rng.uniform(900, 3000, black.shape))


def raw_block(rng: np.random.Generator, lines: int = LINES) -> Any:
    return rng.integers(0, 4096, (lines, BANDS, SAMPLES)).astype("u2")


def test_a_block_goes_through_all_stages(rng: np.random.Generator) -> None:
    corr, raw = references(rng), raw_block(rng)
    valid = np.ones(LINES, bool)
    valid[2] = False
    raw[2] = 65535
    raw.flags.writeable = False  # as a view of a received block may be
    armed = plan(correction=corr, reflectance="int16", pca=PcaConfig(components=3, block_lines=8))
    with make_engine(armed) as engine:
        assert engine.backend == "cpu"
        assert "CPU" in engine.why
        first = engine.process(raw, valid)
        assert (first.first_line, first.lines) == (0, LINES)
        want, clipped = quantise(apply(raw[valid], corr))
        np.testing.assert_array_equal(first.reflectance[valid], want)
        assert (first.reflectance[2] == -32768).all()
        assert first.clipped == clipped
        np.testing.assert_array_equal(first.saturated, (raw == 4095).sum(axis=(1, 2)) * valid)
        np.testing.assert_array_equal(first.below_dark, (raw < corr.black).sum(axis=(1, 2)) * valid)
        assert not first.bad.any()
        assert first.quality is not None
        assert first.quality.shape == (LINES, len(QUALITY_FLAGS), SAMPLES)
        assert (first.quality[2, QUALITY_FLAGS.index("lost")] == BANDS).all()
        assert [(level, rows.shape) for level, rows in first.previews] == [(0, (2, BANDS, 13))]
        assert not first.pca  # its eigenvectors are found while further groups arrive
        second = engine.process(raw[:3])
        assert (second.first_line, second.lines, engine.lines) == (LINES, 3, LINES + 3)
        assert not second.previews
        last = engine.finish()
        assert [rows.shape for _, rows in last.previews] == [(1, BANDS, 13)]
        assert [(group.first_line, group.lines) for group in last.pca] == [(0, 8), (8, 3)]


def test_a_block_without_lines_changes_nothing(rng: np.random.Generator) -> None:
    armed = plan(correction=references(rng), reflectance="int16", pca=PcaConfig(components=2))
    with make_engine(armed) as engine:
        engine.process(raw_block(rng, 3))
        result = engine.process(raw_block(rng, 0))
        assert (result.first_line, result.lines, engine.lines) == (3, 0, 3)
        assert result.reflectance is not None
        assert result.reflectance.shape == (0, BANDS, SAMPLES)
        assert result.saturated.shape == (0,)
        assert not result.previews
        assert [group.lines for group in engine.finish().pca] == [3]


def test_bad_pixels_count_in_every_line_that_is_there(rng: np.random.Generator) -> None:
    bad = np.zeros((BANDS, SAMPLES), bool)
    bad[3, 4] = bad[:, 7] = True
    with make_engine(plan(bad_pixels=bad)) as engine:
        result = engine.process(raw_block(rng), np.arange(LINES) != 5)
    np.testing.assert_array_equal(result.bad, np.where(np.arange(LINES) == 5, 0, BANDS + 1))
    assert result.quality is not None
    assert result.quality[0, 1, 7] == BANDS
    assert result.quality[0, 4, 7] == 0  # nothing good to take its place
    assert result.quality[0, 4, 4] == 1


def test_only_what_is_asked_for_is_made(rng: np.random.Generator) -> None:
    with make_engine(plan(quality=False, preview=False)) as engine:
        result = engine.process(raw_block(rng))
        assert result.reflectance is None
        assert result.quality is None
        assert not result.previews
        assert not result.pca
        assert result.saturated.shape == (LINES,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reflectance": "int16"}, "stage pixel pass: needs correction, .*yield raw, valid"),
        ({"bands": 0}, "bands: found 0"),
        ({"dtype": np.dtype("c8")}, "raw pixels: found complex64"),
        ({"bad_pixels": np.zeros((2, 3), bool)}, r"bad_pixels: found .* = \(2, 3\)"),
        ({"correction": correction(np.ones((2, 3)), np.full((2, 3), 9))}, r"references: found"),
        ({"pca": PcaConfig(components=25)}, "components: found 25, allowed are 1 to 24"),
    ],
)
def test_what_cannot_work_is_refused_when_arming(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_engine(plan(**changes))


def test_a_block_of_another_kind_is_refused(rng: np.random.Generator) -> None:
    with make_engine(plan()) as engine:
        for block, message in (
            (raw_block(rng, LINES + 1), "allowed are up to 8 lines"),
            (raw_block(rng)[:, :3], "found shape"),
            (raw_block(rng)[0], "found shape"),
            (raw_block(rng).astype("i4"), "found int32"),
            (raw_block(rng)[::2], "C-contiguous"),
        ):
            with pytest.raises(ConfigError, match=message):
                engine.process(block)
        with pytest.raises(ConfigError, match="valid: found shape"):
            engine.process(raw_block(rng), np.ones(3, bool))
        assert engine.lines == 0


def test_without_a_gpu_auto_takes_the_cpu_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_gpu() -> Any:
        raise DeviceError("no CUDA device: the driver finds none")

    monkeypatch.setattr(cuda, "import_cupy", no_gpu)
    with make_engine(plan(backend="auto")) as engine:
        assert engine.backend == "cpu"
        assert engine.why == "no CUDA device: the driver finds none"
    with pytest.raises(DeviceError, match="the driver finds none"):
        make_engine(plan(backend="cuda"))


def test_a_stage_whose_need_is_not_met_is_named() -> None:
    class Needy:
        name = "needy"
        takes = frozenset({"raw", "phase of the moon"})
        yields = frozenset({"luck"})

        def arm(self, backend: Any) -> None:
            raise AssertionError("armed although its need is not met")

        def process(self, raw: Any, valid: Any, result: BlockResult) -> None: ...

        def finish(self, result: BlockResult) -> None: ...

    with pytest.raises(ConfigError, match="stage needy: needs phase of the moon"):
        make_engine(plan(), extra=[Needy()])
    check_chain({"raw", "phase of the moon"}, [Needy()], {"luck"})
    with pytest.raises(ConfigError, match="pipeline: wealth was asked for"):
        check_chain({"raw", "phase of the moon"}, [Needy()], {"wealth"})


def test_after_arming_memory_does_not_grow(rng: np.random.Generator) -> None:
    raw = raw_block(rng)
    armed = plan(
        correction=references(rng),
        reflectance="int16",
        pca=PcaConfig(components=3, block_lines=16),
        threads=2,
    )
    with make_engine(armed) as engine:
        for _ in range(4):
            engine.process(raw)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(40):
                engine.process(raw)
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    # bytes; one block has 19,200, and 40 of them were processed: a leak of any of its arrays shows
    assert after - before < 100_000


def test_reading_python_does_not_load_compiled_kernels() -> None:
    import subprocess
    import sys

    code = (
        "import sys, pipeline.engine, pipeline.compute.unpack;"
        "print([m for m in ('numba', 'cupy', 'zmq', 'imagecodecs') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert out.strip() == "[]"
