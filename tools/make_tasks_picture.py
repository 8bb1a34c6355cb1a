"""Make docs/tasks.png: results of the examples of denoising, colorization, alignment and segmentation.

python tools/make_tasks_picture.py [-r runs] [-o docs]

It runs the four examples, which train their networks unless `runs/` already holds them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from edgeae.images.drawing.grids import comparison
from edgeae.images.files.array_io import write_image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# For each example, the row of its own picture that is shown between input and target: the network's result.
TASKS = {
    "denoise": "network",
    "colorize": "coloured",
    "align": "shifted picture,\nmoved to fit it",
    "segment": "output",
}
FACES = 3


@click.command(help=__doc__)
@click.option("-r", "--runs", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs"))
@click.option("-d", "--device", default=None)
def main(runs: Path, output: Path, device: str | None) -> None:
    sys.path.insert(0, str(EXAMPLES))
    shown = []
    for task, result in TASKS.items():
        arguments = ["--out", str(runs / task), *(["--device", device] if device else [])]
        rows = importlib.import_module(task).main(arguments)
        stages = [next(iter(rows.values())), rows[result], rows["target"]]
        shown.append([stage[i] for i in range(FACES) for stage in stages])
    titles = ["input", "output", "wanted"] * FACES
    write_image(comparison(shown, titles, list(TASKS), min_side=96), output / "tasks.png")


if __name__ == "__main__":
    main()
