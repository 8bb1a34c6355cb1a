"""Time every layer of a model by itself, beside the most that the device can do."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinygrad import Device, Tensor, TinyJit

from edgeae.benchmark.machine import describe_machine
from edgeae.benchmark.peak import peak_flops
from edgeae.benchmark.turns import Engine, Turns
from edgeae.errors import UsageError
from edgeae.network.layers import Linear
from edgeae.network.parameters import layer_names
from edgeae.network.shipped import find_model
from edgeae.network.tracing import Step, trace
from edgeae.network.weight_file import read
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD

COPIES = 8  # of a layer in one graph, each on its own input: what a graph's call costs counts an eighth
ROUNDS = 15


@dataclass(frozen=True)
class LayerTime:
    """The time of one layer.

    Attributes:
        name: as in the weight file.
        kind: `3×3`, `4×4 down`, `4×4 up`, `1×1` or `matrix`.
        output: its shape, (height, width, channels).
        flop: floating-point operations.
        bytes: of its input, weights, what it adds and its output, each counted once.
        ms: median time.
        share: of the time of all layers.
        of_peak: share of the device's measured peak.
    """

    name: str
    kind: str
    output: tuple[int, int, int]
    flop: int
    bytes: int
    ms: float
    share: float
    of_peak: float


@dataclass(frozen=True)
class Profile:
    """The times of a model's layers on a device.

    Attributes:
        model, device, batch, width, height: what ran.
        layers: in the order in which they run.
        ms: median time of the whole network in one graph, as a session calls it.
        peak_gflops: measured peak of the device.
        machine: see `machine.describe_machine`.
    """

    model: str
    device: str
    batch: int
    width: int
    height: int
    layers: list[LayerTime]
    ms: float
    peak_gflops: float
    machine: dict[str, Any]


def profile(
    model: str | os.PathLike[str],
    device: str | None = None,
    *,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    threads: int | None = None,
) -> Profile:
    """Time every layer of a model.

    Args:
        model: a shipped name or a weight file.
        device: see `load`.
        batch: images in a call.
        size: width and height in pixels; None is what it was trained on.
        threads: CPU threads; None is all.

    Raises:
        WeightsError: as `load`.
        DeviceError: as `load`.
        UsageError: the size does not fit the model.
    """
    file, name = read(find_model(model)), devices.resolve(device)
    config, count = file.config, devices.set_threads(threads)
    width, height = size or (config.size, config.size)
    if batch < 1 or width % config.stride or height % config.stride:
        raise UsageError(f"batch must be 1 or more, and sides multiples of {config.stride}.")
    if not config.takes_any_size and (width, height) != (config.size, config.size):
        raise UsageError(f"this vae takes images of {config.size}×{config.size} only.")
    with TINYGRAD.turn, tinygrad_on(name), Tensor.train(False):
        network = file.build(name, devices.supports_half(name))
        names = layer_names(network)
        shape = (batch, height, width, config.in_channels)
        steps = trace(network.reconstruct, shape).steps
        runs = [_layer_graph(step, name) for step in steps]
        runs.append(_compile_graph(lambda x: [network.reconstruct(x)], [_random(shape, name)], name))
        seconds = _time(runs)
        peak = peak_flops(name, count)
    layer_seconds = [second / COPIES for second in seconds[:-1]]
    layers = [
        LayerTime(
            names[id(step.layer)],
            _kind(step),
            step.shape.output[1:],
            step.shape.flop,
            _bytes(step),
            1e3 * second,
            second / sum(layer_seconds),
            step.shape.flop / second / peak,
        )
        for step, second in zip(steps, layer_seconds, strict=True)
    ]
    return Profile(
        str(model), name, batch, width, height, layers, 1e3 * seconds[-1], peak / 1e9, describe_machine(count)
    )


def _time(runs: list[Callable[[], None]]) -> list[float]:
    """Return the median seconds of each, taking turns."""

    def engine(name: str, run: Callable[[], None]) -> Engine:
        return Engine(name, lambda count: run(), lambda count, output: None, calls=1)

    engines = [engine(str(number), run) for number, run in enumerate(runs)]
    turns = Turns(engines, idle_s=0.0)  # nothing here has threads that go on working
    turns.warm_up(most=4)
    turns.run(ROUNDS)
    return [float(np.median(timing.seconds)) for timing in turns.timings.values()]


def _layer_graph(step: Step, device: str) -> Callable[[], None]:
    """Return a graph that runs a layer on COPIES inputs."""
    shape, layer = step.shape, step.layer
    size = (shape.height, shape.c_in) if isinstance(layer, Linear) else shape.input
    inputs = [_random(size, device) for _ in range(COPIES)]
    if step.add is None:
        return _compile_graph(lambda *xs: [layer(x) for x in xs], inputs, device)
    added = _random(shape.output, device)
    return _compile_graph(lambda *xs: [layer(x, add=added) for x in xs], inputs, device)


def _compile_graph(function: Callable[..., list[Tensor]], inputs: list[Tensor], device: str) -> Callable[[], None]:
    def call(*xs: Tensor) -> list[Tensor]:
        outputs = function(*xs)
        Tensor.realize(*outputs)
        return outputs

    graph = TinyJit(call)

    def run() -> None:
        graph(*inputs)
        Device[device].synchronize()

    return run


def _random(shape: tuple[int, ...], device: str) -> Tensor:
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return Tensor(values, device=device).realize()


def _kind(step: Step) -> str:
    if isinstance(step.layer, Linear):
        return "matrix"
    shape = step.shape
    return f"{shape.kernel}×{shape.kernel}" + (" up" if shape.up else " down" if shape.stride == 2 else "")


def _bytes(step: Step) -> int:
    shape = step.shape
    output = math.prod(shape.output)
    weight: int = math.prod(step.layer.weight.shape) * getattr(step.layer.weight, "bits", 32) // 8
    return 4 * (math.prod(shape.input) + output * (1 if step.add is None else 2)) + weight
