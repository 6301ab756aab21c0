"""The kernels, twice: :mod:`pipeline.compute.cpu` and :mod:`pipeline.compute.cuda`.

Both stand behind the protocols of :mod:`pipeline.compute.interface` and compute from the same
:mod:`pipeline.compute.tables`; one parity test holds them together (docs/compute.md states the
bounds). Unpacking of camera formats lives here too. Imports of numba and CuPy happen when a
backend is chosen, not before.
"""

from pipeline.compute.choose import choose_backend
from pipeline.compute.interface import Backend, GroupMath, PassOutputs, PixelPass
from pipeline.compute.tables import PassPlan

__all__ = ["Backend", "GroupMath", "PassOutputs", "PassPlan", "PixelPass", "choose_backend"]
