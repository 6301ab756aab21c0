"""``swath keys``: make a pair of CURVE keys for a link between machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keys(
    name: Annotated[str, typer.Argument(help="Name of the files, such as the machine's name.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where to put them.")] = Path("keys"),
) -> None:
    """Make a pair of keys for a secured link.

    NAME.key is public and goes to the other side, NAME.key_secret stays.
    In the rig file, [stream.curve] key names the own secret file, server the driver's public
    one, and clients (on the driver's side) the public ones that may connect.
    """
    from pipeline.errors import ConfigError
    from pipeline.stream.security import make_keys

    if not name or Path(name).name != name:
        raise ConfigError(f"NAME: found {name!r}, allowed is a file name without a folder")
    public, secret = make_keys(folder, name)
    print(f"{public}  public: give it to the other side")
    print(f"{secret}  secret: stays on this machine")
