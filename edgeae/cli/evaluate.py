"""`edgeae evaluate`: score a model on a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeae.cli.console import emit, note
from edgeae.cli.options import (
    TEXT,
    batch_option,
    device_option,
    json_option,
    limit_option,
    options,
    seed_option,
    targets_option,
    threads_option,
)
from edgeae.cli.program import command
from edgeae.cli.session import open_session
from edgeae.formatting import decibels, table

if TYPE_CHECKING:
    from edgeae.data.report import Report
    from edgeae.images.scores import Scores


@command()
@click.argument("model", type=TEXT)
@options(
    click.option(
        "--data",
        type=TEXT,
        required=True,
        help="Images, as for `edgeae train`. If they have a validation split, it is used.",
    ),
    targets_option,
    click.option(
        "--corrupt", default=None, metavar="SPEC", help="Damage to undo.  [default: what the model was trained on]"
    ),
    click.option(
        "--size",
        type=click.IntRange(8, 4096),
        default=None,
        help="Pixels a side; not for a vae.  [default: the size that the model was trained on]",
    ),
    limit_option(1),
    device_option,
    seed_option,
    batch_option(),
    threads_option(),
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

    Prints PSNR, SSIM, MSE and sharpness of the input and the output, against the clean images. Then compares the code
    of the clean images, as 8-bit numbers, with WebP and JPEG files of at most as many bytes.
    """
    from edgeae.training.evaluation import evaluate as evaluate_session

    session = open_session(model, device, batch, threads)

    def show(report: Report) -> None:
        if report.too_small or report.unreadable or report.unmatched or report.notes:
            note(report.table())

    result = evaluate_session(
        session, data, corrupt=corrupt, targets=targets, seed=seed, limit=limit, size=size, on_report=show
    )

    header = ["", "PSNR, dB", "in the holes", "SSIM", "MSE", "sharpness"]
    rows = [_score_row("input", result.input), _score_row("output", result.output)]
    lines = [
        f"{result.images} images of {data}, damage {result.corrupt}, on {session.device}",
        *table(header, rows, right=range(1, 6)),
    ]
    if result.rates:
        header = ["undamaged", "bytes", "bits a pixel", "PSNR, dB"]
        rows = [[r.name, f"{r.bytes:,.0f}", f"{r.bits_per_pixel:.2f}", f"{r.psnr:.2f}"] for r in result.rates]
        lines += ["", *table(header, rows, right=range(1, 4))]
    emit(result.as_dict() | {"device": session.device}, lines, as_json)


def _score_row(name: str, scores: Scores | None) -> list[str]:
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
