"""What `edgeae bench` times, for `pytest-benchmark compare` between commits: `make bench`."""

from typing import Any

import pytest

from edgeae.benchmark.cases import TASKS, Case, Subject, prepare
from edgeae.network import shipped as zoo
from edgeae.network import weight_file as weights
from edgeae.runtime import devices

BACKENDS = ("CPU", "CL", "WEBGPU", "CUDA", "METAL")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    status = devices.probe(request.param)
    if not status.usable:
        pytest.skip(f"{request.param}: {status.reason}")
    return str(request.param)


@pytest.mark.parametrize("count", [1, 32])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", zoo.names())
def test_task(benchmark: Any, backend: str, name: str, task: str, count: int) -> None:
    subject = Subject(weights.read(zoo.find_model(name)), None, None)
    case = Case(
        "edgeae", backend, name, subject.scheme, task, count, subject.width, subject.height, devices.set_threads(None)
    )
    engine, calls = prepare(subject, case).engine(), 0

    def call() -> Any:
        nonlocal calls
        calls += 1
        return engine.call(calls - 1)

    for i in range(3):  # inputs change from call to call, and outputs are checked
        engine.check(i, call())
    benchmark.pedantic(call, rounds=30)
    engine.check(calls, call())
