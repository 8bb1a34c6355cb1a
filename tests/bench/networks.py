"""The networks that are measured, the reference net and the three that we ship, and their layers.

The reference net has 3×64×64 inputs, 4×4 convolutions of stride 2 to 32, 64 and 128 channels, and the same transposed
back; ReLU between, a sigmoid at the end. It has 331,075 parameters, and 73.4 MFLOP for an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import click
import numpy as np
from tinygrad import Tensor

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import Dataset, Report, Split
from edgeae.network import models
from edgeae.network.layers import Conv2d, Init, UpConv2d, as_float
from edgeae.network.models import Autoencoder
from edgeae.network.parameters import parameters
from edgeae.network.shipped import find_model
from edgeae.network.weight_file import read
from edgeae.runtime.kernels import graph
from edgeae.runtime.kernels.shapes import Shape
from edgeae.training.trainer import Trainer

DEVICE = "CPU"
NAMES = ("reference", "conv", "residual", "vae")
net_option = click.option(
    "--net",
    type=click.Choice([*NAMES, "all"]),
    default="all",
    show_default=True,
    help="The reference net, or the architecture of a shipped model.",
)


class ReferenceNet(Autoencoder):
    """A `ConvAE` with nothing at the code's scale."""

    def __init__(self, config: ModelConfig, init: Init) -> None:
        self.down = [Conv2d(a, b, 4, init) for a, b in pairwise((config.in_channels, *config.widths))]
        self.up = [UpConv2d(b, a, init) for a, b in pairwise(config.widths)][::-1]
        self.to_image = UpConv2d(config.widths[0], config.out_channels, init, activation="sigmoid")

    def encode(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H/8, W/8, 128)."""
        return x.sequential([*self.down])

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """(B, H/8, W/8, 128) → (B, H, W, C)."""
        return code.sequential([*self.up, self.to_image])


@dataclass(frozen=True)
class Net:
    """One of `NAMES`, and how it is trained."""

    name: str
    config: ModelConfig
    settings: TrainConfig

    @classmethod
    def of(cls, name: str, quick: bool = False) -> Net:
        """At full size, or with `quick` on 16×16 images. The shipped ones train as tools/make_models.py has them."""
        is_reference = name == "reference"
        batch = 64 if is_reference and not quick else 16
        decay = 0.0 if is_reference else 0.01  # without, AdamW is Adam
        widths = {"widths": (32, 64, 128)} if is_reference else {}
        return cls(
            name,
            ModelConfig.default("conv" if is_reference else name, size=16 if quick else 64, **widths),
            TrainConfig("random numbers", batch=batch, weight_decay=decay, beta=0.25, corrupt="none"),
        )

    def build(self, seed: int = 0) -> Autoencoder:
        """With random weights."""
        with self._classes():
            return models.build(self.config, DEVICE, seed)

    def load(self, as_stored: bool) -> Autoencoder:
        """With the shipped weights, in the form they are stored in or as float32. The reference net's are random."""
        if self.name == "reference":
            return self.build()
        model = read(find_model(f"faces-{self.name}")).build(DEVICE)
        for name, value, layer in [] if as_stored else list(parameters(model)):
            setattr(layer, name.rsplit(".", 1)[1], Tensor(as_float(value).numpy(), device=DEVICE))
        return model

    def trainer(self) -> Trainer:
        """What trains it, with data that fill one batch."""
        images = np.zeros((self.settings.batch, self.config.size, self.config.size, self.config.in_channels), np.uint8)
        split = Split(images, None, [""] * len(images))
        report = Report(self.settings.data, self.config.size, len(images), len(images))
        with self._classes():
            return Trainer(self.config, self.settings, Dataset(split, split, self.settings.data, report), (DEVICE,))

    @contextmanager
    def _classes(self) -> Iterator[None]:
        """The reference net in the place of `ConvAE`, if it is the one."""
        with patch.dict(models._CLASSES, {"conv": ReferenceNet} if self.name == "reference" else {}):
            yield


def chosen(option: str, quick: bool) -> list[Net]:
    """Those that `net_option` names."""
    return [Net.of(name, quick) for name in (NAMES if option == "all" else (option,))]


def draw_images(net: Net, batch: int, count: int) -> list[np.ndarray]:
    """`count` inputs of random numbers, float32 (batch, size, size, channels) in [0, 1)."""
    rng = np.random.default_rng(0)
    shape = (batch, net.config.size, net.config.size, net.config.in_channels)
    return [rng.random(shape, dtype=np.float32) for _ in range(count)]


@dataclass(frozen=True)
class Layer:
    """A convolution of a network."""

    shape: Shape
    activation: str | None
    add: bool
    nets: list[str] = field(default_factory=list, compare=False)

    def __str__(self) -> str:
        s = self.shape
        kind = "up" if s.up else f"/{s.stride}" if s.stride > 1 else ""
        added = " and add" if self.add else ""
        return f"{s.batch}×{s.height}×{s.width} {s.c_in:3}→{s.c_out:<3} {s.kernel}×{s.kernel}{kind}{added}"


def layers_of(nets: Sequence[Net]) -> list[Layer]:
    """Every different layer of the networks, at the batch they are trained with."""
    found: dict[Layer, Layer] = {}
    for net in nets:

        def record(
            x: Tensor,
            weight: Any,
            bias: Tensor,
            add: Tensor | None,
            activation: str | None,
            shape: Shape,
            name: str = net.name,
        ) -> None:
            layer = Layer(shape, activation, add is not None)
            names = found.setdefault(layer, layer).nets
            names += [] if name in names else [name]

        size = net.config.size
        images = Tensor.empty(net.settings.batch, size, size, net.config.in_channels, device=DEVICE)
        with patch.object(graph, "convolution", record):  # which gives None: nothing is computed
            net.build().reconstruct(images)
    return list(found)
