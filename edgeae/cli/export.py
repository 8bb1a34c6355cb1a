"""`edgeae export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeae.cli.console import emit, note
from edgeae.cli.options import PATH, TEXT, device_option, json_option, options, output_option
from edgeae.cli.program import command
from edgeae.errors import UsageError
from edgeae.formatting import table

if TYPE_CHECKING:
    from edgeae.images.scores import Scores


@command()
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
