"""Make the shipped models: train, quantize to int8, score, and write models/ with its README.

    python tools/make_models.py --faces FACES --photos PHOTOS [--only NAME] [-o models] [--runs runs/shipped]

FACES holds `train` and `val` folders of aligned faces (Face Research Lab London Set), PHOTOS likewise, by category
(Caltech-101). A run that was stopped is resumed; one that is complete is only exported again. About an hour on two
cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edgeae import training
from edgeae.config import ModelConfig, TrainConfig
from edgeae.data import open_dataset
from edgeae.evaluation import Scores, Trial, score
from edgeae.exporting import export
from edgeae.session import load
from edgeae.weights import describe

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
    "faces-residual": Recipe("residual", epochs=60, photos=240, corrupt="occlude"),
    "faces-conv": Recipe("conv", epochs=45, photos=240, corrupt="occlude"),
    "faces-vae": Recipe("vae", epochs=60, photos=0, corrupt="none", beta=0.25),
}


def gather(faces: Path, photos: Path, extra: int, size: int, path: Path) -> None:
    """Write one `.npz` with the training images of all sources, and the validation images of FACES alone."""
    main = open_dataset(faces, size=size)
    easy = open_dataset(photos / "train" / "Faces_easy", size=size, val_fraction=1).val
    parts = [main.train.inputs, main.train.inputs, easy.inputs]  # the aligned faces count twice
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


def mean_filled(trial: Trial) -> np.ndarray:
    """The damaged images with every hole filled with the mean colour of what is left: the least a model must beat."""
    filled = trial.inputs.copy()
    for image, hole in zip(filled, trial.mask, strict=True):
        if hole.any() and not hole.all():
            image[hole] = image[~hole].mean(axis=0)
    return filled


def write_readme(output: Path, faces: Path, device: str | None) -> None:
    """`models/README.md`: what each file was trained on, and its scores on validation faces beside the baselines."""
    lines = [
        "# Shipped models", "",
        "Made by `python tools/make_models.py`, int8. Load one by its name: `edgeae run -m faces-conv photo.jpg`.", "",
        "| model | architecture | parameters | code | bytes | trained on |", "|---|---|---|---|---|---|",
    ]
    names = sorted(path.stem for path in output.glob("*.safetensors"))
    found = {name: describe(output / f"{name}.safetensors") for name in names}
    for name, d in found.items():
        lines.append(f"| `{name}` | {d['architecture']} | {d['parameters']:,} | {d['code_size']:,} numbers, "
                     f"{d['compression_ratio']}:1 | {d['size_bytes']:,} | {d['train_data']} |")
    val = open_dataset(faces, size=64, val_fraction=1).val
    trial = Trial.prepare(val, "occlude", seed=0)
    lines += ["", "## Scores", "",
              f"{len(val)} validation faces of people not trained on, 64×64; the epoch that is shipped was chosen by "
              "its PSNR on them. PSNR is that of the mean squared error over all pixels of all images; sharpness is "
              "the amplitude of fine detail relative to the original "
              "(`edgeae.metrics.sharpness`), on undamaged input.", "",
              "| restoring `occlude` | PSNR, dB | in the holes | SSIM |", "|---|---|---|---|",
              _row("damaged", score(trial.inputs, trial.clean, trial.mask)),
              _row("mean-fill", score(mean_filled(trial), trial.clean, trial.mask))]
    clean = Trial.prepare(val, "none", seed=0)
    own: list[str] = []
    for name in names:
        session = load(output / f"{name}.safetensors", device)
        if session.config.arch != "vae":
            lines.append(_row(f"`{name}`", trial.evaluate(session.run_floats).output))
        s = clean.evaluate(session.run_floats).output
        own.append(f"| `{name}` | {s.psnr:.2f} | {s.ssim:.3f} | {s.sharpness:.3f} |")
    lines += ["", "| undamaged input | PSNR, dB | SSIM | sharpness |", "|---|---|---|---|", *own, "",
              "## Attribution", "", f"- {LONDON}, CC BY 4.0; cropped and resized.", f"- {CALTECH}, CC BY 4.0; resized.",
              "- The weights are under CC BY 4.0 likewise.", ""]
    (output / "README.md").write_text("\n".join(lines))


def _row(name: str, scores: Scores) -> str:
    return f"| {name} | {scores.psnr:.2f} | {scores.hole_psnr:.2f} | {scores.ssim:.3f} |"


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
        settings = TrainConfig(data=str(data), epochs=recipe.epochs, batch=16, corrupt=recipe.corrupt, beta=recipe.beta,
                               source=recipe.source, licence=LICENCE)
        click.echo(f"{name}: training", err=True)
        training.train(model, settings, runs / name, device=device, resume=(runs / name / "config.json").exists(),
                       on_progress=show)
        if not train_only:
            report = export(runs / name, output / f"{name}.safetensors", scheme="int8", device=device)
            click.echo(f"{report.path}: {report.size_bytes:,} bytes, {report.psnr_to_fp32:.1f} dB to fp32", err=True)
    if not train_only:
        write_readme(output, faces, device)


if __name__ == "__main__":
    main()
