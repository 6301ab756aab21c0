"""What a GPU decodes is what the CPU decodes: every block, bit for bit, and every damage."""

from __future__ import annotations

import struct
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("hypothesis")

from cuda_blocks_made import aside, coded_rows, pca_block, predicted_block, wild_block
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cubes import cubes, made_cube, masks_of, off_by

from pipeline.coding import cuda, cuda_decode
from pipeline.coding.choose import make_coding
from pipeline.coding.cuda import Coder, CudaCoding
from pipeline.coding.interface import BlockShape, Coding, Masks, Noise
from pipeline.coding.predicted import PredictedCoding
from pipeline.coding.rans import encode_rows
from pipeline.coding.smallest import PARTS, SmallestCoding
from pipeline.errors import ContainerError, DeviceError

pytest.importorskip("numba")

NAMES = ("packed", "deflate", "predicted", "smallest")
LANES = (1, 2, 3, 31, 32, 37, 100, 1000, 4096)
SHAPE = BlockShape(7, 33, np.dtype(np.uint16))
LINES = 6
some = settings(max_examples=30, deadline=None)
many = settings(max_examples=80, deadline=None)


def on_cuda(coding: Coding, coder: Coder) -> CudaCoding:
    return CudaCoding(coding, coder)  # type: ignore[arg-type]


def agree(coding: Coding, coder: Coder, data: bytes, lines: int) -> NDArray[Any] | None:
    """Assert that both decode to the same, or raise the same; give what they decode to."""
    wanted, told = None, ""
    try:
        wanted = coding.decode(data, lines)
    except ContainerError as error:
        told = str(error)
    if wanted is None:
        with pytest.raises(ContainerError) as raised:
            on_cuda(coding, coder).decode(data, lines)
        assert str(raised.value) == told
        return None
    found = on_cuda(coding, coder).decode(data, lines)
    assert found.dtype == wanted.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, wanted)
    return wanted


@some
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_every_coded_block_decodes_to_the_same_pixels(
    coder: Coder, data: st.DataObject, name: str
) -> None:
    cube = data.draw(cubes())
    aim: dict[str, Any] = {"max_error": data.draw(st.sampled_from([0, 1, 7, 300]))}
    if name in ("packed", "deflate"):
        aims = ({"ratio": 6.0}, {"noise": Noise(9.0)}, aim)
        aim = data.draw(st.sampled_from(aims))
    masks = data.draw(masks_of(cube))
    coding = make_coding(
        name, BlockShape(cube.shape[1], cube.shape[2], cube.dtype), masks=masks, **aim
    )
    assert agree(coding, coder, coding.encode(cube).data, len(cube)) is not None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lines", [1, 40])
def test_lines_of_a_real_width(coder: Coder, name: str, lines: int) -> None:
    cube = made_cube("outliers", np.dtype(np.uint16), (lines, 11, 160), 5)
    masks = Masks((False, True, False), int(cube[0, 0, 0]), None)
    coding = make_coding(name, BlockShape(11, 160, cube.dtype), max_error=1, masks=masks)
    assert agree(coding, coder, coding.encode(cube).data, lines) is not None


@some
@given(seed=st.integers(0, 2**32 - 1), lanes=st.sampled_from(LANES))
def test_any_lanes_tables_low_bits_and_escapes(coder: Coder, seed: int, lanes: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [
        (int(rng.integers(0, 9)), int(rng.integers(-40, 1)), int(rng.integers(0, 256)))
        for _ in range(3)
    ]
    classes = rng.integers(0, 3, SHAPE.bands)
    values = rng.integers(-3000, 3000, (SHAPE.bands, LINES * SHAPE.samples)) >> rng.integers(0, 12)
    residual = coded_rows(values, lanes, kinds, classes, rng)
    data = pca_block(SHAPE, LINES, np.full(7, 9000), b"", 0, b"", 1, residual)
    decoded = agree(make_coding("packed", SHAPE, max_error=0), coder, data, LINES)
    assert decoded is not None
    wanted = (values + 9000).reshape(SHAPE.bands, LINES, SHAPE.samples).transpose(1, 0, 2)
    np.testing.assert_array_equal(decoded, wanted)


@some
@given(seed=st.integers(0, 2**32 - 1))
def test_products_up_to_the_largest_exact_ones(coder: Coder, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, columns = 5, LINES * SHAPE.samples
    size = int(2 ** rng.uniform(0, 22))
    scores = rng.integers(-size, size + 1, (count, columns))
    basis = rng.integers(-(1 << 15), (1 << 15) + 1, (count, SHAPE.bands))
    largest = int(np.abs(scores).max()) * int(np.abs(basis).max()) * count
    step = int(((1 << 52) - 1) // max(largest, 1) * rng.choice([0.001, 0.1, 0.999, 1.001]))
    kind, zero = [(5, -128, 255)], np.zeros(count, int)
    data = pca_block(
        *(SHAPE, LINES, rng.integers(-(1 << 16), 1 << 16, 7)),
        *(coded_rows(basis, 3, [(9, -64, 129)], zero, rng), count),
        *(coded_rows(scores, 5, kind, zero, rng), min(step, (1 << 32) - 1), None),
    )
    agree(make_coding("packed", SHAPE, ratio=2), coder, data, LINES)


@some
@given(seed=st.integers(0, 2**32 - 1))
def test_predictions_with_any_weights(coder: Coder, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = BlockShape(40, 9, np.dtype(rng.choice([np.int8, np.uint8, np.uint16, np.int16])))
    previous, bound = int(rng.integers(0, 33)), int(rng.choice([0, 2, 1000, 65535]))
    weights = rng.integers(-(1 << 20), 1 << 20, (previous, 40)) >> rng.integers(0, 20)
    residual = rng.integers(-(1 << 20), 1 << 20, (40, 18)) >> rng.integers(0, 20)
    none = np.zeros(40, int)
    data = predicted_block(
        *(shape, 2, rng.integers(-(1 << 16), 1 << 16, 40), rng.integers(0, 15, 40)),
        *(coded_rows(weights, 4, [(14, -64, 129)], none[:previous], rng), previous),
        *(coded_rows(residual, 6, [(13, -100, 201)], none, rng), bound),
    )
    decoded = agree(make_coding("predicted", shape), coder, data, 2)
    assert decoded is not None
    plain = PredictedCoding(shape, 2, numba=False).decode(data, 2)
    np.testing.assert_array_equal(plain, decoded)


def test_of_values_masked_twice_the_last_counts(coder: Coder) -> None:
    places, values = (0, 0, 5, 7, 7, 7, 1385), (1, 2, 3, 4, 5, 6, 7)
    data = pca_block(SHAPE, LINES, np.full(7, 9000), b"", 0, b"", 1, None)
    none = aside(SHAPE, LINES)
    data = data.replace(none, aside(SHAPE, LINES, places, values))
    decoded = agree(make_coding("packed", SHAPE, ratio=2), coder, data, LINES)
    assert decoded is not None
    rows = decoded.transpose(1, 0, 2).reshape(-1)
    assert rows[[0, 5, 7, 1385]].tolist() == [2, 3, 6, 7]
    assert (rows == 9000).sum() == rows.size - 4


@many
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(["packed", "predicted"]))
def test_numbers_out_of_nowhere(coder: Coder, seed: int, name: str) -> None:
    data = wild_block(SHAPE, LINES, np.random.default_rng(seed), name)
    agree(make_coding(name, SHAPE, max_error=3), coder, data, LINES)


def coded_block(name: str) -> bytes:
    cube = made_cube("copies", SHAPE.dtype, (LINES, SHAPE.bands, SHAPE.samples), 1) >> 4
    masks = Masks((False, True, *(False,) * 5), int(cube[0, 0, 0]), 3000)
    return make_coding(name, SHAPE, masks=masks, max_error=3).encode(cube).data


BLOCKS = {name: coded_block(name) for name in NAMES}


@many
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_flipped_bytes(coder: Coder, data: st.DataObject, name: str) -> None:
    block = bytearray(BLOCKS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    agree(make_coding(name, SHAPE, max_error=3), coder, bytes(block), LINES)


@some
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_cut_and_lengthened_blocks(coder: Coder, data: st.DataObject, name: str) -> None:
    block = BLOCKS[name]
    at = data.draw(st.integers(0, len(block)))
    more = data.draw(st.binary(max_size=40))
    agree(make_coding(name, SHAPE, max_error=3), coder, block[:at] + more, LINES)


def test_several_threads_share_the_places(coder: Coder) -> None:
    coding = make_coding("smallest", BlockShape(5, 40, np.dtype(np.int16)), max_error=1)
    seen = [made_cube("scene", np.dtype(np.int16), (3, 5, 40), seed) for seed in range(12)]
    blocks = [coding.encode(cube).data for cube in seen]
    wanted = [coding.decode(data, 3) for data in blocks]
    found: dict[int, NDArray[Any]] = {}

    def work(number: int) -> None:
        found[number] = on_cuda(coding, coder).decode(blocks[number], 3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, pixels in enumerate(wanted):
        np.testing.assert_array_equal(found[number], pixels)


@pytest.mark.parametrize("name", ["packed", "predicted"])
def test_a_block_that_would_keep_a_gpu_busy_goes_to_the_cpu(
    coder: Coder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    coding = make_coding(name, SHAPE, max_error=3)
    read = cuda.read_pca if name == "packed" else cuda.read_predicted
    more = (name,) if name == "packed" else ()
    steps = read(memoryview(BLOCKS[name]), SHAPE, LINES, *more).steps()  # type: ignore[operator]
    monkeypatch.setattr(cuda, "MOST_STEPS", steps)
    assert agree(coding, coder, BLOCKS[name], LINES) is not None
    monkeypatch.setattr(cuda, "MOST_STEPS", steps - 1)
    monkeypatch.setattr(Coder, "decode", None)
    assert agree(coding, coder, BLOCKS[name], LINES) is not None


def test_damage_that_only_the_gpu_finds_is_an_error_of_the_gpu(
    coder: Coder, monkeypatch: pytest.MonkeyPatch
) -> None:
    coding = make_coding("packed", SHAPE, max_error=3)
    fields = cuda_decode.Stream.fields

    def fewer(stream: cuda_decode.Stream, place: Any) -> Any:
        out = fields(stream, place)
        out["words_there"] -= 1
        return out

    monkeypatch.setattr(cuda_decode.Stream, "fields", fewer)
    with pytest.raises(DeviceError, match="found what the CPU decodes without it: coded block"):
        on_cuda(coding, coder).decode(BLOCKS["packed"], LINES)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_block_of_two_parts_and_its_damages(coder: Coder, data: st.DataObject) -> None:
    sides = [made_cube("scene", np.dtype(np.uint16), (40, 7, 30), seed) for seed in (3, 4)]
    cube = np.concatenate(sides, axis=2)
    coding = SmallestCoding(BlockShape(7, 60, np.dtype(np.uint16)), 40, 1)
    left, right = (
        part.encode(np.ascontiguousarray(side)).data
        for part, side in zip(coding.parts(30), sides, strict=True)
    )
    block = struct.pack("<BHI", PARTS, 30, len(left)) + left + right
    decoded = agree(coding, coder, block, 40)
    assert decoded is not None
    assert off_by(cube, decoded).max() <= 1
    at = data.draw(st.integers(0, len(block) - 1))
    flipped = block[:at] + bytes([block[at] ^ 1 << data.draw(st.integers(0, 7))]) + block[at + 1 :]
    agree(coding, coder, flipped, 40)
    agree(coding, coder, block[:at], 40)


def test_scores_beyond_24_bits_come_back(coder: Coder, rng: np.random.Generator) -> None:
    cube = rng.normal(100, 2, (8, 448, 16)).round().astype(np.uint16)
    cube[5, :, 7] = 65535
    for name in ("packed", "deflate"):
        coding = make_coding(name, BlockShape(448, 16, cube.dtype), noise=Noise(0.0))
        coded = coding.encode(cube)
        decoded = agree(coding, coder, coded.data, len(cube))
        assert decoded is not None
        assert off_by(cube, decoded).max() == coded.stats.max_error < 10


@pytest.mark.parametrize(("value", "fault"), [(1 << 17, "a basis out of its range"), (1, "")])
def test_a_basis_that_is_shifted_out_of_int32_is_refused(
    coder: Coder, value: int, fault: str
) -> None:
    """2¹⁷ · 2¹⁵ is 0 in 32 bits; 2¹⁵ is what a basis may hold."""
    scores = np.ones((1, LINES * SHAPE.samples), np.int32)
    data = pca_block(
        *(SHAPE, LINES, np.full(SHAPE.bands, 100)),
        *(encode_rows(np.full((1, SHAPE.bands), value, np.int32)), 1),
        *(encode_rows(scores), 16, None),
        zeros=15,
    )
    coding = make_coding("packed", SHAPE, ratio=2)
    decoded = agree(coding, coder, data, LINES)
    if fault:
        with pytest.raises(ContainerError, match=fault):
            coding.decode(data, LINES)
    else:
        assert decoded is not None
        assert (decoded == 101).all()
