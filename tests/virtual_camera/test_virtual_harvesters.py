"""The camera through harvesters and GenApi, as the driver uses it."""

from __future__ import annotations

import contextlib
import io
import sys
import time

import numpy as np
import pytest
from expected import FORMATS, in_format

pytest.importorskip("harvesters", reason="harvesters is not here")

from genicam import genapi
from genicam.genapi import GenericException
from genicam.gentl import IoException
from harvesters.core import Harvester

from drivers.genicam import GenicamCamera, list_cameras
from pipeline.config import CameraConfig, Rig
from pipeline.layout import PIXEL_FORMATS

SMALL = {"SceneBands": 20, "SceneSamples": 32, "AcquisitionFrameRate": 500.0}


@pytest.fixture
def harvested(producer, settings):
    """Open a camera through harvesters, with features as at power-on."""

    @contextlib.contextmanager
    def make(**features):
        settings(**features)
        harvester = Harvester()
        try:
            harvester.add_file(str(producer))
            harvester.update()
            with harvester.create(0) as acquirer:
                yield acquirer
        finally:
            harvester.reset()

    return make


def test_frames_come_with_their_facts(harvested, scene):
    cube, playing = scene()
    with harvested(**playing.features(), AcquisitionFrameRate=500.0) as acquirer:
        acquirer.num_buffers = 64
        acquirer.start()
        for expected in range(4):
            with acquirer.fetch(timeout=5) as buffer:
                image = buffer.payload.components[0]
                assert (image.width, image.height, image.data_format) == (21, 12, "Mono12")
                frame_id = buffer._module.frame_id
                assert frame_id == expected
                assert np.array_equal(image.data.reshape(12, 21), cube[frame_id])
                assert buffer.timestamp_frequency in (125_000_000, 1_000_000_000)
        acquirer.stop()


def test_genapi_reads_every_node(harvested):
    with harvested(**SMALL) as acquirer:
        nodes = acquirer.remote_device.node_map
        chunks = 0
        read = 0
        for node in nodes.nodes:
            kind = type(node).__name__
            if kind not in ("IInteger", "IFloat", "IBoolean", "IEnumeration", "IString"):
                continue
            if not node.node.is_feature():
                continue
            if node.node.get_access_mode() in (genapi.EAccessMode.RO, genapi.EAccessMode.RW):
                _ = node.value
                read += 1
            chunks += node.node.name.startswith("Chunk") and not node.node.name.endswith("Reg")
        assert read > 80
        assert chunks >= 7
        assert nodes.TriggerSelector.symbolics == ("AcquisitionStart", "FrameStart")
        assert nodes.Width.max == 32
        for module in (acquirer.system, acquirer.interface, acquirer.device):
            assert module.node_map is not None


def test_tl_params_locked_is_honoured_and_set_by_harvesters(harvested):
    with harvested(**SMALL) as acquirer:
        nodes = acquirer.remote_device.node_map
        acquirer.start()
        assert nodes.TLParamsLocked.value == 1
        assert nodes.Width.node.get_access_mode() == genapi.EAccessMode.RO
        with pytest.raises(GenericException):
            nodes.PixelFormat.value = "Mono8"
        nodes.ExposureTime.value = 700.0
        acquirer.stop()
        nodes.PixelFormat.value = "Mono8"
        assert nodes.PayloadSize.value == 640


@pytest.mark.parametrize("tl_type", ["GEV", "U3V", "Custom"])
def test_chunks_reach_the_node_map(harvested, monkeypatch, tl_type):
    monkeypatch.setenv("SWATH_VIRTUAL_TLTYPE", tl_type)
    with harvested(**SMALL, EncoderRate=3000.0, ChunkModeActive=1) as acquirer:
        nodes = acquirer.remote_device.node_map
        acquirer.num_buffers = 64
        acquirer.start()
        encoder = []
        for _ in range(5):
            with acquirer.fetch(timeout=5) as buffer:
                raw = buffer._module
                assert raw.is_containing_chunk_data()
                assert nodes.ChunkFrameID.value == raw.frame_id
                assert nodes.ChunkTimestamp.value == raw.timestamp
                assert nodes.ChunkExposureTime.value == 1000.0
                assert nodes.ChunkLineStatusAll.value == nodes.ChunkEncoderValue.value & 1
                encoder.append(nodes.ChunkEncoderValue.value)
                assert raw.num_chunks == 6
        acquirer.stop()
        assert np.diff(encoder).tolist() == [6, 6, 6, 6]


def test_a_chunk_may_be_switched_off(harvested):
    with harvested(**SMALL, ChunkModeActive=1) as acquirer:
        nodes = acquirer.remote_device.node_map
        nodes.ChunkSelector.value = "Timestamp"
        nodes.ChunkEnable.value = False
        acquirer.start()
        with acquirer.fetch(timeout=5) as buffer:
            assert nodes.ChunkFrameID.value == buffer._module.frame_id
            assert buffer._module.num_chunks == 5
            with pytest.raises(GenericException):
                _ = nodes.ChunkTimestamp.value
        acquirer.stop()


def test_an_incomplete_buffer_is_not_handed_on(harvested):
    with harvested(**SMALL, FaultIncompleteEvery=2) as acquirer:
        acquirer.num_buffers = 64
        acquirer.start()
        ids = []
        while len(ids) < 4:
            buffer = acquirer.try_fetch(timeout=5)
            if buffer is not None:
                ids.append(buffer._module.frame_id)
                buffer.queue()
        acquirer.stop()
        assert ids == [0, 2, 4, 6]


def test_the_device_list_says_who_is_there(producer, settings):
    settings()
    listed = list_cameras(str(producer))
    assert [(c["serial"], c["model"], c["user_id"]) for c in listed] == [
        ("VC0001", "VC-10", "virtual 1"),
        ("VC0002", "VC-17", "virtual 2"),
    ]
    assert all(c["accessible"] and c["vendor"] == "swath" for c in listed)


@pytest.mark.parametrize("name", FORMATS)
def test_the_driver_of_swath_gets_the_pixels_of_every_format(producer, settings, scene, name):
    cube, playing = scene()
    settings(**playing.features())
    if name not in PIXEL_FORMATS:
        pytest.skip(f"swath has no {name}")
    driver = GenicamCamera(
        Rig(
            camera=CameraConfig(
                driver="genicam",
                producer=str(producer),
                serial="VC0001",
                pixel_format=name,
                fps=400.0,
                exposure_ms=1.0,
                hroi=(3, 19),
                vroi=(2, 11),
                buffer_frames=64,
            )
        )
    )
    info = driver.open()
    try:
        assert (info.fps, info.exposure_ms, info.settings_differ) == (400.0, 1.0, {})
        into = np.zeros((info.bands, info.samples), PIXEL_FORMATS[name].dtype)
        driver.start("scan")
        taken = 0
        deadline = time.monotonic() + 20
        while taken < 8 and time.monotonic() < deadline:
            frame = driver.fetch(into, 0.05)
            if frame is None:
                continue
            line = cube[frame.frame_id % len(cube), 1:11, 2:19]
            assert np.array_equal(into, in_format(line, 12, name))
            taken += 1
        assert taken == 8
        driver.stop()
    finally:
        driver.close()


def test_the_consumer_has_no_complaints_about_missing_functions(producer, settings, capfd):
    settings()
    with contextlib.redirect_stdout(io.StringIO()):
        list_cameras(str(producer))
    sys.stdout.flush()
    assert "does not implement" not in "".join(capfd.readouterr())


def fetch_on_and_on(acquirer):
    while True:
        acquirer.fetch(timeout=5).queue()


def test_after_an_unplugging_the_camera_can_be_opened_again_in_the_same_process(
    harvested,
):
    faults = {"FaultUnplugAfter": 3, "FaultUnplugTime": 0.05, "FaultUnplugKeepsInfo": 1}
    with harvested(**SMALL, **faults, FaultStrikes=1) as acquirer:
        acquirer.start()
        with pytest.raises(IoException):
            fetch_on_and_on(acquirer)
        with pytest.raises(IoException):
            acquirer.stop()  # else harvesters' destroy() fails at this, and releases nothing
    time.sleep(0.06)
    with harvested(**SMALL, **faults, FaultStrikes=1) as acquirer:
        acquirer.start()
        for _ in range(5):
            acquirer.fetch(timeout=5).queue()
        acquirer.stop()
