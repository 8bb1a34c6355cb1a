"""The run folder, which a training writes after each epoch. A stopped run loses at most the current epoch.

    config.json         the network's and the training's configuration
    last.safetensors    weights and optimizer state after the last epoch; written last, it completes the epoch
    best.safetensors    weights of the epoch with the highest validation PSNR
    metrics.csv         one row for each epoch, in COLUMNS
    preview.png         validation images: original, damaged, output
    curves.png          loss, PSNR and SSIM by epoch

Every file is written under another name and then renamed, so that none is ever half written.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgeae._version import __version__
from edgeae.config import ModelConfig, TrainConfig
from edgeae.errors import TrainingError
from edgeae.files import write_bytes_atomic
from edgeae.images.drawing.charts import Panel

COLUMNS = (
    "epoch",
    "lr",
    "beta",
    "loss",
    "recon",
    "kl",
    "val_mse",
    "val_psnr",
    "val_ssim",
    "val_hole_psnr",
    "val_sharpness",
    "damaged_psnr",
    "images_per_s",
)


Row = dict[str, float]


def read_run(run: str | os.PathLike[str]) -> tuple[ModelConfig, TrainConfig]:
    """Read the configuration of a run folder.

    Raises:
        TrainingError: the folder has no `config.json`, or a damaged one.
    """
    path = Path(run) / "config.json"
    try:
        document = json.loads(path.read_text())
        parts = [json.dumps(document[key]) for key in ("model", "train")]
    except FileNotFoundError:
        raise TrainingError(f"{run} holds no run to resume: there is no {path.name} in it.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise TrainingError(f"{path} is damaged; start a new run.") from None
    return ModelConfig.from_json(parts[0], str(path), TrainingError), TrainConfig.from_json(
        parts[1], str(path), TrainingError
    )


def write_config(folder: Path, model: ModelConfig, settings: TrainConfig) -> None:
    """Write `config.json`, which `read_run` reads."""
    document = {"model": asdict(model), "train": asdict(settings), "edgeae_version": __version__}
    write_bytes_atomic(folder / "config.json", (json.dumps(document, indent=2) + "\n").encode())


def best_row(rows: list[Row]) -> Row:
    """Return the row of the epoch whose weights are in best.safetensors: the first with the highest PSNR."""
    return max(rows, key=lambda row: row["val_psnr"])


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Create the folder and lock it against a second training.

    The operating system releases the lock when the process ends, however it ends.

    Raises:
        TrainingError: another process has the lock, or the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as e:
        raise TrainingError(f"{folder} cannot be written ({e.strerror}); choose another `run`.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(f"another training writes to {folder}; wait for it or choose another `run`.") from None
        for temporary in folder.glob(".edgeae-*.tmp"):  # of a training killed while it wrote
            temporary.unlink(missing_ok=True)
        yield


def curve_panels(rows: list[Row]) -> list[Panel]:
    """Return what curves.png shows."""

    def column(key: str) -> list[float]:
        return [row[key] for row in rows]

    panels = [
        Panel("reconstruction loss", {"training": column("recon")}),
        Panel(
            "PSNR, dB",
            {"output": column("val_psnr"), "damaged": column("damaged_psnr"), "hole": column("val_hole_psnr")},
        ),
        Panel("SSIM", {"output": column("val_ssim")}),
    ]
    if not all(math.isnan(value) for value in column("kl")):
        panels.append(Panel("KL, nats an image", {"training": column("kl")}))
    return [Panel(p.title, {name: ys for name, ys in p.series.items() if np.isfinite(ys).any()}) for p in panels]


def write_metrics(path: Path, rows: list[Row]) -> None:
    """Write metrics.csv; NaN is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow("" if math.isnan(row[key]) else repr(row[key]) for key in COLUMNS)
    write_bytes_atomic(path, text.getvalue().encode())


def read_metrics(path: Path) -> list[Row]:
    """Read back what `write_metrics` wrote.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    try:
        with path.open(newline="") as file:
            rows = [{key: float(row[key] or "nan") for key in COLUMNS} for row in csv.DictReader(file)]
        return [row | {"epoch": int(row["epoch"])} for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        raise TrainingError(f"{path} is missing or damaged; the run cannot be resumed without it.") from None
