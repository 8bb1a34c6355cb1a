"""Record a network as a list of steps, for everything that runs it or counts its work without tinygrad.

`trace` calls a method of the network (models.py) with `Value`s in the place of tensors. They have a shape but no
numbers; each layer that receives one records a step instead of computing (layers.py). A network is therefore written
down once: an ONNX file, a compiled library and a count of operations follow from the code that trains it.

Values are numbered in the order in which they come to exist: with n inputs, these are 0 … n−1, and step i produces
value n + i. With one input, a `ResBlock` reads

    step 0: layer conv1, x=0           produces value 1
    step 1: layer conv2, x=1, add=0    produces value 2

`reshape` and `flatten` move no data, so their result keeps the number of the value that it views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from edgeae.runtime.kernels.shapes import Shape


@dataclass(frozen=True)
class Step:
    """The work of one layer: activation(convolution of `x` + bias + `add`).

    Attributes:
        layer: of layers.py, with its weight, bias and activation.
        shape: of the convolution.
        x: number of the value that the convolution reads.
        add: number of the value that is added, or None.
        clipped: whether the result is clipped to [0, 1].
    """

    layer: Any
    shape: Shape
    x: int
    add: int | None = None
    clipped: bool = False

    @property
    def reads(self) -> list[int]:
        """Numbers of the values that it needs."""
        return [self.x] if self.add is None else [self.x, self.add]


@dataclass(frozen=True)
class Trace:
    """All steps of one method of a network; values are numbered as this module's docstring says.

    Attributes:
        inputs: shapes of the inputs, channels last.
        steps: in the order in which they run; each is needed for an output.
        outputs: numbers of the values that the method returns.
        shapes: shapes of these outputs.
    """

    inputs: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def flop(self) -> int:
        """Floating-point operations of all steps."""
        return sum(step.shape.flop for step in self.steps)


@dataclass
class _Tape:
    """The steps recorded so far."""

    inputs: int
    steps: list[Step] = field(default_factory=list)

    def step_of(self, number: int) -> Step:
        """Return the step that produces a value."""
        return self.steps[number - self.inputs]


class Value:
    """Stand-in for a tensor while a network is traced. It has the methods of a tensor that models.py uses.

    Attributes:
        number: of this value.
        shape: the shape that the tensor would have.
    """

    def __init__(self, tape: _Tape, number: int, shape: Sequence[int]) -> None:
        self._tape, self.number, self.shape = tape, number, tuple(shape)

    def through(self, layer: Any, shape: Shape, add: Value | None) -> Value:
        """Record a layer that reads this value, and return the value that it produces."""
        tape = self._tape
        tape.steps.append(Step(layer, shape, self.number, None if add is None else add.number))
        return Value(tape, tape.inputs + len(tape.steps) - 1, shape.output)

    def sequential(self, layers: Sequence[Callable[[Any], Any]]) -> Any:
        return reduce(lambda x, layer: layer(x), layers, self)

    def reshape(self, *shape: int) -> Value:
        known = math.prod(size for size in shape if size >= 0)
        return Value(self._tape, self.number, [size if size >= 0 else math.prod(self.shape) // known for size in shape])

    def flatten(self, first: int) -> Value:
        return self.reshape(*self.shape[:first], -1)

    def clip(self, low: float, high: float) -> Value:
        step = self._tape.step_of(self.number)
        if step.layer.activation == "sigmoid" and (low, high) == (0, 1):
            return self  # a sigmoid never leaves [0, 1]
        # The clip becomes part of the step itself. A step that already read the unclipped value would read another one.
        if (low, high) != (0, 1) or any(self.number in later.reads for later in self._tape.steps):
            raise ValueError("a value can be clipped to [0, 1] only, and only before another layer reads it")
        self._tape.steps[self.number - self._tape.inputs] = replace(step, clipped=True)
        return self


def trace(method: Callable[..., Any], *shapes: Sequence[int]) -> Trace:
    """Record what a method of a network does with inputs of these shapes. Nothing is computed.

    Args:
        method: such as `model.reconstruct`; returns one value or several.
        shapes: of its inputs, (B, H, W, C) or (B, code).

    Returns:
        The steps that its outputs depend on.
    """
    tape = _Tape(len(shapes))
    result = method(*(Value(tape, number, shape) for number, shape in enumerate(shapes)))
    outputs: list[Value] = [result] if isinstance(result, Value) else list(result)

    # Leave out the steps that no output depends on: `encode` of a VAE also computes log σ². A step reads only values
    # with smaller numbers, so one pass from the last step to the first finds all that are needed.
    needed = {value.number for value in outputs}
    for number in reversed(range(tape.inputs, tape.inputs + len(tape.steps))):
        if number in needed:
            needed.update(tape.step_of(number).reads)

    # Number the remaining values anew without gaps; inputs keep their numbers, even those that nothing reads.
    old_numbers = [*range(tape.inputs), *sorted(number for number in needed if number >= tape.inputs)]
    new_number = {old: new for new, old in enumerate(old_numbers)}
    steps = []
    for old in old_numbers[tape.inputs :]:
        step = tape.step_of(old)
        steps.append(replace(step, x=new_number[step.x], add=None if step.add is None else new_number[step.add]))
    return Trace(
        tuple(tuple(shape) for shape in shapes),
        tuple(steps),
        tuple(new_number[value.number] for value in outputs),
        tuple(value.shape for value in outputs),
    )
