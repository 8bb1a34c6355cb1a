"""What a compiled network does, in order: kernels with their constants, and where each value lies in memory.

The plan is made from a trace of the network (tracing.py) and the plans of the training kernels (kernels/plans.py), so a
layer that both of them know needs nothing here.
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

LINE = 16  # floats in a cache line, at whose beginning each value starts
FACTORS = 3 << 19  # floats that the weights' factors of a network should not exceed: 6 MB


@dataclass(frozen=True)
class Operation:
    """One layer.

    Attributes:
        layer: of the network, with its weights.
        function: `convolution`, `narrow` or `winograd`, see kernels/programs.py.
        constants: of its C text.
        shape: what it computes.
        x, out, add: where its input, its output and what it adds begin, in floats; `add` may be None.
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
        """Constants of winograd_weights.c that makes its weights' factors."""
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
    """A value in memory.

    Attributes:
        at: where it begins, in floats.
        shape: with the batch.
    """

    at: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In floats."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """A compiled network.

    Attributes:
        encoder, decoder: operations from the image to the features, and from there to the image.
        image, output: the two ends.
        features: the code first, then what skips it.
        floats: of memory for all values.
        threads: that the work is cut for.
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
        """All of them, in order."""
        return self.encoder + self.decoder


def make_plan(
    network: Any, image: tuple[int, int, int, int], machine: InstructionSet, threads: int, whole_weights: bool = False
) -> Plan:
    """The plan of a network.

    Args:
        network: of models.py.
        image: shape of its input: batch, height, width, channels.
        machine: to write for.
        threads: to cut the work for.
        whole_weights: they are whole numbers of 8 bits, times what is the same for a channel.
    """
    found = trace(network.reconstruct, image)
    features = trace(network.features, image)
    count = len(features.steps)
    # `reconstruct` first does what `features` does, step by step: their values have the same numbers.
    assert [step.shape for step in found.steps[:count]] == [step.shape for step in features.steps]
    places, floats = _places(found, features)
    operations = [_operation(step, number, places, machine, threads) for number, step in enumerate(found.steps, 1)]
    if whole_weights:
        operations = _narrowed(operations)
    return Plan(
        tuple(operations[:count]),
        tuple(operations[count:]),
        Place(places[0], image),
        Place(places[found.outputs[0]], found.shapes[0]),
        tuple(Place(places[number], shape) for number, shape in zip(features.outputs, features.shapes, strict=True)),
        floats,
        threads,
    )


def _narrowed(operations: list[Operation]) -> list[Operation]:
    """The same, with factors in 16 bits, which hold those of 8-bit weights exactly, as far as all take more memory than
    they should: first where a factor serves the fewest multiplications, so that making floats of it costs little."""
    sizes = {
        number: math.prod(winograd_plans.factors(operation.constants))
        for number, operation in enumerate(operations)
        if operation.function == "winograd"
    }
    narrowed, floats = list(operations), sum(sizes.values())
    for number in sorted(sizes, key=lambda number: operations[number].shape.flop / sizes[number]):
        if floats <= FACTORS:
            break
        constants = operations[number].constants | {"FACTOR_BITS": 16}
        narrowed[number] = replace(operations[number], constants=constants)
        floats -= sizes[number] // 2
    return narrowed


def _places(found: Trace, features: Trace) -> tuple[list[int], int]:
    """Where each value begins, and how much memory they take: a value's place is used again once nobody needs it."""
    shapes = [found.inputs[0], *(step.shape.output for step in found.steps)]
    sizes = [-(-math.prod(shape) // LINE) * LINE for shape in shapes]
    last = list(range(len(shapes)))
    for number, step in enumerate(found.steps, 1):
        for read in step.reads:
            last[read] = number
    for number in found.outputs:
        last[number] = len(shapes)
    for number in features.outputs:  # all of them are there together, between the encoder and the decoder
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
        plan = plan | {"WEIGHT_ROW": block}  # as they are read
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
