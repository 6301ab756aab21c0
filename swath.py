"""The public face of swath for Python users: a short list of names, handed on.

>>> import swath
>>> cube = swath.open("shelf-03.hsi")  # doctest: +SKIP
>>> cube.read(bands=[10, 20, 30])  # doctest: +SKIP

Importing it loads no camera, GPU, network or compiled-kernel package.
"""

from __future__ import annotations

try:
    from pipeline.container.envi import read_header
    from pipeline.container.reader import Container, open_container
    from pipeline.errors import SwathError
except ImportError as error:
    import importlib.util as _util

    _spec = _util.find_spec("pipeline")
    if _spec is None or _spec.submodule_search_locations is None:
        _where = _spec.origin if _spec is not None else "nowhere"
        raise ImportError(
            f"swath needs its own package 'pipeline', but Python finds another one at {_where}; "
            "rename that file or start from another folder"
        ) from error
    raise

open = open_container

__all__ = ["Container", "SwathError", "open", "read_header"]
