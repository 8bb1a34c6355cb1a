"""Where a model's time goes: every layer by itself, beside what the device can do at most."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinygrad import Device, Tensor, TinyJit

from edgeae.benchmark.machine import this_machine
from edgeae.benchmark.peak import peak_flops
from edgeae.errors import UsageError
from edgeae.network import weight_file as weights
from edgeae.network.layers import Linear
from edgeae.network.parameters import layer_names
from edgeae.network.shipped import find_model
from edgeae.network.tracing import Step, trace
from edgeae.runtime import devices
from edgeae.runtime.kernels.shapes import Shape
from edgeae.runtime.tinygrad_lock import tinygrad_on

COPIES = 8  # of a layer in one graph, each on its own input: what a graph's call costs counts an eighth
ROUNDS = 15


@dataclass(frozen=True)
class LayerTime:
    """One layer.

    Attributes:
        name: as in the weight file; `kind`: `3×3`, `4×4 down`, `4×4 up`, `1×1` or `matrix`.
        output: its shape, (height, width, channels).
        flop: floating-point operations; `bytes`: of its input, weights, what it adds and its output, each once.
        ms: median time.
        share: of all layers' time.
        of_peak: of the device's measured peak.
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
    """A model on a device.

    Attributes:
        model, device, batch, width, height: what ran.
        layers: in the order in which they run.
        ms: of the whole network in one graph, as a session calls it.
        peak_gflops: of the device, measured.
        machine: see machine.py.
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
        WeightsError, DeviceError: as `load`.
        UsageError: sizes that do not fit.
    """
    file, name = weights.read(find_model(model)), devices.resolve(device)
    config, count = file.config, devices.set_threads(threads)
    width, height = size or (config.size, config.size)
    if batch < 1 or width % config.stride or height % config.stride:
        raise UsageError(f"batch must be 1 or more, and sides multiples of {config.stride}.")
    if not config.takes_any_size and (width, height) != (config.size, config.size):
        raise UsageError(f"this vae takes images of {config.size}×{config.size} only.")
    with tinygrad_on(name), Tensor.train(False):
        network = file.build(name, devices.supports_half(name))
        names = layer_names(network)
        shape = (batch, height, width, config.in_channels)
        steps = trace(network.reconstruct, shape).steps
        runs: list[Callable[[], None]] = [_alone(step, name) for step in steps]
        runs.append(_graph(lambda x: [network.reconstruct(x)], [_random(shape, name)], name))
        seconds = _timed(runs)
        peak = peak_flops(name, count)
    of_layers = [second / COPIES for second in seconds[:-1]]
    layers = [
        LayerTime(
            names[id(step.layer)],
            _kind(step),
            step.shape.output[1:],
            step.shape.flop,
            _bytes(step),
            1e3 * second,
            second / sum(of_layers),
            step.shape.flop / second / peak,
        )
        for step, second in zip(steps, of_layers, strict=True)
    ]
    return Profile(str(model), name, batch, width, height, layers, 1e3 * seconds[-1], peak / 1e9, this_machine(count))


def _timed(runs: list[Callable[[], None]]) -> list[float]:
    """Median seconds of each, taking turns."""
    for run in runs:
        for _ in range(4):
            run()
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, seconds in zip(runs, found, strict=True):
            run()
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return [float(np.median(seconds)) for seconds in found]


def _alone(step: Step, device: str) -> Callable[[], None]:
    """A layer, COPIES times."""
    shape, layer = step.shape, step.layer
    given = (shape.height, shape.c_in) if isinstance(layer, Linear) else shape.input
    inputs = [_random(given, device) for _ in range(COPIES)]
    if step.add is None:
        return _graph(lambda *xs: [layer(x) for x in xs], inputs, device)
    added = _random(shape.output, device)
    return _graph(lambda *xs: [layer(x, add=added) for x in xs], inputs, device)


def _graph(function: Callable[..., list[Tensor]], inputs: list[Tensor], device: str) -> Callable[[], None]:
    def call(*xs: Tensor) -> list[Tensor]:
        found = function(*xs)
        Tensor.realize(*found)
        return found

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
    side, shape = step.shape.kernel, step.shape
    return f"{side}×{side}" + (" up" if shape.up else " down" if shape.stride == 2 else "")


def _bytes(step: Step) -> int:
    shape: Shape = step.shape
    output = math.prod(shape.output)
    weight: int = math.prod(step.layer.weight.shape) * getattr(step.layer.weight, "bits", 32) // 8
    return 4 * (math.prod(shape.input) + output * (1 if step.add is None else 2)) + weight
