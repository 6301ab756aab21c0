"""Keys, allowed clients and endpoints; over real sockets."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.config import CurveConfig
from pipeline.errors import ConfigError, StreamError, StreamTimeoutError
from pipeline.stream.driver_link import DriverLink
from pipeline.stream.engine_link import EngineLink
from pipeline.stream.security import check_endpoint, make_keys, private_endpoint

TCP = "tcp://127.0.0.1:*"


@pytest.fixture
def keys(tmp_path):
    """Key pairs of a driver, a friend and a stranger: name → (public, secret)."""
    pairs = {name: make_keys(tmp_path, name) for name in ("driver", "friend", "stranger")}
    return {name: (str(public), str(secret)) for name, (public, secret) in pairs.items()}


def driver_curve(keys):
    return CurveConfig(key=keys["driver"][1], clients=[keys["friend"][0]])


def test_a_listed_client_is_admitted_and_blocks_flow(bench, keys):
    driver = bench.driver(endpoint=TCP, curve=driver_curve(keys))
    curve = CurveConfig(key=keys["friend"][1], server=keys["driver"][0])
    engine = bench.engine(driver.endpoint, curve=curve)
    bench.join(driver, engine)
    bench.start(driver)
    bench.send(driver, 0)
    bench.pump(driver, lambda: engine.ring.free == 7)


@pytest.mark.parametrize(
    ("own", "server", "why"),
    [
        ("stranger", "driver", "does not admit this key"),
        ("friend", "stranger", "handshake failed|no driver answered"),
        (None, None, "handshake failed|no driver answered"),
    ],
)
def test_others_are_not_admitted_and_learn_why(bench, keys, own, server, why):
    driver = bench.driver(endpoint=TCP, curve=driver_curve(keys))
    curve = None
    if own is not None:
        curve = CurveConfig(key=keys[own][1], server=keys[server][0])
    engine = bench.engine(driver.endpoint, curve=curve)
    failed = []

    def connect():
        try:
            engine.connect(0.6)
        except StreamTimeoutError as error:
            failed.append(str(error))

    thread = threading.Thread(target=connect)
    thread.start()
    bench.pump(driver, lambda: not thread.is_alive())
    assert failed
    assert re.search(why, failed[0])
    assert not driver.connected


def test_key_files_are_private_and_never_overwritten(tmp_path):
    public, secret = make_keys(tmp_path / "keys", "rig")
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["rig.key", "rig.key_secret"]
    assert "secret-key" not in public.read_text()
    assert "secret-key" in secret.read_text()
    if os.name == "posix":
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="never overwritten"):
        make_keys(tmp_path / "keys", "rig")


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://*:5000", "tcp://0.0.0.0:5000", "tcp://192.0.2.7:5000", "tcp://rig.example:5000"],
)
def test_tcp_beyond_loopback_needs_keys_or_an_explicit_word(endpoint, keys):
    for make in (DriverLink, EngineLink):
        with pytest.raises(ConfigError, match=r"curve keys .* insecure = true"):
            make(endpoint)
    check_endpoint(endpoint, None, True)
    check_endpoint(endpoint, driver_curve(keys), False)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "tcp://localhost:*", "tcp://[::1]:70", "ipc:///tmp/x"]
)
def test_loopback_and_ipc_need_no_keys(endpoint):
    check_endpoint(endpoint, None, False)


@pytest.mark.parametrize(
    "endpoint", ["", "udp://127.0.0.1:1", "ipc://", "tcp://localhost", "tcp://127.0.0.1:70000"]
)
def test_what_is_no_endpoint_is_refused_by_name(endpoint):
    with pytest.raises(ConfigError, match="endpoint: found"):
        check_endpoint(endpoint, None, True)


def test_a_path_too_long_for_ipc_is_refused():
    with pytest.raises(ConfigError, match=r"has 200 bytes, allowed are 107"):
        check_endpoint("ipc://" + "x" * 200, None, False)


def test_bad_keys_end_in_a_sentence_that_names_the_file(tmp_path, keys):
    missing = CurveConfig(key=str(tmp_path / "no.key_secret"), clients=[keys["friend"][0]])
    public = CurveConfig(key=keys["driver"][0], clients=[keys["friend"][0]])
    nobody = CurveConfig(key=keys["driver"][1])
    for curve, match in (
        (missing, "no.key_secret: found no such file; swath keys makes keys"),
        (public, "holds no secret key"),
        (nobody, "clients: found none"),
    ):
        with pytest.raises(ConfigError, match=match):
            DriverLink(TCP, curve=curve)
    with pytest.raises(ConfigError, match="server: missing"):
        EngineLink("tcp://127.0.0.1:1", curve=CurveConfig(key=keys["friend"][1]))


def test_an_endpoint_in_use_or_that_cannot_be_is_refused_in_a_sentence(bench):
    driver = bench.driver(endpoint=TCP)
    with pytest.raises(StreamError, match="cannot be bound"):
        DriverLink(driver.endpoint)


@pytest.mark.skipif(sys.platform == "win32", reason="no ipc there")
def test_a_private_endpoint_is_in_a_folder_that_is_ours_alone(monkeypatch, tmp_path):
    endpoint, cleanup = private_endpoint()
    folder = Path(endpoint.removeprefix("ipc://")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    cleanup()
    assert not folder.exists()
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    endpoint, cleanup = private_endpoint()
    check_endpoint(endpoint, None, False)
    cleanup()


def test_a_private_endpoint_is_removed_though_nobody_had_the_time_to_see_to_it(tmp_path):
    code = "from pipeline.stream.security import private_endpoint as p; print(p()[0])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.startswith("ipc://")
    assert not Path(done.stdout.strip().removeprefix("ipc://")).parent.exists()
