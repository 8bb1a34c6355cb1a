"""`edgeae bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeae.cli.console import emit, note
from edgeae.cli.flags import name_flags
from edgeae.cli.options import PATH, TEXT, Size, json_option, options
from edgeae.cli.program import command
from edgeae.errors import GateError, UsageError
from edgeae.network.shipped import DEFAULT

if TYPE_CHECKING:
    from edgeae.benchmark.results import Results

TASKS = ("reconstruct", "encode", "decode", "frame", "train")


class _Several(click.ParamType[tuple[Any, ...]]):
    """Values with commas between them."""

    name = "list"

    def __init__(self, one: click.ParamType[Any]) -> None:
        self._one = one

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(self._one.convert(part.strip(), param, ctx) for part in str(value).split(","))


class _Positive(click.ParamType[float]):
    """A number above 0 and at most `most`."""

    name = "number"

    def __init__(self, most: float = 1e12) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(click.FLOAT.convert(value, param, ctx))
        if not 0 < found <= self._most:  # true of NaN
            self.fail(f"{value} is no number above 0 and up to {self._most:g}.", param, ctx)
        return found


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
        help="A shipped name or a weight file; may be given more than once.",
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
        help="A backend, or all that are usable; may be given more than once.",
    ),
    click.option(
        "--task",
        "tasks",
        type=_Several(click.Choice(TASKS)),
        default=("reconstruct",),
        metavar="TASK,...",
        help=f"Of {', '.join(TASKS)}.  [default: reconstruct]",
    ),
    click.option(
        "--batch",
        "batches",
        type=_Several(click.IntRange(1, 4096)),
        default=(1, 32),
        metavar="N,...",
        help="Images in a call.  [default: 1,32]",
    ),
    click.option(
        "--size",
        type=Size(),
        default=None,
        metavar="WxH",
        help="Of the images.  [default: what the model was trained on]",
    ),
    click.option(
        "--quantize",
        type=_Several(click.Choice(["none", "fp16", "int8", "int4"])),
        default=None,
        metavar="SCHEME,...",
        help="Forms of the weights.  [default: as the file has them]",
    ),
    click.option(
        "--threads",
        type=_Several(click.IntRange(1, 1024)),
        default=None,
        metavar="N,...",
        help="CPU threads.  [default: every core]",
    ),
    click.option("--peers", is_flag=True, help="Also ONNX Runtime, OpenVINO and PyTorch (edgeae[bench])."),
    click.option(
        "--pace", type=_Positive(1000), default=None, metavar="HZ", help="Call at a camera's rhythm, with cold caches."
    ),
    click.option("--cold/--no-cold", default=True, help="The first image of fresh processes too.  [default: cold]"),
    click.option(
        "--runs",
        type=click.IntRange(1, 1_000_000),
        default=100,
        show_default=True,
        help="Timed calls of each, if there is time.",
    ),
    click.option("--max-secs", type=_Positive(), default=120.0, show_default=True, help="For the timed calls of all."),
    click.option(
        "-o", "--output", type=PATH, default=None, metavar="DIR", help="Folder for bench.json, bench.csv and bench.png."
    ),
    click.option(
        "--against",
        type=PATH,
        default=None,
        metavar="OLD.json",
        help="Ratios to an earlier bench.json; what moved beyond the spread is marked.",
    ),
    click.option("--max-ms", type=_Positive(), default=None, help="Exit 4 when a median is longer."),
    click.option("--min-ips", type=_Positive(), default=None, help="Exit 4 when one gives fewer images a second."),
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
    """Time models on this machine's backends, and check what they give.

    All take turns in one process, so that what disturbs one disturbs all; outputs are compared with the CPU's in
    float32 before a time counts. "±" is how far the median of a turn went from that of all; "parity" the largest
    difference of a pixel in [0, 1]; "PSNR" is to the float32 weights.

    \b
        edgeae bench -m faces-residual -d all --batch 1,32 --peers -o bench/
        edgeae bench --pace 30 --batch 1 --threads 1,2
    """
    from edgeae.benchmark import bench as measure
    from edgeae.benchmark.machine import headline
    from edgeae.benchmark.results import compare, comparison

    if against is not None and not against.is_file():
        raise UsageError(f"{against} does not exist.")
    if output is not None and output.exists() and not output.is_dir():  # told now, not after minutes
        raise UsageError(f"{output} is no folder: -o names the one for bench.json, bench.csv and bench.png.")
    found = measure(
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
    found = replace(found, left_out=[name_flags(sentence) for sentence in found.left_out])
    changes = compare(found, against) if against else []
    if output is not None:
        _write(found, output)
    document = found.as_dict()
    if against:
        document["against"] = [vars(change) | {"moved": change.moved} for change in changes]
    lines = [*headline(found.machine), *found.table()]
    lines += ["", *comparison(changes)] if changes else []
    lines += ["", *found.left_out] if found.left_out else []
    emit(document, lines, as_json)
    for warning in found.warnings:
        note(f"warning: {warning}")
    _gates(found, max_ms, min_ips)


def _write(found: Results, folder: Path) -> None:
    from edgeae.benchmark.picture import picture
    from edgeae.files import write_bytes_atomic
    from edgeae.images.files.array_io import write_image

    write_bytes_atomic(folder / "bench.json", (json.dumps(found.as_dict(), indent=1) + "\n").encode())
    write_bytes_atomic(folder / "bench.csv", found.csv().encode())
    write_image(picture(found.rows), folder / "bench.png")


def _gates(found: Results, max_ms: float | None, min_ips: float | None) -> None:
    """Exit 4 for what is wrong, too slow, or too few."""
    failed: Sequence[str] = [f"{row.case.name} is wrong: {row.wrong}" for row in found.rows if row.wrong]
    if max_ms is not None:
        failed = [
            *failed,
            *(
                f"{row.case.name} takes {row.p50_ms:.2f} ms, more than {max_ms:g}"
                for row in found.rows
                if not row.wrong and row.p50_ms > max_ms
            ),
        ]
    if min_ips is not None:
        failed = [
            *failed,
            *(
                f"{row.case.name} gives {row.images_per_s:.0f} images/s, less than {min_ips:g}"
                for row in found.rows
                if not row.wrong and row.images_per_s < min_ips
            ),
        ]
    if failed:
        more = f" ({len(failed) - 1} more like it)" if len(failed) > 1 else ""
        raise GateError(f"{failed[0]}{more}.")
