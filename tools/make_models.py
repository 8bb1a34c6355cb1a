"""Make the shipped models: train, quantize to int8, score, and write models/ with its README.

int4 files, fine-tuned for their rounding, are made too but stay in the run folders; the README has their scores.

    python tools/make_models.py --data DATA [--only NAME] [-o models] [--runs runs/shipped]

DATA holds `faces` (Face Research Lab London Set, aligned), `photos` (Caltech-101) and `digits` (MNIST), each with a
training and a validation split. A stopped run is resumed, a complete one only exported again. Takes about two hours on
two cores. Needs `pip install ".[peers,samples]"`, for the scores.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import score_tables

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import open_dataset
from edgeae.exporting.weights import export
from edgeae.training.loop import Progress, train

Images = npt.NDArray[np.uint8]

LONDON = "Face Research Lab London Set (DeBruine and Jones 2017, doi 10.6084/m9.figshare.5047666.v5)"
CALTECH = "Caltech-101 (Li, Andreetto, Ranzato and Perona 2022, doi 10.22002/D1.20086)"
MNIST = "MNIST (LeCun, Cortes and Burges 1998), handwritten digits"

HOLES = "none,scratch:0.02..0.1,pixels:0.1..0.5," + ",".join(["occlude:0.04..0.35"] * 3)
ALL = (
    "none,scratch:0.02..0.1+smear,pixels:0.1..0.5+smear,occlude:0.04..0.3,occlude:0.04..0.35+smear,"
    "occlude:0.04..0.35+smear,occlude:0.04..0.35+smear,noise:0.02..0.15,noise:0.08..0.12,jpeg:5..40,jpeg:8..15,"
    "jpeg:8..15,jpeg:8..15,gray,blur:0.3..1"
)

# For the last epochs: mostly JPEG, which gains most from a small learning rate.
MOSTLY_JPEG = (
    "none,scratch:0.02..0.1+smear,occlude:0.04..0.3,occlude:0.04..0.35+smear,noise:0.02..0.15,"
    "noise:0.08..0.12,jpeg:5..40,jpeg:8..15,jpeg:8..15,jpeg:8..15,jpeg:8..15,jpeg:8..15,gray,blur:0.3..1"
)


@dataclass(frozen=True)
class Recipe:
    """How one shipped model is made.

    Attributes:
        arch, model: architecture, and sizes of the network that differ from the default.
        data: folder of DATA.
        source, licence: written into the weight file.
        train: settings of the training.
        finish: changed settings of a second training from the best weights of the first; none if empty.
        tune, tune_int8: epochs of fine-tuning for int4 and for int8.
        standardize: folder of DATA to whose images the code of a vae is whitened.
    """

    arch: str
    data: str
    source: str
    licence: str
    model: dict[str, Any]
    train: dict[str, Any] = field(default_factory=dict)
    finish: dict[str, Any] = field(default_factory=dict)
    tune: int = 10
    tune_int8: int = 0
    standardize: str | None = None


RECIPES = {
    "faces-residual": Recipe(
        "residual",
        "faces",
        f"{LONDON}; {CALTECH}, faces",
        "CC BY 4.0",
        {"size": 128},
        {"epochs": 125, "batch": 16, "lr": 1.5e-3, "corrupt": HOLES},
        tune_int8=3,
    ),
    "faces-conv": Recipe(
        "conv",
        "faces",
        f"{LONDON}; {CALTECH}, faces",
        "CC BY 4.0",
        {"size": 128},
        {"epochs": 100, "batch": 16, "lr": 1.5e-3, "corrupt": HOLES},
        tune_int8=3,
    ),
    "faces-vae": Recipe(
        "vae",
        "faces",
        f"{LONDON}; {CALTECH}, faces",
        "CC BY 4.0",
        {"size": 64},
        {"epochs": 200, "batch": 16, "lr": 1e-3, "beta": 0.05, "corrupt": "none", "zoom": 0.95, "blend": 0.5},
        standardize="faces",
    ),
    "photos-residual": Recipe(
        "residual",
        "photos",
        CALTECH,
        "CC BY 4.0",
        {"size": 64},
        {"epochs": 70, "batch": 16, "lr": 1e-3, "warmup": 0.01, "crop_from": 128, "corrupt": ALL},
        {"epochs": 12, "lr": 5e-4, "corrupt": MOSTLY_JPEG},
        tune=2,
    ),
    "photos-conv": Recipe(
        "conv",
        "photos",
        CALTECH,
        "CC BY 4.0",
        {"size": 64},
        {"epochs": 15, "batch": 16, "lr": 1e-3, "warmup": 0.01, "crop_from": 128, "corrupt": ALL},
        tune=1,
    ),
    "digits-vae": Recipe(
        "vae",
        "digits",
        MNIST,
        "CC BY-SA 3.0",
        {"size": 28, "in_channels": 1, "out_channels": 1, "widths": (32, 64), "code": 20, "context": 1},
        {
            "epochs": 12,
            "batch": 128,
            "lr": 2e-3,
            "loss": "bce",
            "beta": 1.0,
            "beta_warmup": 0.0,
            "corrupt": "none",
            "augment": False,
        },
        tune=3,
        tune_int8=3,
    ),
}


def faces(data: Path, size: int) -> tuple[Images, Images]:
    """Return training faces, the aligned ones three times, and validation faces, all aligned, (N, size, size, 3)."""
    aligned = open_dataset(data / "faces", size=size)
    easy = open_dataset(data / "photos" / "train" / "Faces_easy", size=size, val_fraction=1).val
    return np.concatenate([aligned.train.inputs] * 3 + [easy.inputs]), aligned.val.inputs


def source_of(recipe: Recipe, data: Path, runs: Path) -> Path:
    """Return what the run trains on: a folder of DATA, or a file made of several."""
    if recipe.data != "faces":
        return data / recipe.data
    path = runs / f"faces-{recipe.model['size']}.npz"
    if not path.exists():
        train, val = faces(data, recipe.model["size"])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, train=train, val=val)
    return path


def show(progress: Progress) -> None:
    """Print one line for each epoch."""
    if progress.row:
        row = progress.row
        scores = " ".join(f"{key.removeprefix('val_')} {row[key]:.3f}" for key in row if key.startswith("val_"))
        click.echo(
            f"epoch {progress.epoch}/{progress.epochs} loss {row['loss']:.5f} kl {row['kl']:.1f} {scores} "
            f"{row['images_per_s']:.0f} images/s, {progress.seconds_left / 60:.0f} min left",
            err=True,
        )


def make(name: str, data: Path, runs: Path, output: Path, device: str | None) -> None:
    """Train one model, or resume its training, and write its file and its curves."""
    recipe, run = RECIPES[name], runs / name
    model = ModelConfig.default(recipe.arch, **recipe.model)
    settings = TrainConfig(
        data=str(source_of(recipe, data, runs)), source=recipe.source, licence=recipe.licence, **recipe.train
    )
    click.echo(f"{name}: training", err=True)
    train(model, settings, run, device=device, resume=(run / "config.json").exists(), on_progress=show)
    if recipe.finish:
        settings = replace(settings, start=str(run / "best.safetensors"), **recipe.finish)
        run = runs / f"{name}-finish"
        train(model, settings, run, device=device, resume=(run / "config.json").exists(), on_progress=show)
    standardize = str(data / recipe.standardize) if recipe.standardize else None
    report = export(
        run,
        output / f"{name}.safetensors",
        scheme="int8",
        device=device,
        standardize=standardize,
        tune=recipe.tune_int8,
    )
    click.echo(f"{report.path}: {report.size_bytes:,} bytes, {report.psnr_to_fp32:.1f} dB to fp32", err=True)
    if not (int4 := run / "int4.safetensors").exists():
        tuned = export(run, int4, scheme="int4", device=device, tune=recipe.tune, standardize=standardize)
        click.echo(f"{int4}: {tuned.size_bytes:,} bytes, {tuned.psnr_to_fp32:.1f} dB to fp32", err=True)
    (output / "curves").mkdir(exist_ok=True)
    for folder in {runs / name, run}:
        shutil.copyfile(folder / "metrics.csv", output / "curves" / f"{folder.name}.csv")
        shutil.copyfile(folder / "curves.png", output / "curves" / f"{folder.name}.png")


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), help="Make only these.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("models"))
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/shipped"))
@click.option("-d", "--device", default=None)
@click.option("--scores/--no-scores", default=True, help="Write the README with its tables.")
def main(data: Path, only: tuple[str, ...], output: Path, runs: Path, device: str | None, scores: bool) -> None:
    for name in only or RECIPES:
        make(name, data, runs, output, device)
    if scores:
        score_tables.write_readme(output, data, runs, device)


if __name__ == "__main__":
    main()
