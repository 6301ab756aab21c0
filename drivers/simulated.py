"""A push-broom camera that needs no hardware: it sees a physical scene and keeps its own time.

It runs open loop, as a real camera does: frames follow a clock, a late reader finds the frames that
the camera's buffers could hold, and the ids of the others are missing. Pixels come from
:mod:`drivers.sensor` and depend on the seed and on what was asked for, never on timing. Faults of
the rig file (``[camera] faults``) strike scans, not references. Knows the Camera protocol, the
sensor and the bottom modules.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from drivers.camera import EXPOSURE, GAIN, RATE, Asked, Frame, no_reference
from drivers.scene import Float64
from drivers.sensor import Sensor, View
from pipeline.config import Rig
from pipeline.errors import CameraError, CameraLostError, ConfigError
from pipeline.layout import envi_code
from pipeline.slots import available_memory
from pipeline.stream.messages import CameraInfo

#: Exposures that the camera takes, ms; it rounds them to whole microseconds.
EXPOSURE_MS: Final = (0.01, 1000.0)
#: Frame rate where the rig file gives none, Hz.
DEFAULT_FPS: Final = 100.0
#: Encoder counts from line to line.
ENCODER_STEP: Final = 4
#: Exit status of the process after the fault ``crash_after``, as after a segmentation fault.
CRASH_STATUS: Final = 139

_KINDS: Final = {"black": 1, "white": 2, "scan": 3}
_SETTABLE: Final = ("ExposureTime", "AcquisitionFrameRate", "Gain")
_KEYS: Final = {"ExposureTime": EXPOSURE, "AcquisitionFrameRate": RATE, "Gain": GAIN}
_GAIN_DB: Final = (0.0, 24.0)
_MIN_FPS: Final = 0.1
#: Part of the memory that is available which the pool of lines may take: a quarter.
_POOL_PART: Final = 4


class SimulatedCamera:
    """The simulated camera of a rig file.

    The scene starts anew with each scan: frame id n of a scan shows its line n − 1. The stage
    stands still for ``black`` and ``white``, and what the slit sees then is up to the shutter and
    the panel alone. The fault ``unplug_after`` strikes once in the life of the object,
    ``crash_after`` in epoch 0 only: a new process goes on. With ``pool_lines = n`` a scan shows the
    scene's first n lines over and over, noise and all, computed before its clock starts.

    Attributes
    ----------
    sensor : Sensor
        For tests: its truth, expected counts and noise variance.
    epoch : int
        Of the next series; set by the publisher.
    """

    frame_id_max = 0
    frame_id_first = 1

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.sensor = Sensor(rig.camera)
        self.epoch = 0
        self._fps = DEFAULT_FPS
        self._closed_shutter = False
        self._panel = False
        self._open = False
        self._lost = False
        self._unplugged_once = False
        self._kind = ""
        self._takes = dict.fromkeys(_KINDS, 0)
        self._buffered: deque[int] = deque()
        self._produced = 0
        self._start_ns = self._start_utc_ns = self._power_up_ns = 0
        self._period_ns = 0
        self._pool: NDArray[np.generic] | None = None
        self._pooled_at = (math.nan, math.nan)

    def open(self) -> CameraInfo:
        """Apply the rig file's settings and say what was taken."""
        camera = self._rig.camera
        differ: dict[str, str] = {}
        self._open, self._lost, self._kind = True, False, ""
        self._power_up_ns = time.monotonic_ns()
        wanted: dict[str, Any] = {"AcquisitionFrameRate": camera.fps, "Gain": camera.gain}
        if camera.exposure_ms is not None:
            wanted["ExposureTime"] = camera.exposure_ms * 1000.0
        wanted.update(camera.features)
        # The rate comes last, limited by the exposure; one that was not asked for gives way.
        rate = wanted.pop("AcquisitionFrameRate")
        for name, value in wanted.items():
            if value is not None:
                _note(differ, self._asked(name), value, self.set_feature(name, value))
        taken = self.set_feature("AcquisitionFrameRate", DEFAULT_FPS if rate is None else rate)
        if rate is not None:
            _note(differ, self._asked("AcquisitionFrameRate"), rate, taken)
        if camera.pixel_format and self.sensor.format.packing != "none":
            differ["PixelFormat"] = f"asked for {camera.pixel_format}, pixels come unpacked"
        self.sensor.warm()
        self._fill_pool()
        warnings = []
        if self._rig.scan.trigger != "free":
            warnings.append(
                f"[scan] trigger: found {self._rig.scan.trigger!r}, the simulated camera runs free"
            )
        return self._info(differ, warnings)

    def start(self, kind: str) -> None:
        """Begin to acquire: the clock starts, the first frame is ready one period later."""
        self._check()
        if kind not in _KINDS:
            raise CameraError(f"start: found {kind!r}, allowed are {', '.join(_KINDS)}")
        if kind == "scan":
            self._fill_pool()  # exposure or gain may have been set since it was filled
        self._kind = kind
        self._takes[kind] += 1
        self._buffered.clear()
        self._produced = 0
        self._period_ns = round(1e9 / self._fps)
        self._start_ns, self._start_utc_ns = time.monotonic_ns(), time.time_ns()

    def fetch(self, into: NDArray[np.generic] | None, timeout_s: float) -> Frame | None:
        """Wait for the next frame; see :meth:`drivers.camera.Camera.fetch`."""
        self._check()
        if not self._kind:
            raise CameraError("fetch: the camera does not acquire, start it first")
        deadline = time.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            now = time.monotonic_ns()
            self._collect(now)
            if self._buffered:
                ready = self._ready_ns(self._buffered[0])
            else:
                ready = self._start_ns + (self._produced + 1) * self._period_ns
            if self._buffered and ready <= now:
                break
            if now >= deadline:
                return None
            time.sleep(max(0, min(ready, deadline) - now) / 1e9)
        index = self._buffered.popleft()
        if self._kind == "scan":
            self._strike(index)
        return self._deliver(index, into)

    def stop(self) -> None:
        """End the acquisition."""
        self._kind = ""
        self._buffered.clear()

    def shutter(self, closed: bool) -> None:
        """Close or open the shutter."""
        self._check()
        self._closed_shutter = closed

    def panel(self, in_view: bool) -> None:
        """Bring the white panel under the whole slit, or the scene."""
        self._check()
        self._panel = in_view

    def set_feature(self, name: str, value: Any) -> float:
        """Set ``ExposureTime`` (µs), ``AcquisitionFrameRate`` (Hz) or ``Gain`` (dB).

        Returns
        -------
        float
            What the camera took: within its limits, and no faster than the exposure allows. A
            longer exposure slows the frames down.
        """
        self._check()
        if name not in _SETTABLE:
            raise CameraError(
                f"feature {name}: the simulated camera has none of this name that can be set, "
                f"allowed are {', '.join(_SETTABLE)}"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise CameraError(f"feature {name}: found {value!r}, allowed is a number")
        if name == "ExposureTime":
            low, high = EXPOSURE_MS
            self.sensor.exposure_ms = round(min(max(value / 1000.0, low), high), 3)
            self._fps = min(self._fps, 1000.0 / self.sensor.exposure_ms)
            return self.sensor.exposure_ms * 1000.0
        if name == "Gain":
            self.sensor.gain_db = float(min(max(value, _GAIN_DB[0]), _GAIN_DB[1]))
            return self.sensor.gain_db
        self._fps = float(min(max(value, _MIN_FPS), 1000.0 / self.sensor.exposure_ms))
        return self._fps

    def reference(self, name: str) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Refuse: references are taken, with the shutter and the panel."""
        raise no_reference(name)

    def close(self) -> None:
        """Release the camera."""
        self._open, self._kind = False, ""
        self._buffered.clear()

    def temperature(self, index: int) -> float:
        """Sensor temperature (°C) at frame ``index`` of a series, in steps of 1/16 °C.

        It warms up from 31 to 35 °C within the first half hour, and breathes with its fan.
        """
        t = index / self._fps
        warm = 31.0 + 4.0 * (1.0 - math.exp(-t / 600.0)) + 0.25 * math.sin(2 * math.pi * t / 420.0)
        return round(warm * 16.0) / 16.0

    def truth(self, line: int) -> Float64:
        """Give the true reflectance of line ``line`` (from 0) of a scan: (bands, samples)."""
        pool = self._rig.camera.pool_lines
        return self.sensor.truth(line % pool if pool else line)

    def _asked(self, name: str) -> Asked:
        """Say how the rig file asks for a feature: by a key of its own, or by its name."""
        return Asked(name) if name in self._rig.camera.features else _KEYS[name]

    def _check(self) -> None:
        """Refuse to work while the camera is not there."""
        if self._lost:
            raise CameraLostError("camera: the simulated camera was unplugged, open it again")
        if not self._open:
            raise CameraError("camera: the simulated camera is not open")

    def _fill_pool(self) -> None:
        """Compute the lines that scans deliver in turn, where the rig file asks for that.

        Raises
        ------
        ConfigError
            When they would take too much memory.
        """
        count, sensor = self._rig.camera.pool_lines, self.sensor
        settings = (sensor.exposure_ms, sensor.gain_db)
        if not count or settings == self._pooled_at:
            return
        shape, dtype = (count, sensor.bands, sensor.samples), np.dtype(sensor.format.dtype)
        if self._pool is None:
            most = available_memory()
            needed = math.prod(shape) * dtype.itemsize
            if most is not None and needed > most // _POOL_PART:
                raise ConfigError(
                    f"[camera] pool_lines: found {count}, which take {needed >> 20} MiB, allowed "
                    f"are {most // _POOL_PART // (needed // count)} (a quarter of the memory)"
                )
            self._pool = np.empty(shape, dtype)
        for line, pixels in enumerate(self._pool):
            # As of a take before the first one: what is computed anew never has this noise.
            sensor.expose(pixels, "scene", line, self.temperature(0), _KINDS["scan"] << 32, line)
        self._pooled_at = settings

    def _view(self) -> View:
        """Say what the slit sees."""
        if self._closed_shutter:
            return "dark"
        return "panel" if self._panel else "scene"

    def _collect(self, now: int) -> None:
        """Put the frames that the clock has finished into free buffers; the others are lost."""
        finished = (now - self._start_ns) // self._period_ns
        size = self._rig.camera.buffer_frames or max(16, math.ceil(self._fps))
        kept = min(finished, self._produced + size - len(self._buffered))
        for index in range(self._produced, kept):
            if not self._loses(index):
                self._buffered.append(index)
        self._produced = finished

    def _loses(self, index: int) -> bool:
        """Whether a fault loses this frame."""
        faults = self._rig.camera.faults
        if self._kind != "scan":
            return False
        every = faults.lose_every
        return (every > 0 and (index + 1) % every == 0) or index + 1 in faults.lose_lines

    def _ready_ns(self, index: int) -> int:
        """When a frame can be read, on the monotonic clock."""
        ready = self._start_ns + (index + 1) * self._period_ns
        faults = self._rig.camera.faults
        if self._kind == "scan" and faults.late_every and (index + 1) % faults.late_every == 0:
            ready += round(faults.late_ms * 1e6)
        return ready

    def _strike(self, index: int) -> None:
        """Crash or lose the camera when a fault says so before frame ``index``."""
        faults = self._rig.camera.faults
        if faults.crash_after and index >= faults.crash_after and self.epoch == 0:
            os._exit(CRASH_STATUS)
        if faults.unplug_after and index >= faults.unplug_after and not self._unplugged_once:
            self._unplugged_once = self._lost = True
            self._open = False
            raise CameraLostError(
                f"camera: the simulated camera was unplugged after line {faults.unplug_after}"
            )

    def _deliver(self, index: int, into: NDArray[np.generic] | None) -> Frame:
        """Expose frame ``index`` into ``into`` and describe it."""
        scan = self._kind == "scan"
        temperature = self.temperature(index)
        every = self._rig.camera.faults.incomplete_every
        complete = not (scan and every > 0 and (index + 1) % every == 0)
        if into is not None:
            self._expose(index, into, temperature)
            if not complete:
                into[into.shape[0] // 2 :] = 0
        late = self._ready_ns(index) - self._start_ns
        return Frame(
            frame_id=self.frame_id_first + index,
            host_time_ns=self._start_utc_ns + late,
            device_time_ns=self._start_ns - self._power_up_ns + index * self._period_ns,
            exposure_ms=self.sensor.exposure_ms,
            temperature_c=temperature,
            encoder=index * ENCODER_STEP if scan else 0,
            complete=complete,
        )

    def _expose(self, index: int, into: NDArray[np.generic], temperature: float) -> None:
        """Put the counts of frame ``index`` into ``into``, from the pool where there is one."""
        scan = self._kind == "scan"
        view = self._view()
        if scan and view == "scene" and self._pool is not None:
            np.copyto(into, self._pool[index % len(self._pool)])
            return
        stream = _KINDS[self._kind] << 32 | self._takes[self._kind]
        lamp, pedestal = self._unsteady(index)
        self.sensor.expose(
            into, view, index if scan else 0, temperature, stream, index, lamp, pedestal
        )

    def _unsteady(self, index: int) -> tuple[float, float]:
        """Give the lamp's light (1: as it should be) and the pedestal (DN) of a frame.

        What drifts goes on between series, with the camera's clock; what flickers follows the
        frames of a series.
        """
        how = self._rig.camera.unsteady
        if not how:
            return 1.0, 0.0
        on_s = (self._start_ns - self._power_up_ns + index * self._period_ns) / 1e9
        wave = math.sin(2 * math.pi * how.hertz * index * self._period_ns / 1e9)
        lamp = 1.0 + how.lamp_per_s * on_s + how.lamp_flicker * wave
        return max(lamp, 0.0), how.pedestal_per_s * on_s + how.pedestal_flicker * wave

    def _info(self, differ: dict[str, str], warnings: list[str]) -> CameraInfo:
        """Everything the camera says about itself."""
        camera, sensor = self._rig.camera, self.sensor
        axis = sensor.axis
        name = sensor.format.name.removesuffix("Packed").removesuffix("p")
        features: dict[str, Any] = {
            "DeviceVendorName": "swath",
            "DeviceModelName": "simulated push-broom camera",
            "DeviceSerialNumber": f"SIM{camera.seed:06d}",
            "DeviceFirmwareVersion": "1.0",
            "DeviceUserID": camera.user_id or "",
            "DeviceScanType": "Linescan",
            "DeviceTemperature": self.temperature(0),
            "SensorWidth": camera.samples,
            "SensorHeight": camera.bands,
            "Width": sensor.samples,
            "Height": sensor.bands,
            "OffsetX": sensor.hroi[0] - 1,
            "OffsetY": sensor.vroi[0] - 1,
            "BinningHorizontal": sensor.binning[1],
            "BinningVertical": sensor.binning[0],
            "BinningHorizontalMode": "Sum",
            "BinningVerticalMode": "Sum",
            "PixelFormat": name,
            "ExposureTime": sensor.exposure_ms * 1000.0,
            "AcquisitionFrameRate": self._fps,
            "Gain": sensor.gain_db,
        }
        return CameraInfo(
            driver="simulated",
            sensor_type=camera.sensor_type or "swath simulated camera",
            bands=sensor.bands,
            samples=sensor.samples,
            data_type=envi_code(sensor.format.dtype),
            bit_depth=sensor.bits,
            saturation_level=sensor.saturation_level,
            pixel_format=name,
            vendor="swath",
            model=str(features["DeviceModelName"]),
            serial=str(features["DeviceSerialNumber"]),
            firmware="1.0",
            user_id=camera.user_id or "",
            sensor_rows=camera.bands,
            sensor_columns=camera.samples,
            binning=sensor.binning,
            hroi=sensor.hroi,
            vroi=sensor.vroi,
            exposure_ms=sensor.exposure_ms,
            fps=self._fps,
            gain=sensor.gain_db,
            temperature_c=self.temperature(0),
            open_loop=True,
            has_shutter=True,
            has_panel=True,
            wavelength=axis.wavelength.tolist(),
            fwhm=None if axis.fwhm is None else axis.fwhm.tolist(),
            wavelength_units=axis.units,
            features=features,
            settings_differ=differ,
            warnings=warnings,
        )


def _note(differ: dict[str, str], asked: Asked, wanted: float, taken: float) -> None:
    """Write down where the camera took something else."""
    if not math.isclose(taken, wanted, rel_tol=1e-9):
        differ[asked.key] = asked.differs(wanted, taken)
