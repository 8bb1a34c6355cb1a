"""The command line. A command parses, calls one library function, and prints what it returned.

Heavy modules are imported inside the commands, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeae._version import __version__
from edgeae.cli import console
from edgeae.cli.bench import bench, profile
from edgeae.cli.compile import compile_
from edgeae.cli.console import emit, note
from edgeae.cli.options import (
    PATH,
    TEXT,
    batch_option,
    device_option,
    json_option,
    model_option,
    options,
    output_option,
    seed_option,
    threads_option,
)
from edgeae.cli.run import decibels, load, run
from edgeae.cli.train import train
from edgeae.errors import DeviceError, GateError, UsageError
from edgeae.formatting import table
from edgeae.images.drawing.animations import ANIMATION_FORMATS, write_animation
from edgeae.images.files.array_io import read_image, write_image
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.network.shipped import DEFAULT_VAE

if TYPE_CHECKING:
    from edgeae.images.scores import Scores


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
    model_option(DEFAULT_VAE),
    device_option,
    output_option("A .gif, .webp or .png animation, or a folder for one PNG a step.", default="interpolation.gif"),
    click.option(
        "--steps",
        type=click.IntRange(2, 10000),
        default=16,
        show_default=True,
        help="Frames from one image to the next, both included.",
    ),
    click.option(
        "--path",
        type=click.Choice(["linear", "slerp"]),
        default="linear",
        show_default=True,
        help="Straight between the codes, or along the arc.",
    ),
    click.option("--strip", is_flag=True, help="Write a film strip instead of an animation (.png)."),
    click.option("--fps", type=click.FloatRange(0.1, 100), default=12, show_default=True, help="Frames a second."),
    threads_option,
    json_option,
)
def interpolate(
    images: tuple[Path, ...],
    model: str,
    device: str | None,
    output: Path,
    steps: int,
    path: str,
    strip: bool,
    fps: float,
    threads: int | None,
    as_json: bool,
) -> None:
    """Turn one image into another by their codes.

    \b
        edgeae interpolate -m faces-vae neutral.jpg smiling.jpg -o smile.gif
    """
    from edgeae.files import is_folder
    from edgeae.images.drawing import grids as pictures

    if len(images) < 2:
        raise UsageError("interpolate needs a SOURCE and a TARGET image.")
    folder = not strip and (not output.suffix or is_folder(output))
    if strip and output.suffix.lower() != ".png":
        raise UsageError("a film strip is a .png; name one with -o.")
    if not folder and not strip:
        format_of(output, None, ANIMATION_FORMATS)
    session = load(model, device, threads=threads)
    channels = session.config.in_channels
    keys = [read_image(image, channels) for image in images]
    frames = session.interpolate(*keys, steps=steps, path=path)
    if folder:
        written = [output / f"{i:04}.png" for i in range(len(frames))]
        for frame, name in zip(frames, written, strict=True):
            write_image(frame, name)
    else:
        written = [output]
        if strip:
            write_image(pictures.film_strip(frames), output)
        else:
            write_animation(frames, output, fps=fps)
    emit(
        {"device": session.device, "frames": len(frames), "output": written},
        f"{output}  {len(frames)} frames of {frames.shape[2]}×{frames.shape[1]}",
        as_json,
    )


@main.command()
@options(
    model_option(DEFAULT_VAE),
    device_option,
    output_option("The picture.", default="samples.png"),
    click.option("-n", "--count", type=click.IntRange(1, 4096), default=16, show_default=True, help="How many."),
    seed_option,
    threads_option,
    json_option,
)
def sample(
    model: str, device: str | None, output: Path, count: int, seed: int, threads: int | None, as_json: bool
) -> None:
    """Decode codes drawn from the unit Gaussian (vae).

    \b
        edgeae sample -m faces-vae -n 36 -o faces.png
    """
    from edgeae.images.drawing import grids as pictures

    format_of(output, None, WRITE_FORMATS)
    session = load(model, device, threads=threads)
    write_image(pictures.grid(session.sample(count, seed)), output)
    emit(
        {"device": session.device, "count": count, "seed": seed, "output": output},
        f"{output}  {count} samples",
        as_json,
    )


@main.command()
@click.argument("source", type=PATH, metavar="INPUT")
@options(
    output_option("The damaged image.", required=True),
    click.option("--corrupt", required=True, metavar="SPEC", help="For example occlude:0.2 or noise:0.1+blur."),
    seed_option,
    json_option,
)
def corrupt(source: Path, output: Path, corrupt: str, seed: int, as_json: bool) -> None:
    """Damage an image as training does.

    SPEC is one of none, occlude, scratch, pixels, smear, noise, blur, jpeg, gray and shift, with a strength where you
    want one (occlude:0.2), or a range of them (occlude:0.1..0.3); several joined with +, or, with commas, one of them.
    """
    from edgeae.images.damage.apply import corrupt_file

    share = corrupt_file(source, output, corrupt, seed)
    emit(
        {"input": source, "output": output, "corrupt": corrupt, "seed": seed, "replaced": share},
        f"{output}  {share:.1%} of the pixels touched",
        as_json,
    )


# ---- make --------------------------------------------------------------------------------------------------------


main.add_command(train)


@main.command()
@click.argument("checkpoint", type=PATH)
@options(
    output_option("The .safetensors file, or an .onnx file for other runtimes.", required=True),
    click.option(
        "--quantize",
        type=click.Choice(["none", "fp16", "int8", "int4"]),
        default=None,
        help="How the weights are stored.  [default: none; in an .onnx file as they are]",
    ),
    click.option(
        "--format",
        "kind",
        type=click.Choice(["safetensors", "onnx"]),
        default=None,
        help="Of the file.  [default: by its suffix]",
    ),
    click.option(
        "--part",
        type=click.Choice(["reconstruct", "encode", "decode"]),
        default="reconstruct",
        show_default=True,
        help="What an .onnx file computes.",
    ),
    click.option(
        "--data", type=TEXT, default=None, help="Images to measure on.  [default: those of the run, else faces]"
    ),
    click.option(
        "--standardize",
        type=TEXT,
        default=None,
        metavar="DATA",
        help="Turn a vae's code so that samples look like these images; for small sets.",
    ),
    click.option(
        "--tune",
        type=click.IntRange(0, 10000),
        default=0,
        show_default=True,
        metavar="EPOCHS",
        help="Train on for so long with the weights rounded; for int4.",
    ),
    click.option("--licence", default=None, help="Written into the file."),
    device_option,
    json_option,
)
def export(
    checkpoint: Path,
    output: Path,
    quantize: str | None,
    kind: str | None,
    part: str,
    data: str | None,
    standardize: str | None,
    tune: int,
    licence: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Write a checkpoint as a file for a device.

    CHECKPOINT is a weight file or a run folder, whose best weights are taken; for an .onnx file also the name of a
    shipped model.

    \b
        edgeae export runs/photos-conv -o photos-conv.safetensors --quantize int8
        edgeae export faces-residual -o faces-residual.onnx
    """
    if (kind or output.suffix.removeprefix(".")) == "onnx":
        if data or standardize or tune or licence:
            raise UsageError(
                "an .onnx file is made of a finished model: --data, --standardize, --tune and --licence "
                "are for the .safetensors file that it is made from."
            )
        _export_onnx(str(checkpoint), output, quantize, part, as_json)
        return
    from edgeae.exporting.weights import export as export_file

    if part != "reconstruct":
        raise UsageError("--part is for .onnx files; a .safetensors file holds the whole network.")
    report = export_file(
        checkpoint,
        output,
        scheme=quantize or "none",
        data=data,
        device=device,
        licence=licence,
        standardize=standardize,
        tune=tune,
        on_epoch=lambda epoch, psnr: note(f"tuning {epoch}/{tune}  PSNR {psnr:.2f} dB"),
    )
    rows = [
        [
            t.name,
            "×".join(map(str, t.shape)),
            f"{t.fp32_bytes:,}",
            f"{t.size_bytes:,}",
            f"{8 * t.size_bytes / (t.fp32_bytes / 4):.2f}",
            f"{t.largest_error:.2e}",
        ]
        for t in report.tensors
    ]
    small = sum(t.size_bytes for t in report.tensors)
    rows.append(
        [
            "sum",
            "",
            f"{report.fp32_bytes:,}",
            f"{small:,}",
            f"{8 * small / (report.fp32_bytes / 4):.2f}",
            f"{max(t.largest_error for t in report.tensors):.2e}",
        ]
    )
    header = ["tensor", "shape", "fp32 bytes", "bytes", "bits", "largest error"]
    emit(
        report,
        [
            *table(header, rows, right=range(2, 6)),
            "",
            f"{report.path}  {report.size_bytes:,} bytes, {report.size_bytes / report.fp32_bytes:.1%} of fp32",
            f"on {report.images} images of {report.data}, against fp32: PSNR {report.psnr_to_fp32:.1f} dB, "
            f"SSIM {report.ssim_to_fp32:.4f}",
            f"against the clean images: fp32 {_scores(report.fp32)}; {report.quantize} {_scores(report.exported)}",
        ],
        as_json,
    )


def _export_onnx(model: str, output: Path, scheme: str | None, part: str, as_json: bool) -> None:
    from edgeae.exporting.onnx import export_onnx

    report = export_onnx(model, output, scheme=scheme, part=part)
    difference = report.largest_difference
    emit(
        report,
        [
            f"{report.path}  {report.size_bytes:,} bytes, {report.quantize}, opset {report.opset}",
            "ONNX Runtime is not installed: the output was not compared"
            if difference is None
            else f"ONNX Runtime gives what edgeae gives, within {difference:.1e}",
        ],
        as_json,
    )


def _scores(scores: Scores) -> str:
    return f"PSNR {scores.psnr:.2f} dB, SSIM {scores.ssim:.4f}"


# ---- look --------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("model", type=TEXT)
@options(
    click.option(
        "--data", type=TEXT, required=True, help="As in `train`; of data with a validation split, that split."
    ),
    click.option("--targets", type=TEXT, default=None, help="Folder of wanted outputs, paired by name."),
    click.option("--corrupt", default=None, metavar="SPEC", help="Damage to undo.  [default: what it was trained on]"),
    click.option(
        "--size",
        type=click.IntRange(8, 4096),
        default=None,
        help="Pixels a side; not for a vae.  [default: what it was trained on]",
    ),
    click.option("--limit", type=click.IntRange(1), default=None, help="Use at most so many images."),
    device_option,
    seed_option,
    batch_option,
    threads_option,
    json_option,
)
def evaluate(
    model: str,
    data: str,
    targets: str | None,
    corrupt: str | None,
    size: int | None,
    limit: int | None,
    device: str | None,
    seed: int,
    batch: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score a model on a dataset.

    PSNR, SSIM, MSE and sharpness of its input and of its output against the clean images; then what the clean images
    cost as codes of 8-bit numbers, beside WebP and JPEG files of no more bytes.
    """
    from edgeae.training.evaluation import evaluate as evaluate_session

    session = load(model, device, batch, threads)
    found = evaluate_session(session, data, corrupt=corrupt, targets=targets, seed=seed, limit=limit, size=size)

    def row(name: str, scores: Scores | None) -> list[str]:
        if scores is None:
            return [name, "-", "-", "-", "-", "-"]
        return [
            name,
            f"{scores.psnr:.2f}",
            decibels(scores.hole_psnr),
            f"{scores.ssim:.4f}",
            f"{scores.mse:.6f}",
            f"{scores.sharpness:.3f}",
        ]

    header = ["", "PSNR, dB", "in the holes", "SSIM", "MSE", "sharpness"]
    lines = [
        f"{found.images} images of {data}, damage {found.corrupt}, on {session.device}",
        *table(header, [row("input", found.input), row("output", found.output)], right=range(1, 6)),
    ]
    if found.rates:
        lines += [
            "",
            *table(
                ["undamaged", "bytes", "bits a pixel", "PSNR, dB"],
                [
                    [rate.name, f"{rate.bytes:,.0f}", f"{rate.bits_per_pixel:.2f}", f"{rate.psnr:.2f}"]
                    for rate in found.rates
                ],
                right=range(1, 4),
            ),
        ]
    emit(found.as_dict() | {"device": session.device}, lines, as_json)


@main.command()
@click.argument("model", type=TEXT)
@options(json_option)
def info(model: str, as_json: bool) -> None:
    """Tell what a model file or a compiled library holds."""
    from edgeae.engine.library import describe_library
    from edgeae.network.shipped import LIBRARIES, find_model
    from edgeae.network.weight_file import describe

    found = describe_library(Path(model)) if model.endswith(LIBRARIES) else describe(find_model(model))
    rows = [
        [key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)] for key, value in found.items()
    ]
    width = max(len(row[0]) for row in rows)
    emit(found, [f"{key:<{width}}  {value}" for key, value in rows], as_json)


main.add_command(compile_)
main.add_command(bench)
main.add_command(profile)


@main.command()
@click.argument("model", type=TEXT)
@options(device_option, threads_option, json_option)
def verify(model: str, device: str | None, threads: int | None, as_json: bool) -> None:
    """Check a model's output on a device.

    Runs the golden input stored in the file; exit 4 when the output is out of tolerance.
    """
    from edgeae.inference.golden import verify as verify_session

    result = verify_session(load(model, device, threads=threads))
    verdict = "passed" if result.passed else "FAILED"
    emit(
        asdict(result) | {"passed": result.passed},
        f"{verdict} on {result.device}: largest difference {result.largest_error:.2e}, allowed {result.tolerance:.2e}",
        as_json,
    )
    if not result.passed:
        raise GateError(f"{model} is out of tolerance on {result.device}.")


@main.command()
@options(json_option)
def devices(as_json: bool) -> None:
    """List the backends: usable or not, and why.

    For one that is not, the command that would mend it.
    """
    from edgeae.runtime.devices import probe_all

    found = probe_all()
    rows = [[s.name, "yes" if s.usable else "no", s.detail if s.usable else s.reason] for s in found]
    mends = [f"  {s.name}: {s.mend}" for s in found if not s.usable and s.mend]
    emit(found, [*table(["device", "usable", ""], rows), *(["", "to mend:", *mends] if mends else [])], as_json)
    if not any(s.usable for s in found):
        raise DeviceError("no device is usable; the table says why.")


if __name__ == "__main__":
    main()
