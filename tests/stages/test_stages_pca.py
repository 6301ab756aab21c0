"""Decoded counts equal the source to within what the components left out, whatever the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import PcaConfig
from pipeline.engine import EnginePlan, PcaGroup, make_engine
from pipeline.errors import ConfigError
from pipeline.stages.pca import STEP, learning_lines

BANDS, SAMPLES, RANK = 30, 40, 5


def low_rank(
    rng: np.random.Generator, lines: int, bright: float = 600.0, top: float = 4000.0
) -> NDArray[np.uint16]:
    """Counts that a mean and RANK components describe, up to rounding to whole counts."""
    spectra = rng.normal(0, 1, (RANK, BANDS))
    weights = rng.normal(0, bright, (lines, SAMPLES, RANK)) / np.arange(1, RANK + 1)
    cube = 2000 + np.einsum("lsk,kb->lbs", weights / np.sqrt(BANDS), spectra)
    return np.ascontiguousarray(np.clip(np.rint(cube), 0, top).astype("u2"))


def encode(
    raw: NDArray[Any], size: int, *, valid: NDArray[np.bool_] | None = None, **plan: Any
) -> list[PcaGroup]:
    components, group = plan.pop("components", RANK), plan.pop("group", 16)
    armed = EnginePlan(
        bands=raw.shape[1],
        samples=raw.shape[2],
        dtype=raw.dtype,
        block_lines=size,
        saturation_level=plan.pop("level", 4095),
        pca=PcaConfig(components=components, block_lines=group),
        preview=False,
        backend="cpu",
        threads=2,
        **plan,
    )
    ok = np.ones(len(raw), bool) if valid is None else valid
    groups: list[PcaGroup] = []
    with make_engine(armed) as engine:
        for first in range(0, len(raw), size):
            result = engine.process(raw[first : first + size], ok[first : first + size])
            groups += [keep(group) for group in result.pca]
        groups += [keep(group) for group in engine.finish().pca]
    return groups


def keep(group: PcaGroup) -> PcaGroup:
    group.scores = group.scores.copy()  # valid until the next block only
    return group


def decode(groups: list[PcaGroup]) -> NDArray[np.float64]:
    """The decode contract, word for word: scores · step @ basis + mean."""
    return np.concatenate(
        [
            np.einsum("lks,kb->lbs", g.scores.astype("f8") * g.step, g.basis.astype("f8"))
            + g.mean.astype("f8")[:, None]
            for g in groups
        ]
    )


@pytest.mark.parametrize("size", [1, 7, 16, 50])
def test_what_the_components_describe_comes_back(size: int, rng: np.random.Generator) -> None:
    raw = low_rank(rng, 41)
    groups = encode(raw, size)
    assert [(g.first_line, g.lines) for g in groups] == [(0, 16), (16, 16), (32, 9)]
    assert all(g.step == STEP and g.scores.dtype == np.int16 for g in groups)
    error = decode(groups) - raw
    # rounding of the source (1/12) lies mostly outside the components, that of the scores inside
    assert error.std() < 1.1 * np.sqrt(1 / 12 + RANK / BANDS * STEP**2 / 12)
    assert abs(error.mean()) < 0.02


def test_all_components_lose_only_the_rounding_of_the_scores(rng: np.random.Generator) -> None:
    raw = rng.integers(0, 4095, (20, BANDS, SAMPLES)).astype("u2")
    error = decode(encode(raw, 20, components=BANDS)) - raw
    assert error.std() < 1.1 * STEP / np.sqrt(12)
    assert np.abs(error).max() < 2


def test_a_score_beyond_int16_lengthens_its_component_and_never_clips(
    rng: np.random.Generator,
) -> None:
    raw = low_rank(rng, 16, bright=40000.0, top=65535).astype("u2")
    (group,) = encode(raw, 16, level=0, components=BANDS)
    lengths = np.linalg.norm(group.basis, axis=1)
    assert lengths[0] > 1.5
    np.testing.assert_allclose(np.log2(lengths), np.rint(np.log2(lengths)), atol=1e-4)
    assert np.abs(group.scores).max() > 8000
    error = decode([group]) - raw
    assert error.std() < STEP * lengths.max() / np.sqrt(12)


def test_saturated_spectra_and_lost_lines_are_not_learned_from(rng: np.random.Generator) -> None:
    raw = low_rank(rng, 16)
    clean = encode(raw, 16)[0]
    spoilt = raw.copy()
    spoilt[3] = 65535
    spoilt[7, 4, 11] = 4095
    valid = np.ones(16, bool)
    valid[3] = False
    (group,) = encode(spoilt, 16, valid=valid)
    assert group.pixels == 15 * SAMPLES - 1
    assert clean.pixels == 16 * SAMPLES
    assert not group.scores[3].any()
    np.testing.assert_allclose(group.mean, clean.mean, atol=60)
    others = np.ones(raw.shape, bool)
    others[3] = others[7, :, 11] = False
    assert (decode([group]) - raw)[others].std() < 0.5


def test_a_bad_pixel_takes_the_count_of_its_neighbours(rng: np.random.Generator) -> None:
    raw = low_rank(rng, 16)
    bad = np.zeros((BANDS, SAMPLES), bool)
    bad[9, 20] = True
    spoilt = raw.copy()
    spoilt[:, 9, 20] = 65535
    (group,) = encode(spoilt, 16, bad_pixels=bad)
    assert group.pixels == 16 * SAMPLES
    difference = (decode([group]) - raw)[:, :, 20]
    others = np.arange(BANDS) != 9
    assert np.abs(difference[:, others]).mean() < np.abs(raw.astype(float)).mean() * 0.05


def test_a_group_without_a_single_line_decodes_to_nothing(rng: np.random.Generator) -> None:
    raw = low_rank(rng, 32)
    valid = np.arange(32) >= 16
    lost, kept = encode(raw, 8, valid=valid)
    assert lost.pixels == 0
    assert not lost.basis.any()
    assert not lost.scores.any()
    assert (decode([kept]) - raw[16:]).std() < 0.5


def test_saturated_everywhere_is_learned_from_all_the_same(rng: np.random.Generator) -> None:
    raw = low_rank(rng, 16)
    raw[:, 0] = 4095
    (group,) = encode(raw, 16)
    assert group.pixels == 16 * SAMPLES
    assert (decode([group]) - raw).std() < 0.5


def test_the_learning_subset_is_spread_evenly_and_large_enough() -> None:
    for lines, samples, bands in ((128, 640, 224), (128, 1024, 448), (128, 9000, 30), (3, 10, 5)):
        chosen, every = learning_lines(np.arange(lines), samples, bands)
        spectra = len(chosen) * -(-samples // every)
        assert spectra >= min(lines * samples, max(4096, 8 * bands)) / 2
        assert spectra <= 4 * max(4096, 8 * bands)
        assert len(set(np.diff(chosen))) <= 1


def test_what_cannot_work_is_refused_when_arming() -> None:
    with pytest.raises(ConfigError, match=r"components: found 31, allowed are 1 to 30"):
        encode(np.zeros((1, 30, 4), "u2"), 1, components=31)
    with pytest.raises(ConfigError, match="float32"):
        encode(np.zeros((1, 30, 4), "f4"), 1)
