"""Bad pixels of real references: a Headwall pair, an AVIRIS-NG dark and its bad elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.bad_pixel_run import map_of_files
from pipeline.bad_pixels import Kind, Statistics, count_kinds, find
from pipeline.container.envi import open_envi
from pipeline.reflectance import correction


@pytest.fixture
def references(real_data: Path) -> Path:
    return real_data / "references"


def picture(path: Path) -> np.ndarray:
    return np.asarray(open_envi(path).raw, np.float64)


def test_the_stuck_and_hot_pixels_of_a_headwall_camera_are_named(
    references: Path, tmp_path: Path
) -> None:
    folder = references / "headwall-nir"
    black, white = folder / "darkReference.hdr", folder / "whiteReference.hdr"
    made = map_of_files(black, white, tmp_path / "bad.hdr")
    dark = picture(black)[0].T
    # one pixel stands near the upper end with and without light
    assert (made.kinds == Kind.STUCK).sum() == 1
    assert made.kinds[40, 186] == Kind.STUCK
    # hot by an independent measure: far above the median of the 3 × 3 pixels around
    hot = np.argwhere(made.kinds == Kind.HOT)
    assert len(hot) == 18
    padded = np.pad(dark, 1, mode="reflect")
    for band, sample in hot:
        around = padded[band : band + 3, sample : sample + 3]
        assert dark[band, sample] - np.median(around) > 300
    assert made.found.not_brighter == 0
    written = open_envi(tmp_path / "bad.hdr")
    assert written.header.file_type == "ENVI Classification"
    np.testing.assert_array_equal(written.raw[:, :, 0], made.kinds)


def test_the_bad_elements_of_aviris_ng_are_found_and_whites_that_give_nothing_are_counted(
    references: Path,
) -> None:
    folder = references / "aviris-ng"
    dark = picture(folder / "ang20180325t061759_dark.hdr")
    flat = picture(folder / "20180727_ang20180628_BLUSS_avg_rows300-340_ff.hdr")[:, :, 0]
    listed = picture(folder / "ANGv5_bad.hdr")[:, :, 0] != 0
    with np.errstate(divide="ignore"):
        white = dark[:, :, 0] + 5000 / flat  # the flat field multiplies what is above the dark
    found = find(Statistics(dark[:, :, 0], dark[:, :, 1]), Statistics(white))
    counts = count_kinds(found.kinds)
    assert counts["stuck"] == 1
    assert counts["hot"] == 21
    # elements whose flat field is 0 or no number, most of the list among them, give nothing
    nothing = ~np.isfinite(flat) | (flat == 0)
    assert found.bad[nothing].all()
    assert found.not_brighter == np.isnan(flat).sum() == 21
    assert found.bad[listed].mean() > 0.8
    # beside those, fewer pixels are bad than the list has
    assert np.count_nonzero(found.bad & ~nothing) < listed.sum()
    # white ≤ black is invalid, and nothing else
    bright = np.where(np.isfinite(white), white, 0)
    assert correction(dark[:, :, 0], bright).invalid == np.count_nonzero(bright <= dark[:, :, 0])
