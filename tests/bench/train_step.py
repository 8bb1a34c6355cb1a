"""Time of a training step, beside PyTorch's.

A step is what `training.Trainer` does with a batch: it takes NumPy arrays, draws the noise of a vae, and gives the
losses as numbers, with the weights updated (AdamW; for the reference net without weight decay, which is Adam). PyTorch
does the same from tensors that share memory with its batch, in the layout that it is called with. All begin with the
same weights, and their first losses must agree.

\b
    python tests/bench/train_step.py
    python tests/bench/train_step.py --net reference --kernels off
"""

from __future__ import annotations

import os
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
    WrongOutput,
    calls_option,
    is_installed,
    json_option,
    kernels_option,
    quick_option,
    rounds_option,
    table,
    take_turns,
    threads_option,
)
from tinygrad import Tensor

from edgeae.data.batches import Batch
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import tinygrad_on

OURS = "edgeae"
_BATCHES = 4
_SLOW_ROUNDS = 2  # for generated code
_LR, _BETA = 1e-3, 0.25

Step = Callable[[int, Array | None], float]  # of a batch's number and the noise, None to draw it; gives the loss


def our_step(net: Net, batches: list[Batch], kernels: str | None) -> Step:
    """Ours; `kernels` stands for EDGEAE_KERNELS, unless None."""
    setting = {} if kernels is None else {"EDGEAE_KERNELS": kernels}
    schedule = np.array([_LR, _BETA], np.float32)
    with patch.dict(os.environ, setting), tinygrad_on(DEVICE):
        trainer = net.trainer()

    def step(i: int, noise: Array | None) -> float:
        with patch.dict(os.environ, setting), tinygrad_on(DEVICE), Tensor.train():
            if noise is None:
                return trainer.train_batch(batches[i], schedule, 0, i)["loss"]
            with patch.object(trainer.model, "draw_noise", return_value=noise):
                return trainer.train_batch(batches[i], schedule, 0, i)["loss"]

    return step


def torch_steps(net: Net, batches: list[Batch], threads: int, compiled: bool) -> dict[str, Step]:
    """PyTorch's, by name."""
    import torch
    import twins

    torch.set_num_threads(threads)
    model = net.build()

    def make(layout: twins.Layout, compiled: bool) -> Step:
        trainer = twins.TorchTrainer(model, net.settings, layout, compiled)
        handed = [twins.torch_batch(batch.inputs, batch.targets, None, layout) for batch in batches]

        def step(i: int, noise: Array | None) -> float:
            batch = handed[i]
            if noise is not None:
                batch = twins.torch_batch(batches[i].inputs, batches[i].targets, noise, layout)
            return trainer.step(batch, _LR, _BETA)

        return step

    kinds = {"PyTorch eager": False} | ({"torch.compile": True} if compiled else {})
    return {f"{kind}, {layout}": make(layout, flag) for kind, flag in kinds.items() for layout in twins.LAYOUTS}


def must_agree(net: Net, steps: dict[str, Step], batches: list[Batch]) -> None:
    """The losses of each one's first three steps, on given noise. Past the first, an update's rounding adds up."""
    rng = np.random.default_rng(1)
    for i, tolerance in enumerate((1e-5, 1e-4, 1e-3)):
        noise = None
        if net.config.arch == "vae":
            noise = rng.standard_normal((net.settings.batch, net.config.code)).astype(np.float32)
        losses = {name: step(i, noise) for name, step in steps.items()}
        wanted = losses[OURS]
        for name, loss in losses.items():
            if not abs(loss - wanted) <= tolerance * abs(wanted):
                raise WrongOutput(f"{net.name}: the loss of step {i} is {loss:.8f} by {name}, {wanted:.8f} by {OURS}")


def measure(net: Net, steps: dict[str, Step], batches: list[Batch], rounds: int, calls: int, idle: bool) -> Times:
    """Seconds of every step."""
    must_agree(net, steps, batches)

    def must_be_finite(i: int, loss: Any) -> None:
        if not np.isfinite(loss):
            raise WrongOutput(f"{net.name}: the loss became {loss}")

    engines = [
        Engine(
            name,
            lambda i, step=step: step(i % len(batches), None),
            must_be_finite,
            rounds=_SLOW_ROUNDS if name.endswith("off") else None,
        )
        for name, step in steps.items()
    ]
    return take_turns(engines, rounds, calls, warm_up=1, **({} if idle else {"idle_s": 0.0}))


@click.command(help=__doc__)
@net_option
@threads_option
@kernels_option
@rounds_option
@calls_option
@quick_option
@json_option
def main(
    net: str, threads: int, kernels: tuple[str, ...], rounds: int, calls: int, quick: bool, json_path: Path | None
) -> None:
    if quick:
        rounds, calls = 2, 1
    devices.resolve(DEVICE)
    devices.set_threads(threads)
    report = Report(threads, json_path)
    click.echo("\n".join(report.header()))
    for one in chosen(net, quick):
        x, y = (draw_images(one, one.settings.batch, 2 * _BATCHES)[half::2] for half in (0, 1))
        mask = np.zeros(x[0].shape[:3], bool)
        batches = [Batch(a, b, mask, np.arange(len(a)), len(a)) for a, b in zip(x, y, strict=True)]
        steps = {OURS: our_step(one, batches, None)}
        steps |= {f"{OURS}, EDGEAE_KERNELS={name}": our_step(one, batches, name) for name in kernels}
        left_out = []
        if is_installed("torch"):
            from twins import can_compile

            steps |= torch_steps(one, batches, threads, compiled=can_compile() and not quick)
            if not can_compile():
                left_out.append("torch.compile is left out: it needs g++")
        else:
            left_out.append("PyTorch is left out: it is not installed")
        times = measure(one, steps, batches, rounds, calls, idle=not quick)
        size = one.config.size
        click.echo(f"\n{one.name}: training step, batch {one.settings.batch}, {size}×{size}")
        click.echo("\n".join([*table(times, OURS), *verdict(times), *left_out]))
        report.results[one.name] = {"batch": one.settings.batch, "size": size, "seconds": times}
    click.echo("\n".join(report.finish()))


def verdict(times: Times) -> list[str]:
    """How ours compares with the fastest way to run PyTorch."""
    peers = {name: np.median(seconds) for name, seconds in times.items() if not name.startswith(OURS)}
    if not peers:
        return []
    best = min(peers, key=lambda name: peers[name])
    return [f"{OURS} takes {np.median(times[OURS]) / peers[best]:.2f} of the time of the fastest other: {best}"]


if __name__ == "__main__":
    main()
