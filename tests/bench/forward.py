"""Time of a forward pass, beside PyTorch's, ONNX Runtime's and OpenVINO's on the same weights in float32.

Ours is timed twice: the bare call of a compiled graph on tensors that lie there, with its output copied to NumPy, and
`Session.run_floats` from array to array. The peers get arrays or tensors in their own layout. Every engine's outputs
must agree before its times count.

\b
    python tests/bench/forward.py
    python tests/bench/forward.py --net residual --batch 1 --weights float32
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("DEV", "CPU")

import click
import numpy as np
from networks import DEVICE, Net, chosen, draw_images, net_option
from timing import (
    Array,
    Engine,
    Report,
    Times,
    calls_option,
    is_installed,
    json_option,
    kernels_option,
    must_be_close,
    quick_option,
    rounds_option,
    table,
    take_turns,
    threads_option,
)
from tinygrad import Tensor, TinyJit

from edgeae.benchmark.peers import PACKAGES, channels_last, missing, onnxruntime_run, openvino_run
from edgeae.exporting.onnx import channels_first
from edgeae.inference.session import Session
from edgeae.inference.tinygrad_engine import TinygradEngine
from edgeae.network.models import Autoencoder
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import tinygrad_on

OURS = "edgeae, bare JIT"
_SLOW_ROUNDS = 2  # for generated code
_TOLERANCE = 1e-4

Run = Callable[[int], Array]  # of an input's number; gives (B, H, W, C)


def our_runs(net: Net, model: Autoencoder, inputs: list[Array]) -> dict[str, Run]:
    """Ours, by name."""
    session = Session(TinygradEngine(model, net.config, DEVICE, len(inputs[0])))
    return {OURS: bare(model, inputs), "edgeae, Session": lambda i: session.run_floats(inputs[i])}


def bare(model: Autoencoder, inputs: list[Array], kernels: str | None = None) -> Run:
    """The call of the graph alone; `kernels` stands for EDGEAE_KERNELS, unless None."""
    graph = TinyJit(lambda x: model.reconstruct(x).realize())
    tensors = [Tensor(x, device=DEVICE).realize() for x in inputs]

    def run(i: int) -> Array:
        with patch.dict(os.environ, {} if kernels is None else {"EDGEAE_KERNELS": kernels}):
            return graph(tensors[i]).numpy()

    return run if kernels is not None else lambda i: graph(tensors[i]).numpy()


def torch_runs(model: Autoencoder, inputs: list[Array], compiled: bool) -> dict[str, Run]:
    """PyTorch's, by name."""
    import torch
    import twins

    def make(layout: twins.Layout, compiled: bool) -> Run:
        network: Any = twins.twin(model, layout).eval()
        if compiled:
            network = torch.compile(network, dynamic=False)
        tensors = [twins.to_torch(x, layout) for x in inputs]

        def run(i: int) -> Array:
            with torch.inference_mode():
                return network(tensors[i]).numpy().transpose(0, 2, 3, 1)

        return run

    kinds = {"PyTorch eager": False} | ({"torch.compile": True} if compiled else {})
    return {f"{kind}, {layout}": make(layout, flag) for kind, flag in kinds.items() for layout in twins.LAYOUTS}


def export_onnx(model: Autoencoder, x: Array) -> bytes:
    """The network for inputs like `x`, through its twin in PyTorch: not as our own exporter writes it."""
    import torch
    import twins

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # dynamo=False is the older exporter, and tells
        network = twins.twin(model, "contiguous").eval()
        torch.onnx.export(network, (twins.to_torch(x, "contiguous"),), file, dynamo=False)
    return file.getvalue()


def onnx_runs(data: bytes, inputs: list[Array], threads: int) -> tuple[dict[str, Run], list[str]]:
    """The runtimes that read ONNX files, and a line for each that is not installed."""
    given = [channels_first(x) for x in inputs]

    def run_of(make: Callable[[bytes, int], Callable[[Array], Array]]) -> Run:
        run = make(data, threads)
        return lambda i: channels_last(run(given[i]))

    makers = {"ONNX Runtime": onnxruntime_run, "OpenVINO": openvino_run}
    runs = {name: run_of(make) for name, make in makers.items() if is_installed(*PACKAGES[name])}
    return runs, [line for line in missing() if not line.startswith("PyTorch")]


def peers(model: Autoencoder, inputs: list[Array], threads: int, quick: bool) -> tuple[dict[str, Run], list[str]]:
    """The others that are installed, and a line for each that is not."""
    if not is_installed("torch"):
        return {}, ["PyTorch is left out, and with it all others: it is not installed"]
    import torch
    from twins import can_compile

    torch.set_num_threads(threads)
    runs, left_out = torch_runs(model, inputs, compiled=can_compile() and not quick), []
    if not can_compile():
        left_out.append("torch.compile is left out: it needs g++")
    if any(is_installed(*PACKAGES[name]) for name in ("ONNX Runtime", "OpenVINO")):
        others, lines = onnx_runs(export_onnx(model, inputs[0]), inputs, threads)
        runs, left_out = runs | others, left_out + lines
    return runs, left_out


@click.command(help=__doc__)
@net_option
@click.option("--batch", type=int, multiple=True, default=(1, 32), show_default=True, help="Images in a call.")
@click.option(
    "--weights",
    type=click.Choice(["stored", "float32"]),
    default="stored",
    show_default=True,
    help="Ours on the weights as the shipped file has them (int8), or on the same as float32.",
)
@threads_option
@kernels_option
@rounds_option
@calls_option
@quick_option
@json_option
def main(
    net: str,
    batch: tuple[int, ...],
    weights: str,
    threads: int,
    kernels: tuple[str, ...],
    rounds: int,
    calls: int,
    quick: bool,
    json_path: Path | None,
) -> None:
    devices.resolve(DEVICE)
    devices.set_threads(threads)
    report = Report(threads, json_path)
    click.echo("\n".join(report.header()))
    # The shipped vae takes 64×64 alone, so that quick here means few calls.
    for one in chosen(net, quick=False):
        model = one.load(weights == "stored")
        for count in (1,) if quick else batch:
            inputs = draw_images(one, count, 4)
            runs = our_runs(one, model, inputs)
            runs |= {f"{OURS}, EDGEAE_KERNELS={name}": bare(model, inputs, name) for name in kernels}
            others, left_out = peers(model, inputs, threads, quick)
            times = measure(one, runs | others, inputs, rounds, calls, quick)
            click.echo(f"\n{one.name}: forward pass, batch {count}, {one.config.size}×{one.config.size}")
            click.echo("\n".join([*table(times, OURS), *verdict(times, list(others)), *left_out]))
            report.results[f"{one.name}, batch {count}"] = times
    click.echo("\n".join(report.finish()))


def measure(net: Net, runs: dict[str, Run], inputs: list[Array], rounds: int, calls: int, quick: bool) -> Times:
    """Seconds of every call, whose outputs are those of our first one."""
    with tinygrad_on(DEVICE):
        wanted = [runs[OURS](i).copy() for i in range(len(inputs))]

        def engine(name: str, run: Run) -> Engine:
            def check(i: int, output: Array) -> None:
                must_be_close(output, wanted[i % len(inputs)], _TOLERANCE, f"{net.name}, {name}")

            return Engine(name, lambda i: run(i % len(inputs)), check, _SLOW_ROUNDS if name.endswith("off") else None)

        engines = [engine(name, run) for name, run in runs.items()]
        return take_turns(engines, 2, 1, idle_s=0) if quick else take_turns(engines, rounds, calls)


def verdict(times: Times, others: list[str]) -> list[str]:
    """How ours compares with the fastest peer."""
    if not others:
        return []
    best = min(others, key=lambda name: np.median(times[name]))
    share = np.median(times[OURS]) / np.median(times[best])
    return [f"{OURS} takes {share:.2f} of the time of the fastest other: {best}"]


if __name__ == "__main__":
    main()
