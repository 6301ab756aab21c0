"""References: averaging, keeping, loading, choosing, and refusing what does not fit."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.container.envi import write_envi
from pipeline.errors import ConfigError, ReferenceMismatchError
from pipeline.references import (
    Accumulator,
    Reference,
    ReferenceSet,
    check_pair,
    load,
    load_white_black,
    panel_reflectance,
)
from pipeline.spectral import SpectralAxis
from pipeline.stream.messages import CameraInfo

INFO = CameraInfo(
    driver="simulated",
    sensor_type="cam",
    bands=3,
    samples=4,
    data_type=12,
    bit_depth=12,
    saturation_level=4095,
    exposure_ms=2.0,
    binning=(2, 1),
    serial="A1",
)
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_blocks_of_any_size_give_the_same_mean_and_deviation(sizes: list[int], seed: int) -> None:
    lines = np.random.default_rng(seed).integers(0, 4095, (sum(sizes), 3, 4), np.uint16)
    sums = Accumulator(3, 4, 4095)
    start = 0
    for size in sizes:
        sums.add(lines[start : start + size])
        start += size
    made = sums.reference("black", INFO, NOW)
    assert np.allclose(made.mean, lines.mean(axis=0), rtol=1e-6)
    if len(lines) > 1:
        assert made.std is not None
        assert np.allclose(made.std, lines.std(axis=0, ddof=1), rtol=1e-5, atol=1e-4)
    assert made.fields["lines averaged"] == len(lines)


def test_a_saturated_white_is_refused_with_advice() -> None:
    sums = Accumulator(3, 4, 4095)
    sums.add(np.full((10, 3, 4), 4095, np.uint16))
    with pytest.raises(ReferenceMismatchError, match=r"100.0 % .* saturated .* shorten"):
        sums.reference("white", INFO, NOW)
    sums.reference("black", INFO, NOW)
    with pytest.raises(ReferenceMismatchError, match="no line arrived"):
        Accumulator(3, 4, 4095).reference("white", INFO, NOW)


def write(folder: Path, name: str, value: float, **fields: object) -> Path:
    shape = fields.pop("shape", (1, 4, 3))
    known = {"binning": [2, 1], "serial number": "A1", "exposure": 2.0, **fields}
    return write_envi(folder, name, np.full(shape, value, np.float32), known)


def test_a_reference_kept_is_the_reference_loaded(tmp_path: Path, rng: np.random.Generator) -> None:
    sums = Accumulator(3, 4, 4095)
    sums.add(rng.integers(0, 4000, (20, 3, 4), np.uint16))
    made = sums.reference("white", INFO, NOW)
    for name, data in made.entries().items():
        (tmp_path / Path(name).name).write_bytes(data)
    said: list[str] = []
    again = load("white", "white.hdr", tmp_path, INFO, said)
    assert said == []
    assert np.array_equal(again.mean, made.mean)
    assert again.std is not None
    assert np.array_equal(again.std, made.std)
    assert again.exposure == 2.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"serial number": "B2"}, "serial number is B2, the camera's is A1"),
        ({"binning": [1, 1]}, r"binning is \[1, 1\], the camera's is \[2, 1\]"),
        ({"shape": (1, 5, 3)}, "has 3 bands × 5 samples, the camera delivers 3 × 4"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    write(tmp_path, "white", 100.0, **fields)
    with pytest.raises(ReferenceMismatchError, match=message):
        load("white", "white.hdr", tmp_path, INFO, [])


def test_several_lines_are_averaged_and_another_exposure_is_told(tmp_path: Path) -> None:
    write(tmp_path, "black", 7.0, shape=(3, 4, 3), exposure=5.0)
    said: list[str] = []
    loaded = load("black", "black.hdr", tmp_path, INFO, said)
    assert np.all(loaded.mean == 7.0)
    assert any("3 lines are averaged" in text for text in said)
    assert any("a black is not scaled" in text for text in said)


def test_from_a_folder_the_nearest_exposure_that_fits_is_chosen(tmp_path: Path) -> None:
    write(tmp_path, "white-far", 1.0, exposure=9.0)
    write(tmp_path, "white-near", 2.0, exposure=2.2)
    write(tmp_path, "white-other", 3.0, exposure=2.0, **{"serial number": "B2"})
    write(tmp_path, "black", 4.0)
    write(tmp_path, "white_black", 5.0)
    assert load("white", str(tmp_path), tmp_path, INFO, []).mean[0, 0] == 2.0
    assert load("black", str(tmp_path), tmp_path, INFO, []).mean[0, 0] == 4.0
    with pytest.raises(ReferenceMismatchError, match="none of the files"):
        load("black", str(tmp_path), tmp_path, msgspec.structs.replace(INFO, bands=9), [])


def test_the_whites_own_black_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "white", 100.0)
    white = load("white", str(tmp_path), tmp_path, INFO, [])
    assert load_white_black(white, INFO) is None
    write(tmp_path, "white_black", 5.0)
    found = load_white_black(white, INFO)
    assert found is not None
    assert found.kind == "white_black"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ReferenceMismatchError, match=r"nowhere\.hdr.* does not exist"):
        load("white", "nowhere.hdr", Path("/"), INFO, [])


def test_a_white_that_is_no_white_is_refused() -> None:
    dark = Reference("black", np.full((3, 4), 100, np.float32))
    with pytest.raises(ReferenceMismatchError, match="is the lamp on"):
        check_pair(ReferenceSet(Reference("white", np.full((3, 4), 90, np.float32)), dark))
    mixed = np.full((3, 4), 900, np.float32)
    mixed[0, 0] = 50
    said = check_pair(ReferenceSet(Reference("white", mixed), dark))
    assert said == ["white is not brighter than black in 1 of 12 pixels: marked invalid"]


def test_a_white_of_another_exposure_without_its_own_dark_is_told() -> None:
    white = Reference("white", np.full((3, 4), 900, np.float32), None, {"exposure": 1.0})
    black = Reference("black", np.full((3, 4), 90, np.float32), None, {"exposure": 2.0})
    own = Reference("white_black", np.full((3, 4), 80, np.float32), None, {"exposure": 1.0})
    assert any("no dark of its own" in text for text in check_pair(ReferenceSet(white, black)))
    assert check_pair(ReferenceSet(white, black, own)) == []


def test_a_panel_spectrum_is_weighted_with_each_bands_width(tmp_path: Path) -> None:
    (tmp_path / "panel.csv").write_text("nm,reflectance\n300,0.0\n500,1.0\n700,0.0\n")
    nm = np.array([400.0, 500.0, 600.0])
    sharp = SpectralAxis(nm, None)
    assert panel_reflectance("panel.csv", sharp, tmp_path)[0] == [0.5, 1.0, 0.5]
    wide = panel_reflectance("panel.csv", SpectralAxis(nm, np.full(3, 20.0)), tmp_path)[0]
    # mean of |x| for a Gaussian: sigma·sqrt(2/pi), over the 200 nm of the flank
    sigma = 20.0 / np.sqrt(8 * np.log(2))
    assert wide[1] == pytest.approx(1 - sigma * np.sqrt(2 / np.pi) / 200, abs=1e-3)
    assert wide[0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nm,r\n450,1\n550,1\n", "does not reach from 400 to 600 nm"),
        ("nm,r\n300,1\nfour,1\n", r"row 3 is \['four', '1'\]"),
        ("", "does not reach"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_panel_file_is_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "panel.csv").write_text(text)
    axis = SpectralAxis(np.array([400.0, 600.0]), None)
    with pytest.raises(ConfigError, match=message):
        panel_reflectance("panel.csv", axis, tmp_path)
