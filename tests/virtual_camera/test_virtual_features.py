"""Settings: limits that depend on each other, locks, user sets, the environment."""

from __future__ import annotations

import pytest
from virtual_camera.consumer import GenTLError, opened

ACCESS_DENIED, INVALID_VALUE, IO, INVALID_ID = -1005, -1019, -1010, -1007
SMALL = {"SceneBands": 20, "SceneSamples": 32}


def code_of(function, *args):
    with pytest.raises(GenTLError) as failed:
        function(*args)
    return failed.value.code


def test_size_offset_and_binning_limit_each_other(opened):
    with opened(**SMALL) as camera:
        assert camera.get("Width", "_Max") == 32
        assert camera.get("OffsetX", "_Max") == 0
        camera.set_all(Width=10, OffsetX=22)
        assert camera.get("Width", "_Max") == 10
        assert code_of(camera.set, "OffsetX", 23) == INVALID_VALUE
        camera.set("BinningHorizontal", 2)
        assert [camera.get(n) for n in ("Width", "OffsetX", "WidthMax")] == [5, 11, 16]
        camera.set("BinningHorizontal", 1)
        camera.set("DeviceScanType", "Linescan")
        assert camera.get("BinningVertical", "_Max") == 1
        assert camera.get("Height", "_Max") == 4096
        assert camera.get("OffsetY", "_Max") == 0


def test_what_decides_on_the_payload_is_locked_while_it_has_to_be(opened):
    names = ("Width", "OffsetX", "BinningVertical", "PixelFormat", "ChunkModeActive", "UserSetLoad")
    with opened(**SMALL) as camera:
        camera.set("TLParamsLocked", 1)
        for name in names:
            assert code_of(camera.set, name, 1) == ACCESS_DENIED, name
            assert camera.get(name, "_Locked") == 1 if name != "UserSetLoad" else True
        camera.set("ExposureTime", 500.0)
        camera.set("TLParamsLocked", 0)
        camera.set("Width", 4)
        camera.start()
        camera.set("TLParamsLocked", 0)
        assert code_of(camera.set, "Width", 5) == ACCESS_DENIED
        camera.stop()
        camera.set("Width", 5)


def test_the_payload_size_is_that_of_the_frame(opened):
    with opened(**SMALL) as camera:
        for name, size in {"Mono8": 640, "Mono12": 1280, "Mono12p": 960, "Mono10p": 800}.items():
            camera.set("PixelFormat", name)
            assert camera.get("PayloadSize") == size
        camera.set("ChunkModeActive", 1)
        assert camera.get("PayloadSize") == 800 + 8 + 5 * 16
        camera.set_all(ChunkSelector="EncoderValue", ChunkEnable=0)
        assert camera.get("PayloadSize") == 800 + 8 + 4 * 16


def test_user_sets_bring_settings_back_but_not_the_scene(opened):
    with opened(**SMALL) as camera:
        camera.set_all(UserSetSelector="UserSet0", Width=7, Gain=6.0, TriggerSelector="FrameStart")
        camera.set_all(TriggerMode="On", UserSetSave=1)
        camera.set_all(UserSetSelector="Default", UserSetLoad=1)
        assert (camera.get("Width"), camera.get("Gain"), camera.get("TriggerMode")) == (
            32,
            0.0,
            "Off",
        )
        camera.set_all(UserSetSelector="UserSet0", UserSetLoad=1)
        assert (camera.get("Width"), camera.get("Gain"), camera.get("TriggerMode")) == (
            7,
            6.0,
            "On",
        )
        assert camera.get("SensorWidth") == 32
        camera.set("UserSetSelector", "Default")
        assert code_of(camera.set, "UserSetSave", 1) == ACCESS_DENIED


def test_a_feature_may_refuse_to_be_set(opened):
    with opened(FaultRefuseFeature="ExposureTime") as camera:
        assert code_of(camera.set, "ExposureTime", 500.0) == ACCESS_DENIED
        assert "refuses" in camera.library.last_error()
        camera.set_all(Gain=1.0, FaultRefuseFeature="", ExposureTime=500.0)


def test_another_scene_is_taken_while_the_camera_is_open(opened, scene):
    cube, playing = scene(bands=5, samples=9)
    with opened() as camera:
        for name, value in playing.features().items():
            camera.set(name, value)
        camera.set("SceneLoad", 1)
        assert (camera.get("SensorWidth"), camera.get("SensorHeight")) == (9, 5)
        camera.set("AcquisitionFrameRate", 0.0)
        camera.start()
        assert next(camera.frames(1)).data.tobytes() == cube[0].tobytes()
        camera.stop()
        camera.set("SceneFile", "/no/where")
        assert code_of(camera.set, "SceneLoad", 1) == IO
        assert camera.get("SensorWidth") == 9


@pytest.mark.parametrize(
    ("features", "code", "text"),
    [
        ({"Bogus": 1}, INVALID_ID, "Bogus: no such feature"),
        ({"Width": "wide"}, INVALID_VALUE, "Width: found wide, it takes a number"),
        ({"Gain": 99}, INVALID_VALUE, "Gain: found 99"),
        ({"PixelFormat": "RGB8"}, INVALID_VALUE, "PixelFormat: it has no value RGB8"),
        ({"SensorWidth": 5}, ACCESS_DENIED, "SensorWidth is read only"),
        ({"SceneFile": "/no/where"}, IO, "SceneFile /no/where: No such file"),
        ({"SceneFile": "/proc/self/exe", "SceneLines": 10**8}, INVALID_VALUE, "holds .* lines"),
    ],
)
def test_settings_of_the_environment_that_are_wrong_are_named(
    producer, settings, features, code, text
):
    settings(**features)
    with opened(producer) as one, pytest.raises(GenTLError, match=text) as failed:
        one.open(one.ids()[0])
    assert failed.value.code == code


def test_one_device_may_have_settings_of_its_own(opened, monkeypatch):
    monkeypatch.setenv("SWATH_VIRTUAL_SET_VC0002", "Gain=3;DeviceUserID=left")
    with opened(1, Gain=1.0) as camera:
        assert (camera.get("Gain"), camera.get("DeviceUserID")) == (3.0, "left")
    with opened(0, Gain=1.0) as camera:
        assert (camera.get("Gain"), camera.get("DeviceUserID")) == (1.0, "virtual 1")
