"""Add colour to gray pictures, and measure how far off the colours are.

    python examples/colorize.py                    # generated faces, about 2 minutes on two cores
    python examples/colorize.py --data photos/     # your own
    edgeae run -m runs/colorize/best.safetensors gray.jpg

The network is `residual`: a skip connection adds the gray picture to the output, so every edge stays where it was and
only the colour has to be learned. Where the gray picture says nothing about the colour, such as that of a wall, the
least error is no colour at all. Prints the mean distance in CIELAB's a and b, beside that of the gray picture itself
and of one mean colour everywhere; writes colorize.png.
"""

import common
import numpy as np

import edgeae
from edgeae.images.metrics import pooled_psnr

# IEC 61966-2-1: linear sRGB to CIE XYZ; each row divided by its sum, which is the white point D65.
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
XYZ_OF_WHITE = XYZ / XYZ.sum(axis=1, keepdims=True)


def lab(images: np.ndarray) -> np.ndarray:
    """Return sRGB in [0, 1], (..., 3), as CIELAB (CIE 15): L from 0 to 100, a green to red, b blue to yellow."""
    linear = np.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    t = linear @ XYZ_OF_WHITE.T
    x, y, z = np.moveaxis(np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_error(ab: np.ndarray, true_ab: np.ndarray) -> float:
    """Return the mean distance of pixels in the plane of a and b; 2 is just visible, 20 is another colour."""
    return float(np.linalg.norm(ab - true_ab, axis=-1).mean())


def main(arguments: list[str] | None = None) -> common.Rows:
    args = common.flags(__doc__, "colorize", epochs=10, limit=1100).parse_args(arguments)

    model = edgeae.ModelConfig.default("residual", size=args.size)
    settings = edgeae.TrainConfig(
        args.data, epochs=args.epochs, corrupt="gray", limit=args.limit, seed=args.seed, batch=8, lr=2e-3
    )
    network, trial = common.learn(model, settings, args.out, args.device)

    coloured = network.reconstruct(trial.inputs)
    true_ab = lab(trial.clean)[..., 1:]
    print(f"of {len(true_ab)} validation images:      error in a, b   PSNR, dB")
    for name, images, ab in (
        ("gray", trial.inputs, lab(trial.inputs)[..., 1:]),
        ("the mean colour", None, true_ab.mean(axis=(0, 1, 2))),
        ("network", coloured, lab(coloured)[..., 1:]),
    ):
        decibels = "" if images is None else f"{pooled_psnr(images, trial.clean):18.2f}"
        print(f"{name:<18}{colour_error(ab, true_ab):20.2f}{decibels}")
    return common.show(args.out / "colorize.png", {"gray": trial.inputs, "coloured": coloured, "target": trial.clean})


if __name__ == "__main__":
    common.run(main)
