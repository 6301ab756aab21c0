"""The settings of the rig file on a GenICam camera, in the order in which they limit each other.

Binning, region, pixel format, exposure, triggers off, rate, gain, trigger, chunks, then whatever
``[camera] features`` names, which has the last word. Knows features and the rig file, nothing of
producers, buffers or frames.
"""

from __future__ import annotations

import re
from typing import Any, Final

from drivers.camera import EXPOSURE, GAIN, RATE
from drivers.genicam_chunks import switch_on
from drivers.genicam_nodes import Nodes
from pipeline.config import CameraConfig, Rig
from pipeline.errors import ConfigError
from pipeline.layout import PIXEL_FORMATS

#: What a feature can be called (GenApi's schema: an identifier).
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What a frame is: Areascan, Linescan …
SCAN_TYPE: Final = "DeviceScanType"
#: Trigger selectors that start one line or frame each, and those that start a run of them.
LINE_TRIGGERS: Final = ("LineStart", "FrameStart", "ExposureStart")
RUN_TRIGGERS: Final = ("AcquisitionStart", "FrameBurstStart")


def apply(nodes: Nodes, rig: Rig) -> None:
    """Set what the rig file asks for, each after what it depends on, and read it back.

    Raises
    ------
    ConfigError
        When the camera has no such feature or does not allow the value; names the key.
    CameraError
        When it refuses, or does not answer.
    """
    camera = rig.camera
    tall = camera.spectral_axis == "height"
    if SCAN_TYPE in camera.features:
        # All else depends on it.
        nodes.set(SCAN_TYPE, camera.features[SCAN_TYPE], f"[camera] features: {SCAN_TYPE}")
    line_scan = is_line_scan(nodes)
    if line_scan:
        _check_line_scan(camera)
    # A viewer may have left it at a single frame.
    _set_if_there(nodes, "AcquisitionMode", "Continuous", "[scan] lines")
    axes = ("Vertical", "Horizontal") if tall else ("Horizontal", "Vertical")
    for axis, factor in zip(axes, camera.binning, strict=True):
        name = f"Binning{axis}"
        if factor != 1 or nodes.writable(name):
            nodes.set(name, factor, "[camera] binning")
    spectral, spatial = ("Height", "Width") if tall else ("Width", "Height")
    if not line_scan:
        _set_region(nodes, spectral, camera.vroi, "[camera] vroi")
    _set_region(nodes, spatial, camera.hroi, "[camera] hroi")
    if line_scan and "Height" in camera.features:
        # Lines of a frame: the rate of lines depends on it.
        nodes.set("Height", camera.features["Height"], "[camera] features: Height")
    _set_pixel_format(nodes, camera.pixel_format)
    if camera.exposure_ms is not None:
        _set_if_there(nodes, "ExposureMode", "Timed", "[camera] exposure_ms")
        _set_if_there(nodes, "ExposureAuto", "Off", "[camera] exposure_ms")
        nodes.set("ExposureTime", camera.exposure_ms * 1e3, "[camera] exposure_ms", EXPOSURE)
    _set_trigger_off(nodes)
    if camera.fps is not None and rig.scan.trigger != "line":
        _set_if_there(nodes, "AcquisitionFrameRateEnable", True, "[camera] fps")
        _set_rate(nodes, camera.fps, line_scan=line_scan)
    if camera.gain is not None:
        _set_if_there(nodes, "GainAuto", "Off", "[camera] gain")
        nodes.set("Gain", camera.gain, "[camera] gain", GAIN)
    _set_trigger(nodes, rig.scan.trigger)
    switch_on(nodes)
    # Set once: the rate would be another one after these.
    earlier = (SCAN_TYPE, "Height") if line_scan else (SCAN_TYPE,)
    for name, value in camera.features.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"[camera] features: found {name!r}, allowed are names of letters, digits and _"
            )
        if name in earlier:
            continue
        nodes.set(name, value, f"[camera] features: {name}")


def is_line_scan(nodes: Nodes) -> bool:
    """Tell whether a frame is many lines of one band, not one line of many."""
    return nodes.text(SCAN_TYPE) == "Linescan"


def _check_line_scan(camera: CameraConfig) -> None:
    """Refuse what needs a spectrum in the frame."""
    asked = {
        "vroi": camera.vroi is not None,
        "binning": camera.binning[0] != 1,
        "spectral_axis": camera.spectral_axis != "height",
    }
    for key, wrong in asked.items():
        if wrong:
            raise ConfigError(
                f"[camera] {key}: found {getattr(camera, key)!r}, but this camera is a line scan "
                "of one band (DeviceScanType Linescan), leave it out"
            )


def _set_rate(nodes: Nodes, lines_hz: float, *, line_scan: bool) -> None:
    """Set the rate of lines; of a line scan a frame has many."""
    if not line_scan:
        nodes.set("AcquisitionFrameRate", lines_hz, "[camera] fps", RATE)
    elif nodes.writable("AcquisitionLineRate"):
        nodes.set("AcquisitionLineRate", lines_hz, "[camera] fps", RATE)
    else:
        height = nodes.number("Height") or 1.0
        asked = RATE._replace(factor=height)
        nodes.set("AcquisitionFrameRate", lines_hz / height, "[camera] fps", asked)


def _set_if_there(nodes: Nodes, name: str, value: Any, where: str) -> None:
    """Set what stands in the way on cameras that have it."""
    if nodes.writable(name) and (value is True or value in nodes.choices(name)):
        nodes.set(name, value, where)


def _set_region(nodes: Nodes, size: str, roi: tuple[int, int] | None, where: str) -> None:
    """Set one axis of the region of interest; ``roi`` is 1-based inclusive, binned; None: all."""
    offset = "OffsetX" if size == "Width" else "OffsetY"
    if nodes.writable(offset):
        nodes.set(offset, 0, where)  # a size is limited by the offset that was set before
    if roi is None:
        most = nodes.largest(size)
        if most is not None and nodes.writable(size):
            nodes.set(size, most, where)
        return
    nodes.set(size, roi[1] - roi[0] + 1, where)
    if roi[0] != 1 or nodes.writable(offset):
        nodes.set(offset, roi[0] - 1, where)


def _set_pixel_format(nodes: Nodes, asked: str | None) -> None:
    offered = nodes.choices("PixelFormat")
    usable = ", ".join(name for name in offered if name in PIXEL_FORMATS)
    allowed = f"allowed are {usable}" if usable else "this camera offers none that swath reads"
    where = "[camera] pixel_format"
    if asked is not None:
        if asked not in PIXEL_FORMATS or asked not in offered:
            raise ConfigError(f"{where}: found {asked!r}, {allowed}")
        nodes.set("PixelFormat", asked, where)
    found = nodes.text("PixelFormat")
    if found not in PIXEL_FORMATS:
        raise ConfigError(f"{where}: missing, and the camera is set to {found!r}; {allowed}")


def _set_trigger_off(nodes: Nodes) -> None:
    """Switch every trigger off, so that none of an earlier use is left."""
    if not nodes.writable("TriggerMode"):
        return
    for selector in nodes.choices("TriggerSelector") or [""]:
        if selector and nodes.writable("TriggerSelector"):
            nodes.set("TriggerSelector", selector, "[scan] trigger")
        _set_if_there(nodes, "TriggerMode", "Off", "[scan] trigger")


def _set_trigger(nodes: Nodes, trigger: str) -> None:
    if trigger == "free":
        return
    wanted = LINE_TRIGGERS if trigger == "line" else RUN_TRIGGERS
    offered = nodes.choices("TriggerSelector")
    selector = next((one for one in wanted if one in offered), None)
    if selector is None:
        raise ConfigError(
            f"[scan] trigger: found {trigger!r}, which needs one of {', '.join(wanted)}; the "
            f"triggers of this camera are {', '.join(offered) or 'none'}, free needs no trigger"
        )
    nodes.set("TriggerSelector", selector, "[scan] trigger")
    nodes.set("TriggerMode", "On", "[scan] trigger")
