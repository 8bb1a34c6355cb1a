"""Shared by denoise.py, colorize.py, align.py and segment.py: flags, training, and the picture of the result."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgeae
from edgeae.data.datasets import open_dataset
from edgeae.images.drawing.grids import comparison
from edgeae.images.files.array_io import write_image
from edgeae.training.evaluation import Trial
from edgeae.training.loop import Progress
from edgeae.training.run_folder import read_run

COLUMNS = 8  # images in a row of the picture

Rows = dict[str, np.ndarray]  # title of a row → its images (N, H, W, 3); column i shows the same image in each row


def flags(text: str | None, name: str, epochs: int, limit: int) -> argparse.ArgumentParser:
    """Return a parser with the flags that all four scripts have; `text` is the script's docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="faces", help="a folder of pictures; by default generated faces")
    parser.add_argument("--size", type=int, default=64, help="pixels a side in training (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=epochs, help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=limit, help="most pictures to use (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="the run folder (default: %(default)s)")
    parser.add_argument("--device", help="one that `edgeae devices` lists; by default the best")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def learn(
    model: edgeae.ModelConfig,
    settings: edgeae.TrainConfig,
    out: Path,
    device: str | None,
) -> tuple[edgeae.Session, Trial]:
    """Train a network, and return that of the best epoch and the validation images, damaged as training scored them.

    If `out` holds a run of the same settings, it is resumed; a finished run is not trained again.
    """

    def show_epoch(progress: Progress) -> None:
        if row := progress.row:
            print(
                f"epoch {progress.epoch}/{progress.epochs}  loss {row['loss']:.4f}  "
                f"validation PSNR {row['val_psnr']:.2f} dB  {progress.seconds_left:.0f} s left",
                file=sys.stderr,
            )

    resume = (out / "config.json").exists() and read_run(out) == (model, settings)
    edgeae.train(model, settings, out, device=device, resume=resume, on_progress=show_epoch)
    dataset = open_dataset(
        settings.data, size=model.size, targets=settings.targets, limit=settings.limit, seed=settings.seed
    )
    return edgeae.load(out / "best.safetensors", device), Trial.prepare(dataset.val, settings.corrupt, settings.seed)


def show(path: Path, rows: Rows) -> Rows:
    """Write a picture of the rows, print its path, and return the rows."""
    write_image(comparison([list(images[:COLUMNS]) for images in rows.values()], labels=list(rows)), path)
    print(path)
    return rows


def run(main: Callable[[], Rows]) -> None:
    """Run a script; an error of edgeae ends it with one sentence."""
    try:
        main()
    except edgeae.EdgeaeError as error:
        sys.exit(f"{error}")
