"""Shows what was measured: a table on a terminal, Markdown in a pipe, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from bench.measure import MIN_ROUNDS, Row, Spread

#: Of the JSON object; another number when its fields change.
JSON_VERSION = 1
COLUMNS = ("step", "line", "block", "measured", "lines/s", "limit", "ratio", "at least", "")
#: Columns of figures, set right.
FIGURES = frozenset({"block", "lines/s", "at least"})
LEGEND = (
    "Medians of rounds in which subject and limit take turns; quartiles in parentheses. line: "
    "samples × bands. GB/s of raw input (uint16), lines/s of the same."
)
#: Columns that say whether something is fast enough.
JUDGEMENT = frozenset({"ratio", "at least", ""})
TRIAL = f"Fewer than {MIN_ROUNDS} rounds: a trial, nothing is judged."


def figure(value: float) -> str:
    """Write a number with three significant digits."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def with_spread(spread: Spread, unit: str = "") -> str:
    """Write a median with its quartiles."""
    counted = unit.startswith("of ")
    text = f"{spread.median:g}" if counted else figure(spread.median)
    text += f" {unit}" if unit else ""
    if spread.low == spread.high:
        return text
    return f"{text} ({figure(spread.low)}–{figure(spread.high)})"


def cells(row: Row) -> tuple[str, ...]:
    """Give the text of each column."""
    if row.rate is None:
        return (row.step, row.geometry, "", row.note, "", row.limit, "", required(row), "")
    limit = row.limit
    if row.limit_rate is not None:
        limit = f"{row.limit} {figure(row.limit_rate.median)}"
    return (
        row.step,
        row.geometry,
        "" if row.block_mib is None else f"{row.block_mib:.1f} MiB",
        with_spread(row.rate, row.unit) + (f"; {row.note}" if row.note else ""),
        "" if row.lines_per_s is None else figure(row.lines_per_s),
        limit,
        "" if row.ratio is None else with_spread(row.ratio),
        required(row),
        mark(row),
    )


def required(row: Row) -> str:
    """Write what the row must reach; nothing where it is not judged, having too few rounds."""
    if row.required is None or (row.rate is not None and row.met is None):
        return ""
    text = f"{row.required:g}"
    if not row.limit and row.unit:
        text += f" {row.unit}"
    return f"≤ {text}" if row.at_most else text


def mark(row: Row) -> str:
    """Say whether it does."""
    return {True: "ok", False: "short", None: ""}[row.met]


def columns(quick: bool) -> tuple[int, ...]:
    """Give the columns that are shown: of a quick trial, none that judges."""
    return tuple(i for i, name in enumerate(COLUMNS) if not quick or name not in JUDGEMENT)


def markdown(rows: Iterable[Row], quick: bool = False) -> str:
    """Write a Markdown table, aligned so that it can be read as it is."""
    shown = columns(quick)
    names = tuple(COLUMNS[i] for i in shown)
    lines = [names, *(tuple(cells(row)[i] for i in shown) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    rule = tuple(
        "-" * (width - 1) + ":" if name in FIGURES else "-" * max(width, 3)
        for name, width in zip(names, widths, strict=True)
    )
    out = []
    for number, line in enumerate([lines[0], rule, *lines[1:]]):
        padded = [
            text.rjust(width) if name in FIGURES and number != 1 else text.ljust(width)
            for name, text, width in zip(names, line, widths, strict=True)
        ]
        out.append("| " + " | ".join(padded) + " |")
    return "\n".join(out)


def sections(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Sort rows by section, in the order of their first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.section, []).append(row)
    return found


def show(
    rows: Sequence[Row], machine: Mapping[str, Any], file: IO[str], quick: bool = False
) -> None:
    """Print everything: drawn on a terminal, else Markdown; ``quick``: nothing that judges."""
    trial = any(row.rate is not None and row.rate.count < MIN_ROUNDS for row in rows)
    head = [" · ".join(f"{name} {value}" for name, value in machine.items() if value)]
    tail = [LEGEND]
    if trial:
        head.append(TRIAL)
        tail.append(TRIAL)
    if not file.isatty():
        parts = [f"### {name}\n\n{markdown(some, quick)}" for name, some in sections(rows).items()]
        print("\n\n".join([*head, *parts, *tail]), file=file)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(file=file)
    console.print(*head, sep="\n", style="dim", markup=False, highlight=False)
    styles = {"ok": "green", "short": "bold red", "": None}
    for name, some in sections(rows).items():
        table = Table(title=name, title_justify="left", title_style="bold", box=None)
        for i in columns(quick):
            table.add_column(COLUMNS[i], justify="right" if COLUMNS[i] in FIGURES else "left")
        for row in some:
            shown = [cells(row)[i] for i in columns(quick)]
            table.add_row(*shown, style=styles[mark(row)] if mark(row) == "short" else None)
        console.print(table)
    console.print(*tail, sep="\n", style="dim", markup=False, highlight=False)


def as_json(rows: Iterable[Row], machine: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Write one JSON object: version, machine, options, rows."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "machine": dict(machine),
            "options": dict(options),
            "rows": [row.plain() for row in rows],
        },
        indent=1,
        ensure_ascii=False,
    )
