"""`edgeae evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, batch_option, device_option, json_option, options, seed_option, threads_option
from edgeae.cli.program import command
from edgeae.cli.session import open_session
from edgeae.formatting import decibels, table

if TYPE_CHECKING:
    from edgeae.images.scores import Scores


@command()
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

    session = open_session(model, device, batch, threads)
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
