"""``swath version``: which swath this is, and what it finds to work with."""

from __future__ import annotations

from pipeline.cli.options import Json


def version(json: Json = False) -> None:
    """Say the version, and what is installed."""
    import platform
    from importlib import metadata

    from pipeline.cli.output import print_json

    def installed(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    cupy = next(filter(None, map(installed, ("cupy-cuda13x", "cupy-cuda12x", "cupy"))), None)
    packages = {name: installed(name) for name in ("numpy", "imagecodecs", "pyzmq", "numba")}
    packages |= {"harvesters": installed("harvesters"), "cupy": cupy}
    own = installed("swath") or "unknown"
    if json:
        python = platform.python_version()
        print_json({"swath": own, "python": python, "packages": packages})
        return
    print(f"swath {own}, Python {platform.python_version()} on {platform.platform()}")
    for name, number in packages.items():
        print(f"  {name} {number or 'not installed'}")
