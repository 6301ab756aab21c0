"""Taking references with a rig: what is refused leaves nothing, and hands are asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rigs import SIMULATED, capture, write_rig

import pipeline.reference_run
import swath
from pipeline.container.envi import open_envi, write_envi
from pipeline.errors import (
    CameraError,
    ConfigError,
    HeaderError,
    ReferenceMismatchError,
    StorageError,
)
from pipeline.events import Event, EventBus, Warned
from pipeline.layout import LineStatus, LossReason
from pipeline.reference_run import conditions_of, take_reference
from pipeline.rigfile import load_rig
from pipeline.session import Session
from pipeline.stream.link import Block
from pipeline.stream.messages import CameraInfo


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    return write_rig(tmp_path, SIMULATED.replace('"take"', '"library"'))


def take(rig: Path, kind: Any, *overrides: str, **how: Any) -> tuple[Path, list[str]]:
    """Take a reference as the command does; gives its header and what was warned."""
    events: list[Event] = []
    bus = EventBus()
    bus.subscribe(events.append)
    made = take_reference(
        load_rig(rig, overrides), kind, rig_path=rig, overrides=overrides, bus=bus, **how
    )
    return made, [e.text for e in events if isinstance(e, Warned)]


def test_a_white_says_all_that_makes_it_comparable_and_brings_its_dark(rig: Path) -> None:
    made, said = take(rig, "white", "references.panel_name=SRT-99", 'camera.flip=["spatial"]')
    assert said == []
    header = open_envi(made).header
    assert header["serial number"] == "SIM000001"
    assert (header["hroi"], header["vroi"], header["binning"]) == ([1, 48], [1, 20], [1, 1])
    assert (header["exposure"], header["gain"], header["pixel format"]) == (2.0, 0.0, "Mono12")
    assert (header["flip"], header["panel name"]) == (["spatial"], "SRT-99")
    assert header["white reflectance"] == [0.95]
    assert header["lines averaged"] + header["lines rejected"] == 20
    assert header["saturation level"] == 4095
    assert abs(header["temperature"] - 31) < 0.1
    assert header.time() is not None
    names = {path.name.replace(made.stem, "") for path in made.parent.iterdir()}
    assert names == {
        *(".hdr", ".envi", "_std.hdr", "_std.envi", "_black.hdr", "_black.envi"),
        *("_black_std.hdr", "_black_std.envi"),
    }


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("white", ["camera.exposure_ms=8.0", "camera.fps=100"], "pixels are saturated .*; shorten"),
        ("white", ["camera.exposure_ms=0.2"], "too dim: .* lengthen the exposure"),
    ],
)
def test_what_is_no_white_leaves_nothing(
    rig: Path, kind: str, settings: list[str], message: str
) -> None:
    with pytest.raises(ReferenceMismatchError, match=message):
        take(rig, kind, *settings)
    assert not (rig.parent / "library").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_camera_is_used(
    rig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = rig.parent / "library"
    library.write_text("a file")
    monkeypatch.setattr(Session, "open", lambda self: pytest.fail("the camera was used"))
    with pytest.raises(ConfigError, match=r"library.below cannot be made: .*library is no folder"):
        take(rig, "white", f"references.white={library / 'below'}")


def test_what_is_no_white_is_kept_with_a_warning_where_the_rig_file_says_so(rig: Path) -> None:
    made, said = take(rig, "white", "camera.exposure_ms=0.2", "references.on_mismatch=warn")
    assert made.exists()
    assert len(said) == 1
    assert said[0].startswith("white reference: too dim: its brightest pixels reach ")


class Bare(Session):
    """A session with a rig whose camera has neither shutter nor panel; a test is its hands."""

    last: Session | None = None

    def arm(self) -> CameraInfo:
        Bare.last = self
        return msgspec.structs.replace(super().arm(), has_shutter=False, has_panel=False)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.reference_run, "Session", Bare)


def hands(text: str) -> bool:
    """Do what is asked, as somebody at the rig would."""
    assert Bare.last is not None
    if "panel" in text:
        Bare.last.command("panel", in_view=True)
    elif "lens" in text:
        Bare.last.command("shutter", closed=True)
    return True


@pytest.mark.usefixtures("bare")
def test_without_shutter_and_panel_hands_are_asked_for(rig: Path) -> None:
    asked = []

    def ask(text: str) -> bool:
        asked.append(text)
        return hands(text)

    made, said = take(rig, "white", ask=ask)
    assert asked == [
        "this rig moves no panel: lay the panel under the camera",
        "this camera has no shutter: cover the lens, for the dark that belongs to this white",
    ]
    assert said == []
    white = np.asarray(open_envi(made).raw)
    dark = np.asarray(open_envi(made.with_name(made.stem + "_black.hdr")).raw)
    assert np.median(white) > 500
    assert np.median(dark) < 70


@pytest.mark.usefixtures("bare")
def test_a_black_with_the_lens_open_is_refused(rig: Path) -> None:
    with pytest.raises(
        ReferenceMismatchError,
        match=r"black reference: it is not dark: its bands differ by .*close the shutter or cover",
    ):
        take(rig, "black")
    with pytest.raises(ConfigError, match=r"has no shutter: cover the lens, then take"):
        take(rig, "black", ask=lambda text: False)
    assert not (rig.parent / "library").exists()


def test_lines_of_which_none_is_whole_are_a_failure_of_the_camera(
    rig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = Session.series

    def broken(self: Session, kind: Any, **how: Any) -> Iterator[Block | None]:
        for block in series(self, kind, **how):
            if block is not None:
                block.rows["status"], block.rows["reason"] = LineStatus.LOST, LossReason.INCOMPLETE
                block.rows["reason"][block.rows["line"] == 0] = LossReason.NO_ROOM
            yield block

    monkeypatch.setattr(Session, "series", broken)
    with pytest.raises(
        CameraError,
        match=r"white reference: none of 20 lines arrived whole \(1 no room, 19 incomplete\)",
    ) as failed:
        take(rig, "white")
    assert failed.value.exit_status == 1
    assert not (rig.parent / "library").exists()


@pytest.mark.usefixtures("bare")
def test_where_nobody_can_be_asked_it_is_said(rig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = Bare.arm

    def covered(self: Bare) -> CameraInfo:
        info = arm(self)
        self.command("panel", in_view=True)
        return info

    monkeypatch.setattr(Bare, "arm", covered)
    made, said = take(rig, "white")
    assert said == [
        "this rig moves no panel: it is taken that you did lay the panel under the camera",
        "this camera has no shutter: the white has no dark of its own; cover the lens and run "
        "swath reference black with the same exposure",
    ]
    assert not made.with_name(made.stem + "_black.hdr").exists()


def keep(rig: Path, name: str, counts: float, **fields: Any) -> None:
    """Put a reference of the simulated camera into the library."""
    known = {
        "exposure": 2.0,
        "gain": 0.0,
        "binning": [1, 1],
        "hroi": [1, 48],
        "vroi": [1, 20],
        "serial number": "SIM000001",
        **fields,
    }
    array = counts + np.arange(48.0)[None, :, None] * np.ones((1, 1, 20))
    write_envi(rig.parent / "library", name, np.asarray(array, np.float32), known)


def test_a_capture_takes_the_best_of_a_library_and_its_header_says_which(rig: Path) -> None:
    keep(rig, "white", 1500.0, exposure=1.0)
    for exposure in (1.0, 2.4):
        keep(rig, f"black-{exposure}", 60.0 + exposure, exposure=exposure)
    result = capture(rig, "camera.hroi=[9,40]", lines=16)
    assert result.warnings == []
    with swath.open(result.file) as cube:
        assert cube.header["white choice"] == [
            "white.hdr",
            "exposure 1 ms scaled to 2 ms",
            "hroi 1 to 48 cropped to 9 to 40",
        ]
        assert cube.header["black choice"] == ["computed for 2 ms from 2 blacks of 1 to 2.4 ms"]
        # the white has no dark of its own: the library has one of its exposure
        assert cube.header["white black choice"] == [
            "black-1.0.hdr",
            "hroi 1 to 48 cropped to 9 to 40",
        ]
        arrays = {name: cube.references[name].array for name in cube.references}
        assert arrays["white"][0].tolist() == [1500.0 + i for i in range(8, 40)]
        assert np.allclose(arrays["black"][0], [62.0 + i for i in range(8, 40)])
        assert np.allclose(arrays["white_black"][0], [61.0 + i for i in range(8, 40)])
        assert cube.references["white"].header["hroi"] == [9, 40]
        raw = np.asarray(cube.raw).astype(np.float64)
        expected = 0.95 * (raw - arrays["black"].T) / (1439.0 * 2)
        assert np.allclose(cube.read(), expected, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_warned_about_in_the_header_where_the_rig_file_says_so(
    rig: Path,
) -> None:
    keep(rig, "white", 1500.0, gain=6.0)
    keep(rig, "black", 64.0)
    with pytest.raises(
        ReferenceMismatchError,
        match=r"white: none of the files in .* fits this camera; white reference .*white\.hdr: "
        r"gain is 6, the camera's is 0; take one "
        r"now \(swath reference white\), or say \[references\] "
        'on_mismatch = "warn" to use it all the same',
    ):
        capture(rig, lines=16)
    warned = capture(rig, "references.on_mismatch=warn", lines=16)
    said = "gain is 6, the camera's is 0"
    assert warned.warnings == [f"white reference white.hdr: {said}"]
    with swath.open(warned.file) as cube:
        # a list in a header holds no commas
        assert cube.header["white choice"] == [
            "white.hdr",
            f"warned: {said.replace(',', ';')}",
        ]


def test_the_conditions_of_a_rig_are_those_of_its_camera(rig: Path) -> None:
    scan = conditions_of(load_rig(rig), rig_path=rig, bus=EventBus())
    assert (scan.serial, scan.exposure, scan.binning) == ("SIM000001", 2.0, (1, 1))
    assert scan.mode == "unsure"


def test_a_name_with_a_dot_is_a_folder_and_is_found_again(rig: Path, tmp_path: Path) -> None:
    place = tmp_path / "white-2.5ms"
    where = f"references.white={place}"
    made, _ = take(rig, "white", where)
    assert made.parent == place
    take(rig, "black")
    assert capture(rig, where, "scan.lines=4").lines == 4
    with pytest.raises(ConfigError, match=r"written as .hdr and .envi"):
        take(rig, "white", f"references.white={tmp_path / 'white.raw'}")


def test_a_dark_that_was_left_behind_is_not_paired_with_a_new_white(
    rig: Path, tmp_path: Path
) -> None:
    (tmp_path / "white_black.hdr").write_text("of a white that was removed")
    with pytest.raises(ConfigError, match=r"white_black.hdr': exists"):
        take(rig, "white", f"references.white={tmp_path / 'white.hdr'}")
    assert not list(tmp_path.glob("*.envi"))


def test_a_disk_that_fills_up_leaves_nothing_of_a_reference(
    rig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A white without the header of its own dark would be taken for one that has none."""
    synced: list[int] = []

    def full(file: int) -> None:
        synced.append(file)
        if len(synced) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pipeline.new_files.os.fsync", full)
    where = f"references.white={tmp_path / 'new' / 'white.hdr'}"
    with pytest.raises(StorageError, match=r"cannot be written: No space left on device"):
        take(rig, "white", where)
    assert list((tmp_path / "new").iterdir()) == []
    monkeypatch.undo()
    assert take(rig, "white", where)[0].exists()


@pytest.mark.parametrize("own", ["{95}", "{}", "{inf}", "bright", "{-0.5}"])
def test_a_white_that_tells_no_share_of_its_panel_is_refused(rig: Path, own: str) -> None:
    white, _ = take(rig, "white")
    take(rig, "black")
    text = white.read_text().replace("white reflectance = {0.95}", f"white reflectance = {own}")
    white.write_text(text)
    with pytest.raises(ReferenceMismatchError, match=r"white reflectance: found .*, allowed are"):
        capture(rig, "references.panel=1.0", "scan.lines=4")
    assert capture(rig, "references.panel=0.9", "scan.lines=4").lines == 4


def test_a_count_of_lines_that_is_no_number_is_one_sentence(rig: Path) -> None:
    for kind in ("white", "black"):
        made, _ = take(rig, kind)
        made.write_text(made.read_text().replace("lines averaged = ", "lines averaged = many "))
    with pytest.raises(HeaderError, match=r"lines averaged: found 'many .*', which is not an int"):
        capture(rig, "scan.lines=4")
