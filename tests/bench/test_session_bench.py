"""Time of a warm call of each shipped model, for `pytest-benchmark compare` between commits: `make bench`."""

from typing import Any

import numpy as np
import pytest

from edgeae import devices, zoo
from edgeae.session import load

BACKENDS = ("CPU", "CL", "CUDA", "METAL")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    status = devices.probe(request.param)
    if not status.usable:
        pytest.skip(f"{request.param}: {status.reason}")
    return str(request.param)


@pytest.mark.parametrize("count", [1, 32])
@pytest.mark.parametrize("name", zoo.names())
def test_reconstruct(benchmark: Any, backend: str, name: str, count: int) -> None:
    session = load(name, backend, batch=32)
    size, channels = session.config.size, session.config.in_channels
    # Inputs change from call to call, and every output is looked at: nothing can be served from a cache.
    inputs = np.random.default_rng(0).random((4, count, size, size, channels), dtype=np.float32)
    calls = 0

    def call() -> None:
        nonlocal calls
        output = session.run_floats(inputs[calls % len(inputs)])
        assert output.shape == inputs.shape[1:]
        calls += 1

    benchmark.pedantic(call, rounds=30, warmup_rounds=3)
