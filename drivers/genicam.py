"""A GenICam camera through harvesters: any GenTL producer, settings by their SFNC names.

A frame is copied once, from the producer's buffer to where the publisher says, and the buffer
queued again at once. Devices, features, the rig file's settings, buffer layouts and chunks have
files of their own beside this one.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

import numpy as np
from genicam.gentl import GenericException, TimeoutException
from numpy.typing import NDArray

from drivers.camera import Frame, no_reference, orient
from drivers.genicam_buffers import PixelReader, device_time_ns, info
from drivers.genicam_chunks import NOTHING, Chunks
from drivers.genicam_devices import Devices, describe, list_cameras, release
from drivers.genicam_lines import FrameLines
from drivers.genicam_nodes import NODE_ERRORS, Nodes, first_sentence, is_loss
from drivers.genicam_producers import producer_files
from drivers.genicam_settings import apply, is_line_scan
from drivers.genicam_shutter import Shutter
from pipeline.config import Rig
from pipeline.errors import CameraError, CameraLostError, ConfigError
from pipeline.layout import PIXEL_FORMATS, envi_code
from pipeline.slots import available_memory
from pipeline.stream.messages import CameraInfo

__all__ = ["GenicamCamera", "list_cameras"]

#: harvesters holds the interpreter lock while it waits for an event: keep each wait short, ms.
EVENT_TIMEOUT_MS: Final = 2
#: The producer's buffers bridge a stall of the driver of this length, seconds: a shared machine was
#: seen to stand still for half of that …
BUFFER_S: Final = 1.0
#: … but are at least and at most so many, and take at most so much memory, bytes.
BUFFERS: Final = (8, 1024)
BUFFER_BYTES: Final = 512 << 20
#: A temperature is read from the camera at most this often, seconds …
TEMPERATURE_S: Final = 0.5
#: … and at most one part in so many of the time goes into it.
TEMPERATURE_REST: Final = 200
#: After so long without a frame the camera is asked whether it is still there, seconds.
SILENT_S: Final = 2.0
#: After so long without one, and so many frame times, a camera that runs freely has stopped.
STOPPED_S: Final = 5.0
STOPPED_FRAMES: Final = 20
#: Buffers that the rig file asks for may take so much of the memory that is free: a quarter.
MEMORY_PART: Final = 4
#: Frame id that GigE Vision wraps at, to 1, unless the camera counts in 64 bits.
GIGE_FRAME_ID_MAX: Final = 65535


class GenicamCamera:
    """The camera that ``[camera]`` names by producer, serial, user id, model or index.

    Attributes
    ----------
    frame_id_max, frame_id_first : int
        65535 and 1 for GigE Vision with 16-bit ids, known once it is open; 0: no wrapping.
    """

    frame_id_max = 0
    frame_id_first = 0

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._devices: Devices | None = None
        self._acquirer: Any = None
        self._monitor: Any = None
        self._nodes: Nodes | None = None
        self._reader: PixelReader | None = None
        self._who = "camera"
        self._exposure_ms = math.nan
        self._temperature_c = math.nan
        self._temperature_due_s = -math.inf
        self._shutter: Shutter | None = None
        self._lines: FrameLines | None = None
        self._chunks: Chunks | None = None
        self._tick_hz = 0
        self._heard_s = 0.0
        self._frame_s = 0.0
        self._patience_s = math.inf
        self._counted = 0
        self._gone: GenericException | None = None

    def open(self) -> CameraInfo:
        """Connect, apply the rig file's settings, read back what the camera took."""
        camera = self._rig.camera
        try:
            warnings: list[str] = []
            self._devices = Devices(producer_files(camera.producer, warnings))
            index, said = self._devices.choose(camera)
            warnings += said
            listed = self._devices.listed()[index]
            self._who = f"camera {describe(listed)}"
            self._acquirer = self._devices.open(index, BUFFERS[0])
            nodes = self._nodes = Nodes(self._acquirer.remote_device.node_map)
            apply(nodes, self._rig)
            self._read_exposure(nodes)
            self._shutter = Shutter(nodes)
            if self._shutter.spelling is not None:
                # Whoever had the camera before may have left it closed, and it cannot be asked.
                self._shutter.move(closed=False)
            self._chunks = Chunks(self._acquirer, nodes)
            self._tick_hz = int(nodes.number("GevTimestampTickFrequency") or 0)
            told = self._describe(nodes, listed, warnings)
            free = self._rig.scan.trigger == "free" and nodes.text("TriggerMode") != "On"
            if free and told.fps:
                self._patience_s = max(STOPPED_S, STOPPED_FRAMES / told.fps)
            self._size_buffers(nodes, told.fps)
        except BaseException as error:
            self.close()
            if isinstance(error, NODE_ERRORS):
                kind = CameraLostError if is_loss(error) else CameraError
                raise kind(f"{self._who}: {first_sentence(error)}") from error
            raise
        return told

    def start(self, kind: str) -> None:
        """Begin to acquire; ``kind`` makes no difference to the camera."""
        acquirer = self._opened()
        try:
            acquirer.start(run_as_thread=False)
            # harvesters' own fetch queues an incomplete buffer before anybody can read its
            # frame id, and logs instead of telling: the event is read here instead.
            self._monitor = next(iter(acquirer._new_buffer_event_monitor_dict.values()))
        except NODE_ERRORS as error:
            raise CameraLostError(f"{self._who}: cannot start: {first_sentence(error)}") from error
        self._heard_s = self._frame_s = time.monotonic()
        self._counted = 0
        self._gone = None

    def fetch(self, into: NDArray[np.generic] | None, timeout_s: float) -> Frame | None:
        """Wait for the next frame and copy it, oriented, into ``into``."""
        monitor = self._monitor
        if monitor is None:
            raise CameraError(f"{self._who}: fetch before start")
        if self._lines is not None:
            line = self._lines.take(into)
            if line is not None:
                return line
        if self._gone is not None:
            raise CameraLostError(f"{self._who}: {first_sentence(self._gone)}") from self._gone
        self._read_temperature()
        deadline_s = time.monotonic() + timeout_s
        while True:
            left_ms = math.ceil((deadline_s - time.monotonic()) * 1e3)
            try:
                monitor.update_event_data(max(1, min(EVENT_TIMEOUT_MS, left_ms)))
                break
            except TimeoutException:
                if time.monotonic() >= deadline_s:
                    self._ask_whether_it_is_there()
                    return None
            except GenericException as error:
                raise CameraLostError(f"{self._who}: {first_sentence(error)}") from error
        now_ns = time.time_ns()
        self._heard_s = self._frame_s = time.monotonic()
        try:
            return self._take(monitor.buffer, into, now_ns)
        except GenericException as error:
            raise CameraLostError(f"{self._who}: {first_sentence(error)}") from error

    def stop(self) -> None:
        """End the acquisition; frames still buffered are dropped."""
        self._monitor = None
        if self._lines is not None:
            self._lines.clear()
        if self._acquirer is None:
            return
        try:
            self._acquirer.stop()
        except Exception as error:  # harvesters stops half-way where a camera is gone
            raise CameraLostError(f"{self._who}: cannot stop: {first_sentence(error)}") from error

    def shutter(self, closed: bool) -> None:
        """Close or open the shutter, and wait until it stands still."""
        self._opened()
        if self._shutter is None or self._shutter.spelling is None:
            raise CameraError(f"{self._who}: shutter: this camera has none that swath can close")
        self._shutter.move(closed)

    def panel(self, in_view: bool) -> None:
        """Refuse: a camera moves no panel."""
        raise CameraError(f"{self._who}: panel: a GenICam camera cannot move one")

    def set_feature(self, name: str, value: Any) -> Any:
        """Set one feature by SFNC name, and return what the camera took."""
        self._opened()
        assert self._nodes is not None
        taken = self._nodes.set(name, value, f"set {name}")
        self._read_exposure(self._nodes)
        return taken

    def reference(self, name: str) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Refuse: a camera has no references of its own."""
        raise no_reference(name)

    def close(self) -> None:
        """Release the camera and its producer; never raises."""
        self._monitor = self._nodes = self._chunks = self._shutter = None
        if self._acquirer is not None:
            release(self._acquirer)
            self._acquirer = None
        if self._devices is not None:
            self._devices.close()
            self._devices = None

    # -- frames --------------------------------------------------------------------------

    def _take(self, buffer: Any, into: NDArray[np.generic] | None, now_ns: int) -> Frame | None:
        """Copy a buffer's pixels and give it back to the producer, whatever happens."""
        reader = self._reader
        assert reader is not None
        try:
            self._counted += 1
            # The buffer's id, not a chunk's: those mean other things on some cameras.
            frame_id = info(buffer, "frame_id", self._counted)
            complete = bool(buffer.is_complete()) and reader.whole(buffer)
            facts = self._chunks.read(buffer) if complete and self._chunks else NOTHING
            known = not math.isnan(facts.exposure_ms)
            frame = Frame(
                frame_id=frame_id,
                host_time_ns=now_ns,
                device_time_ns=device_time_ns(buffer, self._tick_hz, facts.timestamp),
                exposure_ms=facts.exposure_ms if known else self._exposure_ms,
                temperature_c=self._temperature_c,
                encoder=facts.encoder,
                complete=complete,
            )
            if self._lines is not None:
                self._lines.put(frame, reader.view(buffer) if complete else None)
                return self._lines.take(into)
            if complete and into is not None:
                camera = self._rig.camera
                into[:] = orient(reader.view(buffer), camera.spectral_axis, (*camera.flip,))
            return frame
        finally:
            try:
                buffer.parent.queue_buffer(buffer)
            except GenericException as error:
                self._gone = error  # told by the next fetch: this frame is here

    def _read_temperature(self) -> None:
        """Read what changes slowly, now and then, while no buffer is held.

        Not in a thread: genicam keeps the interpreter lock during each access to a node, so that
        a thread would hold up the grabbing loop just as long. A camera that takes long to answer
        is asked less often.
        """
        began = time.monotonic()
        if began < self._temperature_due_s or self._nodes is None:
            return
        value = self._nodes.number("DeviceTemperature")
        self._temperature_c = math.nan if value is None else value
        took = time.monotonic() - began
        self._temperature_due_s = began + max(TEMPERATURE_S, took * TEMPERATURE_REST)

    def _ask_whether_it_is_there(self) -> None:
        """Notice a camera that was unplugged, or has stopped: producers stay silent about it."""
        now = time.monotonic()
        if now - self._frame_s > self._patience_s:
            raise CameraLostError(
                f"{self._who}: sends no frames any more, for {now - self._frame_s:.0f} s, though "
                "it runs freely"
            )
        if now - self._heard_s < SILENT_S or self._nodes is None:
            return
        self._heard_s = now
        if not self._nodes.alive():
            raise CameraLostError(f"{self._who}: does not answer any more")

    def _opened(self) -> Any:
        if self._acquirer is None:
            raise CameraError(f"{self._who}: is not open")
        return self._acquirer

    # -- settings ------------------------------------------------------------------------

    def _read_exposure(self, nodes: Nodes) -> None:
        exposure_us = nodes.number("ExposureTime")
        self._exposure_ms = math.nan if exposure_us is None else exposure_us / 1e3

    def _size_buffers(self, nodes: Nodes, fps: float | None) -> None:
        """Give the producer buffers for a stall, as far as memory goes."""
        if fps and self._lines is not None:
            fps /= self._lines.height
        asked = self._rig.camera.buffer_frames or math.ceil((fps or 100.0) * BUFFER_S)
        count = max(BUFFERS[0], asked if self._rig.camera.buffer_frames else min(BUFFERS[1], asked))
        payload = int(nodes.number("PayloadSize") or 0)
        if payload > 0 and not self._rig.camera.buffer_frames:
            count = max(BUFFERS[0], min(count, BUFFER_BYTES // payload))
        elif payload > 0:
            self._check_memory(count, payload)
        self._acquirer.num_buffers = max(count, self._acquirer.min_num_buffers)

    @staticmethod
    def _check_memory(frames: int, payload: int) -> None:
        """Refuse more buffers than the machine has memory for."""
        available = available_memory()
        if available is not None and frames * payload > available // MEMORY_PART:
            raise ConfigError(
                f"[camera] buffer_frames: found {frames}, which take {frames * payload / 1e9:.1f} "
                f"GB; allowed are {available // MEMORY_PART // payload}, a quarter of what is free"
            )

    # -- what the camera says --------------------------------------------------------------

    def _describe(self, nodes: Nodes, listed: dict[str, Any], warnings: list[str]) -> CameraInfo:
        camera = self._rig.camera
        name = nodes.text("PixelFormat")
        pixels = PIXEL_FORMATS[name]
        width, height = int(nodes.number("Width") or 0), int(nodes.number("Height") or 0)
        self._reader = PixelReader(width, height, pixels)
        tall = camera.spectral_axis == "height"
        bands, samples = (height, width) if tall else (width, height)
        self._lines = None
        if is_line_scan(nodes):
            flipped = "spatial" in camera.flip
            self._lines = FrameLines(height, width, pixels.dtype, flipped=flipped)
            bands = 1
        vertical = int(nodes.number("BinningVertical") or 1)
        horizontal = int(nodes.number("BinningHorizontal") or 1)
        rows, y_roi = self._extent(nodes, "Height", vertical)
        columns, x_roi = self._extent(nodes, "Width", horizontal)
        self._set_frame_ids(nodes, listed["transport"])
        if camera.buffer_frames and camera.buffer_frames < self._acquirer.min_num_buffers:
            warnings.append(
                f"[camera] buffer_frames: found {camera.buffer_frames}, this camera needs "
                f"{self._acquirer.min_num_buffers}"
            )
        fps = nodes.number("AcquisitionFrameRate")
        if self._lines is not None:
            fps = nodes.number("AcquisitionLineRate") or (fps and fps * height)
            vertical, rows, y_roi = 1, 1, None
        if self._rig.scan.trigger == "line":
            fps = camera.fps
        vendor = nodes.text("DeviceVendorName") or listed["vendor"]
        model = nodes.text("DeviceModelName") or listed["model"]
        serial = nodes.text("DeviceSerialNumber") or listed["serial"]
        return CameraInfo(
            driver="genicam",
            sensor_type=camera.sensor_type or model or "GenICam camera",
            bands=bands,
            samples=samples,
            data_type=envi_code(pixels.dtype),
            bit_depth=pixels.bits,
            saturation_level=pixels.saturation_level,
            pixel_format=name,
            vendor=vendor,
            model=model,
            serial=serial,
            firmware=nodes.text("DeviceFirmwareVersion"),
            user_id=nodes.text("DeviceUserID") or listed["user_id"],
            sensor_rows=rows if tall else columns,
            sensor_columns=columns if tall else rows,
            binning=(vertical, horizontal) if tall else (horizontal, vertical),
            hroi=x_roi if tall else y_roi,
            vroi=y_roi if tall else x_roi,
            exposure_ms=None if math.isnan(self._exposure_ms) else self._exposure_ms,
            fps=fps,
            gain=nodes.number("Gain"),
            temperature_c=nodes.number("DeviceTemperature"),
            open_loop=True,
            has_shutter=self._shutter is not None and self._shutter.spelling is not None,
            features=nodes.readable(),
            settings_differ=dict(nodes.differ),
            warnings=warnings,
        )

    @staticmethod
    def _extent(nodes: Nodes, size: str, binning: int) -> tuple[int, tuple[int, int] | None]:
        """Give the unbinned pixels of the sensor along an axis, and the region if it is less."""
        offset = int(nodes.number("OffsetX" if size == "Width" else "OffsetY") or 0)
        now = int(nodes.number(size) or 0)
        # Height.max shrinks as the offset grows; HeightMax is fixed, where a camera has it.
        most = int(nodes.number(f"{size}Max") or (nodes.largest(size) or now) + offset)
        sensor = int(nodes.number(f"Sensor{size}") or most * binning)
        whole = offset == 0 and now >= sensor // binning
        return sensor, None if whole else (offset + 1, offset + now)

    def _set_frame_ids(self, nodes: Nodes, transport: str) -> None:
        """Know where the ids wrap: 65535 → 1 with GigE Vision, unless they have 64 bits."""
        extended = any(
            nodes.get(name) in ("On", True)
            for name in ("GevGVSPExtendedIDMode", "GevStreamExtendedIDMode")
        )
        sixteen = transport == "GEV" and not extended
        self.frame_id_max = GIGE_FRAME_ID_MAX if sixteen else 0
        self.frame_id_first = 1 if sixteen else 0
        if self._lines is not None:
            ids = self._lines.ids(self.frame_id_max, self.frame_id_first)
            self.frame_id_max, self.frame_id_first = ids
