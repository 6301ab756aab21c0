"""Wavelengths and widths of bands: read, binned, cropped, refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import Wavelengths
from pipeline.errors import ConfigError
from pipeline.spectral import spectral_axis

LINE = Wavelengths(first=400.0, last=407.0, fwhm=3.0)  # 8 rows: 400, 401 … 407 nm


def test_a_line_runs_from_first_to_last_row() -> None:
    axis = spectral_axis(LINE, rows=8)
    assert axis.wavelength.tolist() == [400, 401, 402, 403, 404, 405, 406, 407]
    assert axis.fwhm is not None
    assert axis.fwhm.tolist() == [3.0] * 8
    assert axis.units == "Nanometers"


def test_binning_2_averages_and_widens_as_computed_by_hand() -> None:
    axis = spectral_axis(LINE, rows=8, binning=2)
    assert axis.wavelength.tolist() == [400.5, 402.5, 404.5, 406.5]
    # fwhm² = 9 + 8 ln 2 · (4 − 1)/12 · 1² = 9 + 5.545177444 / 4 = 10.386294361
    assert axis.fwhm is not None
    assert axis.fwhm == pytest.approx([math.sqrt(10.386294361)] * 4, rel=1e-9)


def test_binning_3_drops_the_rows_that_fill_no_bin() -> None:
    axis = spectral_axis(LINE, rows=8, binning=3)
    assert axis.wavelength.tolist() == [401.0, 404.0]
    # fwhm² = 9 + 8 ln 2 · (9 − 1)/12 = 9 + 5.545177444 · 2/3 = 12.696784963
    assert axis.fwhm == pytest.approx([math.sqrt(12.696784963)] * 2, rel=1e-9)


def test_roi_counts_binned_rows_from_1_and_includes_both_ends() -> None:
    axis = spectral_axis(LINE, rows=8, binning=2, vroi=(2, 3))
    assert axis.wavelength.tolist() == [402.5, 404.5]
    assert axis.bands == 2
    assert axis.fwhm is not None
    assert axis.fwhm.size == 2


def test_flip_turns_the_axis_after_the_roi() -> None:
    axis = spectral_axis(LINE, rows=8, vroi=(1, 3), flip=["spectral"])
    assert axis.wavelength.tolist() == [402.0, 401.0, 400.0]


def test_polynomial_counts_rows_from_0() -> None:
    axis = spectral_axis(Wavelengths(coefficients=[500.0, 2.0, 0.5]), rows=4)
    assert axis.wavelength.tolist() == [500.0, 502.5, 506.0, 510.5]
    assert axis.fwhm is None


def test_a_polynomial_bin_is_as_wide_as_its_rows_lie_apart() -> None:
    axis = spectral_axis(Wavelengths(coefficients=[500.0, 2.0, 0.5], fwhm=4.0), rows=4, binning=2)
    assert axis.wavelength.tolist() == [501.25, 508.25]
    # d = 2.5 and 4.5 nm: 16 + 5.545177444 · 3/12 · d²
    by_hand = [math.sqrt(16 + 1.386294361 * 6.25), math.sqrt(16 + 1.386294361 * 20.25)]
    assert axis.fwhm == pytest.approx(by_hand, rel=1e-9)


def test_index_numbers_the_bands() -> None:
    axis = spectral_axis("index", rows=10, binning=2, vroi=(2, 4))
    assert axis.wavelength.tolist() == [1.0, 2.0, 3.0]
    assert axis.units == "Index"
    assert axis.fwhm is None


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_a_table_has_a_row_for_each_sensor_row(tmp_path: Path, separator: str) -> None:
    lines = [
        f"nm{separator}fwhm",
        "# calibrated",
        *(f"{500 + i}{separator}{2 + i}" for i in range(4)),
    ]
    (tmp_path / "w.csv").write_text("\n".join(lines), encoding="utf-8")
    axis = spectral_axis("w.csv", rows=4, base=tmp_path)
    assert axis.wavelength.tolist() == [500, 501, 502, 503]
    assert axis.fwhm is not None
    assert axis.fwhm.tolist() == [2, 3, 4, 5]
    binned = spectral_axis("w.csv", rows=4, binning=2, base=tmp_path)
    assert binned.wavelength.tolist() == [500.5, 502.5]
    # fwhm² = mean(4, 9) + 5.545177444/4, mean(16, 25) + 5.545177444/4
    assert binned.fwhm == pytest.approx([math.sqrt(7.886294361), math.sqrt(21.886294361)], rel=1e-9)


def test_a_table_without_widths(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("700\n600\n500\n", encoding="utf-8")
    axis = spectral_axis("w.csv", rows=3, base=tmp_path)
    assert np.array_equal(axis.wavelength, [700, 600, 500])
    assert axis.fwhm is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("500\n501\n", r"w\.csv: found 2 rows, the sensor has 3"),
        ("500\n501\nx\n", r"w\.csv:3: found 'x', allowed is nm or nm,fwhm"),
        ("500,1\n501\n502,1\n", r"w\.csv:2: found 1 columns, allowed are 2"),
        ("500\n500\n502\n", "do not rise or fall"),
        ("500,1\n501,0\n502,1\n", "fwhm that is not positive"),
        ("500\nnan\n502\n", "not positive"),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "w.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        spectral_axis("w.csv", rows=3, base=tmp_path)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not given.*index"):
        spectral_axis(None, rows=8)
    with pytest.raises(ConfigError, match=r"vroi: found \[3, 5\], allowed are binned rows 1 to 4"):
        spectral_axis(LINE, rows=8, binning=2, vroi=(3, 5))
    with pytest.raises(ConfigError, match="binning: found 9"):
        spectral_axis(LINE, rows=8, binning=9)
    with pytest.raises(ConfigError, match="cannot read the CSV file"):
        spectral_axis("none.csv", rows=8, base=tmp_path)
    with pytest.raises(ConfigError, match="do not rise or fall"):
        spectral_axis(Wavelengths(coefficients=[500.0, 3.0, -0.5]), rows=8)
