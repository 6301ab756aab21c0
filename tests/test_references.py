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


def test_what_holds_no_number_is_counted_and_told_or_refused() -> None:
    white, black = np.full((3, 4), 900, np.float32), np.full((3, 4), 100, np.float32)
    white[0, 0], black[1, 1] = np.nan, np.inf
    found = ReferenceSet(Reference("white", white), Reference("black", black))
    assert check_pair(found) == ["white or black holds no number in 2 of 12 pixels: marked invalid"]
    black[:] = np.nan
    with pytest.raises(ReferenceMismatchError, match="hold no number in 12 of 12 pixels"):
        check_pair(found)


@pytest.mark.parametrize("said", ["abc", [1, 2], float("nan"), float("inf"), -5, 0, 10**400])
def test_a_count_of_lines_that_is_none_is_taken_for_one(said: object) -> None:
    assert Reference("black", np.zeros((1, 1)), None, {"lines averaged": said}).lines == 1
    assert Reference("black", np.zeros((1, 1)), None, {"lines averaged": 40}).lines == 40
