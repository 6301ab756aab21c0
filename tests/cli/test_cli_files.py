from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.app import run
from pipeline.container.envi import read_header
from pipeline.container.reader import open_container
from pipeline.container.recovery import RecoveryReport

#: What ``swath info --json`` promises.
INFO = {
    *("header", "lines", "samples", "bands", "dtype", "interleave", "data_offset", "entries"),
    *("read_procedures", "lost"),
}


def test_info_tells_what_a_container_holds(
    captured: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["info", str(captured), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found.keys() >= INFO
    assert (found["lines"], found["samples"], found["bands"]) == (60, 24, 20)
    assert (found["dtype"], found["interleave"], found["lost"]) == ("<u2", "bil", 0)
    assert found["data_offset"] % 4096 == 0
    assert found["read_procedures"] == ["microservice:reflectance"]
    assert {"data.hdr", "data.envi", "thumbnail.jpg", "Reference/white.envi"} <= {*found["entries"]}
    assert found["header"]["target"] == "leaf"
    assert len(found["header"]["wavelength"]) == 20


def test_info_for_people_shortens_long_lists(
    captured: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["info", str(captured)]) == 0
    out = capfd.readouterr().out
    assert "60 lines × 24 samples × 20 bands, uint16 bil" in out
    assert "wavelength = {400.0, " in out
    assert "(20 values)" in out
    assert max(map(len, out.splitlines())) < 200


def test_the_thumbnail_can_be_taken_out(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "t.jpg"
    assert run(["info", str(captured), "--thumbnail", str(picture)]) == 0
    assert picture.read_bytes()[:3] == b"\xff\xd8\xff"
    assert capfd.readouterr().out == f"{picture}\n"
    assert run(["info", str(captured), "--thumbnail", str(picture)]) == 2
    assert "exists, it is not overwritten" in capfd.readouterr().err


def test_validate_ends_with_the_worst_finding(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", str(captured)]) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith(f"{captured}: valid")
    broken = tmp_path / "broken.hsi"
    data = bytearray(captured.read_bytes())
    with open_container(captured) as cube:
        data[cube.data_offset + 5] ^= 1
    broken.write_bytes(data)
    nothing = tmp_path / "nothing.hsi"
    nothing.write_bytes(b"nothing")
    assert run(["validate", str(captured), str(broken), str(nothing), "--json"]) == 2
    found = json.loads(capfd.readouterr().out)
    assert found["valid"] is False
    assert [file["valid"] for file in found["files"]] == [True, False, False]
    error = next(f for f in found["files"][1]["findings"] if f["level"] == "error")
    assert error["clause"]
    assert error["text"]
    assert run(["validate", str(broken), str(nothing)]) == 2
    out = capfd.readouterr().out
    assert f"{broken}: not valid: 1 error" in out
    assert f"{nothing}: error: found no ZIP file" in out
    cut = tmp_path / "cut.hsi.partial"
    cut.touch()
    for path, text in (
        (tmp_path / "absent.hsi", "found no such file, allowed is a .hsi"),
        (tmp_path, "found a folder, allowed is a .hsi"),
        (cut, "a capture that was not finished; swath recover does"),
    ):
        assert run(["validate", str(path)]) == 2
        assert capfd.readouterr().out == f"{path}: error: {text}\n"


def test_export_writes_what_read_gives(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    given = ["--as", "float32", "--lines", "10:20", "--samples", ":5", "--bands", "3:"]
    assert run(["export", str(captured), str(folder), *given]) == 0
    assert "10 lines × 5 samples × 17 bands" in capfd.readouterr().out
    with open_container(captured) as cube, open_container(folder / "data.hdr") as plain:
        wanted = cube.read(lines=slice(10, 20), samples=slice(0, 5), bands=slice(3, None))
        assert plain.raw.dtype == "<f4"
        assert (plain.raw == wanted).all()


def test_export_says_where_a_range_goes_beyond_the_cube(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--bands", "5:500", "--lines", "0:60"]
    assert run(["export", str(captured), str(tmp_path / "out"), *given]) == 0
    out, err = capfd.readouterr()
    assert "60 lines × 24 samples × 15 bands" in out
    assert err == "warning: --bands 5:500: the file has but 20 bands\n"


@pytest.mark.parametrize("command", ["info", "export", "sidecar"])
def test_what_was_not_finished_is_for_recover(
    captured: Path, tmp_path: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    partial = shutil.copy(captured, tmp_path / "x.hsi.partial")
    more = [str(tmp_path / "out")] if command == "export" else []
    assert run([command, str(partial), *more]) == 2
    assert "swath recover" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["5", "a:b", "9:3", "4:4", "-1:3", "1:2:3", ":0"])
def test_export_refuses_a_range_that_is_none(
    captured: Path, tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(captured), str(tmp_path / "out"), f"--lines={text}"]) == 2
    assert f"--lines {text}: " in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sidecar_opens_the_container_in_place(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copy(captured, tmp_path / "x.hsi")
    assert run(["sidecar", str(file)]) == 0
    header, opened = capfd.readouterr().out.splitlines()
    assert Path(header).name == "x.hdr"
    assert (
        opened == f"  GDAL opens {file}, Spectral Python spectral.envi.open('{header}', '{file}')"
    )
    fields = read_header(header)
    shape = int(fields["lines"]), int(fields["bands"]), int(fields["samples"])
    plain = np.memmap(file, "<u2", "r", int(fields["header offset"]), shape)
    with open_container(captured) as cube:
        assert np.array_equal(cube.raw, plain.transpose(0, 2, 1))


def test_repack_gives_the_same_cube(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.hsi"
    assert run(["repack", str(captured), "--out", str(out)]) == 0
    with open_container(captured) as cube, open_container(out) as again:
        assert (cube.raw == again.raw).all()


def test_recover_of_what_is_not_there_is_bad_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["recover", str(tmp_path / "x.hsi.partial")]) == 2
    err = capfd.readouterr().err
    assert "x.hsi" in err
    assert err.count("\n") == 1


def test_recover_says_what_is_lost_and_what_was_cut_off(
    captured: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line_bytes = 24 * 20 * 2
    report = RecoveryReport(captured, 60, lost=3, damaged=1, dropped_bytes=2 * line_bytes + 5)
    monkeypatch.setattr("pipeline.container.recovery.recover", lambda file, thumbnail: report)
    assert run(["recover", str(captured)]) == 0
    assert capfd.readouterr().out.splitlines()[1:] == [
        "  60 lines, 3 lines lost, 1 of them damaged on the disk",
        "  cut off at the end: 2 lines, 1.9 kB",
    ]


@pytest.mark.parametrize(
    "command", [["info"], ["validate"], ["export"], ["sidecar"], ["repack"]], ids=lambda c: c[0]
)
def test_a_file_that_is_no_container_is_bad_input(
    tmp_path: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for name, data in (("absent.hsi", None), ("empty.hsi", b""), ("noise.hsi", b"PK\3\4" * 99)):
        file = tmp_path / name
        if data is not None:
            file.write_bytes(data)
        more = [str(tmp_path / "out")] if command == ["export"] else []
        assert run([*command, str(file), *more]) == 2
        out, err = capfd.readouterr()
        assert name in out + err
        assert "internal error" not in err


def test_keys_come_as_a_pair_and_are_never_overwritten(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "rig", "--folder", str(tmp_path)]) == 0
    assert (tmp_path / "rig.key_secret").stat().st_mode & 0o777 == 0o600
    assert "secret" not in (tmp_path / "rig.key").read_text()
    assert run(["keys", "rig", "--folder", str(tmp_path)]) == 2
    assert run(["keys", "../rig", "--folder", str(tmp_path)]) == 2
    assert "a file name without a folder" in capfd.readouterr().err


def test_version_names_what_is_installed(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["swath"] not in ("", "unknown")
    assert found["packages"]["numpy"]


def test_long_lists_of_one_or_two_items_are_shown_cut() -> None:
    from pipeline.cli.info import SHOWN, _short

    assert _short(["x" * 200]).endswith("…")
    assert len(_short(["x" * 200, "y"])) == SHOWN
    assert _short([1] * 200) == "{1, 1, …, 1} (200 values)"
    assert _short([1, 2]) == "{1, 2}"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_names_that_are_no_utf8_are_shown_as_json_can(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / os.fsdecode(b"bad\xff.hsi")
    shutil.copy(captured, odd)
    assert run(["validate", str(odd), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["files"][0]["file"] == f"{tmp_path}/bad?.hsi"
