"""A GenTL consumer in plain ctypes: nothing between it and the C interface, no GenApi either.

For tests and measurements of a producer. Features are found in the device's XML by name, as far as
the virtual camera's XML goes: a feature has one register of its own.
"""

from __future__ import annotations

import ctypes as c
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: INFO_DATATYPE → format of struct.
_NUMBERS = {3: "h", 4: "H", 5: "i", 6: "I", 7: "q", 8: "Q", 9: "d", 10: "P", 11: "?", 12: "N"}
_STRING, _BUFFER = 1, 13
NEW_BUFFER = 1
INFINITE = 0xFFFFFFFFFFFFFFFF
TIMEOUT, ABORT = -1011, -1012
_XML = "{http://www.genicam.org/GenApi/Version_1_1}"


class GenTLError(RuntimeError):
    """A GenTL function failed; ``code`` is its GC_ERROR, ``text`` what the producer says to it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Library:
    """The functions of a producer; ``library.TLOpen(...)`` raises what the function returns."""

    def __init__(self, path: Path) -> None:
        self.dll = c.CDLL(str(path))

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.dll, name)
        function.restype = c.c_int32

        def call(*args: Any) -> None:
            code = function(*args)
            if code:
                raise GenTLError(code, self.last_error())

        return call

    def last_error(self) -> str:
        """Text of this thread's last failure."""
        code, size = c.c_int32(), c.c_size_t(1024)
        text = c.create_string_buffer(1024)
        self.dll.GCGetLastError(c.byref(code), text, c.byref(size))
        return text.value.decode()

    def info(self, name: str, *args: Any) -> Any:
        """Ask one of the GetInfo functions: what it tells, as int, float, bool, str or bytes."""
        kind, size = c.c_int32(), c.c_size_t()
        getattr(self, name)(*args, c.byref(kind), None, c.byref(size))
        buffer = c.create_string_buffer(size.value)
        getattr(self, name)(*args, c.byref(kind), buffer, c.byref(size))
        if kind.value == _STRING:
            return buffer.value.decode()
        if kind.value == _BUFFER:
            return buffer.raw
        return struct.unpack("@" + _NUMBERS[kind.value], buffer.raw)[0]

    def text(self, name: str, *args: Any) -> str:
        """Ask a function that hands out an id or a URL."""
        size = c.c_size_t()
        getattr(self, name)(*args, None, c.byref(size))
        buffer = c.create_string_buffer(size.value)
        getattr(self, name)(*args, buffer, c.byref(size))
        return buffer.value.decode()

    def handle(self, name: str, *args: Any) -> c.c_void_p:
        """Call a function whose last argument is where a handle goes."""
        found = c.c_void_p()
        getattr(self, name)(*args, c.byref(found))
        return found

    def count(self, name: str, *args: Any) -> int:
        """Call a function whose last argument is where a 32-bit count goes."""
        found = c.c_uint32()
        getattr(self, name)(*args, c.byref(found))
        return found.value


@dataclass
class Taken:
    """A filled buffer, until it is queued again."""

    buffer: c.c_void_p
    library: Library
    stream: c.c_void_p

    def __getitem__(self, cmd: int) -> Any:
        return self.library.info("DSGetBufferInfo", self.stream, self.buffer, cmd)

    @property
    def frame_id(self) -> int:
        """BUFFER_INFO_FRAMEID."""
        return int(self[16])

    @property
    def data(self) -> NDArray[np.uint8]:
        """The filled bytes, without a copy."""
        address, size = self[0], self[9]
        return np.ctypeslib.as_array(c.cast(address, c.POINTER(c.c_uint8)), (size,))


class Camera:
    """An open device: features by name, one stream."""

    def __init__(self, library: Library, device: c.c_void_p) -> None:
        self.library, self.device = library, device
        self.port = library.handle("DevGetPort", device)
        self.nodes = _nodes(self.xml())
        self.stream: c.c_void_p | None = None
        self.event: c.c_void_p | None = None
        self.buffers: list[c.c_void_p] = []

    def xml(self) -> str:
        """Read the description, from where the port's URL says."""
        _, address, size = self.library.text("GCGetPortURL", self.port).split(";")
        return self.read(int(address, 16), int(size.split("?")[0], 16)).decode()

    def read(self, address: int, size: int) -> bytes:
        """Read a register."""
        buffer, length = c.create_string_buffer(size), c.c_size_t(size)
        self.library.GCReadPort(self.port, c.c_uint64(address), buffer, c.byref(length))
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        """Write a register."""
        length = c.c_size_t(len(data))
        self.library.GCWritePort(self.port, c.c_uint64(address), data, c.byref(length))

    def features(self) -> list[str]:
        """Name every feature, in the order of the categories that they stand in."""
        listed = [
            feature.text or ""
            for node in self.nodes.values()
            if node.tag == f"{_XML}Category"
            for feature in node.findall(f"{_XML}pFeature")
        ]
        return [name for name in listed if self.nodes[name].tag != f"{_XML}Category"]

    def _register(self, name: str, suffix: str = "") -> tuple[str, int, int]:
        node = self.nodes[name]
        kind = node.tag.removeprefix(_XML)
        if kind != "StringReg":
            inner = node.findtext(f"{_XML}pValue") if not suffix else name + suffix
            node = self.nodes[inner or ""]
            kind = node.tag.removeprefix(_XML)
        address = int(node.findtext(f"{_XML}Address") or "", 16)
        return kind, address, int(node.findtext(f"{_XML}Length") or "")

    def get(self, name: str, suffix: str = "") -> Any:
        """Read a feature (``suffix`` ``_Max``, ``_Min``: its limit); an enumeration as text."""
        kind, address, length = self._register(name, suffix)
        data = self.read(address, length)
        if kind == "StringReg":
            return data.split(b"\0", 1)[0].decode()
        value = struct.unpack("<d" if kind == "FloatReg" else "<q", data)[0]
        return next((k for k, v in self.entries(name).items() if v == value), value)

    def set(self, name: str, value: Any) -> None:
        """Write a feature; an enumeration takes its entry's name, a command 1."""
        kind, address, length = self._register(name)
        if kind == "StringReg":
            self.write(address, str(value).encode().ljust(length, b"\0"))
            return
        number = self.entries(name).get(value, value)
        self.write(address, struct.pack("<d" if kind == "FloatReg" else "<q", number))

    def set_all(self, **features: Any) -> None:
        """Write several, in this order."""
        for name, value in features.items():
            self.set(name, value)

    def entries(self, name: str) -> dict[str, int]:
        """Give the values of an enumeration."""
        return {
            entry.attrib["Name"]: int(entry.findtext(f"{_XML}Value") or "0")
            for entry in self.nodes[name].findall(f"{_XML}EnumEntry")
        }

    def open_stream(self, buffers: int, queue: bool = True) -> None:
        """Open the stream, allocate buffers for the payload as it is now, and queue them."""
        lib = self.library
        identity = lib.text("DevGetDataStreamID", self.device, c.c_uint32(0))
        self.stream = lib.handle("DevOpenDataStream", self.device, identity.encode())
        self.event = lib.handle("GCRegisterEvent", self.stream, c.c_int32(NEW_BUFFER))
        payload = lib.info("DSGetInfo", self.stream, c.c_int32(7))
        self.buffers = [
            lib.handle("DSAllocAndAnnounceBuffer", self.stream, c.c_size_t(payload), None)
            for _ in range(buffers)
        ]
        if queue:
            for buffer in self.buffers:
                lib.DSQueueBuffer(self.stream, buffer)

    def start(self, buffers: int = 64, queue: bool = True) -> None:
        """Start stream and camera."""
        if self.stream is None:
            self.open_stream(buffers, queue)
        self.library.DSStartAcquisition(self.stream, c.c_int32(0), c.c_uint64(INFINITE))
        self.set("TLParamsLocked", 1)
        self.set("AcquisitionStart", 1)

    def take(self, timeout_s: float = 5.0) -> Taken:
        """Wait for a frame; the buffer stays taken until it is given back."""
        data, size = (c.c_void_p * 2)(), c.c_size_t(16)
        self.library.EventGetData(
            self.event, data, c.byref(size), c.c_uint64(round(timeout_s * 1e3))
        )
        return Taken(c.c_void_p(data[0]), self.library, self.stream or c.c_void_p())

    def give(self, taken: Taken) -> None:
        """Queue a buffer again."""
        self.library.DSQueueBuffer(self.stream, taken.buffer)

    def frames(self, count: int, timeout_s: float = 5.0) -> Iterator[Taken]:
        """Take frames one after another; each is given back when the next is asked for."""
        for _ in range(count):
            taken = self.take(timeout_s)
            try:
                yield taken
            finally:
                self.give(taken)

    def stop(self) -> None:
        """Stop camera and stream, and let go of the buffers."""
        self.set("AcquisitionStop", 1)
        self.set("TLParamsLocked", 0)
        self.close_stream()

    def close_stream(self) -> None:
        """Close the stream, whatever state it is in."""
        if self.stream is None:
            return
        if self.library.info("DSGetInfo", self.stream, c.c_int32(8)):
            self.library.DSStopAcquisition(self.stream, c.c_int32(0))
        self.library.DSFlushQueue(self.stream, c.c_int32(4))
        for buffer in self.buffers:
            self.library.DSRevokeBuffer(self.stream, buffer, None, None)
        self.library.GCUnregisterEvent(self.stream, c.c_int32(NEW_BUFFER))
        self.library.DSClose(self.stream)
        self.stream = None

    def counter(self, cmd: int) -> int:
        """Ask STREAM_INFO: 1 delivered, 2 underrun."""
        return int(self.library.info("DSGetInfo", self.stream, c.c_int32(cmd)))


@dataclass
class Opened:
    """A producer with its one interface."""

    library: Library
    system: c.c_void_p
    interface: c.c_void_p

    def ids(self) -> list[str]:
        """Update the list of devices, and give their ids."""
        self.library.IFUpdateDeviceList(self.interface, None, c.c_uint64(1000))
        count = self.library.count("IFGetNumDevices", self.interface)
        return [
            self.library.text("IFGetDeviceID", self.interface, c.c_uint32(i)) for i in range(count)
        ]

    def info(self, device: str, cmd: int) -> Any:
        """Ask DEVICE_INFO of a device that need not be open."""
        return self.library.info("IFGetDeviceInfo", self.interface, device.encode(), c.c_int32(cmd))

    def open(self, device: str, access: int = 4) -> c.c_void_p:
        """Open a device, for this process alone."""
        return self.library.handle(
            "IFOpenDevice", self.interface, device.encode(), c.c_int32(access)
        )


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Initialise a producer, open its system and interface, and close all of it at the end."""
    library = Library(path)
    library.GCInitLib()
    try:
        system = library.handle("TLOpen")
        library.TLUpdateInterfaceList(system, None, c.c_uint64(1000))
        interface_id = library.text("TLGetInterfaceID", system, c.c_uint32(0))
        interface = library.handle("TLOpenInterface", system, interface_id.encode())
        yield Opened(library, system, interface)
        library.TLClose(system)
    finally:
        library.GCCloseLib()


@contextmanager
def camera(path: Path, index: int = 0) -> Iterator[Camera]:
    """Open one device of a producer, and close everything at the end."""
    with opened(path) as producer:
        device = producer.open(producer.ids()[index])
        yield Camera(producer.library, device)
        producer.library.DevClose(device)


def _nodes(xml: str) -> dict[str, ET.Element]:
    return {node.attrib["Name"]: node for node in ET.fromstring(xml) if "Name" in node.attrib}
