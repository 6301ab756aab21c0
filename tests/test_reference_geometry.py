"""Where a scan's pixels lie in a reference: any region, binning and flip, against the sensor."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reference_conditions import Conditions
from pipeline.reference_geometry import Placement, place

SENSOR = np.arange(24 * 36, dtype=np.float64).reshape(24, 36) ** 1.1


@st.composite
def views(draw: st.DrawFn, binning: tuple[int, int]) -> Conditions:
    """A region of the sensor at a binning, perhaps turned round."""
    rows, columns = 24 // binning[0], 36 // binning[1]
    vroi = sorted(draw(st.tuples(st.integers(1, rows), st.integers(1, rows))))
    hroi = sorted(draw(st.tuples(st.integers(1, columns), st.integers(1, columns))))
    flip = draw(st.sets(st.sampled_from(["spectral", "spatial"])))
    return Conditions(
        vroi[1] - vroi[0] + 1,
        hroi[1] - hroi[0] + 1,
        binning=binning,
        vroi=(vroi[0], vroi[1]),
        hroi=(hroi[0], hroi[1]),
        flip=tuple(sorted(flip)),
    )


def seen(view: Conditions) -> np.ndarray:
    """Read the sensor out as these conditions say, pixels of a bin summed."""
    assert view.binning is not None
    assert view.vroi is not None
    assert view.hroi is not None
    b, s = view.binning
    out = SENSOR[: 24 // b * b, : 36 // s * s].reshape(24 // b, b, 36 // s, s).sum(axis=(1, 3))
    out = out[view.vroi[0] - 1 : view.vroi[1], view.hroi[0] - 1 : view.hroi[1]]
    if "spectral" in view.flip:
        out = out[::-1]
    return out[:, ::-1] if "spatial" in view.flip else out


@given(st.data())
def test_what_is_placed_is_what_the_scan_sees(data: st.DataObject) -> None:
    own = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    factor = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    reference = data.draw(views(own))
    scan = data.draw(views((own[0] * factor[0], own[1] * factor[1])))
    found = place(reference, scan)
    assert scan.vroi is not None
    assert scan.hroi is not None
    assert reference.vroi is not None
    assert reference.hroi is not None
    inside = all(
        (want[0] - 1) * f + 1 >= have[0] and want[1] * f <= have[1]
        for want, have, f in (
            (scan.vroi, reference.vroi, factor[0]),
            (scan.hroi, reference.hroi, factor[1]),
        )
    )
    assert isinstance(found, Placement) == inside
    if isinstance(found, Placement):
        assert np.allclose(found.apply(seen(reference), "sum"), seen(scan), rtol=1e-6)
        mean = seen(scan) / (factor[0] * factor[1])
        assert np.allclose(found.apply(seen(reference), "mean"), mean, rtol=1e-6)
        ones = np.ones(seen(reference).shape)
        size = np.sqrt(factor[0] * factor[1])
        assert np.allclose(found.apply(ones, "deviation"), size)
        assert np.allclose(found.apply(ones, "deviation of mean"), 1 / size)


def test_without_a_region_both_show_the_whole_sensor() -> None:
    fine, coarse = Conditions(8, 6, binning=(1, 1)), Conditions(4, 3, binning=(2, 2))
    found = place(fine, coarse)
    assert isinstance(found, Placement)
    assert found.apply(np.ones((8, 6)), "sum").tolist() == [[4.0] * 3] * 4
    assert isinstance(place(fine, Conditions(3, 3, binning=(2, 2))), str)
