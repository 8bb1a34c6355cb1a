"""Plan a compiled network: its kernels in order, each with its constants, and the place of each value in memory.

The plan is made from a trace of the network (network/tracing.py) and the plans of the kernels
(runtime/kernels/plans.py), so a new layer that both of them know needs nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeae.errors import EdgeaeError
from edgeae.network.tracing import Step, Trace, trace
from edgeae.runtime.kernels import plans, winograd_plans
from edgeae.runtime.kernels.graph import ACTIVATIONS
from edgeae.runtime.kernels.plans import Constants, InstructionSet
from edgeae.runtime.kernels.shapes import Shape

LINE = 16  # floats in a cache line; each value begins at one
MAX_FACTOR_FLOATS = 3 << 19  # 6 MB: what the factors of a network's Winograd weights should not exceed


@dataclass(frozen=True)
class Operation:
    """The work of one layer.

    Attributes:
        layer: the network's layer, with its weights.
        function: the kernel, `convolution`, `narrow` or `winograd`; see runtime/kernels/programs.py.
        constants: macros of the kernel's text by name.
        shape: sizes of the convolution.
        x, out: float at which its input and its output begin.
        add: float at which a value begins that is added to the result, or None.
    """

    layer: Any
    function: str
    constants: Constants
    shape: Shape
    x: int
    out: int
    add: int | None

    @property
    def factors(self) -> Constants | None:
        """Constants of `winograd_weights`, which makes this kernel's factors of the weights; None for the others."""
        if self.function != "winograd":
            return None
        bits = self.constants["FACTOR_BITS"]
        return winograd_plans.winograd_weights(self.constants, swapped=False, turned=False) | {
            "THREADS": 1,
            "FACTOR_BITS": bits,
            "WEIGHT_BITS": 8 if bits == 16 else 32,
        }


@dataclass(frozen=True)
class Place:
    """The place of a value in memory.

    Attributes:
        at: float at which it begins.
        shape: its shape, the batch included.
    """

    at: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of floats."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class EnginePlan:
    """The plan of a compiled network.

    Attributes:
        encoder: operations from the image to the features, in order.
        decoder: operations from the features to the output.
        image, output: places of the two ends.
        features: place of the code, then those of the skip connections.
        floats: memory for all values.
        threads: number of threads that the work is divided for.
    """

    encoder: tuple[Operation, ...]
    decoder: tuple[Operation, ...]
    image: Place
    output: Place
    features: tuple[Place, ...]
    floats: int
    threads: int

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The encoder's operations, then the decoder's."""
        return self.encoder + self.decoder


def whole_lines(floats: int) -> int:
    """Round a number of floats up to whole cache lines."""
    return -(-floats // LINE) * LINE


def make_plan(
    network: Any, image: tuple[int, int, int, int], machine: InstructionSet, threads: int, whole_weights: bool = False
) -> EnginePlan:
    """Plan a network for one size of images.

    Args:
        network: one of network/models.py, on any device: its weights are not read.
        image: shape of its input: batch, height, width, channels.
        machine: instruction set of the kernels.
        threads: number of threads to divide the work for.
        whole_weights: True if the weights are 8-bit integers times one scale a channel (`int8`).

    Raises:
        EdgeaeError: a layer is too large for any kernel.
    """
    whole = trace(network.reconstruct, image)
    features = trace(network.features, image)
    count = len(features.steps)
    # `reconstruct` first does what `features` does, step by step: their values have the same numbers.
    assert [step.shape for step in whole.steps[:count]] == [step.shape for step in features.steps]
    places, floats = _places(whole, features)
    operations = [_operation(step, number, places, machine, threads) for number, step in enumerate(whole.steps, 1)]
    if whole_weights:
        operations = _halve_factors(operations)
    return EnginePlan(
        tuple(operations[:count]),
        tuple(operations[count:]),
        Place(places[0], image),
        Place(places[whole.outputs[0]], whole.shapes[0]),
        tuple(Place(places[number], shape) for number, shape in zip(features.outputs, features.shapes, strict=True)),
        floats,
        threads,
    )


def _halve_factors(operations: list[Operation]) -> list[Operation]:
    """Store factors in 16 bits, which hold those of 8-bit weights exactly, until all fit into MAX_FACTOR_FLOATS.

    Widening a factor costs time at each use, so the layers come first in which a factor serves the fewest operations.
    """
    sizes = {
        number: math.prod(winograd_plans.factors(operation.constants))
        for number, operation in enumerate(operations)
        if operation.function == "winograd"
    }
    halved, floats = list(operations), sum(sizes.values())
    for number in sorted(sizes, key=lambda number: operations[number].shape.flop / sizes[number]):
        if floats <= MAX_FACTOR_FLOATS:
            break
        constants = operations[number].constants | {"FACTOR_BITS": 16}
        halved[number] = replace(operations[number], constants=constants)
        floats -= sizes[number] // 2
    return halved


def _places(whole: Trace, features: Trace) -> tuple[list[int], int]:
    """Place the values in memory, and return where each begins and how many floats they take together.

    Values have the trace's numbers: 0 is the image, n the output of step n. A value takes the first gap that is large
    enough among the values still needed then.
    """
    shapes = [whole.inputs[0], *(step.shape.output for step in whole.steps)]
    sizes = [whole_lines(math.prod(shape)) for shape in shapes]
    last = list(range(len(shapes)))  # step that reads each value last
    for number, step in enumerate(whole.steps, 1):
        for read in step.reads:
            last[read] = number
    for number in whole.outputs:
        last[number] = len(shapes)  # needed past the end
    # Between the encoder and the decoder all features are in memory: there a walk mixes them, and `decode` begins.
    for number in features.outputs:
        last[number] = max(last[number], len(features.steps) + 1)
    places: list[int] = []
    for number, size in enumerate(sizes):
        busy = sorted((places[other], places[other] + sizes[other]) for other in range(number) if last[other] >= number)
        at = 0
        for begin, end in busy:
            if begin - at >= size:
                break
            at = max(at, end)
        places.append(at)
    return places, max(at + size for at, size in zip(places, sizes, strict=True))


def _operation(step: Step, number: int, places: Sequence[int], machine: InstructionSet, threads: int) -> Operation:
    shape = step.shape
    function, plan = "winograd", winograd_plans.winograd(shape, machine, threads, prepared=True)
    if plan is None:
        function, plan = "narrow", plans.narrow(shape, machine, threads)
    if plan is None:
        function, plan = "convolution", plans.convolution(shape, machine, threads)
    if plan is None:
        raise EdgeaeError(f"a layer of {shape.height}×{shape.width} and {shape.c_in} channels is too large to compile.")
    if step.clipped and step.layer.activation is not None:
        raise EdgeaeError("a layer with an activation cannot be clipped too.")
    activation = "CLIP" if step.clipped else ACTIVATIONS[step.layer.activation]
    block = int(plan["VECTORS"]) * int(plan["LANES"])
    if function == "convolution" and shape.c_out % block == 0:
        plan = plan | {"WEIGHT_ROW": block}  # `widen` lays them out in the order in which they are read
    if function == "winograd":
        plan = plan | {"FACTOR_BITS": 32}
    constants = plan | {
        "HAS_BIAS": 1,
        "HAS_ADD": int(step.add is not None),
        "ACTIVATION": activation,
        "GRADIENT_OF": "NO_ACTIVATION",
        "WEIGHT_BITS": 32,
    }
    return Operation(
        step.layer,
        function,
        constants,
        shape,
        places[step.x],
        places[number],
        None if step.add is None else places[step.add],
    )
