"""Fixtures of the stream tests; what they are made of is in stream_bench.py."""

from __future__ import annotations

import pytest
from stream_bench import Bench

from pipeline.stream.security import private_endpoint


@pytest.fixture
def ipc():
    """An endpoint on this machine, its path short enough wherever temporary files are."""
    endpoint, cleanup = private_endpoint()
    yield endpoint
    cleanup()


@pytest.fixture
def bench(ipc):
    bench = Bench(ipc)
    yield bench
    bench.close()
