"""Make the README's pictures in docs/: the sample photos restored, and faces that the vae made up.

python tools/make_pictures.py [-o docs]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

import edgeae
from edgeae import imaging, pictures, restoring
from edgeae.zoo import DEFAULT, DEFAULT_VAE


@click.command(help=__doc__)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs"))
@click.option("-d", "--device", default=None)
def main(output: Path, device: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        restoring.demonstrate(edgeae.load(DEFAULT, device), Path(folder))
        imaging.write_image(imaging.read_image(Path(folder) / "samples.png"), output / "samples.png")
    vae = edgeae.load(DEFAULT_VAE, device)
    faces = vae.sample(4, seed=3)
    frames = vae.interpolate(*faces, faces[0], steps=12)
    large = [np.asarray(frame).repeat(2, axis=0).repeat(2, axis=1) for frame in frames]
    pictures.write_animation(large, output / "morph.gif", ping_pong=False)


if __name__ == "__main__":
    main()
