"""The rows of live captures: how old a line is when its pixel is seen, and whether any is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench import live
from bench.measure import MIN_ROUNDS, Row, Spread
from bench.settings import Settings
from pipeline.errors import SwathError

SECTION = "live, by the camera's clock"
#: Of each capture whose latency is measured.
SECONDS, TRIAL_SECONDS = 8.0, 1.5
#: Of the open-loop trials.
OPEN_LOOP_SECONDS, OPEN_LOOP_TRIALS = 60.0, 10
#: Captures that are coded, and what is asked of their coding.
CODED_SETUP = live.Setup(fps=100.0, samples=640, bands=224, store="pca")
CODED = ('coding = "packed"\nmax_error = 2', "max_error = 2", "lossless = true", "ratio = 16.0")


def rows(settings: Settings) -> Iterator[Row]:
    """Measure the latency at cameras' own rates."""
    trial = settings.rounds < MIN_ROUNDS
    for setup in live.RATES[1:2] if trial else live.RATES:
        yield latency_row(replace(setup, seconds=TRIAL_SECONDS if trial else SECONDS), settings)


def latency_row(setup: live.Setup, settings: Settings) -> Row:
    """Capture once; the 99th percentile of the latency over all lines that were seen."""
    done = live.record(setup, settings.folder)
    check(done)
    step = f"line → preview subscriber, p99, at {setup.fps:g} Hz"
    base = Row(
        section=SECTION,
        step=step,
        geometry=f"{setup.samples} × {setup.bands}",
        unit="ms",
        required=live.LATENCY_AIM_MS,
        at_most=True,
    )
    if not done.latency_ms:
        return replace(base, note="no strip reached the subscriber")
    ms = done.latency_ms
    count = done.lines - done.unseen if settings.rounds >= MIN_ROUNDS else 1
    note = f"median {ms['median']:.0f}, longest {ms['max']:.0f}; {done.lost} lines lost"
    return replace(
        base,
        rate=Spread(ms["p99"], ms["p99"], ms["p99"], count),
        lines_per_s=setup.fps,
        note=f"{note}, {done.backend}",
    )


def open_loop_rows(settings: Settings, trials: int, seconds: float) -> Iterator[Row]:
    """Run captures whose camera does not wait, one after the other."""
    setup = live.Setup(seconds=seconds)
    good, latest = 0, 0.0
    lost = 0
    for _ in range(trials):
        done = live.record(setup, settings.folder)
        check(done)
        good += done.good
        lost += done.lost
        latest = max(latest, done.latency_ms.get("p99", float("inf")))
    enough = seconds >= OPEN_LOOP_SECONDS and trials >= OPEN_LOOP_TRIALS
    yield Row(
        section=SECTION,
        step=f"{seconds:g} s from a camera that does not wait, trials without a lost line",
        geometry=f"{setup.samples} × {setup.bands}",
        unit=f"of {trials}",
        rate=Spread(good, good, good, trials),
        lines_per_s=setup.fps,
        required=float(trials) if enough else None,
        note=f"{lost} lines lost in all, p99 at most {latest:.0f} ms",
    )


def coded_rows(settings: Settings, seconds: float) -> Iterator[Row]:
    """Run captures that are coded: how many of their lines are while the scan still runs."""
    for pca in CODED:
        setup = replace(CODED_SETUP, seconds=seconds, pca=pca)
        done = live.record(setup, settings.folder)
        check(done)
        share = 100 * done.coded_in_scan / done.lines
        cores = done.cpu.get("coding", 0.0)
        yield Row(
            section=SECTION,
            step=f"lines coded while a scan of {seconds:g} s runs, {pca}",
            geometry=f"{setup.samples} × {setup.bands}",
            unit="% of the lines",
            rate=Spread(share, share, share, 1),
            lines_per_s=setup.fps,
            note=f"{done.lost} lines lost, coding took {cores:.2f} cores; {done.coded}",
        )


def check(done: live.Trial) -> None:
    """Refuse a trial whose lines are not all accounted for.

    Raises
    ------
    SwathError
        That is no matter of rates: something is wrong.
    """
    if not done.accounted or done.errors:
        raise SwathError(
            f"live capture: {done.clock} lines by the clock, {done.lines} in the file, {done.lost} "
            f"lost, {done.unknown} unknown" + "".join(f"; {text}" for text in done.errors)
        )
