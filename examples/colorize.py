"""Give grey pictures colours, and measure how far off they are.

    python examples/colorize.py                    # generated faces, about 2 minutes on two cores
    python examples/colorize.py --data photos/     # your own
    edgeae run -m runs/colorize/best.safetensors grey.jpg

The network is `residual`: the grey picture stands in a skip connection, so that every edge stays where it was, and what
has to be learned is the colour. What grey tells nothing of, such as the hue of a wall, is best guessed as no colour at
all. Prints the mean distance in CIELAB's a and b, beside that of grey itself and of one colour for all; writes
colorize.png.
"""

import common
import numpy as np

import edgeae
from edgeae.images.metrics import pooled_psnr

# IEC 61966-2-1: linear sRGB to CIE XYZ; each row divided by its sum, which is the white point D65.
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
XYZ_OF_WHITE = XYZ / XYZ.sum(axis=1, keepdims=True)


def lab(images: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1], (..., 3), to CIELAB (CIE 15): L 0 to 100, a from green to red, b from blue to yellow."""
    linear = np.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    t = linear @ XYZ_OF_WHITE.T
    x, y, z = np.moveaxis(np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance of pixels in the plane of a and b; 2 is just visible, 20 another colour."""
    return float(np.linalg.norm(found - wanted, axis=-1).mean())


def main(arguments: list[str] | None = None) -> common.Rows:
    args = common.flags(__doc__, "colorize", epochs=10, limit=1100).parse_args(arguments)

    model = edgeae.ModelConfig.default("residual", size=args.size)
    settings = edgeae.TrainConfig(
        args.data, epochs=args.epochs, corrupt="gray", limit=args.limit, seed=args.seed, batch=8, lr=2e-3
    )
    network, trial = common.learn(model, settings, args.out, args.device)

    coloured = network.reconstruct(trial.inputs)
    wanted = lab(trial.clean)[..., 1:]
    print(f"of {len(wanted)} validation images:      error in a, b   PSNR, dB")
    for name, images, ab in (
        ("grey", trial.inputs, lab(trial.inputs)[..., 1:]),
        ("the mean colour", None, wanted.mean(axis=(0, 1, 2))),
        ("network", coloured, lab(coloured)[..., 1:]),
    ):
        decibels = "" if images is None else f"{pooled_psnr(images, trial.clean):18.2f}"
        print(f"{name:<18}{colour_error(ab, wanted):20.2f}{decibels}")
    return common.show(args.out / "colorize.png", {"grey": trial.inputs, "coloured": coloured, "wanted": trial.clean})


if __name__ == "__main__":
    common.run(main)
