"""A damaged coded file: the damage is found and named, and everything else still decodes."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

import numpy as np
import pytest
from coded_files import BLOCK_LINES, LINES, code, coded_capture, spoil
from container_captures import stored
from hypothesis import given
from hypothesis import strategies as st
from made_containers import make_hsi

import pipeline.container.coding_job as coding_job
import pipeline.container.decompress as decompressing
from pipeline.coding.choose import NAMES
from pipeline.container.block_records import (
    INDEX,
    RECORD,
    Block,
    decode_index,
    encode_index,
    pack_record,
    unpack_record,
    walk,
)
from pipeline.container.compress import Wanted, compress
from pipeline.container.decompress import decompress
from pipeline.container.envi import write_envi
from pipeline.container.reader import Container
from pipeline.container.sink_io import lock_file
from pipeline.container.validate import validate
from pipeline.container.zipfile_layout import scan
from pipeline.errors import ConfigError, ContainerError, StorageError, SwathError
from pipeline.layout import LineStatus


def errors(path):
    return [f"{f.entry}: {f.text}" for f in validate(path) if f.level == "error"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A capture, its coded form and its pixels; not to be changed."""
    folder = tmp_path_factory.mktemp("files")
    return coded_capture(folder, np.random.default_rng(5), bit_depth=12)


@pytest.fixture
def coded(files, tmp_path):
    """A copy of the coded form."""
    copy = tmp_path / "coded.hsi"
    copy.write_bytes(files[1].read_bytes())
    return copy


def test_a_flipped_byte_is_named_and_costs_its_block_alone(files, coded, tmp_path):
    pixels = files[2]
    spoilt = spoil(coded, 1, 7)
    with Container(spoilt) as cube:
        for lines in (slice(0, 16), slice(32, 40)):
            np.testing.assert_array_equal(cube.read(lines).transpose(0, 2, 1), pixels[lines])
        with pytest.raises(
            ContainerError, match=r"spoilt.hsi: data.envi: block 1 \(lines 16 to 31\)"
        ):
            cube.read(20)
        with pytest.raises(ContainerError, match="block 1"):
            cube.read()
    found = errors(spoilt)
    assert sum("block 1 (lines 16 to 31)" in text for text in found) == 1
    assert not any("block 0" in text or "block 2" in text for text in found)


def test_what_is_whole_of_a_damaged_file_is_saved(files, coded, tmp_path):
    pixels = files[2]
    made = decompress(spoil(coded, 1, 7), tmp_path / "saved.hsi")
    assert made.missing == [(16, 16)]
    assert made.missing_lines == 16
    assert "block 1 (lines 16 to 31)" in made.problems[0]
    wanted = pixels.copy()
    wanted[16:32] = 65535  # as a line lost while recording, of a sensor of 12 bits
    np.testing.assert_array_equal(stored(made.path), wanted)
    with Container(made.path) as cube:
        assert cube.lost == 16
        assert (cube.ledger["status"][16:32] == LineStatus.LOST).all()
        assert (cube.ledger["status"][:16] == LineStatus.OK).all()
        assert any("lines 16 to 31" in text for text in cube.header.strings("errors"))
    assert errors(made.path) == []


def test_lost_lines_take_the_data_ignore_value(tmp_path, rng):
    array = rng.integers(-50, 50, (40, 5, 3)).astype("i2")
    source = make_hsi(tmp_path / "a.hsi", array, {"data ignore value": -999})
    made = decompress(spoil(code(source, tmp_path / "b.hsi").path, 0), tmp_path / "c.hsi")
    with Container(made.path) as cube:
        assert (cube.raw[:16] == -999).all()
        np.testing.assert_array_equal(cube.raw[16:], array[16:])
        assert cube.header["lines lost"] == 16


@given(st.data())
def test_no_flipped_bit_of_the_payload_gives_a_wrong_pixel(files, data):
    _, whole, pixels = files
    with scan(whole) as archive:
        entry = archive.entry("data.envi")
    place = data.draw(st.integers(entry.offset, entry.offset + entry.size - 1))
    content = bytearray(whole.read_bytes())
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    spoilt = whole.with_name("flipped.hsi")
    spoilt.write_bytes(content)
    right = 0
    with Container(spoilt) as cube:
        for first in range(0, LINES, BLOCK_LINES):
            lines = slice(first, first + BLOCK_LINES)
            fault = ""
            try:
                got = cube.read(lines).transpose(0, 2, 1)
            except ContainerError as error:
                fault = str(error)
            if not fault:
                np.testing.assert_array_equal(got, pixels[lines])
                right += 1
            else:
                assert f"lines {first} to " in fault
    assert right >= 2
    assert errors(spoilt)


@given(st.data())
def test_whatever_byte_of_a_file_is_flipped_a_user_gets_pixels_or_a_sentence(files, data):
    _, whole, pixels = files
    content = bytearray(whole.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    spoilt = whole.with_name("any.hsi")
    spoilt.write_bytes(content)
    out = whole.with_name("any-out.hsi")
    out.unlink(missing_ok=True)
    try:
        made = decompress(spoilt, out)
    except SwathError:
        return
    good = np.ones(LINES, bool)
    for first, count in made.missing:
        good[first : first + count] = False
    np.testing.assert_array_equal(stored(out)[good], pixels[good])
    assert good.sum() >= LINES - BLOCK_LINES


@given(st.floats(0, 1, exclude_max=True))
def test_of_a_file_that_was_cut_the_blocks_before_the_cut_are_saved(files, part):
    _, whole, pixels = files
    content = whole.read_bytes()
    with Container(whole) as cube:
        start, blocks = cube.data_offset, cube.coded.blocks
    end = int(part * len(content))
    cut = whole.with_name("cut.hsi")
    cut.write_bytes(content[:end])
    out = whole.with_name("cut-out.hsi")
    out.unlink(missing_ok=True)
    held = [b for b in blocks.values() if start + b.end <= end]
    if not held:
        with pytest.raises(ContainerError):
            decompress(cut, out)
        assert not out.exists()
        return
    made = decompress(cut, out)
    lines = sum(block.lines for block in held)
    np.testing.assert_array_equal(stored(out)[:lines], pixels[:lines])
    assert made.missing == ([(lines, LINES - lines)] if lines < LINES else [])
    assert made.problems
    with Container(out) as cube:
        assert cube.entry("Metadata/camera.json") == b"{}"
        assert cube.lost == LINES - lines
    assert errors(out) == []


def test_without_directory_what_lies_behind_the_cube_is_saved_too(files, coded, tmp_path):
    with scan(coded) as archive:
        end = archive.directory_offset
    coded.write_bytes(coded.read_bytes()[:end])
    made = decompress(coded, tmp_path / "saved.hsi")
    assert made.missing == []
    with Container(made.path) as saved, Container(files[0]) as plain:
        np.testing.assert_array_equal(saved.raw, plain.raw)
        assert saved.ledger.tobytes() == plain.ledger.tobytes()
        assert saved.thumbnail == plain.thumbnail
        assert saved.header["wavelength"] == plain.header["wavelength"]


@pytest.mark.parametrize("at", [0, 26, 27, 28, 29])  # magic, bytes of the name and of what follows
@pytest.mark.parametrize("bit", range(8))
def test_a_bit_of_the_cubes_own_zip_header_costs_no_line(files, coded, tmp_path, at, bit):
    content = bytearray(coded.read_bytes())
    place = content.index(b"data.envi") - 30
    assert content[place : place + 4] == b"PK\3\4"
    content[place + at] ^= 1 << bit
    coded.write_bytes(content)
    made = decompress(coded, tmp_path / "saved.hsi")
    assert made.missing == []
    assert made.problems
    np.testing.assert_array_equal(stored(made.path), files[2])


def test_a_name_that_is_damaged_in_the_directory_costs_no_line(files, coded, tmp_path):
    content = bytearray(coded.read_bytes())
    content[content.rindex(b"data.envi")] ^= 1
    coded.write_bytes(content)
    made = decompress(coded, tmp_path / "saved.hsi")
    assert made.missing == []
    assert "found no entry data.envi" in made.problems[0]
    np.testing.assert_array_equal(stored(made.path), files[2])


@pytest.mark.parametrize("name", ["preview.envi", "thumbnail.jpg", "Metadata/lines.csv"])
def test_another_entry_that_is_damaged_is_left_out(files, coded, tmp_path, name):
    with scan(coded) as archive:
        place = archive.entry(name).offset + 1
    content = bytearray(coded.read_bytes())
    content[place] ^= 255
    coded.write_bytes(content)
    made = decompress(coded, tmp_path / "saved.hsi")
    assert made.missing == []
    assert [text for text in made.problems if text.startswith(f"{name} is left out")]
    np.testing.assert_array_equal(stored(made.path), files[2])
    with pytest.raises(ContainerError, match=name):
        code(coded, tmp_path / "again.hsi")


def test_a_damaged_table_is_made_again_from_the_records(files, coded, tmp_path):
    with scan(coded) as archive:
        place = archive.entry(INDEX).offset + 40
    content = bytearray(coded.read_bytes())
    content[place] ^= 1
    coded.write_bytes(content)
    with Container(coded) as cube:
        np.testing.assert_array_equal(cube.read().transpose(0, 2, 1), files[2])
        assert any("records" in text for text in cube.warnings)


def test_a_damaged_record_is_found_and_the_table_serves(files, coded):
    spoilt = spoil(coded, 1, -30)
    with Container(spoilt) as cube:
        np.testing.assert_array_equal(cube.read().transpose(0, 2, 1), files[2])
    assert any("block 1: its record is damaged" in text for text in errors(spoilt))


def test_a_source_that_is_damaged_is_not_coded(files, tmp_path):
    content = bytearray(files[0].read_bytes())
    with Container(files[0]) as cube:
        content[cube.data_offset + 100] ^= 1
    (tmp_path / "plain.hsi").write_bytes(content)
    with pytest.raises(ContainerError, match="do not match its CRC-32"):
        code(tmp_path / "plain.hsi", tmp_path / "b.hsi")
    with pytest.raises(ContainerError, match="block 0"):
        code(spoil(_copy(files[1], tmp_path), 0), tmp_path / "b.hsi")
    assert not (tmp_path / "b.hsi").exists()


def test_a_damaged_source_of_another_interleave_is_not_coded(tmp_path, rng):
    array = rng.integers(0, 99, (9, 4, 3)).astype("u2")
    source = make_hsi(tmp_path / "a.hsi", array, interleave="bsq")
    content = bytearray(source.read_bytes())
    with Container(source) as cube:
        content[cube.data_offset + 100] ^= 1
    source.write_bytes(content)
    with pytest.raises(ContainerError, match="do not match its CRC-32"):
        code(source, tmp_path / "b.hsi")


def _copy(path, folder):
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_leaves_nothing_and_the_source_as_it_was(
    files, tmp_path, monkeypatch, back, after
):
    source = _copy(files[1] if back else files[0], tmp_path)
    before = source.read_bytes()
    module = decompressing if back else coding_job
    whole, calls = module.write_at, []

    def full(fd, data, offset):
        calls.append(offset)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(fd, data, offset)

    monkeypatch.setattr(module, "write_at", full)
    write = decompress if back else code
    with pytest.raises(StorageError, match="the disk is full"):
        write(source, tmp_path / "out.hsi")
    assert os.listdir(tmp_path) == [source.name]
    assert source.read_bytes() == before


def test_an_interrupted_run_leaves_nothing_and_ends_its_threads(files, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    before = threading.active_count()
    wanted = Wanted(block_lines=1)
    with pytest.raises(KeyboardInterrupt):
        compress(files[0], tmp_path / "b.hsi", wanted, progress=interrupt)
    assert os.listdir(tmp_path) == []
    assert threading.active_count() == before


def test_two_processes_do_not_write_one_file(files, tmp_path):
    work = tmp_path / "b.hsi.compressing"
    work.touch()
    fd = os.open(work, os.O_RDWR)
    try:
        assert lock_file(fd)
        with pytest.raises(StorageError, match="another process is writing it"):
            code(files[0], tmp_path / "b.hsi")
    finally:
        os.close(fd)
    assert work.exists()


@pytest.fixture(scope="module")
def of_every_coding(tmp_path_factory):
    """Payloads of the same cube by the name of their coding; files stay open."""
    folder = tmp_path_factory.mktemp("codings")
    rng = np.random.default_rng(7)
    array = (np.cumsum(rng.integers(0, 9, (20, 12, 6)), axis=2) + 60).astype("u2")
    source = make_hsi(folder / "a.hsi", array)
    found = {}
    for name in NAMES:
        made = code(source, folder / f"{name}.hsi", coding=name)
        with Container(made.path) as cube:
            found[name] = cube.coded
    return found


@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_bytes_whose_checksum_holds_and_that_are_no_block_are_refused_in_a_sentence(
    of_every_coding, name, data
):
    payload = of_every_coding[name]
    good = bytearray(payload.check(1))
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, min(len(good) - 1, 60)))
        good[place] = data.draw(st.integers(0, 255))
    else:
        cut = data.draw(st.integers(0, len(good)))
        good[cut:] = data.draw(st.binary(max_size=40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "check", lambda number: bytes(good))
        try:
            pixels = payload.decode(1)
        except ContainerError as error:
            text = str(error)
        else:
            text = ""
            assert (pixels.shape, pixels.dtype) == ((4, 6, 12), np.dtype("u2"))
    assert "\n" not in text
    assert not text or "block 1 (lines 16 to 19): " in text


# -- headers that lie --------------------------------------------------------------------------

LIES = [
    ("coded block lines = 16", "coded block lines = 0", "positive integer"),
    ("coded block lines = 16", "coded block lines = -5", "positive integer"),
    ("coded block lines = 16", "coded block lines = many", "positive integer"),
    ("coded block lines = 16\n", "", "positive integer"),
    ("coded block lines = 16", "coded block lines = 8", "lines 0 to 7"),
    ("lines = 40", "lines = 0", "at least one line"),
    ("lines = 40", "lines = 4000000000000", "blocks, allowed are"),
    ("samples = 8", "samples = 400000000", "pixels, allowed are"),
    ("bands = 3", "bands = 4", "block"),
    ("samples = 8", "samples = 9", "block"),
    ("decoded data type = 12", "decoded data type = 4", "allowed are"),
    ("decoded data type = 12", "decoded data type = 99", "decoded data type"),
    ("decoded data type = 12", "decoded data type = x", "decoded data type"),
    ("file type = PCA", "file type = ENVI Standard", "ENVI Standard"),
    ("file type = PCA", "file type = SECRET", "SECRET"),
    ("pca version = 2", "pca version = 99", "99"),
    ("pca version = 2\n", "", "version"),
]


@pytest.mark.parametrize(("said", "lie", "fault"), LIES, ids=[lie or said for said, lie, _ in LIES])
def test_a_header_that_lies_is_refused_in_a_sentence(files, tmp_path, said, lie, fault):
    import zipfile

    path = tmp_path / "lie.hsi"
    with zipfile.ZipFile(files[1]) as archive, zipfile.ZipFile(path, "w") as out:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "data.hdr":
                text = content.decode()
                assert f"\n{said}" in text
                content = text.replace(f"\n{said}", f"\n{lie}" if lie else "\n", 1).encode()
            out.writestr(name, content)
    endless = "4000000000000" in lie

    def read() -> None:
        with Container(path) as cube:
            cube.read(3_999_999_999_999 if endless else 39)
            cube.read(slice(0, 40))

    with pytest.raises(ContainerError, match=fault) as refused:
        read()
    assert "\n" not in str(refused.value)
    assert validate(path)
    with contextlib.suppress(SwathError):
        decompress(path, tmp_path / "out.hsi")
        assert lie == "coded block lines = 8", "no other lie leaves a block to save"
        return
    assert not (tmp_path / "out.hsi").exists()


# -- records and the table ---------------------------------------------------------------------

BLOCK = st.builds(
    Block,
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**32 - 1),
)


@given(st.lists(BLOCK, max_size=9))
def test_the_table_reads_as_it_was_written(blocks):
    assert decode_index(encode_index(blocks)) == blocks


@given(st.binary(max_size=200))
def test_no_bytes_are_a_table_by_chance(data):
    with pytest.raises(ContainerError):
        decode_index(b"x" + data)
    with contextlib.suppress(ContainerError):
        assert len(decode_index(encode_index([]) + data)) <= data.count(b",")


@given(st.binary(max_size=64), st.integers(0, 31), st.integers(0, 7))
def test_a_record_with_a_flipped_bit_is_none(data, place, bit):
    head = bytearray(pack_record(5, 3, data))
    assert unpack_record(bytes(head), 7) == Block(5, 3, 7, len(data), unpack_record(head, 0).crc)
    head[place] ^= 1 << bit
    assert unpack_record(bytes(head), 7) is None


@given(st.lists(st.binary(max_size=40), max_size=6), st.binary(max_size=99), st.data())
def test_records_are_found_over_whatever_lies_between(parts, noise, data):
    at = data.draw(st.integers(0, len(parts)))
    payload, places = b"", []
    for number, part in enumerate(parts):
        if number == at:
            payload += noise
        places.append(len(payload))
        payload += pack_record(number, 1, part) + part
    found = list(walk(lambda count, start: payload[start : start + count], len(payload)))
    assert [b.offset for b in found if b.offset in places] == places


def test_a_record_is_32_bytes():
    assert RECORD.size == 32
    assert len(pack_record(0, 1, b"data")) == 32


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize("name", ["lines lost", "bit depth", "saturation level"])
def test_a_field_that_is_no_finite_number_costs_nothing(tmp_path, rng, name, value):
    pixels = rng.integers(0, 4000, (LINES, 6, 5)).astype("u2")
    source = write_envi(tmp_path, "cube", pixels, {})
    source.write_text(f"{source.read_text()}{name} = {value}\n")
    coded = code(source, tmp_path / "coded.hsi", max_error=2).path
    made = decompress(spoil(coded, 1, 7), tmp_path / "saved.hsi")
    assert made.missing == [(16, 16)]
    with Container(made.path) as saved:
        assert saved.lost == 16
        found = np.asarray(saved.read()).astype(int)
    kept = np.r_[0:16, 32:LINES]
    assert np.abs(found[kept] - pixels[kept]).max() <= 2


def test_a_link_that_leads_nowhere_is_refused_before_anything_is_coded(files, tmp_path):
    link = tmp_path / "link.hsi"
    link.symlink_to(tmp_path / "nowhere.hsi")
    with pytest.raises(ConfigError, match=r"link.hsi: exists, allowed is the name of a new file"):
        compress(files[0], link)
    assert link.is_symlink()
