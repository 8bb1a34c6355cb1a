"""The run folder, which a training writes after each epoch. A stopped run loses at most the current epoch.

    config.json         the configuration of the network and of the training, and a record of the data (run_data.py)
    files.csv           part, name and digest of each image file of the data, if they are a folder
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeae._version import __version__
from edgeae.config import DataRecord, ModelConfig, TrainConfig
from edgeae.data.fingerprint import Member
from edgeae.errors import TrainingError
from edgeae.files import is_file, is_folder, write_bytes_atomic
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


def find_run(run: str | os.PathLike[str]) -> Path:
    """Return the run folder that a path means: the folder itself, or that of a file in it.

    Raises:
        TrainingError: there is no run.
    """
    path = Path(run)
    if is_file(path):
        if not is_file(path.parent / "config.json"):
            raise TrainingError(
                f"{path} lies in no run folder: there is no config.json beside it; begin a new run with `start` {path}."
            )
        return path.parent
    if is_folder(path) and not is_file(path / "config.json"):
        within = sorted(entry.parent for entry in path.glob("*/config.json"))[:3]
        hint = f"; it holds the runs {', '.join(map(str, within))}" if within else ""
        raise TrainingError(f"{run} holds no run to resume: there is no config.json in it{hint}.")
    if not is_folder(path):
        raise TrainingError(f"{run} holds no run to resume: it does not exist.")
    return path


def _read_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not {"model", "train"} <= document.keys():
        raise TrainingError(f"{path} is damaged; start a new run.")
    return path, document


def read_run(run: str | os.PathLike[str]) -> tuple[ModelConfig, TrainConfig]:
    """Read the configuration of a run.

    Args:
        run: its folder, or a file in it.

    Raises:
        TrainingError: there is no `config.json`, or a damaged one.
    """
    path, document = _read_config(find_run(run))
    return (
        ModelConfig.from_json(json.dumps(document["model"]), str(path), TrainingError),
        TrainConfig.from_json(json.dumps(document["train"]), str(path), TrainingError),
    )


def read_record(folder: Path) -> DataRecord | None:
    """Read what a run keeps of its data; None if a version before 0.2 made it.

    Raises:
        TrainingError: `config.json` is damaged.
    """
    path, document = _read_config(folder)
    if (record := document.get("data_record")) is None:
        return None
    return DataRecord.from_json(json.dumps(record), str(path), TrainingError)


def write_config(folder: Path, model: ModelConfig, settings: TrainConfig, record: DataRecord | None = None) -> None:
    """Write `config.json`, which `read_run` and `read_record` read."""
    document = {"model": asdict(model), "train": asdict(settings), "edgeae_version": __version__}
    if record is not None:
        document["data_record"] = asdict(record)
    write_bytes_atomic(folder / "config.json", (json.dumps(document, indent=2) + "\n").encode())


def write_files(folder: Path, members: Sequence[Member]) -> None:
    """Write files.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Member._fields, *members])
    write_bytes_atomic(folder / "files.csv", text.getvalue().encode(errors="surrogateescape"))


def read_files(folder: Path) -> list[Member]:
    """Read back what `write_files` wrote; nothing if it is missing or damaged."""
    try:
        with (folder / "files.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [Member(*row) for row in csv.reader(file)][1:]
    except (OSError, TypeError, csv.Error):
        return []


def best_row(rows: list[Row], after: int = 0) -> Row:
    """Return the row of the epoch whose weights are in best.safetensors: the first with the highest PSNR.

    Args:
        rows: of all epochs.
        after: an epoch; scores up to it are of other validation images, and count only if there are no later ones.
    """
    return max(rows[after:] or rows, key=lambda row: row["val_psnr"])


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
        raise TrainingError(f"{folder} cannot be written ({e.strerror}); choose another `run`, or copy it.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"another training writes to {folder}; wait for it or choose another `run`.") from None
        except OSError:  # some network file systems have no locks
            pass
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
