"""`edgeae sample`: make new images."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import (
    device_option,
    json_option,
    model_option,
    options,
    output_option,
    seed_option,
    threads_option,
)
from edgeae.cli.program import command
from edgeae.cli.session import open_session
from edgeae.network.shipped import DEFAULT_VAE


@command()
@options(
    model_option(DEFAULT_VAE),
    device_option,
    output_option("Picture to write.", default="samples.png"),
    click.option(
        "-n", "--count", type=click.IntRange(1, 4096), default=16, show_default=True, help="Number of samples."
    ),
    seed_option,
    threads_option(),
    json_option,
)
def sample(
    model: str, device: str | None, output: Path, count: int, seed: int, threads: int | None, as_json: bool
) -> None:
    """Make new images: decode random codes of a vae.

    The codes are drawn from the unit Gaussian.

    \b
        edgeae sample -m faces-vae -n 36 -o faces.png
    """
    from edgeae.images.drawing.grids import grid
    from edgeae.images.files.array_io import write_image
    from edgeae.images.files.formats import WRITE_FORMATS, format_of

    format_of(output, None, WRITE_FORMATS)
    session = open_session(model, device, threads=threads)
    write_image(grid(session.sample(count, seed)), output)
    emit(
        {"device": session.device, "count": count, "seed": seed, "output": output},
        f"{output}  {count} samples",
        as_json,
    )
