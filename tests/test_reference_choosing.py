"""Choosing references: each mismatch in the words the user reads; nearest, aged, computed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from pipeline.config import ReferencesConfig
from pipeline.container.envi import write_envi
from pipeline.errors import ReferenceMismatchError
from pipeline.reference_choosing import Chosen, choose, own_black_for
from pipeline.reference_conditions import camera_conditions
from pipeline.reference_taking import Accumulator
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
    gain=0.0,
    binning=(2, 1),
    hroi=(11, 14),
    vroi=(1, 3),
    serial="A1",
    pixel_format="Mono12",
    temperature_c=30.0,
)
REFUSE, WARN = ReferencesConfig(), ReferencesConfig(on_mismatch="warn")


def write(folder: Path, name: str, counts: Any = 1000.0, **fields: Any) -> Path:
    """Write a reference that fits INFO but for the fields given; None leaves one out."""
    shape = fields.pop("shape", (1, 4, 3))
    hours = fields.pop("hours", 1.0)
    known = {
        "acquisition time": dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours),
        "exposure": 2.0,
        "gain": 0.0,
        "binning": [2, 1],
        "hroi": [11, 14],
        "vroi": [1, 3],
        "serial number": "A1",
        "pixel format": "Mono12",
        "saturation level": 4095,
        "temperature": 31.0,
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    known = {name: value for name, value in known.items() if value is not None}
    return write_envi(folder, name, np.broadcast_to(np.float32(counts), shape), known)


def chosen(
    kind: Any,
    where: Path | str,
    config: ReferencesConfig = REFUSE,
    said: list[str] | None = None,
    info: CameraInfo = INFO,
    **how: Any,
) -> Chosen:
    scan = camera_conditions(info, **how)
    return choose(kind, str(where), Path("/"), scan, config, [] if said is None else said)


MISMATCHES: dict[str, tuple[str, dict[str, Any], str]] = {
    "serial": ("white", {"serial_number": "B2"}, "serial number is B2, the camera's is A1"),
    "gain": ("white", {"gain": 6.0}, "gain is 6, the camera's is 0"),
    "format": ("white", {"pixel_format": "Mono8"}, "pixel format is Mono8, the camera's is Mono12"),
    "age": ("white", {"hours": 30.0}, r"it is 30.0 h older than the scan, max_age_h allows 24 h"),
    "days": ("white", {"hours": 240.0}, r"it is 10 days older than the scan, max_age_h allows 24"),
    "temperature": (
        "black",
        {"temperature": 38.0},
        "temperature is 38 °C, the camera's is 30 °C, max_temperature_c allows a difference of 5 °",
    ),
    "exposure": (
        "black",
        {"exposure": 5.0},
        r"exposure is 5 ms, the camera's is 2 ms, and a black is not scaled: take one at this "
        "exposure, or keep blacks of two exposures in a folder",
    ),
    "saturated": (
        "white",
        {"counts": 4095.0},
        r"100.0 % of its pixels are saturated \(allowed: 1 %\); shorten the exposure",
    ),
    "too dim": ("white", {"counts": 100.0}, r"too dim: its brightest pixels reach 2.4 % of the"),
    "lit": (
        "black",
        {"counts": np.array([100.0, 400.0, 900.0])},
        r"it is not dark: its bands differ by .* %\), so light leaks in",
    ),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_what_does_not_fit_is_refused_or_warned_about_as_the_rig_file_says(
    tmp_path: Path, name: str
) -> None:
    kind, fields, message = MISMATCHES[name]
    path = write(tmp_path, kind, **{"counts": 1000.0 if kind == "white" else 64.0, **fields})
    for where in (path, tmp_path):
        with pytest.raises(ReferenceMismatchError, match=message) as refused:
            chosen(kind, where)
        assert str(path) in str(refused.value)
        assert f"take one now (swath reference {kind})" in str(refused.value)
        said: list[str] = []
        made = chosen(kind, where, WARN, said)
        assert any(text.startswith(f"{kind} reference {path.name}: ") for text in said)
        assert made.reference.mean.shape == (3, 4)
        assert any(text.startswith("warned: ") for text in made.said)


GEOMETRY: dict[str, tuple[dict[str, Any], str]] = {
    "coarser": (
        {"binning": [4, 1]},
        r"binning is \[4, 1\], the camera's is \[2, 1\]; a finer one whose multiple this is can",
    ),
    "region": (
        {"hroi": [12, 15]},
        r"hroi is \[12, 15\], the camera's is \[11, 14\]: it does not show them all",
    ),
    "spectral region": (
        {"vroi": [2, 4]},
        r"vroi is \[2, 4\], the camera's is \[1, 3\]: it does not show them all",
    ),
    "size": (
        {"shape": (1, 5, 3), "hroi": None},
        r"has 3 bands × 5 samples, the camera delivers 3 × 4, and hroi does not say which",
    ),
    "a header that is wrong": (
        {"shape": (1, 5, 3)},
        "has 3 bands × 5 samples, the camera delivers 3 × 4",
    ),
    "mode not known": (
        {"binning": [1, 1], "vroi": [1, 6], "shape": (1, 4, 6)},
        r"whether the camera averages or adds is not known; say \[references\] binning_mode = ",
    ),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_other_pixels_are_refused_whatever_the_rig_file_says(tmp_path: Path, name: str) -> None:
    fields, message = GEOMETRY[name]
    path = write(tmp_path, "white", **fields)
    for where in (path, tmp_path):
        for config in (REFUSE, WARN):
            with pytest.raises(ReferenceMismatchError, match=message) as refused:
                chosen("white", where, config)
            assert "on_mismatch" not in str(refused.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ReferenceMismatchError,
        match=r"nowhere\.hdr.* does not exist; allowed are .*; `swath reference white RIG\.toml`",
    ):
        chosen("white", tmp_path / "nowhere.hdr")
    write(tmp_path, "white")
    with pytest.raises(
        ReferenceMismatchError,
        match=r"fits this camera: it holds no black; `swath reference black RIG\.toml` takes one",
    ):
        chosen("black", tmp_path)
    (tmp_path / "black.hdr").write_text("no header")
    with pytest.raises(ReferenceMismatchError, match=r"black: none of the files .*black\.hdr"):
        chosen("black", tmp_path)


def test_limits_of_age_and_temperature_can_be_lifted(tmp_path: Path) -> None:
    path = write(tmp_path, "white", hours=1000.0, temperature=60.0)
    assert chosen("white", path, ReferencesConfig(max_age_h=0, max_temperature_c=0))
    assert chosen("white", path, ReferencesConfig(max_age_h=1001, max_temperature_c=30))


def test_what_a_header_does_not_say_is_not_compared(tmp_path: Path) -> None:
    said: list[str] = []
    for kind in ("white", "black"):
        path = write_envi(tmp_path, kind, np.full((1, 4, 3), 7, np.float32))
        assert chosen(kind, path, said=said).said == [path.name]
    assert said == [
        "white reference white.hdr: its exposure is not known, that of the scan (2 ms) is taken "
        "for it"
    ]


def test_packed_counts_are_the_counts(tmp_path: Path) -> None:
    assert chosen("white", write(tmp_path, "white", pixel_format="Mono12p"))


def test_a_day_without_an_hour_expires_only_when_it_is_surely_over(tmp_path: Path) -> None:
    yesterday = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).date().isoformat()
    assert chosen("white", write(tmp_path, "white", acquisition_time=yesterday))
    path = write(tmp_path, "white-old", acquisition_time="2020-01-01")
    with pytest.raises(ReferenceMismatchError, match=r"it is \d+ days older"):
        chosen("white", path)


def test_from_a_folder_the_nearest_exposure_that_fits_is_chosen_then_the_newest(
    tmp_path: Path,
) -> None:
    write(tmp_path, "white-far", 1001.0, exposure=9.0)
    write(tmp_path, "white-near-old", 1002.0, exposure=2.2, hours=5.0)
    write(tmp_path, "white-near", 1003.0, exposure=2.2)
    write(tmp_path, "white-other", 1004.0, serial_number="B2")
    write(tmp_path, "white-expired", 1005.0, hours=25.0)
    write(tmp_path, "black", 64.0)
    write(tmp_path, "white_black", 65.0)
    found = chosen("white", tmp_path)
    assert found.reference.mean[0, 0] == 1003.0
    assert found.said[0] == "white-near.hdr"
    assert found.said[2] == "exposure 2.2 ms scaled to 2 ms"
    assert chosen("black", tmp_path).reference.mean[0, 0] == 64.0
    # with warnings allowed, one without any still goes first
    assert chosen("white", tmp_path, WARN).said[0] == "white-near.hdr"


def test_several_lines_are_averaged_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, "black", 7.0, shape=(3, 4, 3))
    said: list[str] = []
    assert np.all(chosen("black", path, said=said).reference.mean == 7.0)
    assert said == ["black reference black.hdr: its 3 lines are averaged"]


def test_a_reference_kept_is_the_reference_chosen(tmp_path: Path, rng: np.random.Generator) -> None:
    sums = Accumulator(3, 4, 4095)
    sums.add(rng.integers(1000, 1100, (20, 3, 4), np.uint16))
    made = sums.reference("white", INFO, dt.datetime.now(dt.UTC))
    for name, data in made.entries().items():
        (tmp_path / Path(name).name).write_bytes(data)
    said: list[str] = []
    again = chosen("white", tmp_path / "white.hdr", said=said).reference
    assert said == []
    assert np.array_equal(again.mean, made.mean)
    assert again.std is not None
    assert np.array_equal(again.std, made.std)  # type: ignore[arg-type]
    assert again.fields["lines averaged"] == made.fields["lines averaged"]


def test_a_whites_own_dark_lies_beside_it_and_has_to_fit_it(tmp_path: Path) -> None:
    path = write(tmp_path, "white", exposure=1.0)
    assert chosen("white", path).own_black is None
    write(tmp_path, "white_black", 64.0, exposure=1.0)
    found = chosen("white", path).own_black
    assert found is not None
    assert (found.kind, found.mean[0, 0]) == ("white_black", 64.0)
    write(tmp_path, "white_black", 64.0, exposure=3.0)
    with pytest.raises(
        ReferenceMismatchError,
        match=r"its own dark does not fit it: exposure is 3 ms, the white's is 1 ms",
    ):
        chosen("white", path)
    write(tmp_path, "white_black", 64.0, shape=(1, 5, 3))
    with pytest.raises(ReferenceMismatchError, match=r"white_black.hdr: has .* its white \(3, 4\)"):
        chosen("white", path)


def test_a_white_in_capitals_has_its_dark_and_deviation(tmp_path: Path) -> None:
    # as copied from a camera's own card
    path = write(tmp_path, "white", 1000.0)
    write(tmp_path, "white_std", 3.0)
    write(tmp_path, "white_black", 64.0)
    for file in [*tmp_path.iterdir()]:
        file.rename(tmp_path / file.name.upper())
    found = chosen("white", path.with_name("WHITE.HDR"))
    assert found.own_black is not None
    assert found.own_black.mean[0, 0] == 64.0
    assert found.reference.std is not None
    assert found.reference.std[0, 0] == 3.0


def test_a_white_without_a_dark_gets_one_from_the_folder_of_blacks(tmp_path: Path) -> None:
    scan = camera_conditions(INFO)
    white = chosen("white", write(tmp_path, "white", exposure=1.0))
    assert own_black_for(white, tmp_path, scan, REFUSE) is None
    write(tmp_path, "black-2", 64.0, exposure=2.0)
    assert own_black_for(white, tmp_path, scan, REFUSE) is None
    write(tmp_path, "black-0.5", 61.0, exposure=0.5)
    computed = own_black_for(white, tmp_path, scan, REFUSE)
    assert computed is not None
    assert np.allclose(computed.reference.mean, 62.0)
    write(tmp_path, "black-1", 62.5, exposure=1.0)
    taken = own_black_for(white, tmp_path, scan, REFUSE)
    assert taken is not None
    assert taken.said[0] == "black-1.hdr"
    assert (taken.reference.kind, taken.reference.mean[0, 0]) == ("white_black", 62.5)


def test_a_black_between_two_exposures_is_computed_and_said(tmp_path: Path) -> None:
    write(tmp_path, "black-1", 61.0, exposure=1.0)
    write(tmp_path, "black-4", 64.0, exposure=4.0)
    write(tmp_path, "black-other", 900.0, exposure=3.0, gain=6.0)
    said: list[str] = []
    found = chosen("black", tmp_path, said=said)
    assert np.allclose(found.reference.mean, 62.0)
    assert found.reference.exposure == 2.0
    assert found.said == ["computed for 2 ms from 2 blacks of 1 to 4 ms"]
    assert said == []
    outside = msgspec.structs.replace(INFO, exposure_ms=8.0)
    assert np.allclose(chosen("black", tmp_path, said=said, info=outside).reference.mean, 68.0)
    assert any("which do not enclose it" in text for text in said)
    write(tmp_path, "black-2", 99.0, exposure=2.0)
    assert chosen("black", tmp_path).said[0] == "black-2.hdr"


def test_a_larger_region_is_cropped_and_a_finer_binning_binned(tmp_path: Path) -> None:
    fine = np.arange(8 * 20, dtype=np.float64).reshape(8, 20) + 1000  # bands × samples
    place = {"binning": [1, 1], "vroi": [1, 8], "hroi": [5, 24], "shape": (1, 20, 8)}
    path = write(tmp_path, "white", fine.T, **place, white_reflectance=list(np.linspace(0.9, 1, 8)))
    write(tmp_path, "white_std", np.full((20, 8), 3.0), **place)
    write(tmp_path, "white_black", 64.0, **place)
    cut = fine[:6, 6:10]  # bands 1 to 6 unbinned, samples 11 to 14
    for mode, factor in (("mean", 0.5), ("sum", 1.0), ("charge", 1.0)):
        found = chosen("white", path, mode=mode)
        assert np.allclose(found.reference.mean, (cut[::2] + cut[1::2]) * factor)
        assert found.own_black is not None
        assert np.allclose(found.own_black.mean, 128.0 * factor)
        assert found.reference.std is not None
        assert np.allclose(found.reference.std, 3.0 * np.sqrt(2) * factor)
        panel = np.linspace(0.9, 1, 8)[:6]
        expected = (panel[::2] + panel[1::2]) / 2
        assert np.allclose(found.reference.fields["white reflectance"], expected)
        assert found.said[2:] == [
            "spectral binning 1 made 2",
            "vroi 1 to 8 cropped to 1 to 3",
            "hroi 5 to 24 cropped to 11 to 14",
        ]


def test_a_finer_black_is_binned_only_where_its_offset_is_known(tmp_path: Path) -> None:
    place = {"binning": [1, 1], "vroi": [1, 6], "shape": (1, 4, 6)}
    path = write(tmp_path, "black", 64.0, **place)
    assert np.all(chosen("black", path, mode="mean").reference.mean == 64.0)
    assert np.all(chosen("black", path, mode="sum").reference.mean == 128.0)
    with pytest.raises(ReferenceMismatchError, match=r"adds charges .* take a black at the cam"):
        chosen("black", path, mode="charge")
    unsure = msgspec.structs.replace(INFO, features={"BinningVerticalMode": "Sum"})
    with pytest.raises(ReferenceMismatchError, match=r'binning_mode = "sum" or "charge"'):
        chosen("black", path, info=unsure)
    average = msgspec.structs.replace(INFO, features={"BinningVerticalMode": "Average"})
    assert np.all(chosen("black", path, info=average).reference.mean == 64.0)
    white = write(tmp_path, "white", 1000.0, **place)
    with pytest.raises(ReferenceMismatchError, match=r"no dark of its own that could be binned"):
        chosen("white", white, info=unsure)


def test_a_reference_that_was_taken_turned_round_is_turned_back(tmp_path: Path) -> None:
    counts = np.arange(12.0).reshape(4, 3) + 1000
    path = write(tmp_path, "white", counts, flip=["spatial"])
    found = chosen("white", path)
    assert np.array_equal(found.reference.mean, counts[::-1].T)
    assert found.said[-1] == "turned round along the spatial axis"
    assert "flip" not in found.reference.fields
    same = chosen("white", path, flip=["spatial"])
    assert np.array_equal(same.reference.mean, counts.T)
    # a region is one of the sensor, whichever way its picture was turned
    wide = write(
        tmp_path,
        "white-wide",
        np.arange(24.0).reshape(8, 3) + 1000,
        hroi=[11, 18],
        shape=(1, 8, 3),
        flip=["spatial"],
    )
    assert chosen("white", wide).reference.mean[0].tolist() == [1021.0, 1018.0, 1015.0, 1012.0]


COMMENTS = [
    "AOI height = 6",
    "AOI left = 10",
    "AOI top = 0",
    "AOI width = 4",
    "Row binning = 2",
    "Col binning = 1",
    "Serial Number = uVS-251",
]


def test_a_replayed_scan_is_compared_by_its_comment_lines_and_its_own_time(
    tmp_path: Path,
) -> None:
    replay = msgspec.structs.replace(
        INFO,
        driver="replay",
        serial="",
        binning=(1, 1),  # what a replay takes where the header does not say
        hroi=None,
        vroi=None,
        comments=COMMENTS,
        header=[("acquisition time", "2020-01-01T12:00:00Z")],
    )
    path = write(
        tmp_path, "white", serial_number="uVS-251", acquisition_time="2020-01-01T10:00:00Z"
    )
    assert chosen("white", path, info=replay).said == ["white.hdr", "2.0 h apart from the scan"]
    other = write(tmp_path, "white-2", serial_number="uVS-252", acquisition_time=None)
    with pytest.raises(ReferenceMismatchError, match=r"serial number is uVS-252, .* is uVS-251"):
        chosen("white", other, info=replay)
    moved = write(tmp_path, "white-3", serial_number=None, hroi=[12, 15], acquisition_time=None)
    with pytest.raises(ReferenceMismatchError, match=r"hroi is \[12, 15\], the camera's is \[11, "):
        chosen("white", moved, info=replay)
    coarse = write(tmp_path, "white-4", serial_number=None, binning=[4, 1], acquisition_time=None)
    with pytest.raises(ReferenceMismatchError, match=r"binning is \[4, 1\], the camera's is \[2, "):
        chosen("white", coarse, info=replay)


def test_a_reference_is_compared_by_its_comment_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "white", binning=None, hroi=None, vroi=None, serial_number=None)
    path.write_text(path.read_text() + "".join(f";{line}\n" for line in COMMENTS))
    with pytest.raises(ReferenceMismatchError, match=r"serial number is uVS-251, the camera's is"):
        chosen("white", path)
    named = msgspec.structs.replace(INFO, serial="uVS-251")
    assert chosen("white", path, info=named)
    moved = msgspec.structs.replace(named, hroi=(12, 15))
    with pytest.raises(ReferenceMismatchError, match=r"hroi is \[11, 14\], the camera's is \[12, "):
        chosen("white", path, info=moved)


@pytest.mark.parametrize("exposure", [-2.0, 0.0, float("nan"), float("inf")])
def test_an_exposure_that_is_none_costs_that_reference_alone(
    tmp_path: Path, exposure: float
) -> None:
    """Nothing can be scaled by it, whatever the rig file says; another file still serves."""
    scan = camera_conditions(INFO)
    bad = write(tmp_path, "white1", exposure=exposure)
    for config in (REFUSE, WARN):
        for where in (bad.name, "."):
            with pytest.raises(ReferenceMismatchError, match="ms, allowed is a number above 0"):
                choose("white", where, tmp_path, scan, config, [])
    write(tmp_path, "white2")
    assert choose("white", ".", tmp_path, scan, WARN, []).said[0] == "white2.hdr"


@pytest.mark.parametrize("exposure", [-1.0, float("nan"), float("inf")])
def test_a_black_whose_exposure_is_none_is_not_fitted(tmp_path: Path, exposure: float) -> None:
    for name, value in (("black1", exposure), ("black2", 1.0), ("black4", 4.0)):
        counts = 60.0 + (value if name != "black1" else 0.0)
        write(tmp_path, name, counts, exposure=value)
    found = choose("black", ".", tmp_path, camera_conditions(INFO), REFUSE, [])
    assert found.said == ["computed for 2 ms from 2 blacks of 1 to 4 ms"]
    assert found.reference.mean == pytest.approx(np.full((3, 4), 62.0))


def test_a_bias_frame_is_farther_than_any_exposure(tmp_path: Path) -> None:
    write(tmp_path, "black0", 60.0, exposure=0.0, hours=0.1)
    write(tmp_path, "black3", 60.0, exposure=2.1)
    # A gain that differs keeps both from being fitted.
    scan = camera_conditions(msgspec.structs.replace(INFO, gain=6.0))
    assert choose("black", ".", tmp_path, scan, WARN, []).said[0] == "black3.hdr"


def test_a_reference_without_a_number_is_refused_without_a_warning_of_numpy(
    tmp_path: Path,
) -> None:
    scan = camera_conditions(INFO)
    kinds: tuple[Literal["white", "black"], ...] = ("white", "black")
    for kind in kinds:
        write(tmp_path, kind, np.nan)
        with pytest.raises(ReferenceMismatchError, match="hold no number"):
            choose(kind, ".", tmp_path, scan, REFUSE, [])
