"""The rows of compression: how small, how wrong and how fast, beside other codecs.

Sizes are those of whole cubes with all that their decoder needs; errors are measured on what was
decoded. A size is the same whenever it is measured, a rate is not: rates are medians of rounds in
which coding, decoding and a copy take turns. Every coding of swath has its row; judged is the best
where the requirement leaves the coding open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from bench import codecs, codings, peers
from bench.codecs import Outcome
from bench.cubes import Cube, copies, measured_cubes
from bench.data import Geometry, Recording
from bench.limits import Copy, touched
from bench.measure import MIN_ROUNDS, Row, Run, Spread, alternate, compare, spread
from bench.settings import Settings
from pipeline.coding.interface import Coding
from pipeline.errors import ConfigError

CUBES, LOSSLESS, BOUND, RATE, SPEED = (
    "cubes",
    "lossless",
    "max error = noise sigma",
    "32:1",
    "throughput of compression",
)
#: What can be asked for.
PARTS = ("all", "sizes", "rates")
RATIO = 32.0
#: Above what is missing, when a whole file has to reach the ratio.
MORE = 1.001
SIZE = "to 1"
#: What must be reached: ratios to the best other codec, dB above and share of JPEG 2000's.
LOSSLESS_GAIN, BOUND_GAIN, PSNR_GAIN, ANGLE_SHARE = 1.25, 1.4, 15.0, 0.25
#: GB/s of raw input; and how many times scikit-learn's IncrementalPCA.
PACKED_RATE, BOUND_RATE, DECODE_RATE, SKLEARN_GAIN = 0.3, 0.1, 0.5, 20.0
#: swath's codings that can be lossless, and that take a bound.
EXACT = ("predicted", "smallest", "packed", "deflate", "jpegxl", "jpeg2000")
BOUNDED = ("predicted", "smallest", "packed", "deflate")
TRANSFORMED = ("packed", "deflate")
#: Lines of the simulated scene: two blocks.
SCENE_LINES = 256
#: Blocks that a rate is measured over.
LEAST_BLOCKS = 16


def rows(settings: Settings, part: str = PARTS[0]) -> Iterator[Row]:
    """Measure every cube, then the rates, or one of both; a trial is not judged."""
    quick = settings.rounds < MIN_ROUNDS
    cubes, why = measured_cubes(quick)
    for row in _all(cubes, why, settings, part):
        yield replace(row, required=None) if quick else row


def _all(cubes: Sequence[Cube], why: str, settings: Settings, part: str) -> Iterator[Row]:
    for cube in cubes:
        yield _about(cube, why)
    if part != "rates":
        for made in (lossless_rows, bound_rows, rate_rows):
            for cube in cubes:
                yield from made(cube, settings)
    if part != "sizes":
        yield from speed_rows(cubes[-1], settings)


def exact(value: float) -> Spread:
    """Give the spread of what comes out the same in every round."""
    return Spread(value, value, value, MIN_ROUNDS)


def _about(cube: Cube, why: str) -> Row:
    """Say what a cube is; the noise is estimated, see `cubes.noise`."""
    dead = int((~cube.live).sum())
    parts = [f"{cube.pixels.dtype}", f"{copies(cube):.0f} % of the spectra are copies of others"]
    parts += [f"{dead} bands of one value"] if dead else []
    return Row(
        section=CUBES,
        step="noise sigma",
        geometry=f"{cube.name}, {cube.shape_text}",
        unit="counts",
        rate=exact(cube.sigma),
        note="; ".join([*parts, why] if why else parts),
    )


def _row(section: str, cube: Cube, outcome: Outcome, note: str = "") -> Row:
    """Make the row of one codec on one cube, not yet compared."""
    return Row(
        section=section,
        step=outcome.codec,
        geometry=cube.name,
        unit=SIZE,
        rate=exact(outcome.ratio),
        note=note or f"once {_rates(outcome)}",
    )


def _rates(outcome: Outcome) -> str:
    return f"{outcome.encode:.3f} GB/s in, {outcome.decode:.3f} out"


def _errors(outcome: Outcome) -> str:
    found = outcome.quality
    return f"{found.psnr:.1f} dB, {found.angle:.3f}°, max {found.max_error}; {_rates(outcome)}"


def _ours(
    section: str, cube: Cube, settings: Settings, names: Sequence[str], **aim: Any
) -> tuple[list[Outcome], list[Row]]:
    """Run swath's codings; rows for those that cannot."""
    done: list[Outcome] = []
    cannot: list[Row] = []
    for name in names:
        try:
            done.append(codings.run(name, cube, settings.threads, **aim).outcome)
        except ConfigError as error:
            row = Row(section=section, step=f"swath {name}", geometry=cube.name, note=str(error))
            cannot.append(row)
    return [replace(one, codec=f"swath {one.codec}") for one in done], cannot


def _judged(
    section: str,
    cube: Cube,
    ours: Sequence[Outcome],
    theirs: Sequence[Outcome],
    required: float,
    error: int,
) -> Iterator[Row]:
    """Give all codecs' rows: the best of ours beside the best of theirs, and the largest error."""
    show = _errors if error else _rates
    best = max(theirs, key=lambda one: one.ratio)
    for one in theirs:
        yield _row(section, cube, one, show(one))
    top = max(ours, key=lambda one: one.ratio)
    for one in ours:
        yield replace(
            _row(section, cube, one, show(one)),
            limit=best.codec,
            limit_rate=exact(best.ratio),
            ratio=exact(one.ratio / best.ratio),
            required=required if one is top else None,
        )
    yield Row(
        section=section,
        step="largest error of all swath codings",
        geometry=cube.name,
        unit="counts",
        rate=exact(max(one.quality.max_error for one in ours)),
        required=error,
        at_most=True,
    )


def lossless_rows(cube: Cube, settings: Settings) -> Iterator[Row]:
    """Compare what nothing is lost with."""
    theirs = list(codecs.lossless(cube, settings.threads))
    ours, cannot = _ours(LOSSLESS, cube, settings, EXACT, max_error=0)
    yield from _judged(LOSSLESS, cube, ours, theirs, LOSSLESS_GAIN, 0)
    yield from cannot


def bound_rows(cube: Cube, settings: Settings) -> Iterator[Row]:
    """Compare at a bound of the cube's own noise; those of others that hold it."""
    d = cube.sigma
    theirs = list(codecs.bounded(cube, d, settings.threads))
    for one in theirs:
        if one.quality.max_error > d:
            yield _row(BOUND, cube, one, f"breaks the bound: {_errors(one)}")
    held = [one for one in theirs if one.quality.max_error <= d]
    ours, cannot = _ours(BOUND, cube, settings, BOUNDED, max_error=d)
    yield from _judged(BOUND, cube, ours, held, BOUND_GAIN, d)
    yield from cannot


def rate_rows(cube: Cube, settings: Settings) -> Iterator[Row]:
    """Compare the error at one size."""
    every = cube.nbytes < 1 << 24
    theirs = list(codecs.at_rate(cube, RATIO, settings.threads, every=every))
    for one in theirs:
        yield _row(RATE, cube, one, _errors(one))
    jpeg2000 = theirs[0]
    ours, cannot = _ours(RATE, cube, settings, TRANSFORMED, ratio=RATIO)
    least = min((one.ratio for one in ours), default=RATIO)
    if least < RATIO:
        # the aim is of blocks: what a small file holds beside them is asked for too
        ours, cannot = _ours(RATE, cube, settings, TRANSFORMED, ratio=MORE * RATIO**2 / least)
    for one in ours:
        yield _row(RATE, cube, one, _errors(one))
        judged = one.codec == "swath packed"
        if one.ratio < RATIO:
            yield Row(
                section=RATE,
                step=f"{one.codec}, PSNR above JPEG 2000",
                geometry=cube.name,
                required=PSNR_GAIN if judged else None,
                unit="dB",
                note=f"not compared: reached {one.ratio:.2f} to 1 only",
            )
            continue
        yield Row(
            section=RATE,
            step=f"{one.codec}, PSNR above JPEG 2000",
            geometry=cube.name,
            unit="dB",
            rate=exact(one.quality.psnr - jpeg2000.quality.psnr),
            required=PSNR_GAIN if judged else None,
        )
        yield Row(
            section=RATE,
            step=f"{one.codec}, mean spectral angle",
            geometry=cube.name,
            unit="°",
            rate=exact(one.quality.angle),
            limit="JPEG 2000",
            limit_rate=exact(jpeg2000.quality.angle),
            ratio=exact(one.quality.angle / jpeg2000.quality.angle),
            required=ANGLE_SHARE if judged else None,
            at_most=True,
        )
    yield from cannot


#: Coding, its aim in words, whether the images' codecs are in it, and GB/s to reach in and out.
SPEEDS: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("packed", "ratio", PACKED_RATE, DECODE_RATE),
    ("packed", "bound", None, None),
    ("packed", "lossless", None, None),
    ("deflate", "ratio", None, None),
    ("deflate", "bound", BOUND_RATE, DECODE_RATE),
    ("deflate", "lossless", None, None),
    ("predicted", "bound", None, None),
    ("predicted", "lossless", None, None),
    ("smallest", "bound", None, None),
    ("smallest", "lossless", None, None),
    ("packints", "lossless", None, None),
)
IMAGES = (("jpegxl", "lossless", None, None), ("jpeg2000", "lossless", None, None))


def speed_rows(real: Cube, settings: Settings) -> Iterator[Row]:
    """Measure coding and decoding on the simulated scene and on the last of the cubes."""
    geometry = settings.geometries[0]
    recording = Recording(geometry, min(settings.different_lines, SCENE_LINES))
    scene = Cube(f"simulated, {geometry}", recording.lines)
    yield from _sklearn_row(scene, geometry, recording, settings)
    for cube, kinds in ((scene, SPEEDS), (real, (*SPEEDS, *IMAGES))):
        copy = Copy([cube.pixels], touched(cube.nbytes), settings.threads)
        for name, aim, writing, reading in kinds:
            yield from _speed_rows(cube, name, aim, writing, reading, copy, settings)


def _aim(aim: str, cube: Cube) -> dict[str, Any]:
    return {
        "ratio": {"ratio": RATIO},
        "bound": {"max_error": cube.sigma},
        "lossless": {"max_error": 0},
    }[aim]


def _speed_rows(
    cube: Cube,
    name: str,
    aim: str,
    writing: float | None,
    reading: float | None,
    copy: Run,
    settings: Settings,
) -> Iterator[Row]:
    text = {"ratio": f"{RATIO:g}:1", "bound": f"max error {cube.sigma}", "lossless": "lossless"}
    step = f"swath {name}, {text[aim]}"
    try:
        coding = codings.coding_for(name, cube, **_aim(aim, cube))
        with ThreadPoolExecutor(settings.threads) as pool:
            encode, decode = runs(coding, cube, pool)
            into, out, bound = map(spread, alternate((encode, decode, copy), settings.rounds))
    except ConfigError as error:
        yield Row(section=SPEED, step=step, geometry=cube.name, note=str(error))
        return
    for what, rate, required in (("coding", into, writing), ("decoding", out, reading)):
        yield Row(
            section=SPEED,
            step=f"{step}, {what}",
            geometry=cube.name,
            rate=rate,
            required=required,
            note=f"memcpy {bound.median:.1f} GB/s",
        )


def runs(coding: Coding, cube: Cube, pool: ThreadPoolExecutor) -> tuple[Run, Run]:
    """Make runs that code all blocks of a cube, and decode them again: GB/s of raw input.

    Of a short cube more than once: at the end of a run a thread waits for the other's last block.
    """
    given = codings.blocks(cube, coding)
    given *= -(-LEAST_BLOCKS // len(given))
    nbytes = sum(block.nbytes for block in given)
    coded = [coding.encode(block).data for block in given]

    def timed(work: Callable[..., Any], *lists: Sequence[Any]) -> float:
        began = time.perf_counter()
        for _ in pool.map(work, *lists):
            pass
        return nbytes / (time.perf_counter() - began) / 1e9

    lines = [len(block) for block in given]
    return (
        lambda: timed(coding.encode, given),
        lambda: timed(coding.decode, coded, lines),
    )


def _sklearn_row(
    scene: Cube, geometry: Geometry, recording: Recording, settings: Settings
) -> Iterator[Row]:
    """Compare with the components that one would take instead, which store nothing yet."""
    peer = next(peer for peer in peers.PEERS if peer.module == "sklearn")
    row = Row(
        section=SPEED,
        step=f"swath packed, {RATIO:g}:1, coding",
        geometry=scene.name,
        limit=peer.name,
        required=SKLEARN_GAIN,
    )
    if peer.missing:
        yield replace(row, note=peer.missing)
        return
    groups = peers.groups(recording)
    work = peers.components_of_groups()
    limit = peers.fastest(settings.threads, peers.peer_run(work, groups, groups[0].nbytes))
    coding = codings.coding_for("packed", scene, ratio=RATIO)
    with ThreadPoolExecutor(settings.threads) as pool:
        encode, _ = runs(coding, scene, pool)
        rate, bound, ratio = compare(encode, limit, settings.long_rounds)
    yield replace(row, rate=rate, limit_rate=bound, ratio=ratio)
