"""The bench's compression: what it measures is what was decoded, and all of it is counted."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path[:0] = [str(TOOLS)]

from bench import codecs, codings, compression, cubes, peers, rate_curves  # noqa: E402
from bench.codecs import Outcome  # noqa: E402
from bench.cubes import Cube, Quality  # noqa: E402
from bench.data import Geometry  # noqa: E402
from bench.measure import MIN_ROUNDS  # noqa: E402
from bench.settings import Settings  # noqa: E402

from pipeline.container.block_records import RECORD  # noqa: E402
from pipeline.errors import ContainerError  # noqa: E402

NOISE = 5.0


@pytest.fixture
def cube(rng: np.random.Generator) -> Cube:
    """Spectra of four substances in smooth mixtures, noise of 5 counts, one dead band."""
    spectra = np.cumsum(rng.normal(0, 60, (4, 20)), axis=1) + 1500
    y, x = np.mgrid[0:40, 0:48] / 40
    shares = np.stack([x, y, x * y, 1 - x / 2])
    counts = np.einsum("kb,klx->lbx", spectra, shares) + rng.normal(0, NOISE, (40, 20, 48))
    pixels = np.clip(np.rint(counts), 1, 60000).astype(np.uint16)
    pixels[:, 7] = 60001
    return Cube("mixtures", pixels, ignore=60001)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        geometries=(Geometry(32, 20),),
        threads=2,
        rounds=2,
        long_rounds=1,
        different_lines=16,
        folder=tmp_path,
    )


def outcome(name: str, ratio: float, error: int = 0, psnr: float = 60.0) -> Outcome:
    return Outcome(name, ratio, Quality(error, float(error), psnr, 0.1), 0.1, 0.2)


def test_the_noise_is_what_was_put_in(cube: Cube) -> None:
    found = cubes.noise(cube)
    assert found.shape == (19,)
    assert np.median(found) == pytest.approx(NOISE, rel=0.1)
    assert cube.sigma == 5


def test_noise_needs_more_spectra_than_bands(cube: Cube) -> None:
    few = Cube("few", cube.pixels[:1, :, :30], ignore=60001)
    with pytest.raises(ValueError, match="30 spectra of 19 bands"):
        cubes.noise(few)


def test_errors_are_those_of_live_bands_and_the_largest_of_all(cube: Cube) -> None:
    decoded = cube.pixels.copy()
    assert cubes.quality(cube, decoded) == Quality(0, 0.0, float("inf"), 0.0)
    decoded[3, 2, 5] += 9
    found = cubes.quality(cube, decoded)
    values = cube.pixels[:, cube.live].size
    assert found.max_error == 9
    assert found.rmse == pytest.approx(9 / np.sqrt(values))
    assert found.psnr == pytest.approx(20 * np.log10(cube.span / found.rmse))
    one = cube.pixels[3, cube.live, 5].astype(float)
    two = decoded[3, cube.live, 5].astype(float)
    angle = np.degrees(np.arccos(one @ two / np.linalg.norm(one) / np.linalg.norm(two)))
    assert found.angle == pytest.approx(angle / (40 * 48), rel=1e-4)
    decoded[0, 7, 0] -= 100  # in the dead band
    assert cubes.quality(cube, decoded).max_error == 100
    with pytest.raises(ValueError, match="decoded"):
        cubes.quality(cube, decoded[:-1])


def test_an_ignored_pixel_counts_for_no_error(cube: Cube) -> None:
    pixels = cube.pixels.copy()
    pixels[5, 3, 4] = 60001
    holed = replace(cube, pixels=pixels)
    assert holed.span < 20000
    decoded = pixels.copy()
    decoded[6, 3, 4] += 2
    values = int(holed.live.sum()) * 40 * 48 - 1
    assert cubes.quality(holed, decoded).rmse == pytest.approx(2 / np.sqrt(values))


def test_angles_between_spectra_keep_small_ones_and_skip_zeros() -> None:
    first = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])[None]
    second = np.array([[1.0, 5.0, 1.0], [1e-9, 5.0, 0.0]])[None]
    assert cubes.spectral_angles(first, second) == pytest.approx([1e-9, np.pi / 4], rel=1e-6)


def test_a_mosaic_holds_all_cubes_in_turn_and_no_spectrum_twice_in_a_block(cube: Cube) -> None:
    other = Cube("other", (cube.pixels[:30, :15, :32] + 7).astype(np.uint16))
    made = cubes.mosaic([cube, other], 2, lines=200)
    lines, bands, samples = made.pixels.shape
    assert (bands, samples) == (14, 64)
    assert lines >= 200
    kept = np.flatnonzero(cube.live)[:14]
    np.testing.assert_array_equal(made.pixels[:40, :, :32], cube.pixels[:, kept, :32])
    assert made.pixels[40, 0, 0] == other.pixels[0, 0, 0]
    # the second turn is the other end of each cube, turned
    np.testing.assert_array_equal(made.pixels[70:110, 3, 0], cube.pixels[::-1, 3, -1])
    # the second strip begins two cubes on, here in the second turn, and is mirrored
    np.testing.assert_array_equal(made.pixels[:40, 3, 63], cube.pixels[::-1, kept[3], -1])
    assert cubes.copies(Cube("block", made.pixels[:70, :, :32])) == 0
    assert cubes.copies(Cube("twice", np.tile(other.pixels, (2, 1, 1)))) == 50


@pytest.mark.parametrize(
    "codec",
    [codecs.LOSSLESS_JPEGLS, codecs.jpeg_xl(3), codecs.LOSSLESS_JPEG2000, *codecs.BLOSC2],
    ids=lambda codec: codec.name,
)
def test_lossless_codecs_give_back_every_pixel(cube: Cube, codec: codecs.Codec) -> None:
    done = codecs.run(codec, cube, 0, threads=2)
    assert done.quality.max_error == 0
    assert 1 < done.ratio < 16


def test_signed_pixels_come_back_too(cube: Cube) -> None:
    signed = Cube("signed", (cube.pixels[:, :6].astype(np.int32) - 1500).astype(np.int16))
    assert signed.pixels.min() < 0
    for codec, setting in ((codecs.LOSSLESS_JPEGLS, 0.0), (codecs.SZ3, codecs.ROUNDING)):
        assert codecs.run(codec, signed, setting, 1).quality.max_error == 0


def test_all_of_a_code_is_counted(cube: Cube) -> None:
    planes = codecs.Planes(cube)
    assert planes.side == 2 + 3 + 2  # least value, marks of 20 bands, value of the dead one
    assert codecs.total([b"abc", b"d"], planes) == 4 + 7


def test_bounded_codecs_hold_the_bound_in_integers(cube: Cube) -> None:
    for done in codecs.bounded(cube, 3, threads=2):
        assert 0 < done.quality.max_error <= 3, done.codec


def test_a_ratio_is_reached_and_hardly_exceeded(cube: Cube) -> None:
    for codec in (codecs.jpeg2000(cube), codecs.SPERR_RATE):
        done = codecs.at_ratio(codec, cube, 8.0, threads=2)
        assert 8.0 <= done.ratio < 8.4, done.codec


@pytest.mark.parametrize("name", compression.BOUNDED)
def test_own_codings_are_decoded_by_what_their_header_says(cube: Cube, name: str) -> None:
    for bound in (0, 4):
        done = codings.run(name, cube, 2, max_error=bound)
        assert done.outcome.quality.max_error == done.bound <= bound
        assert done.outcome.ratio > 1


def test_own_sizes_are_those_of_whole_files(cube: Cube, tmp_path: Path) -> None:
    coding = codings.coding_for("predicted", cube, max_error=0)
    coded = [coding.encode(block) for block in codings.blocks(cube, coding)]
    file = codings.whole_file(cube, coding, coded)
    assert len(file) > len(coded[0].data) + RECORD.size
    ratio = codings.run("predicted", cube, 1, max_error=0).outcome.ratio
    assert ratio == cube.nbytes / len(file)
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        payload = archive.read("data.envi")
        assert archive.read("Metadata/blocks.csv").splitlines()[1].startswith(b"0,40,0,")
    assert payload[RECORD.size :] == coded[0].data


def test_a_page_decoder_that_disagrees_is_an_error(
    cube: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codings, "page_decoder", lambda: lambda file: cube.pixels + 1)
    with pytest.raises(ContainerError, match="gives other pixels"):
        codings.run("predicted", cube, 1, max_error=0)


def test_the_best_of_ours_is_judged_by_the_best_of_theirs(cube: Cube) -> None:
    ours = [outcome("swath a", 2.0), outcome("swath b", 3.0)]
    theirs = [outcome("one", 1.5), outcome("two", 2.0)]
    rows = list(compression._judged("lossless", cube, ours, theirs, 1.25, 0))
    by = {row.step: row for row in rows}
    assert by["one"].met is by["two"].met is by["swath a"].met is None
    assert by["swath b"].met is True
    assert by["swath b"].limit == "two"
    assert by["swath b"].ratio == compression.exact(1.5)
    assert by["largest error of all swath codings"].met is True
    ours[0] = outcome("swath a", 2.0, error=1)
    rows = list(compression._judged("lossless", cube, ours, theirs, 1.6, 0))
    assert [row.met for row in rows][-2:] == [False, False]


def test_a_size_that_was_not_reached_is_not_compared(
    cube: Cube, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_rate(*args: object, **kwargs: object) -> list[Outcome]:
        return [outcome("JPEG 2000", 32.1, 900, 30.0)]

    def run(name: str, *args: object, **kwargs: object) -> codings.Coded:
        ratio = {"packed": 32.2, "deflate": 31.0}[name]
        return codings.Coded(outcome(name, ratio, 50, 48.0), 50, 4)

    monkeypatch.setattr(codecs, "at_rate", at_rate)
    monkeypatch.setattr(codings, "run", run)
    rows = list(compression.rate_rows(cube, settings))
    above = [row for row in rows if "PSNR" in row.step]
    assert [row.step.split(",")[0] for row in above] == ["swath packed", "swath deflate"]
    assert above[0].rate == compression.exact(18.0)
    assert above[0].met is True
    assert above[1].rate is None
    assert "31.00 to 1 only" in above[1].note
    angle = next(row for row in rows if "angle" in row.step)
    assert angle.ratio == compression.exact(1.0)
    assert angle.met is False


def test_every_part_has_its_rows_and_a_trial_is_not_judged(
    cube: Cube, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "measured_cubes", lambda quick: ([cube], "a trial"))
    some = [kind for kind in compression.SPEEDS if kind[2] or kind[0] == "packints"]
    monkeypatch.setattr(compression, "SPEEDS", tuple(some))
    monkeypatch.setattr(compression, "IMAGES", compression.IMAGES[:1])
    monkeypatch.setattr(peers, "ROUND_S", 0.01)
    monkeypatch.setattr(codecs, "JXL_EFFORTS", (3,))
    rows = list(compression.rows(settings))
    sections = dict.fromkeys(row.section for row in rows)
    assert list(sections) == [
        compression.CUBES,
        compression.LOSSLESS,
        compression.BOUND,
        compression.RATE,
        compression.SPEED,
    ]
    assert all(row.required is None for row in rows)
    assert "a trial" in rows[0].note
    assert "1 bands of one value" in rows[0].note
    speeds = [row for row in rows if row.section == compression.SPEED and row.rate is not None]
    assert {"swath packed, 32:1, coding", "swath deflate, max error 5, decoding"} <= {
        row.step for row in speeds
    }
    assert all(row.rate is not None and row.rate.median > 0 for row in speeds)
    # 16 bits do not fit into 12: a row that says why
    (packints,) = (row for row in rows if "packints" in row.step and row.geometry == cube.name)
    assert packints.rate is None
    assert packints.note


def test_required_rates_are_judged_by_themselves(
    cube: Cube, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "runs", lambda *args: (lambda: 0.2, lambda: 0.6))
    several = replace(settings, rounds=MIN_ROUNDS)
    coding, decoding = compression._speed_rows(
        cube, "packed", "ratio", 0.3, 0.5, lambda: 10.0, several
    )
    assert (coding.met, decoding.met) == (False, True)


def test_the_curves_are_a_readable_plot(
    cube: Cube,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_curves, "measured_cubes", lambda quick: ([cube], ""))
    monkeypatch.setattr(rate_curves, "BOUNDS", (2, 8))
    monkeypatch.setattr(rate_curves, "RATIOS", (4.0, 8.0))
    path = tmp_path / "curves.svg"
    rows = list(rate_curves.rows(settings, path, "some machine"))
    assert {row.section for row in rows} == {rate_curves.SECTION}
    drawn = ET.parse(path).getroot()
    text = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"mixtures", "swath predicted", "JPEG 2000"} <= text
    lines = list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) >= 6
    width, height = (float(drawn.attrib[name]) for name in ("width", "height"))
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 < x < width
            assert 0 < y < height


def test_without_real_cubes_simulated_ones_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_REAL_DATA", str(tmp_path))
    assert cubes.real_folder() is None
    made, why = cubes.measured_cubes(quick=True)
    assert why == "a trial"
    assert [cube.pixels.dtype for cube in made] == [np.uint16] * 2
