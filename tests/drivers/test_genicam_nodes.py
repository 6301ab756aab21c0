"""Features by SFNC name on cameras that viky does not play: old spellings, rasters, triggers."""

from types import SimpleNamespace

import pytest

pytest.importorskip("harvesters", reason="the GenICam driver needs harvesters")

from drivers.camera import EXPOSURE
from drivers.genicam import GenicamCamera
from drivers.genicam_nodes import Nodes
from drivers.genicam_settings import apply
from pipeline.config import CameraConfig, Rig, ScanConfig
from pipeline.errors import ConfigError

RO, RW = 3, 4


class _Node:
    def __init__(self, name, value=None, access=RW, **more):
        self.__dict__.update(more)
        self.value = value
        self.node = SimpleNamespace(
            name=name, get_access_mode=lambda: access, is_feature=lambda: True
        )


class IInteger(_Node):
    inc = 1


class IFloat(_Node):
    pass


class IBoolean(_Node):
    pass


class IString(_Node):
    pass


class IRegister(_Node):
    pass


class ICommand(_Node):
    def execute(self):
        self.executed = True


class IEnumeration(_Node):
    def get_entry_by_name(self, symbol):
        return None


class NodeMap:
    """Nodes by name, as genicam's node map has them; keeps the order in which they were set."""

    def __init__(self, *nodes):
        self.order = []
        self.nodes = nodes
        for node in nodes:
            setattr(self, node.node.name, node)

    def has_node(self, name):
        return hasattr(self, name)


class Rounded(IFloat):
    """A float that the camera moves to its own raster of 0.5."""

    @property
    def value(self):
        return self._value

    @value.setter
    def value(self, value):
        self._value = round(value * 2) / 2


Rounded.__name__ = "IFloat"  # nodes are told apart by the names of genicam's classes


def test_an_older_spelling_is_found_and_read_back():
    nodes = Nodes(NodeMap(Rounded("ExposureTimeAbs", 1.0, min=1.0, max=1e6)))
    assert nodes.set("ExposureTime", 2500.3, "[camera] exposure_ms") == 2500.5
    assert nodes.number("ExposureTime") == 2500.5
    assert nodes.differ == {"ExposureTimeAbs": "asked for 2500.3, the camera took 2500.5"}
    nodes.set("ExposureTime", 100.0, "[camera] exposure_ms")
    assert nodes.differ == {}


def test_what_differs_is_told_by_the_key_and_unit_that_the_user_wrote():
    nodes = Nodes(NodeMap(Rounded("ExposureTimeAbs", 1.0, min=1.0, max=1e6)))
    nodes.set("ExposureTime", 2500.3, "[camera] exposure_ms", EXPOSURE)
    assert nodes.differ == {"exposure_ms": "asked for 2.5003 ms, the camera took 2.5005 ms"}
    nodes.set("ExposureTime", 7.3, "set ExposureTime")
    assert nodes.differ == {"ExposureTimeAbs": "asked for 7.3, the camera took 7.5"}


def test_the_rig_files_own_keys_are_the_ones_that_are_told():
    node_map = NodeMap(
        IEnumeration("PixelFormat", "Mono12", symbolics=("Mono12",)),
        Rounded("ExposureTime", 1.0, min=1.0, max=1e6),
        Rounded("AcquisitionFrameRate", 1.0, min=1.0, max=1e6),
    )
    nodes = Nodes(node_map)
    apply(nodes, Rig(camera=CameraConfig(driver="genicam", exposure_ms=2.5003, fps=99.8)))
    assert nodes.differ == {
        "exposure_ms": "asked for 2.5003 ms, the camera took 2.5005 ms",
        "fps": "asked for 99.8 Hz, the camera took 100 Hz",
    }


def test_integers_go_to_the_nearest_step_that_is_allowed():
    node = IInteger("Width", 64, min=16, max=100, inc=8)
    nodes = Nodes(NodeMap(node))
    assert [nodes.set("Width", v, "w") for v in (16, 19, 21, 100, 96)] == [16, 16, 24, 96, 96]


@pytest.mark.parametrize(
    ("node", "value", "allowed"),
    [
        (IInteger("F", 5, min=1, max=9), 10, "from 1 to 9"),
        (IInteger("F", 5, min=1, max=9), "5", "from 1 to 9"),
        (IInteger("F", 5, min=0, max=9), True, "from 0 to 9"),
        (IFloat("F", 5.0, min=1.0, max=9.5), float("nan"), "from 1 to 9.5"),
        (IBoolean("F", True), 1, "true or false"),
        (IString("F", "x"), 1, "a text"),
        (IEnumeration("F", "a", symbolics=("a", "b")), "c", "a, b"),
        (IInteger("F", 5, access=RO), 6, "cannot be set"),
        (IRegister("F"), b"x", "not a feature that has a value"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can(node, value, allowed):
    with pytest.raises(ConfigError, match=allowed) as caught:
        Nodes(NodeMap(node)).set("F", value, "[camera] features: F")
    assert str(caught.value).startswith("[camera] features: F")


def test_a_value_that_a_fixed_feature_has_anyway_is_no_error():
    assert Nodes(NodeMap(IInteger("F", 6, access=RO))).set("F", 6, "x") == 6


def test_every_readable_feature_is_listed_with_a_value_that_json_can_hold():
    readable = Nodes(
        NodeMap(
            IInteger("B", 1),
            IFloat("A", float("inf")),
            IRegister("C", b"\0"),
            IString("D", "text", access=1),
            IBoolean("E", True),
        )
    ).readable()
    assert readable == {"A": "inf", "B": 1, "E": True}


def configured(node_map, scan=None, **camera):
    """Apply a rig file's settings to a made-up camera."""
    rig = Rig(camera=CameraConfig(driver="genicam", **camera), scan=scan or ScanConfig())
    one = GenicamCamera(rig)
    nodes = Nodes(node_map)
    apply(nodes, rig)
    one._read_exposure(nodes)
    return one, nodes


def line_camera():
    formats = ("Mono8", "Mono12", "RGB8")
    return NodeMap(
        IInteger("BinningVertical", 1, min=1, max=4),
        IInteger("BinningHorizontal", 1, min=1, max=4),
        IInteger("Width", 1024, min=8, max=1024),
        IInteger("Height", 448, min=8, max=448),
        IInteger("OffsetX", 0, min=0, max=1000),
        IInteger("OffsetY", 0, min=0, max=440),
        IEnumeration("PixelFormat", "Mono8", symbolics=formats),
        IEnumeration("ExposureAuto", "Continuous", symbolics=("Off", "Continuous")),
        IFloat("ExposureTime", 100.0, min=1.0, max=1e6),
        IBoolean("AcquisitionFrameRateEnable", False),
        IFloat("AcquisitionFrameRate", 10.0, min=1.0, max=330.0),
        IEnumeration("TriggerSelector", "FrameStart", symbolics=("FrameStart", "AcquisitionStart")),
        IEnumeration("TriggerMode", "On", symbolics=("Off", "On")),
        IFloat("Gain", 0.0, min=0.0, max=12.0),
        ICommand("UserSetLoad"),
    )


def test_a_rig_file_sets_what_it_names_and_what_stands_in_the_way():
    node_map = line_camera()
    one, nodes = configured(
        node_map,
        exposure_ms=2.5,
        fps=330.0,
        binning=(2, 1),
        hroi=(101, 612),
        vroi=(11, 210),
        pixel_format="Mono12",
        gain=6.0,
        features={"UserSetLoad": True},
    )
    for name, value in {
        "BinningVertical": 2,
        "BinningHorizontal": 1,
        "Width": 512,
        "OffsetX": 100,
        "Height": 200,
        "OffsetY": 10,
        "PixelFormat": "Mono12",
        "ExposureAuto": "Off",
        "ExposureTime": 2500.0,
        "AcquisitionFrameRateEnable": True,
        "AcquisitionFrameRate": 330.0,
        "TriggerMode": "Off",
        "Gain": 6.0,
    }.items():
        assert getattr(node_map, name).value == value, name
    assert node_map.UserSetLoad.executed
    assert one._exposure_ms == 2.5
    assert one._extent(nodes, "Height", 2)[1] == (11, 210)
    assert nodes.differ == {}


def test_the_spectrum_along_the_width_swaps_binning_and_regions():
    node_map = line_camera()
    configured(node_map, spectral_axis="width", binning=(4, 2), vroi=(1, 200), hroi=(1, 100))
    assert (node_map.BinningHorizontal.value, node_map.BinningVertical.value) == (4, 2)
    assert (node_map.Width.value, node_map.Height.value) == (200, 100)


@pytest.mark.parametrize(
    ("trigger", "selector"), [("line", "FrameStart"), ("start", "AcquisitionStart")]
)
def test_a_trigger_is_switched_on_with_the_selector_that_the_camera_has(trigger, selector):
    node_map = line_camera()
    configured(node_map, ScanConfig(trigger=trigger), fps=100.0)
    assert node_map.TriggerSelector.value == selector
    assert node_map.TriggerMode.value == "On"


def test_a_trigger_that_the_camera_lacks_is_refused():
    node_map = NodeMap(IEnumeration("PixelFormat", "Mono8", symbolics=("Mono8",)))
    with pytest.raises(ConfigError, match=r"\[scan\] trigger: found 'line'"):
        configured(node_map, ScanConfig(trigger="line"))


def test_binning_that_the_camera_lacks_is_refused():
    node_map = NodeMap(IEnumeration("PixelFormat", "Mono8", symbolics=("Mono8",)))
    configured(node_map)
    with pytest.raises(ConfigError, match=r"\[camera\] binning: .*BinningVertical"):
        configured(node_map, binning=(2, 1))


@pytest.mark.parametrize(
    ("transport", "mode", "largest"),
    [("GEV", None, 65535), ("GEV", "On", 0), ("GEV", "Off", 65535), ("U3V", None, 0)],
)
def test_frame_ids_wrap_with_16_bit_gige_vision_only(transport, mode, largest):
    extra = [IEnumeration("GevGVSPExtendedIDMode", mode, symbolics=("Off", "On"))] if mode else []
    one = GenicamCamera(Rig(camera=CameraConfig(driver="genicam")))
    one._set_frame_ids(Nodes(NodeMap(*extra)), transport)
    assert one.frame_id_max == largest
