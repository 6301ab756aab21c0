"""GenTL buffers are read as they lie in memory: padding, offsets, byte order, torn frames."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.genicam_buffers import PixelReader, device_time_ns
from pipeline.layout import NO_VALUE, PIXEL_FORMATS

WIDTH, HEIGHT = 6, 4


def buffer_of(rows, *, padding=0, offset=0, tail=b"", **told):
    """A buffer with these rows of bytes, padding behind each, something before and behind."""
    raw = b"\xee" * offset + b"".join(bytes(r) + b"\xdd" * padding for r in rows) + tail
    told = {"raw_buffer": raw, "padding_x": padding, "image_offset": offset} | told
    return SimpleNamespace(**told)


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("offset", [0, 16])
@pytest.mark.parametrize("name", ["Mono8", "Mono12", "Mono16"])
def test_pixels_are_read_without_padding_and_chunks(rng, name, padding, offset):
    fmt = PIXEL_FORMATS[name]
    pixels = rng.integers(0, fmt.saturation_level + 1, (HEIGHT, WIDTH)).astype(fmt.dtype)
    buffer = buffer_of(
        [row.tobytes() for row in pixels],
        padding=padding,
        offset=offset,
        tail=b"chunk data",
        width=WIDTH,
        height=HEIGHT,
    )
    reader = PixelReader(WIDTH, HEIGHT, fmt)
    assert reader.whole(buffer)
    assert np.array_equal(reader.view(buffer), pixels)


def test_big_endian_pixels_have_their_value(rng):
    pixels = rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(">u2")
    buffer = buffer_of([row.tobytes() for row in pixels], pixel_endianness=2)
    out = np.empty((HEIGHT, WIDTH), np.uint16)
    out[:] = PixelReader(WIDTH, HEIGHT, PIXEL_FORMATS["Mono16"]).view(buffer)
    assert np.array_equal(out, pixels.astype(np.uint16))


def lsb_packed(values):
    """12-bit counts one after another, least significant bit first."""
    number = sum(int(v) << (12 * i) for i, v in enumerate(values))
    return number.to_bytes((12 * len(values) + 7) // 8, "little")


@pytest.mark.parametrize("width", [6, 5])
def test_packed_pixels_are_unpacked_with_padding_and_without(rng, width):
    fmt = PIXEL_FORMATS["Mono12p"]
    pixels = rng.integers(0, 4096, (HEIGHT, width)).astype(np.uint16)
    reader = PixelReader(width, HEIGHT, fmt)
    buffer = buffer_of([lsb_packed(pixels.ravel())])
    assert reader.whole(buffer)
    assert np.array_equal(reader.view(buffer), pixels)
    buffer.raw_buffer = buffer.raw_buffer[:-1]
    assert not reader.whole(buffer)
    padded = buffer_of([lsb_packed(row) for row in pixels], padding=3, offset=8)
    assert reader.whole(padded)
    assert np.array_equal(reader.view(padded), pixels)


@pytest.mark.parametrize(
    "told",
    [
        {"height": HEIGHT - 1},
        {"width": WIDTH + 1},
        {"delivered_image_height": HEIGHT - 2},
        {"size_filled": WIDTH * HEIGHT - 1},
        {"raw_buffer": b"\0" * (WIDTH * HEIGHT - 1)},
    ],
)
def test_a_torn_frame_is_not_whole(told):
    buffer = buffer_of([bytes(WIDTH)] * HEIGHT, **told)
    assert not PixelReader(WIDTH, HEIGHT, PIXEL_FORMATS["Mono8"]).whole(buffer)


def test_the_cameras_time_is_in_nanoseconds_where_it_is_known():
    device = SimpleNamespace(timestamp_frequency=125_000_000)
    stream = SimpleNamespace(parent=device)
    assert device_time_ns(SimpleNamespace(timestamp_ns=77)) == 77
    assert device_time_ns(SimpleNamespace(timestamp=250, parent=stream)) == 2000
    device.timestamp_frequency = 0
    assert device_time_ns(SimpleNamespace(timestamp=250, parent=stream)) == NO_VALUE
    assert device_time_ns(SimpleNamespace(timestamp=0)) == NO_VALUE
    assert device_time_ns(SimpleNamespace()) == NO_VALUE
