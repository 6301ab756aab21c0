"""A recording as a camera: the lines of an ``.hsi`` or ENVI file, bit for bit, at a chosen pace.

It waits for its reader, as no live camera does, so that nothing is lost on the way; what was lost
in the recording is lost again, in the same places. The file is mapped and its pages are given back
along the way, or decoded block by block, so that memory stays bounded whatever its size. Knows the
Camera protocol, containers and the bottom modules.
"""

from __future__ import annotations

import contextlib
import mmap
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from drivers.camera import EndOfFrames, Frame
from drivers.recording import Recording, source_fields
from pipeline.config import CameraConfig, Rig
from pipeline.container.coded_header import stated_error
from pipeline.container.cube import Cube
from pipeline.container.header import Header
from pipeline.container.reader import Container, open_container
from pipeline.errors import CameraError, ConfigError, ContainerError
from pipeline.layout import LedgerRows, envi_code
from pipeline.stream.messages import CameraInfo

#: Mapped bytes that are read before their pages are given back.
RELEASE_BYTES: Final = 64 << 20
#: Settings of a live camera that would change what the lines are; a recording has its own.
_REFUSED: Final = ("binning", "hroi", "vroi", "flip", "wavelengths")
#: Settings of a live camera that a recording cannot take.
#: Name by which the kinds of bad pixels are asked for, as a reference.
BAD_PIXELS: Final = "bad_pixels"
_IN_VAIN: Final = ("spectral_axis", "gain", "pixel_format", "features")


class ReplayCamera:
    """The camera of a recording named by ``[camera] file``.

    Frame ids go on from the recording's own where its ledger has one row of them without a break,
    else they count from 1; each line that the recording lost leaves its id out. Lost lines at the
    beginning and the end, around which no ids could show a gap, come as incomplete frames.
    """

    frame_id_max = 0
    frame_id_first = 1

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._container: Container | None = None
        self._recording: Recording | None = None
        self._raw: NDArray[Any] | None = None
        self._stored: Cube | None = None
        self._header: Header | None = None
        self._map: mmap.mmap | None = None
        self._running = False
        self._next = 0
        self._first = 0
        self._start_s = 0.0
        self._due_s: NDArray[np.float64] | None = None
        self._loop_s = 0.0
        self._read_bytes = 0
        self._last_id: int | None = None
        self._temperature_c = self._line_exposure_ms = float("nan")

    def open(self) -> CameraInfo:
        """Open the file and say what it holds.

        Raises
        ------
        ContainerError
            When it is not what it says.
        ConfigError
            When it holds scores, which are no lines of a camera, or when the rig file wants other
            lines than were recorded.
        """
        self.close()
        camera = self._rig.camera
        container = open_container(camera.file or "")
        header = container.header
        try:
            _refuse(camera, header)
        except ConfigError:
            container.close()
            raise
        if not header.coded and header.file_type.casefold() == "pca":
            container.close()
            raise ConfigError(
                f"[camera] file: {container.path}: found PCA scores, allowed are lines of a "
                "camera; swath export decodes it"
            )
        warnings: list[str] = []
        header = self._open_lines(container, warnings)
        self._recording = Recording(container.ledger, header.lines, warnings)
        self._pace(warnings)
        self._temperature_c = _or_nan(header.number("temperature"))
        self._line_exposure_ms = _or_nan(self._exposure_ms())
        references: list[str] = []
        try:
            references = list(container.references)
            if container.bad_pixels is not None:
                references.append(BAD_PIXELS)
        except ContainerError as error:
            warnings.append(f"the references of the replayed file are not used: {error}")
        for name in _IN_VAIN:
            if getattr(camera, name) != getattr(CameraConfig(driver="simulated"), name):
                warnings.append(f"[camera] {name}: a replay gives lines as they were recorded")
        self._next = 0
        return self._info(references, warnings)

    def _open_lines(self, container: Container, warnings: list[str]) -> Header:
        """Map the lines, or find the blocks of a coded recording, which are decoded as they come.

        Raises
        ------
        ContainerError
            When there are none.
        """
        try:
            header, self._stored = container.plain_header, container.stored
            self._raw = None if container.header.coded else container.raw
        except ContainerError:
            container.close()
            raise
        self._container, self._header = container, header
        self._map = None if self._raw is None else _mapping(self._raw)
        error = stated_error(header)
        if error:
            warnings.append(
                f"the replayed file was compressed: its lines are up to {error} counts from "
                "those of the camera"
            )
        return header

    def _lines(self, first: int, count: int) -> NDArray[Any]:
        """Give lines of the recording, ``(lines, bands, samples)``."""
        if self._raw is not None:
            return self._raw[first : first + count].transpose(0, 2, 1)
        assert self._stored is not None
        box = self._stored.whole._replace(lines=(first, first + count))
        return self._stored.read(box).transpose(0, 2, 1)

    def start(self, kind: str) -> None:
        """Play from the beginning, or from where :meth:`seek` went."""
        self._need()
        if kind != "scan":
            raise CameraError(
                f"start: found {kind!r}, a replay has lines of scans only; its own references come "
                "by name, others are files in [references]"
            )
        self._running = True
        self._first = self._next
        self._start_s = time.monotonic()

    def seek(self, line: int) -> int:
        """Go to line ``line`` of the scene (from 0, lost lines and loops included).

        Returns
        -------
        int
            Its frame id, whether it was lost or not.
        """
        recording = self._need()
        loop, position = divmod(max(0, line), recording.length)
        index = int(np.searchsorted(recording.position, position))
        self._next = loop * recording.lines + index
        frame_id = recording.first_id + max(0, line)
        self._last_id = frame_id - 1
        return frame_id

    def fetch(self, into: NDArray[np.generic] | None, timeout_s: float) -> Frame | None:
        """Wait for the next line; see :meth:`drivers.camera.Camera.fetch`."""
        recording = self._need()
        if not self._running:
            raise CameraError("fetch: the replay does not run, start it first")
        while True:
            loop, line = divmod(self._next, recording.lines)
            if 0 < self._rig.camera.loops <= loop:
                raise EndOfFrames
            # Inner lost lines show as a gap of frame ids.
            if not recording.lost[line] or recording.outside(line):
                break
            self._next += 1
        if not self._wait(self._next, timeout_s):
            return None
        self._next += 1
        complete = not recording.lost[line] and not recording.incomplete[line]
        if into is not None:
            # The same bits in native byte order: neither values nor NaN payloads change.
            np.copyto(into, self._lines(line, 1)[0], casting="equiv")
            self._give_back(into.nbytes)
        frame = self._frame(recording, loop, line, complete)
        self._last_id = frame.frame_id
        return frame

    def fetch_many(self, into: NDArray[np.generic]) -> LedgerRows | None:
        """Copy the next lines at once; see :class:`drivers.camera.Bulk`."""
        recording = self._need()
        if not self._running or self._due_s is not None:
            return None
        loop, line = divmod(self._next, recording.lines)
        if self._last_id is None or 0 < self._rig.camera.loops <= loop:
            return None
        if recording.frame_id(loop, line) != self._last_id + 1:
            return None
        count = recording.plain(line, len(into))
        if not count:
            return None
        # One copy of all lines where the file holds them as the slot does (BIL).
        np.copyto(into[:count], self._lines(line, count), casting="equiv")
        self._give_back(into[:count].nbytes)
        rows = recording.rows(loop, line, count)
        _fill(rows["exposure_ms"], self._line_exposure_ms)
        _fill(rows["temperature_c"], self._temperature_c)
        self._next += count
        self._last_id = recording.frame_id(loop, line + count - 1)
        return rows

    def stop(self) -> None:
        """Stop; the next start plays from the beginning."""
        self._running = False
        self._next = 0
        self._last_id = None

    def shutter(self, closed: bool) -> None:
        """Refuse: a recording has none."""
        raise CameraError("shutter: a replay has none, its references are in the file")

    def panel(self, in_view: bool) -> None:
        """Refuse: a recording has none."""
        raise CameraError("panel: a replay cannot move one, its references are in the file")

    def set_feature(self, name: str, value: Any) -> Any:
        """Refuse: what was recorded stands."""
        raise CameraError(f"feature {name}: a replay has no features that can be set")

    def reference(self, name: str) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Deliver a reference of the file: its mean line and its header fields."""
        self._need()
        assert self._container is not None
        found = self._container.references
        if name == BAD_PIXELS and self._container.bad_pixels is not None:
            return self._container.bad_pixels.astype(np.float32), {}
        if name not in found:
            have = ", ".join(found) or "none"
            raise CameraError(f"reference: asked for {name!r}, the replayed file has {have}")
        return found[name].array, dict(source_fields(found[name].header))

    def close(self) -> None:
        """Let go of the file."""
        self._running = False
        self._raw = self._map = self._stored = None
        if self._container is not None:
            with contextlib.suppress(Exception):
                self._container.close()
        self._container = self._recording = None

    def _need(self) -> Recording:
        """Give the recording; refuses while no file is open."""
        if self._recording is None:
            raise CameraError("camera: the replay is not open")
        return self._recording

    def _pace(self, warnings: list[str]) -> None:
        """Settle when each line is due, in seconds from the first; None: as fast as it is taken."""
        recording, rate = self._need(), self._rig.camera.rate
        self._due_s, self._loop_s = None, 0.0
        if rate == "max":
            return
        fps: float | None = None
        if rate == "recorded":
            if recording.seconds is not None:
                self._due_s, self._loop_s = recording.seconds, recording.loop_seconds
                return
            fps = self._header.number("fps") if self._header is not None else None
            if not fps or fps <= 0:
                warnings.append(
                    '[camera] rate = "recorded": the file has neither times of its lines nor fps, '
                    "it is played as fast as it is taken"
                )
                return
        else:
            fps = float(rate)
        self._due_s, self._loop_s = recording.position / fps, recording.length / fps

    def _wait(self, number: int, timeout_s: float) -> bool:
        """Wait until line ``number`` of all loops is due; False when that takes longer."""
        if self._due_s is None:
            return True
        due = self._at(number) - self._at(self._first) + self._start_s
        now = time.monotonic()
        if due > now:
            time.sleep(min(due - now, max(timeout_s, 0.0)))
        return due <= now + timeout_s

    def _at(self, number: int) -> float:
        """When line ``number`` of all loops is due, s from the first."""
        assert self._due_s is not None
        loop, line = divmod(number, self._due_s.size)
        return float(self._due_s[line] + loop * self._loop_s)

    def _give_back(self, read: int) -> None:
        """Give the pages that were read back to the system, now and then."""
        self._read_bytes += read
        if self._read_bytes >= RELEASE_BYTES and self._map is not None:
            self._read_bytes = 0
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._map.madvise(mmap.MADV_DONTNEED)

    def _frame(self, recording: Recording, loop: int, line: int, complete: bool) -> Frame:
        """Say of a line what the recording says of it."""
        rows = recording.rows(loop, line, 1)
        _fill(rows["exposure_ms"], self._line_exposure_ms)
        _fill(rows["temperature_c"], self._temperature_c)
        row = rows[0]
        return Frame(
            frame_id=int(row["frame_id"]),
            host_time_ns=int(row["host_time_ns"]),
            device_time_ns=int(row["device_time_ns"]),
            exposure_ms=float(row["exposure_ms"]),
            temperature_c=float(row["temperature_c"]),
            encoder=int(row["encoder"]),
            complete=complete,
        )

    def _exposure_ms(self) -> float | None:
        """Exposure of the recording; the rig file's where the recording does not say."""
        own = None if self._header is None else self._header.number("exposure")
        return self._rig.camera.exposure_ms if own is None else own

    def _info(self, references: list[str], warnings: list[str]) -> CameraInfo:
        """Everything the recording says about its camera and itself."""
        header, recording, camera = self._header, self._need(), self._rig.camera
        assert header is not None
        assert self._container is not None
        dtype = header.dtype
        bits, saturation = _range(header)
        nm, units = header.wavelength_nm, "Nanometers"
        if nm is None:
            if str(header.get("wavelength units", "")).strip().casefold() != "index":
                warnings.append("the replayed file has no wavelengths of its bands, numbers serve")
            nm, units = np.arange(1.0, header.bands + 1.0), "Index"
        fwhm = header.fwhm_nm
        rate = None if isinstance(camera.rate, str) else float(camera.rate)
        total = recording.length * camera.loops - recording.trailing
        return CameraInfo(
            driver="replay",
            sensor_type=camera.sensor_type or _text(header, "sensor type") or "replay",
            bands=header.bands,
            samples=header.samples,
            data_type=envi_code(dtype),
            bit_depth=bits,
            saturation_level=saturation,
            pixel_format=_text(header, "pixel format"),
            serial=_text(header, "serial number"),
            binning=_pair(header, "binning") or (1, 1),
            hroi=_pair(header, "hroi"),
            vroi=_pair(header, "vroi"),
            exposure_ms=self._exposure_ms(),
            fps=rate or header.number("fps") or recording.fps or camera.fps,
            gain=header.number("gain"),
            temperature_c=header.number("temperature"),
            open_loop=False,
            lines=total if camera.loops else None,
            wavelength=nm.tolist(),
            fwhm=None if fwhm is None else fwhm.tolist(),
            wavelength_units=units,
            features={"Width": header.samples, "Height": header.bands},
            header=source_fields(header),
            comments=list(header.comments),
            references=references,
            warnings=[*self._container.warnings, *warnings],
        )


def _refuse(camera: CameraConfig, header: Header) -> None:
    """Refuse settings that contradict the recording; band numbers do not where it has no more."""
    plain = CameraConfig(driver="simulated")
    for name in _REFUSED:
        found = getattr(camera, name)
        if found == getattr(plain, name):
            continue
        if name == "wavelengths" and found == "index" and header.wavelength_nm is None:
            continue
        raise ConfigError(f"[camera] {name}: a replay keeps its source's; remove it")


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """Find the memory map below an array."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _fill(column: NDArray[Any], value: float) -> None:
    """Put a value where the ledger of the recording had none."""
    column[~np.isfinite(column)] = value


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _text(header: Header, name: str) -> str:
    value = header.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _pair(header: Header, name: str) -> tuple[int, int] | None:
    values = header.ints(name)
    if values is None or len(values) != 2 or min(values) < 1:
        return None
    return values[0], values[1]


def _range(header: Header) -> tuple[int, int]:
    """Bit depth and saturation level: the header's for counts, else those of the data type."""
    dtype = header.dtype
    bits = dtype.itemsize * 8
    if dtype.kind not in "iu":
        return bits, int(np.iinfo(np.int64).max)
    depth, level = header.number("bit depth"), header.number("saturation level")
    if dtype.kind == "u" and depth is not None and 1 <= depth <= bits:
        bits = int(depth)
    largest = (1 << (bits - 1 if dtype.kind == "i" else bits)) - 1
    if level is not None and 0 < level <= largest:
        largest = int(level)
    return bits, min(largest, int(np.iinfo(np.int64).max))
