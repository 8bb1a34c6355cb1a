"""`edgeae interpolate`: walk from image to image."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import (
    PATH,
    device_option,
    json_option,
    memory_option,
    model_option,
    options,
    output_option,
    threads_option,
)
from edgeae.cli.program import command
from edgeae.cli.session import open_session
from edgeae.errors import UsageError
from edgeae.network.shipped import DEFAULT_VAE


@command()
@click.argument("images", nargs=-1, required=True, type=PATH, metavar="SOURCE TARGET [MORE]...")
@options(
    model_option(DEFAULT_VAE),
    device_option,
    output_option(
        "Animation to write (.gif, .webp or .png), or a folder for one PNG a step.", default="interpolation.gif"
    ),
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
        help="Go from code to code in a straight line, or along an arc (spherical).",
    ),
    click.option("--strip", is_flag=True, help="Write all steps side by side as one .png, not an animation."),
    click.option("--fps", type=click.FloatRange(0.1, 100), default=12, show_default=True, help="Frames a second."),
    memory_option,
    threads_option(),
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
    max_mem: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Turn one image into another, step by step.

    Walks evenly from the code of each image to that of the next, and decodes each step.

    \b
        edgeae interpolate -m faces-vae neutral.jpg smiling.jpg -o smile.gif
    """
    from edgeae.files import is_folder, is_same_file
    from edgeae.images.drawing.animations import ANIMATION_FORMATS, write_animation
    from edgeae.images.drawing.grids import film_strip
    from edgeae.images.files.array_io import read_image, write_image
    from edgeae.images.files.formats import format_of

    if len(images) < 2:
        raise UsageError("interpolate needs a SOURCE and a TARGET image.")
    folder = not strip and (not output.suffix or is_folder(output))
    if strip and output.suffix.lower() != ".png":
        raise UsageError("a film strip is a .png; name one with -o.")
    if not folder and not strip:
        format_of(output, None, ANIMATION_FORMATS)
    if not folder and (same := next((image for image in images if is_same_file(image, output)), None)):
        raise UsageError(f"{same} would be overwritten by the result; name another file with `output`.")
    session = open_session(model, device, threads=threads, max_mem=max_mem)
    channels = session.config.in_channels
    keys = [read_image(image, channels) for image in images]
    frames = session.interpolate(*keys, steps=steps, path=path)
    if folder:
        written = [output / f"{i:04}.png" for i in range(len(frames))]
        for frame, name in zip(frames, written, strict=True):
            write_image(frame, name, like=images)
    else:
        written = [output]
        if strip:
            write_image(film_strip(frames), output, like=images)
        else:
            write_animation(frames, output, fps=fps, like=images)
    emit(
        {"device": session.device, "frames": len(frames), "output": written},
        f"{output}  {len(frames)} frames of {frames.shape[2]}×{frames.shape[1]}",
        as_json,
    )
