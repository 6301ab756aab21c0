"""The certified panel: a value, or a curve weighted with each band's own response."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.reference_panel import panel_reflectance
from pipeline.spectral import SpectralAxis


def test_one_value_serves_all_bands(tmp_path: Path) -> None:
    assert panel_reflectance(0.95, SpectralAxis(np.array([400.0]), None), tmp_path) == (0.95, [])


def test_a_panel_spectrum_is_weighted_with_each_bands_width(tmp_path: Path) -> None:
    (tmp_path / "panel.csv").write_text("nm,reflectance\n300,0.01\n500,1.0\n700,0.01\n")
    nm = np.array([400.0, 500.0, 600.0])
    sharp = SpectralAxis(nm, None)
    assert panel_reflectance("panel.csv", sharp, tmp_path)[0] == pytest.approx([0.505, 1.0, 0.505])
    wide = panel_reflectance("panel.csv", SpectralAxis(nm, np.full(3, 20.0)), tmp_path)[0]
    assert isinstance(wide, list)
    # mean of |x| for a Gaussian: sigma·sqrt(2/pi), over the 200 nm of the flank
    sigma = 20.0 / np.sqrt(8 * np.log(2))
    assert wide[1] == pytest.approx(1 - 0.99 * sigma * np.sqrt(2 / np.pi) / 200, abs=1e-4)
    assert wide[0] == pytest.approx(0.505, abs=1e-4)


def test_a_flank_beyond_the_certified_range_is_told(tmp_path: Path) -> None:
    (tmp_path / "panel.csv").write_text("# certificate 12\n395,0.9\n700,0.9\n")
    axis = SpectralAxis(np.array([400.0, 500.0, 600.0]), np.full(3, 10.0))
    values, said = panel_reflectance("panel.csv", axis, tmp_path)
    assert values == pytest.approx([0.9, 0.9, 0.9])
    assert said == [
        "[references] panel = 'panel.csv': 1 of 3 bands reach beyond its 395 to 700 nm with a "
        "flank, where its last value is taken"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nm,r\n450,1\n550,1\n",
            r"is certified from 450 to 550 nm, which does not reach from 400 to 600 nm as the "
            r"camera does; name a curve that does, or cut the bands with \[camera\] vroi",
        ),
        ("nm,r\n300,1\nfour,1\n", r"row 3 is \['four', '1'\], allowed are two numbers"),
        ("", r"found 0 rows of numbers, allowed are two or more"),
        ("300,98\n700,99\n", r"found reflectance 99, allowed is a share .* 0.95 for 95 %\?"),
        ("300,0.9\n700,0\n", r"found reflectance 0, allowed is a share above 0"),
        ("0.3,0.9\n0.7,0.9\n", r"ends at 0.7; is that µm\? nm are expected"),
        ("300,0.9\n300,0.8\n700,0.9\n", "found a wavelength twice"),
        ("300,0.9\n500,nan\n700,0.9\n", "a value that is no number"),
        (None, "no such file"),
    ],
)
def test_a_bad_panel_file_is_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "panel.csv").write_text(text)
    axis = SpectralAxis(np.array([400.0, 600.0]), None)
    with pytest.raises(ConfigError, match=message):
        panel_reflectance("panel.csv", axis, tmp_path)


def test_numbered_bands_have_no_curve(tmp_path: Path) -> None:
    (tmp_path / "panel.csv").write_text("300,0.9\n700,0.9\n")
    axis = SpectralAxis(np.array([1.0, 2.0]), None, "Index")
    with pytest.raises(ConfigError, match=r"needs wavelengths, this camera has none \(index\)"):
        panel_reflectance("panel.csv", axis, tmp_path)


def test_a_first_row_of_values_is_no_title_that_gets_lost(tmp_path: Path) -> None:
    axis = SpectralAxis(np.array([400.0, 500.0]), None)
    for first in ("350,0.9x", "350 nm,0.9"):
        (tmp_path / "panel.csv").write_text(f"{first}\n390,0.5\n600,0.5\n")
        with pytest.raises(ConfigError, match="row 1 is"):
            panel_reflectance("panel.csv", axis, tmp_path)


def test_empty_rows_of_a_spreadsheet_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "panel.csv").write_text("nm,R\n390,0.5\n,\n600,0.5\n  \n")
    axis = SpectralAxis(np.array([400.0, 500.0]), None)
    assert panel_reflectance("panel.csv", axis, tmp_path)[0] == [0.5, 0.5]


@pytest.mark.parametrize("name", ["", "missing.csv", "/dev/zero"])
def test_a_panel_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    axis = SpectralAxis(np.array([400.0, 500.0]), None)
    with pytest.raises(ConfigError, match="no such file; allowed is a number, or a CSV file"):
        panel_reflectance(name, axis, tmp_path)
