"""`edgeae export`: write a weight file or an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeae.cli.console import emit, note
from edgeae.cli.options import PATH, SCHEME, TEXT, device_option, json_option, options, output_option, targets_option
from edgeae.cli.program import command
from edgeae.errors import UsageError
from edgeae.formatting import table

if TYPE_CHECKING:
    from edgeae.exporting.weights import ExportReport
    from edgeae.images.scores import Scores


@command()
@click.argument("checkpoint", type=PATH)
@options(
    output_option("File to write: .safetensors, or .onnx for other runtimes.", required=True),
    click.option(
        "--quantize",
        type=SCHEME,
        default=None,
        help="How to store the weights.  [default: none; for .onnx as in the checkpoint]",
    ),
    click.option(
        "--format",
        "kind",
        type=click.Choice(["safetensors", "onnx"]),
        default=None,
        help="Format of the file.  [default: by the name's ending]",
    ),
    click.option(
        "--part",
        type=click.Choice(["reconstruct", "encode", "decode"]),
        default="reconstruct",
        show_default=True,
        help="Part of the network that an .onnx file computes.",
    ),
    click.option(
        "--data",
        type=TEXT,
        default=None,
        help="Images to measure the loss on.  [default: those of the run, else faces]",
    ),
    targets_option,
    click.option(
        "--standardize",
        type=TEXT,
        default=None,
        metavar="DATA",
        help="Turn the code of a vae so that samples look like these images; helps small datasets.",
    ),
    click.option(
        "--tune",
        type=click.IntRange(0, 10000),
        default=0,
        show_default=True,
        metavar="EPOCHS",
        help="Go on training for so many epochs with rounded weights; helps int4.",
    ),
    click.option("--licence", default=None, help="Licence to write into the file.  [default: that of the checkpoint]"),
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
    targets: str | None,
    standardize: str | None,
    tune: int,
    licence: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Write a checkpoint as a file for a device.

    CHECKPOINT is a weight file, or a run folder, of which the best weights are used. For an .onnx file it can also be
    the name of a shipped model.

    \b
        edgeae export runs/photos-conv -o photos-conv.safetensors --quantize int8
        edgeae export faces-residual -o faces-residual.onnx
    """
    if (kind or output.suffix.removeprefix(".")) == "onnx":
        if data or targets or standardize or tune or licence:
            raise UsageError(
                "an .onnx file is made of a finished model: --data, --targets, --standardize, --tune and "
                "--licence are for the .safetensors file that it is made from."
            )
        _export_onnx(str(checkpoint), output, quantize, part, as_json)
        return
    from edgeae.exporting.weights import export as export_weights

    if part != "reconstruct":
        raise UsageError("--part is for .onnx files; a .safetensors file holds the whole network.")
    report = export_weights(
        checkpoint,
        output,
        scheme=quantize or "none",
        data=data,
        targets=targets,
        device=device,
        licence=licence,
        standardize=standardize,
        tune=tune,
        on_epoch=lambda epoch, psnr: note(f"tuning {epoch}/{tune}  PSNR {psnr:.2f} dB"),
    )
    for sentence in report.notes:
        note(sentence)
    emit(
        report,
        [
            *_tensor_table(report),
            "",
            f"{report.path}  {report.size_bytes:,} bytes, {report.size_bytes / report.fp32_bytes:.1%} of fp32",
            f"on {report.images} images of {report.data}, against fp32: PSNR {report.psnr_to_fp32:.1f} dB, "
            f"SSIM {report.ssim_to_fp32:.4f}",
            f"against the clean images: fp32 {_describe(report.fp32)}; {report.quantize} {_describe(report.exported)}",
        ],
        as_json,
    )


def _tensor_table(report: ExportReport) -> list[str]:
    """Return the lines of a table: what each tensor takes, and its largest error."""

    def row(name: str, shape: str, fp32_bytes: int, size_bytes: int, largest_error: float) -> list[str]:
        bits = 8 * size_bytes / (fp32_bytes / 4)  # of each weight, its share of the scales included
        return [name, shape, f"{fp32_bytes:,}", f"{size_bytes:,}", f"{bits:.2f}", f"{largest_error:.2e}"]

    rows = [
        row(t.name, "×".join(map(str, t.shape)), t.fp32_bytes, t.size_bytes, t.largest_error) for t in report.tensors
    ]
    size_bytes = sum(t.size_bytes for t in report.tensors)
    rows.append(row("sum", "", report.fp32_bytes, size_bytes, max(t.largest_error for t in report.tensors)))
    header = ["tensor", "shape", "fp32 bytes", "bytes", "bits", "largest error"]
    return table(header, rows, right=range(2, 6))


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


def _describe(scores: Scores) -> str:
    return f"PSNR {scores.psnr:.2f} dB, SSIM {scores.ssim:.4f}"
