"""`edgeae train`: build the configuration from flags, train, and print the best epoch."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgeae.cli.console import emit, note
from edgeae.cli.flags import name_flags
from edgeae.cli.options import (
    PATH,
    TEXT,
    batch_option,
    device_option,
    json_option,
    limit_option,
    options,
    output_option,
    seed_option,
    targets_option,
    threads_option,
)
from edgeae.cli.program import command
from edgeae.cli.progress import TrainingProgress
from edgeae.config import ARCHS, LOSSES
from edgeae.errors import EdgeaeError, UsageError

if TYPE_CHECKING:
    from edgeae.config import ModelConfig, TrainConfig

RESUME_FLAGS = {"resume", "changed_data", "data", "targets", "epochs", "device", "threads", "as_json"}


@command()
@click.argument("arch", type=click.Choice(ARCHS), required=False)
@options(
    click.option(
        "--data",
        type=TEXT,
        default=None,
        help="Images to train on: a folder, a .npz, .npy or IDX file, or faces, fashion-mnist, mnist, cifar10.",
    ),
    targets_option,
    output_option("Run folder to write.  [default: runs/DATA-ARCH]"),
    click.option(
        "--resume",
        type=PATH,
        default=None,
        metavar="RUN",
        help="Go on with a run that was stopped; takes all settings from it. Add --epochs to go on for longer, and "
        "--data (and --targets) where its images were moved.",
    ),
    click.option("--changed-data", is_flag=True, help="Resume although images were added, removed or changed since."),
    click.option(
        "--size",
        type=click.IntRange(8, 4096),
        default=64,
        show_default=True,
        help="Height and width of the images in pixels.",
    ),
    click.option("--channels", type=click.Choice(["1", "3"]), default="3", show_default=True, help="1 is gray, 3 RGB."),
    click.option("--widths", default=None, metavar="N,N,...", help="Channels at each scale.  [default: by ARCH]"),
    click.option(
        "--code", type=click.IntRange(1, 65536), default=None, help="Size of the code layer.  [default: by ARCH]"
    ),
    click.option(
        "--image-skip/--no-image-skip",
        default=None,
        help="Let the network add a correction to its input (residual).  [default: yes; no with --targets]",
    ),
    click.option(
        "--start",
        type=TEXT,
        default=None,
        metavar="MODEL",
        help="Start from the weights of this model, and take ARCH and sizes from it.  [default: random weights]",
    ),
    click.option(
        "--epochs", type=click.IntRange(1), default=30, show_default=True, help="Times to go through the images."
    ),
    batch_option(64, help="Images in a training step."),
    click.option("--lr", type=float, default=1e-3, show_default=True, help="Peak learning rate."),
    click.option("--weight-decay", type=float, default=1e-2, show_default=True, help="Weight decay of AdamW."),
    click.option(
        "--loss",
        type=click.Choice(LOSSES),
        default="mse",
        show_default=True,
        help="Mean squared error, or binary cross-entropy.",
    ),
    click.option("--beta", type=float, default=0.01, show_default=True, help="Weight of the KL term (vae)."),
    click.option(
        "--corrupt",
        default=None,
        metavar="SPEC",
        help="Damage to undo, see `edgeae corrupt`.  [default: occlude; none for vae and with --targets]",
    ),
    click.option(
        "--crop-from",
        type=click.IntRange(8, 4096),
        default=None,
        metavar="PIXELS",
        help="Fit images to this size, and train on random squares of --size.  [default: train on whole images]",
    ),
    click.option(
        "--zoom",
        type=click.FloatRange(0.01, 1),
        default=0.85,
        show_default=True,
        help="Smallest part of an image that augmentation zooms to, as a share of its side.",
    ),
    click.option(
        "--blend",
        type=click.FloatRange(0, 1),
        default=0,
        show_default=True,
        help="Share of images to mix with another one; helps with aligned images such as faces.",
    ),
    click.option("--no-augment", is_flag=True, help="Train without random flips, zooms and changes of light."),
    limit_option(2),
    click.option("--licence", default="", help="Licence of the data, to write into the weight files."),
    device_option,
    threads_option(),
    seed_option,
    json_option,
)
def train(
    arch: str | None,
    data: str | None,
    targets: str | None,
    output: Path | None,
    resume: Path | None,
    changed_data: bool,
    as_json: bool,
    device: str | None,
    threads: int | None,
    **flags: Any,
) -> None:
    """Train a network: ARCH is conv, residual or vae.

    \b
        edgeae train conv --data photos/ --epochs 30 -o runs/photos-conv
        edgeae train --resume runs/photos-conv
        edgeae train --resume runs/photos-conv --epochs 60
        edgeae train --start photos-residual --data family/ --lr 3e-4 -o runs/family
    """
    from edgeae.training import loop
    from edgeae.training.run_folder import find_run, read_run

    if resume is not None:
        if arch or (extra := _flags_given() - RESUME_FLAGS):
            what = "ARCH" if arch else _as_flag(min(extra))
            raise UsageError(f"--resume takes everything from the run; leave out {what}.")
        folder = find_run(resume)
        if resume.name == "best.safetensors":
            note("a run goes on from its last epoch, not from its best one")
        model, settings = read_run(folder)
        settings = replace(settings, **_resume_changes(data, targets, flags["epochs"]))
    else:
        if changed_data:
            raise UsageError("--changed-data is for a run that goes on: give --resume RUN.")
        if not (arch or flags["start"]) or not data:
            raise UsageError("train needs an ARCH and --data, or --start MODEL and --data, or --resume RUN.")
        model, settings = _configure(arch, data, targets, **flags)
        folder = output or Path("runs") / f"{Path(data).stem or 'data'}-{model.arch}"
    progress = TrainingProgress()
    try:
        result = loop.train(
            model,
            settings,
            folder,
            device=device,
            threads=threads,
            resume=resume is not None,
            changed_data=changed_data,
            on_progress=progress.show,
            on_report=progress.report,
            on_note=lambda sentence: note(name_flags(sentence)),
        )
    except EdgeaeError:
        progress.clear()
        if progress.epochs:  # what was reached is not lost: a full disk, say, can be mended
            note(f"stopped; go on with: edgeae train --resume {shlex.quote(str(folder))}")
        raise
    except (KeyboardInterrupt, SystemExit):
        progress.clear()
        if (folder / "config.json").exists():
            note(f"stopped; go on with: edgeae train --resume {shlex.quote(str(folder))}")
        raise
    best = result.best
    emit(
        {"run": folder, "best": best, "epochs": len(result.rows), "notes": list(map(name_flags, result.notes))},
        [
            f"best epoch {best['epoch']:.0f}: PSNR {best['val_psnr']:.2f} dB, SSIM {best['val_ssim']:.3f}",
            f"{folder / 'best.safetensors'}",
            f"{folder / 'preview.png'}",
            f"{folder / 'curves.png'}",
        ],
        as_json,
    )


def _resume_changes(data: str | None, targets: str | None, epochs: int) -> dict[str, Any]:
    """Return the settings that flags change in a run that goes on. Paths are absolute: the run's own are relative."""
    from edgeae.data.sources import BUILTIN_NAMES

    changes: dict[str, Any] = {"epochs": epochs} if "epochs" in _flags_given() else {}
    if data is not None:
        changes["data"] = data if data in BUILTIN_NAMES else str(Path(data).absolute())
    if targets is not None:
        changes["targets"] = str(Path(targets).absolute())
    return changes


def _flags_given() -> set[str]:
    """Return the names of the options that stand on the command line, which leaves out those at their defaults."""
    context = click.get_current_context()
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def _as_flag(name: str) -> str:
    return f"--{name}".replace("_", "-")


def _configure(
    arch: str | None,
    data: str,
    targets: str | None,
    *,
    size: int,
    channels: str,
    widths: str | None,
    code: int | None,
    corrupt: str | None,
    no_augment: bool,
    image_skip: bool | None,
    **settings: Any,
) -> tuple[ModelConfig, TrainConfig]:
    """Return the configuration of the network and of its training that the flags describe."""
    from edgeae.config import IMAGE_TO_IMAGE, TrainConfig
    from edgeae.images.damage.spec import parse

    if settings["start"] is not None:
        model, task = _configure_from(settings["start"], arch, size)
    else:
        assert arch is not None
        skip = targets is None if image_skip is None else image_skip
        model = _configure_new(arch, size, int(channels), widths, code, skip)
        task = "none" if arch == "vae" else "occlude"
    if corrupt is None:
        corrupt = "none" if targets is not None or task == IMAGE_TO_IMAGE else task
    parse(corrupt)
    return model, TrainConfig(data=data, targets=targets, corrupt=corrupt, augment=not no_augment, **settings)


def _configure_new(
    arch: str, size: int, channels: int, widths: str | None, code: int | None, image_skip: bool
) -> ModelConfig:
    """Return the configuration of a network that begins with random weights."""
    from edgeae.config import ModelConfig

    sizes: dict[str, Any] = {"size": size, "in_channels": channels, "out_channels": channels, "image_skip": image_skip}
    if widths is not None:
        try:
            sizes["widths"] = tuple(int(width) for width in widths.split(","))
        except ValueError:
            raise UsageError(f"--widths {widths!r} is not a list of numbers such as 32,64,128.") from None
    if code is not None:
        sizes["code"] = code
    return ModelConfig.default(arch, **sizes)


def _configure_from(start: str, arch: str | None, size: int) -> tuple[ModelConfig, str]:
    """Return the configuration of the model to start from, and the damage that it was trained to undo."""
    from edgeae.config import task_of
    from edgeae.network import weight_file
    from edgeae.network.shipped import find_model

    file, flags = weight_file.read(find_model(start)), _flags_given()
    if fixed := flags & {"channels", "widths", "code", "image_skip"}:
        raise UsageError(f"--start takes the network from {start}; leave out {_as_flag(min(fixed))}.")
    if arch not in (None, file.config.arch):
        raise UsageError(f"{start} is a {file.config.arch}, not a {arch}; leave out ARCH.")
    if "size" in flags and file.config.arch == "vae" and size != file.config.size:
        raise UsageError(f"{start} takes images of {file.config.size} pixels a side; leave out --size.")
    return replace(file.config, size=size if "size" in flags else file.config.size), task_of(file.metadata)
