"""Time every kernel of a model's layers on one thread, forward and gradients, beside the measured peak.

The kernels are those that a layer calls, with Winograd's and without, and their outputs are compared with NumPy's.
Rates count the operations of the convolution itself, so that Winograd's kernels can pass the peak.

\b
    python tests/bench/kernels.py
    python tests/bench/kernels.py -m faces-conv --isa avx2 --batch 1
"""

import sys
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
from helpers.kernel_cases import Kernel, Layer, instruction_sets, read

from edgeae.benchmark.machine import describe_machine, headline
from edgeae.benchmark.peak import Kernel as BoundKernel
from edgeae.benchmark.peak import copy_to_pages, peak_kernel
from edgeae.benchmark.turns import Engine, Turns
from edgeae.formatting import table
from edgeae.network.models import build
from edgeae.network.shipped import DEFAULT, find_model
from edgeae.network.tracing import trace
from edgeae.network.weight_file import read as read_weights
from edgeae.runtime import devices
from edgeae.runtime.kernels import winograd_plans
from edgeae.runtime.kernels.plans import INSTRUCTION_SETS
from edgeae.runtime.kernels.programs import compile_text

NOT_CONVOLUTIONS = ("winograd_weights", "winograd_weights_gradient", "swap")  # have no rate


def make_engine(kernel: Kernel, isa: str) -> Engine:
    """Bind a kernel to arrays of random numbers."""
    drawn = kernel.draw(np.random.default_rng(0))
    arrays = {
        name: copy_to_pages(drawn.get(name, np.full(size, np.nan, np.float32)))
        for name, size in zip(kernel.names, kernel.sizes, strict=True)
    }
    run = BoundKernel(compile_text(kernel.text, INSTRUCTION_SETS[isa]), list(arrays.values()))

    def check(count: int, output: None) -> None:
        if count == 0:  # NumPy takes its time, and every call does the same
            kernel.check(drawn, list(arrays.values())[: kernel.outputs], 1e-4)

    return Engine(kernel.label, lambda count: run(), check)


def describe(layer: Layer) -> str:
    """Return the layer's sizes, such as `16×32×32 64→64 3×3`."""
    s = layer.shape
    kind = " up" if s.up else " down" if s.stride == 2 else ""
    return f"{s.batch}×{s.height}×{s.width} {s.c_in}→{s.c_out} {s.kernel}×{s.kernel}{kind}"


def time_layer(layer: Layer, isa: str, rounds: int) -> list[list[str]]:
    """Return a row of the table for each kernel."""
    kernels = dict.fromkeys(read(layer, isa, 1))
    with (
        patch.object(winograd_plans, "winograd", lambda *_: None),
        patch.object(winograd_plans, "winograd_gradient", lambda *_: None),
    ):
        kernels |= dict.fromkeys(read(layer, isa, 1))
    peak, peak_flop = peak_kernel(INSTRUCTION_SETS[isa])
    turns = Turns([Engine("peak", lambda i: peak(), lambda i, y: None), *(make_engine(k, isa) for k in kernels)], 0.0)
    turns.warm_up()
    turns.run(rounds)
    peak_flops = peak_flop / np.median(turns.timings["peak"].seconds)
    rows = []
    for kernel in kernels:
        seconds = np.median(turns.timings[kernel.label].seconds)
        flops = layer.shape.flop / seconds
        rates = ["", ""] if kernel.function in NOT_CONVOLUTIONS else [f"{flops / 1e9:.0f}", f"{flops / peak_flops:.0%}"]
        backwards = " (input gradient)" if kernel.constants.get("HAS_BIAS") == 0 else ""
        rows.append([describe(layer), kernel.function + backwards, f"{1e3 * seconds:.3f}", *rates])
    return rows


@click.command(help=__doc__)
@click.option("-m", "--model", default=DEFAULT, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--isa", type=click.Choice(list(INSTRUCTION_SETS)), default=None, help="[default: the machine's best]")
@click.option("--rounds", default=15, show_default=True, help="Turns of every kernel.")
def main(model: str, batch: int, isa: str | None, rounds: int) -> None:
    devices.resolve("CPU")
    isa, config = isa or instruction_sets()[0], read_weights(find_model(model)).config
    shape = (batch, config.size, config.size, config.in_channels)
    steps = trace(build(config, "PYTHON").reconstruct, shape).steps
    layers = dict.fromkeys(Layer(step.shape, step.layer.activation, step.add is not None) for step in steps)
    rows = [row for layer in layers for row in time_layer(layer, isa, rounds)]
    header = ["layer", "kernel", "ms", "GFLOP/s", "of peak"]
    click.echo("\n".join([*headline(describe_machine(1)), f"{isa}, one thread", "", *table(header, rows, range(2, 5))]))


if __name__ == "__main__":
    main()
