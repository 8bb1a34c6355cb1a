"""What an epoch writes to the run folder, and how a run continues from it.

`last.safetensors` holds weights and optimizer state and is written last: it completes the epoch.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeae._version import __version__
from edgeae.config import IMAGE_TO_IMAGE, ModelConfig
from edgeae.errors import TrainingError
from edgeae.images.drawing.charts import draw_curves
from edgeae.images.drawing.grids import comparison
from edgeae.images.files.array_io import write_image
from edgeae.inference.golden import make_golden
from edgeae.network import weight_file
from edgeae.network.shipped import find_model
from edgeae.network.weight_file import WeightFile
from edgeae.runtime.turns import TINYGRAD
from edgeae.training.run_folder import Row, best_row, curve_panels, read_metrics, write_metrics
from edgeae.training.trainer import Trainer

PREVIEW_IMAGES = 8


def save(trainer: Trainer, folder: Path, rows: list[Row], best_after: int = 0) -> None:
    """Write the files of an epoch that was just validated; the last of `rows` describes it.

    Args:
        best_after: see `run_folder.best_row`.
    """
    row = rows[-1]
    metadata = make_metadata(trainer, row)
    if row is best_row(rows, best_after):
        golden = {"golden": make_golden(trainer.session)}
        weight_file.write(folder / "best.safetensors", trainer.weights(), metadata | golden)
    write_metrics(folder / "metrics.csv", rows)
    write_image(draw_curves(curve_panels(rows), [row["epoch"] for row in rows]), folder / "curves.png")
    _write_preview(trainer, folder / "preview.png")
    with TINYGRAD.turn, trainer.inside_tinygrad():
        state = {name: value.numpy() for name, value in trainer.state().items()}
    weight_file.write(folder / "last.safetensors", state, metadata)


def make_metadata(trainer: Trainer, row: Row) -> dict[str, str]:
    """Return the metadata of a run's weight files after the epoch of `row`; see `weight_file` for the keys."""
    settings = trainer.settings
    return {
        "format_version": weight_file.FORMAT_VERSION,
        "edgeae_version": __version__,
        "tinygrad_version": importlib.metadata.version("tinygrad"),
        "arch": trainer.config.arch,
        "config": trainer.config.to_json(),
        "quantize": "none",
        "task": trainer.trial.corrupt if settings.targets is None else IMAGE_TO_IMAGE,
        "train_data": settings.source or trainer.dataset.name,
        "licence": settings.licence,
        "seed": str(settings.seed),
        "epoch": str(int(row["epoch"])),
        "psnr": f"{row['val_psnr']:.3f}",
        "ssim": f"{row['val_ssim']:.4f}",
    }


def _write_preview(trainer: Trainer, path: Path) -> None:
    """One row for each of the first validation images."""
    trial, output = trainer.trial, trainer.restored
    columns = {"original": trial.clean, "damaged": trial.inputs, "output": output}
    if trainer.settings.targets is not None:
        columns = {"input": trial.inputs, "target": trial.clean, "output": output}
    rows = [list(row) for row in zip(*columns.values(), strict=True)][:PREVIEW_IMAGES]
    write_image(comparison(rows, list(columns)), path)


def read_last(folder: Path, model: ModelConfig) -> tuple[WeightFile | None, list[Row]]:
    """Read the last epoch of a run folder.

    Args:
        folder: of the run.
        model: the network that config.json describes.

    Returns:
        last.safetensors, and the rows of metrics up to its epoch; None and no rows if the run was stopped in its first
        epoch.

    Raises:
        TrainingError: the files belong to another network, or not to each other.
        WeightsError: last.safetensors is damaged.
    """
    path = folder / "last.safetensors"
    if not path.exists():
        return None, []
    file = weight_file.read(path)
    if file.config != model:
        raise TrainingError(f"{path} does not belong to this run: it holds another network than config.json says.")
    done = file.metadata.get("epoch", "")
    scored = read_metrics(folder / "metrics.csv")
    rows = scored[: int(done) if done.isdecimal() else 0]
    if not rows or [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or str(len(rows)) != done:
        raise TrainingError(f"{folder / 'metrics.csv'} does not hold the epochs of {path.name}; start a new run.")
    if file.metadata.get("psnr") not in {f"{row['val_psnr']:.3f}" for row in scored}:
        raise TrainingError(f"{path} does not belong to this run: metrics.csv has no epoch of its score.")
    return file, rows


def restore(trainer: Trainer, folder: Path) -> list[Row]:
    """Load weights and optimizer state from a run folder.

    Returns:
        The rows of metrics up to that epoch; none if the run was stopped in its first epoch.

    Raises:
        TrainingError: the files belong to another network, or not to each other.
        WeightsError: last.safetensors is damaged.
    """
    file, rows = read_last(folder, trainer.config)
    if file is None:
        return []
    state = trainer.state()
    for name, tensor in state.items():
        stored = file.tensors.get(name)
        if stored is None or stored.shape != tensor.shape or stored.dtype != np.float32:
            raise TrainingError(f"{file.path} does not belong to this run: {name} is missing or has another shape.")
    trainer.load({name: file.tensors[name] for name in state})
    return rows


def load_start(trainer: Trainer, model: str) -> None:
    """Load the weights that a run begins with, from a weight file of any quantization or a shipped model.

    Raises:
        TrainingError: the file holds another network.
    """
    file = weight_file.read(find_model(model))
    if replace(file.config, size=trainer.config.size) != trainer.config:
        raise TrainingError(f"{model} cannot be the start: it is another network, {file.config.to_json()}.")
    trainer.load(file.floats())
