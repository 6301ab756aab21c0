"""What the camera is set to as it is switched on: read from ``--set``, tried, put into variables.

A setting that the camera does not take would only be met by the capture, whose driver cannot say
where it came from. So it is tried here, on the producer itself.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import ConfigError
from virtual_camera.build import CannotBuildError
from virtual_camera.consumer import Camera, GenTLError, camera

SET, LOCKS = "SWATH_VIRTUAL_SET", "SWATH_VIRTUAL_LOCKS"
#: Would end a setting, or a line of the environment that is printed.
_BREAKS = (";", "\n", "\r", "\0")


def environment(
    producer: Path, features: Mapping[str, object], locks: Path | None = None
) -> dict[str, str]:
    """Name the variables that make a GenTL consumer find the producer, set up like this.

    Raises
    ------
    ConfigError
        When a value holds what separates settings.
    """
    for name, value in features.items():
        if any(character in str(value) for character in _BREAKS):
            raise ConfigError(
                f"{name}: found {str(value)!r}, allowed are values without semicolons and line "
                f"breaks, which separate the settings in {SET}"
            )
    named = {
        "GENICAM_GENTL64_PATH": str(producer.parent),
        SET: ";".join(f"{name}={_text(value)}" for name, value in features.items()),
    }
    return named if locks is None else named | {LOCKS: str(locks)}


def set_to(settings: Sequence[str], producer: Path) -> dict[str, object]:
    """Read ``NAME=VALUE`` and see that the camera has such features.

    Raises
    ------
    ConfigError
        When it has not.
    """
    read: dict[str, object] = {}
    known = _features(producer) if settings else []
    for one in settings:
        name, equals, value = one.partition("=")
        if name not in known:
            raise ConfigError(
                f"--set {one}: the camera has no feature {name!r}{_near(name, known)}"
            )
        if not equals:
            raise ConfigError(f"--set {one}: found no value, it takes {name}=VALUE")
        read[name] = value
    return read


def tried(producer: Path, features: Mapping[str, object], what: str) -> None:
    """See that the camera takes the settings.

    Raises
    ------
    ConfigError
        When it refuses one; ``what`` is named as their source.
    """
    with _switched_on(producer, features, what):
        pass


def _features(producer: Path) -> list[str]:
    with _switched_on(producer, {}, "the camera") as one:
        return one.features()


@contextlib.contextmanager
def _switched_on(producer: Path, features: Mapping[str, object], what: str) -> Iterator[Camera]:
    """Open a camera that is set like this, whatever else uses the cameras.

    The variables stay set for this process, which is there for this camera alone.
    """
    with tempfile.TemporaryDirectory(prefix="swath-virtual-") as locks:
        os.environ.update(environment(producer, features, Path(locks)))
        try:
            with camera(producer) as one:
                yield one
        except GenTLError as error:
            raise ConfigError(f"{what}: cannot be played so: {error.text}") from error
        except OSError as error:
            raise CannotBuildError(f"{producer}: cannot be loaded ({error})") from error


def _near(name: str, known: Sequence[str]) -> str:
    """Name a feature that may be meant."""
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), folded, 1, 0.6)
    near += [one for one in folded if name and one.startswith(name.casefold())]
    return f", did you mean {folded[near[0]]}?" if near else ""


def _text(value: object) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)
