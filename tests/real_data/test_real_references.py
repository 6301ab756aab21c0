"""Real white and black pairs: results against an independent float64 computation, and matching."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rigs import capture, write_rig

import swath
from pipeline.container.envi import read_header, write_envi
from pipeline.container.vendor_comments import comment_fields
from pipeline.errors import HeaderError, ReferenceMismatchError
from pipeline.events import Event, Warned
from pipeline.reference_checks import black_faults, white_faults


def headwall(folder: Path, real_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay out a scan as Headwall's recorder would beside the real white and dark of that camera."""
    source = real_data / "references" / "headwall-nir"
    for kind in ("white", "dark"):
        for ending in ("", ".hdr"):
            shutil.copyfile(
                source / f"{kind}Reference{ending}", folder / f"{kind}Reference{ending}"
            )
    # straight from the bytes: little-endian uint16, BIL of one line
    white, dark = (
        np.fromfile(source / f"{kind}Reference", "<u2").reshape(70, 320).astype(np.float64)
        for kind in ("white", "dark")
    )
    rng = np.random.default_rng(3)
    share = np.linspace(-0.01, 1.3, 40)[:, None, None]
    raw = dark + share * (white - dark) + rng.normal(0, 20, (40, 70, 320))
    raw = np.clip(np.rint(raw), 0, 65535).astype("<u2")
    raw.tofile(folder / "scan")
    header = (source / "whiteReference.hdr").read_bytes()
    (folder / "scan.hdr").write_bytes(re.sub(rb"lines = 1\b", b"lines = 40", header, count=1))
    return raw, white, dark


def rig(folder: Path, white: str = "whiteReference.hdr", black: str = "darkReference.hdr") -> Path:
    return write_rig(
        folder,
        f"""
[camera]
driver = "replay"
file = "scan.hdr"
rate = "max"
[references]
white = "{white}"
black = "{black}"
panel = 0.99
[pipeline]
backend = "cpu"
[output]
folder = "out"
name = "scan"
""",
    )


def test_reflectance_of_the_real_headwall_pair_equals_float64(
    real_data: Path, tmp_path: Path
) -> None:
    raw, white, dark = headwall(tmp_path, real_data)
    expected = 0.99 * (raw - dark) / (white - dark)
    result = capture(rig(tmp_path))
    stored = capture(
        rig(tmp_path), "pipeline.store=reflectance", "pipeline.reflectance_type=float32"
    )
    assert np.count_nonzero(expected < 0) > 1000  # below dark, and kept
    assert np.count_nonzero(expected > 1) > 1000  # above the panel, and kept
    with swath.open(result.file) as cube, swath.open(stored.file) as direct:
        found = cube.read().transpose(0, 2, 1)
        # float32: the rounding of black and gain, and two of the computation
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert np.array_equal(direct.read().transpose(0, 2, 1), found)
        assert cube.header["white choice"][0] == "whiteReference.hdr"


def test_a_folder_of_headwalls_files_is_chosen_from(real_data: Path, tmp_path: Path) -> None:
    headwall(tmp_path, real_data)
    result = capture(rig(tmp_path, ".", "."))
    with swath.open(result.file) as cube:
        assert cube.header["white choice"][0] == "whiteReference.hdr"
        assert cube.header["black choice"][0] == "darkReference.hdr"
        # what stands in comment lines only is among the fields of the reference
        assert cube.references["white"].header["serial number"] == "uVS-251"
        assert cube.references["white"].header["vroi"] == [95, 164]


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        (
            ";Serial Number = uVS-251",
            ";Serial Number = uVS-298",
            "serial number is uVS-298, the camera's is uVS-251",
        ),
        (
            ";POST AOI top = 94",
            ";POST AOI top = 90",
            r"vroi is \[91, 160\], the camera's is \[95, 164\]: it does not show them all",
        ),
        (
            ";Col binning = 1",
            ";Col binning = 2",
            r"binning is \[1, 2\], the camera's is \[1, 1\]; a finer one",
        ),
    ],
)
def test_references_of_another_camera_region_or_binning_are_refused_by_the_comment_lines(
    real_data: Path, tmp_path: Path, line: str, instead: str, message: str
) -> None:
    headwall(tmp_path, real_data)
    header = tmp_path / "whiteReference.hdr"
    text = header.read_text()
    assert text.count(line) == 1
    header.write_text(text.replace(line, instead))
    with pytest.raises(ReferenceMismatchError, match=message):
        capture(rig(tmp_path))


def test_a_real_dark_is_dark_and_a_real_white_is_none(real_data: Path) -> None:
    folder = real_data / "references"
    white, dark = (
        np.fromfile(folder / "headwall-nir" / f"{kind}Reference", "<u2").reshape(70, 320)
        for kind in ("white", "dark")
    )
    airborne = np.fromfile(
        folder / "aviris-ng" / "ang20180325t061759_dark", "<f4", 480 * 640
    ).reshape(480, 640)
    # both converters have 14 bits
    assert black_faults(dark, 16383) == []
    assert black_faults(airborne, 16383) == []
    assert len(black_faults(white, 16383)) == 1
    assert white_faults(white.astype(float), dark.astype(float), 16383) == []
    assert len(white_faults(dark.astype(float), dark.astype(float), 16383)) == 1


def test_airborne_lines_and_their_flat_field_equal_float64(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "references" / "aviris-ng"
    # the first of 481 rows is a header of the frame
    raw = np.fromfile(folder / "ang20180325t061759_raw_test", "<u2").reshape(2, 481, 640)[:, 1:]
    dark = np.fromfile(folder / "ang20180325t061759_dark", "<f4", 480 * 640).reshape(480, 640)
    flat = np.fromfile(folder / "20180727_ang20180628_BLUSS_avg_rows300-340_ff", "<f4")
    flat = flat[: 480 * 640].reshape(480, 640)
    write_envi(tmp_path, "scan", raw.transpose(0, 2, 1))
    write_envi(tmp_path, "black", dark.T[None])
    # a flat field is a factor: a white of 5,000 counts that it makes even
    even = np.full(flat.shape, np.nan)
    np.divide(5000.0, flat, out=even, where=flat > 0)
    light = np.where(np.isnan(even), 0.0, even)  # dead pixels: a white not above its dark
    white = (dark.astype(np.float64) + light).astype(np.float32)
    write_envi(tmp_path, "white", white.T[None])
    events: list[Event] = []
    result = capture(rig(tmp_path, "white.hdr", "black.hdr"), events=events)
    dead = np.count_nonzero(white <= dark)
    assert dead > 0
    said = f"white is not brighter than black in {dead} of {dark.size} pixels: marked invalid"
    assert any(isinstance(e, Warned) and e.text == said for e in events)
    with np.errstate(invalid="ignore", divide="ignore"):
        signal = white.astype(np.float64) - dark
        expected = np.where(signal > 0, 0.99 * (raw - dark.astype(np.float64)) / signal, np.nan)
    with swath.open(result.file) as cube:
        found = cube.read().transpose(0, 2, 1)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    assert np.allclose(found[known], expected[known], rtol=2e-6, atol=2e-6)
    below = float(np.mean(raw < dark))
    assert 0.1 < below < 0.12  # as the data's description says
    assert np.count_nonzero(found[known] < 0) == np.count_nonzero(expected[known] < 0)


def test_every_real_headwall_header_says_its_serial_number(real_data: Path) -> None:
    told = {}
    for path in sorted((real_data / "headers").glob("*.hdr")):
        if b"erial" not in path.read_bytes():
            continue
        try:
            header = read_header(path)
        except HeaderError:  # headers in the wild have their own test
            continue
        fields = comment_fields(header.comments, header.bands, header.samples)
        if "serial number" in fields:
            told[path.name] = (fields, header.samples)
    assert len(told) >= 8
    for name, (fields, samples) in told.items():
        assert fields["binning"] == [1, 1], name
        assert "vroi" in fields, name
        # files that were cut down to 800 samples later still tell of 1,600
        assert ("hroi" in fields) == (samples != 800), name
