"""The little of CuPy that the CUDA backend uses, on the CPU, with the kernels run by threads.

So the backend's own code (grids, order of arguments, copies, events) is tested with the very .cu
files where there is no GPU. A stream here is a queue. What is in it runs when the schedule says so,
or when somebody waits for it, and not before the events that it waits for; so work that forgets an
event meets data that is not there yet, or not there any more. Once sealed, it allows nothing that a
running engine must not do: make memory or events, wait for the whole device, use the legacy stream,
copy from or to memory that is not pinned.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from cublas_on_host import Cublas

from pipeline.compute.cuda_device import Shape

FOLDER = Path(__file__).parent
#: Each CUDA thread is a thread of the operating system, so there are few.
SHAPE = Shape(lanes=2, rows=4, warp=4)
CUDA_ERROR = 712
H2D, D2H, D2D = 1, 2, 3
#: What a block of threads shares is one for all backends.
LAUNCHING = threading.Lock()
#: The name of a kernel where it is defined.
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(')


def compiler() -> str | None:
    return shutil.which("g++")


class CudaError(RuntimeError):
    """Stands for CUDARuntimeError."""


class DeviceArray:
    """An array on the device: an address, and no way to look at it from here."""

    def __init__(self, memory: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: Any) -> None:
        self.memory = memory
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size = int(np.prod(shape))
        self.nbytes = self.size * self.dtype.itemsize
        self.data = SimpleNamespace(ptr=memory.ctypes.data)


class Ranges:
    """Stretches of memory."""

    def __init__(self) -> None:
        self._all: dict[int, int] = {}

    def add(self, start: int, size: int) -> None:
        self._all[start] = size

    def drop(self, start: int) -> None:
        del self._all[start]

    def __len__(self) -> int:
        return len(self._all)

    def hold(self, start: int, size: int) -> bool:
        return any(
            first <= start and start + size <= first + length for first, length in self._all.items()
        )

    def meet(self, start: int, size: int) -> bool:
        return any(
            first < start + size and start < first + length for first, length in self._all.items()
        )


class Schedule:
    """When queued work runs: all at once, only when it must, or some streams ahead of the others.

    Parameters
    ----------
    how : str
        ``eager``; ``lazy``; numbers of the streams that run ahead, such as ``0`` or ``12``; or
        ``random`` with a seed, such as ``random 3``.
    """

    def __init__(self, how: str = "eager") -> None:
        self.how = how
        self._random = random.Random(how) if how.startswith("random") else None

    def turns(self, streams: list[Stream]) -> Iterator[Stream]:
        """Give the streams that may do one piece of work now, one after another."""
        if self.how == "lazy":
            return
        if self._random is not None:
            yield from self._random.choices(streams, k=self._random.randrange(4))
            return
        for i, stream in enumerate(streams):
            # numbers go from 0 in every backend: in, work, out
            if self.how == "eager" or str(i % 3) in self.how:
                while stream.queue and stream.ready():
                    yield stream


class Event:
    _numbers = itertools.count(1)

    def __init__(self, host: Host, block: bool, disable_timing: bool) -> None:
        host.makes("an event")
        self._host = host
        self.recorded = 0  # the last one queued
        self.done = 0  # the last one that ran
        self.where: Stream | None = None

    def record(self, stream: Stream) -> None:
        self.recorded, self.where = next(self._numbers), stream
        number = self.recorded

        def note() -> None:
            self.done = max(self.done, number)

        stream.add(note)

    def synchronize(self) -> None:
        with self._host.lock:
            self.reach(self.recorded)

    def reach(self, number: int) -> None:
        while self.done < number:
            assert self.where is not None
            self.where.step()


class Stream:
    def __init__(self, host: Host, non_blocking: bool) -> None:
        assert non_blocking, "a stream that waits for the legacy stream"
        host.makes("a stream")
        self._host = host
        host.streams.append(self)
        self.ptr = len(host.streams)
        self.queue: deque[tuple[Callable[[], None] | None, Event | None, int]] = deque()

    def __enter__(self) -> Stream:
        self._host.current.stack = [*getattr(self._host.current, "stack", []), self]
        return self

    def __exit__(self, *exc: object) -> None:
        self._host.current.stack.pop()

    def add(self, do: Callable[[], None]) -> None:
        with self._host.lock:
            self.queue.append((do, None, 0))
            self._host.go_on()

    def wait_event(self, event: Event) -> None:
        with self._host.lock:
            self.queue.append((None, event, event.recorded))
            self._host.go_on()

    def ready(self) -> bool:
        _, event, number = self.queue[0]
        return event is None or event.done >= number

    def step(self) -> None:
        """Do the first piece of work, and first what it waits for."""
        do, event, number = self.queue[0]
        if event is not None:
            event.reach(number)
        self.queue.popleft()
        if do is not None:
            do()

    def synchronize(self) -> None:
        self._host.waits("for a stream")
        with self._host.lock:
            while self.queue:
                self.step()


class Nvrtc:
    """Compiles with g++ instead, for the options that are macros."""

    NVRTCError = subprocess.CalledProcessError
    built: ClassVar[dict[tuple[str, ...], Path]] = {}

    def __init__(self, folder: Path, flags: tuple[str, ...]) -> None:
        self._folder, self._flags = folder, flags
        self._programs: dict[int, Any] = {}
        self._number = 0

    def getSupportedArchs(self) -> tuple[int, ...]:
        return (75, 90)

    def createProgram(self, source: str, name: str, headers: tuple[()], names: tuple[()]) -> int:
        self._number += 1
        self._programs[self._number] = source
        return self._number

    def compileProgram(self, program: int, options: tuple[str, ...]) -> None:
        source = self._programs[program]
        defines = tuple(option for option in options if option.startswith("-D"))
        key = (str(self._folder), source, *self._flags, *defines)
        if key not in self.built:
            stem = self._folder / f"kernels{len(self.built)}"
            every = " ".join(f"ON_HOST({name})" for name in KERNEL.findall(source))
            stem.with_suffix(".cu").write_text(f"{source}\n#define EVERY_KERNEL {every}\n")
            library = stem.with_suffix(".so")
            self._run(
                *("-ffp-contract=off", "-fno-strict-aliasing", "-shared", *defines),
                *(f'-DKERNELS="{stem}.cu"', str(FOLDER / "kernels_on_host.cpp")),
                *(str(self._threads()), "-o", str(library), "-pthread"),
            )
            self.built[key] = library
        self._programs[program] = self.built[key]

    def getCUBIN(self, program: int) -> bytes:
        return str(self._programs[program]).encode()

    def getProgramLog(self, program: int) -> str:
        return "see above"

    def destroyProgram(self, program: int) -> None:
        del self._programs[program]

    def _threads(self) -> Path:
        made = self._folder / f"threads{abs(hash(self._flags))}.o"
        if not made.exists():
            self._run("-c", str(FOLDER / "threads_on_host.cpp"), "-o", str(made))
        return made

    def _run(self, *arguments: str) -> None:
        warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
        command = ["g++", "-std=c++20", "-O1", "-fPIC", *warnings, *self._flags, *arguments]
        # what is put in front of the program under test is not for its compiler
        clean = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        subprocess.run(command, check=True, env=clean)


class Module:
    def __init__(self, host: Host) -> None:
        host.makes("a module")
        self._host = host

    def load(self, binary: bytes) -> None:
        self._library = ctypes.CDLL(binary.decode())

    def get_function(self, name: str) -> Any:
        function = getattr(self._library, f"host_{name}")

        def kernel(
            grid: tuple[int, ...],
            block: tuple[int, ...],
            args: tuple[Any, ...],
            shared_mem: int = 0,
            stream: Stream | None = None,
        ) -> None:
            assert stream is not None, f"{name} on the legacy stream"
            assert all(0 < size < 65536 for size in grid[1:])
            full = map(ctypes.c_uint, (*(*grid, 1, 1)[:3], block[0]))
            values = [_value(argument) for argument in args]  # taken now, as a launch does
            pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
            fixed = tuple(full)

            def run(keep: Any = values) -> None:
                with LAUNCHING:
                    function(*fixed, pointers)

            self._host.launched.append(name)
            stream.add(run)

        return kernel


def _value(argument: Any) -> np.ndarray[Any, Any]:
    """A copy of what a kernel gets by value."""
    if isinstance(argument, DeviceArray):
        return np.array([argument.data.ptr], np.uint64)
    assert isinstance(argument, (np.ndarray, np.generic)), f"{argument!r} has no C type"
    value = np.array(argument).reshape(-1)
    assert value.size == 1
    return value


class Host:
    """What all parts of one stand-in share."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.lock = threading.RLock()
        self.current = threading.local()
        self.streams: list[Stream] = []
        self.device, self.pinned, self.registered = Ranges(), Ranges(), Ranges()
        self.memory: list[Any] = []
        self.launched: list[str] = []
        self.copied: list[tuple[int, int, int]] = []  # kind, host address, size
        self.sealed = False
        self.may_register = True

    def makes(self, what: str) -> None:
        assert not self.sealed, f"{what} was made after arming"

    def waits(self, what: str) -> None:
        assert not self.sealed, f"the host waits {what} after arming"

    def go_on(self) -> None:
        for stream in self.schedule.turns(self.streams):
            if stream.queue and stream.ready():
                stream.step()

    def empty(self, shape: Any, dtype: Any) -> DeviceArray:
        self.makes("device memory")
        shape = shape if isinstance(shape, tuple) else (shape,)
        size = max(int(np.prod(shape)) * np.dtype(dtype).itemsize, 1)
        memory = np.full(size, 0xA5, np.uint8)  # nothing may rely on fresh memory being 0
        assert memory.ctypes.data % 16 == 0
        self.memory.append(memory)
        self.device.add(memory.ctypes.data, size)
        return DeviceArray(memory, shape, dtype)

    def alloc_pinned_memory(self, size: int) -> Any:
        self.makes("pinned memory")
        memory = np.full(size, 0xA5, np.uint8)
        self.memory.append(memory)
        self.pinned.add(memory.ctypes.data, size)
        return memory

    def memcpy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        assert stream, "a copy on the legacy stream"
        for address, there in ((to, kind != D2H), (source, kind != H2D)):
            if there:
                assert self.device.hold(address, size), "a copy leaves its device memory"
            elif self.sealed:
                pinned = self.pinned.hold(address, size) or self.registered.hold(address, size)
                assert pinned, "a copy of memory that is not pinned"
        if kind != D2D:
            self.copied.append((kind, source if kind == H2D else to, size))
        self.streams[stream - 1].add(lambda: void(ctypes.memmove(to, source, size)))

    def memset(self, to: int, value: int, size: int, stream: int) -> None:
        assert stream, "a memset on the legacy stream"
        assert self.device.hold(to, size)
        self.streams[stream - 1].add(lambda: void(ctypes.memset(to, value, size)))

    def register(self, start: int, size: int, flags: int) -> None:
        self.makes("a registration")
        if not self.may_register or self.registered.meet(start, size):
            raise CudaError("cudaErrorHostMemoryAlreadyRegistered")
        self.registered.add(start, size)


def void(_: object) -> None: ...


def make(folder: Path, schedule: str = "eager", flags: tuple[str, ...] = ()) -> Any:
    """Make a stand-in for the module ``cupy``; compiled kernels go into a folder."""
    host = Host(Schedule(schedule))
    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: {
            "name": b"a CPU in disguise",
            "multiProcessorCount": 1,
        },
        memcpyAsync=host.memcpy,
        memsetAsync=host.memset,
        hostRegister=host.register,
        hostUnregister=host.registered.drop,
    )
    return SimpleNamespace(
        host=host,
        cuda=SimpleNamespace(
            runtime=runtime,
            Stream=lambda non_blocking=False: Stream(host, non_blocking),
            Event=lambda block=False, disable_timing=False: Event(host, block, disable_timing),
            Device=lambda: SimpleNamespace(id=0, compute_capability="90"),
            Module=lambda: Module(host),
            alloc_pinned_memory=host.alloc_pinned_memory,
            nvrtc=Nvrtc(folder, flags),
            cublas=Cublas(host),
        ),
        empty=host.empty,
    )
