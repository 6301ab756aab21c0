"""How far two cubes are apart is what NumPy says of them as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from coded_files import code
from made_containers import counting, make_hsi

import pipeline.container.compare as comparing
from pipeline.container.compare import compare
from pipeline.container.envi import write_envi
from pipeline.errors import ContainerError


def angles(a, b):
    x, y = a.reshape(-1, a.shape[2]).astype(float), b.reshape(-1, a.shape[2]).astype(float)
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    return np.arccos(np.clip(cosine, -1, 1))


def test_errors_are_those_of_the_whole_cubes(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(comparing, "_BLOCK_VALUES", 100)  # several blocks
    a = rng.integers(1, 4000, (17, 6, 5)).astype("u2")
    b = (a + rng.integers(-9, 10, a.shape)).clip(0, 65535).astype("i4")
    b[3, 2, 1] = a[3, 2, 1] + 500
    found = compare(make_hsi(tmp_path / "a.hsi", a), write_envi(tmp_path, "b", b, interleave="bsq"))
    error = b.astype(float) - a
    assert found.shape == (17, 6, 5)
    assert found.differing == np.count_nonzero(error)
    assert found.total.max_error == 500
    np.testing.assert_allclose(found.total.rmse, np.sqrt((error**2).mean()))
    span = float(a.max()) - float(a.min())
    np.testing.assert_allclose(found.total.psnr, 20 * np.log10(span / found.total.rmse))
    for band, errors in enumerate(found.bands):
        mine = error[:, :, band]
        assert errors.max_error == np.abs(mine).max()
        np.testing.assert_allclose(errors.rmse, np.sqrt((mine**2).mean()))
        span = float(np.ptp(a[:, :, band]))
        np.testing.assert_allclose(errors.psnr, 20 * np.log10(span / errors.rmse))
    np.testing.assert_allclose(found.angle_mean, angles(a, b).mean(), rtol=1e-6)
    np.testing.assert_allclose(found.angle_max, angles(a, b).max(), rtol=1e-6)


def test_a_coded_cube_equals_its_source(tmp_path):
    source = make_hsi(tmp_path / "a.hsi", counting((20, 4, 3), "u2"))
    made = code(source, tmp_path / "b.hsi")
    found = compare(source, made.path)
    assert found.differing == 0
    assert (found.total.max_error, found.total.rmse, found.total.psnr) == (0, 0, np.inf)
    assert str(found.total.max_error) == "0.0"
    assert (found.angle_mean, found.angle_max) == (0, 0)


def test_small_angles_are_not_lost_in_rounding(tmp_path):
    a = np.full((1, 1, 2), 1e6, "f8")
    b = a + np.array([0, 1e-3])
    found = compare(make_hsi(tmp_path / "a.hsi", a), make_hsi(tmp_path / "b.hsi", b))
    np.testing.assert_allclose(found.angle_max, 0.5e-9, rtol=1e-5)


def test_spectra_of_zeros_and_values_that_are_none_are_told_apart(tmp_path):
    a, b = np.ones((1, 5, 2), "f4"), np.ones((1, 5, 2), "f4")
    a[0, 0], b[0, 0] = 0, 0
    b[0, 1] = 0
    a[0, 2, 0] = b[0, 2, 0] = np.nan
    found = compare(make_hsi(tmp_path / "a.hsi", a), make_hsi(tmp_path / "b.hsi", b))
    assert found.differing == 2
    assert found.total.max_error == 1
    assert found.angle_max == np.pi / 2
    np.testing.assert_allclose(found.angle_mean, np.pi / 2 / 3)
    b[0, 3, 1] = np.nan
    found = compare(tmp_path / "a.hsi", make_hsi(tmp_path / "c.hsi", b))
    assert found.total.max_error == found.bands[1].rmse == np.inf
    assert found.total.psnr == -np.inf
    assert found.bands[0].max_error == 1


def test_a_constant_cube_has_no_range(tmp_path):
    a = np.full((2, 2, 1), 7, "u2")
    found = compare(make_hsi(tmp_path / "a.hsi", a), make_hsi(tmp_path / "b.hsi", a + 1))
    assert np.isnan(found.total.psnr)


def test_cubes_of_other_shapes_and_complex_ones_are_refused(tmp_path):
    a = make_hsi(tmp_path / "a.hsi", counting((4, 3, 2), "u2"))
    for shape, name in (((5, 3, 2), "lines"), ((4, 2, 2), "samples"), ((4, 3, 1), "bands")):
        b = make_hsi(tmp_path / "b.hsi", counting(shape, "u2"))
        with pytest.raises(ContainerError, match=f"{name}: found .*, allowed are .* as in .*a.hsi"):
            compare(a, b)
    c = make_hsi(tmp_path / "c.hsi", counting((4, 3, 2), "c8"))
    with pytest.raises(ContainerError, match="complex"):
        compare(a, c)
