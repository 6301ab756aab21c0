"""A GenICam camera that does not wait: whether harvesters, driver and capture keep up with it.

The virtual camera (``tools/virtual_camera``) plays lines of the simulated one from the page cache,
by its own clock: a frame that finds no queued buffer is lost. Beside it stands a consumer in plain
ctypes that only copies each frame. Knows the bench's lines and live captures.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from virtual_camera.build import CannotBuildError, build
from virtual_camera.measure import measure
from virtual_camera.settings import environment

from bench import live
from bench.data import WHITE_MS, Geometry, Recording
from bench.latency import OPEN_LOOP_SECONDS, OPEN_LOOP_TRIALS, check
from bench.measure import MIN_ROUNDS, Row, Spread, spread
from bench.settings import Settings
from pipeline.container.envi import write_envi

SECTION = "a GenICam camera, by its own clock"
FORMAT = "Mono12"
#: A Specim FX10 at full resolution: samples × bands, lines a second.
FX10, FX10_HZ = Geometry(1024, 448), 330.0
#: Rates that are tried, lines a second, and for how long each time.
RATES_HZ = (500, 700, 850, 1000, 1150, 1300, 1450, 1600, 1800, 2000, 2250, 2500, 2750, 3000)
RATE_SECONDS = 20.0
#: Of a round of the bare consumer.
BARE_SECONDS = 3.0


@dataclass(frozen=True)
class Virtual:
    """The virtual camera, set to play.

    Attributes
    ----------
    producer : Path
    features : dict
        What plays the scene.
    source : live.Source
        Of live captures.
    """

    producer: Path
    features: dict[str, object]
    source: live.Source


@contextlib.contextmanager
def playing(geometry: Geometry, different_lines: int) -> Iterator[Virtual]:
    """Build the camera and the scene that it plays; both are gone afterwards.

    Raises
    ------
    CannotBuildError
        Without a compiler.
    """
    producer = build()
    recording = Recording(geometry, different_lines)
    with tempfile.TemporaryDirectory(prefix="swath-virtual-") as name:
        folder = Path(name)
        scene = folder / "scene.raw"
        recording.lines.tofile(scene)
        white = write_envi(folder, "white", recording.white.T[None], {"exposure": WHITE_MS})
        features: dict[str, object] = {
            "SceneFile": scene,
            "SceneLines": len(recording.lines),
            "SceneBands": geometry.bands,
            "SceneSamples": geometry.samples,
            "SceneBits": recording.bit_depth,
        }
        keys = {
            "driver": '"genicam"',
            "producer": f'"{producer}"',
            "serial": '"VC0001"',
            "pixel_format": f'"{FORMAT}"',
        }
        yield Virtual(
            producer,
            features,
            live.Source(
                "\n".join(f"{key} = {value}" for key, value in keys.items()),
                f'white = "{white}"',
                first_id=0,
                environment=environment(producer, features, folder / "locks"),
            ),
        )


def rows(settings: Settings, trials: int, seconds: float, rate_seconds: float) -> Iterator[Row]:
    """Measure the bare consumer, the trials at an FX10's rate, and the largest rate."""
    trial = settings.rounds < MIN_ROUNDS
    geometry = settings.geometries[0] if trial else FX10
    base = Row(section=SECTION, step="", geometry=str(geometry))
    try:
        with playing(geometry, settings.different_lines) as camera:
            yield _bare_row(camera, geometry, settings, base)
            setup = live.Setup(
                fps=FX10_HZ, samples=geometry.samples, bands=geometry.bands, seconds=seconds
            )
            yield _trials_row(camera, setup, trials, settings, base)
            yield _largest_row(camera, replace(setup, seconds=rate_seconds), trials, settings, base)
    except CannotBuildError as error:
        yield replace(base, step="the virtual camera", note=f"cannot be built: {error}")


def _bare_row(camera: Virtual, geometry: Geometry, settings: Settings, base: Row) -> Row:
    """Let a consumer that does nothing else copy frames, as fast as buffers are queued."""
    seconds = BARE_SECONDS if settings.rounds >= MIN_ROUNDS else 0.3
    with live.variables(camera.source.environment):
        rates = [
            measure(camera.producer, seconds, copy=True, PixelFormat=FORMAT)["gb"]
            for _ in range(settings.rounds)
        ]
    rate = spread(rates)
    return replace(
        base,
        step="a bare consumer that copies each frame, at the rate at which it gives buffers back",
        rate=rate,
        lines_per_s=rate.median * 1e9 / geometry.line_bytes,
    )


def _trials_row(
    camera: Virtual, setup: live.Setup, trials: int, settings: Settings, base: Row
) -> Row:
    done = [_captured(camera, setup, settings) for _ in range(trials)]
    good = sum(one.good for one in done)
    latest = max(one.latency_ms.get("p99", float("inf")) for one in done)
    lost = sum(one.lost for one in done)
    enough = setup.seconds >= OPEN_LOOP_SECONDS and trials >= OPEN_LOOP_TRIALS
    return replace(
        base,
        step=f"captures of {setup.seconds:g} s without a lost line",
        unit=f"of {trials}",
        rate=Spread(good, good, good, trials),
        lines_per_s=setup.fps,
        required=float(trials) if enough else None,
        note=f"{lost} lines lost in all, p99 at most {latest:.0f} ms",
    )


def _largest_row(
    camera: Virtual, setup: live.Setup, trials: int, settings: Settings, base: Row
) -> Row:
    rates = RATES_HZ if settings.rounds >= MIN_ROUNDS else RATES_HZ[:1]

    def passes(rate: float) -> bool:
        return _captured(camera, replace(setup, fps=float(rate)), settings).good

    rate = largest(rates, trials, passes)
    step = f"largest rate that passes {trials} of {trials} captures of {setup.seconds:g} s"
    if rate is None:
        return replace(base, step=step, note=f"none of {rates[0]} Hz and more")
    gbytes = rate * setup.samples * setup.bands * 2 / 1e9
    return replace(
        base, step=step, rate=Spread(gbytes, gbytes, gbytes, trials), lines_per_s=float(rate)
    )


def largest(rates: tuple[int, ...], trials: int, passes: Callable[[float], bool]) -> int | None:
    """Find the largest rate that passes as often as asked for.

    Upwards once each until one fails, then from the last that passed downwards with all trials.
    """
    tried = 0
    while tried < len(rates) and passes(rates[tried]):
        tried += 1
    for rate in reversed(rates[:tried]):
        if all(passes(rate) for _ in range(trials)):
            return rate
    return None


def _captured(camera: Virtual, setup: live.Setup, settings: Settings) -> live.Trial:
    done = live.record(setup, settings.folder, camera.source)
    check(done)
    print(f"{setup.fps:g} Hz: {live.summary(done)}", file=sys.stderr, flush=True)
    return done
