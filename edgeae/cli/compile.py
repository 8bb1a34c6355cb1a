"""`edgeae compile`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, Size, json_option, options, output_option
from edgeae.cli.program import command


@command("compile")
@click.argument("model", type=TEXT)
@options(
    output_option("The folder for the library and its sources.", required=True),
    click.option(
        "--target",
        type=TEXT,
        default="native",
        show_default=True,
        help="Machine: native, aarch64-linux, aarch64-linux-musl, armv7-linux, x86_64-linux, aarch64-macos.",
    ),
    click.option(
        "--cpu",
        type=TEXT,
        default=None,
        metavar="NAME",
        help="Its processor, as C compilers name it.  [default: this one, or a common one of the target]",
    ),
    click.option(
        "--size",
        type=Size(),
        default=None,
        metavar="WxH",
        help="Of the images.  [default: what the model was trained on]",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="Images that are worked on together.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 64),
        default=None,
        help="The most that it can use.  [default: every core here, or 4 elsewhere]",
    ),
    click.option("--name", type=TEXT, default=None, help="Of the library and its functions.  [default: the model's]"),
    json_option,
)
def compile_(
    model: str,
    output: Path,
    target: str,
    cpu: str | None,
    size: tuple[int, int] | None,
    batch: int,
    threads: int | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Compile a model to a shared library that needs nothing else.

    Beside it stand a C header, the C source, an example, and a Python file that needs NumPy alone. What is not for this
    machine takes the compiler of `pip install "edgeae[compiler]"`: `--target aarch64-linux --cpu cortex-a72` is a
    Raspberry Pi 4.

    \b
        edgeae compile faces-residual -o faces/
        edgeae compile faces-conv -o wide/ --size 256x128 --batch 2
    """
    from edgeae.exporting.library import compile as compile_model

    report = compile_model(model, output, target=target, cpu=cpu, size=size, batch=batch, threads=threads, name=name)
    tested = "not run here: its self-test is NAME_selftest".replace("NAME", report.name)
    if report.largest_difference is not None:
        tested = f"its self-test passes: {report.largest_difference:.1e} from tinygrad's float32 output at most"
    emit(
        report,
        [
            f"{report.library}  {report.size_bytes:,} bytes",
            f"for {report.processor} ({report.instruction_set}), {report.width}×{report.height}, "
            f"{report.batch} image{'s' * (report.batch > 1)} at once, up to {report.threads} "
            f"thread{'s' * (report.threads > 1)}; {report.seconds:.1f} s",
            tested,
            f"beside it: {', '.join(Path(path).name for path in report.files[1:])}",
        ],
        as_json,
    )
