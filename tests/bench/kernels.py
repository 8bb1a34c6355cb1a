"""Rate of every kernel on one thread, beside the measured peak: forward, input gradient and weight gradient.

The machine code is that of edgeae.kernels, called directly. A layer has a direct kernel and, where the shape allows,
one that does Winograd's fewer multiplications; the rate of the latter counts the operations that the direct one does,
so that it can pass the peak, and its time includes the making of the weights' factors, or of the weight gradient from
theirs. The peak is that of multiply-adds in registers alone, measured in turn with each kernel. Every output is
compared with NumPy's.

\b
    python tests/bench/kernels.py
    python tests/bench/kernels.py --net reference --isa avx2
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("DEV", "CPU")

import click
import numpy as np
from networks import DEVICE, Layer, chosen, layers_of, net_option
from timing import (
    Array,
    Engine,
    Report,
    Times,
    calls_option,
    json_option,
    must_be_close,
    quick_option,
    rounds_option,
    take_turns,
)

from edgeae.benchmark.peak import Kernel, empty, peak_kernel, placed
from edgeae.runtime import devices
from edgeae.runtime.compilers import find_compiler
from edgeae.runtime.kernels import graph, plans, shapes, winograd_plans
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS, Constants, InstructionSet
from edgeae.runtime.kernels.programs import Text, compile_text
from edgeae.runtime.kernels.shapes import GradientShape, Shape

_TOLERANCE = 1e-4
# ---- machine code and its arrays ---------------------------------------------------------------------------------


def make(isa: InstructionSet, function: str, constants: Constants, arrays: dict[str, Array]) -> Kernel:
    """One of the kernels of edgeae.kernels."""
    return Kernel(compile_text(str(Text(function, tuple(arrays), constants)), isa), list(arrays.values()))


# ---- what is measured --------------------------------------------------------------------------------------------


@dataclass
class Way:
    """Kernels that give a result together, the arrays they write, and what has to come out."""

    kernels: list[Kernel]
    outputs: list[Array]
    found: Callable[[], Array]  # the result, of `outputs`
    wanted: Array

    def run(self) -> None:
        """Once."""
        for kernel in self.kernels:
            kernel()

    def check(self, what: str) -> None:
        """Compare, and fill the outputs with NaN."""
        must_be_close(self.found(), self.wanted, _TOLERANCE, what)
        for output in self.outputs:
            output[:] = np.nan


def ways(isa: InstructionSet, layer: Layer, which: str, rng: np.random.Generator) -> tuple[dict[str, Way], int]:
    """The ways to compute a pass of a layer, `forward`, `input` or `weights` (gradients), and its operations."""
    if which == "weights":
        return _weight_gradient(isa, layer, rng)
    if which == "forward":
        return _convolution(isa, layer.shape, layer.activation, layer.add, None, rng)
    return _convolution(isa, layer.shape.of_input_gradient(), None, False, layer.activation, rng, is_gradient=True)


def _convolution(
    isa: InstructionSet,
    shape: Shape,
    activation: str | None,
    add: bool,
    gradient_of: str | None,
    rng: np.random.Generator,
    is_gradient: bool = False,
) -> tuple[dict[str, Way], int]:
    """As `graph` has it. An input's gradient has no bias, and first goes back through `gradient_of`, an activation."""
    out = empty(*shape.output)
    side = 4 if shape.up else shape.kernel
    x = placed(_normal(rng, shape.batch, shape.height, shape.width, shape.c_in))
    w = placed(_normal(rng, side, side, shape.c_in, shape.c_out))
    rest = {} if is_gradient else {"bias": placed(_normal(rng, shape.c_out))}
    if add:
        rest["add"] = placed(_normal(rng, *shape.output))
    if gradient_of:
        rest["y"] = placed(_activated(_normal(rng, *x.shape), gradient_of))
    z = convolve(shape, x * _slope(rest["y"], gradient_of) if gradient_of else x, w)
    wanted = _activated(z + rest.get("bias", 0) + rest.get("add", 0), activation)
    constants: Constants = {
        "WEIGHT_BITS": 32,
        "HAS_BIAS": int("bias" in rest),
        "HAS_ADD": int(add),
        "ACTIVATION": graph.ACTIVATIONS[activation],
        "GRADIENT_OF": graph.ACTIVATIONS[gradient_of],
    }

    def of(kernels: list[Kernel], written: list[Array]) -> Way:
        return Way(kernels, written, lambda: out, wanted)

    function, plan = "narrow", None if gradient_of else plans.narrow(shape, isa, 1)
    if plan is None:
        function, plan = "convolution", plans.convolution(shape, isa, 1)
    assert plan is not None, f"{shape} is not covered"
    found = {"direct": of([make(isa, function, plan | constants, {"out": out, "x": x, "w": w} | rest)], [out])}
    if plan := winograd_plans.winograd(shape, isa, 1):
        turned = is_gradient and shape.stride == shape.step == 1
        layers_own = w.transpose(0, 1, 3, 2) if is_gradient else w
        stored = placed(layers_own[::-1, ::-1] if turned else layers_own)
        u = empty(*winograd_plans.factors(plan))
        first = winograd_plans.winograd_weights(plan, swapped=is_gradient, turned=turned) | {"WEIGHT_BITS": 32}
        found["winograd"] = of(
            [
                make(isa, "winograd_weights", first, {"u": u, "w": stored}),
                make(isa, "winograd", plan | constants, {"out": out, "x": x, "w": u} | rest),
            ],
            [out, u],
        )
    return found, shape.flop


def _weight_gradient(isa: InstructionSet, layer: Layer, rng: np.random.Generator) -> tuple[dict[str, Way], int]:
    """As `graph` has it: the direct kernel in the form that pads least."""
    forms = shapes.weight_gradient_shapes(layer.shape)
    planned = [(form, plan) for form in forms if (plan := plans.weight_gradient(form, isa, 1))]
    form, plan = min(planned, key=lambda pair: math.prod(plans.padded(pair[1])))
    found = {"direct": _one_weight_gradient(isa, layer, form, plan, rng)}
    if plan := winograd_plans.winograd_gradient(forms[0], isa, 1):
        found["winograd"] = _one_weight_gradient(isa, layer, forms[0], plan, rng)
    return found, forms[0].flop


def _one_weight_gradient(
    isa: InstructionSet, layer: Layer, form: GradientShape, plan: Constants, rng: np.random.Generator
) -> Way:
    k, (height, width) = form.kernel, form.small_size
    big = placed(_normal(rng, form.batch, form.height, form.width, form.c_big))
    small = placed(_normal(rng, form.batch, height, width, form.c_small))
    inputs, errors = {"big": big, "small": small}, "big" if form.error_is_big else "small"
    taken = dict(inputs)
    if layer.activation:
        inputs["y"] = placed(_activated(_normal(rng, *inputs[errors].shape), layer.activation))
        taken[errors] = taken[errors] * _slope(inputs["y"], layer.activation)
    constants = plan | {"GRADIENT_OF": graph.ACTIVATIONS[layer.activation]}
    wanted = np.tensordot(windows(taken["big"], k, form.stride, form.padding), taken["small"], ((0, 1, 2),) * 2)
    wanted = wanted.transpose(1, 2, 0, 3)  # (k, k, c_big, c_small)
    db = empty(int(plan["PARTS"]), layer.shape.c_out)
    if "R" not in plan:  # not Winograd's
        dw = empty(*plans.padded(plan))
        kernels = [make(isa, "weight_gradient", constants, {"dw": dw, "db": db} | inputs)]
        return Way(
            kernels, [dw, db], lambda: dw.sum(0)[:, : k * form.c_big, : form.c_small].reshape(wanted.shape), wanted
        )
    du, dw = empty(*winograd_plans.factors(plan)), empty(k, k, layer.shape.c_in, layer.shape.c_out)
    back = winograd_plans.winograd_weights(plan, swapped=form.error_is_big, turned=False) | {"WEIGHT_BITS": 32}
    kernels = [
        make(isa, "winograd_gradient", constants, {"du": du, "db": db} | inputs),
        make(isa, "winograd_weights_gradient", back, {"dw": dw, "du": du}),
    ]
    return Way(kernels, [dw, db, du], lambda: dw.transpose(0, 1, 3, 2) if form.error_is_big else dw, wanted)


# ---- the same in NumPy -------------------------------------------------------------------------------------------


def windows(x: Array, k: int, stride: int, padding: int) -> Array:
    """(B, H, W, C) → (B, H', W', C, k, k): what each output of a convolution sees."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]


def convolve(shape: Shape, x: Array, w: Array) -> Array:
    """The convolution, or where every input adds its 4×4 square of outputs, the transposed one."""
    if not shape.up:
        return np.tensordot(windows(x, shape.kernel, shape.stride, shape.padding), w, ((4, 5, 3), (0, 1, 2)))
    height, width = shape.out_size
    y = np.zeros((shape.batch, height + 2, width + 2, shape.c_out), np.float32)
    for ky in range(4):
        for kx in range(4):
            y[:, ky : ky + height : 2, kx : kx + width : 2] += x @ w[ky, kx]
    return y[:, 1:-1, 1:-1]


def _normal(rng: np.random.Generator, *size: int) -> Array:
    return rng.standard_normal(size, dtype=np.float32)


def _activated(z: Array, activation: str | None) -> Array:
    if activation == "relu":
        return np.maximum(z, 0)
    return 1 / (1 + np.exp(-z)) if activation == "sigmoid" else z


def _slope(y: Array, activation: str | None) -> Array:
    return (y > 0).astype(np.float32) if activation == "relu" else y * (1 - y)


# ---- the command -------------------------------------------------------------------------------------------------


@click.command(help=__doc__)
@net_option
@click.option(
    "--isa",
    multiple=True,
    type=click.Choice(list(INSTRUCTION_SETS)),
    help="May be given more than once.  [default: the machine's best, and avx2 after avx512]",
)
@rounds_option
@calls_option
@quick_option
@json_option
def main(net: str, isa: tuple[str, ...], rounds: int, calls: int, quick: bool, json_path: Path | None) -> None:
    devices.resolve(DEVICE)
    if (compiler := find_compiler()) is None:
        raise click.ClickException("there is no C compiler; pip install ziglang")
    if quick:
        rounds, calls = 2, 1
    names = isa or (("avx512", "avx2") if compiler.isa == "avx512" and not quick else (compiler.isa,))
    report = Report(1, json_path)
    click.echo("\n".join(report.header()))
    layers = layers_of(chosen("reference" if quick else net, quick))
    for name in names:
        click.echo(f"\n{name}, one thread: median GFLOP/s, and median and best in % of the peak beside them")
        click.echo(
            f"{'layer':30} {'of':4} {'pass':8} {'peak':>6} {'direct':>8} {'%':>4} {'best':>4} "
            f"{'Winograd':>9} {'%':>4} {'best':>4}"
        )
        for layer in layers:
            # What reads the image needs no gradient of it.
            passes = ["forward", *(["input"] if layer.shape.c_in > 3 else []), "weights"]
            for which in passes:
                times, operations = measure(INSTRUCTION_SETS[name], layer, which, rounds, calls)
                click.echo(row(layer, which, times, operations))
                report.results[f"{name}, {layer}, {which}"] = {"nets": layer.nets, "flop": operations, "seconds": times}
    click.echo(
        "Winograd's rate counts the direct kernel's operations. Nets: "
        + ", ".join(f"{initial(one)} {one}" for one in dict.fromkeys(n for layer in layers for n in layer.nets))
    )
    click.echo("\n".join(report.finish()))


def measure(isa: InstructionSet, layer: Layer, which: str, rounds: int, calls: int) -> tuple[Times, dict[str, int]]:
    """Seconds of every call of the peak and of each way, and their floating-point operations."""
    found, flop = ways(isa, layer, which, np.random.default_rng(0))
    peak, peak_flop = peak_kernel(isa)
    engines = [Engine("peak", lambda i: peak(), lambda i, output: None)]
    engines += [
        Engine(
            name,
            lambda i, way=way: way.run(),
            lambda i, output, name=name, way=way: way.check(f"{layer}, {which}, {name}, {isa.name}"),
        )
        for name, way in found.items()
    ]
    times = take_turns(engines, rounds, calls, idle_s=0, warm_up=1)  # nothing here has threads that spin
    return times, {name: peak_flop if name == "peak" else flop for name in times}


def row(layer: Layer, which: str, times: Times, operations: dict[str, int]) -> str:
    """A line of the table."""
    median = {name: operations[name] / np.median(seconds) / 1e9 for name, seconds in times.items()}
    best = {name: operations[name] / min(seconds) / 1e9 for name, seconds in times.items()}
    text = f"{layer!s:30} {''.join(map(initial, layer.nets)):4} {which:8} {median['peak']:6.1f}"
    for name, width in (("direct", 8), ("winograd", 9)):
        if name in times:
            share, best_share = 100 * median[name] / median["peak"], 100 * best[name] / best["peak"]
            text += f" {median[name]:{width}.1f} {share:4.0f} {best_share:4.0f}"
    return text


def initial(net: str) -> str:
    """One letter for a network: `reference` is R, since `residual` is r."""
    return "R" if net == "reference" else net[0]


if __name__ == "__main__":
    main()
