"""The networks in PyTorch: the training step is ours."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import FileFactory

from edgeae.benchmark.train_step import make_trainer, step_function
from edgeae.network.weight_file import read

torch = pytest.importorskip("torch")

from edgeae.benchmark import pytorch  # noqa: E402


def test_the_training_step_is_ours(
    arch: str, device: str, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same losses and weights, with a limit so low that every gradient but the first is shortened."""
    monkeypatch.setattr("edgeae.training.optimizer.CLIP", 0.5)
    monkeypatch.setattr(pytorch, "CLIP", 0.5)
    file = read(tiny_file(arch, context=1))
    images = list(np.random.default_rng(0).random((3, 2, file.config.size, file.config.size, 3), np.float32))
    trainer = make_trainer(file, 2, device)
    step = step_function(trainer, images, device)
    losses = [step(number) for number in range(3)]
    expected = pytorch.TorchNetwork(replace(file, tensors=trainer.weights()), "cpu").parameters

    def train(limited: bool) -> tuple[list[float], float]:
        """Losses, and how far the weights are from ours in shares of the way that ours went."""
        network = pytorch.TorchNetwork(file, "cpu")
        first = {name: value.clone() for name, value in network.parameters.items()}
        if not limited:
            monkeypatch.setattr(pytorch.TorchTrainer, "_limit_gradients", lambda self: None)
        run = pytorch.training_function(network, images, 1, "cpu", compiled=False)
        run(0)  # starts again with the next step 0
        found = [run(number) for number in range(3)]
        with torch.no_grad():
            off, way = (
                sum(float((expected[name] - values[name]).abs().sum()) for name in expected)
                for values in (network.parameters, first)
            )
        return found, off / way

    found, off = train(limited=True)
    assert found == pytest.approx(losses, rel=1e-4)
    assert off < 1e-3
    assert train(limited=False)[1] > 1e-2
