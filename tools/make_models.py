"""Make the shipped models: train, quantize to int8, score, and write models/ with its README.

    python tools/make_models.py --faces FACES --photos PHOTOS [--only NAME] [-o models] [--runs runs/shipped]

FACES holds `train` and `val` folders of aligned faces (Face Research Lab London Set), PHOTOS likewise, by category
(Caltech-101). A run that was stopped is resumed; one that is complete is only exported again. About an hour on two
cores.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edgeae import training
from edgeae.config import ModelConfig, TrainConfig
from edgeae.data import open_dataset

LICENCE = "CC BY 4.0"
LONDON = "Face Research Lab London Set (DeBruine and Jones 2017, doi 10.6084/m9.figshare.5047666.v5)"
CALTECH = "Caltech-101 (Li, Andreetto, Ranzato and Perona 2022)"


@dataclass(frozen=True)
class Recipe:
    """How one shipped model is trained; `photos` is how many images of everything join the faces."""

    arch: str
    epochs: int
    photos: int
    corrupt: str
    beta: float = 0.01

    @property
    def source(self) -> str:
        """The attribution."""
        return f"{LONDON}; {CALTECH}, " + ("faces and other photos" if self.photos else "faces")


RECIPES = {
    "faces-residual": Recipe("residual", epochs=60, photos=480, corrupt="occlude"),
    "faces-conv": Recipe("conv", epochs=80, photos=480, corrupt="occlude"),
    "faces-vae": Recipe("vae", epochs=160, photos=0, corrupt="none", beta=0.02),
}


def gather(faces: Path, photos: Path, extra: int, size: int, path: Path) -> None:
    """Write one `.npz` with the training images of all sources, and the validation images of FACES alone."""
    main = open_dataset(faces, size=size)
    easy = open_dataset(photos / "train" / "Faces_easy", size=size, val_fraction=1).val
    parts = [main.train.inputs, easy.inputs]
    if extra:
        parts.append(open_dataset(photos / "train", size=size, val_fraction=1, limit=extra, seed=1).val.inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, train=np.concatenate(parts), val=main.val.inputs)


def show(progress: training.Progress) -> None:
    """One line an epoch."""
    if progress.row:
        row = progress.row
        scores = " ".join(f"{key.removeprefix('val_')} {row[key]:.3f}" for key in row if key.startswith("val_"))
        click.echo(f"epoch {progress.epoch}/{progress.epochs} loss {row['loss']:.5f} kl {row['kl']:.1f} {scores} "
                   f"{row['images_per_s']:.0f} images/s, {progress.seconds_left / 60:.0f} min left", err=True)


@click.command(help=__doc__)
@click.option("--faces", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--photos", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), help="Make only these.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("models"))
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/shipped"))
@click.option("-d", "--device", default=None)
@click.option("--train-only", is_flag=True, help="Stop before the export.")
def main(faces: Path, photos: Path, only: tuple[str, ...], output: Path, runs: Path, device: str | None,
         train_only: bool) -> None:
    for name in only or RECIPES:
        recipe = RECIPES[name]
        model = ModelConfig.default(recipe.arch)
        data = runs / f"{name}.npz"
        if not data.exists():
            gather(faces, photos, recipe.photos, model.size, data)
        settings = TrainConfig(data=str(data), epochs=recipe.epochs, batch=32, corrupt=recipe.corrupt, beta=recipe.beta)
        click.echo(f"{name}: training", err=True)
        training.train(model, settings, runs / name, device=device, resume=(runs / name / "config.json").exists(),
                       source=recipe.source, licence=LICENCE, on_progress=show)
    if not train_only:
        sys.path.insert(0, str(Path(__file__).parent))
        from models_readme import export_all

        export_all(list(only or RECIPES), faces, runs, output, device)


if __name__ == "__main__":
    main()
