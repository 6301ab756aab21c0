"""Sessions whose driver dies, is slow, or is stopped: real processes, a real link."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from rigs import capture, write_rig

import swath
from pipeline.errors import CameraError, ConfigError
from pipeline.events import Event, Phase, Progress
from pipeline.session import Session
from pipeline.stream.driver_link import DriverLink
from pipeline.stream.messages import CameraInfo

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes by pid")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """All sessions that the test opens."""
    found: list[Session] = []
    opened = Session.open

    def note(self: Session) -> None:
        found.append(self)
        opened(self)

    monkeypatch.setattr(Session, "open", note)
    return found


def kill(session: Session) -> None:
    assert session._driver is not None
    pid = session._driver.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_driver_that_dies_while_the_camera_is_armed_again_is_started_once_more(
    tmp_path: Path, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killer(list):
        def append(self, event: Event) -> None:
            scanning = isinstance(event, Progress) and event.total == 900 and event.lines > 50
            if scanning and sessions[0].epoch == 0 and not self:
                super().append(event)
                kill(sessions[0])

    arm, armed = Session.arm, []

    def kill_the_second(self: Session) -> object:
        armed.append(1)
        if len(armed) == 2:
            kill(self)
        return arm(self)

    monkeypatch.setattr(Session, "arm", kill_the_second)
    result = capture(write_rig(tmp_path), events=Killer(), lines=900)
    assert (result.exit_status, len(armed)) == (3, 3)
    with swath.open(result.file) as cube:
        assert int(cube.ledger["count"].sum()) == 900


def test_a_black_goes_on_behind_a_closed_shutter(tmp_path: Path, sessions: list[Session]) -> None:
    class Killer(list):
        def append(self, event: Event) -> None:
            if isinstance(event, Progress) and event.lines > 40 and not self:
                super().append(event)
                kill(sessions[0])

    killed = Killer()
    result = capture(write_rig(tmp_path), "references.lines=200", events=killed, lines=32)
    assert killed
    with swath.open(result.file) as cube:
        black, white = (cube.references[kind].array.mean() for kind in ("black", "white"))
        assert black < white / 10
        assert cube.references["black"].header["lines averaged"] <= 200


@pytest.mark.parametrize("kind", ["black", "scan"])
def test_a_stop_before_the_first_line_leaves_nothing(tmp_path: Path, kind: str) -> None:
    stop = threading.Event()

    class Stopper(list):
        def append(self, event: Event) -> None:
            if isinstance(event, Phase) and event.kind == kind:
                stop.set()

    with pytest.raises(CameraError, match="stopped before the first line"):
        capture(
            write_rig(tmp_path), "camera.fps=5", "references.lines=2", events=Stopper(), stop=stop
        )
    assert not list((tmp_path / "out").glob("*"))


def test_a_camera_that_comes_back_with_other_lines_is_refused(
    tmp_path: Path, sessions: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rig(tmp_path)
    stop = threading.Event()
    check = Session._check_same

    def refuse_once(self: Session, info: CameraInfo) -> None:
        try:
            check(self, info)
        except ConfigError:
            stop.set()  # else it is tried again for as long as a camera may be away
            raise

    monkeypatch.setattr(Session, "_check_same", refuse_once)

    class Changer(list):
        def append(self, event: Event) -> None:
            scanning = isinstance(event, Progress) and event.total == 9000 and event.lines > 50
            if scanning and not self:
                super().append(event)
                path.write_text(path.read_text().replace("samples = 48", "samples = 40"))
                kill(sessions[0])

    result = capture(path, events=Changer(), lines=9000, stop=stop)
    assert result.exit_status == 1
    assert "samples = 40, the capture began with 48" in result.message
    with swath.open(result.file) as cube:
        assert cube.raw.shape[1] == 48


def test_silence_is_not_counted_while_the_driver_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    link = DriverLink(f"ipc://{tmp_path}/link")
    try:
        link.poll()
        now = time.monotonic()
        monkeypatch.setattr("pipeline.stream.driver_link.time.monotonic", lambda: now + 30.0)
        assert link.peer_silent_s < 1.0  # arming a camera may take that long
    finally:
        monkeypatch.undo()
        link.close()


def test_a_session_left_in_mid_series_lets_the_driver_close_its_camera(tmp_path: Path) -> None:
    import time

    from pipeline.events import EventBus
    from pipeline.rigfile import load_rig

    path = write_rig(tmp_path)
    session = Session(
        load_rig(path),
        rig_path=path,
        overrides=(),
        endpoint=None,
        bus=EventBus(),
        stop=threading.Event(),
    )
    session.open()
    session.arm()
    series = session.series("scan", lines=0)
    while next(series) is None:  # the first block is neither taken nor acknowledged
        pass
    began = time.monotonic()
    session.close()
    assert session._driver is not None
    assert session._driver.returncode == 0  # ended in order: neither SIGTERM nor SIGKILL
    assert time.monotonic() - began < 4.0
