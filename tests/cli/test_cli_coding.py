from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli.app import run
from pipeline.container.coded_header import stated_error
from pipeline.container.envi import write_envi
from pipeline.container.reader import open_container


@pytest.fixture
def coded(captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """The capture, losslessly coded in blocks of 16 lines."""
    file = tmp_path / "coded.hsi"
    assert run(["compress", str(captured), str(file), "--block-lines", "16"]) == 0
    capfd.readouterr()
    return file


def test_compress_and_back_gives_the_same_file(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    coded, again = tmp_path / "coded.hsi", tmp_path / "again.hsi"
    assert run(["compress", str(captured), str(coded), "--lossless"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == str(coded)
    assert "  lossless" in out
    assert err == ""
    assert run(["decompress", str(coded), str(again)]) == 0
    assert capfd.readouterr().out.splitlines()[0] == str(again)
    with open_container(captured) as a, open_container(coded) as b, open_container(again) as c:
        assert np.array_equal(a.read(), b.read(), equal_nan=True)
        assert np.array_equal(a.raw, c.raw)
        assert a.header == c.header
        assert a.entries == c.entries
    assert run(["validate", str(coded), str(again)]) == 0


def test_compress_tells_its_error_as_json(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "coded.hsi"
    assert run(["compress", str(captured), str(coded), "--max-error", "5", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["file"] == str(coded)
    assert found["lines"] == 60
    assert found["raw_bytes"] == 60 * 24 * 20 * 2
    assert found["ratio"] == found["raw_bytes"] / found["coded_bytes"]
    assert found["file_bytes"] == coded.stat().st_size
    assert 0 < found["max_error"] <= 5
    assert run(["compare", str(captured), str(coded), "--json"]) == 0
    compared = json.loads(capfd.readouterr().out)
    assert compared["max_error"] == found["max_error"]
    assert compared["rmse"] == pytest.approx(found["rmse"])
    assert compared["spectral_angle_mean"] == pytest.approx(found["mean_spectral_angle"], rel=1e-4)
    assert len(compared["by_band"]) == 20
    assert max(band["max_error"] for band in compared["by_band"]) == compared["max_error"]


def test_compress_tells_its_error_to_people(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["compress", str(captured), str(tmp_path / "a.hsi"), "--max-error", "5"]) == 0
    assert "  max error " in capfd.readouterr().out


@pytest.mark.parametrize("aim", [["--ratio", "8"], ["--noise"]], ids=lambda aim: aim[0])
def test_other_aims_give_a_smaller_file_that_states_its_error(
    captured: Path, tmp_path: Path, aim: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    coded = tmp_path / "coded.hsi"
    assert run(["compress", str(captured), str(coded), *aim, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    with open_container(coded) as cube:
        assert stated_error(cube.header) == found["max_error"] > 0


def test_info_says_how_a_file_is_coded(coded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(coded), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["dtype"], found["lines"], found["bands"]) == ("<u2", 60, 20)
    assert found["coded"]["blocks"] == 4
    assert found["coded"]["block_lines"] == 16
    assert found["coded"]["max_error"] == 0
    assert run(["info", str(coded)]) == 0
    out = capfd.readouterr().out
    assert "4 blocks of 16 lines, lossless" in out
    assert "60 lines × 24 samples × 20 bands, uint16" in out


def test_info_shows_the_header_of_a_coding_that_is_not_known(
    coded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_container(coded) as cube:
        fields = cube.header.copy()
    fields.set("file type", "SECRET")
    (tmp_path / "data.hdr").write_bytes(fields.encode())
    (tmp_path / "data.envi").write_bytes(b"x" * 99)
    assert run(["info", str(tmp_path / "data.hdr")]) == 0
    out, err = capfd.readouterr()
    assert "coded: SECRET, which is not known here" in out
    assert "target = leaf" in out
    assert "SECRET" in err


def test_compare_of_equal_files_is_one_word(
    captured: Path, coded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", str(captured), str(coded)]) == 0
    assert capfd.readouterr().out == "60 lines × 24 samples × 20 bands\n  equal\n"
    assert run(["compare", str(captured), str(coded), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["equal"] is True
    assert found["psnr"] is None


def test_compare_shows_every_band(
    captured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_container(captured) as cube:
        other = cube.raw.astype("i4")
    other[5, 6, 7] += 1234
    plain = write_envi(tmp_path, "other", other)
    assert run(["compare", str(captured), str(plain)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == "  1 value of 28,800 differ"
    assert lines[2].startswith("  max error 1234, rmse 7.27")
    assert len(lines) == 5 + 20
    assert lines[5 + 7].split()[:2] == ["8", "1234"]


def spoilt(coded: Path) -> Path:
    """A copy with one byte of the second block wrong."""
    data = bytearray(coded.read_bytes())
    with open_container(coded) as cube:
        assert cube.coded is not None
        assert cube.data_offset is not None
        data[cube.data_offset + cube.coded.blocks[1].offset + 40] ^= 255
    copy = coded.with_name("spoilt.hsi")
    copy.write_bytes(data)
    return copy


def test_damage_is_named_by_every_command(
    coded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = spoilt(coded)
    assert run(["validate", str(file)]) == 2
    assert "block 1 (lines 16 to 31)" in capfd.readouterr().out
    for command in (
        ["export", str(file), str(tmp_path / "out")],
        ["compare", str(coded), str(file)],
    ):
        assert run(command) == 2
        err = capfd.readouterr().err
        assert "block 1 (lines 16 to 31)" in err
        assert err.count("\n") == 1
    given = ["export", str(file), str(tmp_path / "part"), "--lines", "32:60", "--as", "raw"]
    assert run(given) == 0


def test_decompress_saves_what_is_whole_and_says_what_is_not(
    coded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = spoilt(coded)
    assert run(["decompress", str(file), str(tmp_path / "saved.hsi")]) == 3
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == "  missing: lines 16 to 31"
    assert "block 1 (lines 16 to 31)" in err
    assert run(["decompress", str(file), str(tmp_path / "more.hsi"), "--json"]) == 3
    found = json.loads(capfd.readouterr().out)
    assert found["missing"] == [{"first_line": 16, "lines": 16}]
    assert len(found["problems"]) == 1
    with open_container(tmp_path / "saved.hsi") as saved, open_container(coded) as whole:
        wanted = whole.read(procedures=False)
        assert np.array_equal(saved.raw[32:], wanted[32:])
        assert np.isnan(saved.read(slice(16, 32))).all()  # reflectance of lost lines


def test_decompress_saves_a_file_without_its_end(
    coded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = coded.read_bytes()
    with open_container(coded) as cube:
        assert cube.coded is not None
        assert cube.data_offset is not None
        coded.write_bytes(data[: cube.data_offset + cube.coded.blocks[3].offset + 50])
    assert run(["decompress", str(coded), str(tmp_path / "saved.hsi")]) == 3
    assert capfd.readouterr().out.splitlines()[-1] == "  missing: lines 48 to 59"
    with open_container(tmp_path / "saved.hsi") as saved:
        assert {"white", "black"} <= {*saved.references}
        assert np.isfinite(saved.read(slice(0, 48))).all()


def bad(tmp_path: Path, captured: Path, coded: Path) -> dict[str, tuple[list[str], str]]:
    floats = write_envi(tmp_path, "floats", np.zeros((4, 3, 2), "f4"))
    small = write_envi(tmp_path, "small", np.zeros((4, 3, 2), "u2"))
    out = str(tmp_path / "new.hsi")
    return {
        "floats": (["compress", str(floats), out], "data type: found float32"),
        "existing": (["compress", str(captured), str(coded)], "exists"),
        "no folder": (["compress", str(captured), f"{tmp_path}/no/new.hsi"], "found no folder"),
        "absent": (["compress", str(tmp_path / "absent.hsi"), out], "no such file"),
        "two aims": (
            ["compress", str(captured), out, "--lossless", "--ratio", "4"],
            "--lossless and --ratio: found 2 aims, allowed is one",
        ),
        "coding": (["compress", str(captured), out, "--coding", "magic"], "magic"),
        "error": (["compress", str(captured), out, "--max-error", "-1"], "-1"),
        "ratio": (["compress", str(captured), out, "--ratio", "0"], "ratio"),
        "no ratio": (["compress", str(captured), out, "--ratio", "nan"], "ratio"),
        "block": (["compress", str(captured), out, "--block-lines", "0"], "block lines: found 0"),
        "noise": (["compress", str(small), out, "--noise"], "black_std"),
        "plain": (["decompress", str(captured), out], "nothing to decode"),
        "back": (["decompress", str(coded), str(captured)], "exists"),
        "shapes": (["compare", str(captured), str(small)], "lines: found 4, allowed are 60"),
        "nothing": (["compare", str(captured), str(tmp_path / "absent.hsi")], "no such file"),
    }


CASES = [
    *("floats", "existing", "no folder", "absent", "two aims", "coding", "error", "ratio"),
    *("no ratio", "block", "noise", "plain", "back", "shapes", "nothing"),
]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence(
    captured: Path, coded: Path, tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command, fault = bad(tmp_path, captured, coded)[case]
    before = captured.read_bytes(), coded.read_bytes()
    assert run(command) == 2
    out, err = capfd.readouterr()
    assert fault in err
    assert (out, err.count("\n")) == ("", 1)
    assert "internal error" not in err
    assert (captured.read_bytes(), coded.read_bytes()) == before
    assert not (tmp_path / "new.hsi").exists()


def test_sidecar_points_to_export(coded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["sidecar", str(coded)]) == 2
    assert "swath export decodes" in capfd.readouterr().err


def test_a_bar_is_drawn_on_a_terminal_and_nothing_in_a_pipe(captured: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    code = "import sys; from pipeline.cli.app import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "compress", "--coding", "packints", str(captured)]
    done = subprocess.run(
        [*command, str(tmp_path / "a.hsi")],
        stdout=subprocess.PIPE,
        stderr=side,
        env={**os.environ, "TERM": "xterm"},
        check=False,
    )
    os.close(side)
    drawn = os.read(main, 1 << 16).decode()
    os.close(main)
    assert done.returncode == 0
    assert "compress to" in drawn
    quiet = subprocess.run([*command, str(tmp_path / "b.hsi")], capture_output=True, check=False)
    assert (quiet.returncode, quiet.stderr) == (0, b"")


def test_compress_says_that_a_cube_without_wavelengths_makes_no_valid_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = write_envi(tmp_path, "plain", np.ones((4, 3, 5), np.uint16))
    out = tmp_path / "out.hsi"
    assert run(["compress", str(plain), str(out)]) == 0
    said, warned = capfd.readouterr()
    assert f"{plain} has no wavelengths, which D4.1 asks for: the new file is not valid" in warned
    assert said.splitlines()[2].startswith("  file ")
    assert run(["validate", str(out)]) == 2
