"""The kernels as nodes of tinygrad's graph, with their gradients.

tinygrad 0.13.0 takes a kernel that is compiled already: a PROGRAM node with its BINARY. A variable `core_id` makes it
call the kernel once on each core.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinygrad import Tensor, dtypes
from tinygrad.helpers import CPU_COUNT
from tinygrad.renderer import Estimates
from tinygrad.uop.ops import KernelInfo, Ops, ProgramInfo, UOp

from edgeae.runtime.kernels import plans, shapes, winograd_plans
from edgeae.runtime.kernels.operands import Weight
from edgeae.runtime.kernels.plans import Constants, InstructionSet
from edgeae.runtime.kernels.programs import Text, adamw_text, compile_text, instruction_set
from edgeae.runtime.kernels.shapes import Shape

_FLOP_A_THREAD = 8_000_000  # that a thread must have to do, to be worth the 60 µs of handing it its share
_FLOP_OF_ADAMW, _FLOP_OF_MOVING = 60, 60  # for each number: what could be computed while memory is waited for

ACTIVATIONS = {None: "NO_ACTIVATION", "relu": "RELU", "sigmoid": "SIGMOID"}


def convolution(
    x: Tensor, weight: Weight, bias: Tensor, add: Tensor | None, activation: str | None, shape: Shape
) -> Tensor | None:
    """activation(convolution + bias + add) as one kernel, which has a gradient while `Tensor.training` is on and the
    weight is float32.

    Args:
        x: (batch, height, width, c_in) of `shape`, float32.
        weight: (kernel, kernel, c_in, c_out), or (c_in, c_out) for a kernel of 1, in one of the forms of quantize.py.
        bias: (c_out,).
        add: of the output's shape, or None.
        activation: relu, sigmoid or None.
        shape: what is computed.

    Returns:
        (batch, height, width, c_out) of `shape.output`; None on another device than the CPU, and where the kernels are
        off or do not cover the shape.
    """
    machine = instruction_set()
    if machine is None or not _is_cpu(x) or not _covers(shape, machine, with_gradients=bool(Tensor.training)):
        return None
    return _convolution(machine, x, weight, bias, add, activation, shape)


@functools.cache
def _covers(shape: Shape, machine: InstructionSet, with_gradients: bool) -> bool:
    if not with_gradients:
        return plans.convolution(shape, machine, 1) is not None
    gradients = (plans.weight_gradient(form, machine, 1) for form in shapes.weight_gradient_shapes(shape))
    return (
        plans.convolution(shape, machine, 1) is not None
        and any(gradients)
        and plans.convolution(shape.of_input_gradient(), machine, 1) is not None
    )


def _threads(flop: int) -> int:
    return max(1, min(int(CPU_COUNT.value), flop // _FLOP_A_THREAD))


def _convolution(
    machine: InstructionSet,
    x: Tensor,
    weight: Weight,
    bias: Tensor | None,
    add: Tensor | None,
    activation: str | None,
    shape: Shape,
    *,
    y: Tensor | None = None,
    activation_of_x: str | None = None,
    is_gradient: bool = False,
) -> Tensor:
    """`convolution`, or with `is_gradient` that of its input: `shape` is the gradient's, `weight` the layer's, `x` the
    gradient behind the layer's activation, and `y` what that activation gave."""
    threads = _threads(shape.flop)
    inputs = {"x": x, **_stored(weight)}
    bits = _bits(weight)
    if plan := winograd_plans.winograd(shape, machine, threads):
        function = "winograd"
        factors = _factors(plan, bits, swapped=is_gradient, turned=is_gradient and shape.keeps_size)
        (u,) = _call(machine, "winograd_weights", {"u": winograd_plans.factors(plan)}, _stored(weight), factors)
        # The kernel does not read the weights themselves, but they are what has a gradient.
        inputs = {"x": x, "w": u} | ({"weights": weight} if isinstance(weight, Tensor) else {})
        bits = 32
    else:
        if is_gradient:
            inputs["w"] = _swapped(machine, inputs["w"], shape)
        function, plan = "narrow", plans.narrow(shape, machine, threads) if y is None else None
        if plan is None:
            function, plan = "convolution", plans.convolution(shape, machine, threads)
        assert plan is not None, f"{shape} is not covered"
    inputs |= {name: tensor for name, tensor in {"bias": bias, "add": add, "y": y}.items() if tensor is not None}
    constants = plan | {
        "WEIGHT_BITS": bits,
        "HAS_BIAS": int(bias is not None),
        "HAS_ADD": int(add is not None),
        "ACTIVATION": ACTIVATIONS[activation],
        "GRADIENT_OF": ACTIVATIONS[activation_of_x],
    }
    has_gradient = isinstance(weight, Tensor) and bits == 32
    gradient = functools.partial(_gradients, machine, tuple(inputs), activation, shape) if has_gradient else None
    return _call(machine, function, {"out": shape.output}, inputs, constants, shape.flop, gradient)[0]


def _factors(plan: Constants, bits: int, *, swapped: bool, turned: bool) -> Constants:
    """Constants of winograd_weights.c for weights of so many bits."""
    threads = _threads(_FLOP_OF_MOVING * math.prod(winograd_plans.factors(plan)))
    return winograd_plans.winograd_weights(plan, swapped=swapped, turned=turned) | {
        "WEIGHT_BITS": bits,
        "THREADS": threads,
    }


def _swapped(machine: InstructionSet, w: Tensor, shape: Shape) -> Tensor:
    """A layer's weights as its input's gradient, a convolution of `shape`, wants them."""
    size = (*w.shape[:-2], w.shape[-1], w.shape[-2])
    if plan := plans.swap(shape, machine, _threads(_FLOP_OF_MOVING * int(w.numel()))):
        return _call(machine, "swap", {"swapped": size}, {"w": w}, plan)[0]
    return (w.flip((0, 1)) if shape.keeps_size and shape.kernel > 1 else w).transpose(-2, -1).contiguous()


def _stored(weight: Weight) -> dict[str, Tensor]:
    return {"w": weight} if isinstance(weight, Tensor) else {"w": weight.values, "scale": weight.scale}


def _bits(weight: Weight) -> int:
    return 8 * int(weight.dtype.itemsize) if isinstance(weight, Tensor) else weight.bits


def _gradients(
    machine: InstructionSet, names: tuple[str, ...], activation: str | None, shape: Shape, dy: UOp, call: UOp
) -> tuple[UOp | None, ...]:
    """The gradient of each source of a convolution's call: its output, then its inputs by name."""
    y = Tensor(call.src[1].after(call))
    source = dict(zip(names, (Tensor(uop) for uop in call.src[2:]), strict=True))
    error, weights = Tensor(dy).contiguous(), "weights" if "weights" in source else "w"
    found = {
        "x": _convolution(
            machine,
            error,
            source[weights],
            None,
            None,
            None,
            shape.of_input_gradient(),
            y=y if activation else None,
            activation_of_x=activation,
            is_gradient=True,
        )
    }
    found[weights], found["bias"] = _weight_gradient(
        machine, source["x"], error, y, activation, shape, source[weights].shape
    )
    if "add" in source:
        found["add"] = _before_activation(error, y, activation)
    return None, *(found[name].uop if name in found else None for name in names)


def _before_activation(dy: Tensor, y: Tensor, activation: str | None) -> Tensor:
    if activation == "relu":
        return (y > 0).where(dy, 0)
    return dy * (y * (1 - y)) if activation == "sigmoid" else dy


def _weight_gradient(
    machine: InstructionSet,
    x: Tensor,
    dy: Tensor,
    y: Tensor,
    activation: str | None,
    shape: Shape,
    size: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    threads = _threads(shape.flop)
    forms = shapes.weight_gradient_shapes(shape)
    function, form, plan = "winograd_gradient", forms[0], winograd_plans.winograd_gradient(forms[0], machine, threads)
    if plan is None:
        covered = [(form, found) for form in forms if (found := plans.weight_gradient(form, machine, threads))]
        form, plan = min(covered, key=lambda pair: math.prod(plans.padded(pair[1])))
        function = "weight_gradient"
    big, small = (dy, x) if form.error_is_big else (x, dy)
    inputs = {"big": big, "small": small} | ({"y": y} if activation else {})
    constants = plan | {"GRADIENT_OF": ACTIVATIONS[activation]}
    first = {"du": winograd_plans.factors(plan)} if function == "winograd_gradient" else {"dw": plans.padded(plan)}
    dw, db = _call(machine, function, first | {"db": (plan["PARTS"], shape.c_out)}, inputs, constants, form.flop)
    k = shape.kernel
    if function == "winograd_gradient":
        back = _factors(plan, 32, swapped=form.error_is_big, turned=False)
        (dw,) = _call(machine, "winograd_weights_gradient", {"dw": size}, {"du": dw}, back)
        return dw, db.sum(0)
    dw = dw.sum(0)[:, : k * form.c_big, : form.c_small].reshape(k, k, form.c_big, form.c_small)
    if form.error_is_big:
        dw = dw.permute(0, 1, 3, 2)
    dw = dw.flip((0, 1)) if form.turned else dw
    return dw.reshape(size), db.sum(0)


def adamw(
    rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor, float]],
    rate: Tensor,
    betas: tuple[float, float],
    epsilon: float,
) -> list[Tensor] | None:
    """One step of AdamW as one kernel, in place.

    Args:
        rows: of each parameter itself, its two moments, its gradient and its weight decay.
        rate: (4,): the learning rate, 1 − β₁ᵗ and 1 − β₂ᵗ at step t, and how much of the gradient counts.

    Returns:
        The parameters and moments after the step, in buffers that are theirs already; None where the kernels are off or
        there is more than one device.
    """
    machine = instruction_set()
    if machine is None or not _is_cpu(rate):
        return None
    sizes = [int(w.numel()) for w, *_ in rows]
    threads = _threads(_FLOP_OF_ADAMW * sum(sizes))
    text = adamw_text(list(zip(sizes, (row[-1] for row in rows), strict=True)), machine.lanes, threads, betas, epsilon)
    updated = [tensor for w, m, v, _, _ in rows for tensor in (w, m, v)]
    gradients = [gradient.contiguous() for *_, gradient, _ in rows]
    return _custom_kernel(
        machine,
        text,
        "adamw",
        [*updated, *gradients, rate.contiguous()],
        len(updated),
        threads,
        _FLOP_OF_ADAMW * sum(sizes),
    )


def _is_cpu(tensor: Tensor) -> bool:
    return isinstance(tensor.device, str) and tensor.device.startswith("CPU")


def _call(
    machine: InstructionSet,
    function: str,
    outputs: Mapping[str, tuple[Any, ...]],
    inputs: dict[str, Tensor],
    constants: Constants,
    flop: int = 0,
    gradient: Callable[..., Any] | None = None,
) -> list[Tensor]:
    """A kernel's outputs, given the shapes of these and its inputs."""
    device = next(iter(inputs.values())).device
    empty = [Tensor.empty(*size, dtype=dtypes.float32, device=device) for size in outputs.values()]
    text = str(Text(function, (*outputs, *inputs), constants))
    sizes = [str(constants[name]) for name in ("IN_H", "C_IN", "C_OUT") if name in constants]
    label = "_".join([function, *sizes])
    threads = int(constants["THREADS"])
    return _custom_kernel(machine, text, label, [*empty, *inputs.values()], len(outputs), threads, flop, gradient)


def _custom_kernel(
    machine: InstructionSet,
    text: str,
    label: str,
    tensors: Sequence[Tensor],
    outputs: int,
    threads: int,
    flop: int,
    gradient: Callable[..., Any] | None = None,
) -> list[Tensor]:
    """The first `outputs` of the tensors, after the kernel has written them."""
    program = functools.partial(_program, text, compile_text(text, machine), label, outputs, threads, flop)
    results: list[Tensor] = tensors[0].custom_kernel(*tensors[1:], fxn=program, grad_fxn=gradient)
    return results[:outputs]


def _program(text: str, binary: bytes, label: str, outputs: int, threads: int, flop: int, *arrays: UOp) -> UOp:
    core = UOp.variable("core_id", 0, threads - 1, dtypes.int)
    size = sum(array.ptrdtype.nbytes() for array in arrays)
    sink = UOp.sink(*arrays, core, arg=KernelInfo(name=label, estimates=Estimates(flop, size, size)))
    info = ProgramInfo(
        label,
        (threads, 1, 1),
        (1, 1, 1),
        (core,),
        tuple(range(len(arrays))),
        tuple(range(outputs)),
        tuple(range(outputs, len(arrays))),
    )
    return UOp(
        Ops.PROGRAM,
        src=(
            sink,
            UOp(Ops.DEVICE, arg="CPU"),
            UOp(Ops.LINEAR, src=(*sink.src, sink)),
            UOp(Ops.SOURCE, arg=text),
            UOp(Ops.BINARY, arg=binary),
        ),
        arg=info,
    )
