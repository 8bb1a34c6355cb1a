"""From a checkpoint to a file for a device: quantized, measured against fp32, and with its golden input."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeae._version import __version__
from edgeae.config import ModelConfig
from edgeae.data.batches import open_dataset, open_run
from edgeae.errors import DataError, UsageError, WeightsError
from edgeae.images import arrays as imaging
from edgeae.images import metrics
from edgeae.images.scores import Scores, score
from edgeae.inference import golden
from edgeae.inference.load import open_session
from edgeae.inference.session import Session
from edgeae.network import quantize
from edgeae.network import weight_file as weights
from edgeae.network.weight_file import WeightFile
from edgeae.runtime import devices
from edgeae.training.evaluation import MAX_VALIDATION_IMAGES, Trial
from edgeae.training.run_folder import read_run


@dataclass(frozen=True)
class TensorReport:
    """What quantization did to one tensor: bytes before and after, and the largest error of any value."""

    name: str
    shape: tuple[int, ...]
    fp32_bytes: int
    size_bytes: int
    largest_error: float


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote.

    Attributes:
        path, quantize, size_bytes: the file.
        fp32_bytes: size of the same weights in fp32.
        tensors: one report a tensor.
        data, images: the validation images that the scores are from.
        psnr_to_fp32, ssim_to_fp32: of the outputs against those of the fp32 network; inf and 1 where they are equal.
        fp32, exported: scores of both against the clean images.
    """

    path: str
    quantize: str
    size_bytes: int
    fp32_bytes: int
    tensors: list[TensorReport]
    data: str
    images: int
    psnr_to_fp32: float
    ssim_to_fp32: float
    fp32: Scores
    exported: Scores


def export(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    scheme: str = "none",
    data: str | None = None,
    device: str | None = None,
    licence: str | None = None,
    standardize: str | None = None,
    tune: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> ExportReport:
    """Write the network of a checkpoint as a self-describing file for inference.

    Args:
        checkpoint: a fp32 weight file, or a run folder, whose best weights are taken.
        output: the `.safetensors` file to write.
        scheme: `none`, `fp16`, `int8` or `int4` (quantize.py).
        data: images to measure on (see open_dataset), of data with a validation split that split; by default the
            validation images of the run that the checkpoint lies in, else generated faces.
        device: where to measure, and whose output the golden input's is.
        licence: written into the file in place of the checkpoint's.
        standardize: images (see open_dataset; of data with a training split that split) whose codes in a `vae` become
            those of the unit Gaussian, for `sample` (standard.py).
        tune: epochs to train on with rounded weights (tuning.py); the checkpoint must lie in its run folder.
        on_epoch: called after each of them with its number and the PSNR on the validation images; 0 before the first.

    Raises:
        WeightsError: the checkpoint cannot be read, or is quantized already.
        UsageError: unknown scheme, or an output of another suffix.
        DataError: the data cannot be used, or are no targets for this network.
    """
    quantize.check_scheme(scheme)
    if Path(output).suffix != ".safetensors":
        raise UsageError(f"{output}: a weight file's name ends in .safetensors.")
    path = Path(checkpoint)
    source = weights.read(path / "best.safetensors" if path.is_dir() else path)
    if source.scheme != "none":
        raise WeightsError(f"{source.path} is quantized already ({source.scheme}); export from the fp32 checkpoint.")
    trial, data_name = _trial(source, data)
    floats = source.floats()
    kept = floats if standardize is None else _standardized(floats, source.config, standardize, device)
    kept = kept if tune == 0 else _tuned(kept, source, scheme, tune, device, on_epoch)
    packed: dict[str, weights.Array] = {}
    reports = []
    for name, value in kept.items():
        stored = quantize.pack(name, value, scheme)
        error = np.abs(quantize.unpack(name, stored, value.shape, scheme) - value).max()
        size = sum(tensor.nbytes for tensor in stored.values())
        reports.append(TensorReport(name, value.shape, value.nbytes, size, float(error)))
        packed |= stored

    name = devices.resolve(device)
    changes = {"quantize": scheme, "edgeae_version": __version__} | ({"licence": licence} if licence else {})
    exported = replace(source, path=Path(output), metadata=source.metadata | changes, tensors=packed)
    before, _ = _run(replace(source, tensors=floats), name, trial)
    after, session = _run(exported, name, trial)
    scores = score(after, trial.clean, trial.mask)
    metadata = exported.metadata | {
        "psnr": f"{scores.psnr:.3f}",
        "ssim": f"{scores.ssim:.4f}",
        "golden": golden.make_golden(session),
    }
    size = weights.write(output, packed, metadata)
    same = np.array_equal(before, after)
    return ExportReport(
        path=str(output),
        quantize=scheme,
        size_bytes=size,
        fp32_bytes=sum(value.nbytes for value in floats.values()),
        tensors=reports,
        data=data_name,
        images=len(trial.inputs),
        psnr_to_fp32=math.inf if same else metrics.pooled_psnr(after, before),
        ssim_to_fp32=1.0 if same else float(np.mean(metrics.ssim(after, before))),
        fp32=score(before, trial.clean, trial.mask),
        exported=scores,
    )


def _standardized(
    floats: Mapping[str, weights.Array], config: ModelConfig, data: str, device: str | None
) -> dict[str, weights.Array]:
    from edgeae.exporting.whiten import standardized

    images = open_dataset(data, size=config.size, channels=config.in_channels).train.inputs
    return standardized(floats, config, imaging.to_float(images), devices.resolve(device))


def _tuned(
    floats: Mapping[str, weights.Array],
    source: WeightFile,
    scheme: str,
    epochs: int,
    device: str | None,
    on_epoch: Callable[[int, float], None] | None,
) -> dict[str, weights.Array]:
    from edgeae.exporting.tune import tuned

    folder = source.path.parent
    if scheme not in ("int8", "int4"):
        raise UsageError(f"tuning is for weights of int8 or int4, not {scheme!r}.")
    if not (folder / "config.json").exists():
        raise UsageError(f"{source.path} does not lie in its run folder, which names the data to tune on.")
    model, settings = read_run(folder)
    return tuned(
        floats, replace(model, out_channels=source.config.out_channels), settings, scheme, epochs, device, on_epoch
    )


def _run(file: WeightFile, device: str, trial: Trial) -> tuple[npt.NDArray[np.float32], Session]:
    session = open_session(file, device, batch=32)
    return session.run_floats(trial.inputs), session


def _trial(file: WeightFile, data: str | None) -> tuple[Trial, str]:
    """The validation images to measure on, damaged as the network was trained to undo."""
    task = file.metadata.get("task", "none")
    config = file.config
    seed = 0
    if data is None and (file.path.parent / "config.json").exists():
        _, settings = read_run(file.path.parent)
        dataset = open_run(config, settings)
        seed = settings.seed
    elif task == "image-to-image":
        raise DataError(
            f"{file.path} was trained on pairs of images, which its run folder names: export it from "
            "there, without --data."
        )
    else:
        dataset = open_dataset(
            data or "faces", size=config.size, channels=config.in_channels, limit=MAX_VALIDATION_IMAGES, val_fraction=1
        )
    trial = Trial.prepare(dataset.val, "none" if task == "image-to-image" else task, seed, MAX_VALIDATION_IMAGES)
    if trial.clean.shape[-1] != config.out_channels:
        raise DataError(f"{dataset.name} has no targets of {config.out_channels} channels; export from the run folder.")
    return trial, dataset.name
