"""The code on docs/adding-a-stage.md runs, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.engine import EnginePlan, make_engine
from pipeline.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-stage.md"


def test_the_page_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 2
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(block, scope)
    assert capsys.readouterr().out.strip() == "[0.5 0.5 0.9 0.5]"
    bare = EnginePlan(
        bands=3, samples=5, dtype=np.dtype("u2"), block_lines=4, saturation_level=4095
    )
    with pytest.raises(ConfigError, match="stage brightest: needs reflectance, the stages before"):
        make_engine(bare, extra=[scope["BrightestStage"](bare)])
