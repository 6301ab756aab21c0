"""The mechanical shutter of a GenICam camera, where it has one.

SFNC has no feature for it, so each vendor's spelling stands in a table here. Knows features only.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from drivers.genicam_nodes import Nodes


class Spelling(NamedTuple):
    """How a vendor's cameras close and open the shutter.

    Attributes
    ----------
    closing, opening : (str, value)
        Feature to set, and to what; True executes a command.
    settles_s : float
        How long the blades move, seconds: what is exposed before is neither dark nor light.
    """

    closing: tuple[str, Any]
    opening: tuple[str, Any]
    settles_s: float


#: Length of the motor's pulse, ms; 200 is what programs for these cameras use, 255 the largest.
_PULSE_MS: Final = 200
#: One line for each vendor; a camera that is not here is asked for the cap.
SPELLINGS: Final = (
    # Specim FX10 and FX17: a pulse of so many ms drives the motor one way or the other. Writing it
    # moves the blade, whatever value was there before; where it is now cannot be read.
    Spelling(
        ("MotorShutter_PulseFwd", _PULSE_MS), ("MotorShutter_PulseRev", _PULSE_MS), 2e-3 * _PULSE_MS
    ),
)


class Shutter:
    """The shutter of one camera.

    Parameters
    ----------
    nodes : Nodes
        Of the camera.

    Attributes
    ----------
    spelling : Spelling or None
        None where the camera has no shutter that is known here.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.spelling = next((one for one in SPELLINGS if _has(nodes, one)), None)

    def move(self, closed: bool) -> None:
        """Close or open it, and wait until it stands still.

        Raises
        ------
        CameraError
            When the camera refuses, or is gone.
        """
        assert self.spelling is not None
        name, value = self.spelling.closing if closed else self.spelling.opening
        self._nodes.set(name, value, "shutter")
        time.sleep(self.spelling.settles_s)


def _has(nodes: Nodes, spelling: Spelling) -> bool:
    return all(nodes.writable(name) for name, _ in (spelling.closing, spelling.opening))
