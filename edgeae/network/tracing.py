"""A network as a list of steps, for everything that runs or counts it without tinygrad.

`trace` calls the network's own method (models.py) with values that only look like tensors: each layer that meets one
writes itself down (layers.py). So what a network is stands in one place, and what others make of it (an ONNX file, a
count of operations) follows by itself when a layer is added.
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
    """One layer's work: activation(convolution of `x` + bias + `add`), kept in [0, 1] where it is `clipped`.

    Attributes:
        layer: of layers.py, with its weight, bias and activation.
        shape: the convolution.
        x, add: numbers of values; `add` is None where nothing is added.
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
    """What a method of a network does.

    Values are numbered: first the inputs, then what each step gives, in order.

    Attributes:
        inputs: shapes of the inputs, channels last.
        steps: in the order in which they run; each is needed for an output.
        outputs: numbers of the values that it returns.
        shapes: theirs.
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
    inputs: int
    steps: list[Step] = field(default_factory=list)


class Value:
    """Stands for a tensor while a network is traced: a shape, and a number. Has what models.py asks of a tensor."""

    def __init__(self, tape: _Tape, number: int, shape: Sequence[int]) -> None:
        self._tape, self.number, self.shape = tape, number, tuple(shape)

    def through(self, layer: Any, shape: Shape, add: Value | None) -> Value:
        """What a layer gives for this value."""
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
        place = self.number - self._tape.inputs
        step = self._tape.steps[place]
        if step.layer.activation == "sigmoid" and (low, high) == (0, 1):
            return self  # it never leaves [0, 1]
        # A step is kept in [0, 1] as it is stored; whoever read the value before would then read another one.
        if (low, high) != (0, 1) or any(self.number in later.reads for later in self._tape.steps):
            raise ValueError("a value can be kept in [0, 1] alone, and before any other layer reads it")
        self._tape.steps[place] = replace(step, clipped=True)
        return self


def trace(method: Callable[..., Any], *shapes: Sequence[int]) -> Trace:
    """Write down what a method of a network does with inputs of these shapes; nothing is computed."""
    tape = _Tape(len(shapes))
    found = method(*(Value(tape, number, shape) for number, shape in enumerate(shapes)))
    values: list[Value] = [found] if isinstance(found, Value) else list(found)
    needed = {value.number for value in values}
    for number in range(len(shapes) + len(tape.steps) - 1, len(shapes) - 1, -1):
        if number in needed:
            needed.update(tape.steps[number - len(shapes)].reads)
    kept = [*range(len(shapes)), *(n for n in sorted(needed) if n >= len(shapes))]
    numbers = {old: new for new, old in enumerate(kept)}
    steps = []
    for old in kept[len(shapes) :]:
        step = tape.steps[old - len(shapes)]
        steps.append(replace(step, x=numbers[step.x], add=None if step.add is None else numbers[step.add]))
    return Trace(
        tuple(tuple(shape) for shape in shapes),
        tuple(steps),
        tuple(numbers[value.number] for value in values),
        tuple(value.shape for value in values),
    )
