"""``swath references``: the list, its object, and the page."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from pipeline.cli.app import run
from pipeline.container.envi import write_envi
from pipeline.svg_drawing import shrunk, ticks

FITS = {
    "exposure": 1.0,
    "gain": 0.0,
    "binning": [1, 1],
    "hroi": [1, 24],
    "vroi": [1, 20],
    "serial number": "SIM000001",
    "pixel format": "Mono12",
    "saturation level": 4095,
    "temperature": 31.0,
    "lines averaged": 100,
    "wavelength": list(np.linspace(400, 1000, 20)),
    "wavelength units": "Nanometers",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Two whites, one of another gain, with deviation and dark; a black; one that is none."""
    folder = tmp_path / "library"
    light = 1500 * np.hanning(22)[1:-1] * np.ones((1, 24, 1))
    made = dt.datetime.now(dt.UTC) - dt.timedelta(hours=3)
    for name, values, more in (
        ("white-a", 64 + light, {"exposure": 2.0}),
        ("white-a_std", 2 + light / 100, {}),
        ("white-a_black", np.full((1, 24, 20), 64), {"exposure": 2.0}),
        ("white-b", 64 + light, {"gain": 6.0}),
        ("black", np.full((1, 24, 20), 64), {}),
    ):
        fields = {**FITS, "acquisition time": made, **more}
        write_envi(folder, name, np.asarray(values, np.float32), fields)
    (folder / "black-broken.hdr").write_text("ENVI\nlines = 1\n")
    kinds = np.zeros((20, 24, 1), np.uint8)
    kinds[3, 4], kinds[5, 6] = 1, 2
    write_envi(folder, "bad-pixels", kinds, {"class names": ["good", "dead", "hot"]})
    return folder


def test_a_library_is_listed_with_age_match_and_verdict(
    rig: Path, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["references", str(library), "--rig", str(rig)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"{library}: 2 whites, 2 blacks"
    assert lines[1:5] == [
        "  white-a.hdr · 24 × 20 · 2 ms · gain 0 · binning 1, 1 · SIM000001 · 31.0 °C · "
        "100 lines · with its own dark · 3.0 h old",
        "    fits",
        "  white-b.hdr · 24 × 20 · 1 ms · gain 6 · binning 1, 1 · SIM000001 · 31.0 °C · "
        "100 lines · 3.0 h old",
        "    refused: gain is 6, the camera's is 0",
    ]
    assert lines[5] == "  black-broken.hdr"
    assert lines[6].startswith(f"    refused: {library}/black-broken.hdr")
    assert lines[-2] == (
        "white: this rig takes: white-a.hdr; 3.0 h apart from the scan; "
        "exposure 2 ms scaled to 1 ms"
    )
    assert lines[-1] == "black: this rig takes: black.hdr; 3.0 h apart from the scan"


def test_the_object_says_why_not(
    rig: Path, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--set", "camera.gain=6", "--set", "references.max_age_h=2"]
    assert run(["references", str(library), "--rig", str(rig), "--json", *given]) == 0
    told = json.loads(capfd.readouterr().out)
    by_name = {Path(item["file"]).name: item for item in told["references"]}
    whys = [one["what"] for one in by_name["white-a.hdr"]["why_not"]]
    assert whys == ["gain", "age"]
    assert by_name["white-b.hdr"]["why_not"] == [
        {"what": "age", "text": "it is 3.0 h older than the scan, max_age_h allows 2 h"}
    ]
    assert by_name["black.hdr"]["verdict"] == "refused"
    assert by_name["black.hdr"]["age_h"] == pytest.approx(3.0, abs=0.1)
    assert told["choice"]["white"]["found"] is False
    assert "none of the files" in told["choice"]["white"]["said"][0]


def test_headers_with_other_names_are_counted(
    library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(library / "black.hdr", library / "my_dark.hdr")  # belongs to a "my"
    shutil.copy(library / "black.hdr", library / "ang2018.hdr")
    assert run(["references", str(library), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["passed_over"] == 1  # not the map of bad pixels
    assert run(["references", str(library)]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == (
        "  passed over: 1 header with a name that does not begin with black, dark or white"
    )


def test_without_a_rig_each_is_judged_by_itself(
    library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    white = np.full((1, 24, 20), 4095, np.float32)
    write_envi(library, "white-c", white, {"saturation level": 4095})
    assert run(["references", str(library)]) == 0
    out = capfd.readouterr().out
    assert out.count("    sound\n") == 3
    assert "refused: 100.0 % of its pixels are saturated" in out
    assert "this rig" not in out


def test_a_folder_that_is_none_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["references", str(tmp_path / "nowhere")]) == 2
    assert capfd.readouterr().err.endswith("nowhere: cannot be read (No such file or directory)\n")
    assert run(["references", str(tmp_path)]) == 0
    assert capfd.readouterr().out == f"{tmp_path}: 0 whites, 0 blacks\n"


def test_the_page_shows_counts_noise_and_bad_pixels_and_needs_nothing_else(
    library: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run(["references", str(library), "--page", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    for reference in re.findall(r'(?:src|href)="([^"]{0,40})', text):
        assert reference.startswith("data:image/png;base64,")
    drawings = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.S)]
    assert len(drawings) == 4  # two whites, a black, the map
    titles = ["".join(node.itertext()) for node in drawings[0].iter() if node.tag.endswith("text")]
    for wanted in ("counts", "noise of a line", "its black", "saturation", "nm", "400", "1,000"):
        assert wanted in titles
    assert "there is no _std file" in text  # of the others
    pictures = [
        imagecodecs.png_decode(base64.b64decode(node.attrib["href"].split(",")[1]))
        for node in drawings[0].iter()
        if node.tag.endswith("image")
    ]
    assert [p.shape for p in pictures] == [(20, 24, 3), (1, 128, 3), (20, 24, 3), (1, 128, 3)]
    brightness = pictures[0].sum(axis=(1, 2)).astype(float)
    assert brightness.argmax() in (9, 10)  # where the lamp is brightest
    assert "2 of 480 pixels" in text
    assert "■ dead: 1" in text
    assert "■ hot: 1" in text
    assert run(["references", str(library), "--page", str(out)]) == 2
    assert "exists, it is not overwritten" in capfd.readouterr().err


def test_names_of_files_are_text_on_the_page(library: Path, tmp_path: Path) -> None:
    write_envi(library, "white-<b>x", np.full((1, 4, 3), 5, np.float32))
    out = tmp_path / "page.html"
    assert run(["references", str(library), "--page", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert "white-&lt;b&gt;x" in text
    assert "<b>x" not in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (397.0, 1004.0, [400, 600, 800, 1000]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
        (5.0, 5.0, []),
        (0.0, float("nan"), []),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_a_large_picture_is_averaged(rng: np.random.Generator) -> None:
    values = rng.random((3, 2000))
    small = shrunk(values)
    assert small.shape == (3, 500)
    assert np.allclose(small, values.reshape(3, 500, 4).mean(axis=2))
