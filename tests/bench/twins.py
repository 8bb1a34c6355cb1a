"""The same networks in PyTorch, with the same weights, and their training step.

PyTorch is given each image as it likes it best, in the order of its `layout`: (B, C, H, W) in memory, or channels last.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeae.config import TrainConfig
from edgeae.network import layers
from edgeae.network.models import VAE, Autoencoder

Array = npt.NDArray[Any]
Layout = Literal["contiguous", "channels_last"]
LAYOUTS: tuple[Layout, ...] = ("contiguous", "channels_last")


def can_compile() -> bool:
    """Whether there is the C++ compiler that torch.compile needs."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def to_torch(x: Array, layout: Layout) -> Tensor:
    """(B, H, W, C) as a (B, C, H, W) tensor of a layout; channels last share the memory of `x`."""
    tensor = torch.from_numpy(x).permute(0, 3, 1, 2)
    return tensor.contiguous() if layout == "contiguous" else tensor


# ---- the layers --------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """One of ours: an operation, an addition and an activation."""

    def __init__(self, layer: layers.Conv2d | layers.UpConv2d | layers.Linear) -> None:
        super().__init__()
        weight = layers.as_float(layer.weight).numpy()
        self.activation = layer.activation
        self.operation: nn.Module
        if isinstance(layer, layers.Linear):
            weight = weight.T
            self.operation = nn.Linear(weight.shape[1], weight.shape[0])
        elif isinstance(layer, layers.UpConv2d):
            weight = weight.transpose(2, 3, 0, 1)
            self.operation = nn.ConvTranspose2d(*weight.shape[:2], 4, stride=2, padding=1)
        else:
            weight = weight.transpose(3, 2, 0, 1)
            c_out, c_in, k, _ = weight.shape
            self.operation = nn.Conv2d(c_in, c_out, k, stride=2 if k == 4 else 1, padding=0 if k == 1 else 1)
        self.operation.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(layer.bias.numpy())})

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        y = self.operation(x)
        if add is not None:
            y = y + add
        if self.activation is None:
            return y
        return y.relu() if self.activation == "relu" else y.sigmoid()


class ResBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, block: layers.ResBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = Layer(block.conv1), Layer(block.conv2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), add=x)


def _module(layer: Any) -> nn.Module:
    return ResBlock(layer) if isinstance(layer, layers.ResBlock) else Layer(layer)


# ---- the networks ------------------------------------------------------------------------------------------------


class Twin(nn.Module):
    """PyTorch's copy of one of our networks: the layers by the same names, a list of them as an `nn.Sequential`."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        for name, value in vars(model).items():
            if isinstance(value, list):
                setattr(self, name, nn.Sequential(*map(_module, value)))
            elif type(value).__module__ == layers.__name__:
                setattr(self, name, _module(value))

    def losses(self, x: Tensor, y: Tensor, beta: Tensor, noise: Tensor | None = None) -> Tensor:
        """As ours, the mean squared error; only the loss itself."""
        return functional.mse_loss(self(x), y)


class ReferenceTwin(Twin):
    """Of `ReferenceNet`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.to_image(self.up(self.down(x)))


class ConvTwin(Twin):
    """Of `ConvAE`."""

    def forward(self, x: Tensor) -> Tensor:
        code = self.to_code(self.gather(self.down(x)))
        return self.to_image(self.up(self.spread(self.from_code(code))))


class ResidualTwin(Twin):
    """Of `ResidualAE`, with its skip connections."""

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(x).clamp(0, 1)

    def decode(self, x: Tensor) -> Tensor:
        """The restored image, not yet kept in [0, 1]."""
        skips, y = [x], x
        for down, before in zip(self.down, self.before, strict=False):
            y = before(down(y))
            skips.append(y)
        y = self.spread(self.from_code(self.to_code(self.gather(self.down[-1](y)))))
        for up, after in zip(self.up, self.after, strict=True):
            y = after(up(y, add=skips.pop()))
        return self.to_image(y, add=skips.pop())

    def losses(self, x: Tensor, y: Tensor, beta: Tensor, noise: Tensor | None = None) -> Tensor:
        """Of the image as it is before it is kept in [0, 1]."""
        return functional.mse_loss(self.decode(x), y)


class VAETwin(Twin):
    """Of `VAE`."""

    def __init__(self, model: VAE) -> None:
        super().__init__(model)
        height, width, channels = self.grid = model._grid
        # We flatten (row, column, channel), PyTorch (channel, row, column).
        order = torch.arange(height * width * channels).reshape(height, width, channels).permute(2, 0, 1).flatten()
        with torch.no_grad():
            for layer in (self.to_mu, self.to_logvar):
                layer.operation.weight.copy_(layer.operation.weight[:, order].clone())
            for parameter in self.from_code.operation.parameters():
                parameter.copy_(parameter[order].clone())

    def decode(self, code: Tensor) -> Tensor:
        """(B, code) → (B, C, size, size)."""
        height, width, channels = self.grid
        return self.to_image(self.up(self.spread(self.from_code(code).reshape(-1, channels, height, width))))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.to_mu(self.gather(self.down(x)).flatten(1)))

    def losses(self, x: Tensor, y: Tensor, beta: Tensor, noise: Tensor | None = None) -> Tensor:
        """With the KL term; without `noise` it is drawn."""
        h = self.gather(self.down(x)).flatten(1)
        mu, logvar = self.to_mu(h), self.to_logvar(h)
        noise = torch.randn_like(mu) if noise is None else noise
        recon = functional.mse_loss(self.decode(mu + (0.5 * logvar).exp() * noise), y)
        kl = (-0.5 * (1 + logvar - mu.square() - logvar.exp())).sum(1).mean()
        return recon + beta * kl / math.prod(y.shape[1:])


_TWINS = {"ReferenceNet": ReferenceTwin, "ConvAE": ConvTwin, "ResidualAE": ResidualTwin, "VAE": VAETwin}


def twin(model: Autoencoder, layout: Layout) -> Twin:
    """PyTorch's copy of one of our networks, with weights of its own that begin as equal."""
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return _TWINS[type(model).__name__](model).to(memory_format=memory_format)


# ---- the training step -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TorchBatch:
    """A batch as a data loader would hand it over, in the order of the layout, and the noise of a VAE."""

    inputs: Tensor
    targets: Tensor
    noise: Tensor | None = None


class TorchTrainer:
    """The training step of training.Trainer in PyTorch: AdamW, no decay of the biases, loss and β as there."""

    def __init__(self, model: Autoencoder, settings: TrainConfig, layout: Layout, compiled: bool) -> None:
        network = twin(model, layout)
        named = list(network.named_parameters())
        groups = [
            {"params": [p for name, p in named if name.endswith("weight")], "weight_decay": settings.weight_decay},
            {"params": [p for name, p in named if not name.endswith("weight")], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=settings.lr, fused=True)  # the fastest of its three forms
        self._losses = torch.compile(network.losses, dynamic=False) if compiled else network.losses

    def step(self, batch: TorchBatch, lr: float, beta: float) -> float:
        """One step; returns the loss before it."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad()
        loss = self._losses(batch.inputs, batch.targets, torch.tensor(beta), batch.noise)
        loss.backward()
        self._optimizer.step()
        return float(loss.item())


def torch_batch(inputs: Array, targets: Array, noise: Array | None, layout: Layout) -> TorchBatch:
    """A batch of ours, (B, H, W, C), for `TorchTrainer.step`."""
    drawn = None if noise is None else torch.from_numpy(np.ascontiguousarray(noise))
    return TorchBatch(to_torch(inputs, layout), to_torch(targets, layout), drawn)
