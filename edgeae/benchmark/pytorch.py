"""The networks in PyTorch: inference, and the same training step as ours.

A network is made from the traces of its methods (network/tracing.py), so that what it computes is written down in
models.py alone. Tensors are (B, C, H, W) with the channels last in memory: the faster order for convolutions, and the
one that shares its memory with our arrays.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.benchmark.train_step import BETA, LEARNING_RATE, make_settings
from edgeae.network.layers import Layer, Linear, UpConv2d
from edgeae.network.models import build, kl_to_unit_gaussian, reconstruction_loss
from edgeae.network.parameters import layer_names, parameters
from edgeae.network.tracing import trace
from edgeae.network.weight_file import WeightFile
from edgeae.training.optimizer import BETAS, CLIP, EPSILON, MEMORY

Floats = npt.NDArray[np.float32]


def can_compile() -> bool:
    """Return whether the C++ compiler that `torch.compile` calls is there."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is not None


def to_torch(x: Floats) -> Any:
    """Return an array as a tensor that shares its memory: (B, H, W, C) as (B, C, H, W), vectors as they are."""
    import torch

    tensor = torch.from_numpy(x)
    return tensor.permute(0, 3, 1, 2) if x.ndim == 4 else tensor


def from_torch(x: Any) -> Floats:
    """Return a tensor as an array, (B, C, H, W) as (B, H, W, C)."""
    array: Floats = x.detach().cpu().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


class TorchNetwork:
    """A network of ours in PyTorch.

    Args:
        file: its weights.
        device: PyTorch's name, `cpu` or `cuda`.

    Attributes:
        config: the sizes of the network.
        parameters: tensors by our names, with their axes in PyTorch's order.
    """

    def __init__(self, file: WeightFile, device: str) -> None:
        import torch

        self.config, self._model, floats = file.config, build(file.config, "PYTHON"), file.floats()
        self.parameters: dict[str, Any] = {}
        for name, _, layer in parameters(self._model):
            order = torch.channels_last if floats[name].ndim == 4 else torch.contiguous_format
            value = torch.tensor(floats[name].transpose(_axes(layer, floats[name].ndim)), device=device)
            self.parameters[name] = value.contiguous(memory_format=order)

    def function(self, method: str, clip: bool = True) -> Callable[[Any], list[Any]]:
        """Return a method of the network as a function of a tensor.

        Args:
            method: `reconstruct`, `encode`, `decode` or `posterior`.
            clip: keep the image in [0, 1]. Training does not: a value outside would have no gradient.
        """
        import torch
        from torch.nn import functional

        config = self.config
        image = (config.size, config.size, config.in_channels)
        shape = config.code_shape(config.size, config.size) if method == "decode" else image
        traced = trace(getattr(self._model, method), (1, *shape))
        names = layer_names(self._model)
        layers = [
            (step, *(self.parameters[f"{names[id(step.layer)]}.{kind}"] for kind in ("weight", "bias")))
            for step in traced.steps
        ]
        activations = {"relu": torch.relu, "sigmoid": torch.sigmoid}

        def as_image(x: Any, shape: tuple[int, ...]) -> Any:  # a vector holds rows, columns and channels in this order
            return x if x.ndim == 4 else x.reshape(-1, *shape[1:]).permute(0, 3, 1, 2)

        def run(x: Any) -> list[Any]:
            values = [x]
            for step, weight, bias in layers:
                x, shape = values[step.x], step.shape
                if isinstance(step.layer, Linear):
                    y = functional.linear(x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x, weight, bias)
                elif shape.up:
                    y = functional.conv_transpose2d(as_image(x, shape.input), weight, bias, 2, 1)
                else:
                    y = functional.conv2d(as_image(x, shape.input), weight, bias, shape.stride, shape.padding)
                if step.add is not None:
                    y = y + as_image(values[step.add], shape.output)
                if step.layer.activation is not None:
                    y = activations[step.layer.activation](y)
                values.append(y.clamp(0, 1) if step.clipped and clip else y)
            return [values[number] for number in traced.outputs]

        return run


def _axes(layer: Layer, axes: int) -> tuple[int, ...]:
    """The axes of our weight, (ky, kx, in, out) or (in, out), in PyTorch's order; a bias has one."""
    if axes == 4:
        return (2, 3, 0, 1) if isinstance(layer, UpConv2d) else (3, 2, 0, 1)
    return tuple(reversed(range(axes)))


def inference_function(
    network: TorchNetwork, task: str, inputs: Sequence[Floats], threads: int, device: str, compiled: bool
) -> Callable[[int], Floats]:
    """Return a function of the call's number that runs a task on one of the inputs in turn."""
    import torch

    run, tensors = network.function(task), [to_torch(x) for x in inputs]
    run = _compile(run) if compiled else run

    def call(number: int) -> Floats:
        torch.set_num_threads(threads)  # of the whole process, so that cases with other numbers change it
        with torch.inference_mode():
            return from_torch(run(tensors[number % len(tensors)].to(device))[0])

    return call


def _compile(function: Callable[..., Any]) -> Any:
    import torch
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 1000  # past it, a function that many networks share would not be compiled
    return torch.compile(function, dynamic=False, fullgraph=True)


class TorchTrainer:
    """The training step of edgeae/training in PyTorch: the same losses, AdamW, and limit of the gradient's length.

    Args:
        network: its parameters are updated in place.
        compiled: whether `torch.compile` compiles the losses.
    """

    def __init__(self, network: TorchNetwork, batch: int, compiled: bool = False) -> None:
        import torch

        self._settings, self._config, self._model = make_settings(batch), network.config, network._model
        named = {name: value.requires_grad_() for name, value in network.parameters.items()}
        self._parameters = list(named.values())
        self._first = [value.detach().clone() for value in self._parameters]
        decays = {"weight": self._settings.weight_decay, "bias": 0.0}
        groups = [
            {"params": [value for name, value in named.items() if name.endswith(kind)], "weight_decay": decay}
            for kind, decay in decays.items()
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)
        self._loss = _compile(self._loss_function(network)) if compiled else self._loss_function(network)
        self._mean_norm, self._memory = torch.zeros((), device=self._first[0].device), 1.0

    def _loss_function(self, network: TorchNetwork) -> Callable[[Any, Any, Any], Any]:
        kind = self._settings.loss
        if network.config.arch != "vae":
            reconstruct = network.function("reconstruct", clip=False)
            return lambda x, y, noise: reconstruction_loss(reconstruct(x)[0], y, kind)
        posterior, decode = network.function("posterior"), network.function("decode")

        def loss(x: Any, y: Any, noise: Any) -> Any:
            mu, logvar = posterior(x)
            [recon] = decode(mu + (0.5 * logvar).exp() * noise)
            return reconstruction_loss(recon, y, kind) + BETA * kl_to_unit_gaussian(mu, logvar) / math.prod(y.shape[1:])

        return loss

    def step(self, number: int, x: Any, y: Any) -> float:
        """Train on a batch, and return the loss before. Step 0 starts from the first weights again."""
        import torch

        if number == 0:
            self._restart()
        counter = np.random.Philox(key=self._settings.seed, counter=(0, number, 0, 0))  # as Trainer draws it
        noise = self._model.draw_noise(np.random.Generator(counter), len(x), self._settings.skip_drop)
        self._optimizer.zero_grad()
        loss = self._loss(x, y, None if noise is None else torch.from_numpy(noise).to(x.device))
        loss.backward()
        self._limit_gradients()
        self._optimizer.step()
        return float(loss.item())

    def _restart(self) -> None:
        import torch

        with torch.no_grad():
            for value, first in zip(self._parameters, self._first, strict=True):
                value.copy_(first)
        self._optimizer.state.clear()
        self._mean_norm.zero_()
        self._memory = 1.0

    def _limit_gradients(self) -> None:
        """Shorten a gradient that is longer than CLIP times the running mean (training/optimizer.py)."""
        from torch.nn import utils

        norm = utils.get_total_norm([value.grad for value in self._parameters if value.grad is not None])
        if self._memory < 1:
            limit = CLIP * self._mean_norm / (1 - self._memory)
            utils.clip_grads_with_norm_(self._parameters, float(limit), norm)
            norm = norm.minimum(limit)
        self._mean_norm.mul_(MEMORY).add_((1 - MEMORY) * norm)
        self._memory *= MEMORY


def training_function(
    network: TorchNetwork, images: Sequence[Floats], threads: int, device: str, compiled: bool
) -> Callable[[int], float]:
    """Return a function of the step's number that trains on one of `images` in turn, and returns the loss before it."""
    import torch

    trainer, tensors = TorchTrainer(network, len(images[0]), compiled), [to_torch(x) for x in images]

    def step(number: int) -> float:
        torch.set_num_threads(threads)
        x = tensors[number % len(tensors)].to(device)
        return trainer.step(number, x, x)

    return step
