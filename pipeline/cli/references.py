"""``swath references``: what lies in a folder of references, and whether it fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import Json, Overrides

if TYPE_CHECKING:
    from pipeline.reference_listing import Listing


def references(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of references.")],
    rig: Annotated[
        Path | None,
        typer.Option("--rig", metavar="RIG.toml", help="Arm its camera and see which would fit."),
    ] = None,
    json: Json = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="OUT.html", help="Draw them all on one page, to look at."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """List the references of a folder: age, match and verdict.

    With a rig file its camera is armed, and each reference is judged as a capture would, with the
    limits of [references]. Without one each is judged by itself.
    """
    from pipeline.cli.output import print_json, short_path

    listing = _listing(folder, rig, tuple(overrides or ()))
    if json:
        print_json(listing.as_object())
    else:
        for line in listing.as_text():
            print(line)
    if page is not None:
        _write_page(listing, page)
        if not json:
            print(f"page: {short_path(page)}")


def _listing(folder: Path, rig: Path | None, overrides: tuple[str, ...]) -> Listing:
    from pipeline.config import ReferencesConfig
    from pipeline.reference_listing import list_references

    if rig is None:
        return list_references(folder, None, ReferencesConfig())
    from pipeline.cli.display import CaptureDisplay
    from pipeline.events import EventBus
    from pipeline.reference_run import conditions_of
    from pipeline.rigfile import load_rig

    loaded = load_rig(rig, overrides)
    bus = EventBus()
    bus.subscribe(CaptureDisplay())
    scan = conditions_of(loaded, rig_path=rig, overrides=overrides, bus=bus)
    return list_references(folder, scan, loaded.references)


def _write_page(listing: Listing, out: Path) -> None:
    from pipeline.errors import ConfigError
    from pipeline.reference_page import draw_page

    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(draw_page(listing))
    except FileExistsError:
        raise ConfigError(f"--page {out}: exists, it is not overwritten") from None
    except OSError as error:
        raise ConfigError(f"--page {out}: cannot be written: {error.strerror}") from None
