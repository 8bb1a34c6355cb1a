"""Make the README's pictures in docs/.

    python tools/make_pictures.py --data DATA [-o docs]

DATA holds `faces`, as for make_models.py; only validation faces are shown, of people that no model was trained on. The
photos are public domain or CC0 (`pip install ".[peers,samples]"`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import score_models

import edgeae
from edgeae.data.datasets import open_dataset
from edgeae.images.arrays import Pixels, fit, to_float
from edgeae.images.damage.spec import Corruption, parse
from edgeae.images.drawing.animations import write_animation
from edgeae.images.drawing.grids import comparison, grid
from edgeae.images.files.array_io import read_image, write_image
from edgeae.inference.demo import demonstrate
from edgeae.inference.sample_photos import samples
from edgeae.inference.session import Session
from edgeae.network.shipped import DEFAULT

Floats = npt.NDArray[np.float32]

# The photo that each kind of damage is shown on. For those in MASKED the models also get the mask, as with --mask.
DAMAGES = {
    "occlude:0.12": "chelsea",
    "scratch:0.06": "astronaut",
    "pixels:0.4": "coffee",
    "noise:0.1": "rocket",
    "jpeg:10": "astronaut",
    "blur:0.8": "chelsea",
    "gray": "coffee",
}
MASKED = ("occlude", "scratch", "pixels")
FACE_DAMAGES = ("occlude:0.1", "occlude:0.25", "scratch:0.08", "pixels:0.4", "none")
SHOWN = 128  # pixels a side
PEOPLE = (
    (0, 0, "neutral", "smiling"),
    (3, 8, "neutral", "neutral"),
)


def row(clean: Floats, damage: Corruption, models: list[Session], seed: int, masked: bool = False) -> list[Floats]:
    """Return an original, its damaged version, and each model's output."""
    damaged, hole = damage(clean, np.random.default_rng(seed))
    if not masked:
        return [clean, damaged, *(model.reconstruct(damaged) for model in models)]
    return [clean, damaged, *(score_models.with_mask(model)(damaged, hole) for model in models)]


def photo_picture(conv: Session, residual: Session) -> Pixels:
    """Draw every kind of damage to photos."""
    shown = {sample.name: to_float(sample.image) for sample in samples(SHOWN)}
    masked = [spec.startswith(MASKED) for spec in DAMAGES]
    rows = [
        row(shown[name], parse(spec), [conv, residual], seed, masked[seed])
        for seed, (spec, name) in enumerate(DAMAGES.items())
    ]
    labels = [f"{spec}\n--mask" if told else spec for spec, told in zip(DAMAGES, masked, strict=True)]
    return comparison(rows, ["original", "damaged", "photos-conv", "photos-residual"], labels)


def face_picture(faces: Floats, conv: Session, residual: Session) -> Pixels:
    """Draw holes in faces."""
    rows = [row(faces[5 * seed + 2], parse(spec), [conv, residual], seed) for seed, spec in enumerate(FACE_DAMAGES)]
    return comparison(rows, ["original", "damaged", "faces-conv", "faces-residual"], list(FACE_DAMAGES))


def morphs(data: Path, vae: Session) -> list[Pixels]:
    """Return frames of two morphs side by side: a person begins to smile, and a person turns into another."""
    size = vae.config.size
    looks = {
        look: open_dataset(data / "faces" / "val" / look, size=size, val_fraction=1).val.inputs
        for look in ("neutral", "smiling")
    }
    films = [vae.interpolate(looks[before][a], looks[after][b], steps=13) for a, b, before, after in PEOPLE]
    return [
        grid([fit(frame, (2 * size, 2 * size)) for frame in frames], columns=len(films))
        for frames in zip(*films, strict=True)
    ]


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs"))
@click.option("-d", "--device", default=None)
def main(data: Path, output: Path, device: str | None) -> None:
    model = {
        name: edgeae.load(name, device)
        for name in ("photos-conv", "photos-residual", "faces-conv", "faces-residual", "faces-vae", "digits-vae")
    }
    with tempfile.TemporaryDirectory() as folder:
        demonstrate(model[DEFAULT], Path(folder), model[DEFAULT].metadata["task"])
        write_image(read_image(Path(folder) / "samples.png"), output / "samples.jpg")
    write_image(photo_picture(model["photos-conv"], model["photos-residual"]), output / "photos.jpg")
    faces = to_float(open_dataset(data / "faces", size=SHOWN).val.inputs)
    write_image(face_picture(faces, model["faces-conv"], model["faces-residual"]), output / "faces.jpg")
    write_animation(morphs(data, model["faces-vae"]), output / "morphs.gif", fps=10)
    drawn = [
        grid(model["faces-vae"].sample(24, seed=1), columns=8),
        grid(model["digits-vae"].sample(64, seed=1), columns=16),
    ]
    write_image(drawn[0], output / "samples-faces.jpg")
    write_image(drawn[1], output / "samples-digits.png")
    for path in sorted(output.iterdir()):
        click.echo(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
