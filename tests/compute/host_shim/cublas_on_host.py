"""The two products of cuBLAS that the CUDA backend uses, with NumPy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class Cublas:
    """The two products, on the current stream, as CuPy does it."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._math: dict[int, int] = {}

    def create(self) -> int:
        self._host.makes("a cuBLAS handle")
        self._math[len(self._math) + 1] = -1
        return len(self._math)

    def destroy(self, handle: int) -> None:
        del self._math[handle]

    def setMathMode(self, handle: int, mode: int) -> None:
        self._math[handle] = mode

    def sgemmStridedBatched(
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: int,
        a: int, lda: int, stride_a: int, b: int, ldb: int, stride_b: int, beta: int,
        c: int, ldc: int, stride_c: int, batch: int,
    ) -> None:  # fmt: skip
        self._check(handle, alpha, beta)

        def run() -> None:
            for i in range(batch):
                left = _matrix(a + 4 * i * stride_a, (k, m) if ta else (m, k), lda)
                right = _matrix(b + 4 * i * stride_b, (n, k) if tb else (k, n), ldb)
                left, right = left.T if ta else left, right.T if tb else right
                _matrix(c + 4 * i * stride_c, (m, n), ldc)[...] = left @ right

        self._stream().add(run)

    def ssyrk(
        self, handle: int, uplo: int, trans: int, n: int, k: int, alpha: int,
        a: int, lda: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        self._check(handle, alpha, beta)
        assert trans == 1

        def run() -> None:
            x = _matrix(a, (k, n), lda)
            product, to = x.T @ x, _matrix(c, (n, n), ldc)
            rows, columns = np.tril_indices(n) if uplo == 0 else np.triu_indices(n)
            to[rows, columns] = product[rows, columns]

        self._stream().add(run)

    def _check(self, handle: int, alpha: int, beta: int) -> None:
        assert self._math[handle] == 0, "not in float32"
        assert _matrix(alpha, (1, 1), 1)[0, 0] == 1
        assert _matrix(beta, (1, 1), 1)[0, 0] == 0

    def _stream(self) -> Any:
        stack = getattr(self._host.current, "stack", [])
        assert stack, "cuBLAS on the legacy stream"
        return stack[-1]


def _matrix(ptr: int, shape: tuple[int, int], leading: int) -> np.ndarray[Any, Any]:
    """Look at a column-major float32 matrix."""
    rows, columns = shape
    count = leading * (columns - 1) + rows
    flat = np.frombuffer((ctypes.c_char * (4 * count)).from_address(ptr), np.float32)
    return np.lib.stride_tricks.as_strided(flat, shape, (4, 4 * leading))
