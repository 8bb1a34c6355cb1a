"""Align pictures of one kind: undo an unknown rotation and translation.

    python examples/align.py                       # generated faces, about 2 minutes on two cores
    python examples/align.py --data photos/        # your own, which must be aligned

The network is `conv`: everything passes through the code, so no edge of the shifted picture shows through, as it would
with a skip connection. Its output is in place but blurred; so the shifted picture itself is moved to where it fits the
output best, and stays sharp. Prints PSNR and how far pixels still are from their true place; writes align.png.
"""

import common
import numpy as np

import edgeae
from edgeae.images.damage.kinds import move
from edgeae.images.metrics import pooled_psnr

STEPS = 20  # of Gauss-Newton


def motion_between(image: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """Return the pixels down, pixels right and radians by which `image` must move to fit `guide`, float32 (H, W, 3).

    Least squares by Gauss-Newton steps that start without motion (Lucas and Kanade, 1981). Brightness and contrast of
    each channel are free parameters, since the colours of a network's output are only roughly right.
    """
    motion, small = np.zeros(3), np.diag([0.5, 0.5, 1 / len(image)])
    for _ in range(STEPS):
        moved = move(image, *motion)
        slopes = [((move(image, *(motion + step)) - moved) / step.sum()).ravel() for step in small]
        free = [(part * channel).ravel() for part in (moved, np.ones_like(moved)) for channel in np.eye(3)]
        columns = np.stack([*slopes, *free], axis=1)
        motion = motion + np.linalg.lstsq(columns, (guide - moved).ravel(), rcond=None)[0][:3]
    return motion


def distance_px(images: np.ndarray, clean: np.ndarray) -> float:
    """Return how far pixels are from their true place: the root mean square over a picture, the median over pictures.

    A rotation by a small angle moves a pixel by angle × radius, whose mean square is angle² · (H² + W²) / 12.
    """
    height, width = images.shape[1:3]
    down, right, angle = np.transpose([motion_between(*pair) for pair in zip(images, clean, strict=True)])
    return float(np.median(np.sqrt(down**2 + right**2 + angle**2 * (height**2 + width**2) / 12)))


def main(arguments: list[str] | None = None) -> common.Rows:
    args = common.flags(__doc__, "align", epochs=16, limit=2000).parse_args(arguments)

    model = edgeae.ModelConfig.default("conv", size=args.size, widths=(24, 48, 96, 128), code=64)
    # The random crops of augmentation would move the clean image, too.
    settings = edgeae.TrainConfig(
        args.data,
        epochs=args.epochs,
        corrupt="shift",
        limit=args.limit,
        seed=args.seed,
        augment=False,
        batch=8,
        lr=2e-3,
    )
    network, trial = common.learn(model, settings, args.out, args.device)

    output = network.reconstruct(trial.inputs)
    moved = np.stack(
        [move(image, *motion_between(image, guide)) for image, guide in zip(trial.inputs, output, strict=True)]
    )
    rows = {"shifted": trial.inputs, "network": output, "shifted picture,\nmoved to fit it": moved}
    print(f"of {len(moved)} validation images:      PSNR, dB   off by, px")
    for name, images in rows.items():
        print(
            f"{name.splitlines()[-1]:<18}{pooled_psnr(images, trial.clean):17.2f}"
            f"{distance_px(images, trial.clean):13.2f}"
        )
    return common.show(args.out / "align.png", {**rows, "target": trial.clean})


if __name__ == "__main__":
    common.run(main)
