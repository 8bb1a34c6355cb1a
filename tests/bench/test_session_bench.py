"""Time what `edgeae bench` times, for `pytest-benchmark compare` between commits: `make bench`."""

from itertools import count
from typing import Any

import pytest

from edgeae.benchmark.cases import TASKS, Case, Subject, prepare
from edgeae.network import shipped
from edgeae.network.weight_file import read
from edgeae.runtime import devices


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", shipped.names())
@pytest.mark.parametrize("device", ["CPU", "CL", "WEBGPU", "CUDA", "METAL"])
def test_task(benchmark: Any, device: str, model: str, task: str, batch: int) -> None:
    status = devices.probe(device)
    if not status.usable:
        pytest.skip(f"{device}: {status.reason}")
    subject = Subject(read(shipped.find_model(model)), None, None)
    threads = devices.set_threads(None)
    case = Case("edgeae", device, model, subject.scheme, task, batch, subject.width, subject.height, threads)
    prepared, numbers = prepare(subject, case), count()
    for _ in range(3):  # compiles
        prepared.check(number := next(numbers), prepared.run(number))
    output = benchmark.pedantic(lambda: prepared.run(next(numbers)), rounds=30)
    prepared.check(next(numbers) - 1, output)
