"""A consumer that gets everything wrong learns so, and nothing breaks."""

from __future__ import annotations

import ctypes as c
import re
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
from virtual_camera.consumer import ABORT, INFINITE, TIMEOUT, GenTLError, Library, opened

SUCCESS = 0
ERRORS = range(-1030, -1000)
NOT_INITIALIZED, NOT_IMPLEMENTED, IN_USE, INVALID_HANDLE = -1002, -1003, -1004, -1006
INVALID_ID, NO_DATA, INVALID_PARAMETER, INVALID_ADDRESS = -1007, -1008, -1009, -1015
TOO_SMALL, INVALID_INDEX, BUSY = -1016, -1017, -1022
SMALL = {"SceneBands": 20, "SceneSamples": 32, "AcquisitionFrameRate": 500.0}


def functions():
    header = Path(sys.modules["virtual_camera"].__file__).parent / "src" / "gentl.h"
    text = re.sub(r"\s+", " ", header.read_text())
    found = re.findall(r"GENTL_EXPORT GC_ERROR (\w+)\(([^)]*)\);", text)
    return {name: [one.strip() for one in args.split(",") if one.strip()] for name, args in found}


def code_of(function, *args):
    with pytest.raises(GenTLError) as failed:
        function(*args)
    return failed.value.code


def worthless(kind):
    """A null for each pointer and handle, a senseless value for each number."""
    if "*" in kind or "HANDLE" in kind:
        return None
    return c.c_uint64(0) if "uint64_t" in kind or "size_t" in kind else c.c_int32(-7)


#: Need no handle, and are tried on their own.
FREE = {"GCInitLib", "GCCloseLib"}


@pytest.mark.parametrize("name", sorted(functions().keys() - FREE))
def test_null_pointers_and_senseless_values_are_refused(producer, settings, name):
    settings()
    with opened(producer) as one:
        arguments = [worthless(kind) for kind in functions()[name]]
        code = getattr(one.library.dll, name)(*arguments)
        assert code in ERRORS


def takers_of_handles():
    """Give each function that takes a handle first, with what is none of its own."""
    for name, arguments in sorted(functions().items()):
        if arguments and "HANDLE" in arguments[0] and "*" not in arguments[0]:
            for handle in (1, 0xDEADBEEF, 1 << 62, "closed device", "system"):
                # the system is a port, and itself
                if handle != "system" or not name.startswith(("TL", "GC")):
                    yield name, handle


@pytest.mark.parametrize(("name", "handle"), list(takers_of_handles()))
def test_a_handle_of_something_else_is_refused(producer, settings, name, handle):
    settings()
    with opened(producer) as one:
        if handle == "closed device":
            wrong = one.open(one.ids()[0])
            one.library.DevClose(wrong)
        else:
            wrong = one.system if handle == "system" else c.c_void_p(handle)
        rest = map(worthless, functions()[name][1:])
        assert getattr(one.library.dll, name)(wrong, *rest) == INVALID_HANDLE
        assert one.library.last_error()


def test_nothing_works_before_init_and_after_close(producer, settings):
    settings()
    library = Library(producer)
    for name in ("TLOpen", "GCCloseLib"):
        arguments = [c.byref(c.c_void_p())] if name == "TLOpen" else []
        assert code_of(getattr(library, name), *arguments) == NOT_INITIALIZED
    assert library.info("GCGetInfo", c.c_int32(1)) == "swath"
    library.GCInitLib()
    assert code_of(library.GCInitLib) == IN_USE
    system = library.handle("TLOpen")
    assert code_of(library.handle, "TLOpen") == IN_USE
    library.GCCloseLib()
    assert code_of(library.TLClose, system) == NOT_INITIALIZED
    library.GCInitLib()
    assert code_of(library.TLClose, system) == INVALID_HANDLE
    library.GCCloseLib()


def test_closing_a_parent_closes_what_is_below(opened, producer, settings):
    from virtual_camera import consumer

    settings(**SMALL)
    with consumer.opened(producer) as one:
        camera = consumer.Camera(one.library, one.open(one.ids()[0]))
        camera.start()
        next(camera.frames(1))
        one.library.IFClose(one.interface)
        for function, args in (
            (camera.take, ()),
            (camera.get, ("Width",)),
            (one.library.DevClose, (camera.device,)),
            (one.library.DSClose, (camera.stream,)),
            (one.library.DSQueueBuffer, (camera.stream, camera.buffers[0])),
        ):
            assert code_of(function, *args) == INVALID_HANDLE


def test_sizes_are_negotiated(producer, settings):
    settings()
    with opened(producer) as one:
        lib = one.library
        kind, size = c.c_int32(), c.c_size_t(3)
        text = c.create_string_buffer(b"untouched")
        with pytest.raises(GenTLError) as failed:
            lib.TLGetInfo(one.system, c.c_int32(1), c.byref(kind), text, c.byref(size))
        assert failed.value.code == TOO_SMALL
        assert text.value == b"untouched"
        assert (kind.value, size.value) == (1, len("swath") + 1)
        lib.TLGetInfo(one.system, c.c_int32(1), None, text, c.byref(size))
        assert text.value == b"swath"
        small = c.c_size_t(2)
        code = lib.dll.TLGetInterfaceID(one.system, 0, text, c.byref(small))
        assert code == TOO_SMALL
        assert code_of(lib.text, "TLGetInterfaceID", one.system, c.c_uint32(1)) == INVALID_INDEX


def test_unknown_commands_and_ids_are_refused(opened):
    with opened(**SMALL) as camera:
        lib = camera.library
        camera.open_stream(2)
        for name, *handles in (
            ("DevGetInfo", camera.device),
            ("DSGetInfo", camera.stream),
            ("DSGetBufferInfo", camera.stream, camera.buffers[0]),
            ("GCGetPortInfo", camera.port),
            ("GCGetPortURLInfo", camera.port, c.c_uint32(0)),
            ("EventGetInfo", camera.event),
        ):
            for cmd in (-1, 99, 1000, 2**31 - 1):
                assert code_of(lib.info, name, *handles, c.c_int32(cmd)) == NOT_IMPLEMENTED
        assert code_of(lib.info, "DSGetBufferInfo", camera.stream, camera.buffers[0], 16) == NO_DATA
        assert code_of(lib.handle, "DevOpenDataStream", camera.device, b"no") == INVALID_ID
        assert code_of(lib.handle, "DevOpenDataStream", camera.device, b"Stream0") == IN_USE
        assert code_of(lib.DSFlushQueue, camera.stream, c.c_int32(77)) == INVALID_PARAMETER
        assert code_of(lib.GCRegisterEvent, camera.device, 99, c.byref(c.c_void_p())) == (
            INVALID_PARAMETER
        )
        camera.close_stream()


def test_registers_are_read_and_written_whole_or_not_at_all(opened):
    with opened(**SMALL) as camera:
        _, width, _ = camera._register("Width")
        _, user_id, _ = camera._register("DeviceUserID")
        assert struct.unpack("<i", camera.read(width, 4))[0] == 32
        for address, size in ((0, 8), (width, 9), (width + 4, 8), (2**63, 8), (2**64 - 1, 8)):
            assert code_of(camera.read, address, size) == INVALID_ADDRESS
        for address in (0, width + 4, width + 0x800, 0x40000000, 2**63):
            assert code_of(camera.write, address, bytes(8)) == INVALID_ADDRESS
        assert code_of(camera.write, width, bytes(4)) == INVALID_ADDRESS
        assert code_of(camera.write, user_id, bytes(4096)) == INVALID_ADDRESS
        camera.write(user_id, b"no end")
        assert camera.get("DeviceUserID") == "no end"
        for value in (float("nan"), float("inf"), -1.0):
            assert code_of(camera.set, "Gain", value) == -1019
        xml = camera.xml()
        assert code_of(camera.read, 0x40000000, len(xml.encode()) + 1) == INVALID_ADDRESS


def test_registers_are_read_in_stacks(opened):
    with opened(**SMALL) as camera:
        place = [c.c_int64(), c.c_int64(), c.c_int64()]
        addresses = [camera._register("Width")[1], camera._register("Height")[1], 0]
        entry = struct.Struct("@QPN")
        stack = b"".join(
            entry.pack(a, c.addressof(p), 8) for a, p in zip(addresses, place, strict=True)
        )
        count = c.c_size_t(2)
        camera.library.GCReadPortStacked(camera.port, stack, c.byref(count))
        assert [p.value for p in place[:2]] == [32, 20]
        count = c.c_size_t(3)
        code = camera.library.dll.GCReadPortStacked(camera.port, stack, c.byref(count))
        assert (code, count.value) == (INVALID_ADDRESS, 2)


def test_buffers_go_where_they_may_only(opened):
    with opened(**SMALL) as camera:
        lib = camera.library
        camera.open_stream(2, queue=False)
        stream, (first, second) = camera.stream, camera.buffers
        lib.DSQueueBuffer(stream, first)
        assert code_of(lib.DSQueueBuffer, stream, first) == IN_USE
        assert code_of(lib.DSRevokeBuffer, stream, first, None, None) == BUSY
        assert code_of(lib.DSRevokeBuffer, stream, stream, None, None) == INVALID_HANDLE
        memory = c.create_string_buffer(100)
        mine = lib.handle("DSAnnounceBuffer", stream, memory, c.c_size_t(100), c.c_void_p(77))
        again = (stream, memory, c.c_size_t(100), None)
        assert code_of(lib.handle, "DSAnnounceBuffer", *again) == IN_USE
        assert lib.info("DSGetBufferInfo", stream, mine, c.c_int32(2)) == 77
        assert camera.counter(3) == 3
        assert lib.handle("DSGetBufferID", stream, c.c_uint32(2)).value == mine.value
        base, user = c.c_void_p(), c.c_void_p()
        lib.DSRevokeBuffer(stream, mine, c.byref(base), c.byref(user))
        assert (base.value, user.value) == (c.addressof(memory), 77)
        assert code_of(lib.DSQueueBuffer, stream, mine) == INVALID_HANDLE
        lib.DSFlushQueue(stream, c.c_int32(0))
        assert [camera.counter(n) for n in (4, 5)] == [0, 1]
        assert camera.take().buffer.value == first.value
        lib.DSFlushQueue(stream, c.c_int32(3))
        assert [camera.counter(n) for n in (4, 5)] == [2, 0]
        assert code_of(lib.DSStopAcquisition, stream, c.c_int32(0)) == IN_USE
        camera.close_stream()
        assert second.value


def test_a_buffer_that_is_too_small_is_filled_no_further(opened):
    with opened(**SMALL) as camera:
        camera.open_stream(1, queue=False)
        memory = (c.c_uint8 * 200)(*[0xEE] * 200)
        lib, stream = camera.library, camera.stream
        mine = lib.handle("DSAnnounceBuffer", stream, memory, c.c_size_t(100), None)
        lib.DSQueueBuffer(stream, mine)
        camera.start()
        frame = camera.take()
        assert (frame[7], frame[29], frame[9]) == (True, True, 100)
        assert bytes(memory[100:]) == b"\xee" * 100
        camera.set("AcquisitionStop", 1)
        lib.DSStopAcquisition(stream, c.c_int32(0))
        lib.DSRevokeBuffer(stream, mine, None, None)
        camera.close_stream()


def test_killing_an_event_wakes_who_waits_for_it(opened):
    with opened(**SMALL) as camera:
        camera.open_stream(1)
        codes = []

        def wait():
            data, size = (c.c_void_p * 2)(), c.c_size_t(16)
            dll = camera.library.dll
            codes.append(dll.EventGetData(camera.event, data, c.byref(size), c.c_uint64(INFINITE)))

        waiting = [threading.Thread(target=wait) for _ in range(2)]
        for thread in waiting:
            thread.start()
        deadline = time.monotonic() + 10
        while len(codes) < 2 and time.monotonic() < deadline:
            camera.library.EventKill(camera.event)
            time.sleep(0.005)
        for thread in waiting:
            thread.join(5)
        assert codes == [ABORT, ABORT]
        camera.library.EventFlush(camera.event)
        assert code_of(camera.take, 0.01) == TIMEOUT
        last = threading.Thread(target=wait)
        last.start()
        time.sleep(0.02)
        camera.close_stream()
        last.join(5)
        assert codes[2] in (ABORT, INVALID_HANDLE)


def test_errors_are_kept_for_each_thread(producer, settings):
    settings()
    with opened(producer) as one:
        code_of(one.library.TLClose, c.c_void_p(1))
        mine = one.library.last_error()
        others = []
        thread = threading.Thread(target=lambda: others.append(one.library.last_error()))
        thread.start()
        thread.join()
        assert others == ["no error"]
        assert one.library.last_error() == mine
        code, size = c.c_int32(), c.c_size_t(1)
        assert one.library.dll.GCGetLastError(c.byref(code), b" ", c.byref(size)) == TOO_SMALL
        assert one.library.dll.GCGetLastError(c.byref(code), None, c.byref(size)) == SUCCESS
        assert (code.value, size.value) == (INVALID_HANDLE, len(mine) + 1)


def test_many_threads_at_once_do_no_harm(opened):
    """Settings, infos, frames, starts and stops from all sides; what matters is that it ends."""
    with opened(**SMALL, ChunkModeActive=1) as camera:
        camera.set("AcquisitionFrameRate", 0.0)
        camera.start(buffers=4)
        ends = time.monotonic() + 1.0
        failures = []

        def keep(action):
            while time.monotonic() < ends:
                try:
                    action()
                except GenTLError as error:
                    if error.code not in (TIMEOUT, ABORT, IN_USE, BUSY):
                        failures.append(error)

        def take():
            frame = camera.take(0.01)
            assert frame[16] >= 0
            camera.give(frame)

        exposures = iter(range(100, 10**9))
        actions = [
            take,
            take,
            lambda: camera.set("ExposureTime", 1000.0 + next(exposures) % 500),
            lambda: camera.set("AcquisitionStop", 1),
            lambda: camera.set("AcquisitionStart", 1),
            lambda: [camera.counter(n) for n in range(1, 9)],
            lambda: camera.library.EventKill(camera.event),
            lambda: camera.library.DSFlushQueue(camera.stream, c.c_int32(3)),
        ]
        threads = [threading.Thread(target=keep, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        assert failures == []
        camera.stop()
