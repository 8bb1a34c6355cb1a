"""`edgeae compile`: write a shared library."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, batch_option, json_option, options, output_option, size_option, threads_option
from edgeae.cli.program import command


@command("compile")
@click.argument("model", type=TEXT)
@options(
    output_option("Folder for the library and its sources.", required=True),
    click.option(
        "--target",
        type=TEXT,
        default="native",
        show_default=True,
        help="Target machine: native, aarch64-linux, aarch64-linux-musl, armv7-linux, x86_64-linux, aarch64-macos.",
    ),
    click.option(
        "--cpu",
        type=TEXT,
        default=None,
        metavar="NAME",
        help="Processor of that machine, as C compilers name it.  [default: this one, or a common one of the target]",
    ),
    size_option,
    batch_option(1, 1024),
    threads_option(64, "Most CPU threads that the library can use.  [default: all of this machine, 4 on another]"),
    click.option(
        "--name",
        type=TEXT,
        default=None,
        help="Name of the library, with which its functions begin.  [default: the model's]",
    ),
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

    The folder also gets a C header, the C source, an example, and a Python file that needs only NumPy. To compile for
    another machine, install the compiler of `pip install "edgeae[compiler]"`: for a Raspberry Pi 4 use
    `--target aarch64-linux --cpu cortex-a72`.

    \b
        edgeae compile faces-residual -o faces/
        edgeae compile faces-conv -o wide/ --size 256x128 --batch 2
    """
    from edgeae.exporting.library import compile as compile_model

    report = compile_model(model, output, target=target, cpu=cpu, size=size, batch=batch, threads=threads, name=name)
    if report.largest_difference is None:  # compiled for another machine
        tested = f"not run here: its self-test is {report.name}_selftest"
    else:
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
