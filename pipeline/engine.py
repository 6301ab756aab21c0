"""The engine: takes blocks of raw lines in order and moves them through the armed stages.

:func:`make_engine` chooses the backend, checks that every stage finds what it needs, and makes all
memory; after that nothing can be misconfigured and nothing large is allocated. Knows stages and
compute; never files, sockets or cameras.
"""

from __future__ import annotations

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
    lines : int
        Lines processed so far.
    """

    def __init__(self, plan: EnginePlan, backend: Backend, stages: list[Stage]) -> None:
        self.plan = plan
        self.backend = backend.name
        self.why = backend.why
        self.lines = 0
        self._backend = backend
        self._stages = stages

    def process(self, raw: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> BlockResult:
        """Move one block through the stages.

        Parameters
        ----------
        raw : ndarray, (lines, bands, samples), C-contiguous, of the plan's dtype
        valid : ndarray of bool, (lines,), optional
            False for lost lines that are only filled; all True by default.

        Returns
        -------
        BlockResult
            Valid until the next call.

        Raises
        ------
        ConfigError
            When the block is not what the engine was armed for.
        DeviceError
            When the GPU fails.
        """
        plan = self.plan
        lines = raw.shape[0] if raw.ndim else 0
        if raw.shape != (lines, plan.bands, plan.samples) or lines > plan.block_lines:
            raise ConfigError(
                f"block: found shape {raw.shape}, allowed are up to {plan.block_lines} lines of "
                f"({plan.bands}, {plan.samples})"
            )
        if raw.dtype != plan.dtype:
            raise ConfigError(f"block: found {raw.dtype}, the engine is armed for {plan.dtype}")
        if not raw.flags.c_contiguous:
            raise ConfigError(
                "block: found a view that is not C-contiguous, allowed are BIL blocks"
            )
        if valid is None:
            valid = np.ones(lines, np.bool_)
        elif valid.shape != (lines,):
            raise ConfigError(f"valid: found shape {valid.shape}, the block has {lines} lines")
        result = BlockResult(self.lines, lines)
        if not lines:  # a block of gaps only
            shape = (0, plan.bands, plan.samples)
            if plan.reflectance is not None:
                result.reflectance = np.empty(shape, plan.reflectance)
            if plan.quality:
                result.quality = np.empty((0, len(QUALITY_FLAGS), plan.samples), np.uint8)
            return result
        self._backend.load(raw)
        for stage in self._stages:
            stage.process(raw, valid, result)
        self.lines += lines
        return result

    def finish(self) -> BlockResult:
        """Flush the preview rows and the PCA group that are not complete; no block follows."""
        result = BlockResult(self.lines, 0)
        for stage in self._stages:
            stage.finish(result)
        return result

    def close(self) -> None:
        """Give threads and device memory back; may be called twice."""
        self._stages = []
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
        backend.close()
        raise
    return Engine(plan, backend, stages)
