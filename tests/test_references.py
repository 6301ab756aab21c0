"""References as a set: what the formula takes of them, and how white and black go together."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ReferenceMismatchError
from pipeline.references import Reference, ReferenceSet, check_pair


def test_a_white_that_is_no_white_is_refused() -> None:
    dark = Reference("black", np.full((3, 4), 100, np.float32))
    with pytest.raises(ReferenceMismatchError, match="is the lamp on"):
        check_pair(ReferenceSet(Reference("white", np.full((3, 4), 90, np.float32)), dark))
    mixed = np.full((3, 4), 900, np.float32)
    mixed[0, 0] = 50
    said = check_pair(ReferenceSet(Reference("white", mixed), dark))
    assert said == ["white is not brighter than black in 1 of 12 pixels: marked invalid"]


def test_a_white_of_another_exposure_without_its_own_dark_is_told() -> None:
    white = Reference("white", np.full((3, 4), 900, np.float32), None, {"exposure": 1.0})
    black = Reference("black", np.full((3, 4), 90, np.float32), None, {"exposure": 2.0})
    own = Reference("white_black", np.full((3, 4), 80, np.float32), None, {"exposure": 1.0})
    assert any("no dark of its own" in text for text in check_pair(ReferenceSet(white, black)))
    assert check_pair(ReferenceSet(white, black, own)) == []
