"""The engine: takes blocks of raw lines in order and moves them through the armed stages.

:func:`make_engine` chooses the backend, checks that every stage finds what it needs, and makes all
memory; after that nothing can be misconfigured and nothing large is allocated. Knows stages and
compute; never files, sockets or cameras.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compute import Backend, choose_backend
from pipeline.errors import ConfigError
from pipeline.stages.pca import PcaStage
from pipeline.stages.pixel_pass import PixelPassStage
from pipeline.stages.preview import PreviewStage, preview_levels
from pipeline.stages.stage import (
    QUALITY_FLAGS,
    BlockResult,
    EarlyStage,
    EnginePlan,
    PcaGroup,
    Stage,
    check_chain,
)

__all__ = [
    "QUALITY_FLAGS",
    "BlockResult",
    "Engine",
    "EnginePlan",
    "PcaGroup",
    "make_engine",
    "preview_levels",
]


class Engine:
    """Armed stages on one backend; used by one thread.

    Attributes
    ----------
    backend : str
        ``cpu`` or ``cuda``.
    why : str
        One sentence: why this backend.
    depth : int
        Blocks that may be under way between :meth:`submit` and :meth:`collect`: 1 on the CPU.
    lines : int
        Lines submitted so far.
    """

    def __init__(self, plan: EnginePlan, backend: Backend, stages: list[Stage]) -> None:
        self.plan = plan
        self.backend = backend.name
        self.why = backend.why
        self.depth = backend.depth
        self.lines = 0
        self._backend = backend
        self._stages = stages
        self._early = [stage for stage in stages if isinstance(stage, EarlyStage)]
        self._under_way: deque[tuple[int, NDArray[Any], NDArray[np.bool_]]] = deque()

    @property
    def under_way(self) -> int:
        """Blocks submitted and not yet collected."""
        return len(self._under_way)

    def pin(self, memory: memoryview) -> None:
        """Make host memory that blocks will come from fast to reach for a GPU, once."""
        self._backend.pin(memory)

    def unpin(self, memory: memoryview) -> None:
        """Let memory go that was pinned; no block in it is under way."""
        self._backend.unpin(memory)

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> BlockResult:
        """Move one block through the stages: :meth:`submit` and :meth:`collect` in one."""
        self.submit(raw, valid)
        return self.collect()

    def submit(self, raw: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Send one block on its way; it must stay as it is until it is collected.

        Parameters
        ----------
        raw : ndarray, (lines, bands, samples), C-contiguous, of the plan's dtype
            Or, where the plan says ``packed``, uint8 (lines, bytes of a packed line).
        valid : ndarray of bool, (lines,), optional
            False for lost lines that are only filled; all True by default.

        Raises
        ------
        ConfigError
            When the block is not what the engine was armed for.
        DeviceError
            When the GPU fails.
        RuntimeError
            When ``depth`` blocks are under way already.
        """
        self._check(raw)
        lines = len(raw)
        if valid is None:
            valid = np.ones(lines, np.bool_)
        elif valid.shape != (lines,):
            raise ConfigError(f"valid: found shape {valid.shape}, the block has {lines} lines")
        if len(self._under_way) >= self.depth:
            raise RuntimeError(f"{self.depth} blocks are under way, collect one first")
        if lines:
            self._backend.load(raw)
            for stage in self._early:
                stage.begin(raw, valid)
        self._under_way.append((self.lines, raw, valid))
        self.lines += lines

    def collect(self) -> BlockResult:
        """Wait for the block that was submitted first.

        Returns
        -------
        BlockResult
            Valid until the next call of ``collect``, ``process`` or ``finish``.

        Raises
        ------
        DeviceError
            When the GPU fails.
        """
        plan = self.plan
        first, raw, valid = self._under_way.popleft()
        result = BlockResult(first, len(raw))
        if len(raw):
            for stage in self._stages:
                stage.process(raw, valid, result)
            return result
        # a block of gaps only
        if plan.reflectance is not None:
            result.reflectance = np.empty((0, plan.bands, plan.samples), plan.reflectance)
        if plan.quality:
            result.quality = np.empty((0, len(QUALITY_FLAGS), plan.samples), np.uint8)
        return result

    def _check(self, raw: NDArray[Any]) -> None:
        """Refuse a block that the engine was not armed for."""
        plan = self.plan
        lines = raw.shape[0] if raw.ndim else 0
        packed = plan.packed is not None and raw.ndim == 2
        shape = (plan.line_bytes,) if packed else (plan.bands, plan.samples)
        dtype = np.dtype(np.uint8) if packed else plan.dtype
        if raw.shape != (lines, *shape) or lines > plan.block_lines:
            raise ConfigError(
                f"block: found shape {raw.shape}, allowed are up to {plan.block_lines} lines of "
                f"{shape}"
            )
        if raw.dtype != dtype:
            raise ConfigError(f"block: found {raw.dtype}, the engine is armed for {dtype}")
        if not raw.flags.c_contiguous:
            raise ConfigError(
                "block: found a view that is not C-contiguous, allowed are BIL blocks"
            )

    def finish(self) -> BlockResult:
        """Flush what the stages hold back; every block was collected, and none follows."""
        result = BlockResult(self.lines, 0)
        for stage in self._stages:
            stage.finish(result)
        return result

    def close(self) -> None:
        """Give threads and device memory back; may be called twice."""
        for stage in self._early:
            stage.close()
        self._stages, self._early = [], []
        self._under_way.clear()
        self._backend.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def make_engine(plan: EnginePlan, extra: Sequence[Stage] = ()) -> Engine:
    """Arm: choose the backend, check the chain, allocate, compile and warm the kernels.

    Parameters
    ----------
    plan : EnginePlan
    extra : sequence of Stage
        Further stages, run behind those of the plan, in this order.

    Raises
    ------
    ConfigError
        When a stage needs what the plan does not give.
    DeviceError
        When ``backend = "cuda"`` and there is no usable GPU.
    """
    given = {"raw", "valid"}
    wanted = {"counts"}
    if plan.correction is not None:
        given.add("correction")
    stages: list[Stage] = [PixelPassStage(plan)]
    if plan.reflectance is not None:
        wanted.add("reflectance")
    if plan.quality:
        wanted.add("quality")
    if plan.preview:
        stages.append(PreviewStage(plan))
        wanted.add("previews")
    if plan.pca is not None:
        stages.append(PcaStage(plan))
        wanted.add("pca groups")
    stages += extra
    check_chain(given, stages, wanted)
    backend = choose_backend(plan.backend, plan.threads)
    try:
        for stage in stages:
            stage.arm(backend)
    except BaseException:
        for stage in stages:
            if isinstance(stage, EarlyStage):
                stage.close()
        backend.close()
        raise
    return Engine(plan, backend, stages)
