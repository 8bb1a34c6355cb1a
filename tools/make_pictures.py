"""Make the README's picture in docs/: the sample photos, damaged and restored.

python tools/make_pictures.py [-o docs]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

import edgeae
from edgeae import imaging, restoring
from edgeae.zoo import DEFAULT


@click.command(help=__doc__)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs"))
@click.option("-d", "--device", default=None)
def main(output: Path, device: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        restoring.demonstrate(edgeae.load(DEFAULT, device), Path(folder))
        imaging.write_image(imaging.read_image(Path(folder) / "samples.png"), output / "samples.png")


if __name__ == "__main__":
    main()
