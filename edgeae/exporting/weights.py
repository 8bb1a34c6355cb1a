"""Export a checkpoint as a weight file: quantized, scored against float32, with a golden input and output."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeae._version import __version__
from edgeae.config import IMAGE_TO_IMAGE, ModelConfig, task_of
from edgeae.data.datasets import open_dataset
from edgeae.errors import DataError, UsageError, WeightsError
from edgeae.exporting.tune import tune as tune_rounded
from edgeae.exporting.whiten import require_gaussian, whiten
from edgeae.images.arrays import to_float
from edgeae.images.metrics import pooled_psnr, ssim
from edgeae.images.scores import Scores, score
from edgeae.inference.golden import make_golden
from edgeae.inference.load import open_session
from edgeae.inference.session import Session
from edgeae.network import quantize, weight_file
from edgeae.network.weight_file import Array, WeightFile
from edgeae.runtime import devices
from edgeae.training.evaluation import MAX_VALIDATION_IMAGES, Trial
from edgeae.training.run_data import locate, reopen
from edgeae.training.run_folder import read_record, read_run


@dataclass(frozen=True)
class TensorReport:
    """What quantization did to one tensor.

    Attributes:
        name, shape: of the tensor.
        fp32_bytes, size_bytes: before and after, scales included.
        largest_error: largest absolute difference of any value.
    """

    name: str
    shape: tuple[int, ...]
    fp32_bytes: int
    size_bytes: int
    largest_error: float


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote.

    Attributes:
        path, quantize, size_bytes: the file and its quantization scheme.
        fp32_bytes: size of the same weights in float32.
        tensors: one report for each tensor.
        data, images: name and number of the images that the scores are from.
        psnr_to_fp32, ssim_to_fp32: of the file's outputs against those of the original, PSNR in dB; inf and 1 if equal.
        fp32, exported: scores of the original's and of the file's outputs against the clean images.
        notes: sentences for the user.
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
    notes: tuple[str, ...] = ()


def export(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    scheme: str = "none",
    data: str | None = None,
    targets: str | None = None,
    device: str | None = None,
    licence: str | None = None,
    standardize: str | None = None,
    tune: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> ExportReport:
    """Write the network of a checkpoint as a self-describing weight file, and compare it with the original.

    Args:
        checkpoint: an unquantized weight file, or a run folder, whose best weights are used.
        output: the file to write; its name must end in `.safetensors`.
        scheme: storage of the weights: `none` (float32), `fp16`, `int8` or `int4`.
        data: images to score on, see `open_dataset`; if they have a validation split, that split. None uses the
            validation images of the run that the checkpoint lies in, or else generated faces.
        targets: folder or array file of the wanted outputs for `data`, for a model of pairs.
        device: tinygrad device to score and tune on, whose output is also stored as the golden output; None chooses
            the best one.
        licence: written into the file instead of the checkpoint's.
        standardize: images whose codes in a `vae` are transformed to mean 0 and covariance 1, so that `sample` draws
            images like them; if they have a training split, that split. None leaves the code as it is. See `whiten`.
        tune: epochs of further training with rounded weights, 0 for none; for `int8` and `int4`, with the checkpoint in
            its run folder. See `tune`.
        on_epoch: called with the number of each tuning epoch and the PSNR in dB on the validation images; 0 is before
            the first.

    Returns:
        Sizes, the error of each tensor, and the scores of the original and of the file.

    Raises:
        WeightsError: the checkpoint cannot be read, or is already quantized.
        UsageError: an unknown scheme, an output with another suffix, a network that cannot be standardized, or
            `tune` without a run folder or for another scheme.
        DataError: the data cannot be used, or have no targets for this network.
        TrainingError: the run folder's configuration is damaged, or tuning diverged.
        EdgeaeError: the output cannot be written.
    """
    quantize.check_scheme(scheme)
    if Path(output).suffix != ".safetensors":
        raise UsageError(f"{output}: a weight file's name ends in .safetensors.")
    path = Path(checkpoint)
    source = weight_file.read(path / "best.safetensors" if path.is_dir() else path)
    if source.scheme != "none":
        raise WeightsError(f"{source.path} is quantized already ({source.scheme}); export from the fp32 checkpoint.")
    if standardize is not None:
        require_gaussian(source.config)  # before images are read or made
    trial, data_name, note = _open_trial(source, data, targets)
    original = source.floats()
    floats = original if standardize is None else _whiten(original, source.config, standardize, device)
    if tune:
        floats = _tune(floats, source, scheme, tune, device, on_epoch)
    packed, tensors = _pack(floats, scheme)

    name = devices.resolve(device)
    changes = {"quantize": scheme, "edgeae_version": __version__} | ({"licence": licence} if licence else {})
    exported = replace(source, path=Path(output), metadata=source.metadata | changes, tensors=packed)
    before, _ = _run(replace(source, tensors=original), name, trial)
    after, session = _run(exported, name, trial)
    scores = score(after, trial.clean, trial.mask)
    metadata = exported.metadata | {
        "psnr": f"{scores.psnr:.3f}",
        "ssim": f"{scores.ssim:.4f}",
        "golden": make_golden(session),
    }
    size_bytes = weight_file.write(output, packed, metadata)
    equal = np.array_equal(before, after)
    return ExportReport(
        path=str(output),
        quantize=scheme,
        size_bytes=size_bytes,
        fp32_bytes=sum(value.nbytes for value in original.values()),
        tensors=tensors,
        data=data_name,
        images=len(trial.inputs),
        psnr_to_fp32=math.inf if equal else pooled_psnr(after, before),
        ssim_to_fp32=1.0 if equal else float(np.mean(ssim(after, before))),
        fp32=score(before, trial.clean, trial.mask),
        exported=scores,
        notes=(note,) if note else (),
    )


def _pack(floats: Mapping[str, Array], scheme: str) -> tuple[dict[str, Array], list[TensorReport]]:
    """The tensors of the file, and what quantization did to each."""
    packed: dict[str, Array] = {}
    reports = []
    for name, value in floats.items():
        stored = quantize.pack(name, value, scheme)
        error = np.abs(quantize.unpack(name, stored, value.shape, scheme) - value).max()
        size_bytes = sum(tensor.nbytes for tensor in stored.values())
        reports.append(TensorReport(name, value.shape, value.nbytes, size_bytes, float(error)))
        packed |= stored
    return packed, reports


def _whiten(floats: Mapping[str, Array], config: ModelConfig, data: str, device: str | None) -> dict[str, Array]:
    images = open_dataset(data, size=config.size, channels=config.in_channels).train.inputs
    return whiten(floats, config, to_float(images), devices.resolve(device))


def _tune(
    floats: Mapping[str, Array],
    source: WeightFile,
    scheme: str,
    epochs: int,
    device: str | None,
    on_epoch: Callable[[int, float], None] | None,
) -> dict[str, Array]:
    folder = source.path.parent
    if scheme not in ("int8", "int4"):
        raise UsageError(f"tuning is for weights of int8 or int4, not {scheme!r}.")
    if not (folder / "config.json").exists():
        raise UsageError(f"{source.path} does not lie in its run folder, which names the data to tune on.")
    model, settings = read_run(folder)
    model = replace(model, out_channels=source.config.out_channels)
    settings = locate(folder, settings, settings, read_record(folder))
    return tune_rounded(floats, model, settings, scheme, epochs, device, on_epoch)


def _run(file: WeightFile, device: str, trial: Trial) -> tuple[npt.NDArray[np.float32], Session]:
    session = open_session(file, device, batch=32)
    return session.run_floats(trial.inputs), session


def _open_trial(file: WeightFile, data: str | None, targets: str | None) -> tuple[Trial, str, str]:
    """The images to score on, damaged as in training, the name of the data, and a sentence if they changed."""
    task = task_of(file.metadata)
    config = file.config
    seed, note = 0, ""
    if data is None and (file.path.parent / "config.json").exists():
        _, settings = read_run(file.path.parent)
        run = reopen(file.path.parent, config, settings)
        dataset, seed = run.dataset, settings.seed
        note = "; ".join(run.notes)
        if run.changes:
            note = f"the data of {file.path.parent} changed ({run.changes}); the scores are of what is there now"
    elif task == IMAGE_TO_IMAGE and (data is None or targets is None):
        raise DataError(
            f"{file.path} was trained on pairs of images, which its run folder names: export it from "
            "there, without `data`, or with `data` and `targets`."
        )
    else:
        dataset = open_dataset(
            data or "faces",
            size=config.size,
            channels=config.in_channels,
            targets=targets,
            limit=MAX_VALIDATION_IMAGES,
            val_fraction=1,
            target_channels=config.out_channels,
        )
    trial = Trial.prepare(dataset.val, "none" if task == IMAGE_TO_IMAGE else task, seed, MAX_VALIDATION_IMAGES)
    if trial.clean.shape[-1] != config.out_channels:
        raise DataError(f"{dataset.name} has no targets of {config.out_channels} channels; export from the run folder.")
    return trial, dataset.name, note
