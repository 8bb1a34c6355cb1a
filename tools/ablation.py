"""Ablation: short trainings that each differ in one choice, written as models/ablation.md.

    python tools/ablation.py --data DATA [-o models] [--runs runs/ablation] [--epochs 20]

Faces of 64×64, as make_models.py gathers them. The network of the last epoch is scored, so that no epoch is chosen on
the validation images. A variant that already has scores is not trained again. Takes six minutes on two cores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import click
import make_models
import numpy as np
import score_models
from score_models import Measures
from score_tables import table
from tinygrad import Tensor

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import open_dataset
from edgeae.network import models
from edgeae.network.layers import Conv2d, Init, Layer, ResBlock, UpConv2d
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD
from edgeae.training.trainer import Trainer

SIZE = 64
KEYS = ("square, hole", "centre, hole", "undamaged", "sharpness")


# ---- alternatives, which are not in the package --------------------------------------------------------------------


class SilencingBlock(ResBlock):
    """A residual block with a ReLU after the sum."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x).relu()


class SilencingTrunk(models.ResidualAE):
    """A `residual` with a ReLU after each change of scale and after each block's sum."""

    def __init__(self, config: ModelConfig, init: Init) -> None:
        with mock.patch.object(models, "ResBlock", SilencingBlock):
            super().__init__(config, init)
        for layer in (*self.down, self.from_code, *self.up):
            layer.activation = "relu"


class FullResolution(models.ResidualAE):
    """The first shipped `residual`: 16 channels at full resolution, blocks at the ends only, and a sigmoid.

    The image is added as log-odds before the sigmoid.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = (16, 32, 64, 128)
        self.image_skips = True
        self.stem = Conv2d(3, widths[0], 3, init)
        self.down = [Conv2d(a, b, 4, init) for a, b in pairwise(widths)]
        self.gather, self.spread = [SilencingBlock(128, init)], [SilencingBlock(128, init)]
        self.to_code = Conv2d(128, config.code, 1, init, activation=None)
        self.from_code = Conv2d(config.code, 128, 3, init)
        self.up = [UpConv2d(b, a, init) for a, b in pairwise(widths)][::-1]
        self.merge = SilencingBlock(16, init)
        to_image = Conv2d(16, 3, 3, init, activation="sigmoid")
        self.to_image = to_image  # type: ignore[assignment] # the base class ends in a transposed convolution

    def features(self, x: Tensor) -> list[Tensor]:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        inside = x.clip(1e-3, 1 - 1e-3)
        return [skips.pop().sequential([*self.gather, self.to_code]), *skips[::-1], (inside / (1 - inside)).log()]

    def _decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        x = code.sequential([self.from_code, *self.spread])
        for up, skip in zip(self.up, skips, strict=False):
            x = up(x, add=skip)
        return self.to_image(self.merge(x), add=skips[-1])


class WithoutBlocks(models.ResidualAE):
    """A `residual` without blocks between the scales."""

    def __init__(self, config: ModelConfig, init: Init) -> None:
        super().__init__(config, init)
        self.before = self.after = [Identity() for _ in self.up]  # type: ignore[misc]


class Identity(Layer):
    """A layer that returns its input."""

    def __call__(self, x: Tensor) -> Tensor:
        return x


class PlainContext(models.ConvAE):
    """A `conv` with plain layers in place of its blocks."""

    def __init__(self, config: ModelConfig, init: Init) -> None:
        super().__init__(config, init)
        width = config.widths[-1]
        self.gather, self.spread = (  # type: ignore[assignment] # layers where the network has blocks
            [Conv2d(width, width, 3, init) for _ in range(2 * config.context)] for _ in range(2)
        )


Loss = Callable[[Tensor, Tensor, str], Tensor]


def with_edges(recon: Tensor, target: Tensor, kind: str) -> Tensor:
    """Squared error, plus half that of the differences between neighbouring pixels."""
    error = recon - target
    steps = (error[:, 1:] - error[:, :-1]).square().mean() + (error[:, :, 1:] - error[:, :, :-1]).square().mean()
    return error.square().mean() + 0.5 * steps


def hole_losses(
    self: models.Autoencoder, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None
) -> dict[str, Tensor]:
    """Squared error, with that of all pixels changed by the damage counted twice."""
    recon = self._decode(*self.features(x)) if isinstance(self, models.ResidualAE) else self.reconstruct(x)
    error = (recon - y).square()
    loss = error.mean() + (error * ((x - y).abs() > 1e-3)).mean()
    return {"loss": loss, "recon": error.mean()}


# ---- variants ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A training that differs in one choice from the first variant of its architecture.

    Attributes:
        name: for the table.
        arch: `conv` or `residual`.
        cls, loss: replacements of the network and of the reconstruction loss; None keeps them.
        hole: whether errors in holes count twice.
        averaged: whether the weights are averaged over the steps.
        model, train: changed sizes and settings.
    """

    name: str
    arch: str
    cls: type[models.Autoencoder] | None = None
    loss: Loss | None = None
    hole: bool = False
    averaged: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def patched(self) -> Iterator[None]:
        classes = models._CLASSES | ({self.arch: self.cls} if self.cls else {})
        with mock.patch.dict(models._CLASSES, classes):
            if self.loss:
                with mock.patch.object(models, "reconstruction_loss", self.loss):
                    yield
            elif self.hole:
                with mock.patch.object(classes[self.arch], "losses", hole_losses):
                    yield
            else:
                yield


VARIANTS = [
    Variant("`residual`, as shipped", "residual"),
    Variant("another seed", "residual", train={"seed": 1}),
    Variant("ReLU between scales and on sums", "residual", SilencingTrunk),
    Variant("no blocks between the scales", "residual", WithoutBlocks),
    Variant("image not added", "residual", model={"image_skip": False}),
    Variant("from full resolution, log-odds, no blocks between (former)", "residual", FullResolution),
    Variant("error of edges too", "residual", loss=with_edges),
    Variant("error in holes twice", "residual", hole=True),
    Variant("weights averaged, 0.998 a step", "residual", averaged=True),
    Variant("`conv`, as shipped", "conv"),
    Variant("plain layers for blocks (former)", "conv", PlainContext),
]


def train_and_score(variant: Variant, data: Path, run: Path, epochs: int) -> Measures:
    """Train a variant and score its last epoch."""
    model = ModelConfig.default(variant.arch, size=SIZE, **variant.model)
    recipe = make_models.RECIPES[f"faces-{variant.arch}"]
    path = run.parent / f"faces-{SIZE}.npz"
    if not path.exists():
        train, val = make_models.faces(data, SIZE)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, train=train, val=val)
    settings = TrainConfig(**{"data": str(path), **recipe.train, "epochs": epochs, **variant.train})
    clean = np.load(path)["val"].astype(np.float32) / 255
    with variant.patched(), TINYGRAD.turn, tinygrad_on("CPU"):
        trainer = Trainer(model, settings, open_dataset(settings.data, size=SIZE), ("CPU",))
        mean = trainer.weights()

        def average(step: int, loss: float) -> None:
            for name, value in trainer.weights().items():
                mean[name] += (1 - 0.998) * (value - mean[name])

        for epoch in range(epochs):
            trainer.run_epoch(epoch, average if variant.averaged else lambda step, loss: None)
        if variant.averaged:
            for name, value in mean.items():
                trainer.set_weight(name, value)
        undamaged = score_models.undamaged_measures(trainer.session, clean)
        return undamaged | score_models.hole_measures(clean, score_models.network_alone(trainer.session))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("models"))
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/ablation"))
@click.option("--epochs", type=int, default=20)
def main(data: Path, output: Path, runs: Path, epochs: int) -> None:
    runs.mkdir(parents=True, exist_ok=True)
    store = runs / f"scores-{epochs}.json"
    scores: dict[str, Measures] = json.loads(store.read_text()) if store.exists() else {}
    rows: list[list[str]] = []
    first: dict[str, Measures] = {}
    for variant in VARIANTS:
        name = f"{variant.arch}: {variant.name}"
        if name not in scores:
            scores[name] = train_and_score(variant, data, runs / "run", epochs)
            click.echo(f"{name}: {scores[name]}", err=True)
            store.write_text(json.dumps(scores))
        own = scores[name]
        base = first.setdefault(variant.arch, own)
        rows.append(
            [
                variant.name,
                *(f"{own[key]:.2f}" if own is base else f"{own[key] - base[key]:+.2f}" for key in KEYS),
            ]
        )
        (output / "ablation.md").write_text("\n".join(page(rows, epochs)), encoding="utf-8")


def page(rows: list[list[str]], epochs: int) -> list[str]:
    """Return the lines of the table so far."""
    return [
        "## What each choice bought",
        "",
        f"By `python tools/ablation.py`: faces of {SIZE}×{SIZE}, {epochs} epochs, one training each, the last "
        "epoch's network by itself. PSNR in dB and sharpness; below the first of each architecture the "
        "differences to it. What another seed changes tells how much of the others is chance.",
        "",
        *table(["", *KEYS], rows),
    ]


if __name__ == "__main__":
    main()
