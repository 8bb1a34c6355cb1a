"""Put the kernels into tinygrad's graph, with their gradients.

tinygrad 0.13.0 accepts a kernel that is already compiled: a PROGRAM node with its BINARY. A variable `core_id` makes it
call the kernel once on each core. tinygrad_internals.py lists what this relies on.
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

_FLOP_A_THREAD = 8_000_000  # least work of a thread: handing it its share takes 60 µs
# Operations that count for each number of the optimizer's step and of a copy, which wait for memory: what could be
# computed meanwhile.
_FLOP_OF_ADAMW, _FLOP_OF_MOVING = 60, 60

ACTIVATIONS = {None: "NO_ACTIVATION", "relu": "RELU", "sigmoid": "SIGMOID"}


def convolution(
    x: Tensor, weight: Weight, bias: Tensor, add: Tensor | None, activation: str | None, shape: Shape
) -> Tensor | None:
    """Return activation(convolution + bias + add), computed by one kernel.

    It has a gradient if `Tensor.training` is on and the weight is float32.

    Args:
        x: (batch, height, width, c_in) of `shape`, float32.
        weight: (kernel, kernel, c_in, c_out), or (c_in, c_out) for a kernel of 1, in one of the forms of quantize.py.
        bias: (c_out,).
        add: of the output's shape, or None.
        activation: relu, sigmoid or None.
        shape: of the convolution.

    Returns:
        A tensor of `shape.output`; None on another device than the CPU, and where the kernels are off or do not cover
        the shape.
    """
    machine = instruction_set()
    if machine is None or not _is_cpu(x) or not _covers(shape, machine, with_gradients=bool(Tensor.training)):
        return None
    return _convolution(machine, x, weight, bias, add, activation, shape)


@functools.cache
def _covers(shape: Shape, machine: InstructionSet, with_gradients: bool) -> bool:
    # A layer that trains needs all its gradients as kernels too, or it is left to tinygrad as a whole.
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
    """Return `convolution`, or a layer's input gradient.

    With `is_gradient`, `shape` is `of_input_gradient()` of the layer's shape, `weight` the layer's weight, `x` the
    gradient of the layer's output. If the layer has an activation, `activation_of_x` names it and `y` is the layer's
    output: the kernel then takes the gradient of the activation as it reads `x`.
    """
    threads = _threads(shape.flop)
    inputs = {"x": x, **_stored(weight)}
    bits = _bits(weight)
    if plan := winograd_plans.winograd(shape, machine, threads):
        function = "winograd"
        factors = _factors(plan, bits, swapped=is_gradient, turned=is_gradient and shape.keeps_size)
        # A size-keeping convolution's input gradient is a convolution with the weights turned by 180°; a transposed
        # one's is a strided one with the weights as they are, and the other way round.
        (u,) = _call(machine, "winograd_weights", {"u": winograd_plans.factors(plan)}, _stored(weight), factors)
        # The kernel reads the factors `u` and not the weights, but these are what has a gradient: they are inputs, too.
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
    """Return the constants of winograd_weights.c for weights of `bits` bits."""
    threads = _threads(_FLOP_OF_MOVING * math.prod(winograd_plans.factors(plan)))
    return winograd_plans.winograd_weights(plan, swapped=swapped, turned=turned) | {
        "WEIGHT_BITS": bits,
        "THREADS": threads,
    }


def _swapped(machine: InstructionSet, w: Tensor, shape: Shape) -> Tensor:
    """Return a layer's weights in the order that its input gradient, a convolution of `shape`, needs."""
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
    """Return the gradient of each source of a convolution's call: None for its output, then its inputs by name.

    The arguments after `shape` are those of tinygrad: the gradient of the output, and the call.
    """
    y = Tensor(call.src[1].after(call))  # sources are the kernel (0), its output (1) and its inputs
    source = dict(zip(names, (Tensor(uop) for uop in call.src[2:]), strict=True))
    error, weights = Tensor(dy).contiguous(), "weights" if "weights" in source else "w"
    gradients = {
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
    gradients[weights], gradients["bias"] = _weight_gradient(
        machine, source["x"], error, y, activation, shape, source[weights].shape
    )
    if "add" in source:
        gradients["add"] = _before_activation(error, y, activation)
    return None, *(gradients[name].uop if name in gradients else None for name in names)


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
        covered = [(form, plan) for form in forms if (plan := plans.weight_gradient(form, machine, threads))]
        # Of two ways, the one that fills its tiles and vectors better writes fewer numbers.
        form, plan = min(covered, key=lambda pair: math.prod(plans.padded(pair[1])))
        function = "weight_gradient"
    # The kernel also needs y, to take the gradient of the activation as it reads dy.
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
    # Add the parts, and cut off the padding: (parts, k, run, width) → (k, k, c_big, c_small).
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
    """Return one step of AdamW for all parameters, computed by one kernel in place.

    Args:
        rows: for each parameter the parameter itself, its two moments, its gradient and its weight decay.
        rate: (4,): the learning rate, 1 − β₁ᵗ and 1 − β₂ᵗ at step t, and the share of the gradient that counts.
        betas: β₁ and β₂.
        epsilon: is added to the root of the second moment.

    Returns:
        Parameters and moments after the step, in the buffers that held them before; None where the kernels are off or
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
    """Run a kernel.

    Args:
        machine: the processor.
        function: one of `programs.ARGUMENTS`.
        outputs: shapes of the outputs by name.
        inputs: tensors by name.
        constants: of the plan.
        flop: for tinygrad's statistics.
        gradient: takes the gradient of the output and the call, and returns the gradient of each source.

    Returns:
        The outputs.
    """
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
    """Return the first `outputs` of the tensors as they are after the kernel has written them."""
    program = functools.partial(_program, text, compile_text(text, machine), label, outputs, threads, flop)
    results: list[Tensor] = tensors[0].custom_kernel(*tensors[1:], fxn=program, grad_fxn=gradient)
    return results[:outputs]


def _program(text: str, binary: bytes, label: str, outputs: int, threads: int, flop: int, *arrays: UOp) -> UOp:
    """Return the PROGRAM node of a compiled kernel, as tinygrad itself makes it of generated code."""
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
