"""The bench: what it prints and how it compares. Never a time or a ratio of this machine."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import engine
from pipeline.compute.cuda import CudaBackend
from pipeline.compute.unpack import unpack
from pipeline.container import sink_io
from pipeline.errors import DeviceError, SwathError
from pipeline.layout import PIXEL_FORMATS
from pipeline.reflectance import apply, quantise

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path[:0] = [str(TOOLS), str(Path(__file__).parent / "compute" / "host_shim")]

import cupy_on_host  # noqa: E402
from bench import bare_pipe, cuda, kernels, latency, live, main, peers, scaling, streams, table  # noqa: E402
from bench import data as bench_data  # noqa: E402
from bench.data import GEOMETRIES, Blocks, Geometry, Recording, packed  # noqa: E402
from bench.measure import MIN_ROUNDS, Row, Spread, alternate, compare, spread  # noqa: E402
from bench.settings import Settings  # noqa: E402

SMALL = Geometry(64, 24)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        geometries=(SMALL,),
        stream_geometries=(SMALL,),
        block_mib=0.1,
        rounds=2,
        long_rounds=1,
        buffer_bytes=1 << 20,
        different_lines=40,
        stream_bytes=1 << 20,
        file_bytes=1 << 20,
        folder=tmp_path,
    )


def full(value: float) -> Spread:
    return Spread(value, value, value, MIN_ROUNDS)


ROW = Row(
    section="CPU",
    step="whole pixel pass",
    geometry="1024 × 224",
    block_mib=14.0,
    rate=Spread(9.5, 9.25, 10.0, 9),
    lines_per_s=20708.0,
    limit="memcpy",
    limit_rate=full(12.0),
    ratio=full(0.79),
    required=0.75,
)


def test_limit_and_subject_take_turns() -> None:
    order: list[str] = []
    runs = [lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0]
    said = alternate(runs, 3)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert said == [[1.0] * 3, [2.0] * 3]


def test_the_ratio_is_formed_round_by_round() -> None:
    # first value of each: the run that does not count
    fast, bound = iter([9.0, 1.0, 4.0, 3.0]), iter([9.0, 2.0, 8.0, 3.0])
    rate, limit, ratio = compare(lambda: next(fast), lambda: next(bound), 3)
    assert (rate.median, limit.median, ratio.median) == (3.0, 3.0, 0.5)
    assert ratio == spread([0.5, 0.5, 1.0])


def test_a_row_is_judged_by_its_ratio_or_its_rate() -> None:
    assert ROW.met is True
    assert replace(ROW, required=0.8).met is False
    assert replace(ROW, required=None).met is None
    assert replace(ROW, ratio=Spread(0.9, 0.9, 0.9, MIN_ROUNDS - 1)).met is None
    late = Row(section="live", step="p99", unit="ms", rate=full(80.0), required=100, at_most=True)
    assert late.met is True
    assert replace(late, rate=full(101.0)).met is False
    assert replace(late, rate=None, note="no strip").met is None


def test_the_table_in_a_pipe_is_markdown() -> None:
    missing = Row(section="CUDA", step="chain", limit="bus", required=0.85, note="no GPU here")
    out = io.StringIO()
    table.show([ROW, replace(ROW, required=0.8), missing], {"processor": "some"}, out)
    text = out.getvalue()
    assert text.startswith("processor some\n\n### CPU\n")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert found[0] == list(table.COLUMNS)
    assert found[2] == [
        "whole pixel pass", "1024 × 224", "14.0 MiB", "9.50 GB/s (9.25–10.0)", "20,708",
        "memcpy 12.0", "0.790", "0.75", "ok",
    ]  # fmt: skip
    assert found[3][-2:] == ["0.8", "short"]
    assert found[6] == ["chain", "", "", "no GPU here", "", "bus", "", "0.85", ""]
    assert table.TRIAL not in text


def test_a_trial_says_so_before_its_table_and_behind_it() -> None:
    few = replace(ROW, rate=Spread(9.5, 9.5, 9.5, 2), ratio=Spread(0.1, 0.1, 0.1, 2))
    for quick in (False, True):
        out = io.StringIO()
        table.show([few], {"processor": "some"}, out, quick=quick)
        before, _, behind = out.getvalue().partition("### CPU")
        assert table.TRIAL in before
        assert table.TRIAL in behind
        head, _, row = (line for line in behind.splitlines() if line.startswith("|"))
        assert "0.75" not in row, "what is not judged has nothing to reach"
        assert ("ratio" in head, "0.100" in row) == (not quick, not quick)
        assert ("at least" in head) is not quick


def test_the_table_on_a_terminal_is_drawn() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    table.show([ROW], {"processor": "some"}, out)
    assert "whole" in out.getvalue()
    assert "###" not in out.getvalue()


def test_figures_have_three_digits_and_counts_are_whole() -> None:
    written = [table.figure(value) for value in (0.0756, 1.234, 12.34, 123.4, 20708.2)]
    assert written == ["0.076", "1.23", "12.3", "123", "20,708"]
    assert table.with_spread(full(9.0), "of 10") == "9 of 10"


def test_json_holds_every_field() -> None:
    told = json.loads(table.as_json([ROW], {"processor": "some"}, {"quick": True}))
    assert told["version"] == table.JSON_VERSION
    assert told["machine"] == {"processor": "some"}
    assert told["options"] == {"quick": True}
    [row] = told["rows"]
    assert row["met"] is True
    assert row["ratio"] == {"median": 0.79, "low": 0.79, "high": 0.79, "count": MIN_ROUNDS}
    assert {"section", "step", "geometry", "unit", "rate", "limit", "limit_rate"} <= row.keys()


def test_lines_are_as_a_camera_delivers_them() -> None:
    made = Recording(GEOMETRIES[0], 4)
    assert made.lines.max() <= made.saturation_level == 4095
    assert 0 < np.mean(made.lines == 4095) < 1e-2
    assert 40 < np.median(made.black) < 120
    assert 0 < made.bad_pixels.mean() <= 1.1e-3
    assert np.isfinite(made.correction.gain).mean() > 0.99
    # the white panel at the edge of the scene comes out as what it is
    reflectance = apply(made.lines, made.correction)[:, 40:160, 990:1015]
    assert abs(np.nanmedian(reflectance) - 0.95) < 0.02


def test_blocks_rotate_through_all_their_memory() -> None:
    made = Recording(SMALL, 5)
    with Blocks(made, 3, 10 * SMALL.line_bytes) as blocks:
        assert len(blocks.raw) == 4
        assert blocks.nbytes == 12 * SMALL.line_bytes
        joined = np.concatenate(blocks.raw)
        assert np.array_equal(joined, made.lines[np.arange(12) % 5])


@pytest.mark.parametrize("name", kernels.PACKED)
def test_packed_lines_unpack_to_the_same_counts(name: str, rng: np.random.Generator) -> None:
    fmt = PIXEL_FORMATS[name]
    for samples in (8, 3, 1):
        lines = rng.integers(0, 4096, (3, 3, samples), np.uint16)
        frames = packed(lines, fmt)
        assert frames.shape == (3, fmt.packed_bytes(3 * samples))
        for frame, line in zip(frames, lines, strict=True):
            expected = line.reshape(-1) >> (12 - fmt.bits)
            assert np.array_equal(unpack(frame, fmt, 3 * samples), expected)


@pytest.mark.timeout(180)  # whoever is first compiles
def test_rows_of_the_kernels(settings: Settings) -> None:
    rows = list(kernels.rows(settings))
    found = {row.step: row for row in rows}
    assert {step for step, _, _ in kernels.CHAINS} <= found.keys()
    for row in rows:
        assert row.rate is not None
        assert row.rate.count == settings.rounds
        assert row.met is None
        if row.unit == "GB/s":
            assert row.rate.median > 0
    assert sum(step.startswith("unpacking") for step in found) == 2 * len(kernels.PACKED)


def test_tiny_lines_are_bounded_by_their_number(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Geometry(3, 3)
    assert tiny.lines(1 << 30) == bench_data.MOST_LINES
    monkeypatch.setattr(bench_data, "MOST_LINES", 320)
    small = replace(settings, geometries=(tiny,), stream_geometries=(tiny,), block_mib=None)
    with Blocks(Recording(tiny, 5), 32, 1 << 30) as blocks:
        assert len(blocks.raw) == 10
    rows = list(streams.rows(replace(small, stream_bytes=3 << 30), link=True, disk=False))
    assert all(row.rate is not None for row in rows)
    without = [row for row in kernels.rows(small) if row.rate is None]
    assert [row.note for row in without] == ["needs 16 bands"] * 2


def test_rows_of_link_and_capture(settings: Settings) -> None:
    rows = list(streams.rows(settings, link=True, disk=True))
    assert {row.section for row in rows} == {streams.LINK, streams.DISK, "limits"}
    for row in rows:
        assert row.rate is not None
        assert row.rate.median > 0
    assert not list(settings.folder.iterdir())


def test_a_capture_that_ends_early_is_no_measurement(settings: Settings) -> None:
    more = 100 * settings.file_bytes // SMALL.line_bytes
    with (
        streams.source(SMALL, settings) as made,
        pytest.raises(SwathError, match=f"of {more} lines"),
    ):
        streams.capture_seconds(made.rig, more, ())


def test_rows_of_a_gpu_have_no_figures_without_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(which: str, threads: int = 0) -> None:
        raise DeviceError("no CUDA device")

    monkeypatch.setattr(cuda, "choose_backend", none)
    rows = list(cuda.rows(settings))
    assert {row.required for row in rows} == {0.75, 0.85, 0.7, 0.95, 2.0, 1 / 1.15, 1.0, None}
    for row in rows:
        assert (row.rate, row.ratio, row.met, row.note) == (None, None, None, "no GPU here")


def one_by_one(work: Callable[[int], None], threads: int) -> float:
    began = time.perf_counter()
    for thread in range(threads):
        work(thread)
    return time.perf_counter() - began


@pytest.mark.skipif(cupy_on_host.compiler() is None, reason="no g++ here to compile the .cu files")
def test_rows_of_a_gpu_run_on_the_host(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def stand_in(which: str, threads: int = 0) -> CudaBackend:
        made = cupy_on_host.make(tmp_path_factory.getbasetemp(), "eager")
        return CudaBackend(made, cupy_on_host.SHAPE)

    for module in (cuda, engine):
        monkeypatch.setattr(module, "choose_backend", stand_in)
    monkeypatch.setattr(cuda, "DEVICE_TIMES", 1)
    # the kernels on the host take one caller at a time
    monkeypatch.setattr(cuda, "in_threads", one_by_one)
    tiny = replace(
        settings, geometries=(Geometry(16, 17),), block_mib=0.002, buffer_bytes=1 << 13, rounds=1
    )
    rows = list(cuda.rows(tiny))
    names = {row.step for row in rows}
    assert names >= {row.step for row in cuda.missing()}
    assert {cuda.TO_DEVICE, cuda.TO_HOST, cuda.BOTH, cuda.WITHIN} <= names
    for row in rows:
        assert row.rate is not None
        assert row.rate.median > 0


def test_latency_comes_with_an_account(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = live.Trial(100, lines=98, lost=2, backend="cpu")
    trial.latency_ms = {"median": 20.0, "p99": 60.0, "max": 70.0}
    monkeypatch.setattr(live, "record", lambda setup, folder: trial)
    [row] = latency.rows(settings)
    assert row.rate is not None
    assert row.rate.median == 60.0
    assert row.met is None
    assert "2 lines lost" in row.note
    rows = list(latency.rows(replace(settings, rounds=MIN_ROUNDS)))
    assert len(rows) == len(live.RATES)
    assert all(row.met for row in rows)
    [row] = latency.open_loop_rows(settings, 10, 60.0)
    assert row.rate is not None
    assert (row.rate.median, row.met) == (0.0, False)
    trial.lost = 1
    with pytest.raises(SwathError, match="98 in the file, 1 lost"):
        list(latency.rows(settings))


def test_peers_compute_the_same_reflectance() -> None:
    made = Recording(SMALL, 4)
    expected = quantise(apply(made.lines, made.correction))[0]
    with Blocks(made, 4, 1) as blocks:
        work, pieces, size = peers.numpy_expression(made, blocks)
        assert size == pieces[0].nbytes
        finite = np.isfinite(made.correction.gain)
        assert np.array_equal(work(pieces[0])[:, finite], expected[:, finite])


def test_peers_that_are_missing_say_how_to_have_them(settings: Settings) -> None:
    rows = list(peers.rows(settings))
    assert [row.limit for row in rows] == [peer.name for peer in peers.PEERS]
    for row, peer in zip(rows, peers.PEERS, strict=True):
        if row.rate is None:
            assert f"pip install {peer.package}" in row.note or "no GPU here" in row.note
        else:
            assert row.ratio is not None
    assert rows[0].rate is not None  # NumPy is always there


def test_the_plot_shows_every_point(tmp_path: Path) -> None:
    measured = [
        (point, replace(ROW, rate=full(2.0 + i))) for i, point in enumerate(scaling.points())
    ]
    path = tmp_path / "images" / "cost.svg"
    scaling.plot(measured, path, "some machine")
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    circles = [c for c in root.iter("{http://www.w3.org/2000/svg}circle") if c.get("r") == "3"]
    assert len(circles) == len(measured)
    heights = [float(c.get("cy", "nan")) for c in circles]
    assert all(scaling.TOP <= y <= scaling.TOP + scaling.TALL for y in heights)


def test_a_bare_pipe_writes_as_the_sink_does() -> None:
    assert bare_pipe.DROP_BYTES == sink_io.DROP_BYTES


def test_options_are_settled() -> None:
    args = main.parser().parse_args(["--geometry", "640x448", "--threads", "3"])
    settings = main.settled(args)
    assert settings.geometries == settings.stream_geometries == (Geometry(640, 448),)
    assert settings.threads == 3
    assert settings.rounds >= MIN_ROUNDS
    assert settings.buffer_bytes >= 1 << 30
    for wrong in ("640", "0x4", "axb"):
        with pytest.raises(SystemExit):
            main.parser().parse_args(["--geometry", wrong])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(
            ("--geometry", bad)
            for bad in ("wide", "0x5", "100000x100000", "1" * 5000 + "x1", "٣x٣")
        ),
        *(("--threads", bad) for bad in ("0", "-1", "999", "two", "٣")),
        *(("--rounds", bad) for bad in ("0", "-3", "1.5")),
        *(("--block-mib", bad) for bad in ("-1", "0", "nan", "1e9")),
        *(("--seconds", bad) for bad in ("0", "inf")),
        ("--trials", "0"),
        ("--folder", "/no such folder"),
        ("--folder", "/proc"),
        ("--scaling", "/no such folder/cost.svg"),
        ("--scaling", "/"),
    ],
)
def test_a_wrong_option_is_told_with_what_is_allowed(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main.parser().parse_args([option, value])
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: found" in said
    assert "Error" not in said


@pytest.mark.timeout(180)  # whoever is first compiles
def test_it_runs_from_the_checkout(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOLS / "bench"), "--quick", "--json", "--only", "cpu"]
    command += ["--geometry", "320x64", "--block-mib", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["machine"]["processor"]
    assert told["options"]["geometry"] == ["320x64"]
    assert {row["section"] for row in told["rows"]} == {"limits", "CPU"}
    assert all(row["met"] is None for row in told["rows"])


def test_a_signal_that_comes_while_a_tool_ends_does_not_kill_it() -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(TOOLS)!r})
import ending
status = ending.run("tool", lambda: os.kill(os.getpid(), signal.SIGTERM))
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "tool: ended by SIGTERM\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("section", ["link", "latency"])
def test_a_bench_that_is_ended_says_so_and_leaves_nothing(
    tmp_path: Path, section: str, number: int
) -> None:
    command = [sys.executable, str(TOOLS / "bench"), "--only", section, "--rounds", "1"]
    bench = subprocess.Popen(
        [*command, "--geometry", "64x24", "--folder", str(tmp_path)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background ignores it, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not any(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ended = False
    while not ended:  # again, as a user does: what loads an extension may swallow one
        bench.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = bench.communicate(timeout=10)
            ended = True
    assert bench.returncode == 128 + number, said
    assert said.splitlines()[-1].startswith("bench: ")
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
