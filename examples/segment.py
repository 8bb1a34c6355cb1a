"""Learn to name every pixel of a portrait: background, clothes, skin, hair or eyes. Segmentation from pairs of folders.

    python examples/segment.py                                    # draws its faces and masks, about 2 minutes
    python examples/segment.py --data photos/ --targets masks/    # your own, paired by name, one flat colour a class
    edgeae run -m runs/segment/best.safetensors photo.png -o mask.png

A generated face is drawn from known factors, so a mask needs no hand: hair is where the colour follows `hair_tone`,
skin where it follows `skin`, and so on; what follows none of them is an eye. The network is `residual`: its skip
connections bring the edges to the output at full resolution. The loss is cross-entropy, as pixels are of one class or
another. Prints the intersection over union of each class, beside a baseline that knows no more than where a class
usually is; writes segment.png. It knows portraits of the size it was trained on: make a larger photo as small first.
"""

from dataclasses import replace
from pathlib import Path

import common
import numpy as np

import edgeae
from edgeae.data import generated_faces as faces
from edgeae.data.datasets import open_dataset
from edgeae.images import arrays as imaging
from edgeae.images.files.array_io import read_image, write_image

COLOURS = {
    "eyes": (255, 255, 255),
    "background": (0, 0, 0),
    "clothes": (0, 0, 255),
    "skin": (255, 0, 0),
    "hair": (0, 255, 0),
}  # corners of the RGB cube, as far apart as the network's three outputs allow
FOLLOWS = {"background_brightness": 1.0, "clothes_hue": 0.5, "skin": 1.0, "hair_tone": 1.0}  # far from 0
UNMOVED = 0.3  # share of the largest change below which a colour does not follow a factor


def mask(face: faces.Face, size: int) -> np.ndarray:
    """The classes of a face's pixels, (size, size), as places in COLOURS. Glasses are looked through, mouths closed."""
    plain = replace(face, glasses=0, mouth_open=0, contrast=0, **dict.fromkeys(FOLLOWS, 0))
    before = faces.render(plain, size).astype(float)
    changes = [
        np.abs(faces.render(replace(plain, **{name: value}), size) - before).max(axis=2)
        for name, value in FOLLOWS.items()
    ]
    most_changed: np.ndarray = np.argmax(
        [np.full((size, size), UNMOVED), *(change / change.max() for change in changes)], axis=0
    )
    return most_changed


def draw(folder: Path, count: int, size: int, seed: int) -> tuple[str, str]:
    """Write faces and their masks, as --data and --targets want them."""
    colours = np.array(list(COLOURS.values()), np.uint8)
    for i in range(count):
        face = faces.random_face(np.random.default_rng((seed, i)))
        write_image(faces.render(face, size), folder / "photos" / f"{i:04}.png")
        write_image(colours[mask(face, size)], folder / "masks" / f"{i:04}.png")
    return str(folder / "photos"), str(folder / "masks")


def palette(folder: str) -> np.ndarray:
    """The colours of the classes in a folder of masks, uint8 (classes, 3)."""
    found: set[int] = set()
    for path in sorted(Path(folder).rglob("*.png")):
        found |= set(np.unique(read_image(path) @ np.array([1 << 16, 1 << 8, 1])).tolist())
        if len(found) > 64:
            raise edgeae.DataError(f"{path} is no mask of flat colours: give PNG files with one colour a class.")
    return np.array([[code >> 16, code >> 8 & 255, code & 255] for code in sorted(found)], np.uint8)


def classes(images: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The class whose colour is nearest, (N, H, W)."""
    nearest: np.ndarray = np.argmin(
        [np.square(images - colour / np.float32(255)).sum(axis=-1) for colour in colours], axis=0
    )
    return nearest


def iou(found: np.ndarray, wanted: np.ndarray, label: int) -> float:
    """Pixels that both give to a class, as a share of those that either does; NaN where there are none."""
    either = np.sum((found == label) | (wanted == label))
    return float(np.sum((found == label) & (wanted == label)) / either) if either else np.nan


def main(arguments: list[str] | None = None) -> common.Rows:
    parser = common.flags(__doc__, "segment", epochs=16, limit=600)
    parser.add_argument("--targets", help="with --data: the folder of masks")
    args = parser.parse_args(arguments)
    data, targets = args.data, args.targets
    if targets is None:
        if data != "faces":
            parser.error("--data needs --targets, a folder with a mask for each picture")
        data, targets = draw(args.out / "data", args.limit, args.size, args.seed)

    model = edgeae.ModelConfig.default("residual", size=args.size)
    # Drawn faces all stand in one place, which is worth learning; photographs do not.
    settings = edgeae.TrainConfig(
        data,
        targets,
        epochs=args.epochs,
        corrupt="none",
        limit=args.limit,
        seed=args.seed,
        augment=args.targets is not None,
        batch=8,
        lr=2e-3,
        loss="bce",
    )
    network, trial = common.learn(model, settings, args.out, args.device)

    train = open_dataset(data, size=args.size, targets=targets, limit=args.limit, seed=args.seed).train
    assert train.targets is not None
    colours = palette(targets)
    known = classes(imaging.to_float(train.targets), colours)
    usual = np.argmax([(known == label).mean(axis=0) for label in range(len(colours))], axis=0)
    wanted, output = classes(trial.clean, colours), network.reconstruct(trial.inputs)
    found = classes(output, colours)
    names = {colour: name for name, colour in COLOURS.items()}
    print(f"IoU on {len(found)} validation images:      usual place   network")
    for label, colour in enumerate(map(tuple, colours.tolist())):
        scores = (iou(np.broadcast_to(usual, wanted.shape), wanted, label), iou(found, wanted, label))
        print(f"{names.get(colour, str(colour)):<18}{scores[0]:27.3f}{scores[1]:10.3f}")
    rows = {"photo": imaging.to_uint8(trial.inputs), "output": colours[found], "wanted": imaging.to_uint8(trial.clean)}
    return common.show(args.out / "segment.png", rows)


if __name__ == "__main__":
    common.run(main)
