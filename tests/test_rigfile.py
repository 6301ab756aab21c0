from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Rig, Wavelengths
from pipeline.errors import ConfigError
from pipeline.rigfile import load_rig, make_rig, rig_base
from pipeline.toml_lines import key_lines, parse_key

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
HEAD = '[camera]\ndriver = "simulated"\n'

#: The schema of a rig file as users were promised it, with every key that stood there.
PROMISED = """\
[camera]
driver = "simulated"            # simulated | genicam | replay
exposure_ms = 2.5
fps = 330.0
binning = [2, 1]                # spectral, spatial
wavelengths = { first = 397.0, last = 1004.0 }
spectral_axis = "height"        # which axis of the frame is the spectrum
flip = []                       # any of "spectral", "spatial"
[scan]                          # all optional
trigger = "free"
speed_mm_s = 20.0
pixel_mm = 0.06
before = []
after = []
[stream]
endpoint = ""
block_lines = 32
max_latency_ms = 50
gaps = "fill"
[references]
white = "white.envi"
black = "black.envi"
[pipeline]
backend = "auto"
store = "raw"
[pipeline.pca]
components = 16
[output]
folder = "captures"
name = "{target}-{start:%Y%m%dT%H%M%S}"
[metadata]
target = "shelf-03"
problem = ["crop-disease"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "rig.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """The message with which a rig file is refused, the file's folder left out."""
    with pytest.raises(ConfigError) as caught:
        load_rig(write(folder, text), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_promised_schema_loads_as_it_stands(tmp_path: Path) -> None:
    rig = load_rig(write(tmp_path, PROMISED))
    assert rig.camera.binning == (2, 1)
    assert rig.camera.fps == 330.0
    assert rig.camera.wavelengths == Wavelengths(first=397.0, last=1004.0)
    assert rig.stream.max_latency_ms == 50
    assert rig.pipeline.pca.components == 16
    assert rig.metadata == {"target": "shelf-03", "problem": ["crop-disease"]}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.name)
def test_every_rig_file_that_ships_loads(path: Path) -> None:
    assert isinstance(load_rig(path), Rig)


def test_four_cases_ship() -> None:
    names = {path.name for path in CONFIGS.glob("*.toml")}
    assert {"demo.toml", "fx10.toml", "replay.toml", "two-machines.toml"} <= names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + "exposure_mss = 2.5",
            "rig.toml:3: [camera] exposure_mss: unknown key; did you mean exposure_ms? "
            "allowed here, among others: exposure_ms, ",
        ),
        (HEAD + "fps = '9'", 'rig.toml:3: [camera] fps: found "9", allowed is a number above 0'),
        (HEAD + "fps = nan", "rig.toml:3: [camera] fps: found nan, allowed is a number above 0"),
        (HEAD + "fps = 0", "rig.toml:3: [camera] fps: found 0, allowed is a number above 0"),
        (
            HEAD + "loops = true",
            "rig.toml:3: [camera] loops: found true, allowed is a whole number from 0 up",
        ),
        (
            HEAD + "binning = [\n  2,\n  0,\n]",
            "rig.toml:5: [camera] binning[1]: found 0, allowed is a whole number from 1 up",
        ),
        (
            HEAD + "binning = [2]",
            "rig.toml:3: [camera] binning: found [2], allowed is a list of 2, each a whole number "
            "from 1 up",
        ),
        (
            HEAD + 'flip = ["spatial", "up"]',
            'rig.toml:3: [camera] flip[1]: found "up", allowed is "spatial" or "spectral"',
        ),
        (
            HEAD + 'rate = "fast"',
            'rig.toml:3: [camera] rate: found "fast", allowed is "max" or "recorded" or a number '
            "above 0",
        ),
        (
            HEAD + "wavelengths = { first = 400.0 }",
            "rig.toml:3: [camera] wavelengths: allowed are either first and last, or coefficients",
        ),
        (
            HEAD + "faults = { lose_evry = 3 }",
            "rig.toml:3: [camera] faults.lose_evry: unknown key; did you mean lose_every?",
        ),
        (
            HEAD + "[camera.faults]\nlose_every = -1",
            "rig.toml:4: [camera] faults.lose_every: found -1, allowed is a whole number from 0 up",
        ),
        (
            HEAD + "[stream]\nblock_lines = 9999",
            "rig.toml:4: [stream] block_lines: found 9999, allowed is a whole number from 1 to 40",
        ),
        (
            HEAD + "# a comment\n[refrences]\nwhite = 'w'",
            "rig.toml:4: [refrences]: unknown table; did you mean references? "
            "allowed here: camera, scan, stream",
        ),
        (
            HEAD + "hroi = [5, 1]",
            "rig.toml:3: [camera] hroi: first 5 lies behind last 1",
        ),
        (
            '[camera]\ndriver = "replay"\n',
            'rig.toml:1: [camera]: driver = "replay" needs file = "…"',
        ),
        (
            '[camera]\ndriver = "fx10"\n',
            'rig.toml:2: [camera] driver: found "fx10", allowed is "genicam" or "replay" or '
            '"simulated"',
        ),
        ("[camera]\nfps = 3.0\n", "rig.toml:1: [camera] driver: missing; allowed is"),
        (
            "",
            'rig.toml: [camera]: missing; allowed is a table with driver = "genicam" or "replay" '
            'or "simulated"',
        ),
        ("camera = 3", "rig.toml:1: [camera]: found 3, allowed is a table with driver = "),
        (
            HEAD + "[references]\npanel = 95",
            "rig.toml:4: [references] panel: found 95, allowed is a share up to 1.5; 0.95 for",
        ),
        (
            HEAD + "wavelengths = { first = 0.397, last = 1.004 }",
            "rig.toml:3: [camera] wavelengths.last: found 1.004; is that µm? nm are expected",
        ),
        (
            HEAD + "wavelengths = { coefficients = [0.397, 1.358e-3] }",
            "rig.toml:3: [camera] wavelengths.coefficients: give 0.397 at row 0 and 1.755 at row "
            "1000; is that µm? nm are expected",
        ),
        (HEAD + "fps = = 3", "rig.toml:3: not TOML: Invalid value (column 7)"),
        (HEAD + "fps = [1,\n2", "rig.toml:4: not TOML: Unclosed array (at the end of the file)"),
        (HEAD + "driver = 'replay'", "rig.toml:3: not TOML: Cannot overwrite a value"),
        (
            HEAD + "[metadata]\nx = [[1]]",
            "rig.toml:4: [metadata] x: found [[1]], allowed is a text in quotes or",
        ),
        (HEAD + "seed = 99999999999999999999", "rig.toml:3: [camera] seed: found a number beyond"),
        (HEAD + 'a\u0000b = "x"', "rig.toml: not a rig file: found binary data"),
        ("x = " + "[" * 5000 + "]" * 5000, "rig.toml: not a rig file: nested too deeply"),
        ("x = " + "9" * 5000, "rig.toml: not a rig file: "),
    ],
)
def test_a_wrong_rig_file_is_answered_with_place_and_allowed_values(
    tmp_path: Path, text: str, message: str
) -> None:
    assert refusal(tmp_path, text).startswith(message)


def test_a_wrong_byte_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_bytes(b'[camera]\ndriver = "simul\xe4ted"\n')
    with pytest.raises(ConfigError, match=r"rig.toml:2: found the byte 0xe4, .*UTF-8"):
        load_rig(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_bytes(b'\xef\xbb\xbf[camera]\r\ndriver = "simulated"\r\nfps = 7.0\r\n')
    assert load_rig(path).camera.fps == 7.0
    path.write_bytes(b'[camera]\r\ndriver = "simulated"\r\n\r\nfps = "x"\r\n')
    with pytest.raises(ConfigError, match=r"rig.toml:4: \[camera\] fps"):
        load_rig(path)


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_rig(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="found a folder"):
        load_rig(tmp_path)
    large = tmp_path / "large.hsi"
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        load_rig(large)


def test_overrides_win_and_their_values_are_toml_or_bare_words(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "fps = 5.0\nwavelengths = { first = 400.0, last = 900.0 }\n")
    rig = load_rig(
        path,
        [
            "camera.fps=100",
            "camera.binning=[2, 2]",
            "camera.wavelengths.last=1000",
            "metadata.target=shelf-03",
            'metadata."light condition"="dim = dark"',
            "metadata.date=2026-03-04",
            "stream.endpoint=",
            "pipeline.preview=false",
            "camera.fps=101.5",
        ],
    )
    assert rig.camera.fps == 101.5
    assert rig.camera.binning == (2, 2)
    assert rig.camera.wavelengths == Wavelengths(first=400.0, last=1000.0)
    assert rig.metadata == {
        "target": "shelf-03",
        "light condition": "dim = dark",
        "date": "2026-03-04",
    }
    assert rig.stream.endpoint == ""
    assert rig.pipeline.preview is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("camera.fpss=1", "--set camera.fpss=1: [camera] fpss: unknown key; did you mean fps?"),
        ("camera.fps=fast", '--set camera.fps=fast: [camera] fps: found "fast", allowed is a num'),
        ("camera.fps", "--set camera.fps: found no '=', allowed is KEY=VALUE"),
        ("camera..fps=1", "--set camera..fps=1: 'camera..fps' is not a dotted key"),
        ("=1", "--set =1: '' is not a dotted key"),
        ("camera.binning=[1,", "--set camera.binning=[1,: not a TOML value: "),
        (
            "camera.driver.x=1",
            '--set camera.driver.x=1: camera.driver is "simulated", allowed is a table',
        ),
        (
            "camera.serial=0042",
            # A bare word, as TOML knows no number that begins with 0.
            "",
        ),
        (
            "camera.serial=42",
            "--set camera.serial=42: [camera] serial: found 42, allowed is a text in quotes; "
            "put it in quotes: --set 'camera.serial=\"…\"'",
        ),
        (
            "output.name={targt}",
            "--set output.name={targt}: not a TOML value: Expected '=' after a key in a key/value "
            "pair; a text with braces needs quotes: --set 'output.name=\"{targt}\"'",
        ),
        ("camera.fps=1\nseed=2", "--set camera.fps=1\\nseed=2: found a line break"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    if not message:
        assert load_rig(write(tmp_path, HEAD), [override]).camera.serial == "0042"
        return
    assert refusal(tmp_path, HEAD, override).startswith(message)


def test_what_an_override_replaced_is_not_sought_in_the_file(tmp_path: Path) -> None:
    text = HEAD + "wavelengths = { first = 400.0, last = 900.0 }\n"
    override = "camera.wavelengths={first=0.4,last=0.9}"
    said = refusal(tmp_path, text, override)
    assert said.startswith(f"--set {override}: [camera] wavelengths.last: found 0.9; is that µm?")


def test_a_calibration_whose_line_begins_below_the_spectrum_loads(tmp_path: Path) -> None:
    rig = load_rig(write(tmp_path, HEAD + "wavelengths = { coefficients = [50.0, 1.5] }"))
    assert rig.camera.wavelengths == Wavelengths(coefficients=[50.0, 1.5])


def test_paths_count_from_the_file_and_those_of_overrides_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rigs, here = tmp_path / "rigs", tmp_path / "here"
    rigs.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    path = write(
        rigs,
        '[camera]\ndriver = "replay"\nfile = "a.hsi"\nwavelengths = "w.csv"\nproducer = "p.cti"\n'
        '[references]\nwhite = "w.hdr"\nblack = "take"\n'
        '[stream.curve]\nkey = "/k"\nclients = ["c"]\n',
    )
    rig = load_rig(path, ["references.black=b.hdr", "references.panel=p.csv"])
    assert rig_base(path) == rigs
    assert rig.camera.file == str(rigs / "a.hsi")
    assert rig.camera.wavelengths == str(rigs / "w.csv")
    assert rig.camera.producer == "p.cti"  # a bare name is looked up by the driver
    assert rig.references.white == str(rigs / "w.hdr")
    assert rig.references.black == str(here / "b.hdr")
    assert rig.references.panel == str(here / "p.csv")
    assert rig.stream.curve is not None
    assert rig.stream.curve.key == "/k"
    assert rig.stream.curve.clients == [str(rigs / "c")]
    assert rig.output.folder == str(here / "captures")
    (rigs / "p.cti").touch()
    assert load_rig(path).camera.producer == str(rigs / "p.cti")


def test_words_that_look_like_paths_stay_words(tmp_path: Path) -> None:
    rig = load_rig(write(tmp_path, HEAD + 'wavelengths = "index"\n[references]\nwhite = "take"\n'))
    assert rig.camera.wavelengths == "index"
    assert rig.references.white == "take"


def test_a_rig_can_be_made_without_a_file() -> None:
    rig = make_rig({"camera": {"driver": "replay", "file": "/x.hsi"}}, ["camera.loops=3"])
    assert rig.camera.loops == 3
    with pytest.raises(ConfigError, match=r"^--set camera.loop=3: "):
        make_rig({"camera": {"driver": "replay", "file": "/x.hsi"}}, ["camera.loop=3"])


def test_lines_are_found_whatever_the_notation() -> None:
    text = (
        'a.b = 1 # [x]\n"c d".\'e"f\' = """\n[no]\nx = 1\n\\""""""\n'
        "[t] # comment\nlist = [ # one\n 1, # two\n { q = '''\n''', r = 2 }, [3,\n4]\n]\n"
        "[[u.v]]\nk = 1979-05-27T07:32:00Z\n[[u.v]]\nk = 2\n[u.v.w]\nm = 3\nend = 0"
    )
    lines = key_lines(text)
    assert lines["a", "b"] == 1
    assert lines["c d", 'e"f'] == 2
    assert lines["t", "list"] == 7
    assert lines["t", "list", 0] == 8
    assert lines["t", "list", 1, "q"] == 9
    assert lines["t", "list", 1, "r"] == 10
    assert lines["t", "list", 2, 1] == 11
    assert lines["u", "v", 0, "k"] == 14
    assert lines["u", "v", 1, "k"] == 16
    assert lines["u", "v", 1, "w", "m"] == 18
    assert lines["u", "v", 1, "w", "end"] == 19


def paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """All key paths of parsed TOML."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = {path} if path else set()
    for key, inner in items:
        found |= paths(inner, (*path, key))
    return found


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.name)
def test_every_key_of_the_shipped_files_is_placed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = key_lines(text)
    written = text.splitlines()
    wanted = paths(tomllib.loads(text))
    assert wanted <= lines.keys()
    for key in wanted:
        if isinstance(key[-1], str):
            assert key[-1] in written[lines[key] - 1]


@pytest.mark.parametrize("text", ["", "a.", ".a", "a b", 'a."b', "a\nb", "a.'b'c", "ä"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_key(text)


def test_quoted_keys_are_split() -> None:
    assert parse_key("a.'b.c'.\"d\\t\"") == ("a", "b.c", "d\t")


MUTANTS = st.lists(
    st.tuples(
        st.integers(0, len(PROMISED)),
        st.integers(0, 12),
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(["=", "[", "]", "{", "}", '"""', "'", ".", "\n", "nan", "-1", "[[a]]"]),
        ),
    ),
    min_size=1,
    max_size=4,
)


def loads_or_refuses(path: Path, overrides: tuple[str, ...] = ()) -> None:
    """Only our own error, in one line that begins with a place."""
    try:
        assert isinstance(load_rig(path, overrides), Rig)
    except ConfigError as error:
        text = str(error)
        assert "\n" not in text
        assert "\0" not in text
        assert text.startswith((str(path), "--set "))


@given(mutants=MUTANTS)
def test_no_damaged_rig_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, mutants: list[tuple[int, int, str]]
) -> None:
    text = PROMISED
    for at, removed, put in mutants:
        text = text[:at] + put + text[at + removed :]
    path = tmp_path_factory.getbasetemp() / "mutant.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loads_or_refuses(path)


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(data)
    loads_or_refuses(path)


@given(
    key=st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["camera", "camera.faults", "camera.wavelengths", "metadata.x", "scan.before", "output"]
        ),
    ),
    value=st.one_of(
        st.text(max_size=12), st.sampled_from(["[[]]", "{a={b=1}}", "1e999", "[nan]", "true"])
    ),
)
def test_no_override_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "override.toml"
    path.write_text(HEAD, encoding="utf-8")
    loads_or_refuses(path, (f"{key}={value}",))
