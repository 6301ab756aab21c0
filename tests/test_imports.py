"""Which packages each part loads, seen in a fresh interpreter: imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

#: Known to all.
BOTTOM = {"pipeline", "pipeline.errors", "pipeline.layout", "pipeline.config"}
BOTTOM |= {"pipeline.reflectance", "pipeline.spectral"}
BOTTOM |= {"pipeline.bad_pixels", "pipeline.line_factors"}
#: Imported only when used: cameras, GPU, network, compiled kernels, drawing.
LAZY = {"zmq", "numba", "cupy", "harvesters", "genicam", "prometheus_client", "rich", "typer"}

#: The container, and what it codes blocks with.
CONTAINER = {"pipeline.container", "pipeline.coding"}
#: What a capture moves lines through, and what it settles before.
BELOW = {
    *("pipeline.events", "pipeline.slots", "pipeline.supervise", "pipeline.stream"),
    *CONTAINER,
    *("pipeline.compute", "pipeline.stages", "pipeline.engine"),
    *("pipeline.live", "pipeline.backlog", "pipeline.pace", "pipeline.rig_commands"),
}
#: References, from the lowest up: each may know those before it.
REFERENCES = {
    *("pipeline.reference_conditions", "pipeline.references", "pipeline.reference_geometry"),
    *("pipeline.reference_checks", "pipeline.reference_bias", "pipeline.reference_library"),
    *("pipeline.reference_choosing", "pipeline.reference_taking", "pipeline.reference_panel"),
}
ARMING = {"pipeline.session", "pipeline.describe", "pipeline.arming", *REFERENCES}
ARMING |= {"pipeline.drift_arming", "pipeline.bad_pixel_map", "pipeline.coded_capture"}

#: Package or module → own packages and modules it may load besides itself and the bottom, and
#: which of ``LAZY``. A name allows everything below it.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "pipeline.reflectance": (set(), set()),  # with layout and errors
    "pipeline.spectral": (set(), set()),  # with config and errors
    "pipeline.bad_pixels": (set(), set()),  # with nothing
    "pipeline.line_factors": (set(), set()),  # with the formula and errors
    "pipeline.bad_pixel_map": ({"pipeline.container", "pipeline.stream"}, set()),
    "pipeline.events": (set(), set()),
    "pipeline.new_files": (set(), set()),  # with errors
    "pipeline.supervise": (set(), set()),
    "pipeline.child": (set(), set()),
    "pipeline.slots": (set(), set()),
    "pipeline.rigfile": ({"pipeline.rig_check", "pipeline.toml_lines"}, set()),
    "pipeline.coding": ({"pipeline.kernel_cache"}, {"numba"}),
    "pipeline.container": ({"pipeline.coding"}, set()),
    "pipeline.stream": ({"pipeline.slots"}, {"zmq"}),
    "pipeline.compute": ({"pipeline.kernel_cache"}, {"numba"}),
    "pipeline.stages": ({"pipeline.compute", "pipeline.kernel_cache"}, {"numba"}),
    "pipeline.engine": (
        {"pipeline.compute", "pipeline.stages", "pipeline.kernel_cache"},
        {"numba"},
    ),
    "drivers": ({"pipeline.child", "pipeline.slots", "pipeline.stream"} | CONTAINER, {"zmq"}),
    "pipeline.describe": ({"pipeline.stream"} | CONTAINER, set()),
    "pipeline.references": (
        {"pipeline.describe", "pipeline.stream", "pipeline.reference_conditions"} | CONTAINER,
        set(),
    ),
    "pipeline.reference_panel": (set(), set()),
    "pipeline.reference_choosing": (
        {"pipeline.describe", "pipeline.stream"}
        | CONTAINER
        | (REFERENCES - {"pipeline.reference_taking", "pipeline.reference_panel"}),
        set(),
    ),
    "pipeline.reference_taking": (
        {
            *("pipeline.describe", "pipeline.stream", "pipeline.references", *CONTAINER),
            *("pipeline.reference_conditions", "pipeline.reference_checks"),
        },
        set(),
    ),
    "pipeline.svg_drawing": (set(), set()),
    "pipeline.reference_page": (
        {
            *("pipeline.describe", "pipeline.stream", *CONTAINER),
            *("pipeline.reference_listing", "pipeline.svg_drawing", *REFERENCES),
        },
        set(),
    ),
    "pipeline.live": ({"pipeline.slots", "pipeline.stream"}, {"zmq"}),
    "pipeline.session": (
        {"pipeline.events", "pipeline.slots", "pipeline.stream", "pipeline.supervise"},
        {"zmq"},
    ),
    "pipeline.coded_capture": (
        {"pipeline.describe", "pipeline.stream"} | CONTAINER | REFERENCES,
        set(),
    ),
    "pipeline.scan_coder": ({"pipeline.child", "pipeline.supervise"} | CONTAINER, set()),
    "pipeline.sink": (BELOW - {"pipeline.events", "pipeline.supervise"}, {"zmq"}),
    "pipeline.arming": (BELOW | ARMING, {"zmq"}),
    "pipeline.reference_arming": (BELOW | ARMING, {"zmq"}),
    "pipeline.products": (BELOW | ARMING, {"zmq"}),
    "pipeline.capture": (
        {
            *(BELOW | ARMING),
            *("pipeline.products", "pipeline.sink", "pipeline.reference_arming"),
            *("pipeline.bad_pixel_arming", "pipeline.after_scan"),
            *("pipeline.scan_coder", "pipeline.child"),
        },
        {"zmq"},
    ),
    "pipeline.reference_run": (
        {
            *(BELOW | ARMING),
            *("pipeline.rigfile", "pipeline.rig_check", "pipeline.toml_lines"),
            *("pipeline.reference_arming", "pipeline.new_files"),
        },
        {"zmq"},
    ),
    "pipeline.cli": ({"pipeline.events"}, {"typer"}),
    "swath": (CONTAINER, set()),
}
_LOAD_ALL = """
import importlib, os, pkgutil, sys
name = {name!r}
module = importlib.import_module(name)
for path in getattr(module, "__path__", ()):
    for found in pkgutil.walk_packages([path], name + "."):
        if not found.name.rsplit(".", 1)[-1].startswith({left_out!r}):
            importlib.import_module(found.name)
print("\\n".join(sys.modules))
"""


@cache
def loaded(name: str, left_out: tuple[str, ...] = ("__main__",)) -> frozenset[str]:
    """Names of all modules after a package and what lies below it were imported.

    Modules whose own name begins with one of ``left_out`` are not.
    """
    code = _LOAD_ALL.format(name=name, left_out=left_out)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return frozenset(done.stdout.split())


def below(names: frozenset[str] | set[str], tops: set[str]) -> set[str]:
    """Those of the names that are one of ``tops`` or lie in one."""
    return {n for n in names if any(n == top or n.startswith(f"{top}.") for top in tops)}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_part_loads_only_what_the_design_allows(name: str) -> None:
    own, lazy = ALLOWED[name]
    # What needs a GPU's or a producer's packages is imported by name when it is used.
    modules = loaded(name, ("__main__", "cuda", "genicam"))
    ours = below(modules, {"pipeline", "drivers", "swath"})
    parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
    strangers = ours - below(ours, own | {name}) - BOTTOM - parents
    assert strangers == set()
    assert below(modules, LAZY - lazy) == set()


def test_drivers_are_known_to_the_command_line_alone() -> None:
    top = Path(__file__).resolve().parents[1] / "pipeline"
    found = set()
    for file in top.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] == "drivers" for name in names):
                found.add(file.relative_to(top).parts[0])
    assert found == {"cli"}


def test_only_the_replay_knows_the_container() -> None:
    names = loaded("drivers", ("__main__", "genicam", "replay", "recording"))
    assert "drivers.publisher" in names
    assert below(names, {"pipeline.container"}) == set()


def test_reading_loads_nothing_that_other_systems_lack() -> None:
    hidden = ("fcntl", "resource", "pwd", "grp", "termios")
    code = (
        "import sys\n"
        f"for name in {hidden!r}: sys.modules[name] = None\n"  # importing these now fails
        "import swath, pipeline.container.export, pipeline.container.repack\n"
        "import pipeline.container.validate, pipeline.container.recovery\n"
        "import pipeline.cli.app\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stranger_called_pipeline_is_named(tmp_path: object) -> None:
    (tmp_path / "pipeline.py").write_text("x = 1\n")  # type: ignore[operator]
    done = subprocess.run(
        [sys.executable, "-c", "import swath"],
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "swath needs its own package 'pipeline', but Python finds another one at " in last
    assert "pipeline.py; rename that file" in last
