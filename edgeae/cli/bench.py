"""`edgeae bench`: time models, and compare with limits and earlier results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeae.cli.console import emit, note
from edgeae.cli.flags import name_flags
from edgeae.cli.options import PATH, SCHEME, TEXT, Positive, Several, json_option, options, size_option
from edgeae.cli.program import command
from edgeae.errors import GateError, UsageError
from edgeae.network.shipped import DEFAULT

if TYPE_CHECKING:
    from edgeae.benchmark.results import Results

TASKS = ("reconstruct", "encode", "decode", "frame", "train")


@command()
@options(
    click.option(
        "-m",
        "--model",
        "models",
        type=TEXT,
        multiple=True,
        default=(DEFAULT,),
        show_default=True,
        metavar="MODEL",
        help="Name of a shipped model, or path of a weight file. Repeat it for several.",
    ),
    click.option(
        "-d",
        "--device",
        "devices",
        type=TEXT,
        multiple=True,
        default=("auto",),
        show_default=True,
        metavar="DEVICE",
        help="A device, or `all` for every usable one. Repeat it for several.",
    ),
    click.option(
        "--task",
        "tasks",
        type=Several(click.Choice(TASKS)),
        default=("reconstruct",),
        metavar="TASK,...",
        help=f"What to time: {', '.join(TASKS)}.  [default: reconstruct]",
    ),
    click.option(
        "--batch",
        "batches",
        type=Several(click.IntRange(1, 4096)),
        default=(1, 32),
        metavar="N,...",
        help="Images that go through the network at once.  [default: 1,32]",
    ),
    size_option,
    click.option(
        "--quantize",
        type=Several(SCHEME),
        default=None,
        metavar="SCHEME,...",
        help="How the weights are stored: none, fp16, int8, int4.  [default: as in the file]",
    ),
    click.option(
        "--threads",
        type=Several(click.IntRange(1, 1024)),
        default=None,
        metavar="N,...",
        help="CPU threads.  [default: all]",
    ),
    click.option(
        "--peers",
        is_flag=True,
        help='Time ONNX Runtime, OpenVINO, PyTorch and torch.compile too (pip install "edgeae[bench]").',
    ),
    click.option(
        "--pace",
        type=Positive(1000),
        default=None,
        metavar="HZ",
        help="Call this often a second, as a camera does, with cold caches.  [default: without a pause]",
    ),
    click.option(
        "--cold/--no-cold", default=True, help="Time the first image of a fresh process too.  [default: cold]"
    ),
    click.option(
        "--runs",
        type=click.IntRange(1, 1_000_000),
        default=100,
        show_default=True,
        help="Timed calls of each case, unless --max-secs pass before.",
    ),
    click.option(
        "--max-secs",
        type=Positive(),
        default=120.0,
        show_default=True,
        help="Seconds for the timed calls of all cases.",
    ),
    click.option(
        "-o",
        "--output",
        type=PATH,
        default=None,
        metavar="DIR",
        help="Folder for bench.json, bench.csv and bench.png.  [default: none is written]",
    ),
    click.option(
        "--against",
        type=PATH,
        default=None,
        metavar="OLD.json",
        help="Compare with an earlier bench.json; changes beyond the spread are marked.",
    ),
    click.option("--max-ms", type=Positive(), default=None, help="Exit with code 4 if a median is longer than this."),
    click.option(
        "--min-ips", type=Positive(), default=None, help="Exit with code 4 if a case gives fewer images a second."
    ),
    json_option,
)
def bench(
    models: tuple[str, ...],
    devices: tuple[str, ...],
    tasks: tuple[str, ...],
    batches: tuple[int, ...],
    size: tuple[int, int] | None,
    quantize: tuple[str, ...] | None,
    threads: tuple[int, ...] | None,
    peers: bool,
    pace: float | None,
    cold: bool,
    runs: int,
    max_secs: float,
    output: Path | None,
    against: Path | None,
    max_ms: float | None,
    min_ips: float | None,
    as_json: bool,
) -> None:
    """Time models on this machine's devices.

    All cases take turns in one process, so that a disturbance meets all of them. A time counts only if the output
    agrees with the float32 output of the CPU. In the table, ± is the largest distance of a turn's median from the
    median of all turns, "parity" the largest difference of a pixel in [0, 1], and "PSNR" is measured against the
    float32 weights.

    \b
        edgeae bench -m faces-residual -d all --batch 1,32 --peers -o bench/
        edgeae bench --pace 30 --batch 1 --threads 1,2
    """
    from edgeae.benchmark import bench as measure
    from edgeae.benchmark.machine import headline
    from edgeae.benchmark.results import compare, comparison, read_earlier

    earlier = read_earlier(against) if against is not None else {}  # before minutes of measuring
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(f"{output} is no folder: -o names the one for bench.json, bench.csv and bench.png.")
    results = measure(
        models,
        devices,
        tasks=tasks,
        batches=batches,
        size=size,
        quantize=quantize or (None,),
        threads=threads or (None,),
        with_peers=peers,
        pace_hz=pace,
        cold_start=cold,
        runs=runs,
        max_secs=max_secs,
        on_progress=note,
    )
    results = replace(results, left_out=[name_flags(sentence) for sentence in results.left_out])
    changes = compare(results, earlier)
    if output is not None:
        _write(results, output)
    document = results.as_dict()
    if against:
        document["against"] = [vars(change) | {"moved": change.moved} for change in changes]
    lines = [*headline(results.machine), *results.table()]
    lines += ["", *comparison(changes)] if changes else []
    lines += ["", *results.left_out] if results.left_out else []
    emit(document, lines, as_json)
    for warning in results.warnings:
        note(f"warning: {warning}")
    _check_limits(results, max_ms, min_ips)


def _write(results: Results, folder: Path) -> None:
    from edgeae.benchmark.picture import picture
    from edgeae.files import write_bytes_atomic
    from edgeae.images.files.array_io import write_image

    write_bytes_atomic(folder / "bench.json", (json.dumps(results.as_dict(), indent=1) + "\n").encode())
    write_bytes_atomic(folder / "bench.csv", results.csv().encode())
    write_image(picture(results.rows), folder / "bench.png")


def _check_limits(results: Results, max_ms: float | None, min_ips: float | None) -> None:
    """Raise GateError if an output is wrong, or a case slower than the limits allow."""
    failed = [f"{row.case.name} is wrong: {row.wrong}" for row in results.rows if row.wrong]
    right = [row for row in results.rows if not row.wrong]
    if max_ms is not None:
        failed += [
            f"{row.case.name} takes {row.p50_ms:.2f} ms, more than {max_ms:g}" for row in right if row.p50_ms > max_ms
        ]
    if min_ips is not None:
        failed += [
            f"{row.case.name} gives {row.images_per_s:.0f} images/s, less than {min_ips:g}"
            for row in right
            if row.images_per_s < min_ips
        ]
    if failed:
        more = f" ({len(failed) - 1} more like it)" if len(failed) > 1 else ""
        raise GateError(f"{failed[0]}{more}.")
