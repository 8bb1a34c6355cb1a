"""The command line. A command parses, calls one library function, and prints what it returned.

Heavy modules are imported inside the commands, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgeae import console
from edgeae._version import __version__
from edgeae.cli_run import decibels, load, run
from edgeae.console import PATH, TEXT, duration, emit, note, options, output_option, table
from edgeae.errors import DeviceError, GateError, UsageError
from edgeae.zoo import DEFAULT_VAE

if TYPE_CHECKING:
    from edgeae.config import ModelConfig
    from edgeae.data import Report
    from edgeae.evaluation import Scores
    from edgeae.training import Progress


@click.group(cls=console.Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@options()
@click.version_option(__version__, message="edgeae %(version)s")
def main() -> None:
    """Three image autoencoders that train and run on CUDA, Metal, OpenCL or CPU.

    Restore your own photo, or the sample pictures:

    \b
        edgeae run photo.jpg
        edgeae run
    """


# ---- use ---------------------------------------------------------------------------------------------------------


main.add_command(run)


@main.command()
@click.argument("images", nargs=-1, required=True, type=PATH, metavar="SOURCE TARGET [MORE]...")
@options(
    console.model_option(DEFAULT_VAE),
    console.device_option,
    output_option("A .gif, .webp or .png animation, or a folder for one PNG a step.", default="interpolation.gif"),
    click.option("--steps", type=click.IntRange(2, 10000), default=16, show_default=True,
                 help="Frames from one image to the next, both included."),
    click.option("--path", type=click.Choice(["linear", "slerp"]), default="linear", show_default=True,
                 help="Straight between the codes, or along the arc."),
    click.option("--strip", is_flag=True, help="Write a film strip instead of an animation (.png)."),
    click.option("--fps", type=click.FloatRange(0.1, 100), default=12, show_default=True, help="Frames a second."),
    console.threads_option,
    console.json_option,
)
def interpolate(images: tuple[Path, ...], model: str, device: str | None, output: Path, steps: int, path: str,
                strip: bool, fps: float, threads: int | None, as_json: bool) -> None:
    """Turn one image into another by their codes.

    \b
        edgeae interpolate -m faces-vae neutral.jpg smiling.jpg -o smile.gif
    """
    from edgeae import imaging, pictures
    from edgeae.files import is_folder

    if len(images) < 2:
        raise UsageError("interpolate needs a SOURCE and a TARGET image.")
    folder = not strip and (not output.suffix or is_folder(output))
    if strip and output.suffix.lower() != ".png":
        raise UsageError("a film strip is a .png; name one with -o.")
    if not folder and not strip:
        imaging.format_of(output, None, pictures.ANIMATION_FORMATS)
    session = load(model, device, threads=threads)
    channels = session.config.in_channels
    keys = [imaging.read_image(image, channels) for image in images]
    frames = session.interpolate(*keys, steps=steps, path=path)
    if folder:
        written = [output / f"{i:04}.png" for i in range(len(frames))]
        for frame, name in zip(frames, written, strict=True):
            imaging.write_image(frame, name)
    else:
        written = [output]
        if strip:
            imaging.write_image(pictures.film_strip(frames), output)
        else:
            pictures.write_animation(frames, output, fps=fps)
    emit({"device": session.device, "frames": len(frames), "output": written},
         f"{output}  {len(frames)} frames of {frames.shape[2]}×{frames.shape[1]}", as_json)


@main.command()
@options(
    console.model_option(DEFAULT_VAE),
    console.device_option,
    output_option("The picture.", default="samples.png"),
    click.option("-n", "--count", type=click.IntRange(1, 4096), default=16, show_default=True, help="How many."),
    console.seed_option,
    console.threads_option,
    console.json_option,
)
def sample(model: str, device: str | None, output: Path, count: int, seed: int, threads: int | None,
           as_json: bool) -> None:
    """Decode codes drawn from the unit Gaussian (vae).

    \b
        edgeae sample -m faces-vae -n 36 -o faces.png
    """
    from edgeae import imaging, pictures

    imaging.format_of(output, None, imaging.WRITE_FORMATS)
    session = load(model, device, threads=threads)
    imaging.write_image(pictures.grid(session.sample(count, seed)), output)
    emit({"device": session.device, "count": count, "seed": seed, "output": output}, f"{output}  {count} samples",
         as_json)


@main.command()
@click.argument("source", type=PATH, metavar="INPUT")
@options(
    output_option("The damaged image.", required=True),
    click.option("--corrupt", required=True, metavar="SPEC", help="For example occlude:0.2 or noise:0.1+blur."),
    console.seed_option,
    console.json_option,
)
def corrupt(source: Path, output: Path, corrupt: str, seed: int, as_json: bool) -> None:
    """Damage an image as training does.

    SPEC is one of none, occlude, scratch, pixels, smear, noise, blur, jpeg, gray and shift, with a strength where you
    want one (occlude:0.2), or a range of them (occlude:0.1..0.3); several joined with +, or, with commas, one of them.
    """
    from edgeae.demonstration import corrupt_file

    share = corrupt_file(source, output, corrupt, seed)
    emit({"input": source, "output": output, "corrupt": corrupt, "seed": seed, "replaced": share},
         f"{output}  {share:.1%} of the pixels touched", as_json)


# ---- make --------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("arch", type=click.Choice(["conv", "residual", "vae"]), required=False)
@options(
    click.option("--data", type=TEXT, default=None,
                 help="A folder of images, a .npz, .npy or IDX file, or faces, fashion-mnist, mnist, cifar10."),
    click.option("--targets", type=TEXT, default=None,
                 help="Folder of wanted outputs, paired by name (image to image)."),
    output_option("The run folder.  [default: runs/DATA-ARCH]"),
    click.option("--resume", type=PATH, default=None, metavar="RUN", help="Go on with a run that was stopped."),
    click.option("--size", type=click.IntRange(8, 4096), default=64, show_default=True, help="Pixels a side."),
    click.option("--channels", type=click.Choice(["1", "3"]), default="3", show_default=True, help="Grey or RGB."),
    click.option("--widths", default=None, metavar="N,N,...", help="Channels of each scale.  [default: by ARCH]"),
    click.option("--code", type=click.IntRange(1, 65536), default=None, help="Size of the code layer."),
    click.option("--image-skip/--no-image-skip", default=None,
                 help="Add the image to the output (residual).  [default: yes; no with --targets]"),
    click.option("--start", type=TEXT, default=None, metavar="MODEL",
                 help="Begin with a model's weights; ARCH and its sizes may be left out.  [default: random]"),
    click.option("--epochs", type=click.IntRange(1), default=30, show_default=True),
    click.option("--batch", type=click.IntRange(1, 65536), default=64, show_default=True),
    click.option("--lr", type=float, default=1e-3, show_default=True, help="Peak learning rate."),
    click.option("--weight-decay", type=float, default=1e-2, show_default=True),
    click.option("--loss", type=click.Choice(["mse", "bce"]), default="mse", show_default=True),
    click.option("--beta", type=float, default=0.01, show_default=True, help="Weight of the KL term (vae)."),
    click.option("--corrupt", default=None, metavar="SPEC",
                 help="Damage to learn to undo.  [default: occlude; none for vae and with --targets]"),
    click.option("--crop-from", type=click.IntRange(8, 4096), default=None, metavar="PIXELS",
                 help="Fit images to this side, and train on squares of --size from them.  [default: whole images]"),
    click.option("--zoom", type=click.FloatRange(0.01, 1), default=0.85, show_default=True,
                 help="Smallest side that training zooms to, as a share of the image's."),
    click.option("--blend", type=click.FloatRange(0, 1), default=0, show_default=True,
                 help="Share of images mixed with another one; for aligned images, such as faces."),
    click.option("--no-augment", is_flag=True, help="No flips, zooms and light changes."),
    click.option("--limit", type=click.IntRange(2), default=None, help="Use at most so many images."),
    click.option("--licence", default="", help="Of the data, kept in the weight files."),
    console.device_option,
    console.threads_option,
    console.seed_option,
    console.json_option,
)
def train(arch: str | None, data: str | None, targets: str | None, output: Path | None, resume: Path | None,
          as_json: bool, device: str | None, threads: int | None, **flags: Any) -> None:
    """Train a network: ARCH is conv, residual or vae.

    \b
        edgeae train conv --data photos/ --epochs 30 -o runs/photos-conv
        edgeae train --resume runs/photos-conv
        edgeae train --start photos-residual --data mine/ --lr 3e-4 -o runs/mine
    """
    from edgeae import runs, training

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
        result = training.train(model, settings, folder, device=device, threads=threads, resume=resume is not None,
                                on_progress=progress.show, on_report=progress.report)
    except (KeyboardInterrupt, SystemExit):
        progress.clear()
        if (folder / "config.json").exists():
            note(f"stopped; go on with: edgeae train --resume {shlex.quote(str(folder))}")
        raise
    best = result.best
    emit({"run": folder, "best": best, "epochs": len(result.rows)},
         [f"best epoch {best['epoch']:.0f}: PSNR {best['val_psnr']:.2f} dB, SSIM {best['val_ssim']:.3f}",
          f"{folder / 'best.safetensors'}", f"{folder / 'preview.png'}", f"{folder / 'curves.png'}"], as_json)


def _given() -> set[str]:
    """The options of the running command that stand on the command line."""
    context = click.get_current_context()
    return {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def _configure(arch: str | None, data: str, targets: str | None, *, size: int, channels: str, widths: str | None,
               code: int | None, corrupt: str | None, no_augment: bool, image_skip: bool | None,
               **settings: Any) -> Any:
    from edgeae.config import ModelConfig, TrainConfig
    from edgeae.corruptions import parse

    if settings["start"] is not None:
        model, task = _start(settings["start"], arch, size)
        corrupt = corrupt or ("none" if targets is not None or task == "image-to-image" else task)
        parse(corrupt)
        return model, TrainConfig(data=data, targets=targets, corrupt=corrupt, augment=not no_augment, **settings)
    assert arch is not None
    sizes: dict[str, Any] = {"size": size, "in_channels": int(channels), "out_channels": int(channels)}
    if widths is not None:
        try:
            sizes["widths"] = tuple(int(width) for width in widths.split(","))
        except ValueError:
            raise UsageError(f"--widths {widths!r} is not a list of numbers such as 32,64,128.") from None
    if code is not None:
        sizes["code"] = code
    if corrupt is None:
        corrupt = "none" if arch == "vae" or targets is not None else "occlude"
    parse(corrupt)
    if image_skip is None:
        image_skip = targets is None
    sizes["image_skip"] = image_skip
    model = ModelConfig.default(arch, **sizes)
    return model, TrainConfig(data=data, targets=targets, corrupt=corrupt, augment=not no_augment, **settings)


def _start(start: str, arch: str | None, size: int) -> tuple[ModelConfig, str]:
    """The network of a model to begin with, and what it was trained to undo."""
    from edgeae import weights
    from edgeae.zoo import find_model

    file, given = weights.read(find_model(start)), _given()
    if fixed := given & {"channels", "widths", "code", "image_skip"}:
        raise UsageError(f"--start takes the network from {start}; leave out --{min(fixed).replace('_', '-')}.")
    if arch not in (None, file.config.arch):
        raise UsageError(f"{start} is a {file.config.arch}, not a {arch}; leave out ARCH.")
    if "size" in given and file.config.arch == "vae" and size != file.config.size:
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
            text = (f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.5f}  "
                    f"{progress.images_per_s:.0f} images/s  {duration(progress.seconds_left)} left")
            self._line.show(progress.step, progress.steps, text)
            return
        self._line.clear()
        row = progress.row
        kl = f"  kl {row['kl']:.1f}" if row["kl"] == row["kl"] else ""
        note(f"epoch {progress.epoch}/{progress.epochs}  recon {row['recon']:.5f}{kl}  PSNR {row['val_psnr']:.2f} dB  "
             f"SSIM {row['val_ssim']:.3f}  {row['images_per_s']:.0f} images/s  {duration(progress.seconds_left)} left")

    def clear(self) -> None:
        self._line.clear()


@main.command()
@click.argument("checkpoint", type=PATH)
@options(
    output_option("The .safetensors file.", required=True),
    click.option("--quantize", type=click.Choice(["none", "fp16", "int8", "int4"]), default="none", show_default=True,
                 help="How the weights are stored."),
    click.option("--data", type=TEXT, default=None,
                 help="Images to measure on.  [default: those of the run, else faces]"),
    click.option("--standardize", type=TEXT, default=None, metavar="DATA",
                 help="Turn a vae's code so that samples look like these images; for small sets."),
    click.option("--tune", type=click.IntRange(0, 10000), default=0, show_default=True, metavar="EPOCHS",
                 help="Train on for so long with the weights rounded; for int4."),
    click.option("--licence", default=None, help="Written into the file."),
    console.device_option,
    console.json_option,
)
def export(checkpoint: Path, output: Path, quantize: str, data: str | None, standardize: str | None, tune: int,
           licence: str | None, device: str | None, as_json: bool) -> None:
    """Write a checkpoint as a file for a device.

    CHECKPOINT is a weight file or a run folder, whose best weights are taken.

    \b
        edgeae export runs/photos-conv -o photos-conv.safetensors --quantize int8
    """
    from edgeae.exporting import export as export_file

    report = export_file(checkpoint, output, scheme=quantize, data=data, device=device, licence=licence,
                         standardize=standardize, tune=tune,
                         on_epoch=lambda epoch, psnr: note(f"tuning {epoch}/{tune}  PSNR {psnr:.2f} dB"))
    rows = [[t.name, "×".join(map(str, t.shape)), f"{t.fp32_bytes:,}", f"{t.size_bytes:,}",
             f"{8 * t.size_bytes / (t.fp32_bytes / 4):.2f}", f"{t.largest_error:.2e}"] for t in report.tensors]
    small = sum(t.size_bytes for t in report.tensors)
    rows.append(["sum", "", f"{report.fp32_bytes:,}", f"{small:,}", f"{8 * small / (report.fp32_bytes / 4):.2f}",
                 f"{max(t.largest_error for t in report.tensors):.2e}"])
    header = ["tensor", "shape", "fp32 bytes", "bytes", "bits", "largest error"]
    emit(report, [
        *table(header, rows, right=range(2, 6)), "",
        f"{report.path}  {report.size_bytes:,} bytes, {report.size_bytes / report.fp32_bytes:.1%} of fp32",
        f"on {report.images} images of {report.data}, against fp32: PSNR {report.psnr_to_fp32:.1f} dB, "
        f"SSIM {report.ssim_to_fp32:.4f}",
        f"against the clean images: fp32 {_scores(report.fp32)}; {report.quantize} {_scores(report.exported)}",
    ], as_json)


def _scores(scores: Scores) -> str:
    return f"PSNR {scores.psnr:.2f} dB, SSIM {scores.ssim:.4f}"


# ---- look --------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("model", type=TEXT)
@options(
    click.option("--data", type=TEXT, required=True,
                 help="As in `train`; of data with a validation split, that split."),
    click.option("--targets", type=TEXT, default=None, help="Folder of wanted outputs, paired by name."),
    click.option("--corrupt", default=None, metavar="SPEC", help="Damage to undo.  [default: what it was trained on]"),
    click.option("--size", type=click.IntRange(8, 4096), default=None,
                 help="Pixels a side; not for a vae.  [default: what it was trained on]"),
    click.option("--limit", type=click.IntRange(1), default=None, help="Use at most so many images."),
    console.device_option,
    console.seed_option,
    console.batch_option,
    console.threads_option,
    console.json_option,
)
def evaluate(model: str, data: str, targets: str | None, corrupt: str | None, size: int | None, limit: int | None,
             device: str | None, seed: int, batch: int, threads: int | None, as_json: bool) -> None:
    """Score a model on a dataset.

    PSNR, SSIM, MSE and sharpness of its input and of its output against the clean images; then what the clean images
    cost as codes of 8-bit numbers, beside WebP and JPEG files of no more bytes.
    """
    from edgeae.evaluation import evaluate as evaluate_session

    session = load(model, device, batch, threads)
    found = evaluate_session(session, data, corrupt=corrupt, targets=targets, seed=seed, limit=limit,
                             size=size)

    def row(name: str, scores: Scores | None) -> list[str]:
        if scores is None:
            return [name, "-", "-", "-", "-", "-"]
        return [name, f"{scores.psnr:.2f}", decibels(scores.hole_psnr), f"{scores.ssim:.4f}", f"{scores.mse:.6f}",
                f"{scores.sharpness:.3f}"]

    header = ["", "PSNR, dB", "in the holes", "SSIM", "MSE", "sharpness"]
    lines = [f"{found.images} images of {data}, damage {found.corrupt}, on {session.device}",
             *table(header, [row("input", found.input), row("output", found.output)], right=range(1, 6))]
    if found.rates:
        lines += ["", *table(["undamaged", "bytes", "bits a pixel", "PSNR, dB"], [
            [rate.name, f"{rate.bytes:,.0f}", f"{rate.bits_per_pixel:.2f}", f"{rate.psnr:.2f}"]
            for rate in found.rates], right=range(1, 4))]
    emit(found.as_dict() | {"device": session.device}, lines, as_json)


@main.command()
@click.argument("model", type=TEXT)
@options(console.json_option)
def info(model: str, as_json: bool) -> None:
    """Tell what a model file holds."""
    from edgeae.weights import describe
    from edgeae.zoo import find_model

    found = describe(find_model(model))
    rows = [[key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)]
            for key, value in found.items()]
    width = max(len(row[0]) for row in rows)
    emit(found, [f"{key:<{width}}  {value}" for key, value in rows], as_json)


@main.command()
@click.argument("model", type=TEXT)
@options(console.device_option, console.threads_option, console.json_option)
def verify(model: str, device: str | None, threads: int | None, as_json: bool) -> None:
    """Check a model's output on a device.

    Runs the golden input stored in the file; exit 4 when the output is out of tolerance.
    """
    from edgeae.golden import verify as verify_session

    result = verify_session(load(model, device, threads=threads))
    verdict = "passed" if result.passed else "FAILED"
    emit(asdict(result) | {"passed": result.passed},
         f"{verdict} on {result.device}: largest difference {result.largest_error:.2e}, "
         f"allowed {result.tolerance:.2e}", as_json)
    if not result.passed:
        raise GateError(f"{model} is out of tolerance on {result.device}.")


@main.command()
@options(console.json_option)
def devices(as_json: bool) -> None:
    """List the backends: usable or not, and why.

    For one that is not, the command that would mend it.
    """
    from edgeae.devices import probe_all

    found = probe_all()
    rows = [[s.name, "yes" if s.usable else "no", s.detail if s.usable else s.reason] for s in found]
    mends = [f"  {s.name}: {s.mend}" for s in found if not s.usable and s.mend]
    emit(found, [*table(["device", "usable", ""], rows), *(["", "to mend:", *mends] if mends else [])], as_json)
    if not any(s.usable for s in found):
        raise DeviceError("no device is usable; the table says why.")


if __name__ == "__main__":
    main()
