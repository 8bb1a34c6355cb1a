"""`edgeae train`: the network and how it is trained from the command line, and what is told on the way."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgeae.cli import console
from edgeae.cli.console import emit, note
from edgeae.cli.options import (
    PATH,
    TEXT,
    device_option,
    json_option,
    options,
    output_option,
    seed_option,
    threads_option,
)
from edgeae.errors import UsageError
from edgeae.formatting import duration

if TYPE_CHECKING:
    from edgeae.config import ModelConfig, TrainConfig
    from edgeae.data.batches import Report
    from edgeae.training.trainer import Progress


@click.command(cls=console.Command)
@click.argument("arch", type=click.Choice(["conv", "residual", "vae"]), required=False)
@options(
    click.option(
        "--data",
        type=TEXT,
        default=None,
        help="A folder of images, a .npz, .npy or IDX file, or faces, fashion-mnist, mnist, cifar10.",
    ),
    click.option(
        "--targets", type=TEXT, default=None, help="Folder of wanted outputs, paired by name (image to image)."
    ),
    output_option("The run folder.  [default: runs/DATA-ARCH]"),
    click.option("--resume", type=PATH, default=None, metavar="RUN", help="Go on with a run that was stopped."),
    click.option("--size", type=click.IntRange(8, 4096), default=64, show_default=True, help="Pixels a side."),
    click.option("--channels", type=click.Choice(["1", "3"]), default="3", show_default=True, help="Grey or RGB."),
    click.option("--widths", default=None, metavar="N,N,...", help="Channels of each scale.  [default: by ARCH]"),
    click.option("--code", type=click.IntRange(1, 65536), default=None, help="Size of the code layer."),
    click.option(
        "--image-skip/--no-image-skip",
        default=None,
        help="Add the image to the output (residual).  [default: yes; no with --targets]",
    ),
    click.option(
        "--start",
        type=TEXT,
        default=None,
        metavar="MODEL",
        help="Begin with a model's weights; ARCH and its sizes may be left out.  [default: random]",
    ),
    click.option("--epochs", type=click.IntRange(1), default=30, show_default=True),
    click.option("--batch", type=click.IntRange(1, 65536), default=64, show_default=True),
    click.option("--lr", type=float, default=1e-3, show_default=True, help="Peak learning rate."),
    click.option("--weight-decay", type=float, default=1e-2, show_default=True),
    click.option("--loss", type=click.Choice(["mse", "bce"]), default="mse", show_default=True),
    click.option("--beta", type=float, default=0.01, show_default=True, help="Weight of the KL term (vae)."),
    click.option(
        "--corrupt",
        default=None,
        metavar="SPEC",
        help="Damage to learn to undo.  [default: occlude; none for vae and with --targets]",
    ),
    click.option(
        "--crop-from",
        type=click.IntRange(8, 4096),
        default=None,
        metavar="PIXELS",
        help="Fit images to this side, and train on squares of --size from them.  [default: whole images]",
    ),
    click.option(
        "--zoom",
        type=click.FloatRange(0.01, 1),
        default=0.85,
        show_default=True,
        help="Smallest side that training zooms to, as a share of the image's.",
    ),
    click.option(
        "--blend",
        type=click.FloatRange(0, 1),
        default=0,
        show_default=True,
        help="Share of images mixed with another one; for aligned images, such as faces.",
    ),
    click.option("--no-augment", is_flag=True, help="No flips, zooms and light changes."),
    click.option("--limit", type=click.IntRange(2), default=None, help="Use at most so many images."),
    click.option("--licence", default="", help="Of the data, kept in the weight files."),
    device_option,
    threads_option,
    seed_option,
    json_option,
)
def train(
    arch: str | None,
    data: str | None,
    targets: str | None,
    output: Path | None,
    resume: Path | None,
    as_json: bool,
    device: str | None,
    threads: int | None,
    **flags: Any,
) -> None:
    """Train a network: ARCH is conv, residual or vae.

    \b
        edgeae train conv --data photos/ --epochs 30 -o runs/photos-conv
        edgeae train --resume runs/photos-conv
        edgeae train --start photos-residual --data family/ --lr 3e-4 -o runs/family
    """
    from edgeae.training import run_folder as runs
    from edgeae.training import trainer as training

    if resume is not None:
        if arch or (given := _given() - {"resume", "device", "threads", "as_json"}):
            what = "ARCH" if arch else f"--{min(given)}".replace("_", "-")
            raise UsageError(f"--resume takes everything from the run; leave out {what}.")
        model, settings = runs.read_run(resume)
        folder = resume
    else:
        if not (arch or flags["start"]) or not data:
            raise UsageError("train needs an ARCH and --data, or --start MODEL and --data, or --resume RUN.")
        model, settings = _configure(arch, data, targets, **flags)
        folder = output or Path("runs") / f"{Path(data).stem or 'data'}-{model.arch}"
    progress = _TrainingProgress()
    try:
        result = training.train(
            model,
            settings,
            folder,
            device=device,
            threads=threads,
            resume=resume is not None,
            on_progress=progress.show,
            on_report=progress.report,
        )
    except (KeyboardInterrupt, SystemExit):
        progress.clear()
        if (folder / "config.json").exists():
            note(f"stopped; go on with: edgeae train --resume {shlex.quote(str(folder))}")
        raise
    best = result.best
    emit(
        {"run": folder, "best": best, "epochs": len(result.rows)},
        [
            f"best epoch {best['epoch']:.0f}: PSNR {best['val_psnr']:.2f} dB, SSIM {best['val_ssim']:.3f}",
            f"{folder / 'best.safetensors'}",
            f"{folder / 'preview.png'}",
            f"{folder / 'curves.png'}",
        ],
        as_json,
    )


def _given() -> set[str]:
    """The options of the running command that stand on the command line."""
    context = click.get_current_context()
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


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
    from edgeae.config import TrainConfig
    from edgeae.images.damage.spec import parse

    if settings["start"] is not None:
        model, task = _start(settings["start"], arch, size)
    else:
        assert arch is not None
        model = _sized(arch, size, int(channels), widths, code, targets is None if image_skip is None else image_skip)
        task = "none" if arch == "vae" else "occlude"
    if corrupt is None:
        corrupt = "none" if targets is not None or task == "image-to-image" else task
    parse(corrupt)
    return model, TrainConfig(data=data, targets=targets, corrupt=corrupt, augment=not no_augment, **settings)


def _sized(arch: str, size: int, channels: int, widths: str | None, code: int | None, image_skip: bool) -> ModelConfig:
    """A new network."""
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


def _start(start: str, arch: str | None, size: int) -> tuple[ModelConfig, str]:
    """The network of a model to begin with, and what it was trained to undo."""
    from edgeae.network import weight_file as weights
    from edgeae.network.shipped import find_model

    file, given = weights.read(find_model(start)), _given()
    if fixed := given & {"channels", "widths", "code", "image_skip"}:
        raise UsageError(f"--start takes the network from {start}; leave out --{min(fixed).replace('_', '-')}.")
    if arch not in (None, file.config.arch):
        raise UsageError(f"{start} is a {file.config.arch}, not a {arch}; leave out ARCH.")
    if "size" in given and not file.config.takes_any_size and size != file.config.size:
        raise UsageError(f"{start} takes images of {file.config.size} pixels a side; leave out --size.")
    return replace(file.config, size=size if "size" in given else file.config.size), file.metadata.get("task", "none")


class _TrainingProgress:
    """Training on stderr: the data's table, a bar within an epoch, a line after each."""

    def __init__(self) -> None:
        self._line = console.StatusLine()

    def report(self, report: Report) -> None:
        note(report.table())

    def show(self, progress: Progress) -> None:
        if progress.row is None:
            text = (
                f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.5f}  "
                f"{progress.images_per_s:.0f} images/s  {duration(progress.seconds_left)} left"
            )
            self._line.show(progress.step, progress.steps, text)
            return
        self._line.clear()
        row = progress.row
        kl = f"  kl {row['kl']:.1f}" if row["kl"] == row["kl"] else ""
        note(
            f"epoch {progress.epoch}/{progress.epochs}  recon {row['recon']:.5f}{kl}  PSNR {row['val_psnr']:.2f} dB  "
            f"SSIM {row['val_ssim']:.3f}  {row['images_per_s']:.0f} images/s  {duration(progress.seconds_left)} left"
        )

    def clear(self) -> None:
        self._line.clear()
