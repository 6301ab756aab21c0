"""The decoder on docs/compression.md reads what is written."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cubes import made_cube, off_by
from numpy.typing import NDArray

from pipeline.coding.choose import make_coding
from pipeline.coding.interface import BlockShape, Masks
from pipeline.layout import envi_code

pytest.importorskip("numba")

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"


def page_decoder() -> Any:
    """Run the code on the page, and give its ``decode``."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]
    assert sum(map(bool, code.splitlines())) < 60  # but for empty ones
    scope: dict[str, Any] = {}
    exec(code, scope)
    return scope["decode"]


def write_container(path: Path, cube: NDArray[Any], coding: Any) -> None:
    """Write the least that is a coded container: header and block records."""
    lines, bands, samples = cube.shape
    payload = b""
    for first in range(0, lines, coding.block_lines):
        block = cube[first : first + coding.block_lines]
        data = coding.encode(block).data
        head = struct.pack("<4sIQQI", b"SWB1", len(block), first, len(data), zlib.crc32(data))
        payload += head + struct.pack("<I", zlib.crc32(head)) + data
    fields = {
        "samples": samples,
        "lines": lines,
        "bands": bands,
        "data type": 7,
        "decoded data type": envi_code(cube.dtype),
        "file type": coding.file_type,
        **coding.fields(),
        "description": "{not a word of deflate}",
    }
    text = "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.hdr", text)
        file.writestr("data.envi", payload)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("kind", ["scene", "copies", "noise", "outliers"])
@pytest.mark.parametrize(
    ("name", "aim"),
    [
        ("packed", {"ratio": 12}),
        ("packed", {"max_error": 2}),
        ("deflate", {"ratio": 12}),
        ("deflate", {"max_error": 2}),
        ("deflate", {"max_error": 20000}),
        ("predicted", {"max_error": 0}),
        ("predicted", {"max_error": 3}),
        ("smallest", {"max_error": 1}),
    ],
)
def test_the_page_reads_what_is_written(
    tmp_path: Path, dtype: Any, kind: str, name: str, aim: dict[str, Any]
) -> None:
    cube = made_cube(kind, np.dtype(dtype), (23, 12, 41), 2)
    masks = Masks((False, True, *(False,) * 10), int(cube[3, 3, 3]), int(np.iinfo(dtype).max))
    shape = BlockShape(12, 41, np.dtype(dtype))
    coding = make_coding(name, shape, block_lines=8, masks=masks, **aim)
    write_container(tmp_path / "x.hsi", cube, coding)
    decoded = page_decoder()(tmp_path / "x.hsi")
    blocks = [cube[n : n + 8] for n in range(0, 23, 8)]
    ours = [coding.decode(coding.encode(block).data, len(block)) for block in blocks]
    np.testing.assert_array_equal(decoded, np.concatenate(ours))
    if "max_error" in aim:
        assert off_by(cube, decoded).max() <= aim["max_error"]
