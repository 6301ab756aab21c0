"""What the extras of the correction cost: the same kernel with and without them, in one run.

Correction to int16 reflectance alone, against the same with bad pixels replaced, a scale and an
offset of each line (from a strip of panel and masked columns, the work on them included) and the
quality mask. Saturated and dark counts are in both. Knows the recordings and the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from bench.data import Blocks, Recording
from bench.measure import Row, compare
from bench.settings import Settings
from pipeline.engine import EnginePlan, make_engine
from pipeline.line_factors import LineFactors

CORRECTION: Final = "correction alone"
EXTRAS: Final = "correction, bad pixels, factors of lines, quality mask"
#: What is left of the rate at least: the extras cost less than 15 % of the kernel's time.
REQUIRED: Final = 1 / 1.15
#: The engines of a row alternate; each has blocks under way of its own.
PLAIN: Final[dict[str, Any]] = {"reflectance": "int16", "quality": False, "preview": False}

_EACH: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("bad pixels alone", ("bad_pixels",)),
    ("factors of lines alone", ("line_factors",)),
    ("quality mask alone", ("quality",)),
    (EXTRAS, ("bad_pixels", "line_factors", "quality")),
)


def plans(
    recording: Recording, block_lines: int, **chosen: Any
) -> Iterator[tuple[str, EnginePlan]]:
    """Give what is armed, by step: first the correction alone, then each extra, then all."""
    fields: dict[str, Any] = {
        "bad_pixels": recording.bad_pixels,
        "line_factors": LineFactors(
            recording.watched,
            recording.correction,
            panel=recording.panel,
            saturation_level=recording.saturation_level,
            bad=recording.bad_pixels,
        ),
        "quality": True,
    }
    nothing = {"bad_pixels": None}
    yield CORRECTION, recording.plan(block_lines, **{**PLAIN, **nothing, **chosen})
    for step, names in _EACH:
        extras = {name: fields[name] for name in names}
        yield step, recording.plan(block_lines, **{**PLAIN, **nothing, **extras, **chosen})


def rows(settings: Settings, section: str, recording: Recording, blocks: Blocks) -> Iterator[Row]:
    """Measure each extra, and all of them, on the CPU beside the correction alone."""
    from bench.kernels import chain_run, lines_per_s

    steps = list(plans(recording, blocks.block_lines, backend="cpu", threads=settings.threads))
    alone_plan = steps[0][1]
    for step, plan in steps[1:]:
        with ExitStack() as stack:
            engines = [stack.enter_context(make_engine(each)) for each in (plan, alone_plan)]
            subject, alone = (chain_run(engine, blocks) for engine in engines)
            rate, limit, ratio = compare(subject, alone, settings.rounds)
        yield Row(
            section=section,
            step=step,
            geometry=str(recording.geometry),
            block_mib=blocks.mib,
            rate=rate,
            lines_per_s=lines_per_s(rate, recording.geometry),
            limit=CORRECTION,
            limit_rate=limit,
            ratio=ratio,
            required=REQUIRED if step == EXTRAS else None,
        )


def missing(section: str) -> Iterator[Row]:
    """Give the row of a machine without what the section needs."""
    yield Row(
        section=section,
        step=EXTRAS,
        limit=CORRECTION,
        required=REQUIRED,
        note="no GPU here",
    )
