"""Read procedures: each against NumPy, in the written order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_containers import counting, make_hsi

import swath
from pipeline.container import microservices
from pipeline.container.cube import Array, Box, Cube
from pipeline.container.procedures import parse_procedures
from pipeline.container.reader import Container
from pipeline.errors import ContainerError, ReferenceMismatchError, SwathError

SHAPE = (6, 5, 4)
WAVES = [400.0, 500.0, 600.0, 700.0]


def opened(tmp_path: Path, procedures: list[str], array: Array | None = None, **more) -> Container:
    fields = {"wavelength": WAVES, "wavelength units": "nm", "read procedures": procedures}
    pixels = counting(SHAPE, "u2") if array is None else array
    return swath.open(make_hsi(tmp_path / "a.hsi", pixels, fields | more.pop("fields", {}), **more))


@pytest.mark.parametrize(
    ("procedure", "expected"),
    [
        ("crop:{1:3, 0:4, 2:2}", lambda a: a[0:5, 1:4, 2:3]),
        ("rotate:clockwise", lambda a: np.rot90(a, -1)),
        ("rotate:counterclockwise", lambda a: np.rot90(a)),
        ("rotate:180", lambda a: a[::-1, ::-1]),
        ("rotate:swap-left-right", lambda a: a[:, ::-1]),
        ("rotate:swap-up-down", lambda a: a[::-1]),
        ("resample:{5, 3, 4}", lambda a: a.reshape(3, 2, 5, 4).mean(1)),
        ("resample:{5, 6, 2}", lambda a: a.reshape(6, 5, 2, 2).mean(3)),
    ],
)
def test_each_procedure_is_that_of_numpy(tmp_path: Path, procedure: str, expected) -> None:
    array = counting(SHAPE, "u2")
    cube = opened(tmp_path, [procedure])
    want = expected(array)
    got = cube.read()
    assert cube.shape == got.shape == want.shape
    np.testing.assert_allclose(got, want)
    # Any part of it equals that part of the whole, computed on its own.
    np.testing.assert_array_equal(cube.read([2, 0], slice(1, 3), -1), got[[2, 0], 1:3, -1])
    np.testing.assert_array_equal(np.concatenate(list(cube.blocks(2))), got)


def test_clockwise_moves_the_first_line_to_the_right(tmp_path: Path) -> None:
    array = counting(SHAPE, "u2")
    got = opened(tmp_path, ["rotate:clockwise"]).read()
    np.testing.assert_array_equal(got[:, -1], array[0])


def test_resampling_follows_wavelengths_and_fwhm(tmp_path: Path) -> None:
    cube = opened(tmp_path, ["resample:{5, 6, 2}"], fields={"fwhm": [4, 6, 8, 10]})
    assert cube.wavelengths is not None
    assert cube.fwhm is not None
    assert cube.wavelengths.tolist() == [450, 650]
    assert cube.fwhm.tolist() == [5, 9]
    cube = opened(tmp_path, ["resample:{5, 6, 8}"])
    assert cube.wavelengths is not None
    np.testing.assert_allclose(
        cube.wavelengths, [400, 425, 475, 525, 575, 625, 675, 700], rtol=1e-12
    )


def test_resampling_by_a_fraction_keeps_the_mean_and_a_ramp(tmp_path: Path) -> None:
    array = counting(SHAPE, "u2")
    got = opened(tmp_path, ["resample:{5, 4, 4}"]).read()
    np.testing.assert_allclose(got.mean(0), array.mean(0), rtol=1e-5)
    np.testing.assert_allclose(got[0, 0, 0], (array[0, 0, 0] * 2 + array[1, 0, 0]) / 3, rtol=1e-5)
    ramp = np.arange(6, dtype="f4")[:, None, None] * np.ones(SHAPE, "f4")
    up = opened(tmp_path, ["resample:{5, 12, 4}"], ramp).read()[:, 0, 0]
    np.testing.assert_allclose(up[1:-1], np.arange(0.25, 4.8, 0.5), rtol=1e-6)


def test_resampling_passes_over_invalid_pixels(tmp_path: Path) -> None:
    array = np.ones(SHAPE, "f4")
    array[0, 0, 0] = np.nan
    array[2:4, 1, 1] = np.nan
    got = opened(tmp_path, ["resample:{5, 3, 4}"], array).read()
    assert got[0, 0, 0] == 1
    assert np.isnan(got[1, 1, 1])
    assert np.isnan(got).sum() == 1


def test_procedures_apply_in_the_written_order(tmp_path: Path) -> None:
    array = counting(SHAPE, "u2")
    steps = ["crop:{0:2, 0:5, 0:3}", "rotate:clockwise", "rotate:swap-left-right"]
    got = opened(tmp_path, steps).read()
    np.testing.assert_array_equal(got, np.rot90(array[:, :3], -1)[:, ::-1])
    got = opened(tmp_path, ["rotate:clockwise", "crop:{0:2, 0:4, 0:3}"]).read()
    np.testing.assert_array_equal(got, np.rot90(array, -1)[:, :3])


def test_merge_puts_other_files_beside_and_below(tmp_path: Path) -> None:
    array = counting(SHAPE, "i2")
    (tmp_path / "more").mkdir()
    make_hsi(tmp_path / "more" / "b.hsi", array[:2] + 1000)
    steps = ["merge:{more/b.hsi:3:-1, more/b.hsi:0:6}"]
    cube = opened(tmp_path, steps, array, fields={"data ignore value": -9})
    got = cube.read()
    want = np.full((9, 8, 4), -9, "i2")
    want[7:9, 0:5] = array[:2] + 1000
    want[0:2, 3:8] = array[:2] + 1000
    want[1:7, 0:5] = array
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(cube.read(slice(6, 9), slice(4, 7), 1), want[6:9, 4:7, 1])
    without = opened(tmp_path, steps, array).read()
    assert np.isnan(without[8, 7, 0])
    assert without[1, 0, 0] == array[0, 0, 0]


@pytest.mark.parametrize(
    "name", ["../b.hsi", "/etc/passwd", "more/../../b.hsi", "..\\b.hsi", "none.hsi", "a.hsi"]
)
def test_merge_stays_inside_the_folder(tmp_path: Path, name: str) -> None:
    make_hsi(tmp_path / "b.hsi", counting(SHAPE, "u2"))
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(ContainerError):
        opened(folder, [f"merge:{{{name}:0:0}}"]).read()


@pytest.mark.parametrize(
    "procedure",
    [
        "crop:{0:5, 0:5, 0:3}",
        "crop:{3:1, 0:5, 0:3}",
        "crop:{-1:1, 0:5, 0:3}",
        "crop:{0:1, 0:5}",
        "rotate:90",
        "resample:{0, 1, 1}",
        "resample:{1.5, 1, 1}",
        "resample:{1, 99999999999, 1}",
        "merge:{b}",
        "merge:{}",
        "explode",
        "microservice:rm -rf",
        "microservice:os.system",
        "crop:{0:99999999999999999999, 0:1, 0:1}",
    ],
)
def test_procedures_that_do_not_fit_are_refused_and_raw_stays(
    tmp_path: Path, procedure: str
) -> None:
    cube = opened(tmp_path, [procedure])
    with pytest.raises(ContainerError, match="read procedures"):
        cube.read()
    assert cube.raw.shape == SHAPE
    np.testing.assert_array_equal(cube.read(procedures=False), counting(SHAPE, "u2"))


@given(st.lists(st.text(st.sampled_from("croptaeslmgi:{}0123,- .x"), max_size=30), max_size=3))
def test_any_text_is_parsed_or_our_own_error(items: list[str]) -> None:
    try:
        parse_procedures(items)
    except SwathError:
        pass


def test_a_merge_too_far_away_is_refused(tmp_path: Path) -> None:
    make_hsi(tmp_path / "b.hsi", counting(SHAPE, "u2"))
    with pytest.raises(ContainerError, match="merge"):
        opened(tmp_path, ["merge:{b.hsi:0:999999999999}"]).read()


def test_what_does_not_fit_into_memory_is_our_own_error(tmp_path: Path) -> None:
    cube = opened(tmp_path, ["resample:{16000000, 16000000, 16000000}"])
    with pytest.raises(ContainerError, match="memory"):
        cube.read()
    assert cube.read(0, 0, 0) == 0


# -- microservices ---------------------------------------------------------------------------


def double(cube: Cube, source: microservices.Source) -> Cube:
    def twice(pixels: Array, box: Box) -> Array:
        return pixels * 2

    return cube.map(twice, name="double", dtype=cube.dtype)


def broken(cube: Cube, source: microservices.Source) -> Cube:
    raise ZeroDivisionError("on purpose")


class Point:
    def __init__(self, function) -> None:
        self.load = lambda: function


def test_microservices_come_from_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"double": Point(double), "broken": Point(broken), "odd": Point(lambda c, s: 3)}
    monkeypatch.setattr(microservices, "_installed", lambda: points)
    array = counting(SHAPE, "u2")
    np.testing.assert_array_equal(opened(tmp_path, ["microservice:double"]).read(), array * 2)
    with pytest.raises(ContainerError, match="on purpose"):
        opened(tmp_path, ["microservice:broken"]).read()
    with pytest.raises(ContainerError, match="allowed is a Cube"):
        opened(tmp_path, ["microservice:odd"]).read()
    with pytest.raises(ContainerError, match="registered are broken, double, odd, pca"):
        opened(tmp_path, ["microservice:unknown"]).read()


def test_the_installed_package_registers_its_own() -> None:
    microservices._installed.cache_clear()
    assert {"reflectance", "pca"} <= set(microservices._installed())


def truth(array, black, white, white_black, panel, ratio) -> np.ndarray:
    """Compute the formula of decisions.md in float64, axes (lines, samples, bands)."""
    raw = np.asarray(array, "f8")
    panel = np.broadcast_to(np.asarray(panel, "f8"), raw.shape[2])
    signal = (white - white_black) * ratio
    return panel * (raw - black.T) / np.where(signal > 0, signal, np.nan).T


@pytest.fixture
def references(rng: np.random.Generator):
    black = rng.uniform(90, 110, (4, 5)).astype("f4")
    white = rng.uniform(2000, 3000, (4, 5)).astype("f4")
    own = rng.uniform(80, 90, (4, 5)).astype("f4")
    return black, white, own


def test_reflectance_is_the_formula_with_panel_exposure_and_own_dark(
    tmp_path: Path, rng: np.random.Generator, references
) -> None:
    black, white, own = references
    white[1, 2] = 10  # below its dark: invalid
    array = rng.integers(100, 3000, SHAPE).astype("u2")
    array[4] = 65535  # a lost line
    panel = [0.5, 0.6, 0.7, 0.99]
    cube = opened(
        tmp_path,
        ["microservice:reflectance"],
        array,
        fields={"exposure": 3.0, "data ignore value": 65535},
        references={
            "black": (black, {}),
            "white": (white, {"exposure": 2.0, "white reflectance": panel}),
            "white_black": (own, {}),
        },
    )
    got = cube.read()
    want = truth(array, black, white, own, panel, 1.5)
    want[4] = np.nan
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    assert np.isnan(got[:, 2, 1]).all()
    np.testing.assert_array_equal(cube.read(slice(1, 3), [4, 0], 2), got[1:3, [4, 0], 2])
    gain = cube.correction().gain
    assert gain.shape == (4, 5)


def test_lost_lines_are_invalid_by_the_ledger_alone(tmp_path: Path, references) -> None:
    from pipeline.container.ledger import encode_csv
    from pipeline.layout import ledger_rows

    black, white, _ = references
    rows = ledger_rows(6)
    rows["line"] = range(6)
    rows["status"][3] = 1
    cube = opened(
        tmp_path,
        ["microservice:reflectance", "rotate:swap-up-down"],
        fields={"lines lost": 1},
        references={"black": (black, {}), "white": (white, {})},
        entries={"Metadata/lines.csv": encode_csv(rows)},
    )
    assert np.isnan(cube.read()).all((1, 2)).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("timed", [True, False])
def test_references_are_interpolated_in_time(
    tmp_path: Path, rng: np.random.Generator, references, timed: bool
) -> None:
    from pipeline.container.ledger import encode_csv
    from pipeline.layout import ledger_rows

    black, white, _ = references
    later_black, later_white = black + 20, white * 0.8
    array = rng.integers(200, 3000, SHAPE).astype("u2")
    begin = 1_767_225_600  # 2026-01-01T00:00:00Z
    rows = ledger_rows(6)
    rows["line"] = range(6)
    rows["host_time_ns"] = (begin + np.array([1, 2, 3, 4, 8, 12])) * 10**9
    stamps = [{"acquisition time": f"2026-01-01T00:00:{s:02}Z"} if timed else {} for s in (0, 10)]
    cube = opened(
        tmp_path,
        ["microservice:reflectance"],
        array,
        references={
            "black": (black, stamps[0]),
            "white": (white, stamps[0]),
            "black_after": (later_black, stamps[1]),
            "white_after": (later_white, stamps[1]),
        },
        entries={"Metadata/lines.csv": encode_csv(rows)},
    )
    shares = [0.1, 0.2, 0.3, 0.4, 0.8, 1.0] if timed else np.linspace(0, 1, 6)
    got = cube.read()
    for line, share in enumerate(shares):
        b = (1 - share) * black.astype("f8") + share * later_black
        w = (1 - share) * white.astype("f8") + share * later_white
        want = truth(array[line : line + 1], b, w, b, 1, 1)
        np.testing.assert_allclose(got[line : line + 1], want, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(cube.read(4, bands=[1]), got[4][:, [1]])


def test_a_snapshot_reference_is_taken_line_by_line(
    tmp_path: Path, rng: np.random.Generator, references
) -> None:
    black, _, _ = references
    whites = rng.uniform(2000, 3000, (6, 4, 5)).astype("f4")
    array = counting(SHAPE, "u2")
    cube = opened(
        tmp_path,
        ["microservice:reflectance"],
        array,
        references={"black": (black, {}), "white": (whites, {"reference": "snapshot"})},
    )
    got = cube.read()
    for line in range(6):
        want = truth(array[line : line + 1], black, whites[line], black, 1, 1)
        np.testing.assert_allclose(got[line : line + 1], want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "steps",
    [
        ["crop:{1:3, 0:4, 2:3}"],
        ["rotate:swap-left-right"],
        ["rotate:180", "crop:{0:2, 1:4, 1:2}"],
        ["rotate:swap-up-down"],
    ],
)
def test_references_go_along_with_what_comes_before(
    tmp_path: Path, references, steps: list[str]
) -> None:
    black, white, _ = references
    made = {"black": (black, {}), "white": (white, {})}
    before = opened(tmp_path, [*steps, "microservice:reflectance"], references=made).read()
    after = opened(tmp_path, ["microservice:reflectance", *steps], references=made).read()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("step", ["resample:{5, 3, 4}", "rotate:clockwise", "merge:{b.hsi:0:6}"])
def test_what_parts_pixels_from_their_references_is_refused_before_reflectance(
    tmp_path: Path, references, step: str
) -> None:
    black, white, _ = references
    make_hsi(tmp_path / "b.hsi", counting(SHAPE, "u2"))
    made = {"black": (black, {}), "white": (white, {})}
    cube = opened(tmp_path, [step, "microservice:reflectance"], references=made)
    with pytest.raises(ContainerError, match="before microservice:reflectance"):
        cube.read()
    opened(tmp_path, ["microservice:reflectance", step], references=made).read()


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ({}, "white"),
        ({"white": (np.ones((4, 5)), {})}, "black"),
        ({"white": (np.ones((4, 5)), {}), "black": (np.ones((4, 1)), {})}, "the cube has"),
        (
            {
                "white": (np.ones((4, 5)), {"white reflectance": [1, 2]}),
                "black": (np.ones((4, 5)), {}),
            },
            "white reflectance",
        ),
        (
            {"white": (np.ones((4, 5)), {"white reflectance": -1}), "black": (np.ones((4, 5)), {})},
            "white reflectance",
        ),
    ],
)
def test_references_that_do_not_fit_are_refused(tmp_path: Path, made, what: str) -> None:
    cube = opened(tmp_path, ["microservice:reflectance"], references=made)
    with pytest.raises(ReferenceMismatchError, match=what):
        cube.read()


def pca_container(tmp_path: Path, rng: np.random.Generator, procedures: list[str], **more):
    lines, samples, bands, components, group = 10, 5, 4, 2, 4
    basis = rng.normal(size=(3, bands, components)).astype("f4")
    mean = rng.uniform(500, 900, (3, bands, 1)).astype("f4")
    scores = rng.integers(-500, 500, (lines, samples, components)).astype("i2")
    want = np.empty((lines, samples, bands))
    for line in range(lines):
        g = line // group
        want[line] = (scores[line] * 0.25) @ basis[g].astype("f8").T + mean[g, :, 0]
    fields = {
        "file type": "PCA", "pca version": 1, "pca coding": "int16", "pca block lines": group,
        "pca step": 0.25, "pca bands": bands, "pca data type": 12, "pca wavelength": WAVES,
        "pca fwhm": [5, 5, 5, 5], "wavelength": [1, 2], "wavelength units": "Index",
        "band names": ["PC 1", "PC 2"], "read procedures": procedures,
    }  # fmt: skip
    made = {
        "pca_basis": (basis.transpose(0, 2, 1), {}),
        "pca_mean": (mean.transpose(0, 2, 1), {}),
        **more.pop("references", {}),
    }
    path = make_hsi(tmp_path / "p.hsi", scores, fields | more, references=made)
    return path, want, scores


def test_pca_decodes_by_groups_of_lines(tmp_path: Path, rng: np.random.Generator) -> None:
    path, want, scores = pca_container(tmp_path, rng, ["microservice:pca"])
    cube = swath.open(path)
    assert cube.shape == (10, 5, 4)
    np.testing.assert_array_equal(cube.raw, scores)
    got = cube.read()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5)
    np.testing.assert_allclose(
        cube.read(slice(3, 9), 2, [3, 1]), want[3:9, 2][:, [3, 1]], rtol=1e-5
    )
    assert cube.wavelengths is not None
    assert cube.wavelengths.tolist() == WAVES
    assert set(cube.references) == set()


def test_pca_goes_on_to_reflectance(tmp_path: Path, rng: np.random.Generator, references) -> None:
    black, white, own = references
    path, want, _ = pca_container(
        tmp_path,
        rng,
        ["microservice:pca", "microservice:reflectance"],
        references={"black": (black, {}), "white": (white, {}), "white_black": (own, {})},
    )
    got = swath.open(path).read()
    np.testing.assert_allclose(got, truth(want, black, white, own, 1, 1), rtol=1e-4, atol=1e-5)


def test_pca_of_another_version_or_place_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    for procedures, more, what in (
        (["microservice:pca"], {"pca version": 2}, "version 2"),
        (["microservice:pca"], {"pca bands": 7}, "pca_basis"),
        (["microservice:pca"], {"pca block lines": 0}, "pca block lines"),
        (["rotate:180", "microservice:pca"], {}, "must be the first"),
    ):
        path, _, _ = pca_container(tmp_path, rng, procedures, **more)
        with pytest.raises(ContainerError, match=what):
            swath.open(path).read()
