"""Time a training step beside PyTorch's: the same network, losses, clipped gradients and AdamW, which must agree.

\b
    python tests/bench/train_step.py
    python tests/bench/train_step.py --arch conv --batch 16 --steps 20 --threads 1
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from edgeae.benchmark import pytorch
from edgeae.benchmark.machine import describe_machine, headline
from edgeae.benchmark.train_step import make_trainer, step_function
from edgeae.config import ARCHS, ModelConfig
from edgeae.formatting import table
from edgeae.network import weight_file
from edgeae.network.models import build
from edgeae.network.parameters import parameters
from edgeae.runtime import devices

TOLERANCE = 1e-3  # largest relative difference of a loss


def make_file(arch: str, size: int, device: str, folder: Path) -> weight_file.WeightFile:
    """Return a network of random weights as a weight file."""
    config = ModelConfig.default(arch, size=size)
    weights = {name: value.numpy() for name, value, _ in parameters(build(config, device, 0))}
    metadata = {"format_version": "1", "arch": arch, "config": config.to_json(), "quantize": "none"}
    weight_file.write(folder / f"{arch}.safetensors", weights, metadata)
    return weight_file.read(folder / f"{arch}.safetensors")


def measure(step: Callable[[int], float], steps: int) -> tuple[list[float], float, float]:
    """Return the losses of the first three steps, and minimum and median of the later steps' times in ms."""
    losses = [step(number) for number in range(3)]  # these also compile
    times = []
    for number in range(3, 3 + steps):
        started = time.perf_counter()
        step(number)
        times.append(1e3 * (time.perf_counter() - started))
    return losses, min(times), statistics.median(times)


@click.command()
@click.option(
    "--arch", "archs", type=click.Choice(ARCHS), multiple=True, default=ARCHS, help="Networks.  [default: all]"
)
@click.option("--size", default=64, show_default=True, help="Height and width of the images in pixels.")
@click.option("--batch", default=8, show_default=True, help="Images in a step.")
@click.option("--steps", default=10, show_default=True, help="Steps to time.")
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
def main(archs: tuple[str, ...], size: int, batch: int, steps: int, threads: int) -> None:
    """Time the training step of each network on the CPU, here and in PyTorch."""
    device = devices.resolve("CPU")
    devices.set_threads(threads)
    print("\n".join(headline(describe_machine(threads))))
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for arch in archs:
            file = make_file(arch, size, device, Path(folder))
            images = list(np.random.default_rng(0).random((3, batch, size, size, 3), np.float32))
            ours = measure(step_function(make_trainer(file, batch, device), images, device), steps)
            network = pytorch.TorchNetwork(file, "cpu")
            theirs = measure(pytorch.training_function(network, images, threads, "cpu", compiled=False), steps)
            apart = max(abs(a - b) / abs(b) for a, b in zip(ours[0], theirs[0], strict=True))
            failed += [arch] * (apart > TOLERANCE)
            rows += [
                [arch, who, f"{low:.1f}", f"{middle:.1f}", f"{apart:.1e}"]
                for who, (_, low, middle) in (("edgeae", ours), ("PyTorch", theirs))
            ]
    print("\n".join(table(["network", "in", "min ms", "median ms", "losses apart"], rows, right=range(2, 5))))
    if failed:
        sys.exit(f"the losses of {', '.join(failed)} differ from PyTorch's.")


if __name__ == "__main__":
    main()
