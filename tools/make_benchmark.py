"""Measure the shipped default model on this machine, and write the results into the documentation.

    python tools/make_benchmark.py                     # measures: the machine should do nothing else meanwhile
    python tools/make_benchmark.py --write-only        # from docs/benchmark.json, as it was measured last

What `edgeae bench -d all --batch 1,32 --peers` measures. Goes to docs/benchmark.json, docs/benchmark.png, the table in
docs/benchmark.md and the summary in README.md. Needs `pip install ".[bench]"`.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from edgeae.benchmark import bench
from edgeae.benchmark.cases import Case
from edgeae.benchmark.cold import ColdStart
from edgeae.benchmark.machine import headline
from edgeae.benchmark.picture import picture
from edgeae.benchmark.results import Results, Row
from edgeae.images.files.array_io import write_image

BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"

# The rows of the summary: runtime and weights, all on the CPU.
SUMMARY = (
    ("edgeae", "int8"),
    ("edgeae library", "int8"),
    ("ONNX Runtime", "float32"),
    ("OpenVINO", "float32"),
    ("OpenVINO", "all int8"),
    ("PyTorch", "float32"),
)


@click.command(help=__doc__)
@click.option("--root", type=click.Path(path_type=Path, exists=True), default=Path(), help="The repository.")
@click.option("--write-only", is_flag=True, help="Write what docs/benchmark.json holds, without measuring.")
def main(root: Path, write_only: bool) -> None:
    store = root / "docs" / "benchmark.json"
    if write_only:
        results = read(json.loads(store.read_text(encoding="utf-8")))
    else:
        results = bench(devices=["all"], with_peers=True, on_progress=lambda line: click.echo(line, err=True))
        if results.warnings:
            raise click.ClickException(results.warnings[0])
        store.write_text(json.dumps(results.as_dict(), indent=1) + "\n", encoding="utf-8")
    write_image(picture(results.rows), root / "docs" / "benchmark.png")
    replace_between_marks(root / "docs" / "benchmark.md", full_table(results))
    replace_between_marks(root / "README.md", summary(results))


def read(document: dict[str, Any]) -> Results:
    """Return the results that a document of `Results.as_dict` describes."""
    rows = []
    for values in document["rows"]:
        case = Case(**{field.name: values[field.name] for field in fields(Case)})
        figures = {field.name: values[field.name] for field in fields(Row) if field.name != "case"}
        for key in ("min_ms", "p50_ms", "p90_ms", "p99_ms", "spread", "images_per_s"):
            figures[key] = math.nan if figures[key] is None else figures[key]
        if figures["psnr_db"] is None and figures["largest_difference"] == 0:
            figures["psnr_db"] = math.inf  # JSON has no infinity: equal images are stored as null
        for key in ("cold", "cached"):
            figures[key] = ColdStart(**figures[key]) if figures[key] else None
        rows.append(Row(case, **figures))
    return Results(document["machine"], rows, document["left_out"], document["warnings"])


def full_table(results: Results) -> list[str]:
    """Return the raw table, with the machine above it."""
    return ["```", *headline(results.machine), *results.table(), "```"]


def summary(results: Results) -> list[str]:
    """Return the Markdown table of the README: one line a runtime, medians on the CPU."""
    machine, first = results.machine, results.rows[0].case
    lines = [
        f"`{first.model}`, images of {first.width}×{first.height}, {machine['processor']}, {first.threads} threads, "
        f"{machine['kernels']}, {machine['time'][:10]}:",
        "",
        "| runtime | weights | 1 image, ms | 32 images, images/s | first image of a process, s | memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for runtime, weights in SUMMARY:
        rows = {
            row.case.batch: row
            for row in results.rows
            if (row.case.runtime, row.case.weights, row.case.device) == (runtime, weights, "CPU") and not row.wrong
        }
        if {1, 32} <= set(rows):
            one, many = rows[1], rows[32]
            first_s = f"{one.cached.first_image:.2f}" if one.cached else ""
            memory = f"{one.peak_bytes / 2**20:.0f}" if one.peak_bytes else ""
            lines.append(
                f"| {runtime} | {weights} | {one.p50_ms:.2f} | {many.images_per_s:,.0f} | {first_s} | {memory} |"
            )
    return lines


def replace_between_marks(page: Path, lines: list[str]) -> None:
    """Replace what stands between the two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise click.ClickException(f"{page} has no place for the table: {BEGIN} … {END}")
    page.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
