from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import typer

from pipeline.cli.app import app
from pipeline.config import Rig

DOCS = Path(__file__).resolve().parents[2] / "docs"


def keys(table: type = Rig) -> Iterator[str]:
    """Every key of the rig file, inner tables included."""
    for field in msgspec.structs.fields(table):
        yield field.name
        for inner in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from keys(inner)


def test_the_page_on_the_rig_file_has_every_key() -> None:
    text = (DOCS / "rig-file.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`\[?([a-z_.]+)\]?`", text)) | set(
        re.findall(r"^## \[(\w+)", text, re.M)
    )
    missing = [key for key in keys() if key not in known and f"{key} = " not in text]
    assert missing == []


def test_the_page_on_the_command_line_has_every_command_and_option() -> None:
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"`swath {name}" in text
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                assert f"{option.opts[0]}" in text, f"swath {name} {option.opts[0]}"


@pytest.mark.parametrize("page", ["rig-file.md", "command-line.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (DOCS / target).exists(), target
