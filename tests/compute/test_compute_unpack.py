"""Unpacking against packing bit by bit, for every format, any number of pixels, from anywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.compute import unpack as unpacking
from pipeline.compute.unpack import unpack
from pipeline.errors import CameraError
from pipeline.layout import PIXEL_FORMATS, PixelFormat


def pack(counts: NDArray[np.uint16], fmt: PixelFormat) -> NDArray[np.uint8]:
    """Pack with Python integers, straight from the words of the standards."""
    if fmt.packing == "none":
        return counts.astype(fmt.dtype.newbyteorder("<")).view("u1")
    if fmt.packing == "lsb":
        whole = sum(int(value) << (i * fmt.bits) for i, value in enumerate(counts))
        return np.frombuffer(whole.to_bytes(fmt.packed_bytes(len(counts)), "little"), "u1")
    out, low = [], fmt.bits - 8
    for i in range(0, len(counts), 2):
        a, b = int(counts[i]), int(counts[i + 1]) if i + 1 < len(counts) else 0
        mask = (1 << low) - 1
        out += [a >> low, (a & mask) | (b & mask) << 4, b >> low]
    return np.array(out, "u1")


def counts_of(packed: NDArray[np.uint8], fmt: PixelFormat, first: int, count: int) -> list[int]:
    """Unpack with Python integers: the twin of rows that begin anywhere."""
    if fmt.packing == "lsb":
        whole = int.from_bytes(packed.tobytes(), "little")
        return [whole >> (first + i) * fmt.bits & fmt.saturation_level for i in range(count)]
    out, low = [], fmt.bits - 8
    for i in range(first, first + count):
        a, b, c = (int(byte) for byte in packed[i // 2 * 3 : i // 2 * 3 + 3])
        out.append(c << low | b >> 4 & ~(-1 << low) if i % 2 else a << low | b & ~(-1 << low))
    return out


PACKED = sorted(name for name, fmt in PIXEL_FORMATS.items() if fmt.packing != "none")
#: Values that nothing writes: they show where somebody wrote beyond the end.
GUARD, GUARDS = 0xA5A5, 40


def guarded(count: int, offset: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Make a place for counts with guards around it; ``offset`` elements off 64-byte alignment."""
    memory = np.full(count + 4 * GUARDS, GUARD, "u2")
    start = GUARDS + (-(memory.ctypes.data + 2 * GUARDS) % 64) // 2 + offset
    return memory, memory[start : start + count]


def check(memory: NDArray[np.uint16], out: NDArray[np.uint16], expected: Any) -> None:
    np.testing.assert_array_equal(out, np.asarray(expected, "u2"))
    start = (out.ctypes.data - memory.ctypes.data) // 2 if out.size else memory.size
    assert (memory[:start] == GUARD).all()
    assert (memory[start + out.size :] == GUARD).all()


@pytest.fixture(params=["numba", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacking._unpacker.cache_clear()
    if request.param == "numpy":
        monkeypatch.setattr(unpacking.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
@given(data=st.data())
def test_every_count_comes_back(way: None, name: str, data: st.DataObject) -> None:
    fmt = PIXEL_FORMATS[name]
    counts = np.array(
        data.draw(st.lists(st.integers(0, fmt.saturation_level), max_size=23)), "u2"
    ).astype(fmt.dtype)
    padded = np.concatenate([pack(counts, fmt), np.full(data.draw(st.integers(0, 4)), 255, "u1")])
    padded.flags.writeable = False
    out = np.empty(len(counts), fmt.dtype)
    assert unpack(padded, fmt, len(counts), out) is out
    np.testing.assert_array_equal(out, counts)
    np.testing.assert_array_equal(unpack(padded, fmt, len(counts)), counts)


def test_the_bits_lie_where_the_standard_says() -> None:
    frame = np.array([0x21, 0x43, 0x65], "u1")
    assert unpack(frame, PIXEL_FORMATS["Mono12p"], 2).tolist() == [0x321, 0x654]
    assert unpack(frame, PIXEL_FORMATS["Mono12Packed"], 2).tolist() == [0x213, 0x654]
    tens = np.array([0b00000001, 0b11110010, 0b00110011, 0b01000000, 0b11111111], "u1")
    assert unpack(tens, PIXEL_FORMATS["Mono10p"], 4).tolist() == [
        0b10_00000001,
        0b0011_111100,
        0b000000_0011,
        0b11111111_01,
    ]
    packed = np.array([0xFF, 0b0001_0010, 0x80], "u1")
    assert unpack(packed, PIXEL_FORMATS["Mono10Packed"], 2).tolist() == [0x3FE, 0x201]


def test_a_frame_that_is_too_short_is_refused() -> None:
    with pytest.raises(CameraError, match="3 pixels need 5 bytes"):
        unpack(np.zeros(4, "u1"), PIXEL_FORMATS["Mono12p"], 3)
    with pytest.raises(CameraError, match="needed is uint16"):
        unpack(np.zeros(6, "u1"), PIXEL_FORMATS["Mono12p"], 3, np.zeros(3, "u1"))
    read_only = np.zeros(3, "u2")
    read_only.flags.writeable = False
    odd_address = np.zeros(7, "u1")[1:].view("u2")
    for place in (read_only, odd_address, np.zeros(6, "u2")[::2]):
        with pytest.raises(CameraError, match="contiguous, aligned and writeable"):
            unpack(np.zeros(6, "u1"), PIXEL_FORMATS["Mono12p"], 3, place)


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
def test_bytes_that_do_not_follow_each_other_are_taken_too(
    way: None, name: str, rng: np.random.Generator
) -> None:
    fmt = PIXEL_FORMATS[name]
    counts = rng.integers(0, fmt.saturation_level, 101, fmt.dtype.type, endpoint=True)
    spread = np.repeat(pack(counts, fmt), 2)[::2]
    np.testing.assert_array_equal(unpack(spread, fmt, 101), counts)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("offset", [0, 1, 2, 31])
def test_large_frames_are_written_past_the_caches(
    name: str, offset: int, rng: np.random.Generator
) -> None:
    kernels = pytest.importorskip("pipeline.compute.unpack_kernels")
    fmt = PIXEL_FORMATS[name]
    pixels = kernels.STREAMED + int(rng.integers(0, 200))
    frame = rng.integers(0, 256, fmt.packed_bytes(pixels), np.uint8)
    memory, out = guarded(pixels, offset)
    unpack(frame, fmt, pixels, out)
    twin = np.empty(pixels, "u2")
    (unpacking._numpy_lsb if fmt.packing == "lsb" else unpacking._numpy_gige)(fmt.bits, frame, twin)
    check(memory, out, twin)


@pytest.fixture(scope="module")
def streamed() -> Callable[..., None]:
    """Give the frame's kernel, compiled so that small ones go past the caches, too."""
    kernels = pytest.importorskip("pipeline.compute.unpack_kernels")
    import numba

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "STREAMED", 0)
        n = numba.types
        packed = n.Array(n.uint8, 1, "C", readonly=True)
        return numba.njit(n.void(n.int64, packed, n.uint16[::1]))(kernels.unpack_frame)


@pytest.mark.parametrize("name", PACKED)
def test_frames_past_the_caches_of_any_size_at_any_address(
    streamed: Callable[..., None], name: str, rng: np.random.Generator
) -> None:
    from pipeline.compute.unpack_kernels import LAYOUTS

    fmt = PIXEL_FORMATS[name]
    longest = rng.integers(0, 256, fmt.packed_bytes(200), np.uint8)
    expected = counts_of(longest, fmt, 0, 200)
    for offset in range(32):
        for pixels in range(0, 200, 1 + offset % 3):
            memory, out = guarded(pixels, offset)
            frame = longest[: fmt.packed_bytes(pixels)].copy()
            streamed(LAYOUTS[fmt.packing, fmt.bits], frame, out)
            check(memory, out, expected[:pixels])


def rows_of(name: str) -> tuple[PixelFormat, Callable[..., None], Callable[..., int]]:
    """Give a format, and its functions for other kernels."""
    kernels = pytest.importorskip("pipeline.compute.unpack_kernels")
    fmt = PIXEL_FORMATS[name]
    layout = kernels.LAYOUTS[fmt.packing, fmt.bits]

    def row(packed: NDArray[np.uint8], first: int, out: NDArray[np.uint16]) -> None:
        kernels.unpack_row(layout, packed, first, out)

    def pixel(packed: NDArray[np.uint8], i: int) -> int:
        return int(kernels.pixel_at(layout, packed, i))

    return fmt, row, pixel


@pytest.mark.parametrize("fill", ["random", "ones"])
@pytest.mark.parametrize("name", PACKED)
def test_rows_of_any_size_from_anywhere(name: str, fill: str, rng: np.random.Generator) -> None:
    fmt, row, pixel = rows_of(name)
    for first in (*range(9), 62, 63, 64, 65):
        for count in range(101):
            # not a byte more than the pixels take
            size = fmt.packed_bytes(first + count)
            line = np.full(size, 255, "u1")
            if fill == "random":
                line = rng.integers(0, 256, size, np.uint8)
            line.flags.writeable = False
            memory, out = guarded(count, first)
            row(line, first, out)
            expected = counts_of(line, fmt, first, count)
            check(memory, out, expected)
            if fill == "ones":
                assert set(expected) <= {fmt.saturation_level}
            elif count == 100:
                assert [pixel(line, first + i) for i in range(count)] == expected


@pytest.mark.parametrize("name", PACKED)
@given(data=st.data())
def test_rows_of_longer_lines(name: str, data: st.DataObject) -> None:
    fmt, row, pixel = rows_of(name)
    first, count = data.draw(st.integers(0, 3000)), data.draw(st.integers(0, 1100))
    seed, more = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(0, 70))
    size = fmt.packed_bytes(first + count) + more
    line = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    memory, out = guarded(count, data.draw(st.integers(0, 31)))
    row(line, first, out)
    expected = counts_of(line, fmt, first, count)
    check(memory, out, expected)
    if count:
        assert pixel(line, first + count - 1) == expected[-1]


def test_rows_that_are_not_contiguous_are_refused() -> None:
    _, row, _ = rows_of("Mono12p")
    from numba.core.errors import TypingError

    with pytest.raises(TypingError, match="needed is a contiguous uint8 row"):
        row(np.zeros(300, "u1")[::2], 0, np.zeros(64, "u2"))
    with pytest.raises(TypingError, match="needed is a contiguous uint16 row"):
        row(np.zeros(300, "u1"), 0, np.zeros(128, "u2")[::2])


AT_THE_EDGE = """
import ctypes, mmap
import numpy as np
from pipeline.compute.unpack import unpack
from pipeline.compute.unpack_kernels import LAYOUTS, STREAMED, unpack_row
from pipeline.layout import PIXEL_FORMATS

libc = ctypes.CDLL(None, use_errno=True)

def walled(size):  # memory with a page before and behind it that kills who touches it
    page = mmap.PAGESIZE
    inner = -(-size // page) * page
    whole = mmap.mmap(-1, inner + 2 * page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(whole, "u1")
    for wall in (0, page + inner):
        address = ctypes.c_void_p(memory.ctypes.data + wall)
        assert libc.mprotect(address, ctypes.c_size_t(page), 0) == 0, ctypes.get_errno()
    return memory[page : page + inner]

packed, place = walled(20_000), walled(20_000)
big_packed, big_place = walled(2 * STREAMED), walled(2 * STREAMED)

def at_both_ends(packed, place, fmt, first, count):
    size = fmt.packed_bytes(first + count)
    for line in (packed[:size], packed[packed.size - size :]):
        for out in (place[: 2 * count], place[place.size - 2 * count :]):
            yield line, out.view("u2")

for fmt in PIXEL_FORMATS.values():
    if fmt.packing == "none":
        continue
    layout = LAYOUTS[fmt.packing, fmt.bits]
    for first in (0, 1, 2, 3, 64):
        for count in (*range(101), 1024):
            for line, out in at_both_ends(packed, place, fmt, first, count):
                unpack_row(layout, line, first, out)
                if first == 0:
                    unpack(line, fmt, count, out)
    for line, out in at_both_ends(big_packed, big_place, fmt, 0, STREAMED):
        unpack(line, fmt, STREAMED, out)
print("alive")
if {die}:
    unpack_row(0, packed[packed.size - 40 :], 32, place[:64].view("u2"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected in another way there")
@pytest.mark.parametrize("die", [False, True])
def test_nothing_is_read_or_written_beyond_the_ends(die: bool) -> None:
    pytest.importorskip("numba")
    code = AT_THE_EDGE.replace("{die}", str(die))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n" or die, done.stderr
    # pixels that are not there lie behind the wall: it does kill
    assert (done.returncode == 0) != die
