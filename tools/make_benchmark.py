"""Measure the default model on this machine, and write the table into README.md, the figures and picture into docs/.

    python tools/make_benchmark.py [--readme README.md] [-o docs]

It measures what `edgeae bench -d all --batch 1,32 --peers` does. Nothing else should run on the machine meanwhile.
Needs `pip install ".[bench]"`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeae.benchmark import bench
from edgeae.benchmark.machine import headline
from edgeae.benchmark.picture import picture
from edgeae.images.files.array_io import write_image

BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"


@click.command(help=__doc__)
@click.option("--readme", type=click.Path(path_type=Path, exists=True), default=Path("README.md"))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs"))
def main(readme: Path, output: Path) -> None:
    results = bench(devices=["all"], with_peers=True, on_progress=lambda line: click.echo(line, err=True))
    if results.warnings:
        raise click.ClickException(results.warnings[0])
    lines = ["```", *headline(results.machine), *results.table(), "```"]
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise click.ClickException(f"{readme} has no place for the table: {BEGIN} … {END}")
    readme.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")
    (output / "benchmark.json").write_text(json.dumps(results.as_dict(), indent=1) + "\n", encoding="utf-8")
    write_image(picture(results.rows), output / "benchmark.png")


if __name__ == "__main__":
    main()
