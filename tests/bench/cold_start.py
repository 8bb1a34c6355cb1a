"""Time of the first `edgeae run` of a model, with an empty and with a full kernel cache.

Each run is a process of its own that restores one picture. The cache is tinygrad's file of compiled kernels, where ours
lie too, in a temporary folder. The first pair of runs of a model is not counted: it loads files into memory.

\b
    python tests/bench/cold_start.py
    python tests/bench/cold_start.py --model faces-conv --repeat 10
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image
from timing import Report, json_option, quick_option

from edgeae.network import shipped as zoo

_RUN = "from edgeae.cli.main import main; main()"
KERNELS = {"our kernels": "", "generated code": "off"}  # values of EDGEAE_KERNELS


def seconds_of_run(model: str, image: Path, cache: Path, kernels: str, threads: int) -> float:
    """Wall-clock time of a process that restores the image."""
    environment = {**os.environ, "DEV": "CPU", "CACHEDB": str(cache), "EDGEAE_KERNELS": kernels}
    command = [
        sys.executable,
        "-c",
        _RUN,
        "run",
        str(image),
        "-m",
        model,
        "-d",
        "CPU",
        "--threads",
        str(threads),
        "-o",
        str(cache.with_suffix(".png")),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise click.ClickException(f"edgeae run failed: {done.stderr.strip()}")
    return seconds


def empty_and_full(model: str, image: Path, kernels: str, threads: int) -> tuple[float, float]:
    """Seconds with an empty cache, then with what that run left in it."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache.db"
        first = seconds_of_run(model, image, cache, kernels, threads)
        if not cache.exists():
            raise click.ClickException("the run kept no kernels; is CACHELEVEL or CCACHE set?")
        return first, seconds_of_run(model, image, cache, kernels, threads)


@click.command(help=__doc__)
@click.option(
    "--model",
    multiple=True,
    metavar="MODEL",
    help="A name or a weight file; may be given more than once.  [default: all shipped]",
)
@click.option("--size", default=64, show_default=True, help="Height and width of the picture.")
@click.option("--threads", default=2, show_default=True, help="Threads of the run.")
@click.option("--repeat", default=5, show_default=True, help="Pairs of runs that are counted.")
@quick_option
@json_option
def main(model: tuple[str, ...], size: int, threads: int, repeat: int, quick: bool, json_path: Path | None) -> None:
    report = Report(threads, json_path)
    click.echo("\n".join(report.header()))
    click.echo(
        f"\n{'first run, s':24} {'kernels':15} {'empty':>6} {'min':>6} {'p90':>6}   {'full':>6} {'min':>6} "
        f"{'p90':>6}  difference"
    )
    names = model or tuple(zoo.names())[: 1 if quick else None]
    kinds = ["our kernels"] if quick else list(KERNELS)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "picture.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(image)
        for name in names:
            pairs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            for i in range(1 if quick else repeat + 1):
                for kind in kinds:
                    pair = empty_and_full(name, image, KERNELS[kind], threads)
                    pairs[kind] += [pair] if i or quick else []
            for kind in kinds:
                empty, full = np.array(pairs[kind]).T
                click.echo(
                    f"{Path(name).stem[:24]:24} {kind:15} {summary(empty)}   {summary(full)}  "
                    f"{np.median(empty) - np.median(full):10.2f}"
                )
                report.results[f"{Path(name).stem}, {kind}"] = {"empty": empty.tolist(), "full": full.tolist()}
    click.echo("\n".join(report.finish()))


def summary(seconds: np.ndarray) -> str:
    """Median, minimum and 90th percentile."""
    return " ".join(f"{np.percentile(seconds, q):6.2f}" for q in (50, 0, 90))


if __name__ == "__main__":
    main()
