"""The kernels as nodes of tinygrad's graph, with their gradients.

tinygrad 0.13.0 takes a kernel that is compiled already: a PROGRAM node with its BINARY. A variable `core_id` makes it
call the kernel once on each core.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tinygrad import Tensor, dtypes
from tinygrad.helpers import CPU_COUNT
from tinygrad.renderer import Estimates
from tinygrad.uop.ops import KernelInfo, Ops, ProgramInfo, UOp

from edgeae.kernels import plans, shapes
from edgeae.kernels.plans import Constants, InstructionSet
from edgeae.kernels.programs import Text, compile_text, instruction_set
from edgeae.kernels.shapes import Shape

if TYPE_CHECKING:
    from edgeae.layers import Weight

ACTIVATIONS = {None: "NO_ACTIVATION", "relu": "RELU", "sigmoid": "SIGMOID"}


def convolution(x: Tensor, weight: Weight, bias: Tensor, add: Tensor | None, activation: str | None,
                shape: Shape) -> Tensor | None:
    """activation(convolution + bias + add) as one kernel, with a gradient when the weight is float32.

    Args:
        x: (batch, height, width, c_in) of `shape`, float32, on the CPU.
        weight: (kernel, kernel, c_in, c_out), in one of the forms of quantize.py.
        bias: (c_out,).
        add: of the output's shape, or None.
        activation: relu, sigmoid or None.
        shape: what is computed.

    Returns:
        (batch, height, width, c_out) of `shape.output`; None where the kernels are off or do not cover the shape.
    """
    machine = instruction_set()
    if machine is None or not _covers(shape, machine, CPU_COUNT.value):
        return None
    return _convolution(machine, x, weight, bias, add, activation, shape)


@functools.cache
def _covers(shape: Shape, machine: InstructionSet, threads: int) -> bool:
    gradients = (plans.weight_gradient(form, machine, threads) for form in shapes.weight_gradient_shapes(shape))
    return (plans.convolution(shape, machine, threads) is not None and any(gradients)
            and plans.convolution(shape.of_input_gradient(), machine, threads) is not None)


def _convolution(machine: InstructionSet, x: Tensor, weight: Weight, bias: Tensor | None, add: Tensor | None,
                 activation: str | None, shape: Shape, y: Tensor | None = None,
                 activation_of_x: str | None = None) -> Tensor:
    """`convolution`; with `y`, the input is a gradient behind an activation whose result was `y`."""
    threads = CPU_COUNT.value
    file, plan = "narrow", plans.narrow(shape, machine, threads) if y is None else None
    if plan is None:
        file, plan = "convolution", plans.convolution(shape, machine, threads)
    assert plan is not None, f"{shape} is not covered"
    values, scale = (weight, None) if isinstance(weight, Tensor) else (weight.values, weight.scale)
    given = {"x": x, "w": values, "scale": scale, "bias": bias, "add": add, "y": y}
    inputs = {name: tensor for name, tensor in given.items() if tensor is not None}
    bits = 8 * values.dtype.itemsize if isinstance(weight, Tensor) else weight.bits
    constants = plan | {
        "WEIGHT_BITS": bits, "HAS_BIAS": int(bias is not None), "HAS_ADD": int(add is not None),
        "ACTIVATION": ACTIVATIONS[activation], "GRADIENT_OF": ACTIVATIONS[activation_of_x],
    }
    gradient = functools.partial(_gradients, machine, tuple(inputs), activation, shape)
    return _call(machine, file, {"out": shape.output}, inputs, constants, shape.flop, gradient)[0]


def _gradients(machine: InstructionSet, names: tuple[str, ...], activation: str | None, shape: Shape, dy: UOp,
               call: UOp) -> tuple[UOp | None, ...]:
    """The gradient of each source of a convolution's call: its output, then its inputs by name."""
    y = Tensor(call.src[1].after(call))
    source = dict(zip(names, (Tensor(uop) for uop in call.src[2:]), strict=True))
    error = Tensor(dy).contiguous()
    found: dict[str, Tensor | None] = {}
    found["x"] = _input_gradient(machine, error, source["w"], y, activation, shape)
    found["w"], found["bias"] = _weight_gradient(machine, source["x"], error, y, activation, shape)
    if "add" in source:
        found["add"] = _before_activation(error, y, activation)
    return None, *(None if (tensor := found.get(name)) is None else tensor.uop for name in names)


def _before_activation(dy: Tensor, y: Tensor, activation: str | None) -> Tensor:
    if activation == "relu":
        return (y > 0).where(dy, 0)
    return dy * (y * (1 - y)) if activation == "sigmoid" else dy


def _input_gradient(machine: InstructionSet, dy: Tensor, w: Tensor, y: Tensor, activation: str | None,
                    shape: Shape) -> Tensor:
    swapped = w.permute(0, 1, 3, 2)
    if shape.stride == shape.step == 1:
        swapped = swapped.flip((0, 1))
    return _convolution(machine, dy, swapped.contiguous(), None, None, None, shape.of_input_gradient(),
                        y if activation else None, activation)


def _weight_gradient(machine: InstructionSet, x: Tensor, dy: Tensor, y: Tensor, activation: str | None,
                     shape: Shape) -> tuple[Tensor, Tensor]:
    candidates = [(form, plan) for form in shapes.weight_gradient_shapes(shape)
                  if (plan := plans.weight_gradient(form, machine, CPU_COUNT.value))]
    form, plan = min(candidates, key=lambda pair: _area(pair[1]))
    big, small = (dy, x) if form.error_is_big else (x, dy)
    inputs = {"big": big, "small": small} | ({"y": y} if activation else {})
    constants = plan | {"ACTIVATION": "NO_ACTIVATION", "GRADIENT_OF": ACTIVATIONS[activation]}
    outputs = {"dw": plans.padded(plan), "db": (shape.c_out,)}
    dw, db = _call(machine, "weight_gradient", outputs, inputs, constants, form.flop, None)
    k = shape.kernel
    dw = dw[:, : k * form.c_big, : form.c_small].reshape(k, k, form.c_big, form.c_small)
    if form.error_is_big:
        dw = dw.permute(0, 1, 3, 2)
    return dw.flip((0, 1)) if form.turned else dw, db


def _area(plan: Constants) -> int:
    _, run, width = plans.padded(plan)
    return run * width


def _call(machine: InstructionSet, file: str, outputs: dict[str, tuple[int, ...]], inputs: dict[str, Tensor],
          constants: Constants, flop: int, gradient: Any) -> list[Tensor]:
    """A kernel's outputs, given the shapes of these and its inputs."""
    device = next(iter(inputs.values())).device
    empty = [Tensor.empty(*size, dtype=dtypes.float32, device=device) for size in outputs.values()]
    names = (*outputs, *inputs)
    text = str(Text(file, names, constants))
    label = "_".join([file, *(str(constants[name]) for name in ("IN_H", "IN_W", "C_IN", "C_OUT", "KERNEL"))])
    threads = int(constants["THREADS"])
    program = functools.partial(_program, text, compile_text(text, machine), label, len(outputs), threads, flop)
    tensors = [*empty, *inputs.values()]
    results: list[Tensor] = tensors[0].custom_kernel(*tensors[1:], fxn=program, grad_fxn=gradient)
    return results[: len(outputs)]


def _program(text: str, binary: bytes, label: str, outputs: int, threads: int, flop: int, *arrays: UOp) -> UOp:
    core = UOp.variable("core_id", 0, threads - 1, dtypes.int)
    size = sum(array.ptrdtype.nbytes() for array in arrays)
    sink = UOp.sink(*arrays, core, arg=KernelInfo(name=label, estimates=Estimates(flop, size, size)))
    info = ProgramInfo(label, (threads, 1, 1), (1, 1, 1), (core,), tuple(range(len(arrays))), tuple(range(outputs)),
                       tuple(range(outputs, len(arrays))))
    return UOp(Ops.PROGRAM, src=(sink, UOp(Ops.DEVICE, arg="CPU"), UOp(Ops.LINEAR, src=(*sink.src, sink)),
                                 UOp(Ops.SOURCE, arg=text), UOp(Ops.BINARY, arg=binary)), arg=info)
