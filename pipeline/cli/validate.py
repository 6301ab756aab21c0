"""``swath validate``: hold files against the format's specification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.options import Json


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The .hsi containers.")],
    json: Json = False,
) -> int:
    """Hold files against the specification.

    Names everything that goes against D4.1, with the clause.
    Exit status 0 when there are at most warnings, 2 when there are errors.
    """
    from pipeline.cli.output import print_json
    from pipeline.cli.waiting import progress
    from pipeline.container.validate import validate as validate_file
    from pipeline.errors import ContainerError, SwathError

    results: list[dict[str, Any]] = []
    broken = False
    for file in files:
        result: dict[str, Any] = {"file": str(file), "valid": False, "findings": []}
        results.append(result)
        try:
            with progress(f"validate {file}"):
                findings = validate_file(file)
        except SwathError as error:
            broken = True
            result["error"] = str(error)
            if not json:
                print(f"{file}: error: {_without(file, str(error))}")
            continue
        errors = sum(finding.level == "error" for finding in findings)
        broken = broken or errors > 0
        result["valid"] = errors == 0
        for finding in findings:
            names = ("level", "clause", "entry", "text")
            result["findings"].append({name: getattr(finding, name) for name in names})
            if not json:
                place = f"{file}: {finding.entry}" if finding.entry else str(file)
                text = _without(file, finding.text)
                print(f"{place}: {finding.level}: {text} [{finding.clause}]")
        if not json:
            warnings = len(findings) - errors
            print(f"{file}: {_verdict(errors, warnings)}")
    if json:
        print_json({"valid": not broken, "files": results})
    return ContainerError.exit_status if broken else 0


def _without(file: Path, text: str) -> str:
    """Leave out the file's name, which stands before the finding."""
    return text.removeprefix(f"{file}: ")


def _verdict(errors: int, warnings: int) -> str:
    from pipeline.cli.output import count_text

    parts = [count_text(n, word) for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return f"{'not valid' if errors else 'valid'}{': ' if parts else ''}{', '.join(parts)}"
