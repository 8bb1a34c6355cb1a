"""Segment portraits into background, clothes, skin, hair and eyes: learn from a folder of pictures and one of masks.

    python examples/segment.py                                    # generated faces and masks, about 2 minutes
    python examples/segment.py --data photos/ --targets masks/    # your own, paired by name, one flat colour a class
    edgeae run -m runs/segment/best.safetensors photo.png -o mask.png

A generated face is drawn from known factors, so its mask needs no hand: hair is where the colour follows `hair_tone`,
skin where it follows `skin`, and so on; the eyes are the rest. The network is `residual`: its skip connections bring
edges to the output at full resolution. The loss is cross-entropy, since a pixel belongs to one class or another. Prints
the intersection over union of each class, beside that of a baseline that gives each pixel the class it most often has
in training; writes segment.png. The network only knows portraits of its training size: scale a larger photo down first.
"""

from dataclasses import replace
from pathlib import Path

import common
import numpy as np

import edgeae
from edgeae.data import generated_faces as faces
from edgeae.data.datasets import open_dataset
from edgeae.images.arrays import to_float, to_uint8
from edgeae.images.files.array_io import read_image, write_image

COLOURS = {
    "eyes": (255, 255, 255),
    "background": (0, 0, 0),
    "clothes": (0, 0, 255),
    "skin": (255, 0, 0),
    "hair": (0, 255, 0),
}  # corners of the RGB cube: as far apart as three outputs of a network allow
# The factor that each class but the eyes follows, in the order of COLOURS, and a value of it far from 0.
FACTORS = {"background_brightness": 1.0, "clothes_hue": 0.5, "skin": 1.0, "hair_tone": 1.0}
UNMOVED = 0.3  # a pixel that changes by a smaller share of the largest change does not follow a factor


def mask(face: faces.Face, size: int) -> np.ndarray:
    """Return the class of each pixel of a face, (size, size), as an index of COLOURS; without glasses, mouth closed."""
    plain = replace(face, glasses=0, mouth_open=0, contrast=0, **dict.fromkeys(FACTORS, 0))
    before = faces.render(plain, size).astype(float)
    changes = [
        np.abs(faces.render(replace(plain, **{name: value}), size) - before).max(axis=2)
        for name, value in FACTORS.items()
    ]
    most_changed: np.ndarray = np.argmax(
        [np.full((size, size), UNMOVED), *(change / change.max() for change in changes)], axis=0
    )
    return most_changed


def draw(folder: Path, count: int, size: int, seed: int) -> tuple[str, str]:
    """Write faces and their masks, and return the two folders."""
    colours = np.array(list(COLOURS.values()), np.uint8)
    for i in range(count):
        face = faces.random_face(np.random.default_rng((seed, i)))
        write_image(faces.render(face, size), folder / "photos" / f"{i:04}.png")
        write_image(colours[mask(face, size)], folder / "masks" / f"{i:04}.png")
    return str(folder / "photos"), str(folder / "masks")


def palette(folder: str) -> np.ndarray:
    """Return the colours in a folder of masks, one for each class, uint8 (classes, 3)."""
    codes: set[int] = set()
    for path in sorted(Path(folder).rglob("*.png")):
        codes |= set(np.unique(read_image(path) @ np.array([1 << 16, 1 << 8, 1])).tolist())
        if len(codes) > 64:
            raise edgeae.DataError(f"{path} is no mask of flat colours: give PNG files with one colour a class.")
    return np.array([[code >> 16, code >> 8 & 255, code & 255] for code in sorted(codes)], np.uint8)


def classes(images: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return the class whose colour is nearest to each pixel, (N, H, W)."""
    nearest: np.ndarray = np.argmin(
        [np.square(images - colour / np.float32(255)).sum(axis=-1) for colour in colours], axis=0
    )
    return nearest


def iou(predicted: np.ndarray, true: np.ndarray, label: int) -> float:
    """Return the intersection over union of a class; NaN where neither has a pixel of it."""
    union = np.sum((predicted == label) | (true == label))
    return float(np.sum((predicted == label) & (true == label)) / union) if union else np.nan


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
    # Generated faces are all in one place, which the network should learn: augmentation would move them.
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
    known = classes(to_float(train.targets), colours)
    usual = np.argmax([(known == label).mean(axis=0) for label in range(len(colours))], axis=0)
    true = classes(trial.clean, colours)
    predicted = classes(network.reconstruct(trial.inputs), colours)
    names = {colour: name for name, colour in COLOURS.items()}
    print(f"IoU on {len(predicted)} validation images:      usual place   network")
    for label, colour in enumerate(map(tuple, colours.tolist())):
        scores = (iou(np.broadcast_to(usual, true.shape), true, label), iou(predicted, true, label))
        print(f"{names.get(colour, str(colour)):<18}{scores[0]:27.3f}{scores[1]:10.3f}")
    rows = {"photo": to_uint8(trial.inputs), "output": colours[predicted], "target": to_uint8(trial.clean)}
    return common.show(args.out / "segment.png", rows)


if __name__ == "__main__":
    common.run(main)
